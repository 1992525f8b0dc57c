//! A batch names its span on its first record in each partition, and whoever reads on from there knows it.

use bytes::Bytes;
use hutong_core::{Checkpoint, Op, Sink, Source, Traceparent};

use super::office::{Office, PARTITIONS, TOPIC, batch, drain, opened, records};
use crate::log::Outgoing;

fn own(n: u64) -> Traceparent {
    Traceparent::root(u128::from(n), n)
}

#[tokio::test]
async fn the_first_record_of_each_partition_names_the_batch_and_a_reader_follows_it() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    for step in 1..3 {
        let changes = (0..300).map(|id| office.change(step, Op::Update, id, "甲")).collect();
        let mut batch = batch(step - 1, step, changes, 1);
        batch.trail.own = Some(own(step));
        sink.commit(&batch).await.unwrap();
    }
    for p in 0..PARTITIONS {
        let records = records(&office, TOPIC, p).await;
        let half = records.len() / 2;
        for (at, record) in records.iter().enumerate() {
            let wanted = match at {
                0 => vec![("traceparent".to_owned(), Bytes::from(own(1).to_string()))],
                at if at == half => vec![("traceparent".to_owned(), Bytes::from(own(2).to_string()))],
                _ => Vec::new(),
            };
            assert_eq!(record.headers, wanted, "record {at} of {}", records.len());
        }
        let mut source = office.source(p);
        source.open(&Checkpoint::default()).await.unwrap();
        let read = drain(&mut source, &mut Checkpoint::default()).await.unwrap();
        let mut passed = 0;
        // Read in portions, which begin anywhere in a batch.
        for batch in read.iter().filter(|batch| !batch.changes.is_empty()) {
            let mut wanted: Vec<Traceparent> =
                (passed..passed + batch.changes.len()).map(|at| own(if at < half { 1 } else { 2 })).collect();
            wanted.dedup();
            assert_eq!(batch.trail.followed, wanted, "from {passed} of {}", records.len());
            passed += batch.changes.len();
        }
        assert_eq!(passed, records.len());
    }
}

#[tokio::test]
async fn a_hostile_header_names_nothing_and_its_change_is_read_all_the_same() {
    let office = Office::new();
    let (mut sink, _) = opened(&office).await;
    let changes = vec![office.change(1, Op::Insert, 1, "甲")];
    sink.commit(&batch(0, 1, changes, 1)).await.unwrap();
    let written = async |p| records(&office, TOPIC, p).await;
    let mut record = None;
    for p in 0..PARTITIONS {
        record = record.or(written(p).await.pop().map(|record| (p, record)));
    }
    let (partition, record) = record.unwrap();
    assert_eq!(record.headers, [], "a batch without a span names none");
    let lane = hutong_core::LaneId::new(hutong_core::PipelineId::new(hutong_core::Kind::Capture, "other"), 0);
    let mut writer = office.log.writer(&lane).await.unwrap();
    writer.open().await.unwrap();
    let headers = ["", "00-0-0-0", "\u{ff}\u{ff}", "00-00000000000000000000000000000000-0000000000000000-00"];
    let again = headers.iter().map(|header| Outgoing {
        topic: TOPIC.into(),
        partition,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: vec![("traceparent".into(), Bytes::copy_from_slice(header.as_bytes()))],
    });
    writer.commit(again.collect(), Bytes::from_static(b"x")).await.unwrap();
    let mut source = office.source(partition);
    source.open(&Checkpoint::default()).await.unwrap();
    let read = drain(&mut source, &mut Checkpoint::default()).await.unwrap();
    assert_eq!(read.iter().map(|batch| batch.changes.len()).sum::<usize>(), 1 + headers.len());
    assert!(read.iter().all(|batch| batch.trail.followed.is_empty()));
}
