//! What a capture sets aside: with the row as far as it can be written, and always with its key.

use std::sync::Arc;

use hutong_core::{Before, Contract, Op, Rejected, Row, Sink, Value};

use super::office::{Office, PARTITIONS, TOPIC, batch, opened, records};
use crate::decoder::Decoder;
use crate::log::Incoming;
use crate::quarantine::{self, Kept};

/// An office whose `name` may not be NULL, and is of any length.
fn office() -> Office {
    let mut office = Office::new();
    let contract = Contract::parse(
        r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
            {"name":"id","type":"long"},{"name":"name","type":"string"},
            {"name":"small","type":["null",{"type":"string","length":2}]}]}"#,
    );
    office.contract = contract.unwrap().shared();
    office
}

fn person(office: &Office, id: i64, name: Value, small: Value) -> hutong_core::Change {
    let mut change = office.change(1, Op::Insert, id, "");
    change.after = Some(vec![Value::Integer(id), name, small]);
    change
}

/// Returns the only record of the quarantine, with what it says.
async fn kept(office: &Office) -> (Incoming, Kept) {
    let mut records = records(office, "gongan.person.quarantine", 0).await;
    assert_eq!(records.len(), 1);
    let record = records.pop().unwrap();
    let kept = quarantine::decode(record.value.as_ref().unwrap()).unwrap();
    (record, kept)
}

/// Returns the row of the envelope that a quarantine record holds.
async fn row(office: &Office, record: &Incoming, kept: &Kept) -> Option<Row> {
    let envelope = Incoming { value: kept.envelope.clone(), ..record.clone() };
    let mut decoder = Decoder::new(Arc::clone(&office.registry), Arc::clone(&office.contract));
    decoder.decode_one(&envelope).await.unwrap().unwrap().after
}

async fn written(office: &Office) -> usize {
    let mut count = 0;
    for p in 0..PARTITIONS {
        count += records(office, TOPIC, p).await.len();
    }
    count
}

#[tokio::test]
async fn i3_a_row_with_a_forbidden_null_is_set_aside_whole() {
    let office = office();
    let (mut sink, _) = opened(&office).await;
    let change = person(&office, 7, Value::Null, Value::text("乙"));
    let after = change.after.clone();
    let rejected = Rejected {
        rule: "check",
        reason: "field `name` is NULL and may not be".into(),
        position: change.position,
        stream: "person".into(),
        change: Some(Box::new(change)),
        record: None,
    };
    let mut step = batch(0, 1, vec![], 1);
    step.rejected.push(rejected);

    sink.commit(&step).await.unwrap();

    let (record, kept) = kept(&office).await;
    assert_eq!(row(&office, &record, &kept).await, after);
    assert_eq!(kept.key.as_deref(), Some(r#"{"id":7}"#));
    assert!(record.key.is_some());
}

#[tokio::test]
async fn i3_i6_a_row_that_cannot_be_written_is_set_aside_with_its_key() {
    let office = office();
    let (mut sink, _) = opened(&office).await;
    let change = person(&office, 8, Value::text("甲"), Value::text("三个字"));

    let refused = sink.commit(&batch(0, 1, vec![change], 1)).await.unwrap().lasting;

    let (record, kept) = kept(&office).await;
    assert_eq!((refused, kept.envelope.is_some(), kept.rule.as_str()), (1, false, "encode"));
    assert_eq!(kept.key.as_deref(), Some(r#"{"id":8}"#));
    assert!(record.key.is_some());
}

#[tokio::test]
async fn i3_a_row_that_no_topic_takes_is_set_aside_and_the_capture_goes_on() {
    let office = office();
    let (mut sink, _) = opened(&office).await;
    let large = person(&office, 9, Value::text("x".repeat(17 << 20)), Value::Null);
    let small = person(&office, 10, Value::text("乙"), Value::Null);

    sink.commit(&batch(0, 1, vec![large, small], 1)).await.unwrap();

    assert_eq!(written(&office).await, 1);
    let (record, kept) = kept(&office).await;
    assert_eq!((kept.envelope.is_some(), kept.rule.as_str()), (false, "encode"));
    assert!(kept.reason.contains("bytes"), "{}", kept.reason);
    assert_eq!(kept.key.as_deref(), Some(r#"{"id":9}"#));
    assert!(record.value.unwrap().len() < 1 << 10);
}

#[tokio::test]
async fn i3_an_old_image_that_cannot_be_written_is_left_out_and_the_change_goes_on() {
    let office = office();
    let (mut sink, _) = opened(&office).await;
    let old = |id, name: &str, small: &str| {
        Before::Full(vec![Value::Integer(id), Value::text(name.to_owned()), Value::text(small.to_owned())])
    };
    let large = "x".repeat(9 << 20);
    let mut mended = person(&office, 1, Value::text("甲"), Value::text("乙"));
    (mended.op, mended.before) = (Op::Update, old(1, "甲", "三个字"));
    // Each of the two rows fits, both together do not.
    let mut grown = person(&office, 2, Value::text(large.clone()), Value::Null);
    (grown.op, grown.before) = (Op::Update, old(2, &large, "乙"));
    let mut gone = office.change(1, Op::Delete, 3, "");
    gone.before = old(3, "甲", "三个字");
    let mut exact = office.change(1, Op::Delete, 4, "");
    exact.before = old(4, "甲", "乙");
    let changes = vec![mended, grown, gone, exact];
    let expected: Vec<_> = changes.iter().map(|c| (c.op, c.after.clone(), c.key())).collect();

    assert_eq!(sink.commit(&batch(0, 1, changes, 1)).await.unwrap().count(), 0);

    let mut decoder = Decoder::new(Arc::clone(&office.registry), Arc::clone(&office.contract));
    let mut found = Vec::new();
    for p in 0..PARTITIONS {
        for record in records(&office, TOPIC, p).await {
            let change = decoder.decode_one(&record).await.unwrap().unwrap();
            found.push((change.key(), change.before.word(), change.op, change.after));
        }
    }
    let words = ["key", "key", "key", "full"];
    for ((op, after, key), word) in expected.into_iter().zip(words) {
        assert!(found.contains(&(key.clone(), word, op, after)), "{key:?}");
    }
    assert_eq!(found.len(), 4);
}

#[tokio::test]
async fn i3_a_key_that_no_topic_takes_does_not_stop_the_capture_either() {
    let mut office = office();
    let contract = Contract::parse(
        r#"{"type":"record","name":"person","sharing":"unconditional","key":["name"],"fields":[
            {"name":"id","type":"long"},{"name":"name","type":"string"},
            {"name":"small","type":["null","string"]}]}"#,
    );
    office.contract = contract.unwrap().shared();
    let (mut sink, _) = opened(&office).await;
    let large = person(&office, 9, Value::text("x".repeat(17 << 20)), Value::Null);

    sink.commit(&batch(0, 1, vec![large], 1)).await.unwrap();

    let (record, kept) = kept(&office).await;
    assert_eq!((written(&office).await, kept.envelope, kept.key, record.key), (0, None, None, None));
}
