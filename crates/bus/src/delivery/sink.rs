//! The end of a delivery: one lane of a subscription into one partition of its delivery topic.
//!
//! A [`TopicSink`] writes; what is added here is which topic, settled once for all lanes of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{Batch, Checkpoint, Contract, Error, ErrorKind, Hold, LaneId, Refused, Result, Sink};
use tokio::sync::Mutex;
use tracing::info;

use super::generations::{Generations, Noted};
use crate::{TopicSink, TopicSinkConfig, TopicStream};

/// What a delivery writes.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// What is delivered, in one line: under another mark the next generation begins.
    pub mark: String,
    /// The permitted projection.
    pub contract: Arc<Contract>,
    /// The compatibility level of its subjects; `FULL_TRANSITIVE` when `None`.
    pub compatibility: Option<String>,
    /// How long a topic keeps what is before its base.
    pub history: Duration,
}

/// The delivery of one subscription, shared by its lanes.
pub struct Delivery {
    generations: Generations,
    config: DeliveryConfig,
    /// One lane looks for all of them.
    settling: Mutex<()>,
    /// One lane after the other makes the topic and registers its schemas: not every registry bears two at once.
    opening: Mutex<()>,
    /// The generation that was settled; 0 before.
    settled: AtomicU32,
}

impl Delivery {
    /// Makes a delivery; touches nothing before a lane opens.
    pub fn new(generations: Generations, config: DeliveryConfig) -> Arc<Self> {
        Arc::new(Self {
            generations,
            config,
            settling: Mutex::default(),
            opening: Mutex::default(),
            settled: AtomicU32::new(0),
        })
    }

    /// States whether this is what is delivered under a mark.
    pub fn writes_under(&self, mark: &str) -> bool {
        self.config.mark == mark
    }

    /// Makes the sink of one lane; `grant`: its number under a ledger, where each commit leaves a receipt.
    pub fn sink(self: &Arc<Self>, grant: Option<u64>) -> DeliverySink {
        let delivery = Arc::clone(self);
        DeliverySink { delivery, grant, generation: 0, partition: 0, shut_out: false, inner: None }
    }

    /// Returns the generation that the lanes write; ends earlier ones, whose topics are deleted.
    ///
    /// The newest that any lane has noted, if all that have noted it did so under this mark; the one after it otherwise.
    /// `own` is what the asking lane has noted, read when nobody else could write it any more.
    async fn settle(&self, own: Option<&Noted>) -> Result<u32> {
        let _settling = self.settling.lock().await;
        let settled = self.settled.load(Ordering::Acquire);
        let agrees = |own: &Noted| {
            own.generation < settled || own.generation == settled && own.mark == self.config.mark
        };
        if settled > 0 && own.is_none_or(agrees) {
            return Ok(settled);
        }
        let mut noted = self.generations.noted().await?;
        noted.extend(own.cloned());
        let newest = noted.iter().map(|noted| noted.generation).max().unwrap_or(0);
        let mut present = noted.iter().filter(|noted| noted.generation == newest);
        let goes_on = newest > 0 && present.all(|noted| noted.mark == self.config.mark);
        let generation = if goes_on { newest } else { newest + 1 };
        if !goes_on {
            // I5, I7: before any lane notes the new one, so that whoever is killed here does it again.
            self.generations.forget(newest).await?;
            info!(topic = self.generations.topic(generation), "a delivery topic begins at the base");
        }
        self.settled.store(generation, Ordering::Release);
        Ok(generation)
    }

    fn writes(&self, generation: u32, partition: u32) -> TopicSink {
        let DeliveryConfig { contract, compatibility, history, .. } = &self.config;
        let stream = TopicStream {
            contract: Arc::clone(contract),
            topic: self.generations.topic(generation),
            partitions: self.generations.partitions,
            partition: Some(partition),
            compatibility: compatibility.clone(),
            readers: Vec::new(),
            anew: Default::default(),
        };
        let bus = self.generations.bus.clone();
        let config = TopicSinkConfig { bus, streams: vec![stream], history: *history };
        TopicSink::new(Arc::clone(&self.generations.log), Arc::clone(&self.generations.registry), config)
    }

    /// Says what a person does about a delivery topic that cannot go on: nothing is lost with it.
    fn explained(&self, error: Error) -> Error {
        match error.kind {
            ErrorKind::PositionLost | ErrorKind::SchemaConflict => {
                let name = &self.generations.pipeline.name;
                error.hint(format!(
                    "`hutong subscription reload {name}` begins the next generation of the topic at the base, and \
                     deletes this one"
                ))
            }
            _ => error,
        }
    }
}

/// Writes one lane of a delivery.
pub struct DeliverySink {
    delivery: Arc<Delivery>,
    grant: Option<u64>,
    generation: u32,
    partition: u32,
    /// Whether the last that was heard of the lane is that somebody else has it.
    shut_out: bool,
    inner: Option<TopicSink>,
}

impl DeliverySink {
    /// Notes who was shut out, and says what a person does about the rest.
    fn failed(&mut self, error: Error) -> Error {
        self.shut_out = error.kind == ErrorKind::Fenced;
        self.delivery.explained(error)
    }
}

#[async_trait]
impl Sink for DeliverySink {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        (self.inner, self.shut_out) = (None, false);
        let delivery = Arc::clone(&self.delivery);
        let taken = delivery.generations.take(lane).await?;
        self.generation = delivery.settle(taken.noted.as_ref()).await?;
        let noted = Noted { generation: self.generation, mark: delivery.config.mark.clone() };
        delivery.generations.begin(taken, &noted, Vec::new()).await?;
        // I5: a client that was refused for a topic that is gone may let the broker make it again. This lane's is shut
        // out now, and each lane does this.
        delivery.generations.forget_before(self.generation).await?;
        // Each time: a suspension has taken it away, or nobody had said who reads it. Before there is a topic, so that
        // whoever looks for it finds what he may read.
        delivery.generations.admit(self.generation).await?;
        let mut inner = delivery.writes(self.generation, lane.partition).proving(self.grant);
        let opening = delivery.opening.lock().await;
        let checkpoint = inner.open(lane).await.map_err(|error| delivery.explained(error))?;
        drop(opening);
        (self.inner, self.partition) = (Some(inner), lane.partition);
        // A lane that has written nothing into this topic is one that begins anew, whatever it has noted about it.
        Ok(if checkpoint.positions.is_empty() { checkpoint.anew() } else { checkpoint })
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        match &mut self.inner {
            Some(inner) => inner.prepare(contract).await.map_err(|error| self.failed(error)),
            None => Err(closed("prepare")),
        }
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        let settled = self.delivery.settled.load(Ordering::Acquire);
        if settled != self.generation {
            let why = format!("another lane has begun generation {settled}");
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("commit {}", self.delivery.generations.pipeline),
                why,
            ));
        }
        match &mut self.inner {
            Some(inner) => inner.commit(batch).await.map_err(|error| self.failed(error)),
            None => Err(closed("commit")),
        }
    }

    async fn look(&mut self) -> Result<Hold> {
        // A delivery commits at least as often as its source tells freshness, and each commit tells who has the lane.
        if !self.shut_out {
            return Ok(Hold::Held);
        }
        let noted = self.delivery.generations.noted_by(self.partition).await?;
        Ok(if noted.is_some_and(|noted| noted.is_ended_by_a_person()) { Hold::Turned } else { Hold::Taken })
    }

    async fn close(&mut self) -> Result<()> {
        match self.inner.take() {
            Some(mut inner) => inner.close().await,
            None => Ok(()),
        }
    }
}

fn closed(doing: &str) -> Error {
    Error::new(ErrorKind::Unknown, format!("{doing} a delivery"), "the sink is not open")
}
