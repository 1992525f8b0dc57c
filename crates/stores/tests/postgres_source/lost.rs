//! A lost place is told: from where, to where, how much, since when, and the command that helps.

use hutong_core::{Error, ErrorKind, Source as _};
use hutong_stores::postgres;
use hutong_testkit::launch::{Postgres, connect};

use crate::capture::{Capture, people, person};

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";

/// Takes batches until the checkpoint knows up to which time it is complete, and closes the source.
async fn complete(c: &mut Capture) -> String {
    c.until("complete", |c| c.checkpoint.notes.contains_key("complete_to_us")).await;
    c.source.close().await.unwrap();
    let us: i64 = c.checkpoint.notes["complete_to_us"].parse().unwrap();
    c.client
        .query_one(
            "SELECT to_char(to_timestamp($1::float8 / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI')",
            &[&(us as f64)],
        )
        .await
        .unwrap()
        .get(0)
}

/// Writes so much into the log, in a transaction, whose commit flushes it: nothing is told of what is not flushed, and
/// no slot is advanced beyond it.
async fn write(c: &Capture, megabytes: u32) {
    c.sql(&format!("SELECT pg_logical_emit_message(true, 'test', repeat('x', 1048576)) FROM generate_series(1, {megabytes})"))
        .await;
}

/// States what a message must say, whatever was lost.
fn told(error: &Error, c: &Capture, time: &str, cause: &str) {
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    let (_, lsn, ..) = c.checkpoint.position("wal").as_wal().unwrap();
    let at = format!("the checkpoint stands at {:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff);
    let why = error.why();
    for says in
        [cause, &at, "the server's log ends at ", " MiB (", &format!("changes committed after {time}")]
    {
        assert!(why.contains(says), "{says}: {why}");
    }
    let command = format!("`hutong source reset {} --reason", c.config.capture);
    assert!(error.hint.as_ref().unwrap().contains(&command), "{:?}", error.hint);
}

#[tokio::test]
async fn i3_a_slot_that_is_gone_or_has_moved_on_is_told_with_what_is_missing() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    let time = complete(&mut c).await;
    write(&c, 3).await;

    let name = format!("hutong_{}", c.config.capture);
    c.client.execute("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", &[&name]).await.unwrap();
    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    told(&error, &c, &time, "the slot has moved on past the checkpoint, to ");

    postgres::remove(&c.config.url, &c.config.capture).await.unwrap();
    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    told(&error, &c, &time, "the slot is gone");
    let mib: f64 = {
        let why = error.why();
        let (before, _) = why.split_once(" MiB").unwrap();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!((3.0..300.0).contains(&mib), "{error}");

    let mut back = c.checkpoint.clone();
    back.notes.insert("timeline".into(), "7".into());
    let error = c.source.open(&back).await.unwrap_err();
    told(&error, &c, &time, "is back on timeline 1, and the checkpoint was made on timeline 7");
}

#[tokio::test]
async fn i3_a_slot_beyond_the_servers_limit_is_told_with_what_is_missing() {
    let server = Postgres::builder().setting("max_slot_wal_keep_size", "1MB").start().await.unwrap();
    let mut c = Capture::at(&server.url(), "slow", PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    let time = complete(&mut c).await;
    for _ in 0..3 {
        write(&c, 1).await;
        c.sql("SELECT pg_switch_wal()").await;
    }
    c.sql("CHECKPOINT").await;

    let error = c.source.open(&c.checkpoint).await.unwrap_err();

    told(&error, &c, &time, "the server has invalidated the slot (");
}

#[tokio::test]
async fn i3_a_server_that_is_restored_at_an_earlier_place_is_told_and_read_anew_when_a_person_says_so() {
    let mut server = Postgres::start().await.unwrap();
    let mut c = Capture::at(&server.url(), "back", PEOPLE, &[("people", people("people"))]).await;
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    server.back_up().await.unwrap();
    c.client = connect(&server.url()).await.unwrap();
    c.open_new().await;
    write(&c, 20).await;
    c.sql("INSERT INTO people VALUES (2, '乙')").await;
    c.catch_up().await;
    let time = complete(&mut c).await;

    server.restore().await.unwrap();
    c.client = connect(&server.url()).await.unwrap();

    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    told(&error, &c, &time, "the log ends before the checkpoint: an older state was restored");
    assert!(error.why().contains("before it"), "{error}");

    c.checkpoint.notes = postgres::anew(&c.checkpoint, &c.config.tables, "restored").unwrap();
    c.checkpoint.positions.clear();
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(1, "甲")]);
}

/// Takes batches until another trace is noted than the one before, which it returns.
async fn traced(c: &mut Capture, before: Option<&String>) -> String {
    c.until("another trace", |c| {
        c.checkpoint.notes.get("trace").filter(|trace| before != Some(trace)).is_some()
    })
    .await;
    c.checkpoint.notes["trace"].clone()
}

#[tokio::test]
async fn i3_a_server_that_is_restored_and_has_written_past_the_checkpoint_is_found_out() {
    let mut server = Postgres::start().await.unwrap();
    let mut c = Capture::at(&server.url(), "past", PEOPLE, &[("people", people("people"))]).await;
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    c.open().await;
    c.snapshot_done().await;
    let trace = traced(&mut c, None).await;
    c.source.close().await.unwrap();
    server.back_up().await.unwrap();
    c.client = connect(&server.url()).await.unwrap();
    c.open_new().await;
    c.sql("INSERT INTO people VALUES (2, '乙')").await;
    traced(&mut c, Some(&trace)).await;
    c.catch_up().await;
    let time = complete(&mut c).await;

    server.restore().await.unwrap();
    c.client = connect(&server.url()).await.unwrap();
    write(&c, 20).await;
    c.sql("INSERT INTO people VALUES (3, '丙')").await;

    let error = c.source.open(&c.checkpoint).await.unwrap_err();
    told(&error, &c, &time, "an older state was restored, and its log has grown past the checkpoint since");

    c.checkpoint.notes = postgres::anew(&c.checkpoint, &c.config.tables, "restored").unwrap();
    c.checkpoint.positions.clear();
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(1, "甲"), person(3, "丙")]);
}

#[tokio::test]
async fn a_trace_outlasts_openings_that_commit_nothing_and_a_comment_that_is_removed() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    let trace = traced(&mut c, None).await;
    let comment = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1";
    let name = format!("hutong_{}", c.config.capture);

    for _ in 0..20 {
        let before: String = c.client.query_one(comment, &[&name]).await.unwrap().get(0);
        c.crash().await;
        // What the batch says is not committed.
        while c.client.query_one(comment, &[&name]).await.unwrap().get::<_, String>(0) == before {
            c.source.next().await.unwrap();
        }
    }
    c.crash().await;
    traced(&mut c, Some(&trace)).await;

    for comment in ["NULL", "'made by the office'"] {
        c.source.close().await.unwrap();
        c.sql(&format!("COMMENT ON PUBLICATION {name} IS {comment}")).await;
        c.open_new().await;
        c.sql("INSERT INTO people SELECT count(*) FROM people").await;
        c.catch_up().await;
    }
    let kept: String = c.client.query_one(comment, &[&name]).await.unwrap().get(0);
    assert_eq!(kept, "made by the office");
}
