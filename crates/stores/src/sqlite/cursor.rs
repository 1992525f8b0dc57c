//! Where a source stands: a place in the change log, and how far each table's snapshot has come.

use hutong_core::{Error, ErrorKind, Position, Result};
use rusqlite::types::{Value as Stored, ValueRef};
use serde::{Deserialize, Serialize};

/// A place in the log. As a position: sequence number (8 bytes), ordinal (4), part (1).
///
/// Rows of a snapshot stand between the log's row `seq` and the next one, counted by `ordinal` from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    /// The log's last row that was read.
    pub(super) seq: u64,
    /// How many snapshot rows were read since.
    pub(super) ordinal: u32,
    /// The part of the change: 1 is the insert of a key change.
    pub(super) part: u8,
}

impl Cursor {
    /// Returns the position.
    pub(super) fn position(self) -> Position {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes[12] = self.part;
        Position::new(&bytes).expect("13 bytes fit")
    }

    /// Reads a position; the start is before everything.
    pub(super) fn read(position: Position) -> Result<Self> {
        if position.is_start() {
            return Ok(Self::default());
        }
        let Ok(b) = <[u8; 13]>::try_from(position.as_bytes()) else {
            return Err(Error::new(
                ErrorKind::Malformed,
                "read the checkpoint",
                "it is not one of a SQLite source",
            ));
        };
        let (seq, rest) = b.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        Ok(Self { seq: number(seq), ordinal: number(&rest[..4]) as u32, part: rest[4] })
    }

    /// Moves to the next snapshot row.
    pub(super) fn next_row(&mut self) {
        self.ordinal = self.ordinal.saturating_add(1);
        self.part = 0;
    }
}

/// How far the snapshot of a table has come: the checkpoint's note `snapshot.<table>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The layout that the snapshot belongs to; another one means: read the table again.
    pub(super) layout: i64,
    /// Whether the whole table was read.
    pub(super) done: bool,
    /// Rows read so far.
    pub(super) rows: u64,
    /// The file's schema version, where VACUUM (which raises it) may renumber the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<i64>,
    /// The identity of the last row that was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) after: Vec<Place>,
}

/// A value of a row's identity, exactly as SQLite stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Place {
    /// An INTEGER.
    Integer(i64),
    /// A REAL, as its bits.
    Real(u64),
    /// A TEXT.
    Text(String),
    /// A BLOB.
    Blob(Vec<u8>),
}

impl Place {
    /// Keeps a stored value; `None` for NULL and for text that is not UTF-8.
    pub(super) fn of(stored: ValueRef<'_>) -> Option<Self> {
        Some(match stored {
            ValueRef::Null => return None,
            ValueRef::Integer(i) => Self::Integer(i),
            ValueRef::Real(r) => Self::Real(r.to_bits()),
            ValueRef::Text(t) => Self::Text(std::str::from_utf8(t).ok()?.to_owned()),
            ValueRef::Blob(b) => Self::Blob(b.to_vec()),
        })
    }

    /// Returns the stored value.
    pub(super) fn stored(&self) -> Stored {
        match self {
            Self::Integer(i) => Stored::Integer(*i),
            Self::Real(bits) => Stored::Real(f64::from_bits(*bits)),
            Self::Text(t) => Stored::Text(t.clone()),
            Self::Blob(b) => Stored::Blob(b.clone()),
        }
    }
}
