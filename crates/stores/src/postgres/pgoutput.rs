//! Reads pgoutput's row messages (protocol version 1, text format).
//!
//! Source: PostgreSQL, "Logical Replication Message Formats". Begin, Commit and logical messages are read by
//! the replication client. Bytes that are not what they claim to be are `Err(Malformed)`, never a panic.

use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Result};

/// One value of a row message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    /// SQL's NULL; also every column of a key image that is not in the replica identity.
    Null,
    /// A large value that did not change and was not sent.
    Unchanged,
    /// The text of the value.
    Text(Bytes),
}

/// The old image of a row message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Old {
    /// Nothing was sent.
    None,
    /// The columns of the replica identity; the others are [`Cell::Null`].
    Key(Vec<Cell>),
    /// The whole row.
    Full(Vec<Cell>),
}

/// One column of a relation message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub(crate) key: bool,
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) typmod: i32,
}

/// What the rows of a relation look like from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// Whether the replica identity is the whole row.
    pub(crate) full: bool,
    pub(crate) columns: Vec<RelationColumn>,
}

/// A message between Begin and Commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Relation(Relation),
    Insert {
        relation: u32,
        new: Vec<Cell>,
    },
    Update {
        relation: u32,
        old: Old,
        new: Vec<Cell>,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// A type's name or an origin, of which nothing is needed.
    Other,
}

impl Message {
    /// Reads a message; the whole of it must be consumed.
    pub(crate) fn parse(data: &Bytes) -> Result<Self> {
        let mut reader = Reader { rest: data.clone() };
        let message = match reader.byte()? {
            b'R' => {
                let oid = reader.u32()?;
                let schema = reader.string()?;
                // The empty name stands for pg_catalog.
                let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
                let table = reader.string()?;
                let full = reader.byte()? == b'f';
                let count = reader.u16()?;
                let mut columns = Vec::with_capacity(usize::from(count).min(reader.rest.len()));
                for _ in 0..count {
                    let key = reader.byte()? & 1 == 1;
                    let name = reader.string()?;
                    let type_oid = reader.u32()?;
                    let typmod = reader.u32()? as i32;
                    columns.push(RelationColumn { key, name, type_oid, typmod });
                }
                Self::Relation(Relation { oid, schema, table, full, columns })
            }
            b'I' => {
                let relation = reader.u32()?;
                reader.expect(b'N')?;
                Self::Insert { relation, new: reader.tuple()? }
            }
            b'U' => {
                let relation = reader.u32()?;
                let old = match reader.byte()? {
                    b'N' => Old::None,
                    tag => {
                        let old = reader.old(tag)?;
                        reader.expect(b'N')?;
                        old
                    }
                };
                Self::Update { relation, old, new: reader.tuple()? }
            }
            b'D' => {
                let relation = reader.u32()?;
                let tag = reader.byte()?;
                Self::Delete { relation, old: reader.old(tag)? }
            }
            b'T' => {
                let count = reader.u32()?;
                reader.byte()?;
                let relations = (0..count).map(|_| reader.u32()).collect::<Result<_>>()?;
                Self::Truncate { relations }
            }
            b'Y' | b'O' => return Ok(Self::Other),
            tag => return Err(malformed(format!("its tag is {tag:#04x}"))),
        };
        match reader.rest.len() {
            0 => Ok(message),
            left => Err(malformed(format!("{left} bytes are left over"))),
        }
    }
}

fn malformed(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Broken, "read a message of the replication stream", why)
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes> {
        if self.rest.len() < count {
            return Err(malformed("it ends too early"));
        }
        Ok(self.rest.split_to(count))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|b| *b == 0).ok_or_else(|| malformed("a name does not end"))?;
        let bytes = self.take(end)?;
        self.take(1)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| malformed("a name is not UTF-8"))
    }

    fn expect(&mut self, tag: u8) -> Result<()> {
        match self.byte()? {
            found if found == tag => Ok(()),
            found => Err(malformed(format!("{found:#04x} stands where {tag:#04x} must"))),
        }
    }

    fn old(&mut self, tag: u8) -> Result<Old> {
        match tag {
            b'K' => Ok(Old::Key(self.tuple()?)),
            b'O' => Ok(Old::Full(self.tuple()?)),
            tag => Err(malformed(format!("{tag:#04x} is no old image"))),
        }
    }

    fn tuple(&mut self) -> Result<Vec<Cell>> {
        let count = self.u16()?;
        // A cell takes a byte at least: a count that claims more is found out before it is believed.
        let mut cells = Vec::with_capacity(usize::from(count).min(self.rest.len()));
        for _ in 0..count {
            cells.push(match self.byte()? {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => {
                    let length = self.u32()? as usize;
                    Cell::Text(self.take(length)?)
                }
                tag => return Err(malformed(format!("{tag:#04x} is no value in text form"))),
            });
        }
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn update() -> Vec<u8> {
        let mut data = b"U\0\0\0\x07K\0\x02t\0\0\0\x01an".to_vec();
        data.extend_from_slice(b"N\0\x02t\0\0\0\x03\xe4\xba\xbau");
        data
    }

    #[test]
    fn reads_an_update_with_its_old_key() {
        let message = Message::parse(&update().into()).unwrap();
        assert_eq!(
            message,
            Message::Update {
                relation: 7,
                old: Old::Key(vec![Cell::Text("a".into()), Cell::Null]),
                new: vec![Cell::Text("人".into()), Cell::Unchanged],
            }
        );
    }

    #[test]
    fn reads_what_of_a_relation_is_its_identity() {
        let data =
            b"R\0\0\0\x07public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0n\0\0\0\0\x19\0\0\0\x08";
        let column =
            |key, name: &str, type_oid, typmod| RelationColumn { key, name: name.into(), type_oid, typmod };
        let columns = vec![column(true, "id", 23, -1), column(false, "n", 25, 8)];
        let (schema, table) = ("public".into(), "t".into());
        let expected = Message::Relation(Relation { oid: 7, schema, table, full: false, columns });
        assert_eq!(Message::parse(&Bytes::from_static(data)).unwrap(), expected);
    }

    #[test]
    fn i6_every_proper_prefix_and_every_longer_message_is_an_error() {
        let whole = update();
        for end in 0..whole.len() {
            assert!(Message::parse(&Bytes::copy_from_slice(&whole[..end])).is_err(), "{end}");
        }
        let mut longer = whole;
        longer.push(0);
        assert!(Message::parse(&longer.into()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&data.into());
        }
    }
}
