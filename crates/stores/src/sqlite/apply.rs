//! Applies a batch to a table, one key at a time, and finds out which rows the store refuses.
//!
//! A statement that fails takes back itself only, so a refused row costs the others nothing. Knows one
//! transaction that is open; nothing of its beginning or its commit.

use std::collections::HashMap;
use std::sync::Arc;

use hutong_core::{Change, Op, Rejected, Reread, Value};
use rusqlite::Connection;

use super::row::{self, Fault, remove_rows};
use super::target::Target;
use super::{error, quarantine};
use crate::fold::{self, CONFLICT, End, Folded, Keyed, Part, STORE};
use crate::keep;
use crate::reread::{BEHIND_RULE, Tally};

/// How often the rows that others of the batch may cure are gone through. What is left then is tried again later.
const PASSES: usize = 64;

pub(super) const UNDONE: &str = "a trigger of the table rolled the transaction back";

/// What a batch did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Rows upserted or patched.
    pub(super) written: u64,
    /// Keys deleted.
    pub(super) deleted: u64,
    /// What was set aside, with what earlier steps have rejected.
    pub(super) aside: Tally,
    /// The rule and the reason of the last one that no other lane may cure.
    pub(super) last: Option<(&'static str, String)>,
    /// Whether anything of the lane waits in the quarantine.
    waiting: bool,
}

/// A batch on its way into a lane's tables. Kept between runs, since a trigger may roll everything back.
pub(super) struct Apply {
    /// The lane.
    pub(super) lane: String,
    /// The changes.
    pub(super) changes: Vec<Change>,
    /// What earlier steps have rejected.
    pub(super) rejected: Vec<Rejected>,
    /// What they fold to.
    pub(super) folded: Folded,
    /// The tables, by contract.
    pub(super) targets: Vec<Arc<Target>>,
    /// Changes that the whole transaction would fail by, under which rule and why: a trigger rolled it back
    /// (`RAISE(ROLLBACK, …)`), or a constraint speaks up at COMMIT.
    pub(super) poison: HashMap<usize, (&'static str, String)>,
    /// What the lane reads again, when a person has set it back.
    pub(super) reread: Option<Reread>,
}

/// A key whose last state another row of the batch may cure.
struct Pending<'a> {
    part: &'a Part,
    keyed: &'a Keyed,
    /// Its changes that are neither applied nor set aside, once they are taken one by one.
    left: Option<Vec<usize>>,
}

/// What became of a key in one pass.
enum Went {
    Through,
    Further,
    Nowhere,
    /// The transaction is gone, by this change.
    Undone(usize),
}

impl Apply {
    /// Applies the batch; `None` when a trigger rolled the transaction back and it must be run again.
    pub(super) fn run(&mut self, connection: &Connection) -> rusqlite::Result<Option<Applied>> {
        let mut applied =
            Applied { waiting: quarantine::waits(connection, &self.lane)?, ..Applied::default() };
        // I3: set aside before anything is applied, so that a later change of the same batch settles it.
        for rejected in self.rejected.iter().chain(&self.folded.rejected) {
            self.set_aside(connection, rejected, &mut applied)?;
        }
        if let Some(at) = self.changes.iter().rposition(|c| c.op == Op::Truncate)
            && !self.truncate(connection, at, &mut applied)?
        {
            self.poison.insert(at, (STORE, UNDONE.into()));
            return Ok(None);
        }
        let mut pending: Vec<Pending<'_>> = Vec::new();
        let mut poisoned = None;
        'parts: for part in &self.folded.parts {
            for keyed in &part.keys {
                let fault = match self.write(connection, part, keyed, &mut applied) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                };
                match fault {
                    Fault::Failed(error) => return Err(error),
                    Fault::RolledBack => {}
                    // Another row of the batch may cure it.
                    Fault::Refused(refusal) if refusal.curable => {
                        pending.push(Pending { part, keyed, left: None });
                        continue;
                    }
                    Fault::Refused(_) | Fault::Rule(..) => {
                        let changes: Vec<usize> = part.of_key(&self.changes, &keyed.key).collect();
                        poisoned = self.one_by_one(connection, part, &changes, &mut applied)?;
                        if poisoned.is_none() {
                            continue;
                        }
                    }
                }
                poisoned.get_or_insert(keyed.last);
                break 'parts;
            }
        }
        if poisoned.is_none() {
            poisoned = self.settle(connection, pending, &mut applied)?;
        }
        if let Some(at) = poisoned {
            self.poison.insert(at, (STORE, UNDONE.into()));
            return Ok(None);
        }
        Ok(Some(applied))
    }

    /// Sets a change aside, and counts it.
    fn set_aside(
        &self,
        connection: &Connection,
        rejected: &Rejected,
        applied: &mut Applied,
    ) -> rusqlite::Result<()> {
        quarantine::insert(connection, &self.lane, rejected)?;
        applied.aside.count(self.reread.as_ref(), rejected);
        if rejected.rule != CONFLICT {
            applied.last = Some((rejected.rule, rejected.reason.clone()));
        }
        applied.waiting = true;
        Ok(())
    }

    /// Removes the rows of the lane; what refers to them may refuse it, and then the truncate is set aside (I3).
    ///
    /// Returns whether the transaction still stands.
    fn truncate(&self, connection: &Connection, at: usize, applied: &mut Applied) -> rusqlite::Result<bool> {
        let change = &self.changes[at];
        let reason = match self.poison.get(&at) {
            Some((_, reason)) => reason.clone(),
            None => {
                connection.execute_batch("SAVEPOINT removal")?;
                let done = self
                    .targets
                    .iter()
                    .try_for_each(|t| remove_rows(connection, &self.lane, &t.table).map(drop));
                let refused = match done {
                    Ok(()) => None,
                    Err(error) => Some(error::refusal(&error).ok_or(error)?),
                };
                if connection.is_autocommit() {
                    return Ok(false);
                }
                let Some(refusal) = refused else {
                    connection.execute_batch("RELEASE removal")?;
                    // Only now: a truncate that is refused leaves the rows, and what waits for them.
                    quarantine::supersede_all(connection, &self.lane, change.position)?;
                    return Ok(true);
                };
                connection.execute_batch("ROLLBACK TO removal; RELEASE removal")?;
                refusal.reason
            }
        };
        self.set_aside(connection, &fold::reject(change, STORE, reason), applied)?;
        Ok(true)
    }

    /// Writes what a key has come to.
    fn write(
        &self,
        connection: &Connection,
        part: &Part,
        keyed: &Keyed,
        applied: &mut Applied,
    ) -> Result<(), Fault> {
        let row = keyed.row(&self.changes);
        self.write_row(connection, part, keyed.last, keyed.end, row, applied)
    }

    /// Writes what another row of the batch cures, and sets the rest aside; returns the change that ended the
    /// transaction.
    ///
    /// Values that move on from row to row come loose at one end of their chain, so each pass takes the other
    /// direction. Only where no last state can be written does each key go on by its own changes: a value that
    /// was put aside for a moment frees another, and the key does not stop there.
    fn settle(
        &self,
        connection: &Connection,
        mut pending: Vec<Pending<'_>>,
        applied: &mut Applied,
    ) -> rusqlite::Result<Option<usize>> {
        let mut stepwise = false;
        for _ in 0..PASSES {
            let mut moved = false;
            for mut one in std::mem::take(&mut pending).into_iter().rev() {
                let went = match stepwise {
                    true => self.step(connection, &mut one, applied)?,
                    false => self.last_state(connection, &one, applied)?,
                };
                match went {
                    Went::Through => moved = true,
                    Went::Further => {
                        moved = true;
                        pending.push(one);
                    }
                    Went::Nowhere => pending.push(one),
                    Went::Undone(at) => return Ok(Some(at)),
                }
            }
            if pending.is_empty() || (stepwise && !moved) {
                break;
            }
            stepwise = !moved;
        }
        for one in pending {
            let left = one.left.unwrap_or_else(|| one.part.of_key(&self.changes, &one.keyed.key).collect());
            let undone = self.one_by_one(connection, one.part, &left, applied)?;
            if undone.is_some() {
                return Ok(undone);
            }
        }
        Ok(None)
    }

    /// Tries what a key has come to.
    fn last_state(
        &self,
        connection: &Connection,
        one: &Pending<'_>,
        applied: &mut Applied,
    ) -> rusqlite::Result<Went> {
        match self.write(connection, one.part, one.keyed, applied) {
            Ok(()) => Ok(Went::Through),
            Err(Fault::Refused(_) | Fault::Rule(..)) => Ok(Went::Nowhere),
            Err(Fault::RolledBack) => Ok(Went::Undone(one.keyed.last)),
            Err(Fault::Failed(error)) => Err(error),
        }
    }

    /// Applies the changes of a key up to one that another row may cure.
    fn step(
        &self,
        connection: &Connection,
        one: &mut Pending<'_>,
        applied: &mut Applied,
    ) -> rusqlite::Result<Went> {
        let (part, keyed) = (one.part, one.keyed);
        let left = one.left.get_or_insert_with(|| part.of_key(&self.changes, &keyed.key).collect());
        let mut done = 0;
        for at in left.iter().copied() {
            match self.alone(connection, part, at, applied) {
                Err(Fault::Refused(refusal)) if refusal.curable => break,
                written => {
                    if let Some(undone) = self.written_or_set_aside(connection, at, written, applied)? {
                        return Ok(Went::Undone(undone));
                    }
                }
            }
            done += 1;
        }
        left.drain(..done);
        Ok(match (left.is_empty(), done) {
            (true, _) => Went::Through,
            (false, 0) => Went::Nowhere,
            (false, _) => Went::Further,
        })
    }

    /// Applies changes of one key in order, so that a good one before a bad one is not lost.
    ///
    /// Returns the change that ended the transaction.
    fn one_by_one(
        &self,
        connection: &Connection,
        part: &Part,
        changes: &[usize],
        applied: &mut Applied,
    ) -> rusqlite::Result<Option<usize>> {
        for at in changes.iter().copied() {
            let written = self.alone(connection, part, at, applied);
            let undone = self.written_or_set_aside(connection, at, written, applied)?;
            if undone.is_some() {
                return Ok(undone);
            }
        }
        Ok(None)
    }

    /// Applies one change.
    fn alone(
        &self,
        connection: &Connection,
        part: &Part,
        at: usize,
        applied: &mut Applied,
    ) -> Result<(), Fault> {
        let change = &self.changes[at];
        // `fold` has rejected a change without a row already.
        let Some(row) = change.after.as_ref().or(change.before.row()) else { return Ok(()) };
        self.write_row(connection, part, at, row::end_of(change.op, row), row, applied)
    }

    /// Sets a change aside that was refused; returns it when it ended the transaction.
    fn written_or_set_aside(
        &self,
        connection: &Connection,
        at: usize,
        written: Result<(), Fault>,
        applied: &mut Applied,
    ) -> rusqlite::Result<Option<usize>> {
        let (rule, reason) = match written {
            Ok(()) => return Ok(None),
            Err(Fault::Refused(refusal)) => (if refusal.curable { CONFLICT } else { STORE }, refusal.reason),
            Err(Fault::Rule(rule, reason)) => (rule, reason),
            Err(Fault::Failed(error)) => return Err(error),
            Err(Fault::RolledBack) => return Ok(Some(at)),
        };
        self.set_aside(connection, &fold::reject(&self.changes[at], rule, reason), applied)?;
        Ok(None)
    }

    fn write_row(
        &self,
        connection: &Connection,
        part: &Part,
        at: usize,
        end: End,
        row: &[Value],
        applied: &mut Applied,
    ) -> Result<(), Fault> {
        if let Some((rule, reason)) = self.poison.get(&at) {
            return Err(Fault::Rule(rule, reason.clone()));
        }
        let Some(target) = self.targets.iter().find(|t| *t.contract == *part.contract) else {
            return Err(Fault::Rule(STORE, "no table was prepared for its contract".into()));
        };
        let position = self.changes[at].position;
        let key = if applied.waiting { keep::key_text(&part.contract, row) } else { None };
        if let (End::Patch, Some(key)) = (end, &key)
            && quarantine::waits_for(connection, &self.lane, key, position)?
        {
            return Err(Fault::Rule(
                BEHIND_RULE,
                "an earlier change of its row waits in the quarantine".into(),
            ));
        }
        row::write(connection, target, &self.lane, position, end, row)?;
        if let (End::Put | End::Delete, Some(key)) = (end, &key) {
            quarantine::supersede(connection, &self.lane, key, position)?;
        }
        match end {
            End::Delete => applied.deleted += 1,
            End::Put | End::Patch => applied.written += 1,
        }
        Ok(())
    }
}
