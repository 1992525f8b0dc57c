//! A place in one partition, compared bytewise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// The most bytes a position holds.
pub const CAPACITY: usize = 23;

/// A place in one partition. Positions of a partition sort bytewise in stream order.
///
/// Its text form is lower-case hexadecimal. The empty position is before everything. The layouts:
/// PostgreSQL 15 bytes (era 2, commit LSN 8, index of the row message in its transaction 4, part 1);
/// a log 8 bytes (the offset of the *next* record to read).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    length: u8,
    bytes: [u8; CAPACITY],
}

impl Position {
    /// The place before everything.
    pub const START: Self = Self { length: 0, bytes: [0; CAPACITY] };

    /// Makes a position of bytes; `Err` when there are more than [`CAPACITY`].
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > CAPACITY {
            return Err(Error::new(
                ErrorKind::Malformed,
                "read a position",
                format!("it has {} bytes, at most {CAPACITY} fit", bytes.len()),
            ));
        }
        let mut position = Self::START;
        position.length = bytes.len() as u8;
        position.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(position)
    }

    /// Makes the position of an offset in a log.
    pub fn offset(offset: u64) -> Self {
        let mut position = Self { length: 8, bytes: [0; CAPACITY] };
        position.bytes[..8].copy_from_slice(&offset.to_be_bytes());
        position
    }

    /// Returns the offset, when this is a position in a log.
    pub fn as_offset(&self) -> Option<u64> {
        self.as_bytes().try_into().ok().map(u64::from_be_bytes)
    }

    /// Makes a PostgreSQL position: era, commit LSN, index of the row message, part (DESIGN section 9).
    pub fn wal(era: u16, commit_lsn: u64, index: u32, part: u8) -> Self {
        let mut position = Self { length: 15, bytes: [0; CAPACITY] };
        position.bytes[..2].copy_from_slice(&era.to_be_bytes());
        position.bytes[2..10].copy_from_slice(&commit_lsn.to_be_bytes());
        position.bytes[10..14].copy_from_slice(&index.to_be_bytes());
        position.bytes[14] = part;
        position
    }

    /// Returns era, commit LSN, index and part, when this is a PostgreSQL position.
    pub fn as_wal(&self) -> Option<(u16, u64, u32, u8)> {
        let b: [u8; 15] = self.as_bytes().try_into().ok()?;
        Some((
            u16::from_be_bytes([b[0], b[1]]),
            u64::from_be_bytes([b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9]]),
            u32::from_be_bytes([b[10], b[11], b[12], b[13]]),
            b[14],
        ))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// States whether this is the place before everything.
    pub fn is_start(&self) -> bool {
        self.length == 0
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || {
            Error::new(
                ErrorKind::Malformed,
                "read a position",
                "it is not an even number of hexadecimal digits",
            )
        };
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(malformed());
        }
        let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8).ok_or_else(malformed);
        let bytes = digits
            .chunks_exact(2)
            .map(|p| Ok(digit(p[0])? << 4 | digit(p[1])?))
            .collect::<Result<Vec<u8>>>()?;
        Self::new(&bytes)
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn i4_sorts_as_its_parts_do(a: (u16, u64, u32, u8), b: (u16, u64, u32, u8)) {
            let of = |p: (u16, u64, u32, u8)| Position::wal(p.0, p.1, p.2, p.3);
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
            prop_assert_eq!(of(a).as_wal(), Some(a));
            prop_assert_eq!(of(a).to_string().cmp(&of(b).to_string()), a.cmp(&b));
        }

        #[test]
        fn text_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..=CAPACITY)) {
            let position = Position::new(&bytes).unwrap();
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
    }
}
