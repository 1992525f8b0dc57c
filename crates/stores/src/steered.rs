//! What came of an order for one lane.

use hutong_core::Checkpoint;

/// Stands where the digest of a grant stood, and is none: whatever grant comes, the lane starts anew.
pub const NOBODYS: &str = "reload";

/// Begins the mark under which a recall opens a lane, and is of no grant: what was there goes, with a receipt of how many
/// rows that were; the record of the ledger that says so follows.
pub const RECALLED: &str = "recalled ";

/// A lane to which a person's order was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Steered {
    /// The lane.
    pub lane: String,
    /// Where it stood.
    pub before: Checkpoint,
    /// Where it stands now; `None` when there was nothing to do to it, and nothing has changed.
    pub after: Option<Checkpoint>,
    /// The items of its quarantine that are settled by it, since they come again.
    pub settled: Vec<i64>,
}
