//! What decides a replica's content, column by column: so that a grant that names fewer columns is told from any other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Grant;
use crate::checkpoint::Checkpoint;
use crate::contract::Contract;
use crate::hexadecimal;

/// The note of a lane's checkpoint that holds the content of the grant under which its rows were written.
/// It outlives the rows (`LASTING`), and says nothing when the lane stands under another mark.
pub const NOTE: &str = "grant.content";

/// What decides the content of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The mark of which this is the content.
    mark: String,
    /// The digest of everything but columns and masks: place, stream, rows, and the key's fingerprint.
    rest: String,
    /// The replica's column to the mask on it; empty without one.
    columns: BTreeMap<String, String>,
}

impl Content {
    /// Reads the content that a lane has noted, if it is that of the mark under which the lane stands.
    pub(super) fn noted(checkpoint: &Checkpoint, mark: &str) -> Option<Self> {
        // A note that cannot be read is none: the replica fills anew.
        let content: Self = serde_json::from_str(checkpoint.note(NOTE)?).ok()?;
        (content.mark == mark).then_some(content)
    }

    /// Notes the content of what the lane writes from now on.
    ///
    /// Returns whether that was not noted before.
    pub fn note(&self, checkpoint: &mut Checkpoint) -> bool {
        let text = serde_json::to_string(self).expect("texts print");
        checkpoint.notes.insert(NOTE.into(), text.clone()).is_none_or(|before| before != text)
    }

    /// Returns the replica's columns that a lane has filled under the mark on which it stands, and that are granted no more,
    /// if nothing else has changed since.
    pub fn narrows_from(&self, checkpoint: &Checkpoint, mark: &str) -> Option<Vec<String>> {
        if mark == self.mark {
            return None;
        }
        self.narrows(&Self::noted(checkpoint, mark)?)
    }

    /// States whether every row that a lane has filled is one that this grant allows as it is: so it may be served until
    /// what comes instead is there.
    ///
    /// `mark` is the one on which the lane stands; `None` when a person has taken it away.
    pub fn covers(&self, checkpoint: &Checkpoint, mark: Option<&str>) -> bool {
        let noted = || serde_json::from_str(checkpoint.note(NOTE)?).ok();
        let held = mark.map_or_else(noted, |mark| Self::noted(checkpoint, mark));
        held.is_some_and(|held: Self| {
            held.rest == self.rest
                && held.columns.iter().all(|(name, mask)| self.columns.get(name) == Some(mask))
        })
    }

    /// Returns the replica's columns that were granted `before` and are no more, if that is all that has changed:
    /// without their values the replica is what this grant says (DESIGN section 7).
    ///
    /// `None` of any other difference: the same rows in other words, more of them, a column more, another mask or key.
    pub(super) fn narrows(&self, before: &Self) -> Option<Vec<String>> {
        let kept = |(name, mask): (&String, &String)| before.columns.get(name) == Some(mask);
        if self.rest != before.rest || !self.columns.iter().all(kept) {
            return None;
        }
        let gone = before.columns.keys().filter(|name| !self.columns.contains_key(*name));
        Some(gone.cloned().collect())
    }
}

impl Grant {
    /// Returns what decides the content of a replica in `place`, whose lanes stand under `mark`.
    ///
    /// `projected` is the contract of what its permit lets through. The place is whatever else makes a replica another
    /// one: its topic and how many partitions that has.
    pub fn content(&self, projected: &Contract, place: &str, mark: &str) -> Content {
        let rest = format!(
            "hutong content 1\nplace {place:?}\nstream {:?}\nrows {:?}\nkey {}\n",
            self.stream,
            self.rows.as_deref().map(str::trim),
            self.fingerprint()
        );
        let mask = |name: &str| self.masks.get(name).map(ToString::to_string).unwrap_or_default();
        // The key tells which row is which: where it is another one, no row is found again.
        let key: Vec<&str> = projected.key_fields().map(|field| field.name.as_str()).collect();
        let rest = format!("{rest}found by {key:?}\n");
        Content {
            mark: mark.to_owned(),
            rest: hexadecimal::text(&Sha256::digest(rest.as_bytes())),
            columns: projected.fields.iter().map(|f| (f.column().to_owned(), mask(&f.name))).collect(),
        }
    }
}
