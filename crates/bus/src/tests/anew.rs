//! Topics that begin anew: deleted, made again, of another generation. Nobody reads on as if they were the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hutong_core::{Checkpoint, Error, ErrorKind, Loss, Op, Position, Sink, Source};

use super::office::{Office, PARTITIONS, TOPIC, batch, drain, lane, opened, records};
use crate::log::TopicSpec;
use crate::watermark::{base_note, partition_key};

/// Writes truncates, which go to every partition, each in a step of its own.
async fn truncates(office: &Office, sink: &mut crate::TopicSink, steps: std::ops::Range<u64>) {
    for step in steps {
        let change = office.change(step + 1, Op::Truncate, 0, "");
        sink.commit(&batch(step, step + 1, vec![change], step as i64)).await.unwrap();
    }
}

/// Writes the last checkpoint record of one office into another, as if its bus had lost everything else.
async fn carry_checkpoint(from: &Office, to: &Office) {
    let last = records(from, "hutong.checkpoint.capture.gongan", 0).await.pop().unwrap().value.unwrap();
    let mut writer = to.log.writer(&lane()).await.unwrap();
    writer.open().await.unwrap();
    writer.commit(Vec::new(), last).await.unwrap();
}

fn says(error: &Error, command: &str) {
    let hint = error.hint.as_deref().unwrap_or_default();
    assert!(hint.contains(command), "{error:?}");
}

#[tokio::test]
async fn i3_a_replica_does_not_read_on_in_a_topic_that_was_made_again() {
    let (lost, again) = (Office::new(), Office::new());
    let (mut sink, _) = opened(&lost).await;
    truncates(&lost, &mut sink, 0..2).await;
    let mut checkpoint = Checkpoint::default();
    let mut source = lost.source(0);
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();
    assert_eq!(checkpoint.position(&partition_key(TOPIC, 0)), Position::offset(2));
    // Where it stands it is let in again.
    lost.source(0).open(&checkpoint).await.unwrap();

    // Another folder: the same names, more records, another history.
    let mut source = again.source(0);
    assert_eq!(source.open(&checkpoint).await.unwrap_err().kind, ErrorKind::Unavailable);
    let (mut sink, _) = opened(&again).await;
    truncates(&again, &mut sink, 0..5).await;
    let error = source.open(&checkpoint).await.unwrap_err();

    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    says(&error, "hutong subscription reload renshe");
    // From the base it is read.
    let mut checkpoint = Checkpoint::default();
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();
    assert_eq!(checkpoint.position(&partition_key(TOPIC, 0)), Position::offset(5));
}

#[tokio::test]
async fn i3_a_replica_that_runs_stops_when_its_topic_begins_anew() {
    let (lost, again) = (Office::new(), Office::new());
    let (mut sink, _) = opened(&lost).await;
    truncates(&lost, &mut sink, 0..1).await;
    let (mut other, _) = opened(&again).await;
    truncates(&again, &mut other, 0..1).await;
    let mut checkpoint = Checkpoint::default();
    let mut source = lost.source(0);
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();

    carry_checkpoint(&again, &lost).await;

    let error = drain(&mut source, &mut checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
}

#[tokio::test]
async fn i3_a_capture_stops_when_its_topic_is_gone_or_is_shorter_than_what_it_wrote() {
    let whole = Office::new();
    let (mut sink, _) = opened(&whole).await;
    truncates(&whole, &mut sink, 0..2).await;

    let gone = Office::new();
    carry_checkpoint(&whole, &gone).await;
    let error = gone.sink().open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    says(&error, "hutong source reset gongan");
    // It has made no topic that would look as if all were well.
    assert_eq!(gone.log.extent(TOPIC).await.unwrap(), None);

    let shorter = Office::new();
    carry_checkpoint(&whole, &shorter).await;
    let spec = TopicSpec { name: TOPIC.into(), partitions: PARTITIONS, compacted: false };
    shorter.log.ensure(&spec).await.unwrap();
    let error = shorter.sink().open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    says(&error, "hutong source reset gongan");
}

#[tokio::test]
async fn i3_what_was_trimmed_before_it_was_read_is_said_with_its_extent_and_what_to_do() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 0..1).await;
    let (mut checkpoint, mut source) = (Checkpoint::default(), office.source(0));
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();
    truncates(&office, &mut sink, 1..4).await;

    office.log.trim(TOPIC, 0, 3, i64::MAX).await.unwrap();

    let error = office.source(0).open(&checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    assert!(error.to_string().contains("offsets 1 to 2 were removed"), "{error}");
    says(&error, "hutong subscription reload renshe");
    // The base was among it, so the reload would not help.
    let mut source = office.source(0);
    source.open(&Checkpoint::default()).await.unwrap();
    let error = source.next().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    assert!(error.to_string().contains("began at 0, and offsets 0 to 2 of it were removed"), "{error}");
    says(&error, "hutong source reset gongan");
}

#[tokio::test]
async fn i3_a_capture_stops_when_its_topic_is_made_again_under_it() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 0..3).await;

    office.anew.store(true, Ordering::Relaxed);

    let change = office.change(4, Op::Truncate, 0, "");
    let error = sink.commit(&batch(3, 4, vec![change], 3)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    says(&error, "hutong source reset gongan");
}

#[tokio::test]
async fn i3_a_new_generation_waits_for_a_new_base_and_a_new_stream_does_not() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 0..1).await;

    let error = office.sink_into("gongan.person.v2", None).open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error}");
    says(&error, "hutong source reload gongan TABLE --reason");
    assert_eq!(office.log.extent("gongan.person.v2").await.unwrap(), None);

    // Another stream beside it is none of the same.
    let mut sink = office.sink_into("gongan.person_card.v2", None);
    sink.open(&lane()).await.unwrap();
    sink.commit(&batch(1, 2, vec![], 2)).await.unwrap();
    let (_, found) = opened(&office).await;
    assert_eq!(found.note(&base_note("gongan.person_card.v2", 0)), Some("0"));
}

/// Resets the capture over the topics that its configuration names.
async fn reset(office: &Office, topics: &[&str]) {
    let topics: Vec<_> = topics.iter().map(|&topic| topic.to_owned()).collect();
    let (log, registry) = (office.log.as_ref(), office.registry.as_ref());
    let era = |_: &Checkpoint| Ok([("era".to_owned(), "1".to_owned())].into());
    crate::reset::reset(log, registry, "hutong", &lane(), &topics, Loss::default(), era).await.unwrap();
}

#[tokio::test]
async fn i3_after_a_reset_readers_of_a_whole_topic_go_on_and_those_of_a_lost_one_do_not() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 0..2).await;
    let mut checkpoint = Checkpoint::default();
    let mut source = office.source(0);
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();

    reset(&office, &[TOPIC]).await;
    source.open(&checkpoint).await.unwrap();
    let (mut sink, found) = opened(&office).await;
    assert_eq!(found.note(&base_note(TOPIC, 0)), Some("2"));
    truncates(&office, &mut sink, 0..1).await;
    drain(&mut source, &mut checkpoint).await.unwrap();
    assert_eq!(checkpoint.position(&partition_key(TOPIC, 0)), Position::offset(3));

    let lost = Office::new();
    carry_checkpoint(&office, &lost).await;
    reset(&lost, &[TOPIC]).await;
    let (mut sink, _) = opened(&lost).await;
    truncates(&lost, &mut sink, 0..5).await;
    let error = lost.source(0).open(&checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
}

#[tokio::test]
async fn i3_after_a_reset_a_new_generation_begins() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 0..1).await;

    reset(&office, &["gongan.person.v2"]).await;

    let mut sink = office.sink_into("gongan.person.v2", None);
    let found = sink.open(&lane()).await.unwrap();
    assert!(found.positions.is_empty());
    truncates(&office, &mut sink, 0..1).await;
    assert_eq!(office.log.extent("gongan.person.v2").await.unwrap().unwrap()[&0], (0, 1));
}

#[tokio::test]
async fn a_capture_that_opens_again_does_not_make_its_topics_look_new() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let mut wider = (*office.contract).clone();
    wider.fields.push(hutong_core::Field::new("note", hutong_core::Type::Text { length: None }));
    sink.prepare(&wider).await.unwrap();
    truncates_of(&office, &mut sink, wider).await;
    let mut checkpoint = Checkpoint::default();
    let mut source = office.source(0);
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();

    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 1..2).await;

    drain(&mut source, &mut checkpoint).await.unwrap();
    office.source(0).open(&checkpoint).await.unwrap();
}

/// Writes a truncate of a wider contract.
async fn truncates_of(office: &Office, sink: &mut crate::TopicSink, contract: hutong_core::Contract) {
    let mut change = office.change(1, Op::Truncate, 0, "");
    change.contract = Arc::new(contract);
    sink.commit(&batch(0, 1, vec![change], 0)).await.unwrap();
}

#[tokio::test]
async fn i3_a_replica_that_waits_for_a_base_sees_it_when_it_comes() {
    let office = Office::new();
    // The capture runs for another stream, and has made the topic of this one without having written into it.
    let mut sink = office.sink_into("gongan.person_card.v1", None);
    sink.open(&lane()).await.unwrap();
    sink.commit(&batch(0, 1, vec![], 1)).await.unwrap();
    let spec = TopicSpec { name: TOPIC.into(), partitions: PARTITIONS, compacted: false };
    office.log.ensure(&spec).await.unwrap();
    let mut checkpoint = Checkpoint::default();
    let mut source = office.source(0);
    source.open(&checkpoint).await.unwrap();
    assert!(drain(&mut source, &mut checkpoint).await.unwrap().is_empty());

    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 1..3).await;

    let batch = tokio::time::timeout(std::time::Duration::from_secs(20), source.next()).await;
    assert_eq!(batch.expect("the base is seen").unwrap().unwrap().changes.len(), 2);
}

#[tokio::test]
async fn i3_a_bus_that_was_set_back_and_written_on_is_not_the_one_that_its_readers_have_read() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 0..1).await;
    // The copy of the bus has the capture's incarnation, and then goes another way.
    let copy = Office::new();
    let (mut copied, _) = opened(&copy).await;
    truncates(&copy, &mut copied, 0..1).await;
    carry_checkpoint(&office, &copy).await;
    let (mut sink, _) = opened(&office).await;
    truncates(&office, &mut sink, 1..4).await;
    let mut checkpoint = Checkpoint::default();
    let mut source = office.source(0);
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();
    assert_eq!(checkpoint.position(&partition_key(TOPIC, 0)), Position::offset(4));
    // Whoever goes on in the same one finds what it has read, and reads nothing twice.
    source.open(&checkpoint).await.unwrap();
    let again = drain(&mut source, &mut checkpoint).await.unwrap();
    assert!(again.iter().all(|batch| batch.changes.is_empty()), "{again:?}");
    truncates(&office, &mut sink, 4..5).await;
    let again = drain(&mut source, &mut checkpoint).await.unwrap();
    assert_eq!(again.iter().map(|batch| batch.changes.len()).sum::<usize>(), 1);

    let (mut sink, _) = opened(&copy).await;
    truncates(&copy, &mut sink, 1..7).await;
    let mut source = copy.source(0);
    source.open(&checkpoint).await.unwrap();
    let error = drain(&mut source, &mut checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost, "{error}");
    says(&error, "hutong subscription reload renshe");
}
