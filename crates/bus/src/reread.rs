//! Lets a capture read some of its tables again, from where it stands; its other tables notice nothing.
//!
//! Knows the checkpoint record and the topics; what makes a source read a table again it is told.

use std::collections::{BTreeMap, BTreeSet};

use hutong_core::{Checkpoint, Error, ErrorKind, LaneId, Result};

use crate::log::{Log, checkpoint_topic};
use crate::quarantine::stem;
use crate::registry::SchemaRegistry;
use crate::watermark::{self, Watermark, base_note, incarnation_note, partition_key};

/// Takes a capture's lane over and notes in its checkpoint what makes it read tables again; its positions stay.
///
/// `topics` are those of the tables, as they are configured now. Of another generation of such a topic the capture
/// writes nothing more: it is forgotten, so that the configured one may begin, and returned. Earlier owners are shut
/// out first. `Err(PositionLost)` when the capture has never committed; after another `Err` the outcome is unknown,
/// and the same call may be made again.
pub async fn reread(
    log: &dyn Log,
    registry: &dyn SchemaRegistry,
    bus: &str,
    lane: &LaneId,
    topics: &[String],
    notes: impl FnOnce(&Checkpoint) -> Result<BTreeMap<String, String>> + Send,
) -> Result<BTreeSet<String>> {
    let mut writer = log.writer(lane).await?;
    let Some(last) = writer.open().await? else {
        return Err(Error::new(
            ErrorKind::Config,
            format!("read tables of {} again", lane.pipeline),
            "it has not read any table yet",
        )
        .hint("`hutong run` reads them"));
    };
    let mut next = Watermark::decode(&last)?;
    let retired: BTreeSet<String> = begun(&next.checkpoint)
        .filter(|known| topics.iter().any(|topic| topic != known && stem(topic) == stem(known)))
        .map(str::to_owned)
        .collect();
    for topic in &retired {
        forget(&mut next, topic);
    }
    next.checkpoint.notes.extend(notes(&next.checkpoint)?);
    let subject = format!("{}-value", checkpoint_topic(bus, &lane.pipeline));
    let schema = registry.register(&subject, watermark::SCHEMA).await?;
    writer.commit(Vec::new(), next.encode(schema)).await?;
    Ok(retired)
}

/// Returns the topics that have a base, once for each partition.
fn begun(checkpoint: &Checkpoint) -> impl Iterator<Item = &str> {
    let partitions = checkpoint.notes.keys().filter_map(|name| name.strip_prefix("base.")?.rsplit_once('/'));
    partitions.map(|(topic, _)| topic)
}

/// Takes out what is noted of a topic.
fn forget(watermark: &mut Watermark, topic: &str) {
    let partitions = (0..).take_while(|p| watermark.checkpoint.note(&base_note(topic, *p)).is_some());
    for partition in partitions.collect::<Vec<u32>>() {
        watermark.checkpoint.notes.remove(&base_note(topic, partition));
        watermark.ends.remove(&partition_key(topic, partition));
    }
    for name in [incarnation_note(topic), format!("schema.{topic}"), format!("contract.{topic}")] {
        watermark.checkpoint.notes.remove(&name);
    }
}
