//! The keys of one topic, out of the records of its capture's `hutong.keys.<capture>`: what the owner seals by, and what a reader may open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Key;
use super::cell::{Nonces, Opener, Sealer};
use super::key::{Custody, PublicKey};
use super::wrap::{DIGEST, Wrapped};
use crate::error::{Error, ErrorKind, Result};

/// A grant that opens sealed columns by a key of its own department.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The subscription.
    pub grant: String,
    /// The key of its department.
    pub to: PublicKey,
    /// The sealed columns that it may open, in the contract's order.
    pub fields: Vec<String>,
}

impl Reader {
    fn has(&self, record: &Wrapped) -> bool {
        let own = record.grant.as_ref() == Some(&self.grant) && record.to == self.to;
        own && self.fields.iter().all(|field| record.fields.contains(field))
    }

    fn allows(&self, record: &Wrapped) -> bool {
        let own = record.grant.as_ref() == Some(&self.grant) && record.to == self.to;
        own && record.fields.iter().all(|field| self.fields.contains(field))
    }
}

/// What the owner of a topic holds.
pub struct Ring {
    topic: String,
    data: BTreeMap<u32, Key>,
    digest: Option<Key>,
    /// What was wrapped for grants, found true.
    granted: Vec<Wrapped>,
    /// A key that records of this topic name as their owner's, and that is not the owner's key here.
    stranger: Option<PublicKey>,
}

impl Ring {
    /// Opens the owner's records of a topic; what the owner did not write is passed over.
    pub fn of(topic: &str, records: &[Wrapped], owner: &dyn Custody) -> Self {
        let mut ring = Self {
            topic: topic.to_owned(),
            data: BTreeMap::new(),
            digest: None,
            granted: Vec::new(),
            stranger: None,
        };
        let public = owner.public();
        for record in records.iter().filter(|record| record.topic == topic) {
            if record.by != public {
                ring.stranger = Some(record.by.clone());
                continue;
            }
            let Some(keys) = record.open(owner) else { continue };
            match (&record.grant, keys.into_iter().next(), record.epoch) {
                (Some(_), _, _) => ring.granted.push(record.clone()),
                (None, Some(key), DIGEST) => drop(ring.digest.get_or_insert(key)),
                (None, Some(key), epoch) => drop(ring.data.entry(epoch).or_insert(key)),
                (None, None, _) => {}
            }
        }
        ring
    }

    /// Finds the epoch to seal under, and what must be written to the topic of keys before anything is sealed under it.
    ///
    /// `noted`: the epoch of the lane's checkpoint, without which nobody knows which nonces were used: then it is a new one.
    /// So it is when a grant that can open the present one is there no more, or for fewer columns. `fresh` draws a key from
    /// the system. `Err(Denied)` when the owner's key opens none of what is noted: it is another key, or they are gone.
    pub fn begin(
        &mut self,
        noted: Option<u32>,
        readers: &[Reader],
        owner: &dyn Custody,
        mut fresh: impl FnMut() -> Result<Key>,
    ) -> Result<(u32, Vec<Wrapped>)> {
        let (public, stranger) = (owner.public(), self.stranger.clone());
        let lost = |what: &str| {
            let why = format!("the topic of keys holds no {what} that the owner's key, {public}, opens");
            let why = match &stranger {
                Some(other) => format!("{why}; others there were wrapped by {other}"),
                None => why,
            };
            Error::new(ErrorKind::Denied, format!("seal {}", self.topic), why).hint(
                "put the file of the owner's sealing key back as it was, or the topic of keys out of its copy, then start \
                 again; with neither, open the stream's next generation: what was sealed opens by nothing else",
            )
        };
        let begun = noted.is_some() || !self.data.is_empty();
        if let Some(noted) = noted.filter(|noted| !self.data.contains_key(noted)) {
            return Err(lost(&format!("key of epoch {noted}")));
        }
        if begun && self.digest.is_none() {
            return Err(lost("key of the record keys"));
        }
        let mut records = Vec::new();
        if self.digest.is_none() {
            let key = fresh()?;
            records.push(Wrapped::make((&self.topic, DIGEST), &key, owner, &owner.public(), None)?);
            self.digest = Some(key);
        }
        let revoked = |epoch: u32| {
            let mut records = self.granted.iter().filter(|record| record.epoch == epoch);
            records.any(|record| !readers.iter().any(|reader| reader.allows(record)))
        };
        let epoch = match noted.filter(|noted| !revoked(*noted)) {
            Some(noted) => noted,
            None => {
                let last = self.data.last_key_value().map_or(0, |(epoch, _)| *epoch);
                let next = last.checked_add(1).ok_or_else(|| lost("epoch that is free"))?;
                let key = fresh()?;
                records.push(Wrapped::make((&self.topic, next), &key, owner, &owner.public(), None)?);
                self.data.insert(next, key);
                next
            }
        };
        // All epochs: a replica fills from the base.
        for (epoch, key) in &self.data {
            for reader in readers.iter().filter(|reader| !reader.fields.is_empty()) {
                let has = |record: &Wrapped| record.epoch == *epoch && reader.has(record);
                if !self.granted.iter().any(has) {
                    let grant = Some((reader.grant.as_str(), reader.fields.as_slice()));
                    let record = Wrapped::make((&self.topic, *epoch), key, owner, &reader.to, grant)?;
                    records.push(record);
                }
            }
        }
        self.granted.extend(records.iter().filter(|record| record.grant.is_some()).cloned());
        Ok((epoch, records))
    }

    /// Makes the sealer of an epoch that has begun.
    pub fn sealer(&self, epoch: u32, nonces: &Arc<Nonces>) -> Result<Sealer> {
        match (self.data.get(&epoch), &self.digest) {
            (Some(data), Some(digest)) => {
                Ok(Sealer::new(&self.topic, epoch, data.clone(), digest.clone(), Arc::clone(nonces)))
            }
            _ => {
                Err(Error::new(ErrorKind::Broken, format!("seal {}", self.topic), "its epoch has not begun"))
            }
        }
    }
}

/// Makes the opener of some columns of a topic by the key of the owner, or by that of a grant's department.
///
/// `by`: the owner's public key, whose wrapping alone counts. What is missing or forged leaves its epoch shut.
pub fn opener(
    topic: &str,
    records: &[Wrapped],
    own: &dyn Custody,
    by: &PublicKey,
    grant: Option<&str>,
    fields: &[String],
) -> Result<Opener> {
    let mut opener = Opener::new(topic);
    let public = own.public();
    let mine = |record: &&Wrapped| {
        record.topic == topic
            && record.by == *by
            && record.to == public
            && record.grant.as_deref() == grant
            && record.epoch != DIGEST
    };
    for record in records.iter().filter(mine) {
        let Some(keys) = record.open(own) else { continue };
        match keys.first() {
            Some(data) if record.grant.is_none() => {
                for field in fields {
                    opener.add(record.epoch, field, &data.of_field(topic, field)?)?;
                }
            }
            _ => {
                for (field, key) in
                    record.fields.iter().zip(&keys).filter(|(field, _)| fields.contains(field))
                {
                    opener.add(record.epoch, field, key)?;
                }
            }
        }
    }
    Ok(opener)
}
