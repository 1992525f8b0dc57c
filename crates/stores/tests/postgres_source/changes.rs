//! A capture of a real PostgreSQL: snapshot, stream, changes of every kind.

use crate::capture::{Capture, contract, people, person};
use hutong_core::{Before, Field, Op, Source as _, Type, Value};

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text);";

#[tokio::test]
async fn inserts_updates_and_deletes_become_changes() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.sql("INSERT INTO people VALUES (1, '旧')").await;
    c.open().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("people"), [person(1, "旧")]);
    c.clear();

    c.sql(
        "BEGIN; INSERT INTO people VALUES (2, '甲'); UPDATE people SET name = '新' WHERE id = 1; \
           DELETE FROM people WHERE id = 2; COMMIT",
    )
    .await;
    c.catch_up().await;

    assert_eq!(c.letters(), "cud");
    assert_eq!(c.rows("people"), [person(1, "新")]);
    let changes: Vec<_> = c.batches.iter().flat_map(|b| &b.changes).collect();
    let orders: Vec<_> = changes.iter().map(|c| c.origin.transaction.as_ref().unwrap().order).collect();
    assert_eq!(orders, [1, 2, 3]);
    assert_eq!(changes.iter().map(|c| c.origin.last).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(changes[1].before, Before::Key(vec![Value::Integer(1), Value::Unknown]));
}

#[tokio::test]
async fn a_key_change_is_a_delete_and_an_insert_of_one_position() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.sql("INSERT INTO people VALUES (1, '甲')").await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();

    c.sql("UPDATE people SET id = 9 WHERE id = 1").await;
    c.catch_up().await;

    assert_eq!(c.letters(), "dc");
    assert_eq!(c.rows("people"), [person(9, "甲")]);
    let parts: Vec<_> =
        c.batches.iter().flat_map(|b| &b.changes).map(|c| c.position.as_wal().unwrap()).collect();
    assert_eq!((parts[0].1, parts[0].2), (parts[1].1, parts[1].2));
    assert_eq!((parts[0].3, parts[1].3), (0, 1));
}

#[tokio::test]
async fn a_truncate_is_one_change() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.sql("INSERT INTO people VALUES (1, '甲'), (2, '乙')").await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();

    c.sql("TRUNCATE people; INSERT INTO people VALUES (3, '丙')").await;
    c.catch_up().await;

    assert_eq!(c.letters(), "tc");
    assert_eq!(c.rows("people"), [person(3, "丙")]);
}

#[tokio::test]
async fn the_whole_old_image_is_told_under_replica_identity_full() {
    let sql =
        format!("{PEOPLE} ALTER TABLE people REPLICA IDENTITY FULL; INSERT INTO people VALUES (1, '甲')");
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.clear();

    c.sql("UPDATE people SET name = '乙'; DELETE FROM people").await;
    c.catch_up().await;

    let before: Vec<_> = c.batches.iter().flat_map(|b| &b.changes).map(|c| c.before.clone()).collect();
    assert_eq!(before, [Before::Full(person(1, "甲")), Before::Full(person(1, "乙"))]);
}

#[tokio::test]
async fn composite_keys_quoted_and_chinese_names() {
    let sql = r#"CREATE SCHEMA "户籍"; CREATE TABLE "户籍"."Say ""hi""" (
        "区划" char(6), "编 号" int, "姓名" varchar(20), extra text, PRIMARY KEY ("编 号", "区划"));
        INSERT INTO "户籍"."Say ""hi""" SELECT '9901' || lpad((i % 3)::text, 1, '0'), i, '人' || i, 'x' FROM generate_series(1, 50) i"#;
    let mut name = Field::new("c3", Type::Text { length: Some(20) });
    name.column = Some("姓名".into());
    let mut division = Field::new("c1", Type::Text { length: Some(6) });
    division.column = Some("区划".into());
    let mut number = Field::new("c2", Type::Int);
    number.column = Some("编 号".into());
    let contract = contract("register", 2, vec![division, number, name]);
    let mut c = Capture::new(sql, &[(r#""户籍"."Say ""hi""""#, contract)]).await;
    c.config.chunk_rows = 7;
    c.open_new().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("register").len(), 50);
    // CHAR(6) of five characters: the padding is gone.
    assert!(c.rows("register").contains(&vec![Value::text("99011"), Value::Integer(1), Value::text("人1")]));

    c.sql(r#"DELETE FROM "户籍"."Say ""hi""" WHERE "编 号" > 1"#).await;
    c.catch_up().await;
    assert_eq!(c.rows("register").len(), 1);
}

#[tokio::test]
async fn several_and_partitioned_tables_in_one_capture() {
    let sql = format!(
        "{PEOPLE} CREATE TABLE parted (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); \
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10); \
         CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20); \
         INSERT INTO parted VALUES (1, 'a'), (11, 'b'); CREATE TABLE other (id int PRIMARY KEY)"
    );
    let tables = [("people", people("people")), ("public.parted", people("parted"))];
    let mut c = Capture::new(&sql, &tables).await;
    c.open().await;
    c.snapshot_done().await;
    assert_eq!(c.rows("parted"), [person(1, "a"), person(11, "b")]);
    c.clear();

    c.sql(
        "BEGIN; INSERT INTO people VALUES (1, '甲'); INSERT INTO other VALUES (1); \
           INSERT INTO parted VALUES (12, 'c'); UPDATE parted SET id = 15 WHERE id = 1; COMMIT",
    )
    .await;
    c.catch_up().await;

    assert_eq!(c.rows("people"), [person(1, "甲")]);
    assert_eq!(c.rows("parted"), [person(11, "b"), person(12, "c"), person(15, "a")]);
    let last = c.batches.iter().flat_map(|b| &b.changes).last().unwrap();
    assert!(last.origin.last);
    assert_eq!((last.op, last.origin.place.table.as_str()), (Op::Insert, "parted"));
}

#[tokio::test]
async fn tables_that_inherit_are_tables_of_their_own() {
    let sql = format!(
        "{PEOPLE} CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (people); INSERT INTO people VALUES (1, '甲'); INSERT INTO heir VALUES (2, '乙')"
    );
    let mut c = Capture::new(&sql, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql("INSERT INTO heir VALUES (3, '丙'); INSERT INTO people VALUES (4, '丁')").await;
    c.catch_up().await;
    assert_eq!(c.rows("people"), [person(1, "甲"), person(4, "丁")]);
}

#[tokio::test]
async fn a_very_large_transaction_comes_in_bounded_batches() {
    let mut c = Capture::new(PEOPLE, &[("people", people("people"))]).await;
    c.open().await;
    c.snapshot_done().await;
    c.sql("INSERT INTO people SELECT i, 'x' FROM generate_series(1, 300000) i").await;

    let (mut count, mut largest) = (0, 0);
    while count < 300_000 {
        let batch = c.source.next().await.unwrap().unwrap();
        count += batch.changes.len();
        largest = largest.max(batch.changes.len());
        assert_eq!(batch.changes.iter().any(|c| c.origin.last), count == 300_000);
        c.checkpoint.advance(&batch.delta).unwrap();
        c.source.ack(&c.checkpoint).await.unwrap();
    }
    assert_eq!(count, 300_000);
    assert!(largest <= c.config.limit.transaction_rows + 1, "{largest}");
}
