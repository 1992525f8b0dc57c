//! Rows arrive, change, go; nothing is written twice.

use std::sync::Arc;

use hutong_core::{Field, Op, Sink as _, Type, Value};
use hutong_stores::postgres::sink;

use crate::given::{Store, TABLE, Topic, contract_of, key_only, lane, people, person};

#[tokio::test]
async fn i2_rows_and_checkpoint_are_committed_together_and_found_again() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let first = topic.batch([
        (Op::Read, person(1, "张三", 30)),
        (Op::Read, person(2, "李四", 40)),
        (Op::Insert, person(3, "王五", 50)),
        (Op::Update, person(1, "张三", 31)),
        (Op::Delete, key_only(3)),
        (Op::Delete, key_only(99)),
    ]);
    sink.commit(&first).await.unwrap();
    let second = topic.batch([
        (Op::Update, vec![Value::Integer(2), Value::text("李四四"), Value::Unknown]),
        (Op::Delete, key_only(1)),
        (Op::Insert, vec![Value::Integer(4), Value::Null, Value::Null]),
    ]);
    sink.commit(&second).await.unwrap();

    assert_eq!(store.people().await, ["2|李四四|40", "4|∅|∅"]);
    let origin =
        store.rows(&format!("SELECT hutong_lane, hutong_offset::text FROM {TABLE} ORDER BY id")).await;
    assert_eq!(origin, ["replicate.renshe_people.0|6", "replicate.renshe_people.0|8"]);
    let checkpoint = store.sink("g1").open(&lane(0)).await.unwrap();
    assert_eq!(checkpoint.position("0"), second.delta.ranges["0"].1);
    let receipts = "SELECT changes::text, written::text, deleted::text, quarantined::text, \"grant\"
                      FROM hutong.hutong_receipt ORDER BY id";
    assert_eq!(store.rows(receipts).await, ["6|2|2|0|g1", "3|2|1|0|g1"]);

    // What a person asks the store for.
    let lanes = sink::lanes(&store.url).await.unwrap();
    assert_eq!((lanes.len(), lanes[0].epoch, lanes[0].waiting), (1, 2, 0));
    assert_eq!(lanes[0].checkpoint, checkpoint);
    assert_eq!(sink::count(&store.url, TABLE).await.unwrap(), 2);
}

#[tokio::test]
async fn a_truncate_removes_the_rows_of_its_own_lane_only() {
    let store = Store::fresh().await;
    let contract = people();
    let (mut left, mut right) = (Topic::new(&contract), Topic::new(&contract));
    let mut zero = store.opened(0, &contract).await;
    let mut one = store.opened(1, &contract).await;
    zero.commit(&left.batch([(Op::Read, person(1, "张三", 1)), (Op::Read, person(3, "李四", 3))]))
        .await
        .unwrap();
    one.commit(&right.batch([(Op::Read, person(2, "王五", 2))])).await.unwrap();

    let batch = left.batch([
        (Op::Insert, person(5, "赵六", 5)),
        (Op::Truncate, vec![]),
        (Op::Insert, person(7, "孙七", 7)),
    ]);
    zero.commit(&batch).await.unwrap();

    assert_eq!(store.people().await, ["2|王五|2", "7|孙七|7"]);
}

#[tokio::test]
async fn a_step_without_rows_moves_the_checkpoint_and_writes_no_receipt() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    topic.change(Op::Insert, person(1, "张三", 1));
    let mut batch = topic.batch([]);
    batch.delta.set_note("base", "7");

    sink.commit(&batch).await.unwrap();

    let checkpoint = store.sink("g1").open(&lane(0)).await.unwrap();
    assert_eq!(checkpoint.note("base"), Some("7"));
    assert_eq!(checkpoint.position("0"), batch.delta.ranges["0"].1);
    assert_eq!(store.rows("SELECT count(*)::text FROM hutong.hutong_receipt").await, ["0"]);
}

#[tokio::test]
async fn a_table_that_hutong_created_says_what_it_holds_and_grows_with_the_contract() {
    let store = Store::fresh().await;
    let mut id = Field::new("gmsfhm", Type::Text { length: Some(18) });
    id.column = Some("公民 \"身份\" 号码".into());
    id.catalogue = serde_json::from_str(r#"{"title": "公民身份号码"}"#).unwrap();
    let small = contract_of(vec![id.clone()], vec![0]);
    let mut csrq = Field::new("csrq", Type::Date);
    csrq.catalogue = serde_json::from_str(r#"{"title": "出生日期"}"#).unwrap();
    let large = contract_of(vec![id, csrq], vec![0]);
    let mut topic = Topic::new(&small);
    let mut sink = store.opened(0, &small).await;
    let row = |id: &str| vec![Value::text(id)];
    sink.commit(&topic.batch([(Op::Read, row("990101199003070015")), (Op::Read, row("990101199003070023"))]))
        .await
        .unwrap();

    sink.prepare(&large).await.unwrap();
    topic.contract = Arc::clone(&large);
    let longer = vec![Value::text("990101199003070015"), Value::Date(7370)];
    sink.commit(&topic.batch([
        (Op::Update, longer),
        (Op::Delete, vec![Value::text("990101199003070023"), Value::Unknown]),
    ]))
    .await
    .unwrap();

    assert_eq!(
        store.rows(&format!("SELECT \"公民 \"\"身份\"\" 号码\", csrq::text FROM {TABLE}")).await,
        ["990101199003070015|1990-03-07"]
    );
    let comments = format!(
        "SELECT col_description('{TABLE}'::regclass, attnum), format_type(atttypid, atttypmod), attnotnull::text
           FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass AND attnum > 0 ORDER BY attnum"
    );
    let comments = store.rows(&comments).await;
    assert_eq!(comments[0], "公民身份号码|character varying(18)|true");
    assert_eq!(comments[3], "出生日期|date|false");
    let title = format!("SELECT obj_description('{TABLE}'::regclass)");
    assert_eq!(store.rows(&title).await, ["人口基础信息"]);
}

#[tokio::test]
async fn many_lanes_open_an_empty_store_at_once() {
    let store = Store::fresh().await;
    let contract = people();
    let lanes = (0..8).map(|partition| {
        let (mut sink, contract) = (store.sink("g1"), Arc::clone(&contract));
        async move {
            sink.open(&lane(partition)).await?;
            sink.prepare(&contract).await?;
            let mut topic = Topic::new(&contract);
            let rows = (0..50).map(|n| (Op::Insert, person(i64::from(partition) * 100 + n, "某人", n)));
            sink.commit(&topic.batch(rows)).await
        }
    });
    for done in futures_util::future::join_all(lanes).await {
        done.unwrap();
    }
    assert_eq!(sink::count(&store.url, TABLE).await.unwrap(), 400);
}

#[tokio::test]
async fn a_batch_may_change_its_contract_and_settles_what_the_older_part_could_not() {
    let store = Store::fresh().await;
    let older = people();
    let mut fields = older.fields.clone();
    fields.push(Field::new("town", Type::Text { length: None }));
    let newer = contract_of(fields, vec![0]);
    let mut topic = Topic::new(&older);
    let mut sink = store.opened(0, &older).await;
    sink.prepare(&newer).await.unwrap();
    let partial = vec![Value::Integer(1), Value::Unknown, Value::Integer(1)];
    let mut batch =
        topic.batch([(Op::Delete, key_only(1)), (Op::Update, partial), (Op::Insert, person(2, "李四", 2))]);
    topic.contract = Arc::clone(&newer);
    let mut row = person(1, "张三", 3);
    row.push(Value::text("胡同"));
    let after = topic.batch([(Op::Insert, row)]);
    batch.changes.extend(after.changes);
    batch.delta.ranges.insert("0".into(), (batch.delta.ranges["0"].0, after.delta.ranges["0"].1));

    sink.commit(&batch).await.unwrap();

    let all = format!("SELECT id::text, name, age::text, town FROM {TABLE} t ORDER BY t.id");
    assert_eq!(store.rows(&all).await, ["1|张三|3|胡同", "2|李四|2|∅"]);
    assert_eq!(store.quarantine().await, ["[1]|unknown_value|superseded"]);
}

#[tokio::test]
async fn a_snapshot_is_copied_and_a_row_that_is_there_after_all_is_written_over() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    // What no lane has written: a person has put it there.
    store.run(&format!("INSERT INTO {TABLE} VALUES (7, '某人', 7, 'by hand', NULL)")).await;
    sink.commit(&topic.batch((0..5).map(|n| (Op::Read, person(n, "张三", n))))).await.unwrap();
    sink.commit(&topic.batch((5..10).map(|n| (Op::Read, person(n, "李四", n))))).await.unwrap();
    sink.commit(&topic.batch((9..12).map(|n| (Op::Read, person(n, "王五", n))))).await.unwrap();

    let people = store.people().await;
    assert_eq!((people.len(), people[7].as_str(), people[9].as_str()), (12, "7|李四|7", "9|王五|9"));
    let lanes = format!("SELECT DISTINCT hutong_lane FROM {TABLE}");
    assert_eq!(store.rows(&lanes).await, ["replicate.renshe_people.0"]);
    let offset = format!("SELECT hutong_offset::text FROM {TABLE} WHERE id = 11");
    assert_eq!(store.rows(&offset).await, ["12"]);
    assert!(store.quarantine().await.is_empty());
}
