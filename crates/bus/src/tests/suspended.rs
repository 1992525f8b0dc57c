//! A contract that may not follow the one of its topic: its stream is suspended, the others go on, and it comes back.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::contract::Type;
use hutong_core::{Batch, Change, Checkpoint, Contract, ErrorKind, Op, Sink, Step, Value, Verdict};

use super::office::{Office, PARTITIONS, TOPIC, batch, lane, records};
use crate::succession::Reader;
use crate::{TopicSink, TopicSinkConfig, TopicStream};

const OTHER: &str = "gongan.birth.v1";

fn birth() -> Arc<Contract> {
    let text = r#"{"type":"record","name":"birth","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"long"}]}"#;
    Contract::parse(text).unwrap().shared()
}

/// A sink of two streams, one of them the office's by a contract and into a topic.
fn sink(office: &Office, contract: &Arc<Contract>, topic: &str) -> TopicSink {
    let reader = |name: &str, field: &str| Reader { subscription: name.into(), fields: vec![field.into()] };
    let stream = |contract: &Arc<Contract>, topic: &str| TopicStream {
        contract: Arc::clone(contract),
        topic: topic.into(),
        partitions: PARTITIONS,
        partition: None,
        compatibility: None,
        readers: vec![reader("renshe", "name"), reader("minzheng", "id")],
        anew: [("anew".to_owned(), topic.to_owned())].into(),
    };
    let streams = vec![stream(contract, topic), stream(&birth(), OTHER)];
    let config = TopicSinkConfig { bus: "hutong".into(), streams, history: Duration::ZERO };
    TopicSink::new(Arc::clone(&office.log), Arc::clone(&office.registry), config)
}

/// A person by a contract and a birth, each in one change, after the steps that stand before the sink.
fn step(office: &Office, sink: &TopicSink, contract: &Arc<Contract>, from: u64, op: Op) -> Batch {
    let mut person = office.change(from + 1, op, 1, "甲");
    person.contract = Arc::clone(contract);
    let mut other = office.change(from + 1, Op::Insert, 2, "");
    (other.contract, other.after) = (birth(), Some(vec![Value::Integer(2)]));
    let mut batch = batch(from, from + 1, Vec::new(), 1);
    let mut suspension = sink.suspension();
    for change in [person, other] {
        match suspension.apply(change) {
            Verdict::Pass(change) => batch.changes.push(change),
            Verdict::Drop { reason } => *batch.dropped.entry(reason).or_default() += 1,
            Verdict::Reject(rejected) => panic!("{rejected:?}"),
        }
    }
    batch
}

async fn commit(sink: &mut TopicSink, batch: &Batch) {
    for contract in batch.changes.iter().map(|change: &Change| Arc::clone(&change.contract)) {
        sink.prepare(&contract).await.unwrap();
    }
    sink.commit(batch).await.unwrap();
}

async fn count(office: &Office, topic: &str) -> usize {
    let mut count = 0;
    for p in 0..PARTITIONS {
        count += records(office, topic, p).await.len();
    }
    count
}

fn retyped(contract: &Contract, ty: Type) -> Arc<Contract> {
    let mut other = contract.clone();
    other.fields[1].ty = ty;
    other.shared()
}

/// An office in which both streams have flowed.
async fn flowing() -> Office {
    let office = Office::new();
    let mut before = sink(&office, &office.contract, TOPIC);
    assert_eq!(before.open(&lane()).await.unwrap(), Checkpoint::default());
    let batch = step(&office, &before, &office.contract, 0, Op::Insert);
    commit(&mut before, &batch).await;
    assert_eq!((count(&office, TOPIC).await, count(&office, OTHER).await), (1, 1));
    office
}

#[tokio::test]
async fn i3_a_contract_that_breaks_readers_suspends_its_stream_by_name_and_the_others_go_on() {
    let office = flowing().await;
    // The wire shows only the second.
    for (ty, what) in
        [(Type::Text { length: Some(2) }, "text(4) becomes text(2)"), (Type::Long, "text(4) becomes long")]
    {
        let narrowed = retyped(&office.contract, ty);
        let mut now = sink(&office, &narrowed, TOPIC);
        let checkpoint = now.open(&lane()).await.unwrap();

        let suspended = checkpoint.suspended();
        let [told] = &suspended[..] else { panic!("{suspended:?}") };
        assert_eq!(told.table, "person");
        for part in ["name: ", what, "would break: renshe.", "`generation = 2` under [stream.person]"] {
            assert!(told.reason.contains(part), "{part} in {}", told.reason);
        }
        assert!(!told.reason.contains("minzheng"), "{}", told.reason);
        let error = now.prepare(&narrowed).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
    }
    let narrowed = retyped(&office.contract, Type::Long);
    let mut now = sink(&office, &narrowed, TOPIC);
    now.open(&lane()).await.unwrap();
    let batch = step(&office, &now, &narrowed, 1, Op::Insert);
    assert_eq!(batch.dropped.get("suspended"), Some(&1));
    commit(&mut now, &batch).await;
    assert_eq!((count(&office, TOPIC).await, count(&office, OTHER).await), (1, 2));
}

#[tokio::test]
async fn i3_a_stream_whose_contract_fits_again_is_read_anew_until_its_truncate_is_committed() {
    let office = flowing().await;
    let narrowed = retyped(&office.contract, Type::Text { length: Some(2) });
    let mut now = sink(&office, &narrowed, TOPIC);
    now.open(&lane()).await.unwrap();
    let batch = step(&office, &now, &narrowed, 1, Op::Insert);
    commit(&mut now, &batch).await;

    for from in 2..4 {
        // A commit without the truncate: it may be lost in a crash, and so it is asked for again.
        let mut back = sink(&office, &office.contract, TOPIC);
        let checkpoint = back.open(&lane()).await.unwrap();
        assert_eq!((checkpoint.note("anew"), checkpoint.suspended()), (Some(TOPIC), vec![]));
        let batch = step(&office, &back, &office.contract, from, Op::Insert);
        assert!(batch.dropped.is_empty());
        commit(&mut back, &batch).await;
    }
    let mut back = sink(&office, &office.contract, TOPIC);
    back.open(&lane()).await.unwrap();
    let batch = step(&office, &back, &office.contract, 4, Op::Truncate);
    commit(&mut back, &batch).await;

    let checkpoint = sink(&office, &office.contract, TOPIC).open(&lane()).await.unwrap();
    assert_eq!((checkpoint.note("anew"), checkpoint.refused("person")), (None, None));
}

#[tokio::test]
async fn i3_the_next_generation_of_a_suspended_stream_begins_without_a_reset_of_the_others() {
    let office = flowing().await;
    let narrowed = retyped(&office.contract, Type::Long);
    // Nobody has noticed yet that the contract breaks: its rows would not be read again.
    let error = sink(&office, &narrowed, "gongan.person.v2").open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error}");
    let mut now = sink(&office, &narrowed, TOPIC);
    now.open(&lane()).await.unwrap();
    let batch = step(&office, &now, &narrowed, 1, Op::Insert);
    commit(&mut now, &batch).await;

    let mut next = sink(&office, &narrowed, "gongan.person.v2");
    let checkpoint = next.open(&lane()).await.unwrap();

    assert_eq!((checkpoint.note("anew"), checkpoint.suspended()), (Some("gongan.person.v2"), vec![]));
    let batch = step(&office, &next, &narrowed, 2, Op::Truncate);
    commit(&mut next, &batch).await;
    assert_eq!(
        (count(&office, "gongan.person.v2").await, count(&office, OTHER).await),
        (PARTITIONS as usize, 3)
    );
    let checkpoint = sink(&office, &narrowed, "gongan.person.v2").open(&lane()).await.unwrap();
    assert_eq!(checkpoint.note("anew"), None);
    // The old one has ended: who goes back to it finds no base to go on from, for it lacks what came since.
    let old: Vec<_> = checkpoint.notes.keys().filter(|name| name.contains(TOPIC)).collect();
    assert!(old.is_empty(), "{old:?}");
    let error = sink(&office, &office.contract, TOPIC).open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error}");
}
