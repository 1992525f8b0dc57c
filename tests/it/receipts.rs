//! Receipts over the built program: each commit leaves one, each is published once, and roots tell what was changed.

use std::collections::BTreeMap;

use hutong_bus::receipts::walk;
use hutong_core::ledger::{Proof, Receipt};
use rusqlite::{Connection, OpenFlags};

use crate::installation::until;
use crate::ledger::{Town, ten};

/// Returns the published receipts of `gongan`, in their order.
async fn published(town: &Town) -> Vec<Receipt> {
    let (log, _) = town.ends().await;
    let mut found = Vec::new();
    walk(log.as_ref(), &format!("{}.receipt.gongan", town.name), |record| {
        found.push(Receipt::read(record.value.as_deref().unwrap()).unwrap());
        Ok(true)
    })
    .await
    .unwrap();
    found
}

/// Returns what each lane says of itself, in the order of its chain.
fn by_lane(receipts: Vec<Receipt>) -> BTreeMap<String, Vec<Proof>> {
    let mut lanes: BTreeMap<String, Vec<Proof>> = BTreeMap::new();
    for receipt in receipts {
        lanes.entry(receipt.lane).or_default().push(receipt.proof);
    }
    lanes
}

/// Returns what the lanes have left in the SQLite store.
fn kept(town: &Town) -> BTreeMap<String, Vec<Proof>> {
    let path = town.installation.path("renshe.db");
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut query = db.prepare("SELECT lane, proof FROM hutong_receipt ORDER BY lane, sequence").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    let mut lanes: BTreeMap<String, Vec<Proof>> = BTreeMap::new();
    for row in rows {
        let (lane, proof): (String, String) = row.unwrap();
        lanes.entry(lane).or_default().push(serde_json::from_str(&proof).unwrap());
    }
    lanes
}

async fn all_published(town: &Town) {
    until("every receipt is published", async || {
        (by_lane(published(town).await) == kept(town)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_every_commit_leaves_one_receipt_which_is_published_once_though_it_is_killed() {
    let town = Town::embedded("receiptkilled").await;
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    all_published(&town).await;
    let delivered: u64 = published(&town).await.iter().map(|receipt| receipt.proof.changes).sum();
    assert_eq!(delivered, 10, "ten rows, each once");
    run.kill();
    for round in 0..4 {
        let run = town.installation.run();
        let id = 100 + round;
        town.change(&format!(
            "INSERT INTO entry VALUES ({id}, '乙', '9900'); UPDATE entry SET name = 'r{round}'"
        ));
        town.reaches("the row of this round", |rows| rows.iter().any(|row| row.0 == id)).await;
        // Before, in the middle of or behind its publication.
        run.kill();
        if round == 1 {
            // The rows come again, and the chain goes on.
            town.says(&["subscription", "reload", "pension", "--reason", "有人手改过"]);
        }
    }
    // The chain goes on under another grant.
    let run = town.installation.run();
    town.says(&["subscription", "narrow", "pension", "--rows", "id > 5"]);
    town.reaches("the rows that are left", |rows| rows.len() == 9).await;
    all_published(&town).await;
    run.stop().await;

    let receipts = published(&town).await;
    assert_eq!(
        receipts.iter().map(|r| r.number).collect::<Vec<_>>(),
        (1..=receipts.len() as u64).collect::<Vec<_>>()
    );
    for (lane, proofs) in by_lane(receipts.clone()) {
        let sequences: Vec<u64> = proofs.iter().map(|proof| proof.sequence).collect();
        assert_eq!(sequences, (1..=proofs.len() as u64).collect::<Vec<_>>(), "{lane}");
        let grants: Vec<u64> = proofs.iter().map(|proof| proof.grant).collect();
        assert!(grants.is_sorted() && grants[0] == 6 && grants.last() == Some(&7), "{lane}: {grants:?}");
    }
    let count = receipts.len();
    let verified = town.says(&["ledger", "verify"]);
    let words = format!("receipts of gongan: {count}; roots that fit them: 0; not rooted yet: {count}");
    assert!(verified.contains(&words), "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_was_taken_away_or_changed_is_named_on_the_bus_and_offline() {
    let town = Town::embedded("receipttampered").await;
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    for id in 11..15 {
        town.change(&format!("INSERT INTO entry VALUES ({id}, '乙', '9900')"));
        town.reaches("the next row", |rows| rows.len() as i64 == id).await;
    }
    all_published(&town).await;
    run.stop().await;
    let rooted = town.says(&["ledger", "root", "gongan"]);
    let count = published(&town).await.len();
    assert!(rooted.contains(&format!("the first {count} receipts of gongan are rooted")), "{rooted}");
    assert!(town.says(&["ledger", "root", "gongan"]).contains("rooted already"));
    let whole = town.says(&["ledger", "verify"]);
    assert!(whole.contains("roots that fit them: 1; not rooted yet: 0"), "{whole}");

    let export = town.installation.path("whole.ledger").display().to_string();
    town.says(&["ledger", "export", &export]);
    let text = std::fs::read_to_string(&export).unwrap();
    let key = town.key("shuju").public().to_string();
    let offline = |text: &str| {
        town.installation.write("other.ledger", text);
        town.asks(&["-c", "nowhere.toml", "ledger", "verify", "--file", "other.ledger", "--key", &key])
    };
    assert!(offline(&text).expect(0).contains("roots that fit them: 1"));
    let lines: Vec<&str> = text.lines().collect();
    let title = lines.iter().position(|line| *line == "receipts gongan").unwrap();
    let without = |at: usize| {
        let kept = lines.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, line)| format!("{line}\n"));
        kept.collect::<String>()
    };
    let missing = offline(&without(title + 2)).expect(1);
    assert!(missing.contains("FAIL receipts of gongan: the receipts 2 to 2 are missing"), "{missing}");
    let cut = offline(&lines[..title].join("\n")).expect(1);
    assert!(cut.contains(&format!("covers {count}: it was cut")), "{cut}");

    // Somebody who owns the bus changes what a store has counted, which no chain covers.
    let db = Connection::open(town.installation.path("bus/bus.sqlite")).unwrap();
    let topic = format!("{}.receipt.gongan", town.name);
    let place = "topic = (SELECT id FROM topic WHERE name = ?1) AND offset = 1";
    let sql = format!("SELECT value FROM record WHERE {place}");
    let value: Vec<u8> = db.query_row(&sql, [&topic], |row| row.get(0)).unwrap();
    let mut receipt = Receipt::read(&value).unwrap();
    receipt.written += 1;
    let sql = format!("UPDATE record SET value = ?2 WHERE {place}");
    assert_eq!(db.execute(&sql, rusqlite::params![topic, receipt.record()]).unwrap(), 1);
    drop(db);
    let changed = town.asks(&["ledger", "verify"]).expect(1);
    assert!(changed.contains(&format!("does not fit the receipts up to {count}")), "{changed}");
    let refused = town.asks(&["ledger", "root", "gongan"]);
    assert!(refused.code == 1 && refused.err.contains("does not fit"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_and_postgres_receipts_are_published_and_rooted() {
    let town = Town::kafka().await;
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    town.change("DELETE FROM entry WHERE id > 8");
    town.reaches("eight rows", |rows| rows.len() == 8).await;
    until("twelve changes are proved", async || {
        let changes: u64 = published(&town).await.iter().map(|receipt| receipt.proof.changes).sum();
        (changes == 12).then_some(())
    })
    .await;
    town.says(&["ledger", "root", "gongan"]);
    run.stop().await;
    let verified = town.says(&["ledger", "verify"]);
    assert!(verified.contains("roots that fit them: 1; not rooted yet: 0"), "{verified}");
    let receipts = published(&town).await;
    let deleted: u64 = receipts.iter().map(|receipt| receipt.deleted).sum();
    assert_eq!((deleted, receipts[0].department.as_str()), (2, "renshe"));
}
