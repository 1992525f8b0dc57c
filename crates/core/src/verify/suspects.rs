//! The rule of two rounds: what differs once may have been on its way.
//!
//! A look compares a row of the source, read at one time, with a row of the replica, read later, when its lane had
//! passed everything that the source had shown. What was committed in between is in the topic, between the place
//! noted before the first reading and the place of the lane at the second: a key that stands there was *moving*, and
//! its look says nothing. A key that differs without having moved differs; it is named when it does so in a second
//! look, which nothing of the first has in common with.

use std::collections::BTreeMap;

use super::digest::KeyDigest;
use super::tally::Aside;

/// How a key differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The replica lacks the row.
    Missing,
    /// The replica has a row that the source does not have, or that is not granted.
    Surplus,
    /// These fields of the projection differ.
    Altered(Vec<usize>),
}

/// What one look shows of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Both sides are the same.
    Equal,
    /// They differ, and nothing was on its way.
    Differs(Difference),
    /// They differ, and a change of the key was on its way.
    Moving,
    /// They differ, and a change of the key waits in a quarantine.
    Waits(Aside),
}

/// What has become of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It differs.
    Differs(Difference),
    /// It changed in so many looks, and could not be compared.
    Moving(u32),
    /// A change of it waits in a quarantine.
    Waits(Aside),
    /// It differed in one look, and no other was taken.
    Undecided,
}

/// The keys that were seen to differ.
#[derive(Debug, Default)]
pub struct Suspects {
    keys: BTreeMap<KeyDigest, Suspect>,
}

#[derive(Debug, Default)]
struct Suspect {
    differed: u32,
    moved: u32,
    last: Option<Difference>,
    waits: Option<Aside>,
}

/// In so many looks a key must differ.
const LOOKS: u32 = 2;

impl Suspects {
    /// Takes a look at a key in. A key that is equal is no suspect any more.
    pub fn note(&mut self, key: KeyDigest, look: Look) {
        if look == Look::Equal {
            self.keys.remove(&key);
            return;
        }
        let suspect = self.keys.entry(key).or_default();
        suspect.waits = None;
        match look {
            Look::Equal => {}
            Look::Differs(difference) => {
                suspect.differed += 1;
                suspect.last = Some(difference);
            }
            Look::Moving => suspect.moved += 1,
            Look::Waits(aside) => suspect.waits = Some(aside),
        }
    }

    /// Returns the keys at which another look must be taken.
    pub fn open(&self) -> impl Iterator<Item = KeyDigest> + '_ {
        let open = |suspect: &Suspect| suspect.waits.is_none() && suspect.differed < LOOKS;
        self.keys.iter().filter(move |(_, suspect)| open(suspect)).map(|(key, _)| *key)
    }

    /// Returns what has become of every suspect.
    pub fn outcomes(self) -> BTreeMap<KeyDigest, Outcome> {
        let outcome = |suspect: Suspect| match suspect {
            Suspect { waits: Some(aside), .. } => Outcome::Waits(aside),
            Suspect { differed, last: Some(last), .. } if differed >= LOOKS => Outcome::Differs(last),
            Suspect { moved, .. } if moved > 0 => Outcome::Moving(moved),
            Suspect { .. } => Outcome::Undecided,
        };
        self.keys.into_iter().map(|(key, suspect)| (key, outcome(suspect))).collect()
    }
}
