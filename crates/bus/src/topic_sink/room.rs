//! Room for a stream: its topic, its schemas, its base; and what becomes of a contract that its topic does not take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hutong_core::snapshot::refused_note;
use hutong_core::{Checkpoint, Contract, Error, ErrorKind, Result, hexadecimal};
use sha2::{Digest, Sha256};

use super::{Prepared, TopicSink, TopicStream};
use crate::envelope::{Encoder, schemas};
use crate::log::TopicSpec;
use crate::registry::{SchemaRegistry, register_at};
use crate::watermark::{base_note, incarnation_note, partition_key, schema_note};
use crate::{base, succession};

impl TopicSink {
    /// Makes the topic, registers its schemas and notes where its base begins.
    ///
    /// Returns the refusal of a contract that may not follow the topic's, before anything is written.
    pub(super) async fn make_room(
        &mut self,
        stream: &TopicStream,
        contract: Arc<Contract>,
    ) -> Result<Option<Error>> {
        let TopicStream { topic, partitions, partition, .. } = stream;
        let (partitions, partition) = (*partitions, *partition);
        let spec = TopicSpec { name: topic.clone(), partitions, compacted: false };
        let found = self.log.extent(topic).await?;
        let suspended = self.checkpoint.refused(&contract.stream).is_some();
        base::check(&self.checkpoint, topic, found.as_ref(), &self.name, suspended)?;
        let level = stream.compatibility.as_deref().unwrap_or(succession::STRICT);
        if let Some(old) = succession::noted(&self.checkpoint, topic) {
            let breaking = succession::breaking(&old, &contract, level);
            if !breaking.is_empty() {
                return Ok(Some(succession::refused(topic, &stream.readers, &breaking, "")));
            }
        }
        for drift in self.log.ensure(&spec).await? {
            tracing::warn!(drift, "a topic is not as it should be");
        }
        let doing = || format!("prepare topic {topic}");
        let extent = match found {
            Some(extent) => extent,
            None => self.log.extent(topic).await?.unwrap_or_default(),
        };
        if extent.len() != partitions as usize {
            // I4: with another count, a key's changes would continue in another partition.
            let why = format!("it has {} partitions, the configuration says {partitions}", extent.len());
            return Err(Error::new(ErrorKind::SchemaConflict, doing(), why)
                .hint("a changed number of partitions opens the stream's next generation"));
        }
        let texts = schemas(&contract, topic);
        let mut ids = [0; 2];
        for (id, (suffix, text)) in ids.iter_mut().zip([("key", &texts.key), ("value", &texts.value)]) {
            let subject = format!("{topic}-{suffix}");
            *id = match register_at(self.registry.as_ref(), &subject, text, level).await {
                Ok(id) => id,
                Err(error) if error.kind == ErrorKind::SchemaConflict => {
                    return told(self.registry.as_ref(), stream, &contract, &texts.value, &error)
                        .await
                        .map(Some);
                }
                Err(error) => return Err(error),
            };
        }
        if let Some(tell) = &self.tell_version {
            // Nothing is decided by it: an outage is no reason to stop.
            match self.registry.version(&format!("{topic}-value"), &texts.value).await {
                Ok(version) => version.into_iter().for_each(|version| tell(topic, version)),
                Err(error) => tracing::debug!(%error, topic, "ask for the version of a schema"),
            }
        }
        let (name, note) = succession::note(topic, &contract);
        if self.checkpoint.note(&name) != Some(&note) {
            self.pending.insert(name, note);
        }
        let name = schema_note(topic);
        let note = format!("{} {}", ids[0], hexadecimal::text(&Sha256::digest(&texts.key)));
        match self.checkpoint.note(&name) {
            Some(noted) if *noted == note => {}
            Some(noted) => {
                let why = format!("the key's schema was {noted} (id, SHA-256), now it is {note}");
                return Err(Error::new(ErrorKind::SchemaConflict, doing(), why).hint(
                    "keys would move to other partitions: restore the registry, or open the next generation",
                ));
            }
            None => {
                self.pending.insert(name, note);
            }
        }
        let own = |p: &u32| stream.partition.is_none_or(|own| own == *p);
        for (p, (_, end)) in extent.into_iter().filter(|(p, _)| own(p)) {
            let name = base_note(topic, p);
            if self.checkpoint.note(&name).is_none() {
                self.pending.insert(name, end.to_string());
                self.ends.entry(partition_key(topic, p)).or_insert(end);
            }
        }
        let name = incarnation_note(topic);
        if self.checkpoint.note(&name).is_none() && !self.pending.contains_key(&name) {
            self.pending.insert(name, format!("{:032x}", rand::random::<u128>()));
        }
        let mut encoder = Encoder::new(Arc::clone(&contract), ids[0], ids[1]);
        if contract.seals() {
            encoder = encoder.sealing(self.sealer(topic)?);
        }
        let prepared = Prepared {
            encoder,
            seen: Arc::clone(&contract),
            topic: topic.as_str().into(),
            partitions,
            partition,
        };
        self.prepared.insert(contract.stream.clone(), prepared);
        Ok(None)
    }

    /// Makes room for every stream; those whose contract is refused are suspended, and the others go on.
    ///
    /// Returns the checkpoint for the source: with what is suspended, and with the notes that let it read the tables
    /// anew whose contract fits again.
    pub(super) async fn make_rooms(&mut self) -> Result<Checkpoint> {
        let (mut suspended, mut returning) = (BTreeSet::new(), BTreeSet::new());
        let mut notes = BTreeMap::new();
        for stream in self.config.streams.clone() {
            let name = stream.contract.stream.clone();
            match self.make_room(&stream, Arc::clone(&stream.contract)).await? {
                // A delivery has no other stream that could go on.
                Some(refusal) if stream.partition.is_some() => return Err(refusal),
                Some(refusal) => {
                    let (reason, hint) = (refusal.why(), refusal.hint.unwrap_or_default());
                    tracing::warn!(lane = self.lane, stream = name, reason, hint, "stream suspended");
                    let note = (refused_note(&name), format!("{reason}. What to do: {hint}"));
                    notes.extend([note.clone()]);
                    self.pending.extend([note]);
                    suspended.insert(name);
                }
                None if self.checkpoint.refused(&name).is_some() => {
                    notes.extend(stream.anew);
                    returning.insert(name);
                }
                None => {}
            }
        }
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.notes.retain(|name, _| !name.starts_with(&refused_note("")));
        checkpoint.notes.extend(notes);
        self.suspension.set(suspended);
        self.returning = returning;
        Ok(checkpoint)
    }
}

/// Says of a schema that the registry does not take what it breaks, as far as the registered one tells.
async fn told(
    registry: &dyn SchemaRegistry,
    stream: &TopicStream,
    contract: &Contract,
    text: &str,
    refusal: &Error,
) -> Result<Error> {
    let checked = registry.check(&format!("{}-value", stream.topic), text).await?;
    let breaking =
        checked.latest.map(|old| succession::breaking_of_schema(&old, contract)).unwrap_or_default();
    Ok(succession::refused(&stream.topic, &stream.readers, &breaking, &refusal.why()))
}
