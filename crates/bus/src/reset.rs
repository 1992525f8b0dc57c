//! Starts a capture anew after its position was lost: a person accepts it, and a new base begins.
//!
//! Knows the checkpoint record and the ends of topics; what makes a source read everything again it is told.

use std::collections::BTreeMap;

use hutong_core::{Checkpoint, LaneId, Loss, Result, loss};

use crate::base;
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
/// of it, and where the topics end now as their bases: readers of a topic that is whole go on in it and pass what
/// the source sends first, new ones begin there. A topic that is not there gets its base when the capture makes it.
/// When and why a person has accepted it, `accepted` says; it joins the losses of before, with what is given up (I3).
/// After `Err` the outcome is unknown, and the same call may be made again.
pub async fn reset(
    log: &dyn Log,
    registry: &dyn SchemaRegistry,
    bus: &str,
    lane: &LaneId,
    topics: &[String],
    accepted: Loss,
    notes: impl FnOnce(&Checkpoint) -> Result<BTreeMap<String, String>> + Send,
) -> Result<Reset> {
    let mut writer = log.writer(lane).await?;
    // Shuts earlier owners out; what they were writing has ended, so the ends below are the last.
    let last = writer.open().await?;
    let before = last.map(|record| Watermark::decode(&record)).transpose()?.unwrap_or_default();
    let mut next = Watermark { lane: lane.to_string(), ..Watermark::default() };
    next.checkpoint.notes = notes(&before.checkpoint)?;
    for topic in topics {
        let found = log.extent(topic).await?;
        // Of a topic that is whole, readers may go on; any other begins anew, and they must not.
        let written = |p: u32| before.ends.get(&partition_key(topic, p)).copied().unwrap_or_default();
        if found.iter().flatten().all(|(p, (_, end))| *end >= written(*p)) {
            next.checkpoint.notes.extend(base::kept(&before.checkpoint, topic, found.as_ref()));
        }
        for (partition, (_, end)) in found.unwrap_or_default() {
            next.checkpoint.notes.insert(base_note(topic, partition), end.to_string());
            next.ends.insert(partition_key(topic, partition), end);
        }
    }
    let lost = Loss {
        positions: before.checkpoint.positions.clone(),
        bases: base::all(&before.checkpoint),
        begins: next.ends.clone(),
        ..accepted
    };
    next.checkpoint.notes.insert(loss::NOTE.into(), before.checkpoint.with_loss(lost));
    let subject = format!("{}-value", checkpoint_topic(bus, &lane.pipeline));
    let schema = registry.register(&subject, watermark::SCHEMA).await?;
    writer.commit(Vec::new(), next.encode(schema)).await?;
    Ok(Reset { before: before.checkpoint, bases: next.ends })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hutong_core::{Kind, PipelineId, Position};
    use tempfile::TempDir;

    use super::*;
    use crate::embedded::{Bus, Options, Registry};
    use crate::log::TopicSpec;
    use crate::watermark::incarnation_note;

    /// Resets a capture whose checkpoint says that its topics `whole`, `cut` and `gone` end at 3 or later, on a bus
    /// where only `whole` does; returns what stands then.
    async fn reset_of(checkpoint: Option<Checkpoint>) -> (Reset, Watermark) {
        let folder = TempDir::new().unwrap();
        let bus = Bus::open(folder.path(), Options::default()).unwrap();
        let registry = Registry::new(Arc::clone(&bus));
        let lane = LaneId::new(PipelineId::new(Kind::Capture, "gongan"), 0);
        let topics = ["whole", "cut", "gone"].map(str::to_owned);
        for name in &topics[..2] {
            let spec = TopicSpec { name: name.clone(), partitions: 1, compacted: false };
            bus.ensure(&spec).await.unwrap();
        }
        let mut writer = bus.writer(&lane).await.unwrap();
        writer.open().await.unwrap();
        if let Some(checkpoint) = checkpoint {
            let record = crate::log::Outgoing {
                topic: "whole".into(),
                partition: 0,
                key: None,
                value: Some("x".into()),
                headers: Vec::new(),
            };
            let ends = topics.iter().map(|topic| (partition_key(topic, 0), 3)).collect();
            let before = Watermark { lane: lane.to_string(), checkpoint, as_of_us: Some(7), ends };
            writer.commit(vec![record; 4], before.encode(1)).await.unwrap();
        }
        let notes = |_: &Checkpoint| Ok(BTreeMap::from([("era".to_owned(), "1".to_owned())]));
        let accepted = Loss { at: "2026-01-01T00:00:00Z".into(), reason: "恢复".into(), ..Loss::default() };
        let done = reset(bus.as_ref(), &registry, "hutong", &lane, &topics, accepted, notes).await.unwrap();
        // An owner of before can write no more.
        assert!(writer.commit(Vec::new(), Watermark::default().encode(1)).await.is_err());
        let last = bus.writer(&lane).await.unwrap().open().await.unwrap().unwrap();
        (done, Watermark::decode(&last).unwrap())
    }

    #[tokio::test]
    async fn i3_gives_the_position_up_and_keeps_only_the_incarnation_of_a_topic_that_is_whole() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.positions.insert("wal".into(), Position::wal(0, 9, 0, 0));
        for topic in ["whole", "cut", "gone"] {
            checkpoint.notes.insert(base_note(topic, 0), "0".into());
            checkpoint.notes.insert(incarnation_note(topic), "i".into());
        }
        checkpoint.notes.insert("snapshot.public.t".into(), "{}".into());

        let (done, now) = reset_of(Some(checkpoint.clone())).await;

        assert_eq!(done.before, checkpoint);
        assert!(now.checkpoint.positions.is_empty());
        let notes: Vec<(&str, &str)> = now
            .checkpoint
            .notes
            .iter()
            .filter(|(name, _)| *name != loss::NOTE)
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let wanted = [("base.cut/0", "0"), ("base.whole/0", "4"), ("era", "1"), ("incarnation.whole", "i")];
        assert_eq!(notes, wanted);
        assert_eq!((now.as_of_us, &now.ends), (None, &done.bases));
        let losses = now.checkpoint.losses();
        let [lost] = &losses[..] else { panic!("{losses:?}") };
        assert_eq!((lost.reason.as_str(), &lost.positions), ("恢复", &checkpoint.positions));
        let gone = ["cut/0", "gone/0", "whole/0"].map(|key| (key.to_owned(), 0)).into();
        assert_eq!((&lost.bases, &lost.begins), (&gone, &done.bases));
    }

    #[tokio::test]
    async fn a_capture_without_a_checkpoint_is_reset_too() {
        let (done, now) = reset_of(None).await;
        assert!(done.before.is_empty() && now.checkpoint.note("base.whole/0") == Some("0"));
    }
}
