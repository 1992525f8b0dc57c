//! Unchanged large values, which the stream does not tell and the source reads again.

use crate::capture::{Capture, contract, people, person};
use hutong_core::{Field, Op, Source as _, Type, Value};

fn large(salt: &str) -> String {
    format!("(SELECT string_agg(md5(i::text || '{salt}'), '') FROM generate_series(1, 500) i)")
}

fn reports() -> (String, Vec<Field>) {
    let sql = format!(
        "CREATE TABLE d (id int PRIMARY KEY, assignee text, kind text, report text); \
         INSERT INTO d VALUES (1, 'a', 'open', {})",
        large("old")
    );
    let text = || Type::Text { length: None };
    let fields = vec![
        Field::new("id", Type::Int),
        Field::new("assignee", text()),
        Field::new("kind", text()),
        Field::new("report", text()),
    ];
    (sql, fields)
}

#[tokio::test]
async fn i5_a_value_is_not_taken_from_another_state_of_the_row() {
    let (sql, fields) = reports();
    let mut c = Capture::new(&sql, &[("d", contract("d", 1, fields))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    c.clear();
    c.sql("UPDATE d SET assignee = 'b' WHERE id = 1").await;
    c.sql(&format!("UPDATE d SET kind = 'secret', report = {} WHERE id = 1", large("new"))).await;

    c.open_new().await;
    c.catch_up().await;

    assert_eq!(c.letters(), "uu");
    let after: Vec<_> = c.batches.iter().flat_map(|b| &b.changes).map(|c| c.after.clone().unwrap()).collect();
    assert_eq!(after[0][..3], [Value::Integer(1), Value::text("b"), Value::text("open")]);
    assert!(after[0][3].is_unknown(), "the report of a secret row does not leave as that of an open one");
    assert_eq!((&after[1][2], after[1][3].is_unknown()), (&Value::text("secret"), false));
}

#[tokio::test]
async fn a_locked_table_leaves_its_values_unknown_and_does_not_stop_the_others() {
    let (sql, fields) = reports();
    let sql = format!("{sql}; CREATE TABLE people (id int PRIMARY KEY, name text)");
    let tables = [("d", contract("d", 1, fields)), ("people", people("people"))];
    let mut c = Capture::new(&sql, &tables).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    c.clear();
    c.sql("UPDATE d SET assignee = 'b' WHERE id = 1").await;
    c.open_new().await;
    let locker = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    locker.batch_execute("BEGIN; LOCK TABLE d IN ACCESS EXCLUSIVE MODE").await.unwrap();
    c.sql("INSERT INTO people VALUES (1, '甲')").await;

    c.until("the other table goes on", |c| c.rows("people") == [person(1, "甲")]).await;

    let update = c.batches.iter().flat_map(|b| &b.changes).find(|c| c.op == Op::Update).unwrap();
    assert!(update.after.as_ref().unwrap()[3].is_unknown());
    locker.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_value_is_read_when_a_short_lock_is_gone() {
    let (sql, fields) = reports();
    let mut c = Capture::new(&sql, &[("d", contract("d", 1, fields))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.source.close().await.unwrap();
    c.clear();
    c.sql("UPDATE d SET assignee = 'b' WHERE id = 1").await;
    c.open_new().await;
    let locker = hutong_testkit::launch::connect(c.config.url.reveal()).await.unwrap();
    locker.batch_execute("BEGIN; LOCK TABLE d IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let unlock = async {
        locker.batch_execute("SELECT pg_sleep(0.7); ROLLBACK").await.unwrap();
    };
    tokio::join!(unlock, c.catch_up());

    let update = c.batches.iter().flat_map(|b| &b.changes).find(|c| c.op == Op::Update).unwrap();
    assert_eq!(update.after.as_ref().unwrap()[3].as_text().map(str::len), Some(16_000));
}
