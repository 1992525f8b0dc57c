//! Who asks the two halves, and for how long: ranges, the keys of those that differ, then those keys again.

use std::collections::{BTreeMap, BTreeSet};

use hutong_core::grant::HIDDEN_KEY;
use hutong_core::verify::{
    Aside, Ask, Difference, KeyDigest, Outcome, Suspects, differing, differing_keys, seen,
};
use hutong_core::{Contract, Result, Row};

use super::replica::Replica;
use super::source::{Half, Wanted};

/// How many rows of both sides are kept as digests at most, and how many keys are looked at one by one.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often the sides are read at most, the first time not counted.
    pub rounds: u32,
    /// How many rows' digests are kept at a time: those of one side stand in one record where the halves are apart.
    pub rows: u64,
    /// How many keys are named at most.
    pub keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 6, rows: 400_000, keys: 10_000 }
    }
}

/// A key that was seen to differ, with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// The key in the replica, in the projection's key order; empty when no look has shown it.
    pub key: Row,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Rows that the grant lets through, when they were first counted.
    pub source_rows: u64,
    /// Rows of the replica, when they were first counted.
    pub replica_rows: u64,
    /// Rows of a department's own table that Hutong has not written, when they were counted: they are not compared.
    pub foreign: u64,
    /// How often both sides were read.
    pub rounds: u32,
    /// Keys that differ or could not be compared, by their digests.
    pub suspects: BTreeMap<KeyDigest, Suspect>,
    /// Columns that were not compared, with why.
    pub uncertain: Vec<(String, String)>,
    /// How many items wait in a quarantine of which nobody knows the key.
    pub unknown: u64,
    /// How many rows stand in ranges that differ and were not looked at, for they are too many.
    pub left: u64,
    /// How many keys differed once and were not looked at again, for they are too many.
    pub left_keys: usize,
    /// How many records of the topic in which the halves speak could not be read, and were passed over.
    pub passed_over: u64,
}

impl Report {
    /// Returns the keys that differ.
    pub fn differing(&self) -> impl Iterator<Item = (&KeyDigest, &Suspect, &Difference)> {
        self.suspects.iter().filter_map(|(digest, suspect)| match &suspect.outcome {
            Outcome::Differs(difference) => Some((digest, suspect, difference)),
            _ => None,
        })
    }

    /// Returns what differs, as the source half can find it, and how many rows it cannot: of one that only the replica has
    /// it knows no key where a digest stands for that.
    pub fn wanted(&self, contract: &Contract) -> (Vec<Wanted>, usize) {
        let hides = contract.key_fields().any(|field| field.name == HIDDEN_KEY);
        let (mut wanted, mut hidden) = (Vec::new(), 0);
        for (digest, suspect, difference) in self.differing() {
            match difference {
                Difference::Surplus if hides => hidden += 1,
                Difference::Surplus => wanted.push(Wanted::Clear(suspect.key.clone())),
                Difference::Missing | Difference::Altered(_) => wanted.push(Wanted::Known(*digest)),
            }
        }
        (wanted, hidden)
    }

    /// Returns the keys that changed whenever they were looked at, with how often.
    pub fn moving(&self) -> impl Iterator<Item = (&Suspect, u32)> {
        self.suspects.values().filter_map(|suspect| match suspect.outcome {
            Outcome::Moving(times) => Some((suspect, times)),
            Outcome::Undecided => Some((suspect, 0)),
            _ => None,
        })
    }

    /// Returns how many keys wait, by where and why.
    pub fn waiting(&self) -> BTreeMap<&Aside, u64> {
        let mut counts = BTreeMap::new();
        for suspect in self.suspects.values() {
            if let Outcome::Waits(aside) = &suspect.outcome {
                *counts.entry(aside).or_default() += 1;
            }
        }
        counts
    }

    /// States whether every row of both sides was compared, in every column.
    pub fn is_whole(&self) -> bool {
        let open = |suspect: &Suspect| !matches!(suspect.outcome, Outcome::Differs(_));
        let known = self.left == 0 && self.left_keys == 0 && self.unknown == 0;
        known && self.uncertain.is_empty() && !self.suspects.values().any(open)
    }

    /// States whether no row differs that could be compared, and none was left out because too much differs.
    pub fn is_equal(&self) -> bool {
        self.differing().next().is_none() && self.left == 0 && self.left_keys == 0
    }
}

/// Compares the two sides until nothing is open, or the rounds are used up.
///
/// A key differs only when it did so in two rounds between which nothing of it was on its way. Equal sides are read
/// once.
pub async fn check(source: &mut dyn Half, replica: &mut Replica<'_>, settings: Settings) -> Result<Report> {
    let uncertain = replica.uncertain().await?;
    let name = |(at, why): &(usize, String)| (replica.projected().fields[*at].name.clone(), why.clone());
    let mut report = Report { uncertain: uncertain.iter().map(name).collect(), ..Report::default() };
    let skip: Vec<usize> = uncertain.iter().map(|(at, _)| *at).collect();

    let told = source.tell(&Ask::Ranges, &skip, false).await?;
    let held = replica.look(&Ask::Ranges, &skip, &told.ends).await?;
    report.source_rows = told.answer.rows;
    report.replica_rows = held.answer.rows;
    report.foreign = held.foreign;
    report.unknown = told.answer.unknown + held.answer.unknown;
    report.rounds = 1;
    report.passed_over = told.passed_over;
    let (ranges, left) = that_fit(differing(&told.answer.sums, &held.answer.sums), settings.rows);
    report.left = left;
    if ranges.is_empty() {
        return Ok(report);
    }

    let mut suspects = Suspects::default();
    let mut known: BTreeMap<KeyDigest, Row> = BTreeMap::new();
    let mut ask = Ask::Within(ranges);
    for _ in 0..settings.rounds {
        // One look may be wrong about a commit that is streamed and not seen yet; more may not.
        let told = source.tell(&ask, &skip, true).await?;
        let held = replica.look(&ask, &skip, &told.ends).await?;
        let moved = replica.moved(&told.begins, &held.reached).await?;
        report.rounds += 1;
        report.passed_over += told.passed_over;
        let keys = match &ask {
            Ask::Keys(keys) => keys.clone(),
            _ => {
                let differ = differing_keys(&told.answer.digests, &held.answer.digests);
                let (still, moving): (Vec<_>, Vec<_>) = differ.into_iter().partition(|key| !moved.has(*key));
                report.left_keys = (still.len() + moving.len()).saturating_sub(settings.keys);
                still.into_iter().chain(moving).take(settings.keys).collect()
            }
        };
        for key in keys {
            suspects.note(key, seen(&told.answer, &held.answer, key, moved.has(key)));
        }
        for (key, detail) in held.answer.details.into_iter().chain(told.answer.details) {
            known.insert(key, detail.key);
        }
        let open: BTreeSet<KeyDigest> = suspects.open().collect();
        if open.is_empty() {
            break;
        }
        ask = Ask::Keys(open);
    }
    for (digest, outcome) in suspects.outcomes() {
        let key = known.remove(&digest).unwrap_or_default();
        report.suspects.insert(digest, Suspect { key, outcome });
    }
    Ok(report)
}

/// Returns the ranges whose rows fit into memory together, and how many rows the others have.
fn that_fit(ranges: BTreeMap<u16, u64>, limit: u64) -> (BTreeSet<u16>, u64) {
    let (mut taken, mut rows, mut left) = (BTreeSet::new(), 0, 0);
    for (range, count) in ranges {
        // One at least, however large it is, so that whoever checks again and again comes to an end.
        if taken.is_empty() || rows + count <= limit {
            rows += count;
            taken.insert(range);
        } else {
            left += count;
        }
    }
    (taken, left)
}

/// Returns the names of the fields that differ; none where the looks did not show them.
pub fn columns<'a>(contract: &'a Contract, difference: &Difference) -> Vec<&'a str> {
    match difference {
        Difference::Missing | Difference::Surplus => Vec::new(),
        Difference::Altered(fields) => {
            fields.iter().filter_map(|at| contract.fields.get(*at)).map(|f| f.name.as_str()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_do_not_fit_are_counted_and_one_is_always_taken() {
        let ranges = |rows: &[u64]| rows.iter().enumerate().map(|(at, rows)| (at as u16, *rows)).collect();
        assert_eq!(that_fit(ranges(&[3, 4, 2]), 5), ([0, 2].into(), 4));
        assert_eq!(that_fit(ranges(&[9, 1]), 5), ([0].into(), 1));
        assert_eq!(that_fit(ranges(&[]), 5), ([].into(), 0));
    }
}
