//! Turns a row message into changes: old and new image, key changes, what cannot be carried.

use std::sync::Arc;

use hutong_core::{Before, Change, Contract, Op, Origin, Position, Rejected, Row, Value};

use super::fit::{Plan, Uncarried};
use super::pgoutput::{Cell, Message, Old};

/// The rule that rejects a value that cannot be carried exactly (I6).
pub(crate) const NOT_CARRIED: &str = "not_carried";

/// What one row message says of one table.
pub(crate) struct Image {
    /// The changes, one a part.
    pub(crate) items: Vec<Item>,
    /// The keys that it speaks of, as the server's bytes.
    pub(crate) keys: Vec<Vec<Cell>>,
}

/// A change, or why it cannot be carried.
pub(crate) enum Item {
    Change(Change),
    Rejected(Rejected),
}

/// Makes changes of one table and one place; `position` gives the place of a part.
pub(crate) struct Maker<'a> {
    pub(crate) contract: &'a Arc<Contract>,
    pub(crate) plan: &'a Plan,
    pub(crate) origin: &'a Origin,
    pub(crate) position: &'a dyn Fn(u8) -> Position,
}

impl Maker<'_> {
    /// Reads an insert, update or delete. Other messages make nothing.
    pub(crate) fn image(&self, message: Message) -> Image {
        match message {
            Message::Insert { new, .. } => {
                Image { items: vec![self.insert(0, &new)], keys: vec![self.text(&new)] }
            }
            Message::Delete { old: Old::Key(cells), .. } => {
                Image { keys: vec![self.text(&cells)], items: vec![self.delete(&cells, None)] }
            }
            Message::Delete { old: Old::Full(cells), .. } => {
                Image { keys: vec![self.text(&cells)], items: vec![self.delete(&cells, Some(&cells))] }
            }
            Message::Update { old, new, .. } => self.update(old, new),
            Message::Delete { old: Old::None, .. }
            | Message::Truncate { .. }
            | Message::Relation(_)
            | Message::Other => Image { items: Vec::new(), keys: Vec::new() },
        }
    }

    /// Makes the change of a truncated table.
    pub(crate) fn truncate(&self, part: u8) -> Item {
        self.change(part, Op::Truncate, Before::None, None)
    }

    /// Makes the change of a row that a snapshot has read.
    pub(crate) fn read(&self, row: Result<Row, Uncarried>) -> Item {
        self.after(0, Op::Read, row)
    }

    fn text(&self, cells: &[Cell]) -> Vec<Cell> {
        self.plan.key_text(self.contract, cells)
    }

    fn insert(&self, part: u8, new: &[Cell]) -> Item {
        self.after(part, Op::Insert, self.plan.row(self.contract, new))
    }

    fn after(&self, part: u8, op: Op, row: Result<Row, Uncarried>) -> Item {
        match row {
            Ok(row) => self.change(part, op, Before::None, Some(row)),
            Err(Uncarried { why, rest }) => self.reject(part, op, Before::None, Some(rest), why),
        }
    }

    /// `full`: the whole old row, when it was sent.
    fn delete(&self, cells: &[Cell], full: Option<&[Cell]>) -> Item {
        match self.before(cells, full) {
            Ok(before) => self.change(0, Op::Delete, before, None),
            Err((before, why)) => self.reject(0, Op::Delete, before, None, why),
        }
    }

    fn update(&self, old: Old, mut new: Vec<Cell>) -> Image {
        let (old, full) = match old {
            Old::None => (None, false),
            Old::Key(cells) => (Some(cells), false),
            Old::Full(cells) => (Some(cells), true),
        };
        if let Some(old) = &old {
            // An unchanged large value is the old one. Of a key image, NULL says nothing: a key is NOT NULL.
            for (new, old) in new.iter_mut().zip(old) {
                if *new == Cell::Unchanged && (full || *old != Cell::Null) {
                    *new = old.clone();
                }
            }
        }
        let new_key = self.text(&new);
        if let Some(old) = &old {
            let old_key = self.text(old);
            if old_key != new_key {
                // A key change is two parts of one position, never split.
                let items = vec![self.delete(old, full.then_some(old)), self.insert(1, &new)];
                return Image { items, keys: vec![old_key, new_key] };
            }
        }
        let full = old.as_deref().filter(|_| full);
        let item = match (self.plan.row(self.contract, &new), self.before(&new, full)) {
            (Ok(row), Ok(before)) => self.change(0, Op::Update, before, Some(row)),
            (Err(Uncarried { why, rest }), Ok(before) | Err((before, _))) => {
                self.reject(0, Op::Update, before, Some(rest), why)
            }
            (Ok(row), Err((before, why))) => self.reject(0, Op::Update, before, Some(row), why),
        };
        Image { items: vec![item], keys: vec![new_key] }
    }

    /// The old image; of a whole old row with a value that cannot be carried no more than its key is told.
    /// A key that cannot be carried is told as far as it can be, with the reason.
    fn before(&self, cells: &[Cell], full: Option<&[Cell]>) -> Result<Before, (Before, String)> {
        if let Some(row) = full.and_then(|full| self.plan.row(self.contract, full).ok()) {
            return Ok(Before::Full(row));
        }
        let told = |key: &Row| Before::Key(self.contract.key_row(key));
        self.plan.key(self.contract, cells).map(|key| told(&key)).map_err(|key| (told(&key.rest), key.why))
    }

    fn change(&self, part: u8, op: Op, before: Before, after: Option<Row>) -> Item {
        Item::Change(self.make(part, op, before, after))
    }

    fn make(&self, part: u8, op: Op, before: Before, after: Option<Row>) -> Change {
        let position = (self.position)(part);
        Change {
            contract: Arc::clone(self.contract),
            op,
            before,
            after,
            position,
            source_position: position,
            origin: self.origin.clone(),
        }
    }

    /// Keeps the change, with what of it can be carried, so that a person finds the row (I3).
    fn reject(&self, part: u8, op: Op, before: Before, after: Option<Row>, reason: String) -> Item {
        let change = self.make(part, op, before, after);
        Item::Rejected(Rejected {
            rule: NOT_CARRIED,
            reason,
            position: change.position,
            stream: self.contract.stream.clone(),
            change: Some(Box::new(change)),
            record: None,
        })
    }
}

/// Fills values that nobody told from another image of the same row.
pub(crate) fn fill(row: &mut Row, from: &Row) {
    for (value, from) in row.iter_mut().zip(from) {
        if *value == Value::Unknown {
            *value = from.clone();
        }
    }
}
