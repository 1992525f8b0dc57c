//! What the log said last about a key.
//!
//! A BEFORE trigger of the department may write the very row that its statement is about to update or delete. That
//! inner change is logged first, and SQLite shows the statement's own triggers the row as it was before both, and
//! takes back what the inner change made of it. So a change whose old row is not what the log left is handed out
//! as two: back to the old row, then on. Else a row that only the inner change lets in would stay (I3, I5).
//!
//! With an AFTER trigger the inner change leaves what the outer one is logged with, which needs no way back.

use std::collections::VecDeque;

use hutong_core::Row;

/// How many rows of the log are remembered; they are kept in the log for whoever starts behind them. So a BEFORE
/// trigger may write this many rows between its own row and the statement's change of it.
pub(super) const LOOK_BACK: u64 = 16;

/// What the last rows of the log left of their keys.
#[derive(Default)]
pub(super) struct Recent(VecDeque<Left>);

struct Left {
    layout: i64,
    key: Row,
    row: Option<Row>,
}

impl Recent {
    /// Remembers what is left of a key: a row, or none.
    pub(super) fn left(&mut self, layout: i64, key: Row, row: Option<Row>) {
        if self.0.len() as u64 == 2 * LOOK_BACK {
            // A key change leaves two keys.
            self.0.pop_front();
        }
        self.0.push_back(Left { layout, key, row });
    }

    /// Returns the row that the log left of a key; `None` where it left none or nothing is remembered.
    pub(super) fn row(&self, layout: i64, key: &Row) -> Option<&Row> {
        self.0.iter().rev().find(|l| l.layout == layout && l.key == *key)?.row.as_ref()
    }
}
