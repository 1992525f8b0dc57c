//! The snapshot of a capture's tables: which chunk is due, and which rows give way to the stream.
//!
//! The method is DBLog's (Andreakis and Papapanagiotou, 2020), with PostgreSQL's snapshots in place of the
//! low watermark. The stream is not read while a chunk is read, so the low watermark is the place where the
//! reader stands; the high one is a message in the change stream. Visibility order is not commit order: a
//! transaction may be in the stream and not yet seen by a later snapshot. So
//!
//! - no chunk is read in a snapshot that does not see a transaction that was streamed *before* it, and that
//!   touched the table: a later one is taken
//!   (at once, a few times, while the stream is not read and so no transaction joins those that must be seen);
//! - a row of a chunk gives way to a change of its key that is streamed *after* it was read and that its
//!   snapshot does not see;
//! - what was streamed before this process opened the capture is not remembered: chunks are read only once
//!   every transaction that ran at that time has ended (the barrier). Live changes go on meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hutong_core::{Before, Contract};
use tokio::time::Instant;

use super::chunk::Chunk;
use super::image::{self, Image, Item};
use super::visibility::Visibility;

/// How long to wait before a chunk is read again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// A chunk with the table it is of and the watermark it waits for.
pub(crate) struct Waiting {
    pub(crate) table: usize,
    pub(crate) token: String,
    /// Whether the high watermark was written.
    pub(crate) written: bool,
    pub(crate) chunk: Chunk,
}

/// The state of a capture's snapshot; exists while a table is not done.
pub(crate) struct Snapshot {
    /// The first transaction number after the opening; every lower one must have ended.
    barrier: u64,
    barrier_passed: bool,
    barrier_told: bool,
    /// Transactions streamed since the opening that no chunk's snapshot has seen yet, by table.
    streamed: HashMap<usize, HashSet<u32>>,
    pub(crate) waiting: Option<Waiting>,
    again_at: Instant,
    /// How long the next wait for the stream is.
    pause: Duration,
    token: String,
    number: u64,
}

impl Snapshot {
    /// Starts; `barrier` is a transaction number drawn after everything was set up.
    pub(crate) fn new(barrier: u64) -> Self {
        Self {
            barrier,
            barrier_passed: false,
            barrier_told: false,
            streamed: HashMap::new(),
            waiting: None,
            again_at: Instant::now(),
            pause: AGAIN.0,
            token: format!("{:016x}", rand::random::<u64>()),
            number: 0,
        }
    }

    /// Another table begins: transactions that ran before a number was drawn must have ended first.
    pub(crate) fn wait_for(&mut self, barrier: u64) {
        self.barrier = self.barrier.max(barrier);
        (self.barrier_passed, self.barrier_told) = (false, false);
    }

    /// Returns when the next chunk may be read; `None` while one waits for its watermark.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.is_none().then_some(self.again_at)
    }

    /// The table is locked by somebody: its chunk is tried again.
    pub(crate) fn busy(&mut self) {
        self.again_at = Instant::now() + AGAIN.0;
    }

    /// The database snapshot was behind the stream: another one is taken, each time a little later.
    pub(crate) fn behind_stream(&mut self) {
        self.again_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(AGAIN.1);
    }

    /// A row message of a table was streamed: the rows of its keys give way that were read before it, in a snapshot
    /// that does not see it.
    pub(crate) fn streamed(&mut self, table: usize, xid: u32, contract: &Contract, image: &mut Image) {
        self.note(table, xid);
        let Some(chunk) = self.behind(table, xid) else { return };
        // The chunk's row is the version before this change, so it tells what did not change.
        let old: Vec<_> = image.keys.iter().filter_map(|key| chunk.give_way(contract, key)).collect();
        for item in &mut image.items {
            if let (Item::Change(change), Some(old)) = (item, old.first())
                && let Some(after) = &mut change.after
            {
                image::fill(after, old);
                // I3: it stands for the row that gave way, so no reader may take the old image for one that
                // the replicas hold, and leave out a change that nobody is permitted to see.
                if let Before::Full(before) = &mut change.before {
                    contract.keep_key(before);
                    change.before = Before::Key(std::mem::take(before));
                }
            }
        }
    }

    /// The truncate of a table was streamed: every row gives way that was read before it.
    pub(crate) fn truncated(&mut self, table: usize, xid: u32) {
        self.note(table, xid);
        if let Some(chunk) = self.behind(table, xid) {
            chunk.clear();
        }
    }

    /// A transaction of a table was streamed that no chunk's snapshot has seen yet.
    fn note(&mut self, table: usize, xid: u32) {
        self.streamed.entry(table).or_default().insert(xid);
    }

    /// Returns the chunk of a table if its snapshot does not see a transaction.
    fn behind(&mut self, table: usize, xid: u32) -> Option<&mut Chunk> {
        let waiting = self.waiting.as_mut().filter(|waiting| waiting.table == table)?;
        (!waiting.chunk.visibility.sees(xid)).then_some(&mut waiting.chunk)
    }

    /// Takes a chunk that was read in a database snapshot that is level with the stream.
    pub(crate) fn accept(&mut self, table: usize, chunk: Chunk) {
        self.pause = AGAIN.0;
        self.number += 1;
        let token = format!("{}-{}", self.token, self.number);
        self.waiting = Some(Waiting { table, token, written: false, chunk });
    }

    /// States whether a database snapshot sees what was streamed of a table; otherwise no chunk is read in it.
    pub(crate) fn is_level(&mut self, table: usize, visibility: &Visibility) -> bool {
        if !self.barrier_passed {
            if visibility.xmin <= self.barrier {
                if !std::mem::replace(&mut self.barrier_told, true) {
                    tracing::info!(
                        xid = visibility.xmin,
                        "the snapshot waits for a transaction that runs since before"
                    );
                }
                return false;
            }
            self.barrier_passed = true;
        }
        // What this snapshot sees, every later one sees too.
        for unseen in self.streamed.values_mut() {
            unseen.retain(|xid| !visibility.sees(*xid));
        }
        self.streamed.get(&table).is_none_or(HashSet::is_empty)
    }

    /// States whether a database snapshot that is not level may soon be: what it must see was streamed, so it is
    /// committed; a transaction that runs since before may run for hours.
    pub(crate) fn may_soon_be_level(&self) -> bool {
        self.barrier_passed
    }

    /// A message of Hutong's was streamed: returns the chunk whose high watermark it is.
    pub(crate) fn passed(&mut self, token: &[u8]) -> Option<Waiting> {
        self.waiting.take_if(|waiting| waiting.token.as_bytes() == token)
    }

    /// A table is no longer captured.
    pub(crate) fn forget(&mut self, table: usize) {
        self.streamed.remove(&table);
        self.waiting.take_if(|waiting| waiting.table == table);
    }
}

#[cfg(test)]
#[path = "snapshot_test.rs"]
mod tests;
