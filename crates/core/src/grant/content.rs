//! What decides a replica's content, rows and columns: so that a grant that lets less through is told from any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::narrowing::Narrowing;
use super::{Grant, Permit};
use crate::checkpoint::Checkpoint;
use crate::hexadecimal;

/// The note of a lane's checkpoint that holds the content of the grant under which its rows were written.
/// It outlives the rows (`LASTING`), and says nothing when the lane stands under another mark.
pub const NOTE: &str = "grant.content";

/// What decides the content of a replica.
#[derive(Debug, Clone)]
pub struct Content {
    noted: Noted,
    permit: Arc<Permit>,
}

/// What of it is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Noted {
    /// The mark of which this is the content.
    mark: String,
    /// The digest of everything but rows, columns and masks: place, stream, and the key's fingerprint.
    rest: String,
    /// The digests of the conditions that a row must all fulfil: what they ask for may be nobody's to read here (I5).
    rows: BTreeSet<String>,
    /// The replica's column to the mask on it; empty without one.
    columns: BTreeMap<String, String>,
}

impl Noted {
    /// Reads the content that a lane has noted, if it is that of the mark under which the lane stands.
    pub(super) fn read(checkpoint: &Checkpoint, mark: &str) -> Option<Self> {
        // A note that cannot be read is none: the replica fills anew.
        let content: Self = serde_json::from_str(checkpoint.note(NOTE)?).ok()?;
        (content.mark == mark).then_some(content)
    }

    /// States whether a column of the replica has the values of the stream.
    fn clear(&self, column: &str) -> bool {
        self.columns.get(column).is_some_and(String::is_empty)
    }
}

impl Content {
    /// Notes the content of what the lane writes from now on.
    ///
    /// Returns whether that was not noted before.
    pub fn note(&self, checkpoint: &mut Checkpoint) -> bool {
        let text = serde_json::to_string(&self.noted).expect("texts print");
        checkpoint.notes.insert(NOTE.into(), text.clone()).is_none_or(|before| before != text)
    }

    /// Returns what makes the rows that a lane has filled under the mark on which it stands those of this grant, where it
    /// lets less through and the rows have all that tells it.
    pub fn narrows_from(&self, checkpoint: &Checkpoint, mark: &str) -> Option<Narrowing> {
        if mark == self.noted.mark {
            return None;
        }
        self.narrows(&Noted::read(checkpoint, mark)?)
    }

    /// States whether every row that a lane has filled is one that this grant allows as it is: so it may be served until
    /// what comes instead is there.
    ///
    /// `mark` is the one on which the lane stands; `None` when a person has taken it away.
    pub fn covers(&self, checkpoint: &Checkpoint, mark: Option<&str>) -> bool {
        let noted = || serde_json::from_str(checkpoint.note(NOTE)?).ok();
        let held = mark.map_or_else(noted, |mark| Noted::read(checkpoint, mark));
        held.is_some_and(|held: Noted| {
            held.rest == self.noted.rest
                && held.rows.is_superset(&self.noted.rows)
                && held.columns.iter().all(|(name, mask)| self.noted.columns.get(name) == Some(mask))
        })
    }

    /// Returns what makes rows `before` those of this grant (DESIGN section 7): columns that are granted no more are
    /// emptied, values that are masked from now on are masked, and rows that do not fulfil one more condition go.
    ///
    /// `None` of any other difference: other conditions, a column more, another mask or key; and where the replica does not
    /// have a value by which it is decided.
    pub(super) fn narrows(&self, before: &Noted) -> Option<Narrowing> {
        let (noted, permit) = (&self.noted, &self.permit);
        if noted.rest != before.rest || !noted.rows.is_superset(&before.rows) {
            return None;
        }
        let mut masked = Vec::new();
        for (name, mask) in &noted.columns {
            match before.columns.get(name)? {
                held if held == mask => {}
                held if held.is_empty() => masked.push(permit.masks_in_place(name)?),
                _ => return None,
            }
        }
        // What its rows fulfil already need not be asked again.
        let more = noted.rows != before.rows;
        let met = |condition: &str| before.rows.contains(&digest(condition));
        let filter = permit.filter().filter(|_| more).map(|filter| filter.beyond(met));
        let decides = filter.as_ref().map_or(&[][..], |filter| filter.columns());
        let column = |at: &usize| permit.contract().fields.get(*at).map(|field| field.column());
        if !decides.iter().all(|at| column(at).is_some_and(|name| before.clear(name))) {
            return None;
        }
        let gone = before.columns.keys().filter(|name| !noted.columns.contains_key(*name)).cloned().collect();
        Some(Narrowing::new(gone, masked, filter, Arc::clone(permit)))
    }
}

/// Returns the columns of the rows that a lane has written, as it has noted them under the mark on which it stands; none
/// when it has noted nothing there.
pub fn noted_columns(checkpoint: &Checkpoint, mark: &str) -> BTreeSet<String> {
    Noted::read(checkpoint, mark).map(|noted| noted.columns.into_keys().collect()).unwrap_or_default()
}

fn digest(text: &str) -> String {
    hexadecimal::text(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
impl Content {
    pub(super) fn noted(&self) -> &Noted {
        &self.noted
    }
}

impl Grant {
    /// Returns what decides the content of a replica in `place`, whose lanes stand under `mark`.
    ///
    /// `permit` is the step of this grant. The place is whatever else makes a replica another one: its topic and how many
    /// partitions that has.
    pub fn content(&self, permit: Permit, place: &str, mark: &str) -> Content {
        let rest = format!(
            "hutong content 2\nplace {place:?}\nstream {:?}\nkey {}\n",
            self.stream,
            self.fingerprint()
        );
        let mask = |name: &str| self.masks.get(name).map(ToString::to_string).unwrap_or_default();
        let projected = permit.projection();
        // The key tells which row is which: where it is another one, no row is found again.
        let key: Vec<&str> = projected.key_fields().map(|field| field.name.as_str()).collect();
        let rest = format!("{rest}found by {key:?}\n");
        let noted = Noted {
            mark: mark.to_owned(),
            rest: digest(&rest),
            rows: permit.filter().iter().flat_map(|f| f.conditions()).map(|one| digest(&one)).collect(),
            columns: projected.fields.iter().map(|f| (f.column().to_owned(), mask(&f.name))).collect(),
        };
        Content { noted, permit: Arc::new(permit) }
    }
}
