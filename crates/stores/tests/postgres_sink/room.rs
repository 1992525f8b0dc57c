//! A replica is emptied only when its table takes what comes instead.

use std::sync::Arc;

use hutong_core::{Class, Contract, ErrorKind, Field, LaneId, Op, Sink as _, Type, Value};
use hutong_stores::postgres::sink::{Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, contract_of, lane, people, person};

/// A sink that knows ahead what it will write.
fn knowing(store: &Store, grant: &str, contract: &Arc<Contract>) -> Sink {
    let mut config = SinkConfig::shared(store.pool.clone(), TABLE, grant).unwrap();
    config.contract = Some(Arc::clone(contract));
    Sink::new(config)
}

/// `people` with a text as its key and an age that is a decimal.
fn next_generation() -> Arc<Contract> {
    let text = Type::Text { length: Some(30) };
    contract_of(
        vec![
            Field::new("name", text),
            Field::new("id", Type::Text { length: None }),
            Field::new("age", Type::Decimal { precision: 5, scale: 2 }),
            Field::new("office", Type::Text { length: None }),
        ],
        vec![0],
    )
}

async fn read(store: &Store, partition: u32, id: i64, name: &str) {
    let contract = people();
    let mut sink = store.opened(partition, &contract).await;
    sink.commit(&Topic::new(&contract).batch([(Op::Read, person(id, name, 1))])).await.unwrap();
}

#[tokio::test]
async fn i3_a_departments_own_table_keeps_its_rows_until_it_takes_the_next_contract() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int)"
        ))
        .await;
    read(&store, 0, 1, "张三").await;

    let mut new = knowing(&store, "g2", &next_generation());
    let error = new.open(&lane(0)).await.unwrap_err();

    assert_eq!((error.kind, error.class()), (ErrorKind::SchemaConflict, Class::Halt), "{error}");
    let why = error.why();
    for says in ["column name is character varying(20)", "column id is bigint", "no column office", "(name)"]
    {
        assert!(why.contains(says), "{says}: {why}");
    }
    assert_eq!(store.people().await, ["1|张三|1"]);
    assert_eq!(store.rows("SELECT \"grant\" FROM hutong.hutong_lane").await, ["g1"]);

    // The hint is one statement that mends everything.
    store.run(&error.hint.unwrap()).await;
    assert!(new.open(&lane(0)).await.unwrap().is_empty());
    assert!(store.people().await.is_empty(), "I5: now they go");
}

#[tokio::test]
async fn i3_a_table_that_hutong_made_is_made_anew_for_the_next_generation() {
    let store = Store::fresh().await;
    read(&store, 0, 1, "张三").await;
    read(&store, 1, 2, "李四").await;
    let next = next_generation();
    store.run(&format!("GRANT SELECT ON {TABLE} TO pg_monitor, PUBLIC")).await;

    // A lane that the pipeline did not have before may be the first.
    let mut third = knowing(&store, "g2", &next);
    assert!(third.open(&lane(2)).await.unwrap().is_empty());
    let row =
        vec![Value::text("王五"), Value::text("七"), Value::Decimal("1.25".parse().unwrap()), Value::Null];
    third.prepare(&next).await.unwrap();
    third.commit(&Topic::new(&next).batch([(Op::Read, row)])).await.unwrap();
    let mut first = knowing(&store, "g2", &next);
    assert!(first.open(&lane(0)).await.unwrap().is_empty());

    assert_eq!(store.people().await, ["七|王五|1.25"]);
    let readers = "SELECT grantee::text FROM information_schema.role_table_grants
                    WHERE table_schema = 'share' AND grantee <> 'postgres' ORDER BY 1";
    assert_eq!(store.rows(readers).await, ["PUBLIC", "pg_monitor"], "who may read it still may");
    // The other lane's rows are gone with the table: it starts anew whatever grant it comes with.
    assert!(store.sink("g1").open(&lane(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn i3_a_table_with_rows_of_another_pipeline_is_not_made_anew() {
    let store = Store::fresh().await;
    read(&store, 0, 1, "张三").await;
    let other = LaneId::new(hutong_core::PipelineId::new(hutong_core::Kind::Replicate, "minzheng_people"), 0);
    let contract = people();
    let mut theirs = store.sink("g1");
    theirs.open(&other).await.unwrap();
    theirs.prepare(&contract).await.unwrap();
    theirs.commit(&Topic::new(&contract).batch([(Op::Read, person(2, "李四", 2))])).await.unwrap();

    let error = knowing(&store, "g2", &next_generation()).open(&lane(0)).await.unwrap_err();

    assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
    assert_eq!(store.people().await, ["1|张三|1", "2|李四|2"]);
}

/// `people` with room for more: in its columns, and in no other table's.
fn wider() -> Arc<Contract> {
    let fields = vec![
        Field::new("id", Type::Long),
        Field::new("name", Type::Text { length: Some(40) }),
        Field::new("age", Type::Long),
        Field::new("amount", Type::Decimal { precision: 9, scale: 2 }),
        Field::new("code", Type::Text { length: None }),
        Field::new("small", Type::Int),
    ];
    contract_of(fields, vec![0])
}

fn narrower() -> Arc<Contract> {
    let fields = vec![
        Field::new("id", Type::Long),
        Field::new("name", Type::Text { length: Some(20) }),
        Field::new("age", Type::Int),
        Field::new("amount", Type::Decimal { precision: 5, scale: 2 }),
        Field::new("code", Type::Text { length: Some(6) }),
        Field::new("small", Type::Int16),
    ];
    contract_of(fields, vec![0])
}

fn wide_row(id: i64, name: &str) -> Vec<Value> {
    let amount = Value::Decimal("123.45".parse().unwrap());
    vec![
        Value::Integer(id),
        Value::text(name),
        Value::Integer(7),
        amount,
        Value::text("c"),
        Value::Integer(8),
    ]
}

const TYPES: &str =
    "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = 'share.people'::regclass AND attnum BETWEEN 1 AND 6";

#[tokio::test]
async fn a_table_that_hutong_made_is_widened_while_its_lanes_run() {
    let store = Store::fresh().await;
    let (before, after) = (narrower(), wider());
    let (mut left, mut right) = (Topic::new(&before), Topic::new(&after));
    let mut zero = store.opened(0, &before).await;
    zero.commit(&left.batch([(Op::Read, wide_row(1, "张三"))])).await.unwrap();

    let mut one = store.opened(1, &after).await;

    let types = "bigint, character varying(40), bigint, numeric(9,2), text, integer";
    assert_eq!(store.rows(TYPES).await, [types]);
    let long = "长".repeat(40);
    one.commit(&right.batch([(Op::Read, wide_row(2, &long))])).await.unwrap();
    // A lane that has not come there yet goes on as it was.
    zero.commit(&left.batch([(Op::Update, wide_row(1, "李四"))])).await.unwrap();
    zero.prepare(&before).await.unwrap();
    assert_eq!(store.rows(TYPES).await, [types], "and makes nothing narrower");
    let rows = "SELECT name, amount::text FROM share.people ORDER BY id";
    assert_eq!(store.rows(rows).await, ["李四|123.45".to_owned(), format!("{long}|123.45")]);
}

#[tokio::test]
async fn a_departments_own_table_is_not_widened_and_the_statement_is_told() {
    let store = Store::fresh().await;
    let own =
        "id bigint PRIMARY KEY, name varchar(20), age int, amount numeric(5,2), code varchar(6), small int2";
    store.run(&format!("CREATE SCHEMA share; CREATE TABLE {TABLE} ({own})")).await;
    let mut sink = store.opened(0, &narrower()).await;

    let error = sink.prepare(&wider()).await.unwrap_err();

    assert_eq!((error.kind, error.class()), (ErrorKind::SchemaConflict, Class::Halt), "{error}");
    store.run(&error.hint.unwrap()).await;
    sink.prepare(&wider()).await.unwrap();
}

#[tokio::test]
async fn i3_what_a_department_has_built_on_a_replica_is_not_torn_down() {
    let store = Store::fresh().await;
    read(&store, 0, 1, "张三").await;
    let longer = {
        let mut contract = (*people()).clone();
        contract.fields[1].ty = Type::Text { length: Some(40) };
        contract.shared()
    };
    for (column, next, says) in [
        ("name", longer, "ALTER COLUMN \"name\" TYPE character varying(40)"),
        ("age", next_generation(), "drop what depends on"),
    ] {
        store.run(&format!("CREATE VIEW share.seen AS SELECT {column} FROM {TABLE}")).await;
        let error = knowing(&store, "g2", &next).open(&lane(0)).await.unwrap_err();
        assert_eq!(error.class(), Class::Halt, "{error}");
        assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(says)), "{error} {:?}", error.hint);
        assert_eq!(store.people().await, ["1|张三|1"]);
        store.run("DROP VIEW share.seen").await;
    }
    assert!(knowing(&store, "g2", &next_generation()).open(&lane(0)).await.unwrap().is_empty());
    assert!(store.people().await.is_empty());
}
