//! What the store refuses is found and set aside, and nothing else is.

use std::time::Duration;

use hutong_core::{Class, ErrorKind, Op, RecordTrace, Rejected, Secret, Sink as _, Value};
use hutong_stores::postgres::sink::{self, Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, key_only, lane, people, persist, person};

async fn guarded(extra: &str) -> Store {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share;
             CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int CHECK (age >= 0){extra})"
        ))
        .await;
    store
}

#[tokio::test]
async fn i3_refused_rows_are_found_by_bisecting_and_the_others_arrive() {
    let store = guarded("").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let rows = (0..300).map(|n| (Op::Insert, person(n, "某人", if n % 100 == 7 { -1 } else { n })));

    let set_aside = sink.commit(&topic.batch(rows)).await.unwrap();

    assert_eq!((set_aside.lasting, set_aside.curable, set_aside.waiting), (3, 0, Some(3)));
    assert_eq!(store.people().await.len(), 297);
    assert_eq!(store.quarantine().await, ["[7]|store|waiting", "[107]|store|waiting", "[207]|store|waiting"]);
    let items = sink::list(&store.url, Some("replicate.renshe_people.0"), false).await.unwrap();
    assert!(items[0].reason.contains("SQLSTATE 23514"), "{}", items[0].reason);
    assert!(items[0].reason.contains("people_age_check"), "{}", items[0].reason);
    assert_eq!(items[0].change.as_ref().unwrap()["after"]["age"], -1);
}

#[tokio::test]
async fn i3_a_good_change_before_a_refused_one_of_its_key_is_not_lost() {
    let store = guarded("").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let batch = topic.batch([
        (Op::Insert, person(1, "张三", 5)),
        (Op::Update, person(1, "张三", -5)),
        (Op::Update, vec![Value::Integer(1), Value::text("李四"), Value::Unknown]),
        (Op::Insert, person(2, "王五", 5)),
    ]);

    sink.commit(&batch).await.unwrap();

    // The partial change waits behind the refused one, as it would in a batch of its own.
    assert_eq!(store.people().await, ["1|张三|5", "2|王五|5"]);
    assert_eq!(store.quarantine().await, ["[1]|store|waiting", "[1]|unknown_value|waiting"]);
}

#[tokio::test]
async fn a_flood_halts_the_lane_and_commits_nothing() {
    let store = guarded("").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut config = SinkConfig::shared(store.pool.clone(), TABLE, "g1").unwrap();
    config.quarantine_limit = 3;
    let mut sink = Sink::new(config);
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();
    sink.commit(&topic.batch((0..3).map(|n| (Op::Insert, person(n, "某人", n - 2))))).await.unwrap();
    let error =
        sink.commit(&topic.batch((3..9).map(|n| (Op::Insert, person(n, "某人", -n))))).await.unwrap_err();

    assert_eq!(error.class(), Class::Halt, "{error}");
    // Nothing of it is in the quarantine, so the error says what was refused.
    let text = error.to_string();
    for says in ["limit of 3", "2 before this batch", "rule store", "SQLSTATE 23514", "people_age_check"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let hint = error.hint.unwrap();
    assert!(!text.contains("某人") && hint.contains("[limits] quarantine"), "{text}: {hint}");
    assert!(hint.contains("`hutong quarantine list renshe_people` shows the 2 earlier ones"), "{hint}");
    assert_eq!(store.people().await, ["2|某人|0"]);
    assert_eq!(store.quarantine().await, ["[0]|store|waiting", "[1]|store|waiting"]);
}

#[tokio::test]
async fn a_role_without_rights_on_the_database_uses_the_schemas_made_for_it() {
    let store = Store::fresh().await;
    let name = &store.rows("SELECT current_database()::text").await[0];
    store
        .run(&format!(
            "CREATE ROLE {name}_renshe LOGIN; CREATE SCHEMA hutong AUTHORIZATION {name}_renshe;
             CREATE SCHEMA share AUTHORIZATION {name}_renshe"
        ))
        .await;
    let url = Secret::new(store.url.reveal().replace("postgres@", &format!("{name}_renshe@")));
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = Sink::new(SinkConfig::new(url, TABLE, "g1").unwrap());
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();
    sink.commit(&topic.batch([(Op::Insert, person(1, "张三", 1))])).await.unwrap();
    assert_eq!(store.people().await, ["1|张三|1"]);
}

#[tokio::test]
async fn i6_a_value_that_the_column_cannot_hold_is_set_aside_and_never_cut() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name char(20), age int)"
        ))
        .await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let long = "长".repeat(21);
    let batch = topic.batch([
        (Op::Insert, person(1, &long, 5)),
        (Op::Insert, person(2, "blank ", 5)),
        (Op::Insert, person(3, "zero\0", 5)),
        (Op::Insert, person(4, "large", 1 << 40)),
        (Op::Insert, person(5, &"长".repeat(20), 5)),
    ]);
    sink.commit(&batch).await.unwrap();
    assert_eq!(store.rows(&format!("SELECT id::text FROM {TABLE}")).await, ["5"]);
    let mut keys = store.quarantine().await;
    keys.sort();
    assert_eq!(keys, [1, 2, 3, 4].map(|id| format!("[{id}]|store|waiting")));
}

#[tokio::test]
async fn an_unknown_value_of_a_missing_row_is_never_null() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let partial = |id| vec![Value::Integer(id), Value::text("改"), Value::Unknown];
    sink.commit(&topic.batch([(Op::Insert, person(1, "张三", 5))])).await.unwrap();

    sink.commit(&topic.batch([(Op::Update, partial(1)), (Op::Update, partial(2))])).await.unwrap();
    assert_eq!(store.people().await, ["1|改|5"]);
    assert_eq!(store.quarantine().await, ["[2]|unknown_value|waiting"]);

    // A partial change queues behind what waits; a complete one settles it.
    sink.commit(&topic.batch([(Op::Update, partial(2))])).await.unwrap();
    assert_eq!(store.quarantine().await, ["[2]|unknown_value|waiting", "[2]|unknown_value|waiting"]);
    sink.commit(&topic.batch([(Op::Update, person(2, "李四", 6))])).await.unwrap();
    assert_eq!(store.people().await, ["1|改|5", "2|李四|6"]);
    assert_eq!(store.quarantine().await, ["[2]|unknown_value|superseded", "[2]|unknown_value|superseded"]);
    sink.commit(&topic.batch([(Op::Update, partial(2))])).await.unwrap();
    assert_eq!(store.people().await, ["1|改|5", "2|改|6"]);
}

#[tokio::test]
async fn a_unique_value_that_another_lane_frees_is_waited_for() {
    let store = guarded(", UNIQUE (name)").await;
    let contract = people();
    let (mut left, mut right) = (Topic::new(&contract), Topic::new(&contract));
    let mut zero = store.opened(0, &contract).await;
    let mut one = store.opened(1, &contract).await;
    zero.commit(&left.batch([(Op::Insert, person(1, "甲", 1))])).await.unwrap();
    let wants = right.batch([(Op::Insert, person(2, "甲", 2)), (Op::Insert, person(4, "乙", 4))]);

    let error = one.commit(&wants).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(store.quarantine().await.is_empty());

    zero.commit(&left.batch([(Op::Delete, key_only(1))])).await.unwrap();
    one.open(&lane(1)).await.unwrap();
    one.prepare(&contract).await.unwrap();
    one.commit(&wants).await.unwrap();
    assert_eq!(store.people().await, ["2|甲|2", "4|乙|4"]);

    // Nobody frees it: after some patience it is set aside.
    let wants = left.batch([(Op::Insert, person(3, "甲", 3)), (Op::Insert, person(5, "丙", 5))]);
    assert_eq!(persist(&mut zero, 0, &wants).await.unwrap(), 5);
    assert_eq!(store.people().await, ["2|甲|2", "4|乙|4", "5|丙|5"]);
    assert_eq!(store.quarantine().await, ["[3]|conflict|waiting"]);

    // Somebody frees it at last: the lane tries again by itself.
    one.commit(&right.batch([(Op::Delete, key_only(2))])).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while store.quarantine().await != ["[3]|conflict|replayed"] {
        assert!(tokio::time::Instant::now() < deadline, "it still waits");
        zero.commit(&left.batch([(Op::Delete, key_only(99))])).await.unwrap();
    }
    assert_eq!(store.people().await, ["3|甲|3", "4|乙|4", "5|丙|5"]);
}

#[tokio::test]
async fn i3_a_truncate_that_other_rows_forbid_is_set_aside() {
    let store = guarded("").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    sink.commit(&topic.batch([(Op::Insert, person(1, "甲", 1))])).await.unwrap();
    store
        .run(&format!(
            "CREATE TABLE share.child (id bigint REFERENCES {TABLE}); INSERT INTO share.child VALUES (1)"
        ))
        .await;
    let batch = topic.batch([(Op::Truncate, vec![]), (Op::Insert, person(2, "乙", 2))]);
    assert_eq!(persist(&mut sink, 0, &batch).await.unwrap(), 5);
    assert_eq!(store.people().await, ["1|甲|1", "2|乙|2"]);
    assert_eq!(store.quarantine().await, ["∅|store|waiting"]);
}

#[tokio::test]
async fn within_a_batch_a_deleted_row_frees_its_unique_value_first() {
    let store = guarded(", UNIQUE (name)").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    sink.commit(&topic.batch([(Op::Insert, person(1, "甲", 1))])).await.unwrap();
    sink.commit(&topic.batch([(Op::Delete, key_only(1)), (Op::Insert, person(2, "甲", 2))])).await.unwrap();
    assert_eq!(store.people().await, ["2|甲|2"]);
}

#[tokio::test]
async fn a_deferred_constraint_sets_its_row_aside_too() {
    let store = guarded("").await;
    store
        .run(&format!(
            "CREATE TABLE share.office (id bigint PRIMARY KEY); INSERT INTO share.office VALUES (1);
             ALTER TABLE {TABLE} ADD FOREIGN KEY (age) REFERENCES share.office DEFERRABLE INITIALLY DEFERRED"
        ))
        .await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let batch = topic.batch([(Op::Insert, person(1, "甲", 1)), (Op::Insert, person(2, "乙", 2))]);
    assert_eq!(persist(&mut sink, 0, &batch).await.unwrap(), 5);
    assert_eq!(store.people().await, ["1|甲|1"]);
    assert_eq!(store.quarantine().await, ["[2]|conflict|waiting"]);
}

#[tokio::test]
async fn what_the_steps_reject_is_kept_with_its_trace() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let bad = topic.change(Op::Update, person(1, "张三", 1));
    let mut batch = topic.batch([(Op::Insert, person(2, "李四", 2)), (Op::Insert, person(1, "张三", 9))]);
    let item = |rule, change, record| Rejected {
        rule,
        reason: "because".into(),
        position: bad.position,
        stream: "people".into(),
        change,
        record,
    };
    let trace = RecordTrace {
        topic: "gongan.people.v1".into(),
        partition: 0,
        offset: 0,
        schema_id: Some(3),
        digest: "ab".into(),
    };
    batch.rejected =
        vec![item("check", Some(Box::new(bad.clone())), None), item("decode", None, Some(trace))];

    sink.commit(&batch).await.unwrap();

    let items = sink::list(&store.url, None, true).await.unwrap();
    let shown: Vec<_> = items.iter().map(|i| (i.rule.as_str(), i.state.as_str())).collect();
    // A later complete change of the same batch settles it.
    assert_eq!(shown, [("check", "superseded"), ("decode", "waiting")]);
    assert_eq!(items[1].record.as_ref().unwrap()["schema_id"], 3);
    assert!(sink::discard(&store.url, items[1].id).await.unwrap());
    assert!(!sink::discard(&store.url, items[1].id).await.unwrap());
    assert_eq!(sink::show(&store.url, items[1].id).await.unwrap().unwrap().state, "discarded");
    assert!(sink::replay(&store.url, items[1].id).await.is_err());
}

#[tokio::test]
async fn i4_a_replay_applies_the_change_once_and_in_order() {
    let store = guarded("").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let partial = vec![Value::Integer(1), Value::text("李四"), Value::Unknown];
    sink.commit(&topic.batch([(Op::Insert, person(1, "张三", -5)), (Op::Insert, person(2, "王五", -6))]))
        .await
        .unwrap();
    sink.commit(&topic.batch([(Op::Update, partial)])).await.unwrap();
    let ids: Vec<i64> = sink::list(&store.url, None, false).await.unwrap().iter().map(|i| i.id).collect();
    assert_eq!(ids.len(), 3);

    let error = sink::replay(&store.url, ids[0]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    store.run(&format!("ALTER TABLE {TABLE} DROP CONSTRAINT people_age_check")).await;
    let error = sink::replay(&store.url, ids[2]).await.unwrap_err();
    assert!(error.to_string().contains("waits before it"), "{error}");
    sink::replay(&store.url, ids[0]).await.unwrap();
    sink::replay(&store.url, ids[2]).await.unwrap();
    assert!(sink::replay(&store.url, ids[0]).await.is_err());

    assert_eq!(store.people().await, ["1|李四|-5"]);
    // The lane goes on, and does not queue behind what a person has replayed.
    sink.commit(&topic.batch([(Op::Update, vec![Value::Integer(1), Value::Unknown, Value::Integer(7)])]))
        .await
        .unwrap();
    sink.commit(&topic.batch([(Op::Delete, key_only(2))])).await.unwrap();
    assert_eq!(store.people().await, ["1|李四|7"]);
    let states: Vec<String> =
        sink::list(&store.url, None, true).await.unwrap().into_iter().map(|i| i.state).collect();
    assert_eq!(states, ["replayed", "superseded", "replayed"]);
    assert_eq!(sink.open(&lane(0)).await.unwrap().position("0").as_offset(), Some(5));
}
