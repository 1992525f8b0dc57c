//! How far back topics reach: what is before a partition's base and older than the history is forgotten.
//!
//! Knows a capture's checkpoint and the time; nothing of how a bus forgets.

use std::time::Duration;

use hutong_core::Checkpoint;
use tokio::time::Instant;

use crate::base::bases;
use crate::log::Log;

/// How often a capture trims its topics.
const EVERY: Duration = Duration::from_secs(3_600);

/// Trims the topics of one capture now and then.
pub(crate) struct History {
    kept: Duration,
    next: Instant,
}

impl History {
    /// Keeps at least so much of what is before a base. The first trim is due at once.
    pub(crate) fn new(kept: Duration) -> Self {
        Self { kept, next: Instant::now() }
    }

    /// Trims the topics when it is time: each partition up to its base, as the committed `checkpoint` notes it, or
    /// to its first record within the history, whichever comes first.
    ///
    /// Nothing depends on it, so what cannot be trimmed is tried again an hour later.
    pub(crate) async fn keep(
        &mut self,
        log: &dyn Log,
        checkpoint: &Checkpoint,
        topics: &[&str],
        now_us: i64,
    ) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        let since_us = now_us.saturating_sub(i64::try_from(self.kept.as_micros()).unwrap_or(i64::MAX));
        for topic in topics {
            // I3: whatever a new replica reads begins at the base, so nothing from there on is ever forgotten.
            for (partition, base) in bases(checkpoint, topic).filter(|(_, base)| *base > 0) {
                match log.trim(topic, partition, base, since_us).await {
                    Ok(first) => tracing::debug!(topic, partition, first, base, "trimmed"),
                    Err(error) => {
                        let hint = error.hint.as_deref().unwrap_or("the next try is in an hour");
                        tracing::warn!(topic, partition, %error, hint, "a topic was not trimmed");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hutong_core::{Kind, LaneId, PipelineId};

    use super::*;
    use crate::embedded::{Bus, Options};
    use crate::log::{Log, Outgoing, TopicSpec};
    use crate::watermark::base_note;

    /// A topic with ten records in each of two partitions, on a bus of its own.
    async fn filled(folder: &tempfile::TempDir) -> Arc<Bus> {
        let bus = Bus::open(folder.path(), Options::default()).unwrap();
        let topic = TopicSpec { name: "t".into(), partitions: 2, compacted: false };
        bus.ensure(&topic).await.unwrap();
        let lane = LaneId::new(PipelineId::new(Kind::Capture, "gongan"), 0);
        let mut writer = bus.writer(&lane).await.unwrap();
        writer.open().await.unwrap();
        let record = |n: u32| Outgoing {
            topic: "t".into(),
            partition: n % 2,
            key: None,
            value: Some("x".into()),
            headers: Vec::new(),
        };
        writer.commit((0..20).map(record).collect(), "1".into()).await.unwrap();
        bus
    }

    async fn firsts(bus: &Bus) -> Vec<u64> {
        bus.extent("t").await.unwrap().unwrap().values().map(|(first, _)| *first).collect()
    }

    #[tokio::test]
    async fn i3_nothing_is_forgotten_from_the_base_on_or_within_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let bus = filled(&folder).await;
        let mut checkpoint = Checkpoint::default();
        checkpoint.notes.insert(base_note("t", 0), "4".into());
        checkpoint.notes.insert(base_note("other", 1), "9".into());
        let day = Duration::from_secs(86_400);
        let now_us = jiff::Timestamp::now().as_microsecond();
        let tomorrow_us = now_us + 86_400_000_000 + 1_000_000;

        // Everything was written within the last day.
        History::new(day).keep(bus.as_ref(), &checkpoint, &["t"], now_us).await;
        assert_eq!(firsts(&bus).await, [0, 0]);
        // A day later nothing is; of the second partition nobody knows a base.
        let mut history = History::new(day);
        history.keep(bus.as_ref(), &checkpoint, &["t", "nowhere"], tomorrow_us).await;
        assert_eq!(firsts(&bus).await, [4, 0]);
        // Once an hour is often enough.
        checkpoint.notes.insert(base_note("t", 0), "6".into());
        history.keep(bus.as_ref(), &checkpoint, &["t"], tomorrow_us).await;
        assert_eq!(firsts(&bus).await, [4, 0]);
        history.next = Instant::now();
        history.keep(bus.as_ref(), &checkpoint, &["t"], tomorrow_us).await;
        assert_eq!(firsts(&bus).await, [6, 0]);
    }
}
