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
