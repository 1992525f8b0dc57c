//! One record into a change, by a [`Plan`].
//!
//! Every read is bounds-checked and the whole record must be used up: a record that was cut anywhere is an
//! error, never a NULL. Texts and bytes share the record's buffer.

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::seal::Image;
use hutong_core::{
    Before, Change, Error, ErrorKind, Op, Origin, Place, Position, Result, Row, Transaction, Value,
};

use super::placeholder;
use super::plan::{Fact, Found, Part, Plan};
use super::seal::{Trouble, open_row};
use crate::binary::{Fault, Input};

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A change.
    Change(Box<Change>),
    /// Nothing that a lane carries: the name of the rule that drops it (`message`).
    Dropped(&'static str),
}

/// What `source` and `transaction` say.
#[derive(Default)]
struct Facts<'a> {
    place: [&'a str; 5],
    ts_ms: Option<i64>,
    ts_us: Option<i64>,
    ts_ns: Option<i64>,
    xid: Option<i64>,
    lsn: Option<i64>,
    position: &'a str,
    before: &'a str,
    unchanged: Vec<&'a str>,
    last: bool,
    transaction: Option<(&'a str, i64, i64)>,
}

/// The parts of an envelope as they stand, before anything is made of them.
struct Parts<'a> {
    before: Option<Row>,
    after: Option<Row>,
    op: &'a str,
    facts: Facts<'a>,
}

impl Plan {
    /// Decodes one record's Avro binary (without framing) that stands at `offset`.
    ///
    /// `Err(Malformed)` says what is wrong with it, without any of its bytes.
    pub fn decode(&mut self, record: &Bytes, offset: u64) -> Result<Decoded> {
        self.decode_keyed(record, offset, &[])
    }

    /// As [`Plan::decode`] does, with the record's key (without framing), to which sealed values are bound.
    ///
    /// `Err(Refused)` for a sealed value that does not open in its place, `Err(Denied)` when a key is missing here.
    pub fn decode_keyed(&mut self, record: &Bytes, offset: u64, key: &[u8]) -> Result<Decoded> {
        self.attempt(record, offset, key).map_err(|trouble| {
            let (kind, why) = match trouble {
                Trouble::Malformed(why) => (ErrorKind::Malformed, why.to_owned()),
                Trouble::Tampered(why) => (ErrorKind::Refused, why),
                Trouble::NoKey(why) => (ErrorKind::Denied, why),
            };
            Error::new(kind, format!("decode a record of {}", self.contract.stream), why)
        })
    }

    fn attempt(&mut self, record: &Bytes, offset: u64, key: &[u8]) -> std::result::Result<Decoded, Trouble> {
        let mut parts = self.read(record)?;
        if !self.sealed.is_empty() {
            self.open(&mut parts, key)?;
        }
        let op = match parts.op {
            "r" => Op::Read,
            "c" => Op::Insert,
            "u" => Op::Update,
            "d" => Op::Delete,
            "t" => Op::Truncate,
            "m" => return Ok(Decoded::Dropped("message")),
            _ => return Err("its `op` is none of r, c, u, d, t, m".into()),
        };
        let Parts { before, mut after, facts, .. } = parts;
        if after.is_some() != matches!(op, Op::Read | Op::Insert | Op::Update) {
            return Err("its `op` and its `after` contradict each other".into());
        }
        if let Some(row) = &mut after {
            self.complete(row, op, &facts)?;
        }
        let before = self.old(before, &facts)?;
        if op == Op::Delete && before == Before::None {
            return Err("a delete does not say which row it deleted".into());
        }
        let source_position = match facts.position {
            "" => Position::offset(offset),
            text => text.parse().map_err(|_| Trouble::Malformed("its `source.position` is no position"))?,
        };
        let origin = self.origin(&facts)?;
        Ok(Decoded::Change(Box::new(Change {
            contract: Arc::clone(&self.contract),
            op,
            before,
            after,
            position: Position::offset(offset),
            source_position,
            origin,
        })))
    }

    /// Opens the sealed values of both rows.
    fn open(&self, parts: &mut Parts<'_>, key: &[u8]) -> std::result::Result<(), Trouble> {
        let (columns, unseal, facts) = (&self.sealed, self.unseal.as_ref(), &parts.facts);
        let name = |at: usize| self.contract.fields.get(at).map_or("", |field| field.name.as_str());
        if let Some(row) = &mut parts.after {
            let told = |at| !facts.unchanged.contains(&name(at));
            open_row(&self.contract, columns, unseal, row, (key, facts.position, Image::After), told)?;
        }
        if let Some(row) = &mut parts.before {
            let told = |_| facts.before == "full";
            open_row(&self.contract, columns, unseal, row, (key, facts.position, Image::Before), told)?;
        }
        Ok(())
    }

    fn read<'a>(&self, record: &'a Bytes) -> std::result::Result<Parts<'a>, Fault> {
        let mut input = Input::new(record);
        let mut parts = Parts { before: None, after: None, op: "", facts: Facts::default() };
        for (part, id, branch) in &self.parts {
            if let Some(branch) = branch
                && !branch.read(&mut input)?
            {
                continue;
            }
            match part {
                Part::Before => parts.before = Some(self.row(&mut input)?),
                Part::After => parts.after = Some(self.row(&mut input)?),
                Part::Source => self.facts(&mut input, &self.source, &mut parts.facts)?,
                Part::Transaction => {
                    parts.facts.transaction = Some(("", 0, 0));
                    self.facts(&mut input, &self.transaction, &mut parts.facts)?;
                }
                Part::Op => parts.op = input.str()?,
                Part::Other => self.shapes.skip(&mut input, *id)?,
            }
        }
        input.finish()?;
        Ok(parts)
    }

    fn facts<'a>(
        &self,
        input: &mut Input<'a>,
        block: &[Found],
        facts: &mut Facts<'a>,
    ) -> std::result::Result<(), Fault> {
        for Found { fact, whole, branch } in block {
            let Some(fact) = fact else {
                self.shapes.skip(input, *whole)?;
                continue;
            };
            if let Some(branch) = branch
                && !branch.read(input)?
            {
                continue;
            }
            let (transaction, at) = (&mut facts.transaction, &mut facts.place);
            match fact {
                Fact::Connector => at[0] = input.str()?,
                Fact::Name => at[1] = input.str()?,
                Fact::Db => at[2] = input.str()?,
                Fact::Schema => at[3] = input.str()?,
                Fact::Table => at[4] = input.str()?,
                Fact::TsMs => facts.ts_ms = Some(input.long()?),
                Fact::TsUs => facts.ts_us = Some(input.long()?),
                Fact::TsNs => facts.ts_ns = Some(input.long()?),
                Fact::TxId => facts.xid = Some(input.long()?),
                Fact::Lsn => facts.lsn = Some(input.long()?),
                Fact::Position => facts.position = input.str()?,
                Fact::Before => facts.before = input.str()?,
                Fact::Last => facts.last = input.boolean()?,
                Fact::Unchanged => loop {
                    let count = input.block()?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        facts.unchanged.push(input.str()?);
                    }
                },
                Fact::TransactionId => transaction.get_or_insert(("", 0, 0)).0 = input.str()?,
                Fact::Order => transaction.get_or_insert(("", 0, 0)).1 = input.long()?,
                Fact::StreamOrder => transaction.get_or_insert(("", 0, 0)).2 = input.long()?,
            }
        }
        Ok(())
    }

    /// Tells apart, in a new row, what is NULL from what nobody told.
    fn complete(&self, row: &mut Row, op: Op, facts: &Facts<'_>) -> std::result::Result<(), Fault> {
        if op != Op::Update {
            // A whole row of the time before the field existed.
            for &i in &self.missing {
                row[i] = Value::Null;
            }
        }
        if self.own {
            for name in &facts.unchanged {
                if let Some(i) = self.contract.index(name) {
                    row[i] = Value::Unknown;
                }
            }
        } else {
            placeholder::find(row);
        }
        let lacks = |i: &usize| matches!(row[*i], Value::Null | Value::Unknown);
        if self.contract.key.iter().any(lacks) { Err("a key field has no value") } else { Ok(()) }
    }

    /// Keeps of the old row what is known of it. It is never invented: Debezium fills the fields that the old
    /// image lacks with zeros (WIRE section 8).
    fn old(&self, row: Option<Row>, facts: &Facts<'_>) -> std::result::Result<Before, Fault> {
        let word = match (self.own, facts.before) {
            (true, word) => word,
            (false, _) if self.foreign_before_full => "full",
            (false, _) => "key",
        };
        let Some(mut row) = row else { return Ok(Before::None) };
        match word {
            "none" => return Ok(Before::None),
            "key" => self.contract.keep_key(&mut row),
            "full" if !self.own => placeholder::find(&mut row),
            "full" => {}
            _ => return Err("its `source.before` is none of none, key, full"),
        }
        if self.contract.key.iter().any(|i| matches!(row[*i], Value::Null | Value::Unknown)) {
            return Err("a key field of the old row has no value");
        }
        Ok(if word == "key" { Before::Key(row) } else { Before::Full(row) })
    }

    fn origin(&mut self, facts: &Facts<'_>) -> std::result::Result<Origin, Fault> {
        let [connector, name, db, schema, table] = facts.place;
        let p = &self.place;
        if [&*p.connector, &*p.name, &*p.db, &*p.schema, &*p.table] != facts.place {
            self.place = Arc::new(Place {
                connector: connector.to_owned(),
                name: name.to_owned(),
                db: db.to_owned(),
                schema: schema.to_owned(),
                table: table.to_owned(),
            });
        }
        let committed_us = match (facts.ts_us, facts.ts_ns, facts.ts_ms) {
            (Some(us), _, _) => us,
            (None, Some(ns), _) => ns.div_euclid(1_000),
            (None, None, Some(ms)) => ms.checked_mul(1_000).ok_or("its `source.ts_ms` is no time")?,
            (None, None, None) => return Err("its `source` has no time"),
        };
        let transaction = match facts.transaction {
            Some((id, order, stream_order)) => {
                if *self.transaction_id != *id {
                    self.transaction_id = id.into();
                }
                let number = |n: i64| u64::try_from(n).map_err(|_| "its `transaction` counts below zero");
                Some(Transaction {
                    id: Arc::clone(&self.transaction_id),
                    order: number(order)?,
                    stream_order: number(stream_order)?,
                })
            }
            None => None,
        };
        Ok(Origin {
            place: Arc::clone(&self.place),
            committed_us,
            xid: facts.xid.map(|n| n as u64),
            lsn: facts.lsn.map(|n| n as u64),
            transaction,
            last: facts.last,
        })
    }
}
