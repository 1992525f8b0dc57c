//! Sealing in a capture: its keys, its nonces, and the notes of its checkpoint that hold a row's key.
//!
//! Everything is settled when the lane opens, in one commit, before a value is sealed: the number of the opening, which
//! makes the nonces of this owner its own (a writer that is shut out cannot commit one), and the wrapped keys. When other
//! grants open columns, a commit before the next change wraps their keys, or begins another epoch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hutong_core::seal::{Cell, Custody, Image, Key, Nonces, Opener, Reader, Ring, Sealer, Wrapped, ring};
use hutong_core::{Checkpoint, Error, ErrorKind, Result, ResultExt};
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::time::Instant;

use super::TopicSink;
use crate::keys;
use crate::log::{Outgoing, Writer};
use crate::watermark::Watermark;

/// The note that counts the openings of a lane that seals.
const OPENING: &str = "seal.opening";

/// What the notes begin with that hold a row's key: how far a snapshot has come.
const HOLD_KEYS: &str = "snapshot.";

/// What a sealed note begins with.
const SEALED: &str = "sealed:";

/// The column in whose place notes are sealed: no contract has one of this name.
const NOTE: &str = "hutong_note";

/// How long keys that are not there are looked for, when the lane opens: behind a broker that has just come to lead their
/// topic, they may not be seen yet.
const UNSEEN: Duration = Duration::from_secs(5);

/// How often they are looked for.
const LOOK: Duration = Duration::from_millis(250);

/// By what the columns of a stream are sealed.
#[derive(Clone)]
pub struct Sealing {
    /// The key of the stream's owner.
    pub owner: Arc<dyn Custody>,
    /// The grants that open columns by a key of their own department.
    pub readers: Vec<Reader>,
}

/// The ring of each topic, and the epoch under which it is sealed.
type Rings = HashMap<String, (Ring, u32)>;

/// What one opening of the lane seals by.
pub(super) struct Unlocked {
    nonces: Arc<Nonces>,
    rings: Rings,
    /// What seals notes, and the ring's opener; only where a sealed key stands in them.
    notes: Option<(Sealer, Opener)>,
}

impl TopicSink {
    /// Gives it what seals its streams, by their names. A stream with sealed columns that has none is not written.
    #[must_use]
    pub fn sealing(mut self, sealing: BTreeMap<String, Sealing>) -> Self {
        self.sealing = sealing;
        self
    }

    /// Finds or makes the keys, and takes the nonces of this opening for its own. Costs nothing where nothing is sealed.
    pub(super) async fn unlock(&mut self, writer: &mut dyn Writer) -> Result<()> {
        self.unlocked = None;
        let sealed: Vec<_> = self.config.streams.iter().filter(|stream| stream.contract.seals()).collect();
        if sealed.is_empty() {
            return legible(&self.checkpoint, &self.lane);
        }
        let topic = keys::topic(&self.config.bus, &self.name);
        keys::ensure(self.log.as_ref(), &topic).await?;
        let opening = opening(&self.checkpoint)?;
        let nonces = Nonces::new(opening);
        let mut notes = None;
        let mut topics: Vec<(String, &Sealing, &[Reader])> = Vec::new();
        for stream in &sealed {
            let name = &stream.contract.stream;
            let sealing = self.sealing.get(name).ok_or_else(|| {
                let why = "columns of it are sealed, and the key of its owner is not here";
                Error::new(ErrorKind::Denied, format!("capture {name}"), why)
                    .hint("name the owner's key in `keys` of [sealing]; `hutong check` says which")
            })?;
            topics.push((stream.topic.clone(), sealing, &sealing.readers));
            if stream.contract.seals_key() && notes.is_none() {
                notes = Some(sealing);
            }
        }
        // The notes of the lane are sealed by a key of its own, which only an owner opens.
        topics.extend(notes.map(|sealing| (self.lane.clone(), sealing, &[][..])));
        let deadline = Instant::now() + UNSEEN;
        let (records, rings, written) = loop {
            let records = keys::read(self.log.as_ref(), &topic).await?;
            match rings(&topics, &records, &self.checkpoint) {
                Ok((rings, written)) => break (records, rings, written),
                Err(problem) if problem.kind == ErrorKind::Denied && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(problem) => {
                    let doing = format!("{} by the keys in {topic}", problem.doing);
                    return Err(Error { doing, ..problem });
                }
            }
        };
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.notes.insert(OPENING.into(), opening.to_string());
        for (topic, (_, epoch)) in &rings {
            checkpoint.notes.insert(epoch_note(topic), epoch.to_string());
        }
        let notes = match notes {
            None => None,
            Some(sealing) => {
                let (own, field) = (sealing.owner.as_ref(), [NOTE.to_owned()]);
                let all: Vec<_> = records.iter().chain(&written).cloned().collect();
                let opener = ring::opener(&self.lane, &all, own, &own.public(), None, &field)?;
                let (ring, epoch) = &rings[&self.lane];
                Some((ring.sealer(*epoch, &nonces)?, opener))
            }
        };
        let watermark = Watermark {
            lane: self.lane.clone(),
            as_of_us: self.as_of_us,
            ends: self.ends.clone(),
            checkpoint: checkpoint.clone(),
        };
        writer.commit(outgoing(&topic, &written), watermark.encode(self.checkpoint_id)).await?;
        self.told(&written);
        let mut unlocked = Unlocked { nonces, rings, notes };
        unlocked.open_notes(&mut checkpoint, &self.lane)?;
        self.checkpoint = checkpoint;
        self.unlocked = Some(unlocked);
        Ok(())
    }

    /// Lets other grants open columns from the next opening on: stream to its grants.
    pub fn will_entrust(&mut self, readers: &BTreeMap<String, Vec<Reader>>) {
        for (stream, sealing) in &mut self.sealing {
            sealing.readers = readers.get(stream).cloned().unwrap_or_default();
        }
    }

    /// Lets other grants open columns from now on: stream to its grants. Those that are new are given the keys of every
    /// epoch; where one is there no more, or for fewer columns, another epoch begins (I5).
    ///
    /// An open sink commits that before it returns, with its checkpoint, so before anything is sealed under it (I7). After
    /// `Err` the outcome is unknown: call `open`, which finds what is committed.
    pub async fn entrust(&mut self, readers: &BTreeMap<String, Vec<Reader>>) -> Result<()> {
        self.will_entrust(readers);
        let (Some(unlocked), Some(_)) = (&mut self.unlocked, &self.writer) else { return Ok(()) };
        let (mut checkpoint, mut written, mut begun) = (self.checkpoint.clone(), Vec::new(), Vec::new());
        for stream in &self.config.streams {
            let sealing = self.sealing.get(&stream.contract.stream);
            let ring = unlocked.rings.get_mut(&stream.topic);
            let (Some(sealing), Some((ring, epoch))) = (sealing, ring) else { continue };
            let (now, more) = ring.begin(Some(*epoch), &sealing.readers, sealing.owner.as_ref(), fresh)?;
            written.extend(more);
            if now != *epoch {
                *epoch = now;
                checkpoint.notes.insert(epoch_note(&stream.topic), now.to_string());
                begun.push(stream.clone());
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        let watermark = Watermark {
            lane: self.lane.clone(),
            as_of_us: self.as_of_us,
            ends: self.ends.clone(),
            checkpoint: self.shown(&checkpoint)?,
        };
        let topic = keys::topic(&self.config.bus, &self.name);
        let outgoing = outgoing(&topic, &written);
        // Taken out: after an error only `open` knows what is committed.
        let mut writer = self.writer.take().ok_or_else(|| {
            Error::new(ErrorKind::Unknown, format!("wrap keys in {topic}"), "the sink is not open")
        })?;
        writer.commit(outgoing, watermark.encode(self.checkpoint_id)).await?;
        self.told(&written);
        self.checkpoint = checkpoint;
        for stream in begun {
            let sealer = self.sealer(&stream.topic)?;
            if let Some(prepared) = self.prepared.get_mut(&stream.contract.stream) {
                prepared.encoder.reseal(sealer);
            }
        }
        self.writer = Some(writer);
        Ok(())
    }

    /// Says which keys were wrapped, and for whom.
    fn told(&self, written: &[Wrapped]) {
        for wrapped in written.iter().filter(|wrapped| wrapped.topic != self.lane) {
            let Wrapped { topic, epoch, grant, to, .. } = wrapped;
            match grant {
                Some(grant) => {
                    tracing::info!(lane = self.lane, topic, epoch, grant, key = %to, "a sealing key is wrapped for a grant");
                }
                None if *epoch > 0 => {
                    tracing::info!(lane = self.lane, topic, epoch, "an epoch of the sealing key begins");
                }
                None => {}
            }
        }
    }

    /// Returns the sealer of a topic; `Err(Denied)` when there is no key for it.
    pub(super) fn sealer(&self, topic: &str) -> Result<Sealer> {
        let found = self.unlocked.as_ref().and_then(|u| Some((u.rings.get(topic)?, &u.nonces)));
        let Some(((ring, epoch), nonces)) = found else {
            return Err(Error::new(ErrorKind::Denied, format!("seal {topic}"), "the lane has no key for it"));
        };
        ring.sealer(*epoch, nonces)
    }

    /// Returns a checkpoint as it may stand on the bus: what holds a row's key is sealed where that key is.
    pub(super) fn shown(&mut self, checkpoint: &Checkpoint) -> Result<Checkpoint> {
        let mut shown = checkpoint.clone();
        if let Some((sealer, _)) = self.unlocked.as_mut().and_then(|unlocked| unlocked.notes.as_mut()) {
            for (name, note) in shown.notes.iter_mut().filter(|(name, _)| name.starts_with(HOLD_KEYS)) {
                let sealed = sealer.seal(&place(name), note.as_bytes())?;
                *note = format!("{SEALED}{}", hutong_core::hexadecimal::text(&sealed));
            }
        }
        Ok(shown)
    }
}

impl Unlocked {
    fn open_notes(&mut self, checkpoint: &mut Checkpoint, lane: &str) -> Result<()> {
        let Some((_, opener)) = &self.notes else { return legible(checkpoint, lane) };
        for (name, note) in &mut checkpoint.notes {
            let Some(digits) = note.strip_prefix(SEALED).filter(|_| name.starts_with(HOLD_KEYS)) else {
                continue;
            };
            let bytes = hutong_core::hexadecimal::read(digits);
            let plain = bytes.and_then(|bytes| opener.open(&place(name), &bytes).ok());
            let text = plain.and_then(|plain| String::from_utf8(plain).ok());
            *note = text.ok_or_else(|| {
                let why = format!("its note {name} does not open by the owner's key");
                Error::new(ErrorKind::Denied, format!("open {lane}"), why)
                    .hint("restore the topic of keys and the owner's sealing key")
            })?;
        }
        Ok(())
    }
}

/// Opens the rings of some topics, and finds the epoch under which each goes on and what must be written before that.
fn rings(
    topics: &[(String, &Sealing, &[Reader])],
    records: &[Wrapped],
    checkpoint: &Checkpoint,
) -> Result<(Rings, Vec<Wrapped>)> {
    // Without the number of openings nobody knows which nonces were used.
    let begun = checkpoint.note(OPENING).is_some();
    let (mut rings, mut written) = (HashMap::new(), Vec::new());
    for (topic, sealing, readers) in topics {
        let owner = sealing.owner.as_ref();
        let noted = checkpoint.note(&epoch_note(topic)).filter(|_| begun);
        let mut ring = Ring::of(topic, records, owner);
        let (epoch, new) = ring.begin(noted.and_then(|note| note.parse().ok()), readers, owner, fresh)?;
        written.extend(new);
        rings.insert(topic.clone(), (ring, epoch));
    }
    Ok((rings, written))
}

/// Returns the note of the epoch under which a topic is sealed.
fn epoch_note(topic: &str) -> String {
    format!("seal.epoch.{topic}")
}

/// Returns the records of some wrapped keys.
fn outgoing(topic: &str, written: &[Wrapped]) -> Vec<Outgoing> {
    let topic: Arc<str> = topic.into();
    let record = |wrapped: &Wrapped| Outgoing {
        topic: Arc::clone(&topic),
        partition: 0,
        key: None,
        value: Some(wrapped.encode().into()),
        headers: Vec::new(),
    };
    written.iter().map(record).collect()
}

fn place(name: &str) -> Cell<'_> {
    Cell { record_key: name.as_bytes(), position: "", image: Image::After, field: NOTE }
}

/// `Err(Denied)` when a note is sealed that nobody here opens: a source would take it for none.
fn legible(checkpoint: &Checkpoint, lane: &str) -> Result<()> {
    match checkpoint.notes.iter().find(|(_, note)| note.starts_with(SEALED)) {
        None => Ok(()),
        Some((name, _)) => {
            let why = format!("its note {name} is sealed, and no stream of it seals its key any more");
            Err(Error::new(ErrorKind::Denied, format!("open {lane}"), why)
                .hint("take the change of the contract back"))
        }
    }
}

/// Returns the number of the next opening.
fn opening(checkpoint: &Checkpoint) -> Result<u32> {
    let last = checkpoint.note(OPENING).map_or(Some(0), |note| note.parse::<u32>().ok());
    last.and_then(|last| last.checked_add(1)).ok_or_else(|| {
        let why = "its checkpoint does not say which nonces it has used";
        Error::new(ErrorKind::Broken, "seal", why)
    })
}

/// Draws a key from the system.
fn fresh() -> Result<Key> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).or_kind(ErrorKind::Unavailable, || "draw a key".into())?;
    Ok(Key::new(bytes))
}
