//! Puts a batch together, and decides where it may end.
//!
//! A batch ends between two source transactions, but for a transaction beyond the limits, which is split
//! between two row messages; its last change so far is kept back, so that `last` is said of the right one.

use std::collections::BTreeMap;

use hutong_core::{Batch, Behind, Change, Delta, Position, Rejected};
use tokio::time::Instant;

use super::image::Item;
use super::reread::Missing;
use super::source::Limit;

/// The name of the one partition of a capture.
pub(crate) const PARTITION: &str = "wal";

/// The batch that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    changes: Vec<Change>,
    rejected: Vec<Rejected>,
    dropped: BTreeMap<&'static str, u64>,
    notes: BTreeMap<String, Option<String>>,
    missing: Vec<Missing>,
    bytes: usize,
    /// Changes and bytes of the transaction that is being read.
    open_rows: usize,
    open_bytes: usize,
    since: Option<Instant>,
}

impl Assembly {
    /// States whether there is something to commit that cannot wait for the next idle step.
    pub(crate) fn is_urgent(&self) -> bool {
        self.since.is_some()
    }

    /// States whether there is nothing at all, not even a note.
    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none() && self.notes.is_empty()
    }

    /// Returns when the first of it arrived.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// States whether it is large enough to end at the next end of a transaction.
    pub(crate) fn is_large(&self, limit: &Limit) -> bool {
        self.changes.len() + self.rejected.len() >= limit.rows || self.bytes >= limit.bytes
    }

    /// States whether the transaction that is being read must be split here.
    pub(crate) fn is_beyond(&self, limit: &Limit) -> bool {
        self.open_rows >= limit.transaction_rows || self.open_bytes >= limit.transaction_bytes
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self) {
        (self.open_rows, self.open_bytes) = (0, 0);
    }

    /// Adds a change or a reject of the transaction that is being read.
    pub(crate) fn push(&mut self, item: Item) {
        self.open_rows += 1;
        self.open_bytes += self.add(item);
    }

    /// Adds what a chunk has read. It belongs to no transaction and is never split: it goes out as a whole, with
    /// the note of its progress (I7).
    pub(crate) fn push_read(&mut self, item: Item) {
        self.add(item);
    }

    /// Returns the weight.
    fn add(&mut self, item: Item) -> usize {
        self.since.get_or_insert_with(Instant::now);
        let weight = match item {
            Item::Change(change) => {
                let weight = change.weight();
                self.changes.push(change);
                weight
            }
            Item::Rejected(rejected) => {
                let weight = rejected.change.as_ref().map_or(0, |change| change.weight());
                self.rejected.push(rejected);
                weight
            }
        };
        self.bytes += weight;
        weight
    }

    /// A change that was added has a value that nobody told.
    pub(crate) fn miss(&mut self, missing: Missing) {
        self.missing.push(missing);
    }

    /// Takes what is missing of the changes up to a place.
    pub(crate) fn missing(&mut self, upto: Position) -> Vec<Missing> {
        let (taken, kept) = std::mem::take(&mut self.missing).into_iter().partition(|m| m.position <= upto);
        self.missing = kept;
        taken
    }

    /// Counts a change that a named rule drops (I3).
    pub(crate) fn drop(&mut self, rule: &'static str) {
        *self.dropped.entry(rule).or_default() += 1;
    }

    /// Sets or removes a note with this batch.
    pub(crate) fn note(&mut self, name: impl Into<String>, text: Option<String>) {
        self.notes.insert(name.into(), text);
    }

    /// The transaction that committed at `commit_lsn` ends: its last change is the last one.
    pub(crate) fn end(&mut self, commit_lsn: u64) {
        let of_it = |c: &&mut Change| {
            c.origin.transaction.is_some()
                && c.position.as_wal().is_some_and(|(_, lsn, ..)| lsn == commit_lsn)
        };
        if let Some(change) = self.changes.last_mut().as_mut().filter(|c| of_it(c)) {
            change.origin.last = true;
        }
    }

    /// Takes everything as a batch that reaches `to`.
    pub(crate) fn take(&mut self, from: Position, to: Position, behind: Behind) -> Batch {
        let mut delta = Delta::range(PARTITION, from, to.max(from));
        delta.notes = std::mem::take(&mut self.notes);
        self.bytes = 0;
        self.since = None;
        (self.open_rows, self.open_bytes) = (0, 0);
        Batch {
            changes: std::mem::take(&mut self.changes),
            rejected: std::mem::take(&mut self.rejected),
            dropped: std::mem::take(&mut self.dropped),
            delta,
            behind,
            ..Batch::default()
        }
    }

    /// Takes everything but the last row message; `None` when there is nothing but that.
    ///
    /// The batch reaches the place just before that message.
    pub(crate) fn split(&mut self, from: Position, behind: Behind) -> Option<Batch> {
        let change = self.changes.last().map(|change| change.position);
        let last = change.max(self.rejected.last().map(|rejected| rejected.position))?;
        let (era, lsn, index, _) = last.as_wal()?;
        let to = Position::wal(era, lsn, index.checked_sub(1)?, u8::MAX);
        if to <= from {
            return None;
        }
        let first = self.changes.iter().rposition(|c| c.position <= to).map_or(0, |i| i + 1);
        let kept = self.changes.split_off(first);
        let (rejected, kept_rejected) =
            std::mem::take(&mut self.rejected).into_iter().partition(|r| r.position <= to);
        self.rejected = rejected;
        let batch = self.take(from, to, behind);
        for change in kept {
            self.push(Item::Change(change));
        }
        for rejected in kept_rejected {
            self.push(Item::Rejected(rejected));
        }
        Some(batch)
    }
}
