//! What a person does to the lanes of a subscription: they are shut out and open again, and those of others are not.

use std::collections::BTreeMap;

use hutong_core::{Act, ErrorKind, Hold, Kind, Op, Order, PipelineId, Position, Rejected, Sink as _, Verb};
use hutong_stores::postgres::sink::{lanes, rows_of, steer};

use crate::given::{Store, TABLE, Topic, key_only, lane, people, person};

fn order(verb: Verb) -> Order {
    let act = Act { verb, at_us: 7, by: "李".into(), reason: "维护".into(), to_us: None };
    Order { act, back: BTreeMap::new() }
}

fn pipeline(name: &str) -> PipelineId {
    PipelineId::new(Kind::Replicate, name)
}

#[tokio::test]
async fn a_reload_fences_the_owners_and_the_next_ones_start_anew() {
    let store = Store::fresh().await;
    let contract = people();
    assert!(steer(&store.url, &pipeline("renshe_people"), &order(Verb::Reload)).await.unwrap().is_empty());
    let mut topic = Topic::new(&contract);
    let mut old = store.opened(0, &contract).await;
    old.commit(&topic.batch([(Op::Read, person(1, "张三", 1))])).await.unwrap();

    let none = steer(&store.url, &pipeline("renshe"), &order(Verb::Reload)).await.unwrap();
    assert!(none.is_empty(), "a longer name is another's");
    assert_eq!(
        rows_of(&store.url, TABLE).await.unwrap(),
        [("replicate.renshe_people.0".to_owned(), 1)].into()
    );
    let steered = steer(&store.url, &pipeline("renshe_people"), &order(Verb::Reload)).await.unwrap();

    assert_eq!((steered.len(), steered[0].lane.as_str()), (1, "replicate.renshe_people.0"));
    assert_eq!(store.people().await, ["1|张三|1"], "until a lane opens the replica serves what it has");
    let error = old.commit(&topic.batch([(Op::Delete, key_only(1))])).await.unwrap_err();
    assert_eq!((error.kind, old.look().await.unwrap()), (ErrorKind::Fenced, Hold::Turned), "{error}");
    let mut new = store.sink("g1");
    let anew = new.open(&lane(0)).await.unwrap();
    assert!(anew.is_empty() && anew.acts() == [order(Verb::Reload).act], "what was done is remembered");
    assert_eq!(old.look().await.unwrap(), Hold::Taken);
    assert!(store.people().await.is_empty());
    let mut topic = Topic::new(&contract);
    new.prepare(&contract).await.unwrap();
    new.commit(&topic.batch([(Op::Read, person(2, "李四", 2))])).await.unwrap();
    assert!(!store.sink("g1").open(&lane(0)).await.unwrap().is_empty(), "it starts anew once");
}

#[tokio::test]
async fn i7_a_pause_stands_in_the_store_and_nothing_is_committed_after_it() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topics = [Topic::new(&contract), Topic::new(&contract)];
    let mut sinks = [store.opened(0, &contract).await, store.opened(1, &contract).await];
    for (n, (sink, topic)) in sinks.iter_mut().zip(&mut topics).enumerate() {
        sink.commit(&topic.batch([(Op::Insert, person(n as i64, "张三", 1))])).await.unwrap();
    }
    let own = pipeline("renshe_people");

    let paused = steer(&store.url, &own, &order(Verb::Pause)).await.unwrap();

    assert!(paused.len() == 2 && paused.iter().all(|lane| lane.after.is_some()));
    let again = steer(&store.url, &own, &order(Verb::Pause)).await.unwrap();
    assert!(again.iter().all(|lane| lane.after.is_none() && lane.before.pause().is_some()));
    for (partition, (sink, topic)) in (0..).zip(sinks.iter_mut().zip(&mut topics)) {
        assert_eq!(sink.look().await.unwrap(), Hold::Turned);
        let batch = topic.batch([(Op::Insert, person(9, "李四", 9))]);
        let error = sink.commit(&batch).await.unwrap_err();
        assert_eq!((error.kind, sink.look().await.unwrap()), (ErrorKind::Fenced, Hold::Turned), "{error}");
        // Also the next owner, of whatever process, and one under another grant, which may keep nothing.
        assert_eq!(sink.open(&lane(partition)).await.unwrap().pause().unwrap().reason, "维护");
        assert_eq!(sink.look().await.unwrap(), Hold::Held);
    }
    assert!(store.sink("g2").open(&lane(1)).await.unwrap().pause().is_some());
    assert_eq!(
        store.people().await,
        ["0|张三|1"],
        "I5: what another grant may not cover goes, also while it is paused"
    );

    let resumed = steer(&store.url, &own, &order(Verb::Resume)).await.unwrap();
    assert!(resumed.iter().all(|lane| lane.after.is_some()));
    let stands = lanes(&store.url).await.unwrap();
    let acts: Vec<Verb> = stands[0].checkpoint.acts().iter().map(|act| act.verb).collect();
    assert_eq!(acts, [Verb::Pause, Verb::Resume]);
    assert!(sinks[0].open(&lane(0)).await.unwrap().pause().is_none());
    sinks[0].prepare(&contract).await.unwrap();
    let mut topic = Topic::new(&contract);
    topic.batch([(Op::Insert, person(0, "张三", 1))]);
    sinks[0].commit(&topic.batch([(Op::Insert, person(9, "李四", 9))])).await.unwrap();
    assert_eq!(store.people().await, ["0|张三|1", "9|李四|9"]);
}

#[tokio::test]
async fn i3_i7_a_lane_that_is_set_back_reads_again_and_what_it_set_aside_from_there_is_settled() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let mut batches = Vec::new();
    for n in 0..4 {
        let mut batch = topic.batch([(Op::Insert, person(n % 2, "张三", n))]);
        let change = topic.change(Op::Insert, person(10 + n, "王五", n));
        let position = Position::offset(n as u64);
        batch.rejected.push(Rejected {
            rule: "check",
            reason: "a rule".into(),
            position,
            stream: "people".into(),
            change: Some(Box::new(hutong_core::Change { position, ..change })),
            record: None,
        });
        topic = Topic::from(&contract, n as u64 + 1);
        sink.commit(&batch).await.unwrap();
        batches.push(batch);
    }
    let name = lane(0).to_string();
    let mut back = order(Verb::Rewind);
    back.back.insert(name.clone(), ("0".into(), Position::offset(9)));
    let own = pipeline("renshe_people");
    let stays = steer(&store.url, &own, &back).await.unwrap();
    assert!(stays[0].after.is_none() && stays[0].settled.is_empty(), "it has not come so far");
    back.back.insert(name, ("0".into(), Position::offset(2)));

    let steered = steer(&store.url, &own, &back).await.unwrap();

    assert_eq!(steered[0].settled.len(), 2);
    let states = store.rows("SELECT state FROM hutong.hutong_quarantine ORDER BY id").await;
    assert_eq!(states, ["waiting", "waiting", "replayed", "replayed"]);
    assert_eq!(
        sink.commit(&batches[3]).await.unwrap_err().kind,
        ErrorKind::Broken,
        "the algebra, or the fence"
    );
    assert_eq!(sink.open(&lane(0)).await.unwrap().position("0"), Position::offset(2));
    sink.prepare(&contract).await.unwrap();
    for batch in &batches[2..] {
        sink.commit(batch).await.unwrap();
    }
    assert_eq!(store.people().await, ["0|张三|2", "1|张三|3"], "the last state of each row");
    let waiting = "SELECT key FROM hutong.hutong_quarantine WHERE state = 'waiting' ORDER BY id";
    assert_eq!(store.rows(waiting).await, ["[10]", "[11]", "[12]", "[13]"], "set aside again, and not twice");
}
