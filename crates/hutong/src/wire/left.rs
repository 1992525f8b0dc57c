//! Looks for transactions that were left open on a topic whose lanes are behind, and says whose they are.
//!
//! Who reads committed records sees none behind such a transaction: without this look that is nothing but silence. While
//! nobody is behind, nobody is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::log::{Log, checkpoint_topic};
use hutong_core::{Kind, LaneId, PipelineId, Result};
use hutong_engine::reason::Left;
use hutong_engine::{Board, status::now_us};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::watch::{tick, ticks, within};
use crate::config::plan::SubscriptionPlan;

/// A topic whose lanes may wait for a transaction.
struct Read {
    topic: String,
    /// The capture that writes it; a topic of another program is that program's.
    capture: Option<PipelineId>,
    lanes: Vec<LaneId>,
}

/// What is looked at, and how.
pub(super) struct Look {
    log: Arc<dyn Log>,
    bus: String,
    brokers: String,
    board: Board,
    read: Vec<Read>,
    /// Topic and partition to the open transaction's offset and when it was first seen there.
    seen: BTreeMap<(String, u32), (u64, i64)>,
}

impl Look {
    /// Makes the look at the topics of some subscriptions of a bus on these brokers.
    pub(super) fn of(
        log: Arc<dyn Log>,
        (bus, brokers): (&str, &str),
        board: Board,
        subscriptions: &[&SubscriptionPlan],
    ) -> Self {
        let mut read: BTreeMap<String, Read> = BTreeMap::new();
        for subscription in subscriptions {
            let stream = &subscription.stream;
            let capture = stream.capture.as_ref().map(|name| PipelineId::new(Kind::Capture, name));
            let topic = stream.topic();
            let read = read.entry(topic.clone()).or_insert(Read { topic, capture, lanes: Vec::new() });
            read.lanes.extend((0..stream.partitions).map(|p| LaneId::new(subscription.pipeline(), p)));
        }
        let read = read.into_values().collect();
        Self { log, bus: bus.to_owned(), brokers: brokers.to_owned(), board, read, seen: BTreeMap::new() }
    }

    /// Looks again and again until it is asked to stop.
    pub(super) async fn watch(mut self, every: Duration, token: CancellationToken) -> Result<()> {
        let mut ticks = ticks(every);
        while tick(&mut ticks, &token).await {
            self.look().await;
        }
        Ok(())
    }

    async fn look(&mut self) {
        for read in &self.read {
            let topic = &read.topic;
            let behind = read.lanes.iter().any(|lane| self.board.is_behind(lane, now_us()));
            let open = match behind {
                false => Ok(BTreeMap::new()),
                true => open_on(self.log.as_ref(), topic).await,
            };
            // What was known is still the best that is known.
            let Ok(open) = open.inspect_err(|error| debug!(%error, "look for open transactions")) else {
                continue;
            };
            let now_us = now_us();
            self.seen
                .retain(|(of, partition), (offset, _)| of != topic || open.get(partition) == Some(offset));
            for (partition, offset) in &open {
                self.seen.entry((topic.clone(), *partition)).or_insert((*offset, now_us));
            }
            // A capture's transaction has its checkpoint in it.
            let own = match &read.capture {
                Some(capture) if !open.is_empty() => {
                    let open = open_on(self.log.as_ref(), &checkpoint_topic(&self.bus, capture)).await;
                    open.is_ok_and(|open| !open.is_empty())
                }
                _ => false,
            };
            for lane in &read.lanes {
                let seen = self.seen.get(&(topic.clone(), lane.partition));
                let left = seen.map(|(offset, since_us)| Left {
                    place: format!("{topic}/{}", lane.partition),
                    offset: *offset,
                    since_us: *since_us,
                    capture: read.capture.as_ref().map(ToString::to_string),
                    own,
                    hint: hint(
                        &self.brokers,
                        (topic, lane.partition, *offset),
                        read.capture.as_ref().filter(|_| own),
                    ),
                });
                self.board.left(lane, left);
            }
        }
    }
}

async fn open_on(log: &dyn Log, topic: &str) -> Result<BTreeMap<u32, u64>> {
    within(format!("ask for the open transactions of {topic}"), log.open_transactions(topic)).await
}

/// Says what a person does; `own`: the capture that holds it.
fn hint(brokers: &str, (topic, partition, offset): (&str, u32, u64), own: Option<&PipelineId>) -> String {
    let tool = format!("kafka-transactions.sh --bootstrap-server {brokers}");
    let place = format!("--topic {topic} --partition {partition}");
    let abort = format!("`{tool} abort {place} --start-offset {offset}`");
    match own {
        Some(capture) => format!(
            "start the process again that runs {capture}: it ends what it left open, and the cluster does so by itself a \
             minute after it began; if it stays, {abort} ends it"
        ),
        None => format!(
            "`{tool} describe-producers {place}` tells whose it is: have its owner end it, and take the right to write \
             there from whoever should not; {abort} ends it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_whom_to_ask_and_the_whole_command() {
        let capture = PipelineId::new(Kind::Capture, "gongan");
        let place = ("gongan.people.v1", 3, 17);
        let abort = "`kafka-transactions.sh --bootstrap-server k:9092 abort --topic gongan.people.v1 --partition 3 --start-offset 17`";
        let (own, other) = (hint("k:9092", place, Some(&capture)), hint("k:9092", place, None));
        assert!(own.contains("capture.gongan") && own.contains(abort), "{own}");
        let describe = "describe-producers --topic gongan.people.v1 --partition 3`";
        assert!(other.contains(describe) && other.contains(abort), "{other}");
    }
}
