//! One committed row change, and where it came from.

use std::sync::Arc;

use crate::contract::Contract;
use crate::position::Position;
use crate::value::{Row, Value};

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// The row was read by a snapshot.
    Read,
    /// The row was inserted.
    Insert,
    /// The row was updated; its key stayed.
    Update,
    /// The row was deleted.
    Delete,
    /// Every row of the table was removed.
    Truncate,
}

impl Op {
    /// Returns Debezium's letter for it.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Insert => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Truncate => "t",
        }
    }
}

/// The old image. It is never invented: what is not known is [`Value::Unknown`].
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// Nothing is known of the old row.
    None,
    /// The key is known; every other value is [`Value::Unknown`].
    Key(Row),
    /// The whole old row is known.
    Full(Row),
}

impl Before {
    /// Returns the old row as far as it is known.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::None => None,
            Self::Key(row) | Self::Full(row) => Some(row),
        }
    }

    /// Returns the word that the envelope's `source.before` carries.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key(_) => "key",
            Self::Full(_) => "full",
        }
    }
}

/// The table that a change came from: constant for a table, shared by its changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// The system's name in the envelope: `postgresql`, `sqlite`.
    pub connector: String,
    /// The capture's name.
    pub name: String,
    /// The database.
    pub db: String,
    /// The schema; empty where the system has none.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// A change's place in its source transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The source's name for the transaction.
    pub id: Arc<str>,
    /// The change's number in the transaction, from 1.
    pub order: u64,
    /// The change's number among those of its stream in the transaction, from 1.
    pub stream_order: u64,
}

/// When and where a change was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The table.
    pub place: Arc<Place>,
    /// Microseconds since 1970 UTC at which the source committed it; of a snapshot row, at which it was read.
    pub committed_us: i64,
    /// The source's transaction number, where it has one.
    pub xid: Option<u64>,
    /// The log sequence number of the row message, where it has one.
    pub lsn: Option<u64>,
    /// The source transaction; `None` for snapshot rows.
    pub transaction: Option<Transaction>,
    /// Whether this is the last change of its source transaction.
    pub last: bool,
}

/// One committed row change.
///
/// `after` is complete but for [`Value::Unknown`] fields, which the source did not tell and which did not
/// change. It is `None` for a delete and a truncate.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The contract by which the rows are to be read.
    pub contract: Arc<Contract>,
    /// What happened.
    pub op: Op,
    /// The old image.
    pub before: Before,
    /// The new row.
    pub after: Option<Row>,
    /// Its place in the partition that it was read from; in a topic, the offset of the record itself.
    pub position: Position,
    /// Its place at the origin, as text whose byte order is stream order; equal to `position` in a capture.
    pub source_position: Position,
    /// When and where it was committed.
    pub origin: Origin,
}

impl Change {
    /// Returns the key of the row that it speaks of; `None` for a truncate or an unknown row.
    pub fn key(&self) -> Option<Row> {
        let row = self.after.as_ref().or(self.before.row())?;
        Some(self.contract.key_of(row))
    }

    /// Returns roughly how many bytes of memory it holds, for batch limits.
    pub fn weight(&self) -> usize {
        let row = |row: Option<&Row>| row.map_or(0, |r| r.iter().map(Value::weight).sum());
        size_of::<Self>() + row(self.after.as_ref()) + row(self.before.row())
    }
}

/// A change that cannot go on, with the reason.
///
/// Holds no more of the row than its quarantine may show: at a sink the permitted projection, and of a
/// record that does not decode nothing but where it stands and its digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// The rule that refused it, from a closed set: `decode`, `check`, `unknown_value`, `store`, …
    pub rule: &'static str,
    /// Why, in words, without a row value.
    pub reason: String,
    /// Its place in the partition that it was read from.
    pub position: Position,
    /// The stream.
    pub stream: String,
    /// The change, when it was readable and may be shown here.
    pub change: Option<Box<Change>>,
    /// The record that did not decode.
    pub record: Option<RecordTrace>,
}

/// What a quarantine keeps of a record that did not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTrace {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The schema id that its framing names, when it is framed.
    pub schema_id: Option<u32>,
    /// SHA-256 of the value's bytes, hexadecimal.
    pub digest: String,
}
