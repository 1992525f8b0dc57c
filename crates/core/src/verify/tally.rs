//! What one side tells of its rows, and how the two tellings are compared.
//!
//! Rows come one by one and none is kept, so a side needs as much memory as it is asked about keys, however many rows
//! there are: 65,536 sums at first, then at most as many digests as the asker allows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::digest::{KeyDigest, Range, RowDigest, field_digest, row_digest};
use super::suspects::{Difference, Look};
use crate::contract::Contract;
use crate::value::{Row, Value};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A sum of every range.
    Ranges,
    /// The digest of every row of these ranges.
    Within(BTreeSet<Range>),
    /// Everything about these keys.
    Keys(BTreeSet<KeyDigest>),
}

/// The rows of a range: how many there are, and the sum of their digests.
///
/// A sum and not an exclusive or: of that, a row that stands twice would leave nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeSum {
    /// How many rows.
    pub count: u64,
    /// The sum of their digests, modulo 2^128.
    pub sum: u128,
}

/// A sum for each range that has rows.
pub type Sums = BTreeMap<Range, RangeSum>;

/// What is known of one row that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Detail {
    /// The digest of each field, in the projection's order; 0 of one that is not compared.
    pub fields: Vec<u64>,
    /// The key, in the projection's key order.
    pub key: Row,
    /// The key at the source, in the contract's key order; the replica's side does not know it.
    pub source_key: Option<Row>,
}

/// A key that one side cannot answer for: a change of it waits in a quarantine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Aside {
    /// The rule that set it aside.
    pub rule: String,
    /// Whether it waits at the replica; else at the source.
    pub at_replica: bool,
}

/// What a side answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// How many rows there are in all.
    pub rows: u64,
    /// To [`Ask::Ranges`].
    pub sums: Sums,
    /// To [`Ask::Within`].
    pub digests: BTreeMap<KeyDigest, RowDigest>,
    /// To [`Ask::Keys`].
    pub details: BTreeMap<KeyDigest, Detail>,
    /// Keys that wait in a quarantine.
    pub asides: BTreeMap<KeyDigest, Aside>,
    /// How many more wait whose key nobody knows.
    pub unknown: u64,
}

/// Takes the rows of one side in, and keeps what was asked.
#[derive(Debug)]
pub struct Tally {
    ask: Ask,
    /// Fields that are not compared.
    skip: Vec<usize>,
    answer: Answer,
}

impl Tally {
    /// Starts; the fields of `skip` are not compared.
    pub fn new(ask: Ask, skip: Vec<usize>) -> Self {
        Self { ask, skip, answer: Answer::default() }
    }

    /// Takes a row of the projection in; `source_key` is its key at the source, where that is known.
    pub fn add(&mut self, contract: &Contract, row: &[Value], source_key: impl FnOnce() -> Option<Row>) {
        self.answer.rows += 1;
        let Some(key) = KeyDigest::of(contract, row) else {
            self.answer.unknown += 1;
            return;
        };
        match &self.ask {
            Ask::Ranges => {
                let sum = self.answer.sums.entry(key.range()).or_default();
                sum.count += 1;
                sum.sum = sum.sum.wrapping_add(row_digest(contract, row, key, &self.skip));
            }
            Ask::Within(ranges) if ranges.contains(&key.range()) => {
                self.answer.digests.insert(key, row_digest(contract, row, key, &self.skip));
            }
            Ask::Keys(keys) if keys.contains(&key) => {
                let fields = contract.fields.iter().zip(row).enumerate().map(|(at, (field, value))| {
                    if self.skip.contains(&at) { 0 } else { field_digest(key, &field.ty, value) }
                });
                let detail =
                    Detail { fields: fields.collect(), key: contract.key_of(row), source_key: source_key() };
                self.answer.details.insert(key, detail);
            }
            Ask::Within(_) | Ask::Keys(_) => {}
        }
    }

    /// Says that a change of a key waits in a quarantine; `None`: nobody knows which key.
    pub fn aside(&mut self, key: Option<KeyDigest>, aside: Aside) {
        let Some(key) = key else {
            self.answer.unknown += 1;
            return;
        };
        // Of all keys only those are kept that were asked for.
        let asked = match &self.ask {
            Ask::Ranges => false,
            Ask::Within(ranges) => ranges.contains(&key.range()),
            Ask::Keys(keys) => keys.contains(&key),
        };
        if asked {
            self.answer.asides.insert(key, aside);
        }
    }

    /// Returns the answer.
    pub fn answer(self) -> Answer {
        self.answer
    }
}

/// Returns the ranges whose rows differ, with how many rows both sides have in each.
pub fn differing(source: &Sums, replica: &Sums) -> BTreeMap<Range, u64> {
    let ranges: BTreeSet<Range> = source.keys().chain(replica.keys()).copied().collect();
    let of = |sums: &Sums, range: Range| sums.get(&range).copied().unwrap_or_default();
    ranges
        .into_iter()
        .filter(|range| of(source, *range) != of(replica, *range))
        .map(|range| (range, of(source, range).count + of(replica, range).count))
        .collect()
}

/// Returns the keys whose digests differ, or that stand on one side only.
pub fn differing_keys(
    source: &BTreeMap<KeyDigest, RowDigest>,
    replica: &BTreeMap<KeyDigest, RowDigest>,
) -> BTreeSet<KeyDigest> {
    let keys = source.keys().chain(replica.keys()).copied();
    keys.filter(|key| source.get(key) != replica.get(key)).collect()
}

/// Says what one look at both sides shows of a key; `changed`: a change of it was on its way meanwhile.
pub fn seen(source: &Answer, replica: &Answer, key: KeyDigest, changed: bool) -> Look {
    let held = |side: &Answer| side.details.contains_key(&key) || side.digests.contains_key(&key);
    let difference = match (held(source), held(replica)) {
        (false, false) => return Look::Equal,
        (true, false) => Difference::Missing,
        (false, true) => Difference::Surplus,
        (true, true) => match (source.details.get(&key), replica.details.get(&key)) {
            (Some(there), Some(here)) if there.fields == here.fields => return Look::Equal,
            (Some(there), Some(here)) => {
                let pairs = there.fields.iter().zip(&here.fields).enumerate();
                Difference::Altered(pairs.filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect())
            }
            _ if source.digests.get(&key) == replica.digests.get(&key) => return Look::Equal,
            _ => Difference::Altered(Vec::new()),
        },
    };
    if let Some(aside) = source.asides.get(&key).or(replica.asides.get(&key)) {
        return Look::Waits(aside.clone());
    }
    if changed { Look::Moving } else { Look::Differs(difference) }
}
