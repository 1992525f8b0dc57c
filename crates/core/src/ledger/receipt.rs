//! Receipts: what one commit of a lane delivered, under which grant, chained so that none can be taken away unseen.
//!
//! A [`Proof`] is made of the batch before it is written, and commits with its rows and its checkpoint (I2). A
//! [`Receipt`] is the proof with what the store has counted, as it is published: a frame that never changes (mark,
//! version) and a body, which is JSON in version 1. Roots in the ledger are over its exact bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::head::{Digest, Head};
use crate::canonical;
use crate::change::{Before, Change};
use crate::checkpoint::Checkpoint;
use crate::port::Batch;
use crate::position::Position;
use crate::value::Value;

/// The note of a lane's checkpoint that holds the head of its chain: how many receipts it has left, and their digest.
/// It outlives a grant (`LASTING`): the chain of a lane goes on from one grant to the next.
pub const NOTE: &str = "ledger.receipt";

/// The version of the body that this program writes, and the newest that it reads.
const VERSION: u16 = 1;

const MARK: &[u8] = b"hutong.receipt\0";

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Which receipt of its lane, counted from 1 over all grants.
    pub sequence: u64,
    /// The number of the grant in the ledger.
    pub grant: u64,
    /// Partition to the range that the commit covers; the first excluded, the second included.
    pub ranges: BTreeMap<String, (Position, Position)>,
    /// How many changes were delivered.
    pub changes: u64,
    /// How many could not be decided or read, and were set aside in the same commit.
    pub rejected: u64,
    /// The digest of what was delivered: every permitted change as the subscriber sees it, in its order.
    pub content: Digest,
    /// The digest of all this and of the lane's receipts before it.
    pub chain: Digest,
}

impl Proof {
    /// Proves a batch that a lane is about to write. `before` is the lane's checkpoint without the batch.
    ///
    /// `None` of a batch that delivers nothing: it leaves no receipt.
    pub fn of(lane: &str, grant: u64, before: &Checkpoint, batch: &Batch) -> Option<Self> {
        if batch.changes.is_empty() && batch.rejected.is_empty() {
            return None;
        }
        let counts = (batch.changes.len() as u64, batch.rejected.len() as u64);
        Some(Self::next(lane, grant, before, batch.delta.ranges.clone(), counts, content(batch)))
    }

    /// Proves what a recall has deleted of a lane, in the transaction that deletes it.
    pub fn recalled(lane: &str, grant: u64, before: &Checkpoint, deleted: u64) -> Self {
        Self::next(lane, grant, before, BTreeMap::new(), (0, 0), recalled(deleted))
    }

    /// Proves of how many rows of a lane a narrower grant has emptied or masked columns, and how many it has removed, in
    /// the transaction that does so. The lane stays where it is.
    ///
    /// `None` of a lane that has read nothing: there was nothing to narrow.
    pub fn narrowed(
        lane: &str,
        grant: u64,
        before: &Checkpoint,
        (changed, removed): (u64, u64),
    ) -> Option<Self> {
        let here = before.positions.iter().map(|(partition, at)| (partition.clone(), (*at, *at)));
        let ranges: BTreeMap<_, _> = here.collect();
        (!ranges.is_empty())
            .then(|| Self::next(lane, grant, before, ranges, (0, 0), narrowed(changed, removed)))
    }

    fn next(
        lane: &str,
        grant: u64,
        before: &Checkpoint,
        ranges: BTreeMap<String, (Position, Position)>,
        (changes, rejected): (u64, u64),
        content: Digest,
    ) -> Self {
        // A note that cannot be read is none: the chain begins again, and whoever reads the receipts sees it.
        let last = before.note(NOTE).and_then(Head::parse).unwrap_or_else(|| begin(lane));
        let sequence = last.sequence.saturating_add(1);
        let mut proof = Self { sequence, grant, ranges, changes, rejected, content, chain: last.digest };
        proof.chain = proof.chained(lane, last.digest);
        proof
    }

    /// States whether it is of a recall, and not of a delivery.
    pub fn is_of_recall(&self) -> bool {
        self.ranges.is_empty()
    }

    /// States whether it is of rows that a narrower grant has changed or removed, and not of a delivery: a batch that
    /// delivers nothing leaves no receipt.
    pub fn is_of_narrowing(&self) -> bool {
        !self.ranges.is_empty() && self.changes == 0 && self.rejected == 0
    }

    /// Returns the head of the lane's chain behind it: what its checkpoint notes.
    pub fn head(&self) -> Head {
        Head { sequence: self.sequence, digest: self.chain }
    }

    /// States whether it is the next one of its lane.
    pub fn follows(&self, lane: &str, last: &Head) -> bool {
        self.sequence.checked_sub(1) == Some(last.sequence) && self.chain == self.chained(lane, last.digest)
    }

    fn chained(&self, lane: &str, last: Digest) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"hutong receipt\0");
        hash.update(last.0);
        put(&mut hash, lane.as_bytes());
        for number in [self.sequence, self.grant, self.changes, self.rejected, self.ranges.len() as u64] {
            hash.update(number.to_be_bytes());
        }
        for (partition, (from, to)) in &self.ranges {
            put(&mut hash, partition.as_bytes());
            put(&mut hash, from.as_bytes());
            put(&mut hash, to.as_bytes());
        }
        hash.update(self.content.0);
        Digest(hash.finalize().into())
    }
}

/// Returns the digest of how many rows a recall has deleted.
fn recalled(deleted: u64) -> Digest {
    count(b"hutong recalled\0", deleted)
}

/// Returns the digest of how many rows a narrower grant has changed, and how many it has removed.
fn narrowed(changed: u64, removed: u64) -> Digest {
    if removed == 0 {
        return count(b"hutong narrowed\0", changed);
    }
    let mut hash = Sha256::new();
    hash.update(b"hutong narrowed 2\0");
    hash.update(changed.to_be_bytes());
    hash.update(removed.to_be_bytes());
    Digest(hash.finalize().into())
}

fn count(tag: &[u8], rows: u64) -> Digest {
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(rows.to_be_bytes());
    Digest(hash.finalize().into())
}

/// Returns the head of a lane that has left no receipt yet.
pub fn begin(lane: &str) -> Head {
    let mut hash = Sha256::new();
    hash.update(b"hutong receipts of a lane\0");
    hash.update(lane);
    Head { sequence: 0, digest: Digest(hash.finalize().into()) }
}

fn put(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

/// Returns the digest of what a batch delivers, also into the quarantine.
pub fn content(batch: &Batch) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"hutong delivered\0");
    let mut bytes = Vec::new();
    for change in &batch.changes {
        bytes.clear();
        of_change(change, &mut bytes);
        put(&mut hash, &bytes);
    }
    for rejected in &batch.rejected {
        bytes.clear();
        part(rejected.rule.as_bytes(), &mut bytes);
        part(rejected.position.as_bytes(), &mut bytes);
        if let Some(change) = &rejected.change {
            of_change(change, &mut bytes);
        }
        put(&mut hash, &bytes);
    }
    Digest(hash.finalize().into())
}

fn part(text: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text);
}

fn of_change(change: &Change, bytes: &mut Vec<u8>) {
    part(change.contract.stream.as_bytes(), bytes);
    part(change.op.letter().as_bytes(), bytes);
    part(change.position.as_bytes(), bytes);
    part(change.source_position.as_bytes(), bytes);
    bytes.extend_from_slice(&change.origin.committed_us.to_be_bytes());
    part(change.before.word().as_bytes(), bytes);
    let mut row = |row: &[Value]| {
        bytes.extend_from_slice(&(row.len() as u32).to_be_bytes());
        for (field, value) in change.contract.fields.iter().zip(row) {
            part(field.name.as_bytes(), bytes);
            canonical::any(value, bytes);
        }
    };
    match &change.before {
        Before::None => {}
        Before::Key(old) | Before::Full(old) => row(old),
    }
    if let Some(new) = &change.after {
        row(new);
    }
}

/// A receipt as it is kept where its lane commits, until it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What the commit says of itself.
    pub proof: Proof,
    /// How many rows were written.
    pub written: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// How many changes were set aside.
    pub quarantined: u64,
    /// When it was committed, by the store's clock, microseconds since 1970 UTC.
    pub at_us: i64,
}

/// A receipt as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Which receipt of its topic, counted from 1.
    pub number: u64,
    /// Who received.
    pub department: String,
    /// The subscription's name.
    pub subscription: String,
    /// The stream.
    pub stream: String,
    /// The lane.
    pub lane: String,
    /// What the commit says of itself.
    pub proof: Proof,
    /// How many rows the store has written.
    pub written: u64,
    /// How many it has deleted.
    pub deleted: u64,
    /// How many changes were set aside, those that the store has refused among them.
    pub quarantined: u64,
    /// When it was committed, by the store's clock, microseconds since 1970 UTC.
    pub at_us: i64,
}

impl Receipt {
    /// States whether the count of a recall or of a narrowing is the one that its store has proved. Of a delivery only
    /// the store counts what was written.
    pub fn fits_count(&self) -> bool {
        match &self.proof {
            proof if proof.is_of_recall() => proof.content == recalled(self.deleted),
            proof if proof.is_of_narrowing() => proof.content == narrowed(self.written, self.deleted),
            _ => true,
        }
    }

    /// Returns the record's bytes.
    pub fn record(&self) -> Vec<u8> {
        let mut record = MARK.to_vec();
        record.extend_from_slice(&VERSION.to_be_bytes());
        record.extend(serde_json::to_vec(self).expect("texts and numbers print"));
        record
    }

    /// Reads a record; `Err` says in words why it is none, or none that this program knows.
    pub fn read(record: &[u8]) -> Result<Self, String> {
        let rest = record.strip_prefix(MARK).ok_or("it does not begin as a receipt does")?;
        let (version, body) = rest.split_first_chunk::<2>().ok_or("it ends too early")?;
        let version = u16::from_be_bytes(*version);
        if version > VERSION {
            return Err(format!(
                "it has version {version}, and this program knows version {VERSION}: use the newer Hutong that wrote it"
            ));
        }
        serde_json::from_slice(body).map_err(|e| e.to_string())
    }
}
