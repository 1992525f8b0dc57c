//! A batch leaves what its changes leave one by one, also in the quarantine.

use hutong_core::{Batch, Contract, Delta, Op, Row, Sink as _, Value};
use hutong_stores::postgres::sink::{Sink, SinkConfig};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::given::{Store, Topic, key_only, lane, people};

fn cell() -> impl Strategy<Value = Value> {
    prop_oneof![3 => (0i64..50).prop_map(Value::Integer), 1 => Just(Value::Unknown), 1 => Just(Value::Null)]
}

fn change() -> impl Strategy<Value = (Op, Row)> {
    (0u8..60, 0i64..8, cell(), any::<bool>()).prop_map(|(kind, id, age, named)| {
        let name = if named { Value::text(format!("某{id}")) } else { Value::Unknown };
        match kind {
            0 => (Op::Truncate, vec![]),
            1..=14 => (Op::Delete, key_only(id)),
            15..=34 => {
                (Op::Insert, vec![Value::Integer(id), Value::text("新"), Value::Integer(i64::from(kind))])
            }
            _ => (Op::Update, vec![Value::Integer(id), name, age]),
        }
    })
}

async fn opened(store: &Store, table: &str, partition: u32, contract: &Contract) -> Sink {
    let mut sink = Sink::new(SinkConfig::shared(store.pool.clone(), table, "g1").unwrap());
    sink.open(&lane(partition)).await.unwrap();
    sink.prepare(contract).await.unwrap();
    sink
}

#[tokio::test]
async fn i4_a_batch_leaves_what_its_changes_leave_one_by_one() {
    let store = Store::fresh().await;
    // One of the department's own, so that the side table is held to it too.
    store
        .run("CREATE SCHEMA share; CREATE TABLE share.own (id bigint PRIMARY KEY, name text, age int)")
        .await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut whole = opened(&store, "share.whole", 0, &contract).await;
    let mut single = opened(&store, "share.single", 1, &contract).await;
    let mut own = opened(&store, "share.own", 2, &contract).await;
    let mut runner = TestRunner::deterministic();
    let sizes = proptest::collection::vec(change(), 1..40);
    for round in 0..25 {
        let changes = sizes.new_tree(&mut runner).unwrap().current();
        let batch = topic.batch(changes.clone());
        whole.commit(&batch).await.unwrap();
        own.commit(&batch).await.unwrap();
        let mut from = batch.delta.ranges["0"].0;
        for change in &batch.changes {
            let to = hutong_core::Position::offset(change.position.as_offset().unwrap() + 1);
            let one = Batch {
                changes: vec![change.clone()],
                delta: Delta::range("0", from, to),
                ..Batch::default()
            };
            single.commit(&one).await.unwrap();
            from = to;
        }
        let rows =
            |table: &str| format!("SELECT id::text, name, age::text FROM share.{table} t ORDER BY t.id");
        let expected = store.rows(&rows("single")).await;
        assert_eq!(store.rows(&rows("whole")).await, expected, "round {round}: {changes:?}");
        assert_eq!(store.rows(&rows("own")).await, expected, "round {round}: {changes:?}");
        let offsets = "SELECT id::text, hutong_offset::text FROM share.%1 t ORDER BY t.id";
        let expected = store.rows(&offsets.replace("%1", "single")).await;
        assert_eq!(store.rows(&offsets.replace("%1", "whole")).await, expected, "round {round}");
        let side = r#"SELECT key ->> 'id', "offset"::text FROM hutong.hutong_row ORDER BY 1"#;
        assert_eq!(store.rows(side).await, expected, "round {round}");
        let waiting = |partition: u32| {
            format!(
                r#"SELECT key, rule, "position" FROM hutong.hutong_quarantine
                    WHERE state = 'waiting' AND lane = 'replicate.renshe_people.{partition}' ORDER BY "position""#
            )
        };
        let expected = store.rows(&waiting(1)).await;
        assert_eq!(store.rows(&waiting(0)).await, expected, "round {round}: {changes:?}");
        assert_eq!(store.rows(&waiting(2)).await, expected, "round {round}: {changes:?}");
    }
}
