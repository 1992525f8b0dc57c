//! A bus in a folder with one stream, and changes for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{
    Batch, Before, Behind, Change, Checkpoint, Contract, Delta, Error, ErrorKind, Kind, LaneId, Op, Origin,
    PipelineId, Place, Position, Result, Sink, Source, Transaction, Value,
};
use tempfile::TempDir;

use crate::embedded;
use crate::log::{Extent, Incoming, Log, Outgoing, Reader, TopicSpec, Trim, Writer, checkpoint_topic};
use crate::registry::SchemaRegistry;
use crate::{Limits, TopicSink, TopicSinkConfig, TopicSource, TopicSourceConfig, TopicStream};

pub(super) const TOPIC: &str = "gongan.person.v1";
pub(super) const PARTITIONS: u32 = 3;

/// A folder with a bus and a registry.
pub(super) struct Office {
    pub(super) log: Arc<dyn Log>,
    pub(super) registry: Arc<dyn SchemaRegistry>,
    pub(super) contract: Arc<Contract>,
    /// Whether the next commit is done but its answer lost.
    pub(super) lose: Arc<AtomicBool>,
    /// Whether somebody has deleted the topics and made them again before the next commit.
    pub(super) anew: Arc<AtomicBool>,
    _folder: TempDir,
}

impl Office {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let bus = embedded::Bus::open(folder.path(), embedded::Options::default()).unwrap();
        let registry = Arc::new(embedded::Registry::new(Arc::clone(&bus)));
        let lose = Arc::new(AtomicBool::new(false));
        let anew = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Lossy { log: bus, lose: Arc::clone(&lose), anew: Arc::clone(&anew) });
        let contract = Contract::parse(
            r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
                {"name":"id","type":"long"},
                {"name":"name","type":["null",{"type":"string","length":4}]}]}"#,
        );
        Self { log, registry, contract: contract.unwrap().shared(), lose, anew, _folder: folder }
    }

    pub(super) fn sink(&self) -> TopicSink {
        self.sink_into(TOPIC, None)
    }

    /// Returns a sink of the same stream into a topic of a person's choice.
    pub(super) fn sink_into(&self, topic: &str, compatibility: Option<&str>) -> TopicSink {
        let stream = TopicStream {
            contract: Arc::clone(&self.contract),
            topic: topic.into(),
            partitions: PARTITIONS,
            partition: None,
            compatibility: compatibility.map(str::to_owned),
            readers: Vec::new(),
            anew: Default::default(),
        };
        let config = TopicSinkConfig { bus: "hutong".into(), streams: vec![stream], history: Duration::ZERO };
        TopicSink::new(Arc::clone(&self.log), Arc::clone(&self.registry), config)
    }

    pub(super) fn source(&self, partition: u32) -> TopicSource {
        self.source_of(partition, Some(checkpoint_topic("hutong", &lane().pipeline)))
    }

    /// Returns a source of the same topic as if another program wrote it.
    pub(super) fn foreign_source(&self, partition: u32) -> TopicSource {
        self.source_of(partition, None)
    }

    fn source_of(&self, partition: u32, checkpoint_topic: Option<String>) -> TopicSource {
        let config = TopicSourceConfig {
            topic: TOPIC.into(),
            partition,
            contract: Arc::clone(&self.contract),
            checkpoint_topic,
            pipeline: Some(PipelineId::new(Kind::Replicate, "renshe")),
            foreign_before_full: false,
            limits: Limits { watermark_interval: Duration::ZERO, ..Limits::default() },
        };
        TopicSource::new(Arc::clone(&self.log), Arc::clone(&self.registry), config)
    }

    /// A change of the person `id`, at `step` of the capture.
    pub(super) fn change(&self, step: u64, op: Op, id: i64, name: &str) -> Change {
        let row = vec![Value::Integer(id), Value::text(name)];
        let (before, after) = match op {
            Op::Delete => (Before::Key(self.contract.key_row(&row[..1])), None),
            Op::Truncate => (Before::None, None),
            _ => (Before::None, Some(row)),
        };
        Change {
            contract: Arc::clone(&self.contract),
            op,
            before,
            after,
            position: Position::wal(0, step, 0, 0),
            source_position: Position::wal(0, step, 0, 0),
            origin: Origin {
                place: Arc::new(Place { connector: "postgresql".into(), ..Place::default() }),
                committed_us: step as i64,
                xid: Some(step),
                lsn: Some(step),
                transaction: Some(Transaction { id: step.to_string().into(), order: 1, stream_order: 1 }),
                last: true,
            },
        }
    }
}

/// Returns every record of a partition.
pub(super) async fn records(office: &Office, topic: &str, partition: u32) -> Vec<Incoming> {
    let (first, end) = office.log.extent(topic).await.unwrap().unwrap()[&partition];
    let mut reader = office.log.reader(topic, partition, None).await.unwrap();
    reader.seek(first).await.unwrap();
    let mut records = Vec::new();
    while records.last().map_or(first, |r: &Incoming| r.offset + 1) < end {
        records.extend(reader.next(100, 1 << 20).await.unwrap().records);
    }
    records
}

/// Reads until nothing more comes for a while, moving a checkpoint as the engine does.
pub(super) async fn drain(source: &mut TopicSource, checkpoint: &mut Checkpoint) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(400), source.next()).await {
        let batch = next?.unwrap();
        checkpoint.advance(&batch.delta).unwrap();
        source.ack(checkpoint).await.unwrap();
        batches.push(batch);
    }
    Ok(batches)
}

/// The capture's lane.
pub(super) fn lane() -> LaneId {
    LaneId::new(PipelineId::new(Kind::Capture, "gongan"), 0)
}

/// A batch of the capture's step from one place to the next, complete to `complete_to_us`.
pub(super) fn batch(from: u64, to: u64, changes: Vec<Change>, complete_to_us: i64) -> Batch {
    let place = |step| if step == 0 { Position::START } else { Position::wal(0, step, 0, 0) };
    Batch {
        changes,
        delta: Delta::range("wal", place(from), place(to)),
        behind: Behind { count: Some(0), bytes: None, complete_to_us: Some(complete_to_us) },
        ..Batch::default()
    }
}

/// Opens a sink for the capture's lane.
pub(super) async fn opened(office: &Office) -> (TopicSink, Checkpoint) {
    let mut sink = office.sink();
    let checkpoint = sink.open(&lane()).await.unwrap();
    (sink, checkpoint)
}

/// A bus whose commits may lose their answer, and whose topics may begin anew.
struct Lossy {
    log: Arc<dyn Log>,
    lose: Arc<AtomicBool>,
    anew: Arc<AtomicBool>,
}

struct LossyWriter {
    writer: Box<dyn Writer>,
    lose: Arc<AtomicBool>,
    anew: Arc<AtomicBool>,
}

#[async_trait]
impl Trim for Lossy {
    async fn since(&self, topic: &str, partition: u32, since_us: i64) -> Result<u64> {
        self.log.since(topic, partition, since_us).await
    }

    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64> {
        self.log.trim(topic, partition, base, since_us).await
    }

    async fn delete(&self, topic: &str) -> Result<bool> {
        self.log.delete(topic).await
    }
}

#[async_trait]
impl Log for Lossy {
    async fn ensure(&self, topic: &TopicSpec) -> Result<Vec<String>> {
        self.log.ensure(topic).await
    }

    async fn extent(&self, topic: &str) -> Result<Option<Extent>> {
        self.log.extent(topic).await
    }

    async fn writer(&self, lane: &LaneId) -> Result<Box<dyn Writer>> {
        let writer = self.log.writer(lane).await?;
        Ok(Box::new(LossyWriter { writer, lose: Arc::clone(&self.lose), anew: Arc::clone(&self.anew) }))
    }

    async fn reader(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&PipelineId>,
    ) -> Result<Box<dyn Reader>> {
        self.log.reader(topic, partition, group).await
    }
}

#[async_trait]
impl Writer for LossyWriter {
    async fn open(&mut self) -> Result<Option<Bytes>> {
        self.writer.open().await
    }

    async fn commit(&mut self, records: Vec<Outgoing>, checkpoint: Bytes) -> Result<Vec<u64>> {
        let offsets = self.writer.commit(records, checkpoint).await?;
        if self.lose.swap(false, Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unknown, "commit", "the answer is lost"));
        }
        if self.anew.swap(false, Ordering::Relaxed) {
            return Ok(vec![0; offsets.len()]);
        }
        Ok(offsets)
    }
}
