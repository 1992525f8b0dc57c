//! The beginning of a replicate or a delivery: one partition of a topic into changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::Traceparent;
use hutong_core::{
    Batch, Behind, Checkpoint, Contract, Delta, Error, ErrorKind, PipelineId, Position, Rejected, Result,
    Source,
};
use tokio::time::Instant;

use crate::decoder::{Decoder, NO_KEY, Outcome};
use crate::freshness::Freshness;
use crate::log::{Fetched, Incoming, Log, Reader};
use crate::named::named;
use crate::quarantine::trace_of;
use crate::registry::SchemaRegistry;
use crate::repeats::Repeats;
use crate::tail::{self, Tail};
use crate::trimmed;
use crate::unsealing::Unsealing;
use crate::watch::Watch;
use crate::watermark::{Watermark, incarnation_note, partition_key};

/// How often a source looks whether its topic has begun.
const LOOK: Duration = Duration::from_millis(200);

/// How much a batch may hold, and how often an idle lane learns how fresh it is.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Records of one batch: few, because the lane joins batches while a commit runs, and two hundred lanes may hold
    /// one each.
    pub batch_limit: usize,
    /// Bytes of one batch, but for its last record.
    pub batch_limit_bytes: usize,
    /// The least time between two batches that only move freshness.
    pub watermark_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_limit: 128, batch_limit_bytes: 256 << 10, watermark_interval: Duration::from_secs(2) }
    }
}

/// What a source reads.
#[derive(Debug, Clone)]
pub struct TopicSourceConfig {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The contract that its rows are to be read by.
    pub contract: Arc<Contract>,
    /// The capture's checkpoint topic, which tells bases and watermarks; `None` for a foreign topic, which is
    /// read from its first record and never knows how fresh it is.
    pub checkpoint_topic: Option<String>,
    /// Whose group offset is told to lag tools.
    pub pipeline: Option<PipelineId>,
    /// Whether old rows of a writer other than Hutong are whole.
    pub foreign_before_full: bool,
    /// Limits.
    pub limits: Limits,
}

/// Reads one partition of a topic.
pub struct TopicSource {
    log: Arc<dyn Log>,
    decoder: Decoder,
    config: TopicSourceConfig,
    /// How the lane's checkpoint and the watermarks name the partition.
    key: String,
    reader: Option<Box<dyn Reader>>,
    watch: Option<Watch>,
    freshness: Freshness,
    /// Where the lane stands, as the next batch's step begins.
    at: Position,
    /// The offset that everything before was handed out, and the end as last seen.
    next: u64,
    end: u64,
    /// What was read and not yet handed out.
    fetched: Option<Fetched>,
    handed_out: Option<Instant>,
    /// How many offsets behind the end the last batch said that the lane is.
    told_behind: u64,
    /// The record that was read last, until it is read again.
    tail: Option<Tail>,
    /// The incarnation of the topic that the lane reads, and whether its checkpoint does not know it yet.
    incarnation: Option<String>,
    unnoted: bool,
    /// The batch that the record before was written in, as far as it is known.
    written_in: Option<Traceparent>,
    /// Of a topic that another program writes, what was passed last.
    repeats: Option<Repeats>,
    unsealing: Option<Unsealing>,
    /// The offset for whose records the keys were read again.
    keyed: Option<u64>,
}

impl TopicSource {
    /// Makes a source; touches nothing before [`Source::open`].
    pub fn new(log: Arc<dyn Log>, registry: Arc<dyn SchemaRegistry>, config: TopicSourceConfig) -> Self {
        let decoder = Decoder::new(registry, Arc::clone(&config.contract))
            .of(&config.topic)
            .foreign_before_full(config.foreign_before_full);
        let key = partition_key(&config.topic, config.partition);
        let repeats = config.checkpoint_topic.is_none().then(Repeats::default);
        Self {
            log,
            decoder,
            config,
            key,
            reader: None,
            watch: None,
            freshness: Freshness::default(),
            at: Position::START,
            next: 0,
            end: 0,
            fetched: None,
            handed_out: None,
            told_behind: 0,
            tail: None,
            incarnation: None,
            unnoted: false,
            written_in: None,
            repeats,
            unsealing: None,
            keyed: None,
        }
    }

    /// Gives it what opens sealed columns; without it, it does not open for a stream that has some.
    #[must_use]
    pub fn unsealing(mut self, unsealing: Option<Unsealing>) -> Self {
        self.unsealing = unsealing;
        self
    }

    /// Reads the keys of sealed columns.
    async fn unlock(&mut self) -> Result<()> {
        if !self.config.contract.seals() {
            return Ok(());
        }
        let Some(unsealing) = &self.unsealing else {
            let why = "columns of it are sealed, and nothing was given to open them";
            return Err(Error::new(ErrorKind::Denied, format!("read {}", self.key), why)
                .hint("`hutong check` says where its lanes must run"));
        };
        let unseal = unsealing.keys(self.log.as_ref(), &self.config.topic).await?;
        self.decoder.unseal(Some(unseal));
        Ok(())
    }

    /// Starts to read at an offset, and at the record before it that must still be there.
    async fn read_from(&mut self, offset: u64, tail: Option<Tail>) -> Result<()> {
        let (topic, partition) = (&self.config.topic, self.config.partition);
        self.tail = None;
        if let Some(tail) = tail {
            // What was removed meanwhile proves nothing, and what lies beyond the end is told by reading there.
            let kept = self.log.extent(topic).await?.and_then(|extent| extent.get(&partition).copied());
            self.tail = kept.and_then(|(first, end)| (first <= tail.offset && offset <= end).then_some(tail));
        }
        let mut reader = self.log.reader(topic, partition, self.config.pipeline.as_ref()).await?;
        let mut sought = reader.seek(self.tail.map_or(offset, |tail| tail.offset)).await;
        if sought.as_ref().is_err_and(|e| e.kind == ErrorKind::PositionLost) && self.tail.take().is_some() {
            sought = reader.seek(offset).await;
        }
        if let Err(error) = sought {
            return Err(self.explained(error, offset).await);
        }
        self.reader = Some(reader);
        (self.next, self.end) = (offset, offset);
        Ok(())
    }

    /// Says of a lost place what is gone, where the bus can tell.
    async fn explained(&mut self, error: Error, place: u64) -> Error {
        if error.kind != ErrorKind::PositionLost {
            return error;
        }
        let kept = self.log.extent(&self.config.topic).await.ok().flatten();
        match kept.and_then(|kept| kept.get(&self.config.partition).copied()) {
            Some(kept) => trimmed::place(&self.key, place, kept, self.name()),
            None => error,
        }
    }

    /// Returns the subscription's name, as a command takes it.
    fn name(&self) -> &str {
        self.config.pipeline.as_ref().map_or("NAME", |pipeline| &pipeline.name)
    }

    /// Returns where an empty lane starts: at the base. `None` while the capture has not begun the topic.
    async fn base(&mut self) -> Result<Option<u64>> {
        let extent = self.log.extent(&self.config.topic).await?;
        let Some((first, _)) = extent.and_then(|e| e.get(&self.config.partition).copied()) else {
            return Ok(None);
        };
        if self.config.checkpoint_topic.is_none() {
            return Ok(Some(first));
        }
        if !self.watch().await? {
            return Ok(None);
        }
        let Some(watch) = &mut self.watch else { return Ok(None) };
        let base = match watch.last().await? {
            Some(last) => last.base(&self.config.topic, self.config.partition).map(|base| (base, last)),
            None => None,
        };
        let Some((base, last)) = base else {
            // The capture has made the topic and not yet committed into it: look again from its end of then.
            self.watch = None;
            return Ok(None);
        };
        self.see(&last)?;
        if base < first {
            let capture = last.lane.split('.').nth(1).unwrap_or("CAPTURE");
            return Err(trimmed::base(&self.key, base, first, capture));
        }
        Ok(Some(base))
    }

    /// Finds the capture's last word on the topic, for a lane that has begun to read it.
    async fn recognise(&mut self) -> Result<()> {
        if self.config.checkpoint_topic.is_none() {
            return Ok(());
        }
        self.watch().await?;
        let last = match &mut self.watch {
            Some(watch) => watch.last().await?,
            None => None,
        };
        match last {
            Some(last) => self.see(&last),
            None => Err(self.not_begun()),
        }
    }

    /// Takes a watermark in.
    ///
    /// I3: `Err(PositionLost)` when the topic is another one than the lane has read, though it has its name: what
    /// stands before the lane's offset was never read, and what the lane has read may be gone.
    fn see(&mut self, watermark: &Watermark) -> Result<()> {
        match (watermark.incarnation(&self.config.topic), &self.incarnation) {
            (None, None) => {}
            (None, Some(_)) => return Err(self.not_begun()),
            (Some(found), None) => (self.incarnation, self.unnoted) = (Some(found.to_owned()), true),
            (Some(found), Some(known)) if found == known => {}
            (Some(_), Some(_)) => {
                let name = self.name();
                let why = "the topic was begun anew since this lane has read it";
                return Err(Error::new(ErrorKind::PositionLost, format!("continue {}", self.key), why)
                    .hint(format!("`hutong subscription reload {name}` reads it again from the base")));
            }
        }
        self.freshness.see(watermark, &self.key);
        Ok(())
    }

    fn not_begun(&self) -> Error {
        let why = "its capture has not begun it again";
        Error::new(ErrorKind::Unavailable, format!("continue {}", self.key), why)
            .hint("start the capture that fills it")
    }

    /// Starts to read the capture's checkpoints; `false` while there is no such topic.
    async fn watch(&mut self) -> Result<bool> {
        if let (None, Some(topic)) = (&self.watch, &self.config.checkpoint_topic) {
            // A capture has one lane.
            self.watch = Watch::open(self.log.as_ref(), topic, 0).await?;
        }
        Ok(self.watch.is_some())
    }

    /// Makes a batch of what was fetched; `None` when it moves nothing. `Err(Unavailable)`: a key of a sealed column is
    /// missing here, and nothing has moved.
    fn batch(&mut self, fetched: &Fetched) -> Result<Option<Batch>> {
        self.end = fetched.end.max(fetched.next);
        if fetched.records.is_empty() && fetched.next == self.next {
            return Ok(None);
        }
        let (mut batch, mut written_in) = (Batch::default(), self.written_in);
        for record in &fetched.records {
            // Until the next batch begins, what stands there is of this one.
            written_in = named(record).or(written_in);
            written_in.into_iter().for_each(|of| batch.trail.follow(of));
            match self.decoder.decode(record) {
                Outcome::Change(change) => {
                    match self.repeats.as_mut().is_some_and(|known| known.again(record.key.as_ref(), &change))
                    {
                        false => batch.changes.push(*change),
                        true => *batch.dropped.entry("duplicate").or_default() += 1,
                    }
                }
                // I3: what is dropped is counted under its rule.
                Outcome::Dropped(rule) => *batch.dropped.entry(rule).or_default() += 1,
                // I3: that is no fault of the row, which waits.
                Outcome::Unreadable { rule: NO_KEY, reason } => {
                    let doing = format!("read the record at offset {} of {}", record.offset, self.key);
                    let remedy = self.unsealing.as_ref().map(|unsealing| unsealing.remedy.clone());
                    return Err(
                        Error::new(ErrorKind::Unavailable, doing, reason).hint(remedy.unwrap_or_default())
                    );
                }
                Outcome::Unreadable { rule, reason } => {
                    self.repeats.iter_mut().for_each(Repeats::forget);
                    batch.rejected.push(self.rejected(record, rule, reason));
                }
            }
        }
        // 0: the cluster does not tell.
        batch.trail.written_us = fetched.records.iter().map(|r| r.written_us).filter(|us| *us > 0).min();
        (self.next, self.written_in) = (fetched.next, written_in);
        let mut batch = self.step(batch);
        if let Some(tail) = Tail::of(&fetched.records) {
            batch.delta.set_note(tail::note(&self.key), tail.text(self.next));
        }
        Ok(Some(batch))
    }

    /// Gives a batch its step and how far behind the lane is after it.
    fn step(&mut self, mut batch: Batch) -> Batch {
        let to = Position::offset(self.next);
        batch.delta =
            Delta { ranges: BTreeMap::from([(self.key.clone(), (self.at, to))]), notes: BTreeMap::new() };
        self.told_behind = self.end.saturating_sub(self.next);
        batch.behind = Behind {
            count: Some(self.told_behind),
            bytes: None,
            complete_to_us: self.freshness.tell(self.next),
        };
        if let Some(incarnation) = self.incarnation.as_ref().filter(|_| std::mem::take(&mut self.unnoted)) {
            batch.delta.set_note(incarnation_note(&self.config.topic), incarnation);
        }
        self.at = to;
        self.handed_out = Some(Instant::now());
        batch
    }

    /// Describes a record that cannot be read, by where it stands and its digest: none of its bytes.
    fn rejected(&self, record: &Incoming, rule: &'static str, reason: String) -> Rejected {
        Rejected {
            rule,
            reason,
            position: Position::offset(record.offset),
            stream: self.config.contract.stream.clone(),
            change: None,
            record: Some(trace_of(&self.config.topic, self.config.partition, record)),
        }
    }

    /// Returns when a batch that only tells freshness is due; `None` when there is nothing to tell.
    fn due(&self) -> Option<Instant> {
        // On Kafka a transaction's end marker counts as one behind, until the reader is told that it was the end.
        let caught_up = self.told_behind > 0 && self.next >= self.end;
        if !caught_up && !self.freshness.has_news(self.next) {
            return None;
        }
        Some(self.handed_out.map_or_else(Instant::now, |at| at + self.config.limits.watermark_interval))
    }
}

#[async_trait]
impl Source for TopicSource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        self.reader = None;
        self.watch = None;
        self.fetched = None;
        self.handed_out = None;
        self.told_behind = 0;
        self.freshness = Freshness::default();
        self.incarnation = None;
        self.unnoted = false;
        self.keyed = None;
        self.written_in = None;
        self.repeats.iter_mut().for_each(Repeats::forget);
        self.unlock().await?;
        self.at = from.position(&self.key);
        if self.at.is_start() {
            // `next` waits until the capture has begun the topic.
            return Ok(());
        }
        let offset = self.at.as_offset().ok_or_else(|| {
            Error::new(
                ErrorKind::Broken,
                format!("read {}", self.key),
                "the checkpoint's position is no offset",
            )
        })?;
        self.incarnation = from.note(&incarnation_note(&self.config.topic)).map(str::to_owned);
        self.recognise().await?;
        self.read_from(offset, Tail::before(offset, from, &self.key)).await
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        // Cancel safe: what was fetched stays in `self` until it is handed out, and between taking it out and
        // handing it out nothing waits.
        loop {
            if self.reader.is_none() {
                match self.base().await? {
                    Some(base) => self.read_from(base, None).await?,
                    None => {
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                }
            }
            if let Some(fetched) = &self.fetched {
                let learnt = self.decoder.learn(&fetched.records).await;
                learnt
                    .map_err(|error| Error { doing: format!("{} in {}", error.doing, self.key), ..error })?;
                // I3: our own capture registered what it wrote, so the registry has lost it: that is no fault of
                // the rows, and they wait. What was fetched stays.
                if let (Some(_), Some((id, offset))) =
                    (&self.config.checkpoint_topic, self.decoder.unknown(&fetched.records))
                {
                    let why = format!(
                        "the registry knows no schema {id}, though the capture has registered what it wrote"
                    );
                    let doing = format!("read the record at offset {offset} of {}", self.key);
                    return Err(Error::new(ErrorKind::Unavailable, doing, why)
                        .hint(format!(
                            "restore the registry, or correct its address; `hutong tap {} --at {}/{offset} --raw` \
                             shows the record",
                            self.config.contract.stream, self.config.partition
                        )));
                }
            }
            if let Some(fetched) = self.fetched.take() {
                match self.batch(&fetched) {
                    Ok(Some(batch)) => return Ok(Some(batch)),
                    Ok(None) => {}
                    Err(error) if self.keyed == Some(self.next) => return Err(error),
                    Err(_) => {
                        // An epoch has begun since the keys were read.
                        (self.keyed, self.fetched) = (Some(self.next), Some(fetched));
                        self.unlock().await?;
                        continue;
                    }
                }
            }
            self.watch().await?;
            let due = self.due();
            let Some(reader) = &mut self.reader else { continue };
            let limits = &self.config.limits;
            tokio::select! {
                fetched = reader.next(limits.batch_limit, limits.batch_limit_bytes) => match fetched {
                    Ok(fetched) if self.tail.is_some_and(|tail| tail.is_behind(&fetched)) => {}
                    Ok(fetched) => {
                        let thins = self.config.checkpoint_topic.is_none();
                        self.fetched = Some(match self.tail {
                            Some(tail) => tail.proves(fetched, self.next, thins, (&self.key, self.name()))?,
                            None => fetched,
                        });
                        self.tail = None;
                    }
                    // What would prove it was removed meanwhile.
                    Err(error) if error.kind == ErrorKind::PositionLost && self.tail.take().is_some() => {
                        if let Err(error) = reader.seek(self.next).await {
                            return Err(self.explained(error, self.next).await);
                        }
                    }
                    Err(error) => return Err(self.explained(error, self.next).await),
                },
                watermark = Watch::next(&mut self.watch) => {
                    let watermark = watermark?;
                    self.see(&watermark)?;
                }
                () = sleep_until(due) => return Ok(Some(self.step(Batch::default()))),
            }
        }
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        // I1: the topic forgets nothing by this; it only tells group-lag tools.
        match (&mut self.reader, upto.position(&self.key).as_offset()) {
            (Some(reader), Some(offset)) => reader.note(offset).await,
            _ => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<()> {
        self.reader = None;
        self.watch = None;
        Ok(())
    }
}

/// Sleeps until a time; for ever when there is none.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
