//! What should become of the department's changes: the fold of its log, by the rules of a lane, and which fate each
//! change may have. Knows nothing of batches, owners and stores, and nothing of the step that it judges.

use std::collections::BTreeMap;

use hutong_core::{Op, Row, Value};

use crate::department::{Entry, PORTRAIT};

/// What decides about the changes of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Everything goes on.
    All,
    /// Some are dropped by a rule and some rejected, by their place.
    Sieve,
    /// What a grant names goes on.
    Granted,
}

/// What may become of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It must be written.
    Written,
    /// It must be set aside.
    Aside,
    /// It must be dropped under the rule.
    Dropped(&'static str),
    /// It says nothing that the replica does not hold: it may be dropped under the rule.
    Spare(&'static str),
}

/// Decides about a place by its number, for [`Rules::Sieve`].
pub(crate) fn sieve(offset: u64) -> Fate {
    match offset % 7 {
        3 => Fate::Dropped("filtered"),
        5 => Fate::Aside,
        _ => Fate::Written,
    }
}

/// The rows of one partition as they should be.
#[derive(Debug, Default, Clone)]
pub(crate) struct Replica {
    /// By key.
    pub(crate) rows: BTreeMap<i64, Row>,
}

impl Replica {
    /// Takes the next change of the partition in, and says what may become of it.
    pub(crate) fn pass(&mut self, rules: Rules, grant: usize, offset: u64, entry: &Entry) -> Fate {
        if rules == Rules::Sieve && sieve(offset) != Fate::Written {
            return sieve(offset);
        }
        let granted = rules == Rules::Granted;
        let row = match (&entry.after, entry.op) {
            (None, Op::Truncate) => {
                self.rows.clear();
                return Fate::Written;
            }
            (Some(row), _) if !granted || inside(grant, row) => row,
            (None | Some(_), _) => {
                return match self.rows.remove(&entry.key) {
                    None if granted => Fate::Spare("filtered"),
                    None | Some(_) => Fate::Written,
                };
            }
        };
        let mut row = if granted { projected(grant, row) } else { row.clone() };
        let held = self.rows.get(&entry.key);
        let portrait = if granted { 2 } else { PORTRAIT };
        if entry.untold && portrait < row.len() {
            let Some(held) = held else { return Fate::Aside };
            row[portrait] = held[portrait].clone();
        }
        if granted && held == Some(&row) {
            return Fate::Spare("outside_grant");
        }
        self.rows.insert(entry.key, row);
        Fate::Written
    }
}

/// States whether a row is granted.
fn inside(grant: usize, row: &[Value]) -> bool {
    match (grant, row[1].as_text()) {
        (_, None) => false,
        (0, Some(state)) => state != "gone",
        (_, Some(state)) => state == "here",
    }
}

/// Returns the granted columns.
fn projected(grant: usize, row: &[Value]) -> Row {
    let columns: &[usize] = if grant == 0 { &[0, 1, PORTRAIT] } else { &[0, 1] };
    columns.iter().map(|at| row[*at].clone()).collect()
}
