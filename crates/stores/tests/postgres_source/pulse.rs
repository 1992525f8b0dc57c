//! What a server keeps for a capture that does not read: told by a session beside it.

use std::time::UNIX_EPOCH;

use hutong_core::Secret;
use hutong_stores::postgres::Pulse;
use hutong_testkit::launch::Postgres;

use crate::capture::{Capture, people};

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";

fn now_us() -> i64 {
    UNIX_EPOCH.elapsed().unwrap().as_micros() as i64
}

/// Writes some megabytes of log that no capture reads.
const WRITE: &str =
    "CREATE TABLE busy (t text); INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 5000);
    DROP TABLE busy";

#[tokio::test]
async fn a_capture_that_does_not_read_is_seen_to_pin_the_log_until_it_is_lost() {
    let mut server = Postgres::builder().setting("max_slot_wal_keep_size", "32MB").start().await.unwrap();
    let mut c = Capture::at(&server.url(), "pinned", PEOPLE, &[("people", people("people"))]).await;
    let mut pulse = Pulse::new(Secret::new(server.url()), vec!["pinned".into(), "not_begun".into()]);
    assert_eq!(pulse.ask(now_us).await.unwrap().kept, [], "no slot yet");
    c.open().await;
    c.snapshot_done().await;

    let first = pulse.ask(now_us).await.unwrap();
    c.sql(WRITE).await;
    let second = pulse.ask(now_us).await.unwrap();

    assert!(first.clock_us.abs() < 1_000_000, "one machine, one clock: {}", first.clock_us);
    let (first, second) = (&first.kept[0], &second.kept[0]);
    assert_eq!((first.capture.as_str(), first.lost), ("pinned", false));
    assert!(second.bytes > first.bytes + 4_000_000, "{first:?} {second:?}");
    assert!(second.safe_bytes.unwrap() < first.safe_bytes.unwrap() - 4_000_000, "{first:?} {second:?}");

    // Beyond the limit the server throws it away at its next checkpoint.
    drop(c.source);
    for _ in 0..20 {
        c.client.batch_execute(&format!("{WRITE}; SELECT pg_switch_wal(); CHECKPOINT")).await.unwrap();
    }
    let lost = pulse.ask(now_us).await.unwrap();
    assert!(lost.kept[0].lost, "{lost:?}");

    // A server that goes and comes back is asked over a new session.
    server.kill().await.unwrap();
    pulse.ask(now_us).await.unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(pulse.ask(now_us).await.unwrap().kept.len(), 1);
}

#[tokio::test]
async fn without_a_limit_nothing_is_said_of_how_much_is_left() {
    let server = Postgres::builder().setting("max_slot_wal_keep_size", "-1").start().await.unwrap();
    let mut c = Capture::at(&server.url(), "endless", PEOPLE, &[("people", people("people"))]).await;
    c.open().await;

    let vital = Pulse::new(Secret::new(server.url()), vec!["endless".into()]).ask(now_us).await.unwrap();

    assert_eq!((vital.kept[0].safe_bytes, vital.kept[0].lost), (None, false), "{vital:?}");
}
