//! A department's own table is checked, used and respected.

use hutong_core::{Class, Contract, ErrorKind, Field, Op, Sink as _, Type};
use hutong_stores::postgres::sink;

use crate::given::{Store, TABLE, Topic, contract_of, key_only, lane, people, person};

async fn conflict(store: &Store, contract: &Contract, columns: &str) -> String {
    store.run(&format!("CREATE SCHEMA IF NOT EXISTS share; DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} ({columns})")).await;
    let mut sink = store.sink("g1");
    sink.open(&lane(0)).await.unwrap();
    match sink.prepare(contract).await {
        Ok(()) => String::new(),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
            assert_eq!(error.class(), Class::Halt);
            error.why()
        }
    }
}

#[tokio::test]
async fn i6_a_table_that_cannot_hold_every_value_is_refused_by_name() {
    let store = Store::fresh().await;
    let contract = people();
    for (columns, says) in [
        ("id bigint PRIMARY KEY, name varchar(20), age int", ""),
        ("id bigint, name char(30), age numeric, extra text DEFAULT 'x', PRIMARY KEY (id)", ""),
        ("id bigint NOT NULL, name text, age int8, more serial, UNIQUE (id)", ""),
        (
            "id bigint PRIMARY KEY, name varchar(19), age int",
            "column name is character varying(19), which cannot hold every text(20)",
        ),
        ("id int PRIMARY KEY, name text, age int", "column id is integer, which cannot hold every long"),
        ("id bigint PRIMARY KEY, name text, age float8", "column age is double precision"),
        ("id bigint PRIMARY KEY, name text", "it has no column age"),
        (
            "id bigint, name text, age int, PRIMARY KEY (id, name)",
            "no primary key or unique index on exactly (id)",
        ),
        ("id bigint, name text, age int, UNIQUE (id) DEFERRABLE", "no primary key or unique index"),
        ("id bigint PRIMARY KEY, name text, age int, office text NOT NULL", "column office takes no NULL"),
        (
            "id bigint PRIMARY KEY, name text, age int GENERATED ALWAYS AS (7) STORED",
            "column age is written by the database",
        ),
    ] {
        let why = conflict(&store, &contract, columns).await;
        assert!(if says.is_empty() { why.is_empty() } else { why.contains(says) }, "{columns}: {why}");
    }
    store.run(&format!("DROP TABLE {TABLE}; CREATE VIEW {TABLE} AS SELECT 1::bigint AS id")).await;
    let mut sink = store.sink("g1");
    sink.open(&lane(0)).await.unwrap();
    assert!(sink.prepare(&contract).await.unwrap_err().why().contains("not a table"));
}

#[tokio::test]
async fn a_table_or_a_column_that_is_gone_is_told_with_what_to_do() {
    for (sql, says) in [
        (format!("DROP TABLE {TABLE}"), "the table was dropped or renamed"),
        (format!("ALTER TABLE {TABLE} RENAME COLUMN name TO called"), "the column was dropped or renamed"),
    ] {
        let store = Store::fresh().await;
        let contract = people();
        let mut sink = store.opened(0, &contract).await;
        store.run(&sql).await;
        let batch = Topic::new(&contract).batch([(Op::Insert, person(1, "张三", 1))]);
        let error = sink.commit(&batch).await.unwrap_err();
        assert_eq!((error.kind, error.class()), (ErrorKind::SchemaConflict, Class::Halt), "{error:?}");
        assert!(error.hint.as_ref().is_some_and(|hint| hint.starts_with(says)), "{error:?}");
    }
}

#[tokio::test]
async fn i6_a_key_that_the_store_compares_more_widely_is_refused_by_name() {
    let store = Store::fresh().await;
    store
        .run(
            "CREATE EXTENSION citext;
             CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        )
        .await;
    let contract = contract_of(
        vec![Field::new("code", Type::Text { length: None }), Field::new("age", Type::Int)],
        vec![0],
    );
    for (columns, says) in [
        ("code text PRIMARY KEY, age int", ""),
        ("code text COLLATE \"C\" PRIMARY KEY, age int", ""),
        ("code citext PRIMARY KEY, age int", "the key column code is citext"),
        ("code text COLLATE anycase PRIMARY KEY, age int", "the key column code is collated by anycase"),
        ("code text PRIMARY KEY, age int, UNIQUE (age)", ""),
    ] {
        let why = conflict(&store, &contract, columns).await;
        assert!(if says.is_empty() { why.is_empty() } else { why.contains(says) }, "{columns}: {why}");
        let findings = sink::probe(&store.url, TABLE, &contract).await;
        assert_eq!(findings.iter().all(|finding| finding.ok), says.is_empty(), "{columns}: {findings:#?}");
    }
    store.run(&format!("CREATE UNIQUE INDEX wide ON {TABLE} (code COLLATE anycase)")).await;
    let mut sink = store.sink("g1");
    sink.open(&lane(0)).await.unwrap();
    let error = sink.prepare(&contract).await.unwrap_err();
    assert!(error.why().contains("a unique index on (code) is collated by anycase"), "{error}");
    // What is no key may be compared as the department likes.
    let why = conflict(&store, &people(), "id bigint PRIMARY KEY, name citext, age int").await;
    assert!(!why.contains("takes different keys"), "{why}");
}

#[tokio::test]
async fn rows_in_a_departments_own_table_are_known_by_a_side_table() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share;
             CREATE TABLE {TABLE} (id numeric(20) PRIMARY KEY, name char(20), age int, noted text DEFAULT 'by office');
             INSERT INTO {TABLE} (id, name, age) VALUES (100, '本局', 1)"
        ))
        .await;
    let contract = people();
    let (mut left, mut right) = (Topic::new(&contract), Topic::new(&contract));
    let mut zero = store.opened(0, &contract).await;
    let mut one = store.opened(1, &contract).await;
    zero.commit(&left.batch([(Op::Read, person(1, "张三", 1)), (Op::Read, person(3, "李四", 3))]))
        .await
        .unwrap();
    one.commit(&right.batch([(Op::Read, person(2, "王五", 2))])).await.unwrap();
    zero.commit(&left.batch([(Op::Delete, key_only(1)), (Op::Update, person(3, "李四", 4))])).await.unwrap();
    let side = "SELECT table_name, key::text, lane, \"offset\"::text FROM hutong.hutong_row ORDER BY key";
    assert_eq!(
        store.rows(side).await,
        [
            r#""share"."people"|{"id": "2"}|replicate.renshe_people.1|0"#,
            r#""share"."people"|{"id": "3"}|replicate.renshe_people.0|3"#
        ]
    );
    let all = format!("SELECT id::text, trim(name), age::text, noted FROM {TABLE} t ORDER BY t.id");
    assert_eq!(store.rows(&all).await, ["2|王五|2|by office", "3|李四|4|by office", "100|本局|1|by office"]);

    zero.commit(&left.batch([(Op::Truncate, vec![]), (Op::Insert, person(5, "赵六", 5))])).await.unwrap();
    assert_eq!(store.rows(&all).await, ["2|王五|2|by office", "5|赵六|5|by office", "100|本局|1|by office"]);

    // I5: another grant removes what this lane wrote, and nothing of the department's own.
    store.sink("g2").open(&lane(0)).await.unwrap();
    assert_eq!(store.rows(&all).await, ["2|王五|2|by office", "100|本局|1|by office"]);
}
