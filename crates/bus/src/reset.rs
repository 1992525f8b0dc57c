//! Starts a capture anew after its position was lost: a person accepts it, and a new base begins.
//!
//! Knows the checkpoint record and the ends of topics; what makes a source read everything again it is told.

use std::collections::BTreeMap;

use hutong_core::{Checkpoint, LaneId, Result};

use crate::log::{Log, checkpoint_topic};
use crate::registry::SchemaRegistry;
use crate::watermark::{self, Watermark, base_note, partition_key};

/// What a reset did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Where the capture stood before; empty when it had never committed.
    pub before: Checkpoint,
    /// `<topic>/<partition>` to the offset at which the new base begins.
    pub bases: BTreeMap<String, u64>,
}

/// Takes a capture's lane over and puts a checkpoint without positions in the place of its last one.
///
/// Earlier owners are shut out first. What the last checkpoint noted is gone; the new one holds what `notes` makes
/// of it, and where the topics end now as their bases. A topic that is not there gets its base when the capture
/// makes it. After `Err` the outcome is unknown, and the same call may be made again.
pub async fn reset(
    log: &dyn Log,
    registry: &dyn SchemaRegistry,
    bus: &str,
    lane: &LaneId,
    topics: &[String],
    notes: impl FnOnce(&Checkpoint) -> Result<BTreeMap<String, String>> + Send,
) -> Result<Reset> {
    let mut writer = log.writer(lane).await?;
    // Shuts earlier owners out; what they were writing has ended, so the ends below are the last.
    let last = writer.open().await?;
    let before = last.map(|record| Watermark::decode(&record)).transpose()?.unwrap_or_default();
    let mut next = Watermark { lane: lane.to_string(), ..Watermark::default() };
    next.checkpoint.notes = notes(&before.checkpoint)?;
    for topic in topics {
        for (partition, (_, end)) in log.extent(topic).await?.unwrap_or_default() {
            next.checkpoint.notes.insert(base_note(topic, partition), end.to_string());
            next.ends.insert(partition_key(topic, partition), end);
        }
    }
    let subject = format!("{}-value", checkpoint_topic(bus, &lane.pipeline));
    let schema = registry.register(&subject, watermark::SCHEMA).await?;
    writer.commit(Vec::new(), next.encode(schema)).await?;
    Ok(Reset { before: before.checkpoint, bases: next.ends })
}
