//! One value, sealed: version (1 byte), epoch (4), nonce (12), the ciphertext, the tag (16).
//!
//! The nonce is the number of the sealer's opening (4 bytes) and a counter (8): the opening's number is committed to the
//! lane's checkpoint before anything is sealed under it, so that no nonce comes twice, also after a crash. The associated
//! data are the topic, the record key, the source position, the image (old or new row) and the column.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Key, put};
use crate::error::{Error, ErrorKind, Result};

/// The form that this program writes, and the only one that it reads.
const VERSION: u8 = 1;

/// How many bytes stand before the ciphertext.
const HEAD: usize = 1 + 4 + NONCE_LEN;

const TAG: usize = 16;

/// How many values are sealed under one opening at the most; no capture comes near.
const COUNTER_LIMIT: u64 = u64::MAX - 1;

/// Which row of a change a value stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The old row.
    Before,
    /// The new row.
    After,
}

/// Where a value stands: it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// The record's key, without its framing.
    pub record_key: &'a [u8],
    /// The change's position at the source, as text.
    pub position: &'a str,
    /// Which row.
    pub image: Image,
    /// The column's wire name.
    pub field: &'a str,
}

impl Cell<'_> {
    fn associated(&self, topic: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + topic.len() + self.record_key.len() + self.position.len());
        let image: &[u8] = match self.image {
            Image::Before => b"before",
            Image::After => b"after",
        };
        for part in [
            b"hutong.sealed.v1",
            topic.as_bytes(),
            self.record_key,
            self.position.as_bytes(),
            image,
            self.field.as_bytes(),
        ] {
            put(&mut out, part);
        }
        out
    }
}

/// The nonces of one opening of a lane. Shared by whatever seals under it: two counters would count the same numbers.
#[derive(Debug)]
pub struct Nonces {
    opening: u32,
    next: AtomicU64,
}

impl Nonces {
    /// Makes the nonces of an opening, whose number is committed and was never used before.
    pub fn new(opening: u32) -> Arc<Self> {
        Arc::new(Self { opening, next: AtomicU64::new(0) })
    }

    fn next(&self) -> Result<[u8; NONCE_LEN]> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number > COUNTER_LIMIT {
            return Err(Error::new(ErrorKind::Unavailable, "seal a value", "the lane's nonces are used up"));
        }
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.opening.to_be_bytes());
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Ok(nonce)
    }
}

fn cipher(key: &Key) -> Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, &key.0);
    let key =
        key.map_err(|_| Error::new(ErrorKind::Broken, "make a cipher", "the library refuses the key"))?;
    Ok(LessSafeKey::new(key))
}

/// Seals the values of one topic.
pub struct Sealer {
    topic: String,
    epoch: u32,
    data: Key,
    digest: Key,
    nonces: Arc<Nonces>,
    ciphers: HashMap<String, LessSafeKey>,
}

impl Sealer {
    /// Makes the sealer of a topic's epoch out of the topic's two keys.
    pub fn new(topic: &str, epoch: u32, data: Key, digest: Key, nonces: Arc<Nonces>) -> Self {
        Self { topic: topic.to_owned(), epoch, data, digest, nonces, ciphers: HashMap::new() }
    }

    /// Returns the digest that stands for a serialized key: HMAC-SHA-256 under the topic's own key.
    pub fn record_key(&self, serialized: &[u8]) -> Result<[u8; 32]> {
        let broken = |_| Error::new(ErrorKind::Broken, "make a record key", "the library refuses the key");
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.digest.0).map_err(broken)?;
        mac.update(serialized);
        Ok(mac.finalize().into_bytes().into())
    }

    /// Seals a value's bytes for its place.
    pub fn seal(&mut self, cell: &Cell<'_>, plain: &[u8]) -> Result<Vec<u8>> {
        if !self.ciphers.contains_key(cell.field) {
            let cipher = cipher(&self.data.of_field(&self.topic, cell.field)?)?;
            self.ciphers.insert(cell.field.to_owned(), cipher);
        }
        let nonce = self.nonces.next()?;
        let mut out = Vec::with_capacity(HEAD + plain.len() + TAG);
        out.push(VERSION);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let broken = || Error::new(ErrorKind::Broken, "seal a value", "the library refuses it");
        let cipher = self.ciphers.get(cell.field).ok_or_else(broken)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let associated = Aad::from(cell.associated(&self.topic));
        let body = out.get_mut(HEAD..).ok_or_else(broken)?;
        let tag = cipher.seal_in_place_separate_tag(nonce, associated, body).map_err(|_| broken())?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }
}

/// Why a value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is too short, or of a form that this program does not know.
    Form,
    /// It was changed, or belongs to another place.
    Tampered,
    /// There is no key of its epoch here for its column.
    NoKey(u32),
}

/// Opens the values of one topic, as far as there are keys.
#[derive(Default)]
pub struct Opener {
    topic: String,
    epochs: BTreeMap<u32, HashMap<String, LessSafeKey>>,
}

impl Opener {
    /// Makes an opener without any key.
    pub fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), epochs: BTreeMap::new() }
    }

    /// Adds the keys of columns in an epoch.
    pub(super) fn add(&mut self, epoch: u32, field: &str, key: &Key) -> Result<()> {
        self.epochs.entry(epoch).or_default().insert(field.to_owned(), cipher(key)?);
        Ok(())
    }

    /// States whether it has no key at all.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// Returns the bytes of the value that stands in a place.
    pub fn open(&self, cell: &Cell<'_>, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
        let (&[VERSION, a, b, c, d, ref rest @ ..], true) = (sealed, sealed.len() >= HEAD + TAG) else {
            return Err(Fault::Form);
        };
        let epoch = u32::from_be_bytes([a, b, c, d]);
        let keys = self.epochs.get(&epoch).and_then(|keys| keys.get(cell.field));
        let key = keys.ok_or(Fault::NoKey(epoch))?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Fault::Form)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, Aad::from(cell.associated(&self.topic)), &mut body);
        let length = plain.map_err(|_| Fault::Tampered)?.len();
        body.truncate(length);
        Ok(body)
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener({}, {} epochs)", self.topic, self.epochs.len())
    }
}
