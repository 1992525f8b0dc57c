//! What both buses can do: topics, transactional writing, committed reading. Bytes only, no schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{LaneId, PipelineId, Result};

/// The largest record that a topic takes on either bus, in bytes: its key, its value and what frames them.
pub const RECORD_LIMIT_BYTES: usize = 16 << 20;

/// What is kept free of it for the framing of a record and its batch.
const FRAME_BYTES: usize = 4 << 10;

/// The header that carries Hutong's own marks on a record: names and bytes.
pub type Headers = Vec<(String, Bytes)>;

/// A topic as Hutong wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// Whether only the last record of a key is kept. Change topics never are; checkpoint topics always.
    pub compacted: bool,
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; the writer of the record has decided it.
    pub partition: u32,
    /// The key's bytes.
    pub key: Option<Bytes>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}

impl Outgoing {
    /// Returns how many bytes its key and its value have.
    pub fn len_bytes(&self) -> usize {
        [&self.key, &self.value].into_iter().flatten().map(Bytes::len).sum()
    }

    /// States whether a topic takes it; one that is larger would be refused with its whole transaction.
    pub fn fits(&self) -> bool {
        self.len_bytes() <= RECORD_LIMIT_BYTES - FRAME_BYTES
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Its offset.
    pub offset: u64,
    /// When it was written, microseconds since 1970 UTC.
    pub written_us: i64,
    /// The key's bytes.
    pub key: Option<Bytes>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Headers,
}

/// What one read returned.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The committed records, in order. May be empty: a stretch of aborted records or markers was passed.
    pub records: Vec<Incoming>,
    /// The offset to read next: everything before it was returned, aborted, or is a marker.
    pub next: u64,
    /// The end of what is committed, as last seen; `next == end` means that the reader has caught up.
    pub end: u64,
}

/// Returns the name of the compacted topic that holds a pipeline's checkpoints: one partition a lane.
pub fn checkpoint_topic(bus: &str, pipeline: &PipelineId) -> String {
    format!("{bus}.checkpoint.{pipeline}")
}

/// Partition to the half-open range of offsets that it holds: the first kept, and the end.
pub type Extent = BTreeMap<u32, (u64, u64)>;

/// What a bus can forget, and where a time begins.
#[async_trait]
pub trait Trim: Send + Sync {
    /// Returns the offset of a partition's first record that was written at a time (microseconds since 1970 UTC) or
    /// later, and the end when there is none. Kafka counts milliseconds: there it may be an earlier one.
    async fn since(&self, topic: &str, partition: u32, since_us: i64) -> Result<u64>;

    /// Forgets the records of a partition before `base` and before its first record that was written at `since_us`
    /// (microseconds since 1970 UTC) or later. Returns the first offset that is kept, which never moves back.
    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64>;

    /// Forgets a topic with all that it holds; `false` when there is none. After `Err` it may be called again.
    async fn delete(&self, topic: &str) -> Result<bool>;
}

/// A bus: topics by name. Cheap to clone behind its `Arc`.
#[async_trait]
pub trait Log: Trim {
    /// Creates the topic when it is missing. Returns what differs from the wish on one that exists already
    /// (partitions, replication, settings), in words; empty when nothing differs.
    async fn ensure(&self, topic: &TopicSpec) -> Result<Vec<String>>;

    /// Returns the extent of each partition; `None` when there is no such topic.
    async fn extent(&self, topic: &str) -> Result<Option<Extent>>;

    /// Returns the partitions of a topic in which a transaction is open now, each with the offset of its first record:
    /// a reader of committed records waits there. A bus without transactions of strangers has none.
    async fn open_transactions(&self, topic: &str) -> Result<BTreeMap<u32, u64>> {
        let _ = topic;
        Ok(BTreeMap::new())
    }

    /// Makes the transactional writer of a lane. It touches nothing before [`Writer::open`].
    async fn writer(&self, lane: &LaneId) -> Result<Box<dyn Writer>>;

    /// Makes a reader of one partition. `group` names the pipeline for tools that watch group lag.
    async fn reader(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&PipelineId>,
    ) -> Result<Box<dyn Reader>>;
}

/// The one writer of a lane.
#[async_trait]
pub trait Writer: Send {
    /// Takes the lane over: shuts earlier writers out, waits until their transactions have ended, and
    /// returns the value of the lane's last committed checkpoint record.
    async fn open(&mut self) -> Result<Option<Bytes>>;

    /// Writes the records and the lane's checkpoint record in one transaction (I2), and returns the offset
    /// that each record got, in their order.
    ///
    /// After `Err` the outcome is unknown: call [`Writer::open`].
    async fn commit(&mut self, records: Vec<Outgoing>, checkpoint: Bytes) -> Result<Vec<u64>>;
}

/// A reader of the committed records of one partition.
#[async_trait]
pub trait Reader: Send {
    /// Starts to read at an offset. `Err(PositionLost)` when it is trimmed or beyond the end.
    async fn seek(&mut self, offset: u64) -> Result<()>;

    /// Waits until there is something behind the current place, then returns up to about `limit` records
    /// or `limit_bytes`, whichever comes first. Cancel safe.
    async fn next(&mut self, limit: usize, limit_bytes: usize) -> Result<Fetched>;

    /// Tells group-lag tools how far the pipeline is; never read back.
    async fn note(&mut self, next: u64) -> Result<()> {
        let _ = next;
        Ok(())
    }
}
