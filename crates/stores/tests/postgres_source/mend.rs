//! Rows that are sent again by key, because somebody asked for them.

use hutong_core::{Source as _, Value};
use hutong_stores::postgres;

use crate::capture::{Capture, people, person};

#[tokio::test]
async fn i3_a_row_that_two_ask_for_at_once_is_sent_and_not_deleted() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, name text); \
               INSERT INTO people VALUES (1, 'a'), (2, 'b')";
    let mut c = Capture::new(sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    // Nobody captures: both messages come in one batch.
    let keys = [vec![Value::Integer(1)], vec![Value::Integer(9)]];
    for _ in 0..2 {
        postgres::mend(&c.config.url, "public.people", &keys).await.unwrap();
    }
    c.clear();

    c.open_new().await;
    c.sql("INSERT INTO people VALUES (3, 'c')").await;
    c.catch_up().await;

    assert_eq!(c.letters(), "rdrdc", "each message is answered, before what came later");
    assert_eq!(c.rows("people"), [person(1, "a"), person(2, "b"), person(3, "c")]);
}

#[tokio::test]
async fn i3_a_key_that_no_column_can_hold_is_no_row_and_stops_nobody() {
    // A wider type in the contract than in the table, as an old replica may have it.
    let sql = "CREATE TABLE people (id smallint PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'a'), (2, 'b')";
    let mut c = Capture::new(sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();
    let keys = [1, 70_000, 2].map(|id| vec![Value::Integer(id)]);
    postgres::mend(&c.config.url, "public.people", &keys).await.unwrap();
    // Anybody may write such a message.
    for rubbish in [r#"mend {"table":"public.people","keys":[["x"],[99999999999],[]]}"#, "mend {", "mend"] {
        let sql = format!("SELECT pg_logical_emit_message(true, 'hutong', '{rubbish}')");
        c.client.query_one(&sql, &[]).await.unwrap();
    }
    c.sql("INSERT INTO people VALUES (3, 'c')").await;
    c.catch_up().await;

    assert_eq!(c.letters(), "rdrc", "each key is answered, and the capture goes on");
    assert_eq!(c.rows("people"), [person(1, "a"), person(2, "b"), person(3, "c")]);
}

#[tokio::test]
async fn i3_rows_that_may_not_be_read_and_rows_that_are_locked_are_counted_apart() {
    let sql = "CREATE TABLE people (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'a')";
    let mut c = Capture::new(sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();
    let locker = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    locker.batch_execute("BEGIN; LOCK TABLE people IN ACCESS EXCLUSIVE MODE").await.unwrap();
    postgres::mend(&c.config.url, "public.people", &[vec![Value::Integer(1)]]).await.unwrap();
    let count = |c: &Capture, rule: &str| c.batches.iter().filter_map(|b| b.dropped.get(rule)).sum::<u64>();
    c.until("given up", |c| count(c, "asked_locked") > 0).await;
    locker.batch_execute("ROLLBACK").await.unwrap();

    assert_eq!([count(&c, "asked_locked"), count(&c, "suspended"), count(&c, "asked_denied")], [1, 0, 0]);
    assert_eq!(c.letters(), "", "a row that nobody could read is not one that is gone");
}
