//! Where a pipeline stands, and the one place that moves it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Position, Result, beside, steer};

/// All places that a lane has reached, one a partition, with what the source wants to find again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Partition to the place reached in it.
    pub positions: BTreeMap<String, Position>,
    /// What the source wants to find again when it opens: incarnation, snapshot progress, bases.
    /// The names belong to the source; the engine and the sinks only carry them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

/// The step between two checkpoints: for each partition the half-open range `(from, to]`, and the
/// notes that change with it (`None` removes a note).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Partition to the range that the batch covers; `from` excluded, `to` included.
    pub ranges: BTreeMap<String, (Position, Position)>,
    /// Notes that change with it.
    #[serde(default)]
    pub notes: BTreeMap<String, Option<String>>,
}

/// What the names of notes begin with that outlive what a lane has read: a lane that begins anew under another grant
/// still remembers what it has verified of the ledger, which nonces it has used, what its grant was, and what people have
/// done to it.
pub const LASTING: [&str; 4] = ["ledger.", "seal.", "grant.", steer::NAMES];

/// What the name of a note begins with by which a source knows a topic that was begun anew.
pub const INCARNATION: &str = "incarnation.";

/// What the notes begin with that hold the record which a lane has read last.
pub const TAIL: &str = "tail.";

fn lasts(name: &str) -> bool {
    LASTING.iter().any(|begin| name.starts_with(begin))
}

impl Checkpoint {
    /// Returns the checkpoint of a lane that begins anew: without places, with the lasting notes.
    #[must_use]
    pub fn anew(mut self) -> Self {
        self.positions.clear();
        self.notes.retain(|name, _| lasts(name));
        self
    }

    /// Returns the place reached in a partition; the start when it was never touched.
    pub fn position(&self, partition: &str) -> Position {
        self.positions.get(partition).copied().unwrap_or(Position::START)
    }

    /// Returns a note.
    pub fn note(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }

    /// States whether nothing was ever committed, or nothing since the lane began anew.
    pub fn is_empty(&self) -> bool {
        let of_before = |name: &String| lasts(name) || name.starts_with(beside::NAMES);
        self.positions.is_empty() && self.notes.keys().all(of_before)
    }

    /// Moves by `delta`. The only place where positions move.
    ///
    /// I2, I4: `Err` on an overlap, a gap or a step back, and then the checkpoint is left as it was.
    pub fn advance(&mut self, delta: &Delta) -> Result<()> {
        for (partition, (from, to)) in &delta.ranges {
            let here = self.position(partition);
            let fault = if *from < here {
                "overlaps what is committed"
            } else if *from > here {
                "leaves a gap after what is committed"
            } else if to < from {
                "goes backwards"
            } else {
                continue;
            };
            return Err(Error::new(
                ErrorKind::Broken,
                format!("advance partition {partition}"),
                format!("the step ({from}, {to}] {fault} ({here})"),
            ));
        }
        for (partition, (_, to)) in &delta.ranges {
            self.positions.insert(partition.clone(), *to);
        }
        self.caught_up();
        for (name, note) in &delta.notes {
            match note {
                Some(text) => self.notes.insert(name.clone(), text.clone()),
                None => self.notes.remove(name),
            };
        }
        Ok(())
    }
}

impl Delta {
    /// Makes the step of one partition.
    pub fn range(partition: impl Into<String>, from: Position, to: Position) -> Self {
        Self { ranges: BTreeMap::from([(partition.into(), (from, to))]), notes: BTreeMap::new() }
    }

    /// Sets a note with this step.
    pub fn set_note(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.notes.insert(name.into(), Some(text.into()));
    }

    /// Makes one step of two that follow each other.
    ///
    /// I2, I4: `Err` when the second does not begin where the first ends, and then the step is left as it was.
    pub fn append(&mut self, next: Self) -> Result<()> {
        for (partition, (from, _)) in &next.ranges {
            if let Some((_, to)) = self.ranges.get(partition).filter(|(_, to)| to != from) {
                return Err(Error::new(
                    ErrorKind::Broken,
                    format!("join two steps of partition {partition}"),
                    format!("the first ends at {to}, the second begins at {from}"),
                ));
            }
        }
        for (partition, (from, to)) in next.ranges {
            self.ranges.entry(partition).or_insert((from, to)).1 = to;
        }
        self.notes.extend(next.notes);
        Ok(())
    }

    /// States whether the step moves nothing and notes nothing.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.ranges.values().all(|(from, to)| from == to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn i2_refuses_overlap_gap_and_step_back_and_stays_untouched() {
        let start =
            Checkpoint { positions: [("p".into(), Position::offset(5))].into(), ..Checkpoint::default() };
        for (from, to, says) in [(4, 9, "overlaps"), (6, 9, "gap"), (5, 4, "backwards")] {
            let mut here = start.clone();
            let error =
                here.advance(&Delta::range("p", Position::offset(from), Position::offset(to))).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(here, start);
        }
    }

    #[test]
    fn i2_steps_join_only_where_they_meet() {
        let step = |from, to| Delta::range("p", Position::offset(from), Position::offset(to));
        let mut joined = step(1, 4);
        joined.append(step(4, 9)).unwrap();
        assert_eq!(joined, step(1, 9));
        for (from, to) in [(8, 10), (10, 12)] {
            let error = joined.append(step(from, to)).unwrap_err();
            assert!(error.to_string().contains("begins at"), "{error}");
            assert_eq!(joined, step(1, 9));
        }
    }

    #[test]
    fn a_lane_that_begins_anew_remembers_what_outlives_its_rows() {
        let mut here = Checkpoint::default();
        let mut delta = Delta::range("p", Position::START, Position::offset(3));
        delta.set_note("incarnation.t", "i");
        here.advance(&delta).unwrap();
        assert!(here.clone().anew() == Checkpoint::default() && !here.is_empty());
        delta = Delta::range("p", Position::offset(3), Position::offset(4));
        delta.set_note("ledger.head", "7:00");
        here.advance(&delta).unwrap();
        let anew = here.anew();
        assert!(anew.is_empty() && anew.positions.is_empty());
        assert_eq!((anew.note("ledger.head"), anew.note("incarnation.t")), (Some("7:00"), None));
    }

    proptest! {
        #[test]
        fn i2_a_chain_of_steps_reaches_its_end(steps in proptest::collection::vec((0u64..50, any::<bool>()), 0..40)) {
            let mut here = Checkpoint::default();
            let mut at = Position::START;
            let mut offset = 0;
            for (length, noted) in steps {
                offset += length;
                let to = Position::offset(offset);
                let mut delta = Delta::range("p", at, to);
                if noted {
                    delta.set_note("n", length.to_string());
                }
                here.advance(&delta).unwrap();
                at = to;
                // Applying a moving step twice is an overlap.
                if length > 0 {
                    prop_assert!(here.clone().advance(&delta).is_err());
                }
            }
            prop_assert_eq!(here.position("p"), at);
        }
    }
}
