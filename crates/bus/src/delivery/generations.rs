//! Which generation of a delivery topic is written, and for what: a note of each lane's checkpoint.
//!
//! Knows checkpoints and names; nothing of grants and rows.

use std::sync::Arc;

use hutong_core::ledger::{Kept, Proof};
use hutong_core::{Checkpoint, Error, ErrorKind, LaneId, Order, PipelineId, Result};
use tracing::info;

use super::{Subscriber, proofs};
use crate::log::{Log, Outgoing, Writer, checkpoint_topic};
use crate::quarantine;
use crate::registry::SchemaRegistry;
use crate::topic_sink::now_us;
use crate::watch::Watch;
use crate::watermark::{self, Watermark};

/// The note of a lane's checkpoint that says which generation the lane writes, and under which mark.
const NOTE: &str = "delivery";

/// How the mark of a generation begins that a person has ended; no grant's does.
const RELOAD: &str = "reload ";

/// The delivery topics of one subscription, one after the other.
#[derive(Clone)]
pub struct Generations {
    /// The bus.
    pub log: Arc<dyn Log>,
    /// The schemas.
    pub registry: Arc<dyn SchemaRegistry>,
    /// The bus's name.
    pub bus: String,
    /// The pipeline that writes them.
    pub pipeline: PipelineId,
    /// What their names share: `<owner>.<stream>.to.<subscription>`.
    pub stem: String,
    /// How many partitions each has: as many as the topic that is read.
    pub partitions: u32,
    /// Who may read them; `None` where the bus does not ask who comes, or the configuration names nobody.
    pub subscriber: Option<Subscriber>,
}

/// What a lane has noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) generation: u32,
    /// The grant, in one line; or why the generation is over.
    pub(super) mark: String,
}

impl Noted {
    /// States whether a person has ended the generation.
    pub(super) fn is_ended_by_a_person(&self) -> bool {
        self.mark.starts_with(RELOAD)
    }

    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let Some(text) = checkpoint.note(NOTE) else { return Ok(None) };
        let read = text.split_once(' ').and_then(|(number, mark)| Some((number.parse().ok()?, mark)));
        let (generation, mark) = read.ok_or_else(|| {
            Error::new(ErrorKind::Broken, "read the generation of a delivery", "its note is none")
                .hint("run the version of Hutong that wrote it, or look at the checkpoint topic")
        })?;
        Ok(Some(Self { generation, mark: mark.to_owned() }))
    }
}

/// A lane that was taken over, and where it stood.
pub(super) struct Taken {
    lane: LaneId,
    writer: Box<dyn Writer>,
    checkpoint: Checkpoint,
    pub(super) noted: Option<Noted>,
}

impl Generations {
    /// Returns the name of a generation's topic.
    pub fn topic(&self, generation: u32) -> String {
        format!("{}.v{generation}", self.stem)
    }

    /// Returns the name of the topic in which items are set aside.
    pub fn quarantine_topic(&self) -> String {
        quarantine::topic(&self.topic(1))
    }

    /// Returns the newest generation that a lane has begun; `None` before the first. Reads only.
    pub async fn newest(&self) -> Result<Option<u32>> {
        Ok(self.noted().await?.iter().map(|noted| noted.generation).max().filter(|newest| *newest > 0))
    }

    /// Shuts out whoever writes a lane, and deletes all topics and what was set aside; what comes after is the next
    /// generation. The lane leaves a receipt, under the number of its grant, of how many records it had written. I7: may
    /// be called again, and then finds nothing left to do.
    ///
    /// Called for each lane: by the last time nobody is left who could write into a topic that was deleted.
    pub async fn recall(&self, lane: &LaneId, number: u64, since: u64) -> Result<()> {
        let mut taken = self.take(lane).await?;
        let generation = self.highest(taken.noted.as_ref()).await?;
        let noted = Noted { generation, mark: format!("recalled {since}") };
        let mut left = Vec::new();
        if taken.noted.as_ref() != Some(&noted) {
            left.push(self.recalled(&mut taken, number).await?);
        }
        self.begin(taken, &noted, left).await?;
        self.forget(generation).await
    }

    /// Returns the receipt of what a recall takes away of a lane: by what the lane has counted, for the topic may be gone
    /// already.
    async fn recalled(&self, taken: &mut Taken, number: u64) -> Result<Outgoing> {
        let topic = proofs::topic(&self.bus, &self.pipeline);
        // All of them, whichever lanes were ever opened: it is never given more.
        let lanes = self.partitions.max(self.lanes().await?);
        self.log.ensure(&proofs::spec(&topic, lanes)).await?;
        let deleted = proofs::written(&taken.checkpoint);
        let proof = Proof::recalled(&taken.lane.to_string(), number, &taken.checkpoint, deleted);
        let kept = Kept { proof, written: 0, deleted, quarantined: 0, at_us: now_us() };
        Ok(proofs::leave(&topic.into(), taken.lane.partition, &kept, &mut taken.checkpoint))
    }

    /// Lets the subscriber read a generation.
    pub(super) async fn admit(&self, generation: u32) -> Result<()> {
        match &self.subscriber {
            Some(subscriber) => subscriber.admit(&self.topic(generation)).await,
            None => Ok(()),
        }
    }

    /// Takes away the subscriber's right to read any generation. May be called again at any time.
    pub async fn dismiss(&self) -> Result<()> {
        self.dismiss_upto(u32::MAX).await
    }

    async fn dismiss_upto(&self, upto: u32) -> Result<()> {
        let Some(subscriber) = &self.subscriber else { return Ok(()) };
        let over = |topic: &str| {
            let number =
                topic.strip_prefix(&self.stem).and_then(|rest| rest.strip_prefix(".v")?.parse().ok());
            number.is_some_and(|number: u32| number <= upto)
        };
        subscriber.dismiss(over).await
    }

    /// Ends the present generation, so that the lanes begin the next one when they open; returns where each lane stood
    /// that has written. Its topic stays until then. Shuts out whoever writes it.
    pub async fn reload(&self, order: &Order) -> Result<Vec<(LaneId, Checkpoint)>> {
        let mut taken = Vec::new();
        for partition in 0..self.partitions.max(self.lanes().await?) {
            taken.push(self.take(&LaneId::new(self.pipeline.clone(), partition)).await?);
        }
        // Known when nobody else writes any more.
        let newest = taken.iter().flat_map(|t| &t.noted).map(|noted| noted.generation).max().unwrap_or(0);
        let mut stood = Vec::new();
        for mut taken in taken.into_iter().filter(|taken| taken.noted.is_some()) {
            let lane = taken.lane.clone();
            stood.push((lane.clone(), taken.checkpoint.clone()));
            if let Some(after) = order.apply(&lane.to_string(), &taken.checkpoint) {
                taken.checkpoint = after;
            }
            let mark = format!("{RELOAD}{}", order.act.at_us);
            self.begin(taken, &Noted { generation: newest, mark }, Vec::new()).await?;
        }
        Ok(stood)
    }

    /// Returns where each lane stands that has written, and whether a person has ended what it wrote. Reads only.
    pub async fn stands(&self) -> Result<Vec<(LaneId, Checkpoint, bool)>> {
        let mut stands = Vec::new();
        for partition in 0..self.lanes().await? {
            let Some(checkpoint) = self.last(partition).await? else { continue };
            if let Some(noted) = Noted::of(&checkpoint)? {
                let lane = LaneId::new(self.pipeline.clone(), partition);
                stands.push((lane, checkpoint, noted.is_ended_by_a_person()));
            }
        }
        Ok(stands)
    }

    /// Returns the newest generation of all that is noted.
    async fn highest(&self, own: Option<&Noted>) -> Result<u32> {
        let noted = self.noted().await?;
        Ok(noted.iter().chain(own).map(|noted| noted.generation).max().unwrap_or(0))
    }

    /// Takes a lane over: shuts earlier owners out and says where it stands.
    pub(super) async fn take(&self, lane: &LaneId) -> Result<Taken> {
        let mut writer = self.log.writer(lane).await?;
        let last = writer.open().await?;
        let checkpoint =
            last.map(|record| Watermark::decode(&record)).transpose()?.unwrap_or_default().checkpoint;
        let noted = Noted::of(&checkpoint)?;
        Ok(Taken { lane: lane.clone(), writer, checkpoint, noted })
    }

    /// Lets a lane begin anew under a note, unless it has that note already. `left`: records of the same transaction (I2).
    pub(super) async fn begin(&self, taken: Taken, noted: &Noted, left: Vec<Outgoing>) -> Result<()> {
        let Taken { lane, mut writer, checkpoint, noted: before } = taken;
        if before.as_ref() == Some(noted) {
            return Ok(());
        }
        let mut checkpoint = checkpoint.anew();
        checkpoint.notes.insert(NOTE.into(), format!("{} {}", noted.generation, noted.mark));
        let next = Watermark { lane: lane.to_string(), checkpoint, ..Watermark::default() };
        let subject = format!("{}-value", checkpoint_topic(&self.bus, &self.pipeline));
        let schema = self.registry.register(&subject, watermark::SCHEMA).await?;
        writer.commit(left, next.encode(schema)).await.map(drop)
    }

    /// Returns what the lanes have noted; those that never wrote have nothing.
    pub(super) async fn noted(&self) -> Result<Vec<Noted>> {
        let mut noted = Vec::new();
        for partition in 0..self.lanes().await? {
            noted.extend(self.noted_by(partition).await?);
        }
        Ok(noted)
    }

    /// Returns what one lane has noted.
    pub(super) async fn noted_by(&self, partition: u32) -> Result<Option<Noted>> {
        self.last(partition).await?.map_or(Ok(None), |checkpoint| Noted::of(&checkpoint))
    }

    async fn last(&self, partition: u32) -> Result<Option<Checkpoint>> {
        let topic = checkpoint_topic(&self.bus, &self.pipeline);
        match Watch::open(self.log.as_ref(), &topic, partition).await? {
            Some(mut watch) => Ok(watch.last().await?.map(|last| last.checkpoint)),
            None => Ok(None),
        }
    }

    /// Deletes the topics up to a generation, and what was set aside from them.
    pub(super) async fn forget(&self, upto: u32) -> Result<()> {
        self.dismiss_upto(upto).await?;
        for topic in (1..=upto).map(|generation| self.topic(generation)).chain([self.quarantine_topic()]) {
            if self.log.delete(&topic).await? {
                info!(topic, "deleted: its generation is over");
            }
        }
        Ok(())
    }

    /// Deletes the topic before a generation, if it is there: whoever was shut out of it last may have made it again.
    pub(super) async fn forget_before(&self, generation: u32) -> Result<()> {
        if generation > 1 {
            self.log.delete(&self.topic(generation - 1)).await?;
        }
        Ok(())
    }

    /// Returns how many lanes have ever been opened.
    async fn lanes(&self) -> Result<u32> {
        let extent = self.log.extent(&checkpoint_topic(&self.bus, &self.pipeline)).await?;
        Ok(extent.map_or(0, |extent| extent.len() as u32))
    }
}
