//! What cannot be trusted any more is an alarm: a replica that somebody has written into, a ledger that somebody has cut.

use rusqlite::Connection;

use super::pager::{DISK, Pager};
use crate::installation::until;
use crate::ledger::{Town, ten};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_differs_and_a_ledger_that_was_cut_are_alarms_that_fire_and_clear() {
    let town = Town::embedded("alarmstrust").await;
    town.installation.announce(&[
        "the replica differs from its source",
        "the replica could not be compared with its source",
        "the ledger stops all delivery",
    ]);
    let path = town.installation.path("hutong.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let often = text.replace("into = { store = \"renshe\"", "verify = \"10s\"\ninto = { store = \"renshe\"");
    assert_ne!(often, text);
    std::fs::write(&path, often).unwrap();
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    let pager = Pager::of(&town.installation, &[DISK]).await;
    until("nothing is behind", async || {
        let behind = pager.value("max(hutong_lag_seconds)").await;
        (behind == Some(0.0) && pager.firing().await.is_empty()).then_some(())
    })
    .await;
    // Three have joined, a stream is offered, asked for and granted.
    pager
        .says(&[
            ("hutong_ledger_head", 6.0),
            ("hutong_ledger_skipped_records", 0.0),
            ("hutong_ledger_broken", 0.0),
        ])
        .await;
    let verified = pager.value("time() - hutong_ledger_verified_timestamp_seconds").await.unwrap();
    assert!((0.0..10.0).contains(&verified), "verified {verified} s ago");
    pager.comes("hutong_verify_mismatches", |count| count == 0.0).await;

    // Somebody writes into the replica.
    let replica = Connection::open(town.installation.path("renshe.db")).unwrap();
    replica.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    replica
        .execute_batch("UPDATE entry SET name = '改' WHERE id = 3; DELETE FROM entry WHERE id = 4")
        .unwrap();
    pager.fires(&["HutongVerifyMismatch replicate.pension"]).await;
    pager.says(&[("hutong_verify_mismatches", 2.0)]).await;
    town.asks(&["verify", "pension", "--repair"]);
    pager.clear().await;
    pager.says(&[("hutong_verify_mismatches", 0.0)]).await;

    // Somebody cuts the last record off, while everything runs.
    let bus = Connection::open(town.installation.path("bus/bus.sqlite")).unwrap();
    bus.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let topic = format!("(SELECT id FROM topic WHERE name = '{}.ledger')", town.name);
    let last = format!("topic = {topic} AND offset = (SELECT next - 1 FROM extent WHERE topic = {topic})");
    bus.execute_batch(&format!(
        "CREATE TEMP TABLE aside AS SELECT * FROM record WHERE {last}; BEGIN IMMEDIATE; \
         DELETE FROM record WHERE {last}; UPDATE extent SET next = next - 1 WHERE topic = {topic}; COMMIT"
    ))
    .unwrap();
    pager.fires(&["HutongLedgerBroken", "HutongLaneHalted replicate.pension"]).await;
    bus.execute_batch(&format!(
        "BEGIN IMMEDIATE; INSERT INTO record SELECT * FROM aside; \
         UPDATE extent SET next = next + 1 WHERE topic = {topic}; COMMIT"
    ))
    .unwrap();
    // What was found broken stays so until a person has looked.
    pager.says(&[("hutong_ledger_broken", 1.0)]).await;
    run.stop().await;
    let run = town.installation.run();
    // Nobody is asked while it is down, and then nothing fires either.
    pager.comes("hutong_ledger_broken", |broken| broken == 0.0).await;
    pager.comes("hutong_ledger_head", |head| head == 6.0).await;
    pager.clear().await;
    pager.was_always_sane().await;
    run.stop().await;
}
