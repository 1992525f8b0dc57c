//! The end of a capture (or a delivery): changes into topics, with the checkpoint in one transaction.
//!
//! Knows no bus: it encodes, chooses partitions and hands records to the lane's [`Writer`].

mod proving;
mod room;
mod sealing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::snapshot::refused_note;
use hutong_core::trail::TARGET;
use hutong_core::{
    Batch, Before, Change, Checkpoint, Contract, Error, ErrorKind, LaneId, Op, Refused, Rejected, Result,
    Sink,
};
use tracing::{Instrument as _, debug_span};

use self::proving::Proving;
pub use self::sealing::Sealing;
use self::sealing::Unlocked;
use crate::base;
use crate::envelope::{Encoded, Encoder};
use crate::history::History;
use crate::log::{Log, Outgoing, RECORD_LIMIT_BYTES, TopicSpec, Writer, checkpoint_topic};
use crate::named::name_first;
use crate::partition;
use crate::quarantine;
use crate::registry::SchemaRegistry;
use crate::reread::retire;
use crate::succession::Reader;
use crate::suspension::Suspension;
use crate::watermark::{self, Watermark, base_note, partition_key};

/// How long the sink waits, when it opens, for the records that an earlier owner left behind the watermark.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A stream that the sink writes.
#[derive(Debug, Clone)]
pub struct TopicStream {
    /// Its contract.
    pub contract: Arc<Contract>,
    /// Its topic: `<owner>.<stream>.v<generation>`.
    pub topic: String,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// The one partition that every record goes into: a delivery keeps the partition of what it reads, so that a
    /// truncate of one lane is never before the rows of another. `None`: a record's key chooses.
    pub partition: Option<u32>,
    /// The compatibility level of its subjects; `FULL_TRANSITIVE` when `None`.
    pub compatibility: Option<String>,
    /// Who reads it, to be named when its contract breaks them.
    pub readers: Vec<Reader>,
    /// The notes by which the source reads its table from nothing, behind a truncate.
    pub anew: BTreeMap<String, String>,
}

/// What a sink writes.
#[derive(Debug, Clone)]
pub struct TopicSinkConfig {
    /// The bus's name, which begins Hutong's own topics.
    pub bus: String,
    /// The streams, one topic each.
    pub streams: Vec<TopicStream>,
    /// How long a topic keeps what is before its base.
    pub history: Duration,
}

/// Hears a topic and the version of its schema.
pub type TellVersion = Arc<dyn Fn(&str, u32) + Send + Sync>;

/// A stream whose topic and schemas are there.
struct Prepared {
    encoder: Encoder,
    /// The contract of the latest change, found equal to the encoder's.
    seen: Arc<Contract>,
    topic: Arc<str>,
    partitions: u32,
    partition: Option<u32>,
}

impl Prepared {
    /// Returns the partitions that are written.
    fn own(&self) -> std::ops::Range<u32> {
        self.partition.map_or(0..self.partitions, |p| p..p + 1)
    }

    /// States whether a change's contract is the one that was prepared. Contracts are shared, so all but the
    /// first change of a contract cost a comparison of two pointers.
    fn knows(&mut self, contract: &Arc<Contract>) -> bool {
        if !Arc::ptr_eq(&self.seen, contract) {
            if **self.encoder.contract() != **contract {
                return false;
            }
            self.seen = Arc::clone(contract);
        }
        true
    }
}

/// Writes changes into topics.
pub struct TopicSink {
    log: Arc<dyn Log>,
    registry: Arc<dyn SchemaRegistry>,
    config: TopicSinkConfig,
    /// The pipeline's name, as a person knows it.
    name: String,
    lane: String,
    writer: Option<Box<dyn Writer>>,
    checkpoint_id: u32,
    prepared: HashMap<String, Prepared>,
    /// Quarantine topics that are there, with the id of their schema.
    quarantines: HashMap<String, u32>,
    /// Streams whose contract their topic does not take: the step of the same name drops their changes.
    suspension: Suspension,
    /// Streams that were suspended and fit again: so they count until their truncate is committed (I3).
    returning: BTreeSet<String>,
    /// What is committed, with the notes that this sink adds.
    checkpoint: Checkpoint,
    /// Notes of this sink that the next commit writes.
    pending: BTreeMap<String, String>,
    as_of_us: Option<i64>,
    ends: BTreeMap<String, u64>,
    history: History,
    /// Who wants to know which version of its schema a topic is written by.
    tell_version: Option<TellVersion>,
    /// Stream to what seals it.
    sealing: BTreeMap<String, Sealing>,
    unlocked: Option<Unlocked>,
    proving: Option<Proving>,
}

impl TopicSink {
    /// Makes a sink; touches nothing before [`Sink::open`].
    pub fn new(log: Arc<dyn Log>, registry: Arc<dyn SchemaRegistry>, config: TopicSinkConfig) -> Self {
        Self {
            history: History::new(config.history),
            log,
            registry,
            config,
            name: String::new(),
            lane: String::new(),
            writer: None,
            checkpoint_id: 0,
            prepared: HashMap::new(),
            quarantines: HashMap::new(),
            suspension: Suspension::default(),
            returning: BTreeSet::new(),
            checkpoint: Checkpoint::default(),
            pending: BTreeMap::new(),
            as_of_us: None,
            ends: BTreeMap::new(),
            tell_version: None,
            sealing: BTreeMap::new(),
            unlocked: None,
            proving: None,
        }
    }

    /// Tells somebody, at each opening, which version of its schema each topic is written by, where the registry says it.
    #[must_use]
    pub fn telling_versions(mut self, tell: TellVersion) -> Self {
        self.tell_version = Some(tell);
        self
    }

    /// Returns the step that drops the changes of streams which this sink has suspended; it must stand before the sink.
    pub fn suspension(&self) -> Suspension {
        self.suspension.clone()
    }

    /// Forgets what topics need not keep, now and then. The base is that of what is committed, never one to come.
    async fn trim(&mut self) {
        let topics: Vec<&str> = self.config.streams.iter().map(|stream| stream.topic.as_str()).collect();
        self.history.keep(self.log.as_ref(), &self.checkpoint, &topics, now_us()).await;
    }

    /// Moves the ends behind the records of a commit whose answer an earlier owner may not have seen: a later
    /// watermark must not speak of a time that they belong to while its ends stand before them.
    async fn settle(&mut self) -> Result<()> {
        let mut settled = BTreeMap::new();
        for (key, end) in std::mem::take(&mut self.ends) {
            let Some((topic, p)) = key.rsplit_once('/').and_then(|(t, p)| Some((t, p.parse::<u32>().ok()?)))
            else {
                continue;
            };
            let last = self.log.extent(topic).await?.and_then(|extent| extent.get(&p).copied());
            let Some((_, last)) = last else { continue };
            if last < end {
                let why = format!("it ends at {last}, and the capture has written up to {end}");
                return Err(base::lost(format!("continue {key}"), why, &self.name));
            }
            if last == end {
                settled.insert(key, end);
                continue;
            }
            let mut reader = self.log.reader(topic, p, None).await?;
            reader.seek(end).await?;
            let read = async {
                loop {
                    let fetched = reader.next(5_000, 4 << 20).await?;
                    if fetched.next >= fetched.end {
                        return Ok(fetched.next);
                    }
                }
            };
            let next = tokio::time::timeout(SETTLE_TIMEOUT, read).await.map_err(|_| {
                Error::new(ErrorKind::Unavailable, format!("read {key} to its end"), "it does not come")
            })??;
            settled.insert(key, next.max(end));
        }
        self.ends = settled;
        Ok(())
    }

    /// Moves a delivery's base to a truncate: nobody needs what stands before it. Of a capture the source says when.
    fn rebase(&self, truncate: &Change, checkpoint: &mut Checkpoint) {
        let prepared = self.prepared.get(&truncate.contract.stream);
        let Some((topic, p)) = prepared.and_then(|p| Some((&p.topic, p.partition?))) else { return };
        // Where the records of this commit begin; their own offsets are not known yet.
        if let Some(end) = self.ends.get(&partition_key(topic, p)) {
            checkpoint.notes.insert(base_note(topic, p), end.to_string());
        }
    }

    /// Encodes a change, if it must be without its old image: then it is the image that cannot be written, or makes
    /// the record too large. I3: the new row fits, and a delete needs the key alone.
    fn encode(&mut self, change: &Change, now_us: i64, out: &mut Vec<Outgoing>) -> Result<()> {
        let refused = match (self.encode_whole(change, now_us, out), &change.before) {
            (Err(error), Before::Full(_)) if error.kind == ErrorKind::Refused => error,
            (done, _) => return done,
        };
        let mut known = change.clone();
        if let Before::Full(row) = &change.before {
            known.before = Before::Key(change.contract.key_row(&change.contract.key_of(row)));
        }
        self.encode_whole(&known, now_us, out)?;
        let (stream, reason) = (&change.contract.stream, refused.why());
        tracing::debug!(stream, reason, "the old image is left out of a change, but for its key");
        Ok(())
    }

    /// Encodes a change into its partitions' records.
    fn encode_whole(&mut self, change: &Change, now_us: i64, out: &mut Vec<Outgoing>) -> Result<()> {
        let from = out.len();
        let prepared = self
            .prepared
            .get_mut(&change.contract.stream)
            .ok_or_else(|| Error::new(ErrorKind::Broken, "encode a change", "its stream was not prepared"))?;
        if !prepared.knows(&change.contract) {
            return Err(Error::new(ErrorKind::Broken, "encode a change", "its contract was not prepared"));
        }
        let Encoded { key, value } = prepared.encoder.encode(change, now_us)?;
        let record = |partition, key, value| Outgoing {
            topic: Arc::clone(&prepared.topic),
            partition,
            key,
            value: Some(value),
            headers: Vec::new(),
        };
        match key {
            Some(key) => {
                let chosen = || partition::of(&key, prepared.partitions);
                out.push(record(prepared.partition.unwrap_or_else(chosen), Some(key), value));
            }
            // Each lane deletes its own rows.
            None if change.op == Op::Truncate => {
                out.extend(prepared.own().map(|p| record(p, None, value.clone())));
            }
            None => return Err(Error::new(ErrorKind::Refused, "encode a change", "it has no key")),
        }
        // Kafka would refuse it with its whole transaction, again and again.
        if let Some(large) = out[from..].iter().find(|record| !record.fits()) {
            let why = format!("it takes {} bytes, a topic's record {RECORD_LIMIT_BYTES}", large.len_bytes());
            out.truncate(from);
            return Err(Error::new(ErrorKind::Refused, "encode a change", why));
        }
        Ok(())
    }

    /// Makes the quarantine record of a rejected change: with its row as far as that can be written, and
    /// with its key (I3).
    async fn set_aside(&mut self, rejected: &Rejected, now_us: i64) -> Result<Outgoing> {
        let stream = self.config.streams.iter().find(|stream| stream.contract.stream == rejected.stream);
        let topic = quarantine::topic(stream.map_or(&rejected.stream, |stream| &stream.topic));
        let id = match self.quarantines.get(&topic) {
            Some(id) => *id,
            None => {
                let spec = TopicSpec { name: topic.clone(), partitions: 1, compacted: false };
                self.log.ensure(&spec).await?;
                let id = self.registry.register(&format!("{topic}-value"), quarantine::SCHEMA).await?;
                self.quarantines.insert(topic.clone(), id);
                id
            }
        };
        let change = rejected.change.as_deref();
        // A sealed key is in the envelope, and nowhere in clear.
        let text = change.filter(|change| !change.contract.seals_key()).and_then(quarantine::key_text);
        let (key, envelope) = change.map_or((None, None), |change| self.encode_refused(change, now_us));
        let topic: Arc<str> = topic.into();
        let record = |key: Option<&Bytes>, envelope, text: Option<&String>| Outgoing {
            topic: Arc::clone(&topic),
            partition: 0,
            key: key.cloned(),
            value: Some(quarantine::encode(
                id,
                &self.lane,
                rejected,
                now_us,
                envelope,
                text.map(String::as_str),
            )),
            headers: Vec::new(),
        };
        // What is too large for a topic is too large for its quarantine: then without the row, at last without the key.
        let mut kept = record(key.as_ref(), envelope.as_ref(), text.as_ref());
        if !kept.fits() {
            kept = record(key.as_ref(), None, text.as_ref());
        }
        if !kept.fits() {
            kept = record(None, None, None);
        }
        Ok(kept)
    }

    /// Encodes key and envelope of a change that was refused, as far as they can be.
    fn encode_refused(&mut self, change: &Change, now_us: i64) -> (Option<Bytes>, Option<Bytes>) {
        let prepared = self.prepared.get_mut(&change.contract.stream);
        let Some(prepared) = prepared.filter(|prepared| *prepared.encoder.contract() == change.contract)
        else {
            return (None, None);
        };
        match prepared.encoder.encode_refused(change, now_us) {
            Ok(encoded) => (encoded.key, Some(encoded.value)),
            Err(_) => (prepared.encoder.encode_key(change), None),
        }
    }

    /// Encodes a batch: the records, and how many of them, counted from the front, belong to change topics.
    async fn records(&mut self, batch: &Batch, now_us: i64) -> Result<(Vec<Outgoing>, usize, u64)> {
        let mut records = Vec::with_capacity(batch.changes.len());
        let mut refused = Vec::new();
        for change in &batch.changes {
            match self.encode(change, now_us, &mut records) {
                Ok(()) => {}
                // I6, I3: what does not fit exactly is set aside with its reason, the others go on.
                Err(error) if error.kind == ErrorKind::Refused => refused.push(Rejected {
                    rule: "encode",
                    reason: error.why(),
                    position: change.position,
                    stream: change.contract.stream.clone(),
                    change: Some(Box::new(change.clone())),
                    record: None,
                }),
                Err(error) => return Err(error),
            }
        }
        let changes = records.len();
        for rejected in &refused {
            tracing::warn!(stream = rejected.stream, reason = rejected.reason, "quarantined");
        }
        for rejected in batch.rejected.iter().chain(&refused) {
            records.push(self.set_aside(rejected, now_us).await?);
        }
        Ok((records, changes, refused.len() as u64))
    }
}

#[async_trait]
impl Sink for TopicSink {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        self.writer = None;
        self.name.clone_from(&lane.pipeline.name);
        self.lane = lane.to_string();
        let mut writer = self.log.writer(lane).await?;
        // Shuts earlier owners out, and their last transaction has ended.
        let last = writer.open().await?;
        let watermark = last.map(|record| Watermark::decode(&record)).transpose()?.unwrap_or_default();
        self.checkpoint = watermark.checkpoint;
        self.as_of_us = watermark.as_of_us;
        self.ends = watermark.ends;
        self.pending.clear();
        self.prepared.clear();
        self.settle().await?;
        let topic = checkpoint_topic(&self.config.bus, &lane.pipeline);
        self.checkpoint_id = self.registry.register(&format!("{topic}-value"), watermark::SCHEMA).await?;
        self.unlock(writer.as_mut()).await?;
        self.make_proof_room(lane).await?;
        // All of them now: a table that stays empty must have its topic and its base too.
        let checkpoint = self.make_rooms().await?;
        self.writer = Some(writer);
        self.trim().await;
        Ok(checkpoint)
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        if self.prepared.get(&contract.stream).is_some_and(|p| **p.encoder.contract() == *contract) {
            return Ok(());
        }
        let stream = self.config.streams.iter().find(|s| s.contract.stream == contract.stream).cloned();
        let stream = stream.ok_or_else(|| {
            let why = "the pipeline was not configured with it";
            Error::new(ErrorKind::Config, format!("prepare stream {}", contract.stream), why)
        })?;
        match self.make_room(&stream, contract.clone().shared()).await? {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        // I2: a step that does not continue what is committed is found here, before anything is written.
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.advance(&batch.delta)?;
        checkpoint.notes.extend(self.pending.clone());
        let truncated = |change: &&Change| change.op == Op::Truncate;
        for change in batch.changes.iter().filter(truncated) {
            // What was dropped is made good behind it.
            if self.returning.contains(&change.contract.stream) {
                checkpoint.notes.remove(&refused_note(&change.contract.stream));
                if let Some(prepared) = self.prepared.get(&change.contract.stream) {
                    retire(&mut checkpoint, &mut self.ends, &prepared.topic);
                }
            }
            self.rebase(change, &mut checkpoint);
        }
        let encoding = debug_span!(target: TARGET, "encode");
        let (mut records, changes, refused) = self.records(batch, now_us()).instrument(encoding).await?;
        if let Some(own) = batch.trail.own {
            name_first(&mut records[..changes], own);
        }
        records.extend(self.prove(&mut checkpoint, batch, refused));
        let places: Vec<(Arc<str>, u32)> =
            records[..changes].iter().map(|r| (Arc::clone(&r.topic), r.partition)).collect();
        let complete_to_us = batch.behind.complete_to_us.max(self.as_of_us);
        let shown = match self.unlocked {
            None => None,
            Some(_) => Some(self.shown(&checkpoint)?),
        };
        let mut watermark = Watermark {
            lane: self.lane.clone(),
            // The offsets of this commit's own records are not known yet, so with changes the watermark is
            // that of the commit before.
            as_of_us: if changes == 0 { complete_to_us } else { self.as_of_us },
            ends: self.ends.clone(),
            checkpoint,
        };
        let record: Bytes = match shown {
            None => watermark.encode(self.checkpoint_id),
            Some(shown) => {
                let plain = std::mem::replace(&mut watermark.checkpoint, shown);
                let record = watermark.encode(self.checkpoint_id);
                watermark.checkpoint = plain;
                record
            }
        };
        // Taken out: after an error, or when this call is dropped, the outcome is unknown and only `open`
        // knows where the lane stands.
        let mut writer = self.writer.take().ok_or_else(|| {
            Error::new(ErrorKind::Unknown, format!("commit {}", self.lane), "the sink is not open")
        })?;
        let writing = debug_span!(target: TARGET, "write");
        let offsets = writer.commit(records, record).instrument(writing).await?;
        self.writer = Some(writer);
        let mut reached: BTreeMap<(Arc<str>, u32), u64> = BTreeMap::new();
        for (place, offset) in places.into_iter().zip(offsets) {
            let end = reached.entry(place).or_default();
            *end = (*end).max(offset + 1);
        }
        for ((topic, partition), end) in reached {
            let key = partition_key(&topic, partition);
            if let Some(known) = self.ends.insert(key.clone(), end).filter(|known| *known >= end) {
                // I3: a replica behind the new end would read on as if nothing had happened.
                let why = format!("the last record took offset {}, and others stood up to {known}", end - 1);
                return Err(base::lost(format!("continue {key}"), why, &self.name));
            }
        }
        self.as_of_us = complete_to_us;
        self.pending.clear();
        self.checkpoint = watermark.checkpoint;
        self.trim().await;
        Ok(Refused { lasting: refused, ..Refused::default() })
    }

    async fn close(&mut self) -> Result<()> {
        self.writer = None;
        Ok(())
    }
}

pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
