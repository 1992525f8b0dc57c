//! What each commit of a delivery says of itself, under a ledger: one more record of its transaction (I2).

use std::sync::Arc;

use hutong_core::ledger::{Kept, Proof};
use hutong_core::{Batch, Checkpoint, LaneId, Op, Result};

use super::{TopicSink, now_us};
use crate::delivery::proofs;
use crate::log::Outgoing;

/// Under which grant a lane commits, and where it says so.
pub(super) struct Proving {
    grant: u64,
    topic: Arc<str>,
    partition: u32,
}

impl TopicSink {
    /// Lets each commit leave a receipt under this grant of the ledger, from the next [`hutong_core::Sink::open`] on.
    #[must_use]
    pub fn proving(mut self, grant: Option<u64>) -> Self {
        self.proving = grant.map(|grant| Proving { grant, topic: "".into(), partition: 0 });
        self
    }

    /// Makes the topic in which the lane's receipts are kept.
    pub(super) async fn make_proof_room(&mut self, lane: &LaneId) -> Result<()> {
        let Some(proving) = &mut self.proving else { return Ok(()) };
        let topic = proofs::topic(&self.config.bus, &lane.pipeline);
        let lanes = self.config.streams.iter().map(|stream| stream.partitions).max().unwrap_or(1);
        for drift in self.log.ensure(&proofs::spec(&topic, lanes)).await? {
            tracing::warn!(topic, drift, "a topic of receipts is not as it should be");
        }
        (proving.topic, proving.partition) = (topic.into(), lane.partition);
        Ok(())
    }

    /// Proves a batch: returns the record, and notes the head of the lane's chain. `refused`: how many changes of it
    /// could not be written.
    pub(super) fn prove(&self, next: &mut Checkpoint, batch: &Batch, refused: u64) -> Option<Outgoing> {
        let proving = self.proving.as_ref()?;
        let proof = Proof::of(&self.lane, proving.grant, &self.checkpoint, batch)?;
        let deleted = batch.changes.iter().filter(|change| change.op == Op::Delete).count() as u64;
        let written = batch.changes.iter().filter(|change| change.after.is_some()).count() as u64;
        let kept = Kept {
            written: written.saturating_sub(refused),
            deleted,
            quarantined: batch.rejected.len() as u64 + refused,
            at_us: now_us(),
            proof,
        };
        Some(proofs::leave(&proving.topic, proving.partition, &kept, next))
    }
}
