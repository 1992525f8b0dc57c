//! A key, wrapped by the owner for one reader: a record of a topic `hutong.keys.<capture>`.
//!
//! The wrapping key is HKDF-SHA-256 of what X25519 makes of the owner's private and the reader's public key, over
//! everything that the record says; the key is wrapped by AES-256-KW (RFC 3394). Only the two can make or open it, so what
//! a stranger writes into the topic opens nothing and is passed over. For the owner itself both keys are its own.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use serde::{Deserialize, Serialize};

use super::key::{Custody, PublicKey};
use super::{KEY_BYTES, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::hexadecimal;

/// The form that this program writes, and the only one that it reads.
const VERSION: u32 = 1;

/// How many bytes AES-KW adds.
const CHECK_BYTES: usize = 8;

/// The epoch of the key that record keys are made by; epochs of data keys count from 1.
pub(super) const DIGEST: u32 = 0;

/// A wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The topic whose values it seals.
    pub topic: String,
    /// The epoch; 0: the key of the record keys.
    pub epoch: u32,
    /// The grant that it is for; `None`: the owner.
    pub grant: Option<String>,
    /// The columns whose keys it holds, in their order; empty for the owner, who holds the key that all are made of.
    pub fields: Vec<String>,
    /// Who has wrapped it.
    pub by: PublicKey,
    /// Who opens it.
    pub to: PublicKey,
    /// The wrapped bytes.
    pub(super) wrapped: Vec<u8>,
}

/// How it stands in its record.
#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    topic: String,
    epoch: u32,
    grant: Option<String>,
    fields: Vec<String>,
    by: String,
    to: String,
    wrapped: String,
}

impl Wrapped {
    /// Wraps the key of an epoch for the owner, or the keys of some columns for a grant.
    pub(super) fn make(
        (topic, epoch): (&str, u32),
        key: &Key,
        owner: &dyn Custody,
        to: &PublicKey,
        grant: Option<(&str, &[String])>,
    ) -> Result<Self> {
        let mut record = Self {
            topic: topic.to_owned(),
            epoch,
            grant: grant.map(|(name, _)| name.to_owned()),
            fields: grant.map(|(_, fields)| fields.to_vec()).unwrap_or_default(),
            by: owner.public(),
            to: to.clone(),
            wrapped: Vec::new(),
        };
        let mut plain = Vec::new();
        match grant {
            None => plain.extend_from_slice(&key.0),
            Some((_, fields)) => {
                for field in fields {
                    plain.extend_from_slice(&key.of_field(topic, field)?.0);
                }
            }
        }
        let broken = |_| Error::new(ErrorKind::Broken, "wrap a key", "the library refuses it");
        let mut out = vec![0; plain.len() + CHECK_BYTES];
        let wrapping = record.wrapping(owner, to)?;
        let kek = AesKek::new(&AES_256, &wrapping.0).map_err(broken)?;
        kek.wrap(&plain, &mut out).map_err(broken)?;
        record.wrapped = out;
        Ok(record)
    }

    /// Opens the record by the key of either side; `None` when it was not made by the other one, or was changed.
    pub(super) fn open(&self, own: &dyn Custody) -> Option<Vec<Key>> {
        let other = if own.public() == self.by { &self.to } else { &self.by };
        let wrapping = self.wrapping(own, other).ok()?;
        let kek = AesKek::new(&AES_256, &wrapping.0).ok()?;
        let mut out = vec![0; self.wrapped.len()];
        let plain = kek.unwrap(&self.wrapped, &mut out).ok()?;
        let (keys, rest) = plain.as_chunks::<KEY_BYTES>();
        let wanted = if self.grant.is_none() { 1 } else { self.fields.len() };
        (rest.is_empty() && keys.len() == wanted).then(|| keys.iter().copied().map(Key::new).collect())
    }

    /// Returns the key that wraps: another one for each record that says something else.
    fn wrapping(&self, own: &dyn Custody, other: &PublicKey) -> Result<Key> {
        let epoch = self.epoch.to_be_bytes();
        let mut parts: Vec<&[u8]> =
            vec![b"hutong.keys.v1", self.by.bytes(), self.to.bytes(), self.topic.as_bytes(), &epoch];
        match &self.grant {
            None => parts.push(b"owner"),
            Some(grant) => parts.extend([b"grant", grant.as_bytes()]),
        }
        parts.extend(self.fields.iter().map(String::as_bytes));
        Key::derive(&own.agree(other)?.0, &parts)
    }

    /// Returns the record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let form = Form {
            version: VERSION,
            topic: self.topic.clone(),
            epoch: self.epoch,
            grant: self.grant.clone(),
            fields: self.fields.clone(),
            by: self.by.to_string(),
            to: self.to.to_string(),
            wrapped: hexadecimal::text(&self.wrapped),
        };
        serde_json::to_vec(&form).expect("texts and numbers print")
    }

    /// Reads a record; `None` for rubbish and for what a newer program wrote: what it would open stays shut.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let form: Form = serde_json::from_slice(bytes).ok().filter(|form: &Form| form.version == VERSION)?;
        Some(Self {
            topic: form.topic,
            epoch: form.epoch,
            grant: form.grant,
            fields: form.fields,
            by: PublicKey::parse(&form.by).ok()?,
            to: PublicKey::parse(&form.to).ok()?,
            wrapped: hexadecimal::read(&form.wrapped)?,
        })
    }
}
