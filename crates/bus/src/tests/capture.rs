//! A sink over topics: checkpoints, partitions, refusals, fences.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hutong_core::{ErrorKind, Op, Position, Rejected, Sink, Value};

use super::office::{Office, PARTITIONS, TOPIC, batch, lane, opened, records};
use crate::envelope::schemas;
use crate::log::TopicSpec;
use crate::watermark::{base_note, partition_key};
use crate::{framing, oracle, partition, quarantine};

#[tokio::test]
async fn i2_a_new_owner_finds_the_checkpoint_that_was_committed_with_the_data() {
    let office = Office::new();
    let (mut first, empty) = opened(&office).await;
    assert!(empty.is_empty());
    let mut step = batch(0, 7, vec![office.change(7, Op::Insert, 1, "甲")], 7);
    step.delta.set_note("snapshot", "chunk 3");
    first.commit(&step).await.unwrap();

    let (mut second, found) = opened(&office).await;

    assert_eq!(found.position("wal"), Position::wal(0, 7, 0, 0));
    assert_eq!(found.note("snapshot"), Some("chunk 3"));
    for p in 0..PARTITIONS {
        assert_eq!(found.note(&base_note(TOPIC, p)), Some("0"));
    }
    // The earlier owner is shut out, and a step that was committed is not committed again.
    assert_eq!(first.commit(&batch(7, 9, vec![], 9)).await.unwrap_err().kind, ErrorKind::Fenced);
    assert_eq!(second.commit(&step).await.unwrap_err().kind, ErrorKind::Broken);
    second.commit(&batch(7, 9, vec![], 9)).await.unwrap();
}

#[tokio::test]
async fn i4_a_key_stays_in_its_partition_and_a_truncate_goes_to_all() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let mut changes: Vec<_> = (0..20).map(|id| office.change(1, Op::Insert, id, "甲")).collect();
    changes.extend((0..20).map(|id| office.change(1, Op::Delete, id, "")));
    changes.push(office.change(1, Op::Truncate, 0, ""));

    sink.commit(&batch(0, 1, changes, 1)).await.unwrap();

    let texts = schemas(&office.contract, TOPIC);
    let mut keyed = 0;
    for p in 0..PARTITIONS {
        let records = records(&office, TOPIC, p).await;
        let (last, others) = records.split_last().unwrap();
        assert_eq!(last.key, None);
        for record in others {
            let key = record.key.as_ref().unwrap();
            assert_eq!(partition::of(key, PARTITIONS), p);
            let (id, body) = framing::split(key).unwrap();
            assert_eq!(office.registry.by_id(id).await.unwrap().as_deref().map(json), Some(json(&texts.key)));
            oracle::read(&texts.key, &body);
            oracle::read(&texts.value, &framing::split(record.value.as_ref().unwrap()).unwrap().1);
        }
        keyed += others.len();
    }
    assert_eq!(keyed, 40);
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn i3_i6_what_cannot_be_written_is_quarantined_and_the_others_go_on() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let mut step = batch(
        0,
        3,
        vec![office.change(1, Op::Insert, 1, "五个字太长"), office.change(2, Op::Insert, 2, "乙")],
        3,
    );
    let checked = office.change(3, Op::Insert, 3, "丙");
    step.rejected.push(Rejected {
        rule: "check",
        reason: "field `id` is no citizen number".into(),
        position: checked.position,
        stream: "person".into(),
        change: Some(Box::new(checked)),
        record: None,
    });

    sink.commit(&step).await.unwrap();

    let mut written = 0;
    for p in 0..PARTITIONS {
        written += records(&office, TOPIC, p).await.len();
    }
    assert_eq!(written, 1);
    let aside = records(&office, "gongan.person.quarantine", 0).await;
    let text = |i: usize| {
        let body = &aside[i].value.as_ref().unwrap()[framing::HEAD..];
        format!("{:?}", oracle::read(quarantine::SCHEMA, body))
    };
    assert_eq!(aside.len(), 2);
    assert!(text(0).contains("no citizen number") && text(0).contains("Bytes"), "{}", text(0));
    assert!(text(1).contains("field `name`") && !text(1).contains("五个字"), "{}", text(1));
}

#[tokio::test]
async fn an_idle_step_carries_the_time_and_the_ends_that_belong_to_it() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    office.lose.store(true, Ordering::Relaxed);
    let change = office.change(5, Op::Insert, 1, "甲");
    sink.commit(&batch(0, 5, vec![change], 5)).await.unwrap_err();
    sink.open(&lane()).await.unwrap();

    sink.commit(&batch(5, 6, vec![], 60)).await.unwrap();

    let checkpoints = records(&office, "hutong.checkpoint.capture.gongan", 0).await;
    let last =
        crate::watermark::Watermark::decode(checkpoints.last().unwrap().value.as_ref().unwrap()).unwrap();
    assert_eq!(last.as_of_us, Some(60));
    // The record of the commit whose answer was lost is before the ends, not behind them.
    for (p, (_, end)) in office.log.extent(TOPIC).await.unwrap().unwrap() {
        assert_eq!(last.ends[&partition_key(TOPIC, p)], end);
    }
}

#[tokio::test]
async fn another_partition_count_or_key_schema_is_refused_before_anything_is_written() {
    let office = Office::new();
    let spec = TopicSpec { name: TOPIC.into(), partitions: PARTITIONS + 1, compacted: false };
    office.log.ensure(&spec).await.unwrap();
    let error = office.sink().open(&lane()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SchemaConflict);
    assert!(error.hint.unwrap().contains("next generation"));

    let mut office = Office::new();
    let (mut sink, _) = opened(&office).await;
    sink.commit(&batch(0, 1, vec![], 1)).await.unwrap();
    let mut other = (*office.contract).clone();
    other.fields[0].ty = hutong_core::Type::Int;
    office.contract = Arc::new(other);
    // Of the key too it is the contract that breaks: the stream is suspended.
    let suspended = office.sink().open(&lane()).await.unwrap().suspended();
    assert!(suspended[0].reason.contains("id: long becomes int"), "{suspended:?}");
}

#[tokio::test]
async fn a_contract_that_grows_is_taken_and_one_that_breaks_readers_is_not() {
    let mut office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let mut wider = (*office.contract).clone();
    wider.fields.push(hutong_core::Field::new("note", hutong_core::Type::Text { length: None }));
    sink.prepare(&wider).await.unwrap();
    let wider = Arc::new(wider);
    let mut change = office.change(1, Op::Insert, 1, "甲");
    change.contract = Arc::clone(&wider);
    change.after = Some(vec![Value::Integer(1), Value::Null, Value::text("新")]);
    sink.commit(&batch(0, 1, vec![change], 1)).await.unwrap();

    let mut broken = (*wider).clone();
    broken.fields[2].ty = hutong_core::Type::Long;
    let error = sink.prepare(&broken).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::SchemaConflict);
    office.contract = wider;
    opened(&office).await;
}

#[tokio::test]
async fn a_looser_level_lets_a_contract_pass_that_the_stricter_one_refused() {
    let mut office = Office::new();
    opened(&office).await;
    let mut narrower = (*office.contract).clone();
    narrower.fields.push(hutong_core::Field::new("age", hutong_core::Type::Int));
    office.contract = Arc::new(narrower.clone());
    opened(&office).await;
    // Of another type now: no level but NONE takes that.
    narrower.fields[2].ty = hutong_core::Type::Text { length: None };
    office.contract = Arc::new(narrower);
    assert_eq!(office.sink().open(&lane()).await.unwrap().suspended()[0].table, "person");

    let checkpoint = office.sink_into(TOPIC, Some("NONE")).open(&lane()).await.unwrap();
    assert_eq!(checkpoint.suspended(), []);
}

#[tokio::test]
async fn the_version_of_a_schema_is_told_and_leaves_an_empty_checkpoint_empty() {
    let office = Office::new();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = std::sync::Arc::clone(&told);
    let tell = move |topic: &str, version| hears.lock().unwrap().push((topic.to_owned(), version));
    let mut sink = office.sink().telling_versions(std::sync::Arc::new(tell));
    for _ in 0..2 {
        let checkpoint = sink.open(&lane()).await.unwrap();
        assert!(checkpoint.is_empty(), "an empty one asks for the snapshot");
    }
    assert_eq!(*told.lock().unwrap(), [(TOPIC.to_owned(), 1), (TOPIC.to_owned(), 1)], "at each opening");
}
