//! Topics, writers and readers.

use std::time::Duration;

use hutong_core::ErrorKind;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::log::{Reader, Writer};

const LONG: Duration = Duration::from_secs(20);

async fn writer(bus: &Bus, lane: &LaneId) -> Box<dyn Writer> {
    let mut writer = bus.writer(lane).await.unwrap();
    writer.open().await.unwrap();
    writer
}

async fn reader(bus: &Bus, topic: &str, partition: u32) -> Box<dyn Reader> {
    bus.reader(topic, partition, None).await.unwrap()
}

#[tokio::test]
async fn ensure_creates_once_and_reports_drift() {
    let (_folder, bus) = bus();
    topic(&bus, "gongan.population_base.v1", 4, false).await;
    topic(&bus, "gongan.population_base.v1", 4, false).await;

    let wish = TopicSpec { name: "gongan.population_base.v1".into(), partitions: 8, compacted: true };
    let drift = bus.ensure(&wish).await.unwrap();

    assert_eq!(drift.len(), 2, "{drift:?}");
    assert!(drift[0].contains("has 4 partitions, wanted 8"), "{drift:?}");
    assert!(drift[1].contains("is not compacted, wanted compacted"), "{drift:?}");
    assert_eq!(bus.extent(&wish.name).await.unwrap().unwrap(), (0..4).map(|p| (p, (0, 0))).collect());
    assert_eq!(bus.extent("no.such.v1").await.unwrap(), None);
}

#[tokio::test]
async fn i4_offsets_are_dense_and_records_come_back_as_written() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 2, false).await;
    let mut writer = writer(&bus, &lane("a", 0)).await;
    let mut tombstone = record("t", 1, "");
    (tombstone.value, tombstone.key) = (None, None);

    let records = vec![record("t", 0, "x"), record("t", 1, "y"), record("t", 0, "z"), tombstone];
    let offsets = writer.commit(records.clone(), "1".into()).await.unwrap();
    let more = writer.commit(vec![record("t", 0, "w")], "2".into()).await.unwrap();

    assert_eq!((offsets, more), (vec![0, 0, 1, 1], vec![2]));
    let fetched = reader(&bus, "t", 1).await.next(10, 1 << 20).await.unwrap();
    assert_eq!((fetched.next, fetched.end), (2, 2));
    for (read, (offset, wrote)) in fetched.records.iter().zip([(0, &records[1]), (1, &records[3])]) {
        assert_eq!(
            (read.offset, &read.key, &read.value, &read.headers),
            (offset, &wrote.key, &wrote.value, &wrote.headers)
        );
        assert!(read.written_us > 1_600_000_000_000_000);
    }
}

#[tokio::test]
async fn next_keeps_to_its_limits_and_waits_cancel_safely() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 1, false).await;
    let mut writer = writer(&bus, &lane("a", 0)).await;
    writer.commit((0..5).map(|_| record("t", 0, vec![7; 100])).collect(), "1".into()).await.unwrap();
    let mut reader = reader(&bus, "t", 0).await;

    assert_eq!(reader.next(2, 1 << 20).await.unwrap().next, 2);
    let small = reader.next(10, 150).await.unwrap();
    assert_eq!((small.records.len(), small.next, small.end), (2, 4, 5));
    assert_eq!(reader.next(10, 0).await.unwrap().next, 5, "one record at least");
    assert!(
        timeout(Duration::from_millis(20), reader.next(10, 100)).await.is_err(),
        "there is nothing to read"
    );

    let late = writer.commit(vec![record("t", 0, "late")], "2".into());
    let (fetched, offsets) =
        timeout(LONG, async { tokio::join!(reader.next(10, 1 << 20), late) }).await.unwrap();
    let fetched = fetched.unwrap();
    assert_eq!(offsets.unwrap(), [5]);
    assert_eq!((fetched.records[0].offset, fetched.next), (5, 6));
}

#[tokio::test]
async fn i2_open_returns_the_last_checkpoint_and_shuts_the_earlier_writer_out() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 1, false).await;
    let lane = lane("a", 2);
    let mut first = bus.writer(&lane).await.unwrap();
    assert_eq!(first.commit(vec![], "0".into()).await.unwrap_err().kind, ErrorKind::Broken);
    assert_eq!(first.open().await.unwrap(), None);
    first.commit(vec![record("t", 0, "x")], "one".into()).await.unwrap();
    first.commit(vec![], "two".into()).await.unwrap();

    let mut second = bus.writer(&lane).await.unwrap();
    assert_eq!(second.open().await.unwrap().unwrap(), "two");

    let error = first.commit(vec![record("t", 0, "late")], "three".into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert_eq!(bus.extent("t").await.unwrap().unwrap()[&0], (0, 1), "nothing of the fenced commit is there");
    assert_eq!(second.open().await.unwrap().unwrap(), "two");

    // Compaction: one record of the lane is left; the offsets go on.
    let checkpoints = "hutong.checkpoint.capture.a";
    assert_eq!(bus.extent(checkpoints).await.unwrap().unwrap()[&2], (0, 2));
    let fetched = reader(&bus, checkpoints, 2).await.next(10, 1 << 20).await.unwrap();
    assert_eq!(fetched.records.iter().map(|r| r.offset).collect::<Vec<_>>(), [1]);
    assert_eq!(fetched.records[0].key.as_deref(), Some(b"capture.a.2".as_slice()));
}

#[tokio::test]
async fn a_commit_that_fails_leaves_the_others_of_its_group_alone() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 8, false).await;
    let mut work = Vec::new();
    for i in 0..8 {
        let mut writer = writer(&bus, &lane("a", i)).await;
        if i % 2 == 1 {
            bus.writer(&lane("a", i)).await.unwrap().open().await.unwrap();
        }
        work.push(async move { writer.commit(vec![record("t", i, "x")], "c".into()).await });
    }

    let results = all_of(work).await;

    let extent = bus.extent("t").await.unwrap().unwrap();
    for (i, result) in results.into_iter().enumerate() {
        assert_eq!(result.is_ok(), i % 2 == 0, "{result:?}");
        assert_eq!(extent[&(i as u32)].1, u64::from(i % 2 == 0));
    }
}

/// Runs all at once and returns their results in order.
async fn all_of<T: Send + 'static>(work: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let work = work.into_iter().enumerate().map(|(i, work)| async move { (i, work.await) });
    let mut results = work.collect::<JoinSet<_>>().join_all().await;
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

#[tokio::test]
async fn trimming_and_places_outside_are_position_lost() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 1, false).await;
    let mut writer = writer(&bus, &lane("a", 0)).await;
    writer.commit((0..12_000).map(|_| record("t", 0, "x")).collect(), "1".into()).await.unwrap();
    let mut reader = reader(&bus, "t", 0).await;

    assert_eq!(bus.delete_before("t", 0, 11_000).await.unwrap(), 11_000);
    assert_eq!(bus.delete_before("t", 0, 5).await.unwrap(), 11_000, "never back");

    for (offset, says) in [(10_999, "trimmed"), (12_001, "beyond the end")] {
        let error = reader.seek(offset).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PositionLost);
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("from 11000 to 12000"), "{text}");
    }
    assert_eq!(reader.next(1, 1).await.unwrap_err().kind, ErrorKind::PositionLost, "it stands at 0");
    reader.seek(12_000).await.unwrap();
    reader.seek(11_000).await.unwrap();
    assert_eq!(reader.next(10, 1 << 20).await.unwrap().records[0].offset, 11_000);
    assert_eq!(bus.delete_before("t", 0, u64::MAX).await.unwrap(), 12_000);
    assert_eq!(writer.commit(vec![record("t", 0, "y")], "2".into()).await.unwrap(), [12_000]);
    assert_eq!(bus.delete_before("t", 9, 0).await.unwrap_err().kind, ErrorKind::Config);
}

#[tokio::test]
async fn an_offset_is_found_by_time() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 1, false).await;
    let mut writer = writer(&bus, &lane("a", 0)).await;
    for n in [10, 1, 7] {
        writer.commit(vec![record("t", 0, "x"); n], "1".into()).await.unwrap();
    }
    let records = reader(&bus, "t", 0).await.next(100, 1 << 20).await.unwrap().records;
    let times = |first: usize| {
        let times = records[first..].iter().map(|r| r.written_us);
        let edges = times.clone().map(|t| t + 1).chain([i64::MIN, i64::MAX]);
        times.chain(edges).collect::<Vec<_>>()
    };

    for first in [0, 4, 18] {
        bus.delete_before("t", 0, first as u64).await.unwrap();
        for time in times(first) {
            let expected = records[first..].iter().find(|r| r.written_us >= time).map_or(18, |r| r.offset);
            assert_eq!(bus.offset_since("t", 0, time).await.unwrap(), expected);
        }
    }
    assert_eq!(bus.offset_since("t", 1, 0).await.unwrap_err().kind, ErrorKind::Config);
}

#[tokio::test]
async fn what_is_not_there_is_said_by_name() {
    let (_folder, bus) = bus();
    topic(&bus, "t", 1, false).await;
    topic(&bus, "c", 1, true).await;
    let mut writer = writer(&bus, &lane("a", 0)).await;
    let mut keyless = record("c", 0, "x");
    keyless.key = None;
    for (record, says) in [
        (record("nowhere", 0, "x"), "write to topic nowhere: there is no such topic"),
        (record("t", 1, "x"), "no partition 1"),
        (keyless, "has no key"),
    ] {
        let error = writer.commit(vec![super::record("t", 0, "y"), record], "1".into()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(bus.extent("t").await.unwrap().unwrap()[&0], (0, 0));
    let error = reader(&bus, "nowhere", 0).await.next(1, 1).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "its capture may create it yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_see_a_part_of_a_commit() {
    const COMMITS: u64 = 60;
    const WRITERS: u32 = 4;
    let (_folder, bus) = bus();
    topic(&bus, "t", WRITERS, false).await;
    let mut writers = Vec::new();
    for i in 0..WRITERS {
        let mut writer = writer(&bus, &lane("a", i)).await;
        // Three records a commit.
        writers.push(async move {
            for n in 0..COMMITS {
                let value = format!("{i}.{n}");
                writer.commit(vec![record("t", i, value); 3], n.to_string().into()).await.unwrap();
            }
        });
    }
    let mut readers = Vec::new();
    for i in 0..WRITERS * 2 {
        let mut reader = reader(&bus, "t", i % WRITERS).await;
        readers.push(async move {
            let mut seen = 0;
            while seen < COMMITS * 3 {
                let fetched = reader.next(usize::MAX, usize::MAX).await.unwrap();
                for record in &fetched.records {
                    assert_eq!(record.offset, seen);
                    assert_eq!(
                        record.value.as_deref(),
                        Some(format!("{}.{}", i % WRITERS, seen / 3).as_bytes())
                    );
                    seen += 1;
                }
                assert_eq!((seen % 3, fetched.end % 3), (0, 0), "a part of a commit was seen");
            }
        });
    }
    timeout(LONG, async { tokio::join!(all_of(writers), all_of(readers)) }).await.unwrap();
}
