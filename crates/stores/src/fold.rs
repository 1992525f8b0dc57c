//! What a batch makes of each key: many changes of a row become the one that stands at the end.
//!
//! Every store sink applies a batch through [`fold`], so that each key is written once and set-wise.
//! Applying what is folded leaves the same rows as applying the changes one by one (a property test holds
//! it). Knows changes and contracts, and nothing of SQL.
//!
//! A sink applies a [`Folded`] so:
//!
//! 1. when `truncate` is set, remove the rows of this lane;
//! 2. for each [`Part`] in order: delete the keys that end as [`End::Delete`] (a missing row is fine), upsert
//!    those that end as [`End::Put`] (every value is known), and for each [`End::Patch`] update the known
//!    values of the row; when there is no row, the patch is rejected by the rule `unknown_value`;
//! 3. what is in `rejected` goes to the quarantine in the same commit (I3).
//!
//! When the store refuses a folded key, the sink goes back to the changes of that key ([`Part::of_key`])
//! and applies them one by one, so that a good change before a bad one is not lost.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use hutong_core::{Change, Contract, Op, Rejected, Row, Value};

use crate::reread::NOT_THERE;

/// The rule under which a change is rejected that needs a value which nobody has told.
pub const UNKNOWN_VALUE: &str = "unknown_value";

/// The rule under which a change is rejected that does not say of which row it speaks, or lacks its row.
pub const UNKNOWN_KEY: &str = "unknown_key";

/// The rule under which a change is rejected that the store refuses.
pub(crate) const STORE: &str = "store";

/// The rule under which a change is rejected that a change of another lane may cure: the lane tries it again.
pub(crate) const CONFLICT: &str = "conflict";

/// What a batch comes to.
#[derive(Debug, Default)]
pub struct Folded {
    /// Whether the rows of this lane are removed before anything else. What stood before the truncate in
    /// the batch is gone with it.
    pub truncate: bool,
    /// Runs of changes under one contract, in order; mostly one.
    pub parts: Vec<Part>,
    /// Changes that cannot be applied to any store.
    pub rejected: Vec<Rejected>,
}

/// A run of changes under one contract, each key once.
#[derive(Debug)]
pub struct Part {
    /// The contract of every row in it.
    pub contract: Arc<Contract>,
    /// Which changes of the batch it folds.
    pub changes: Range<usize>,
    /// What each key comes to, in the order of the first change of each.
    pub keys: Vec<Keyed>,
}

/// What the changes of one key come to.
#[derive(Debug)]
pub struct Keyed {
    /// The key, comparable bytewise.
    pub key: Key,
    /// Index in the batch of the change that decided it: its position is where the row comes from.
    pub last: usize,
    /// How it ends.
    pub end: End,
    /// The row, when it was put together from several changes; else it is the change's own.
    merged: Option<Row>,
    /// Partial changes after a delete, which no complete change has settled since.
    behind: Vec<usize>,
}

/// How the row of a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The row stands as it is, whether it was there or not. No value of it is [`Value::Unknown`].
    Put,
    /// The known values stand in a row that must already be there; [`Value::Unknown`] leaves a column alone.
    Patch,
    /// The row is gone, whether it was there or not.
    Delete,
}

/// A row's key as bytes: equal when the values are equal as a database compares them (1.0 and 1.00 are).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8]>);

impl Key {
    /// Makes the key of a row; `None` when a key value is NULL or unknown.
    pub fn of(contract: &Contract, row: &[Value]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(32);
        for at in &contract.key {
            encode(row.get(*at)?, &mut bytes)?;
        }
        Some(Self(bytes.into()))
    }
}

impl Keyed {
    /// Returns the row: of a put every value is known, of a patch some are, of a delete only the key must be.
    pub fn row<'a>(&'a self, changes: &'a [Change]) -> &'a [Value] {
        match (&self.merged, &changes[self.last]) {
            (Some(row), _) => row,
            (None, change) => row_of(change).map_or(&[], Vec::as_slice),
        }
    }
}

impl Part {
    /// Returns the indexes of the changes of one key, in order, for applying them one by one.
    pub fn of_key<'a>(&'a self, changes: &'a [Change], key: &'a Key) -> impl Iterator<Item = usize> + 'a {
        self.changes.clone().filter(move |at| {
            row_of(&changes[*at]).and_then(|row| Key::of(&self.contract, row)).is_some_and(|k| k == *key)
        })
    }
}

/// Folds the changes of a batch by key, in order.
pub fn fold(changes: &[Change]) -> Folded {
    let mut folded = Folded::default();
    let start = match changes.iter().rposition(|c| c.op == Op::Truncate) {
        Some(at) => {
            folded.truncate = true;
            at + 1
        }
        None => 0,
    };
    let mut at = start;
    while at < changes.len() {
        let contract = &changes[at].contract;
        let run = changes[at..]
            .iter()
            .take_while(|c| Arc::ptr_eq(&c.contract, contract) || c.contract == *contract)
            .count();
        folded.parts.push(part(changes, at..at + run, &mut folded.rejected));
        at += run;
    }
    folded
}

/// Makes a rejection of a change.
pub fn reject(change: &Change, rule: &'static str, reason: impl Into<String>) -> Rejected {
    Rejected {
        rule,
        reason: reason.into(),
        position: change.position,
        stream: change.contract.stream.clone(),
        change: Some(Box::new(change.clone())),
        record: None,
    }
}

fn part(changes: &[Change], range: Range<usize>, rejected: &mut Vec<Rejected>) -> Part {
    let contract = Arc::clone(&changes[range.start].contract);
    let mut keys: Vec<Keyed> = Vec::with_capacity(range.len());
    let mut places: HashMap<Key, usize> = HashMap::with_capacity(range.len());
    for at in range.clone() {
        let change = &changes[at];
        let Some(row) = row_of(change).filter(|row| row.len() == contract.fields.len()) else {
            rejected.push(reject(change, UNKNOWN_KEY, "the change does not carry its row"));
            continue;
        };
        let Some(key) = Key::of(&contract, row) else {
            rejected.push(reject(change, UNKNOWN_KEY, "the change does not say of which row it speaks"));
            continue;
        };
        let end = match change.op {
            Op::Delete => End::Delete,
            _ if row.iter().any(Value::is_unknown) => End::Patch,
            _ => End::Put,
        };
        let Some(&place) = places.get(&key) else {
            places.insert(key.clone(), keys.len());
            keys.push(Keyed { key, last: at, end, merged: None, behind: Vec::new() });
            continue;
        };
        let keyed = &mut keys[place];
        match (keyed.end, end) {
            (_, End::Put | End::Delete) => {
                *keyed = Keyed { key, last: at, end, merged: None, behind: Vec::new() }
            }
            // The row is gone, so there is nothing to leave as it is: never NULL, never guessed.
            (End::Delete, End::Patch) => {
                keyed.behind.push(at);
            }
            (before @ (End::Put | End::Patch), End::Patch) => {
                let merged = merge(keyed.row(changes), row);
                *keyed = Keyed { key, last: at, end: before, merged: Some(merged), behind: Vec::new() };
            }
        }
    }
    for at in keys.iter().flat_map(|keyed| &keyed.behind) {
        rejected.push(reject(&changes[*at], UNKNOWN_VALUE, NOT_THERE));
    }
    rejected.sort_by_key(|item| item.position);
    Part { contract, changes: range, keys }
}

/// Returns the row that a change speaks of: the new one, or the deleted one as far as it is known.
fn row_of(change: &Change) -> Option<&Row> {
    match change.op {
        Op::Delete => change.before.row(),
        _ => change.after.as_ref(),
    }
}

/// Returns `new` with what it does not tell taken from `old`.
fn merge(old: &[Value], new: &[Value]) -> Row {
    new.iter().zip(old).map(|(new, old)| if new.is_unknown() { old.clone() } else { new.clone() }).collect()
}

/// Appends a value so that no two different sequences of values have the same bytes.
fn encode(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Unknown | Value::Null => return None,
        Value::Boolean(b) => out.extend([1, u8::from(*b)]),
        Value::Integer(n) => tagged(2, &n.to_be_bytes(), out),
        Value::Float(n) => tagged(3, &canonical(f64::from(*n)), out),
        Value::Double(n) => tagged(3, &canonical(*n), out),
        Value::Decimal(n) => sized(4, n.normalized().to_string().as_bytes(), out),
        Value::Text(text) => sized(5, text.as_bytes(), out),
        Value::Bytes(bytes) => sized(6, bytes, out),
        Value::Date(n) => tagged(7, &n.to_be_bytes(), out),
        Value::Time(n) => tagged(8, &n.to_be_bytes(), out),
        Value::Timestamp(n) => tagged(9, &n.to_be_bytes(), out),
        Value::TimestampTz(n) => tagged(10, &n.to_be_bytes(), out),
        Value::Array(items) => {
            tagged(11, &(items.len() as u64).to_be_bytes(), out);
            for item in items {
                match item {
                    Value::Null => out.push(0),
                    item => encode(item, out)?,
                }
            }
        }
    }
    Some(())
}

fn tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn sized(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    tagged(tag, &(bytes.len() as u64).to_be_bytes(), out);
    out.extend_from_slice(bytes);
}

/// Zero has two signs and NaN many forms; a database takes each as one.
fn canonical(n: f64) -> [u8; 8] {
    let n = if n == 0.0 {
        0.0
    } else if n.is_nan() {
        f64::NAN
    } else {
        n
    };
    n.to_bits().to_be_bytes()
}

#[cfg(test)]
#[path = "fold_test.rs"]
mod tests;
