//! Looks after lanes of this process that do not read now: how far their topics have come, which waits for a store that is
//! away, and what waits in their quarantines, which a person may have settled.
//!
//! While all of them run, nobody is asked: a lane that reads knows it itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::log::Log;
use hutong_bus::watermark::partition_key;
use hutong_core::{LaneId, Result};
use hutong_engine::Board;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::stands;
use super::watch::{tick, ticks, within};
use crate::config::plan::{StorePlan, SubscriptionPlan};

/// What is looked at, and how.
pub(super) struct Look {
    log: Arc<dyn Log>,
    board: Board,
    /// Whether the bus is Kafka, where the end of a transaction takes an offset.
    markers: bool,
    topics: BTreeMap<String, Vec<LaneId>>,
    stores: Vec<(Arc<StorePlan>, Vec<LaneId>)>,
}

impl Look {
    /// Makes the look at the topics of some subscriptions.
    pub(super) fn of(
        log: Arc<dyn Log>,
        board: Board,
        markers: bool,
        subscriptions: &[&SubscriptionPlan],
    ) -> Self {
        let mut topics: BTreeMap<String, Vec<LaneId>> = BTreeMap::new();
        let mut stores: Vec<(Arc<StorePlan>, Vec<LaneId>)> = Vec::new();
        for subscription in subscriptions {
            let partitions = 0..subscription.stream.partitions;
            let lanes: Vec<_> = partitions.map(|p| LaneId::new(subscription.pipeline(), p)).collect();
            topics.entry(subscription.stream.topic()).or_default().extend(lanes.iter().cloned());
            let Some(store) = subscription.into.store() else { continue };
            match stores.iter_mut().find(|(known, _)| known.name == store.name) {
                Some((_, of)) => of.extend(lanes),
                None => stores.push((Arc::clone(store), lanes)),
            }
        }
        Self { log, board, markers, topics, stores }
    }

    /// Looks again and again until it is asked to stop.
    pub(super) async fn watch(self, every: Duration, token: CancellationToken) -> Result<()> {
        let mut ticks = ticks(every);
        while tick(&mut ticks, &token).await {
            for (topic, lanes) in &self.topics {
                if lanes.iter().any(|lane| self.board.rests(lane)) {
                    self.look(topic, lanes).await;
                }
            }
            for (store, lanes) in &self.stores {
                let aside: Vec<_> = lanes.iter().filter(|lane| self.board.sets_aside(lane)).collect();
                if !aside.is_empty() {
                    self.count(store, &aside).await;
                }
            }
        }
        Ok(())
    }

    async fn count(&self, store: &StorePlan, lanes: &[&LaneId]) {
        let found = within(format!("count what waits in {}", store.name), stands(store)).await;
        let Ok(found) = found.inspect_err(|error| debug!(%error, "count what waits")) else { return };
        for lane in lanes {
            if let Some(stand) = found.get(&lane.to_string()) {
                self.board.waits(lane, stand.waiting);
            }
        }
    }

    async fn look(&self, topic: &str, lanes: &[LaneId]) {
        let found = within(format!("ask how far {topic} goes"), self.log.extent(topic)).await;
        // What was known is still the best that is known.
        let found = found.inspect_err(|error| debug!(%error, "look how far topics go"));
        let Ok(Some(found)) = found else { return };
        for lane in lanes {
            if let Some((_, end)) = found.get(&lane.partition) {
                let key = partition_key(topic, lane.partition);
                self.board.ends(lane, &key, *end, self.markers);
            }
        }
    }
}
