//! The receipts of a delivery's lanes: each stands in a topic of its own, in the transaction of what it proves (I2).
//!
//! What a store keeps in `hutong_receipt`, for lanes that have no store. Read by who publishes them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hutong_core::ledger::{Head, Kept, receipt};
use hutong_core::{Checkpoint, Error, ErrorKind, LaneId, PipelineId, Result};

use crate::log::{Incoming, Log, Outgoing, TopicSpec};
use crate::receipts::walk_between;
use crate::topic_sink::now_us;

/// Of how many receipts the place of one is remembered.
const STRIDE: u64 = 256;

/// Returns the name of the topic in which the lanes of a delivery leave their receipts: one partition a lane.
pub(crate) fn topic(bus: &str, pipeline: &PipelineId) -> String {
    format!("{bus}.proof.{pipeline}")
}

/// Returns how the topic is made.
pub(crate) fn spec(topic: &str, partitions: u32) -> TopicSpec {
    TopicSpec { name: topic.to_owned(), partitions, compacted: false }
}

/// The note of a lane's checkpoint that counts what it has written into the present topic, under a ledger: what a recall
/// takes away. It goes with that topic.
const WRITTEN: &str = "delivery.written";

/// Returns how many records a lane has written into the present topic.
pub(crate) fn written(checkpoint: &Checkpoint) -> u64 {
    checkpoint.note(WRITTEN).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Notes a receipt as the last of the lane's chain, and what it says was written; returns the record that keeps it.
pub(crate) fn leave(topic: &Arc<str>, partition: u32, kept: &Kept, next: &mut Checkpoint) -> Outgoing {
    next.notes.insert(receipt::NOTE.into(), kept.proof.head().to_string());
    if !kept.proof.is_of_recall() {
        let count = written(next) + kept.written + kept.deleted;
        next.notes.insert(WRITTEN.into(), count.to_string());
    }
    let value = serde_json::to_vec(kept).expect("texts and numbers print");
    let topic = Arc::clone(topic);
    Outgoing { topic, partition, key: None, value: Some(value.into()), headers: Vec::new() }
}

/// Reads the receipts of one delivery. Reads only, but for [`Proofs::forget`].
pub struct Proofs {
    log: Arc<dyn Log>,
    topic: String,
    pipeline: PipelineId,
    /// Partition to how far it was read.
    tails: BTreeMap<u32, Tail>,
}

/// How far a partition was read.
#[derive(Default)]
struct Tail {
    /// The offset up to which it was read.
    next: u64,
    head: Option<Head>,
    /// Of some receipts where they stand, by their number in the chain.
    places: BTreeMap<u64, u64>,
}

impl Proofs {
    /// Makes the reader of a delivery's receipts; touches nothing.
    pub fn new(log: Arc<dyn Log>, bus: &str, pipeline: PipelineId) -> Self {
        Self { log, topic: topic(bus, &pipeline), pipeline, tails: BTreeMap::new() }
    }

    /// Returns the head of each lane's chain; nothing of a lane that has left no receipt, or whose receipts are forgotten.
    pub async fn heads(&mut self) -> Result<BTreeMap<String, Head>> {
        let partitions = self.log.extent(&self.topic).await?.unwrap_or_default();
        let mut heads = BTreeMap::new();
        for (partition, (first, end)) in partitions {
            let tail = self.tails.entry(partition).or_default();
            if tail.next > end {
                // It is another topic than the one that was read.
                *tail = Tail::default();
            }
            let (topic, stretch) = (&self.topic, first.max(tail.next)..end);
            let next = walk_between(self.log.as_ref(), topic, partition, stretch, |record| {
                let kept = read(topic, record)?;
                if kept.proof.sequence.is_multiple_of(STRIDE) || tail.places.is_empty() {
                    tail.places.insert(kept.proof.sequence, record.offset);
                }
                tail.head = Some(kept.proof.head());
                Ok(true)
            });
            // Behind the markers too: else a rest in which nothing is committed looks like something new.
            tail.next = next.await?.min(end);
            if let Some(head) = tail.head {
                heads.insert(LaneId::new(self.pipeline.clone(), partition).to_string(), head);
            }
        }
        Ok(heads)
    }

    /// Returns the receipts of a lane that have this number in its chain or a later one, in their order.
    pub async fn since(&mut self, lane: &str, sequence: u64, limit: usize) -> Result<Vec<Kept>> {
        let mut found = Vec::new();
        let Some(partition) = self.pipeline.partition(lane) else { return Ok(found) };
        let (topic, stretch) = (&self.topic, self.kept(partition, sequence).await?);
        walk_between(self.log.as_ref(), topic, partition, stretch, |record| {
            let kept = read(topic, record)?;
            if kept.proof.sequence >= sequence && found.len() < limit {
                found.push(kept);
            }
            Ok(found.len() < limit)
        })
        .await?;
        Ok(found)
    }

    /// Forgets the receipts of a lane up to this number in its chain; returns how many.
    pub async fn forget(&mut self, lane: &str, sequence: u64) -> Result<u64> {
        let Some(partition) = self.pipeline.partition(lane) else { return Ok(0) };
        let (topic, stretch) = (&self.topic, self.kept(partition, 0).await?);
        let (mut base, mut forgotten) = (None, 0);
        walk_between(self.log.as_ref(), topic, partition, stretch, |record| {
            let over = read(topic, record)?.proof.sequence > sequence;
            base = Some(record.offset + u64::from(!over));
            forgotten += u64::from(!over);
            Ok(!over)
        })
        .await?;
        if let Some(base) = base.filter(|_| forgotten > 0) {
            self.log.trim(topic, partition, base, now_us()).await?;
        }
        Ok(forgotten)
    }

    /// Returns what the topic keeps of a partition, from a place that is not behind a receipt.
    async fn kept(&self, partition: u32, sequence: u64) -> Result<Range<u64>> {
        let extent = self.log.extent(&self.topic).await?.unwrap_or_default();
        let (first, end) = extent.get(&partition).copied().unwrap_or_default();
        let places = self.tails.get(&partition).map(|tail| &tail.places);
        let place = places.and_then(|places| places.range(..=sequence).next_back());
        Ok(first.max(place.map_or(0, |(_, offset)| *offset))..end)
    }
}

fn read(topic: &str, record: &Incoming) -> Result<Kept> {
    let bytes = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(bytes).map_err(|e| {
        let doing = format!("read the receipt at offset {} of {topic}", record.offset);
        Error::caused(ErrorKind::Broken, doing, e).hint("run the version of Hutong that wrote it")
    })
}
