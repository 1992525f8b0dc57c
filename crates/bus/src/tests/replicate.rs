//! A source over a partition: bases, decoding, rejects, freshness.

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{Checkpoint, Contract, ErrorKind, Op, Position, Sink, Source, Value};

use super::office::{Office, PARTITIONS, TOPIC, batch, drain, opened, records};
use crate::envelope::{Encoder, schemas};
use crate::framing;
use crate::log::Outgoing;
use crate::partition;
use crate::watermark::partition_key;

/// Returns the partition of a person.
async fn home(office: &Office, id: i64) -> u32 {
    let text = schemas(&office.contract, TOPIC).key;
    let key_id = office.registry.register(&format!("{TOPIC}-key"), &text).await.unwrap();
    let change = office.change(1, Op::Insert, id, "");
    let encoded = Encoder::new(Arc::clone(&office.contract), key_id, 2).encode(&change, 0).unwrap();
    partition::of(&encoded.key.unwrap(), PARTITIONS)
}

/// Writes a record past the sink, as a foreign writer would.
async fn put(office: &Office, value: Option<Bytes>) {
    let foreign =
        hutong_core::LaneId::new(hutong_core::PipelineId::new(hutong_core::Kind::Capture, "other"), 0);
    let mut writer = office.log.writer(&foreign).await.unwrap();
    writer.open().await.unwrap();
    let record = Outgoing { topic: TOPIC.into(), partition: 0, key: None, value, headers: Vec::new() };
    writer.commit(vec![record], Bytes::from_static(b"x")).await.unwrap();
}

#[tokio::test]
async fn i1_i2_every_change_is_read_once_across_restarts() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let mut checkpoints = vec![Checkpoint::default(); PARTITIONS as usize];
    let mut seen = Vec::new();
    for round in 0..3_u64 {
        let changes: Vec<_> =
            (0..10).map(|i| office.change(round + 1, Op::Insert, round as i64 * 10 + i, "甲")).collect();
        sink.commit(&batch(round, round + 1, changes, round as i64)).await.unwrap();
        for p in 0..PARTITIONS {
            let mut source = office.source(p);
            source.open(&checkpoints[p as usize]).await.unwrap();
            for batch in drain(&mut source, &mut checkpoints[p as usize]).await.unwrap() {
                seen.extend(batch.changes.into_iter().map(|c| match c.after.unwrap()[0] {
                    Value::Integer(id) => id,
                    ref other => panic!("{other:?}"),
                }));
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_change_comes_out_as_it_went_in() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let change = office.change(4, Op::Insert, 1, "甲");
    sink.commit(&batch(0, 4, vec![change.clone()], 4)).await.unwrap();
    let mut found = Vec::new();
    for p in 0..PARTITIONS {
        let mut source = office.source(p);
        source.open(&Checkpoint::default()).await.unwrap();
        for batch in drain(&mut source, &mut Checkpoint::default()).await.unwrap() {
            found.extend(batch.changes);
        }
    }
    let [read] = found.as_mut_slice() else { panic!("one change") };
    assert_eq!(read.position, Position::offset(0));
    read.position = change.position;
    assert_eq!(*read, change);
}

#[tokio::test]
async fn a_source_waits_for_its_capture_to_begin() {
    let office = Office::new();
    let mut source = office.source(0);
    source.open(&Checkpoint::default()).await.unwrap();
    let begin = async {
        let (mut sink, _) = opened(&office).await;
        sink.commit(&batch(0, 1, vec![office.change(1, Op::Truncate, 0, "")], 1)).await.unwrap();
    };
    let (read, ()) = tokio::join!(source.next(), begin);
    assert_eq!(read.unwrap().unwrap().changes[0].op, Op::Truncate);
}

#[tokio::test]
async fn i3_what_cannot_be_read_is_named_and_what_is_dropped_is_counted() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    sink.commit(&batch(0, 1, vec![office.change(1, Op::Truncate, 0, "")], 1)).await.unwrap();
    let other = office.registry.register("other-value", "\"string\"").await.unwrap();
    put(&office, Some(Bytes::from_static(b"{\"secret\":1}"))).await;
    put(&office, None).await;
    put(&office, Some(Bytes::new())).await;
    put(&office, Some(Bytes::from([&framing::head(99_999)[..], b"secret"].concat()))).await;
    put(&office, Some(Bytes::from([&framing::head(other)[..], b"secret"].concat()))).await;
    let mut source = office.foreign_source(0);
    source.open(&Checkpoint::default()).await.unwrap();

    let mut checkpoint = Checkpoint::default();
    let batches = drain(&mut source, &mut checkpoint).await.unwrap();

    assert_eq!(checkpoint.position(&partition_key(TOPIC, 0)), Position::offset(6));
    let rejected: Vec<_> = batches.iter().flat_map(|b| &b.rejected).collect();
    let rules: Vec<_> = rejected.iter().map(|r| r.rule).collect();
    assert_eq!(rules, ["decode", "unknown_schema", "decode"]);
    for rejected in rejected {
        assert!(!format!("{rejected:?}").contains("secret"));
        assert_eq!(rejected.record.as_ref().unwrap().digest.len(), 64);
    }
    let tombstones: u64 = batches.iter().filter_map(|b| b.dropped.get("tombstone")).sum();
    assert_eq!(tombstones, 2);
}

#[tokio::test]
async fn i3_a_schema_that_our_registry_has_lost_is_waited_for_and_sets_no_row_aside() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    sink.commit(&batch(0, 1, vec![office.change(1, Op::Truncate, 0, "")], 1)).await.unwrap();
    put(&office, Some(Bytes::from([&framing::head(99_999)[..], b"secret"].concat()))).await;
    let mut source = office.source(0);
    source.open(&Checkpoint::default()).await.unwrap();

    let error = drain(&mut source, &mut Checkpoint::default()).await.unwrap_err();

    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    for part in ["99999", "at offset 1 of gongan.person.v1/0"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
}

#[tokio::test]
async fn i3_a_record_of_another_topics_schema_is_set_aside_and_its_own_unfit_schema_halts() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    sink.commit(&batch(0, 1, vec![office.change(1, Op::Truncate, 0, "")], 1)).await.unwrap();
    let other = r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"string"}]}"#;
    let other = Contract::parse(other).unwrap();
    let register = async |topic: &str| {
        let text = crate::envelope::schemas(&other, topic).value;
        office.registry.register(&format!("{topic}-stray"), &text).await.unwrap()
    };
    let (foreign, own) = (register("minzheng.person.v1").await, register(TOPIC).await);
    put(&office, Some(Bytes::from([&framing::head(foreign)[..], b"secret"].concat()))).await;
    let mut source = office.source(0);
    source.open(&Checkpoint::default()).await.unwrap();

    let mut checkpoint = Checkpoint::default();
    let batches = drain(&mut source, &mut checkpoint).await.unwrap();

    assert_eq!(checkpoint.position(&partition_key(TOPIC, 0)), Position::offset(2));
    let rejected: Vec<_> = batches.iter().flat_map(|b| &b.rejected).collect();
    let [rejected] = &rejected[..] else { panic!("{rejected:?}") };
    assert_eq!(rejected.rule, "unfit_schema");
    for part in [format!("schema {foreign}"), "offset 1".to_owned(), "`id`".to_owned()] {
        assert!(rejected.reason.contains(&part), "{part} in {}", rejected.reason);
    }
    assert!(!rejected.reason.contains("secret"));
    put(&office, Some(Bytes::from([&framing::head(own)[..], b"secret"].concat()))).await;
    let error = drain(&mut source, &mut checkpoint).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
    for part in [format!("schema {own}"), format!("at offset 2 by its schema {own} in {TOPIC}/0")] {
        assert!(error.to_string().contains(&part), "{part} in {error}");
    }
}

#[tokio::test]
async fn an_idle_lane_learns_how_fresh_it_is() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let mut id = 0;
    while home(&office, id).await != 0 {
        id += 1;
    }
    sink.commit(&batch(0, 1, vec![office.change(1, Op::Insert, id, "甲")], 10)).await.unwrap();
    let mut source = office.source(0);
    let mut checkpoint = Checkpoint::default();
    source.open(&checkpoint).await.unwrap();
    drain(&mut source, &mut checkpoint).await.unwrap();

    sink.commit(&batch(1, 2, vec![], 20)).await.unwrap();
    let batches = drain(&mut source, &mut checkpoint).await.unwrap();

    let [last] = batches.as_slice() else { panic!("one batch: {batches:?}") };
    assert_eq!((last.changes.len(), last.behind.complete_to_us), (0, Some(20)));
    // A lane that opens where it stands learns it from the last record.
    let mut again = office.source(0);
    again.open(&checkpoint).await.unwrap();
    let batches = drain(&mut again, &mut checkpoint).await.unwrap();
    assert_eq!(batches.last().unwrap().behind.complete_to_us, Some(20));
}

#[tokio::test]
async fn a_contract_that_does_not_fit_the_topic_halts_the_lane() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    sink.commit(&batch(0, 1, vec![office.change(1, Op::Truncate, 0, "")], 1)).await.unwrap();
    let mut office = office;
    office.contract = Contract::parse(
        r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
            {"name":"id","type":"int"}]}"#,
    )
    .unwrap()
    .shared();
    let mut source = office.source(0);
    source.open(&Checkpoint::default()).await.unwrap();
    assert_eq!(source.next().await.unwrap_err().kind, ErrorKind::SchemaConflict);
}

#[tokio::test]
async fn i3_what_another_program_writes_twice_is_dropped_and_counted_and_of_our_own_topics_nothing_is() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let changes = (1..=3).map(|id| office.change(id, Op::Insert, id as i64, "甲")).collect();
    sink.commit(&batch(0, 1, changes, 1)).await.unwrap();
    let partition = home(&office, 1).await;
    let written = records(&office, TOPIC, partition).await;
    let again = written.iter().map(|record| Outgoing {
        topic: TOPIC.into(),
        partition,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: Vec::new(),
    });
    let foreign =
        hutong_core::LaneId::new(hutong_core::PipelineId::new(hutong_core::Kind::Capture, "other"), 0);
    let mut writer = office.log.writer(&foreign).await.unwrap();
    writer.open().await.unwrap();
    writer.commit(again.collect(), Bytes::from_static(b"x")).await.unwrap();
    let count = written.len();

    let told = async |mut source: crate::TopicSource| {
        source.open(&Checkpoint::default()).await.unwrap();
        let batches = drain(&mut source, &mut Checkpoint::default()).await.unwrap();
        let dropped: u64 = batches.iter().filter_map(|batch| batch.dropped.get("duplicate")).sum();
        (batches.iter().map(|batch| batch.changes.len()).sum::<usize>(), dropped)
    };
    assert_eq!(told(office.foreign_source(partition)).await, (count, count as u64));
    assert_eq!(told(office.source(partition)).await, (2 * count, 0), "what stands there was written there");
}
