//! The ports: where adapters meet the engine.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::change::{Change, Rejected};
use crate::checkpoint::{Checkpoint, Delta, TAIL};
use crate::contract::Contract;
use crate::error::Result;
use crate::lane::LaneId;
use crate::steer::Hold;
use crate::trail::Trail;

/// What one commit writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// What cannot go on, and goes to the quarantine in the same commit.
    pub rejected: Vec<Rejected>,
    /// How many changes each named rule dropped. I3: what is dropped is counted.
    pub dropped: BTreeMap<&'static str, u64>,
    /// How many of `changes` only make sure that a row is not there which a snapshot read and nobody is granted: they are
    /// executed, and counted among `dropped`.
    pub outside: u64,
    /// The step that the commit makes. It may move although there is no change (a filtered stretch, an idle source).
    pub delta: Delta,
    /// How far behind its origin the source is after this batch.
    pub behind: Behind,
    /// How it came here: told to who watches, and nothing is decided by it.
    pub trail: Trail,
}

/// How many changes of a batch the store refused, and the sink has set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refused {
    /// Those that a person must look at: they count against the lane's limit.
    pub lasting: u64,
    /// Those that a change of another lane may cure: the sink tries them again by itself, and keeps their number low.
    pub curable: u64,
    /// Those that a lane reads again which a person has set back, and that lack a row which is gone by now. What makes it so
    /// comes by again; what of them still waits when the lane is where it was, the sink counts then.
    pub again: u64,
    /// How many items of the lane wait in the quarantine now, where the sink has counted them.
    pub waiting: Option<u64>,
    /// Since when the oldest of them waits, microseconds since 1970 UTC by the store's clock; `None` when none waits.
    pub oldest_us: Option<i64>,
}

impl Refused {
    /// Returns how many there are.
    pub fn count(self) -> u64 {
        self.lasting + self.curable + self.again
    }
}

impl Batch {
    /// States whether it writes nothing but how far the lane is: no change, no reject, no note of anything else.
    pub fn is_silent(&self) -> bool {
        self.changes.is_empty()
            && self.rejected.is_empty()
            && self.delta.notes.keys().all(|name| name.starts_with(TAIL))
    }

    /// Makes one batch of two that follow each other. `Err` when they do not; then it must not be committed.
    pub fn append(&mut self, next: Self) -> Result<()> {
        self.delta.append(next.delta)?;
        self.changes.extend(next.changes);
        self.rejected.extend(next.rejected);
        for (rule, count) in next.dropped {
            *self.dropped.entry(rule).or_default() += count;
        }
        self.outside += next.outside;
        self.behind = next.behind;
        self.trail.append(next.trail);
        Ok(())
    }
}

/// How far behind its origin a source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Changes not yet read; `None` when the source cannot tell.
    pub count: Option<u64>,
    /// Bytes of the origin's log not yet read, where only bytes can be told.
    pub bytes: Option<u64>,
    /// Everything that the origin had committed before this time (microseconds since 1970 UTC) is in this
    /// batch or in an earlier one. `None` when the source cannot tell yet.
    pub complete_to_us: Option<i64>,
}

/// Where a pipeline reads.
///
/// The engine calls `open` once, then `next` and `ack` in turn; after any `Err` it calls `open` again.
#[async_trait]
pub trait Source: Send {
    /// Starts to read after `from`; an empty checkpoint asks for the snapshot first. `from` is durable downstream, so
    /// the origin may forget what is before it (I1).
    ///
    /// `Err(PositionLost)` when the origin no longer holds it. May be called again at any time.
    async fn open(&mut self, from: &Checkpoint) -> Result<()>;

    /// Waits for the next batch. `None`: a bounded source has ended.
    ///
    /// Cancel safe: a call that is dropped loses nothing. A batch has changes, makes a step, or tells how fresh the
    /// source is.
    async fn next(&mut self) -> Result<Option<Batch>>;

    /// Says that everything up to `upto` is durable downstream, so the origin may forget it (I1).
    async fn ack(&mut self, upto: &Checkpoint) -> Result<()>;

    /// Frees what it holds at the origin, but nothing that a later `open` needs.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Where a pipeline writes.
#[async_trait]
pub trait Sink: Send {
    /// Takes the lane over, shuts earlier owners out, and returns where the lane stands.
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint>;

    /// Makes room for rows of a contract. Idempotent. Called before the first change of a contract, and again
    /// when a contract changes. `Err(SchemaConflict)` rather than a loss.
    async fn prepare(&mut self, contract: &Contract) -> Result<()>;

    /// Writes changes, rejects and checkpoint in one transaction (I2). Returns how many of the changes the
    /// store refused and the sink set aside itself, in the same transaction (I3). `Err(Unavailable)` also when it
    /// gives way to another lane, whose change may cure what the store refuses.
    ///
    /// After `Err` the outcome is unknown: call `open` and read the checkpoint. `Err(Fenced)`: somebody else
    /// has taken the lane.
    async fn commit(&mut self, batch: &Batch) -> Result<Refused>;

    /// Looks how the lane stands to who opened it, also after an `Err(Fenced)`. Takes nothing and changes nothing; where
    /// people cannot act on a lane, it is held until a commit says otherwise.
    async fn look(&mut self) -> Result<Hold> {
        Ok(Hold::Held)
    }

    /// Frees what it holds, but not the lane: `look` still answers.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The change goes on, perhaps altered.
    Pass(Change),
    /// A named rule drops it; the engine counts it by the name.
    Drop {
        /// The rule, from a closed set: `filtered`, `outside_grant`, `suspended`, `duplicate`.
        reason: &'static str,
    },
    /// It cannot go on and is set aside.
    Reject(Rejected),
}

/// A pure decision about one change.
pub trait Step: Send {
    /// Returns the step's name for metrics and logs.
    fn name(&self) -> &'static str;

    /// Decides about one change.
    fn apply(&mut self, change: Change) -> Verdict;
}
