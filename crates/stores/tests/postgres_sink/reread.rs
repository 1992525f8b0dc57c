//! A lane that is set back over what needs rows that are gone by now: it converges, and what is really lost is said.

use std::collections::BTreeMap;

use hutong_core::{
    Act, Batch, Delta, ErrorKind, Kind, Op, Order, PipelineId, Position, Row, Sink as _, Value, Verb,
};
use hutong_stores::postgres::sink::{Sink, SinkConfig, steer};

use crate::given::{Store, TABLE, Topic, key_only, lane, people, person};

const LIMIT: u64 = 3;

/// More rows than the limit lets be set aside.
const ROWS: i64 = 8;

impl Store {
    fn strict(&self) -> Sink {
        let mut config = SinkConfig::shared(self.pool.clone(), TABLE, "g1").unwrap();
        config.quarantine_limit = LIMIT;
        Sink::new(config)
    }

    async fn set_back(&self, to: u64) {
        let act =
            Act { verb: Verb::Rewind, at_us: 7, by: "李".into(), reason: "核对".into(), to_us: None };
        let back = BTreeMap::from([(lane(0).to_string(), ("0".to_owned(), Position::offset(to)))]);
        let pipeline = PipelineId::new(Kind::Replicate, "renshe_people");
        let steered = steer(&self.url, &pipeline, &Order { act, back }).await.unwrap();
        assert!(steered[0].after.is_some());
    }

    async fn waiting(&self) -> usize {
        self.quarantine().await.iter().filter(|item| item.ends_with("waiting")).count()
    }
}

fn partial(id: i64) -> (Op, Row) {
    (Op::Update, vec![Value::Integer(id), Value::text("改"), Value::Unknown])
}

/// Rows that come, and a partial change of each.
fn lives(topic: &mut Topic) -> [Batch; 2] {
    [
        topic.batch((0..ROWS).map(|id| (Op::Insert, person(id, "张三", 1)))),
        topic.batch((0..ROWS).map(partial)),
    ]
}

#[tokio::test]
async fn i3_i7_partial_changes_of_rows_that_are_gone_by_now_are_no_flood_when_they_come_again() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut batches = lives(&mut topic).to_vec();
    batches.push(topic.batch((1..ROWS).map(|id| (Op::Delete, key_only(id)))));
    let mut sink = store.strict();
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();
    for batch in &batches {
        sink.commit(batch).await.unwrap();
    }
    // Twice: who was set back on the way has still come as far.
    for (to, until) in [(ROWS as u64, 2), (ROWS as u64, 3)] {
        store.set_back(to).await;
        let from = sink.open(&lane(0)).await.unwrap();
        assert_eq!(from.position("0"), Position::offset(to));
        assert_eq!(from.reread().unwrap().to, Position::offset(3 * ROWS as u64 - 1));
        sink.prepare(&contract).await.unwrap();

        let refused = sink.commit(&batches[1]).await.unwrap();

        assert_eq!((refused.lasting, refused.again), (0, ROWS as u64 - 1), "I3: each is set aside");
        assert_eq!((store.waiting().await as i64, refused.count()), (ROWS - 1, ROWS as u64 - 1));
        for batch in &batches[2..until] {
            sink.commit(batch).await.unwrap();
        }
    }
    assert_eq!(store.people().await, ["0|改|1"]);
    assert_eq!(store.waiting().await, 0, "the deletes settle them");
    assert_eq!(sink.open(&lane(0)).await.unwrap().reread(), None, "it is where it was");
    // From here on, what is set aside is a flood again.
    sink.prepare(&contract).await.unwrap();
    let error = sink.commit(&topic.batch((1..ROWS).map(partial))).await.unwrap_err();
    assert!(error.to_string().contains("more changes are set aside than the limit of"), "{error}");
}

#[tokio::test]
async fn i3_rows_that_were_really_lost_halt_the_lane_where_it_was_before() {
    for silent in [true, false] {
        let store = Store::fresh().await;
        let contract = people();
        let mut topic = Topic::new(&contract);
        let batches = lives(&mut topic);
        let end = 2 * ROWS as u64 + 1;
        let step = Delta::range("0", Position::offset(end - 1), Position::offset(end));
        let last = match silent {
            // A record that the grant drops.
            true => Batch { delta: step, ..Batch::default() },
            false => topic.batch([(Op::Insert, person(99, "李四", 9))]),
        };
        let mut sink = store.strict();
        sink.open(&lane(0)).await.unwrap();
        sink.prepare(&contract).await.unwrap();
        for batch in batches.iter().chain([&last]) {
            sink.commit(batch).await.unwrap();
        }
        // By nobody whom the stream knows.
        store.run(&format!("DELETE FROM {TABLE} WHERE id < 99")).await;
        store.set_back(ROWS as u64).await;
        for first in [true, false] {
            sink.open(&lane(0)).await.unwrap();
            sink.prepare(&contract).await.unwrap();
            if first {
                assert_eq!(sink.commit(&batches[1]).await.unwrap().again, ROWS as u64);
            }

            let error = sink.commit(&last).await.unwrap_err();

            assert_eq!(error.kind, ErrorKind::Broken, "it halts, also when it is started again");
            assert!(error.to_string().contains("8 changes still wait whose rows are not there"), "{error}");
            assert!(error.hint.unwrap().contains("hutong subscription reload renshe_people`"));
        }
        assert_eq!(store.waiting().await as i64, ROWS);
        // Who lets so many wait goes on, and they wait on.
        let mut patient = store.sink("g1");
        patient.open(&lane(0)).await.unwrap();
        patient.prepare(&contract).await.unwrap();
        patient.commit(&last).await.unwrap();
        assert_eq!(patient.open(&lane(0)).await.unwrap().reread(), None);
        assert_eq!(store.waiting().await as i64, ROWS);
    }
}

#[tokio::test]
async fn what_the_store_refuses_again_counts_from_the_day_on_which_a_person_set_the_lane_back() {
    let store = Store::fresh().await;
    store.run("CREATE SCHEMA share; CREATE TABLE share.people (id bigint PRIMARY KEY, name varchar(20) CHECK (name <> '坏'), age integer)").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let bad = topic.batch((1..=LIMIT as i64).map(|id| (Op::Insert, person(id, "坏", 1))));
    let mut sink = store.strict();
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();
    assert_eq!(sink.commit(&bad).await.unwrap().lasting, LIMIT);
    store.set_back(0).await;
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();
    let again = Delta::range("0", Position::offset(0), Position::offset(LIMIT));
    let bad = Batch { delta: again, ..bad };
    assert_eq!(sink.commit(&bad).await.unwrap().lasting, LIMIT, "the same three, and not six");
    let error = sink.commit(&topic.batch([(Op::Insert, person(9, "坏", 1))])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Broken, "{error}");
}
