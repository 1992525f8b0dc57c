//! Topics as a sink: what a reader of them finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hutong_bus::log::{Incoming, Log, Outgoing, Writer};
use hutong_bus::{Decoder, Outcome, TopicSink, TopicSinkConfig, TopicStream};
use hutong_core::{Batch, Contract, ErrorKind, Kind, LaneId, PipelineId, Sink, Type, Value};
use hutong_testkit::conformance::{Fate, Seen, SinkSite, Step, Table};
use tokio::sync::Mutex;

use crate::bus::Bus;
use crate::lossy::Lossy;

const PARTITIONS: u32 = 3;

/// The topic of one stream on a bus, with its quarantine.
pub(crate) struct Topics<B> {
    bus: B,
    contract: Arc<Contract>,
    lose: Arc<AtomicBool>,
    /// Writes the marks.
    marker: Mutex<Option<Box<dyn Writer>>>,
}

impl<B: Bus> Topics<B> {
    /// Returns every record of some partitions that was committed before this call; the topics are there.
    ///
    /// A broker may answer a commit before its readers see it. So a mark is committed behind it and read up to.
    async fn records(&self, places: &[(String, u32)]) -> Vec<Vec<Incoming>> {
        let log = self.bus.log();
        let marks = places.iter().map(|(topic, partition)| Outgoing {
            topic: topic.as_str().into(),
            partition: *partition,
            key: Some(Bytes::from_static(b"mark")),
            value: None,
            headers: Vec::new(),
        });
        let mut marker = self.marker.lock().await;
        if marker.is_none() {
            let lane = LaneId::new(PipelineId::new(Kind::Capture, "mark"), 0);
            let mut writer = log.writer(&lane).await.unwrap();
            writer.open().await.unwrap();
            *marker = Some(writer);
        }
        let writer = marker.as_mut().unwrap();
        let marks = writer.commit(marks.collect(), Bytes::from_static(b"mark")).await.unwrap();
        let reads = places.iter().zip(marks).map(async |((topic, partition), mark)| {
            let mut reader = log.reader(topic, *partition, None).await.unwrap();
            reader.seek(0).await.unwrap();
            let mut records = Vec::new();
            while records.last().is_none_or(|record: &Incoming| record.offset < mark) {
                records.extend(reader.next(5_000, 4 << 20).await.unwrap().records);
            }
            records.retain(|record| record.value.is_some());
            records
        });
        futures_util::future::join_all(reads).await
    }
}

/// Returns the topic of the one stream.
pub(crate) fn topic<B: Bus>(bus: &B, contract: &Contract) -> String {
    format!("{}.{}.v1", bus.name(), contract.stream)
}

/// Returns a sink of the one stream.
pub(crate) fn sink<B: Bus>(
    bus: &B,
    log: Arc<dyn Log>,
    contract: &Arc<Contract>,
    partitions: u32,
) -> TopicSink {
    let topic = topic(bus, contract);
    let stream = TopicStream {
        partition: None,
        contract: Arc::clone(contract),
        topic,
        partitions,
        compatibility: None,
        readers: Vec::new(),
        anew: BTreeMap::new(),
    };
    let history = Duration::from_secs(30 * 86_400);
    let config = TopicSinkConfig { bus: bus.name().into(), streams: vec![stream], history };
    TopicSink::new(log, bus.registry(), config)
}

impl<B: Bus> SinkSite for Topics<B> {
    async fn fresh(contract: &Arc<Contract>) -> Self {
        let (bus, contract) = (B::fresh().await, Arc::clone(contract));
        Self { bus, contract, lose: Arc::default(), marker: Mutex::default() }
    }

    fn sink(&self) -> Box<dyn Sink> {
        let log = Arc::new(Lossy { log: self.bus.log(), lose: Arc::clone(&self.lose) });
        Box::new(sink(&self.bus, log, &self.contract, PARTITIONS))
    }

    async fn seen(&self) -> Seen {
        let topic = topic(&self.bus, &self.contract);
        let quarantine = hutong_bus::quarantine::topic(&topic);
        let mut places: Vec<_> = (0..PARTITIONS).map(|partition| (topic.clone(), partition)).collect();
        if self.bus.log().extent(&quarantine).await.unwrap().is_some() {
            places.push((quarantine.clone(), 0));
        }
        let mut seen = Seen { rows: Vec::new(), taken: 0, quarantined: 0 };
        for ((found, _), records) in places.iter().zip(self.records(&places).await) {
            if *found == quarantine {
                seen.quarantined += records.len() as u64;
                continue;
            }
            let mut decoder = Decoder::new(self.bus.registry(), Arc::clone(&self.contract));
            decoder.learn(&records).await.unwrap();
            // A truncate is one record in every partition, and each lane removes its own rows.
            let mut table = Table::new(&self.contract);
            for record in &records {
                let Outcome::Change(change) = decoder.decode(record) else { panic!("a change: {record:?}") };
                table.step(Step::of(&change));
            }
            seen.rows.extend(table.rows());
            seen.taken += records.len() as u64;
        }
        seen
    }

    async fn commit_unheard(&self, sink: &mut dyn Sink, batch: &Batch) {
        self.lose.store(true, Ordering::SeqCst);
        let error = sink.commit(batch).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unknown, "{error}");
    }

    fn fate(_: &Type, value: &Value) -> Fate {
        if holds(value) { Fate::Carried } else { Fate::Refused }
    }
}

/// States whether an envelope holds a value: an instant has four digits for its year, from 1 on.
pub(crate) fn holds(value: &Value) -> bool {
    match value {
        Value::TimestampTz(us) => (-62_135_596_800_000_000..253_402_300_800_000_000).contains(us),
        _ => true,
    }
}
