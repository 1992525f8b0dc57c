//! What a replica holds of one pipeline, and where its lanes stood at that moment.
//!
//! Knows no store; both fill it in one transaction of theirs.

use std::collections::BTreeSet;

use hutong_core::{Change, Checkpoint, Row};

use crate::keep;

/// A look at a replica.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Holding {
    /// The lanes of the pipeline, by name.
    pub lanes: Vec<HeldLane>,
    /// What waits in the quarantine of these lanes.
    pub waiting: Vec<Waits>,
    /// Whether the rows were read: the lanes stood where they had to.
    pub read: bool,
    /// How many rows of a department's own table no lane has written: they may be the department's.
    pub foreign: u64,
}

/// A lane at the moment of a look.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldLane {
    /// Its name.
    pub lane: String,
    /// The mark of the grant under which it writes.
    pub grant: String,
    /// The table that it writes, as the store knows it.
    pub table: String,
    /// Where it stands.
    pub checkpoint: Checkpoint,
}

/// A change that waits in a quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Waits {
    /// The rule that set it aside.
    pub rule: String,
    /// The change, as far as the quarantine keeps it.
    pub change: Option<Change>,
}

impl Waits {
    /// Reads an item as a store's quarantine keeps it.
    pub(crate) fn read(rule: String, change: Option<&serde_json::Value>) -> Self {
        // One that an older program kept otherwise waits all the same, of a row that nobody knows.
        Self { rule, change: change.and_then(|json| keep::read_change(json).ok()) }
    }
}

/// Returns how the lanes of the other pipelines begin that a store knows: `replicate.people.`.
pub(crate) fn others(lanes: impl IntoIterator<Item = String>, mine: &str) -> BTreeSet<String> {
    let begin = |lane: String| lane.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    lanes.into_iter().map(begin).filter(|begin| !begin.is_empty() && begin != mine).collect()
}

/// A row of a captured table: whole, or why it cannot be carried, with what of it can be.
pub type Scanned = Result<Row, (String, Row)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_known_by_any_lane_of_it() {
        let lanes = ["replicate.mine.0", "replicate.a1.0", "replicate.a1.12", "7"].map(str::to_owned);
        assert_eq!(others(lanes, "replicate.mine."), BTreeSet::from(["replicate.a1.".to_owned()]));
    }
}
