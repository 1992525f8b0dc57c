//! What a replica holds of one pipeline, and where its lanes stood at that moment.
//!
//! Knows no store; both fill it in one transaction of theirs.

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

/// A row of a captured table: whole, or why it cannot be carried, with what of it can be.
pub type Scanned = Result<Row, (String, Row)>;
