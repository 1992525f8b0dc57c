//! Lets a capture read some of its tables again, from where it stands; its other tables notice nothing.
//!
//! Knows the checkpoint record and the topics; what makes a source read a table again it is told.

use std::collections::{BTreeMap, BTreeSet};

use hutong_core::{Checkpoint, Error, ErrorKind, LaneId, Result};

use crate::base;
use crate::log::{Log, checkpoint_topic};
use crate::registry::SchemaRegistry;
use crate::succession;
use crate::watermark::{self, Watermark, base_note, incarnation_note, partition_key, schema_note};

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
    let mut retired = BTreeSet::new();
    for topic in topics {
        retired.extend(retire(&mut next.checkpoint, &mut next.ends, topic));
    }
    next.checkpoint.notes.extend(notes(&next.checkpoint)?);
    let subject = format!("{}-value", checkpoint_topic(bus, &lane.pipeline));
    let schema = registry.register(&subject, watermark::SCHEMA).await?;
    writer.commit(Vec::new(), next.encode(schema)).await?;
    Ok(retired)
}

/// Returns the other generations of a topic that have a base, which [`reread`] would forget.
pub fn others(checkpoint: &Checkpoint, topic: &str) -> BTreeSet<String> {
    base::others(checkpoint, topic).map(str::to_owned).collect()
}

/// Forgets the other generations of a topic, into which a capture writes no more; returns them.
///
/// I3: else a person who goes back to one would find its base, and nothing would tell that it lacks what came since.
pub(crate) fn retire(
    checkpoint: &mut Checkpoint,
    ends: &mut BTreeMap<String, u64>,
    topic: &str,
) -> BTreeSet<String> {
    let others = others(checkpoint, topic);
    for other in &others {
        for partition in (0..).take_while(|p| checkpoint.notes.remove(&base_note(other, *p)).is_some()) {
            ends.remove(&partition_key(other, partition));
        }
        for name in [incarnation_note(other), schema_note(other), succession::note_name(other)] {
            checkpoint.notes.remove(&name);
        }
    }
    others
}
