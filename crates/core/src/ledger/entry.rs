//! An entry as it is stored and signed.
//!
//! A record is a frame that never changes (mark, version, department, algorithm, signature) and a body, which is JSON
//! in every version. A later version only knows more acts, and an entry has the first version that knows its own, so
//! that an older program reads all that it can. The signature is over the exact bytes: a domain tag, the ledger's own digest, and everything of
//! the record but the mark and the signature. Nothing is put into a canonical form, and no registry is needed to read
//! it offline or years later.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::act::Act;
use super::head::{Digest, Head};
use super::key::{PrivateKey, PublicKey};

/// The largest record that is looked at, in bytes.
pub const RECORD_LIMIT_BYTES: usize = 256 << 10;

/// The newest version that this program writes and reads.
pub const VERSION: u16 = 3;

const MARK: &[u8] = b"hutong.ledger\0";

const DOMAIN: &[u8] = b"hutong ledger entry\0";

/// What a ledger is known by: its name, and who governs it with which first key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    /// The ledger's name.
    pub id: String,
    /// The governing department.
    pub governing: String,
    /// Its first public key, which everybody has pinned in the configuration.
    pub key: PublicKey,
}

impl Charter {
    /// Returns the head of the ledger before its first record, whose digest is of all that is here.
    pub fn genesis(&self) -> Head {
        let mut hash = Sha256::new();
        hash.update(b"hutong ledger\0");
        for part in [&self.id, &self.governing, &self.key.to_string()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Head { sequence: 0, digest: Digest(hash.finalize().into()) }
    }

    /// Returns the head of a department's receipt topic before its first record.
    pub fn receipts(&self, department: &str) -> Head {
        let mut hash = Sha256::new();
        hash.update(b"hutong receipts\0");
        hash.update(self.genesis().digest.0);
        hash.update(department);
        Head { sequence: 0, digest: Digest(hash.finalize().into()) }
    }
}

/// One entry: who says what, when, and what was known then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who says it.
    pub department: String,
    /// When, by the signer's clock, microseconds since 1970 UTC.
    pub at_us: i64,
    /// How far the signer had verified the ledger.
    pub seen: Head,
    /// What is said.
    pub act: Act,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<A> {
    at_us: i64,
    seen: Head,
    act: A,
}

impl Entry {
    /// Signs the entry; returns the record's bytes.
    pub fn sign(&self, charter: &Charter, key: &PrivateKey) -> Vec<u8> {
        self.sign_as(self.act.version(), charter, key)
    }

    pub(super) fn sign_as(&self, version: u16, charter: &Charter, key: &PrivateKey) -> Vec<u8> {
        let body = Body { at_us: self.at_us, seen: self.seen, act: &self.act };
        let body = serde_json::to_vec(&body).expect("texts and numbers print");
        let (department, algorithm) = (self.department.as_bytes(), key.algorithm().name().as_bytes());
        let mut record = MARK.to_vec();
        record.extend_from_slice(&version.to_be_bytes());
        put(&mut record, department);
        put(&mut record, algorithm);
        put(&mut record, &key.sign(&message(charter, version, department, algorithm, &body)));
        record.extend_from_slice(&body);
        record
    }
}

fn put(record: &mut Vec<u8>, part: &[u8]) {
    let length = u16::try_from(part.len()).expect("names, algorithms and signatures are short");
    record.extend_from_slice(&length.to_be_bytes());
    record.extend_from_slice(part);
}

/// Returns what is signed.
fn message(charter: &Charter, version: u16, department: &[u8], algorithm: &[u8], body: &[u8]) -> Vec<u8> {
    let mut message = DOMAIN.to_vec();
    message.extend_from_slice(&charter.genesis().digest.0);
    message.extend_from_slice(&version.to_be_bytes());
    put(&mut message, department);
    put(&mut message, algorithm);
    message.extend_from_slice(body);
    message
}

/// A record whose frame is whole; nothing of it is believed yet.
pub(super) struct Frame<'a> {
    pub(super) version: u16,
    pub(super) department: &'a str,
    algorithm: &'a str,
    signature: &'a [u8],
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame; `Err` says in words why the record has none.
    pub(super) fn read(record: &'a [u8]) -> Result<Self, &'static str> {
        if record.len() > RECORD_LIMIT_BYTES {
            return Err("it is larger than an entry may be");
        }
        let rest = record.strip_prefix(MARK).ok_or("it does not begin as an entry does")?;
        let (version, mut rest) = rest.split_first_chunk::<2>().ok_or("it ends too early")?;
        let mut part = || -> Result<&'a [u8], &'static str> {
            let (length, after) = rest.split_first_chunk::<2>().ok_or("it ends too early")?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (part, after) = after.split_at_checked(length).ok_or("it ends too early")?;
            rest = after;
            Ok(part)
        };
        let text = |part: &'a [u8]| std::str::from_utf8(part).map_err(|_| "a name in it is not UTF-8");
        let (department, algorithm, signature) = (text(part()?)?, text(part()?)?, part()?);
        Ok(Self { version: u16::from_be_bytes(*version), department, algorithm, signature, body: rest })
    }

    /// Returns the digest of what is signed when the owner of the key has signed it.
    ///
    /// The signature itself is not in it, so a second signature of the same words is the same entry.
    pub(super) fn verified(&self, charter: &Charter, key: &PublicKey) -> Option<Digest> {
        if self.algorithm != key.algorithm().name() {
            return None;
        }
        let (department, algorithm) = (self.department.as_bytes(), self.algorithm.as_bytes());
        let message = message(charter, self.version, department, algorithm, self.body);
        key.verifies(&message, self.signature).then(|| Digest::of(&message))
    }

    /// Reads the body. An act that the version of the record does not know is none: an older program skips it, and so
    /// must everybody.
    pub(super) fn entry(&self) -> Result<Entry, String> {
        let body: Body<Act> = serde_json::from_slice(self.body).map_err(|e| e.to_string())?;
        if body.act.version() > self.version {
            return Err(format!("version {} knows no act `{}`", self.version, body.act.name()));
        }
        Ok(Entry {
            department: self.department.to_owned(),
            at_us: body.at_us,
            seen: body.seen,
            act: body.act,
        })
    }
}
