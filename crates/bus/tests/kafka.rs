//! The Kafka bus on a real broker: transactions, fences, committed reading.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hutong_bus::kafka::{Bus, Config};
use hutong_bus::log::{Fetched, Incoming, Log, Outgoing, Reader, TopicSpec, Trim, checkpoint_topic};
use hutong_core::{ErrorKind, Kind, LaneId, PipelineId};
use hutong_testkit::launch::Kafka;
use rdkafka::producer::Producer;

async fn bus(name: &str) -> Arc<Bus> {
    let kafka = Kafka::shared().await.unwrap();
    Bus::new(Config { brokers: kafka.bootstrap(), bus: name.into(), security: Vec::new(), replication: None })
        .unwrap()
}

fn lane(name: &str) -> LaneId {
    LaneId::new(PipelineId::new(Kind::Capture, name), 0)
}

fn topic(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec { name: name.into(), partitions, compacted: false }
}

fn record(topic: &str, partition: u32, text: &str) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition,
        key: Some(Bytes::from(text.to_owned())),
        value: Some(Bytes::from(text.to_owned())),
        headers: vec![("mark".into(), Bytes::from_static(b"1"))],
    }
}

/// Reads until the reader says that it has caught up.
async fn read_to_end(reader: &mut Box<dyn Reader>) -> Vec<Incoming> {
    let mut records = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), reader.next(100, 1 << 20));
        let Fetched { records: more, next, end } = next.await.expect("an answer in time").unwrap();
        records.extend(more);
        if next == end {
            return records;
        }
    }
}

fn texts(records: &[Incoming]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_the_checkpoint_commits_with_the_records_and_is_found_again() {
    let bus = bus("commits").await;
    bus.ensure(&topic("a.commits.v1", 2)).await.unwrap();
    let mut writer = bus.writer(&lane("commits")).await.unwrap();
    assert_eq!(writer.open().await.unwrap(), None);
    let offsets = writer
        .commit(vec![record("a.commits.v1", 0, "x"), record("a.commits.v1", 1, "y")], Bytes::from("c1"))
        .await;
    assert_eq!(offsets.unwrap(), [0, 0]);
    // The marker of the first transaction stands at offset 1.
    assert_eq!(writer.commit(vec![record("a.commits.v1", 0, "z")], Bytes::from("c2")).await.unwrap(), [2]);
    assert_eq!(writer.commit(Vec::new(), Bytes::from("c3")).await.unwrap(), Vec::<u64>::new());

    let mut again = bus.writer(&lane("commits")).await.unwrap();
    assert_eq!(again.open().await.unwrap(), Some(Bytes::from("c3")));
    let mut reader = bus.reader("a.commits.v1", 0, Some(&lane("commits").pipeline)).await.unwrap();
    reader.seek(0).await.unwrap();
    let records = read_to_end(&mut reader).await;
    assert_eq!(texts(&records), ["x", "z"]);
    assert_eq!(records[0].headers, [("mark".to_owned(), Bytes::from_static(b"1"))]);
    reader.note(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_earlier_owner_is_fenced_and_its_open_transaction_is_never_seen() {
    let bus = bus("fence").await;
    bus.ensure(&topic("a.fence.v1", 1)).await.unwrap();
    let mut first = bus.writer(&lane("fence")).await.unwrap();
    first.open().await.unwrap();
    first.commit(vec![record("a.fence.v1", 0, "before")], Bytes::from("1")).await.unwrap();
    let mut second = bus.writer(&lane("fence")).await.unwrap();
    assert_eq!(second.open().await.unwrap(), Some(Bytes::from("1")));
    let error = first.commit(vec![record("a.fence.v1", 0, "late")], Bytes::from("2")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    second.commit(vec![record("a.fence.v1", 0, "after")], Bytes::from("3")).await.unwrap();
    let mut reader = bus.reader("a.fence.v1", 0, None).await.unwrap();
    reader.seek(0).await.unwrap();
    assert_eq!(texts(&read_to_end(&mut reader).await), ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_waits_for_what_comes_and_may_be_dropped_while_it_waits() {
    let bus = bus("waits").await;
    bus.ensure(&topic("a.waits.v1", 1)).await.unwrap();
    let mut reader = bus.reader("a.waits.v1", 0, None).await.unwrap();
    reader.seek(0).await.unwrap();
    assert!(read_to_end(&mut reader).await.is_empty(), "an empty topic is caught up with at once");
    let dropped = tokio::time::timeout(Duration::from_millis(50), reader.next(1, 1)).await;
    assert!(dropped.is_err(), "nothing has come");
    let mut writer = bus.writer(&lane("waits")).await.unwrap();
    writer.open().await.unwrap();
    for text in ["1", "2", "3"] {
        writer.commit(vec![record("a.waits.v1", 0, text)], Bytes::from("c")).await.unwrap();
    }
    let mut found = Vec::new();
    while found.len() < 3 {
        found.extend(read_to_end(&mut reader).await);
    }
    assert_eq!(texts(&found), ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_or_future_position_is_said_to_be_lost() {
    let bus = bus("trim").await;
    bus.ensure(&topic("a.trim.v1", 1)).await.unwrap();
    let mut writer = bus.writer(&lane("trim")).await.unwrap();
    writer.open().await.unwrap();
    let records = (0..5).map(|i| record("a.trim.v1", 0, &i.to_string())).collect();
    writer.commit(records, Bytes::from("c")).await.unwrap();
    bus.delete_before("a.trim.v1", 0, 3).await.unwrap();
    // The end marker of the transaction may still be on its way, so the end itself is not asserted.
    assert_eq!(bus.extent("a.trim.v1").await.unwrap().unwrap()[&0].0, 3);
    let mut reader = bus.reader("a.trim.v1", 0, None).await.unwrap();
    for lost in [0, 2, 7] {
        assert_eq!(reader.seek(lost).await.unwrap_err().kind, ErrorKind::PositionLost, "{lost}");
    }
    reader.seek(3).await.unwrap();
    assert_eq!(texts(&read_to_end(&mut reader).await), ["3", "4"]);
    assert_eq!(bus.extent("a.nowhere.v1").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_trim_stops_at_the_base_and_at_the_history() {
    let bus = bus("history").await;
    bus.ensure(&topic("a.history.v1", 1)).await.unwrap();
    let mut writer = bus.writer(&lane("history")).await.unwrap();
    writer.open().await.unwrap();
    let records = |from: u32| (from..from + 4).map(|i| record("a.history.v1", 0, &i.to_string())).collect();
    writer.commit(records(0), Bytes::from("1")).await.unwrap();
    let now_us = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_micros()).unwrap()
    };
    let hour_us = 3_600_000_000;
    let trim = async |base, since_us| bus.trim("a.history.v1", 0, base, since_us).await.unwrap();

    assert_eq!(trim(3, now_us() - hour_us).await, 0, "all of it is younger than an hour");
    assert_eq!(trim(2, now_us() + hour_us).await, 2, "never past the base");
    assert_eq!(trim(1, now_us() + hour_us).await, 2, "never back");
    // The marker of the first transaction takes offset 4, with the time at which the broker writes it.
    while bus.extent("a.history.v1").await.unwrap().unwrap()[&0].1 < 5 {
        tokio::task::yield_now().await;
    }
    // Kafka keeps time in milliseconds: what is written from the next one on is younger.
    let between_us = now_us() + 1_000;
    while now_us() <= between_us + 1_000 {
        tokio::task::yield_now().await;
    }
    writer.commit(records(4), Bytes::from("2")).await.unwrap();
    let since = async |time_us| bus.since("a.history.v1", 0, time_us).await.unwrap();
    assert_eq!(
        (since(now_us() - hour_us).await, since(between_us).await),
        (2, 5),
        "what is kept, and what came since"
    );
    let (_, end) = bus.extent("a.history.v1").await.unwrap().unwrap()[&0];
    assert_eq!(since(now_us() + hour_us).await, end, "nothing was written so late");
    assert_eq!(trim(8, between_us).await, 5, "never into the history");
    assert_eq!(bus.extent("a.history.v1").await.unwrap().unwrap()[&0].0, 5);
    let mut reader = bus.reader("a.history.v1", 0, None).await.unwrap();
    reader.seek(5).await.unwrap();
    assert_eq!(texts(&read_to_end(&mut reader).await), ["4", "5", "6", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_of_a_topic_is_reported_and_not_mended_in_secret() {
    let bus = bus("drift").await;
    assert!(bus.ensure(&topic("a.drift.v1", 2)).await.unwrap().is_empty());
    assert!(bus.ensure(&topic("a.drift.v1", 2)).await.unwrap().is_empty());
    let drift = bus.ensure(&topic("a.drift.v1", 4)).await.unwrap();
    assert_eq!(drift, ["topic a.drift.v1 has 2 partitions, not 4"]);
    let compacted = TopicSpec { compacted: true, ..topic("a.drift.v1", 2) };
    let drift = bus.ensure(&compacted).await.unwrap();
    assert!(drift.iter().any(|d| d.contains("cleanup.policy=delete, not compact")), "{drift:?}");
    assert_eq!(checkpoint_topic("hutong", &lane("x").pipeline), "hutong.checkpoint.capture.x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_open_until_it_is_ended_and_has_its_place() {
    let bus = bus("open").await;
    bus.ensure(&topic("a.open.v1", 2)).await.unwrap();
    let open = async || bus.open_transactions("a.open.v1").await.unwrap();
    assert!(bus.open_transactions("a.nowhere.v1").await.unwrap().is_empty());
    let mut writer = bus.writer(&lane("open")).await.unwrap();
    writer.open().await.unwrap();
    writer.commit(vec![record("a.open.v1", 1, "x")], Bytes::from("c1")).await.unwrap();
    // The cluster answers a commit before its marker is written.
    while !open().await.is_empty() {}
    let kafka = Kafka::shared().await.unwrap();
    let mut settings = rdkafka::ClientConfig::new();
    settings.set("bootstrap.servers", kafka.bootstrap()).set("transactional.id", "stranger.of.open");
    let stranger: rdkafka::producer::BaseProducer = settings.create().unwrap();
    let patience = Duration::from_secs(30);
    stranger.init_transactions(patience).unwrap();
    stranger.begin_transaction().unwrap();
    let left: rdkafka::producer::BaseRecord<'_, [u8], [u8]> =
        rdkafka::producer::BaseRecord::to("a.open.v1").partition(1).payload(b"left");
    stranger.send(left).map_err(|(error, _)| error).unwrap();
    stranger.flush(patience).unwrap();

    // Behind the record and its marker.
    assert_eq!(open().await, [(1, 2)].into());
    writer.commit(vec![record("a.open.v1", 1, "y")], Bytes::from("c2")).await.unwrap();
    assert_eq!(open().await, [(1, 2)].into(), "what comes behind it does not move it");
    stranger.abort_transaction(patience).unwrap();
    while !open().await.is_empty() {}
}
