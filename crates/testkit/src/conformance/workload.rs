//! What a department does to a table, what changes that makes, and what is left of the table after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::contract::Sharing;
use hutong_core::{
    Before, Change, Contract, Field, Kind, LaneId, Op, Origin, PipelineId, Place, Position, Row, Type, Value,
};
use rand::prelude::*;

/// About how many changes a batch of a source under test holds.
pub const BATCH_LIMIT: usize = 8;

/// How many rows a chunk of the snapshot of a source under test holds.
pub const CHUNK_LIMIT: usize = 5;

/// One statement of the department.
#[derive(Debug, Clone)]
pub enum Write {
    /// Inserts the row, or updates the one of its key.
    Put(Row),
    /// Deletes the row of a key.
    Delete(Row),
    /// Gives the row of a key another one, key included.
    Rekey {
        /// The key before.
        from: Row,
        /// The row after.
        to: Row,
    },
    /// Removes every row at once.
    Truncate,
}

/// One change, without what differs between systems.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What happened; a snapshot's row counts as an insert.
    pub op: Op,
    /// The row's key; empty for a truncate.
    pub key: Row,
    /// The new row.
    pub after: Option<Row>,
}

impl Step {
    /// Returns what a change is, without what differs between systems.
    pub fn of(change: &Change) -> Self {
        let op = if change.op == Op::Read { Op::Insert } else { change.op };
        Self { op, key: change.key().unwrap_or_default(), after: change.after.clone() }
    }

    /// Makes the change of a step at a place.
    pub fn change(&self, contract: &Arc<Contract>, position: Position) -> Change {
        Change {
            contract: Arc::clone(contract),
            op: self.op,
            before: match self.op {
                Op::Update | Op::Delete => Before::Key(contract.key_row(&self.key)),
                _ => Before::None,
            },
            after: self.after.clone(),
            position,
            source_position: position,
            origin: Origin {
                place: Arc::new(Place::default()),
                committed_us: 0,
                xid: None,
                lsn: None,
                transaction: None,
                last: true,
            },
        }
    }
}

/// The model of a table.
#[derive(Debug, Clone)]
pub struct Table {
    contract: Arc<Contract>,
    rows: BTreeMap<String, Row>,
}

impl Table {
    /// Makes an empty table.
    pub fn new(contract: &Arc<Contract>) -> Self {
        Self { contract: Arc::clone(contract), rows: BTreeMap::new() }
    }

    /// Carries a statement out and returns the changes that it makes.
    pub fn write(&mut self, write: &Write) -> Vec<Step> {
        match write {
            Write::Put(row) => {
                let key = self.contract.key_of(row);
                let known = self.rows.contains_key(&name(&key));
                let op = if known { Op::Update } else { Op::Insert };
                vec![self.step(Step { op, key, after: Some(row.clone()) })]
            }
            Write::Delete(key) => {
                vec![self.step(Step { op: Op::Delete, key: key.clone(), after: None })]
            }
            Write::Rekey { from, to } => {
                let key = self.contract.key_of(to);
                vec![
                    self.step(Step { op: Op::Delete, key: from.clone(), after: None }),
                    self.step(Step { op: Op::Insert, key, after: Some(to.clone()) }),
                ]
            }
            Write::Truncate => {
                vec![self.step(Step { op: Op::Truncate, key: Row::new(), after: None })]
            }
        }
    }

    /// Applies one change: a value that nobody told stays as it was.
    pub fn step(&mut self, step: Step) -> Step {
        match (&step.after, step.op) {
            (_, Op::Truncate) => self.rows.clear(),
            (None, _) => drop(self.rows.remove(&name(&step.key))),
            (Some(row), _) => {
                let mut row = row.clone();
                if let Some(old) = self.rows.get(&name(&step.key)) {
                    for (value, old) in row.iter_mut().zip(old) {
                        if value.is_unknown() {
                            *value = old.clone();
                        }
                    }
                }
                self.rows.insert(name(&step.key), row);
            }
        }
        step
    }

    /// Returns the rows in the order of their keys' names.
    pub fn rows(&self) -> Vec<Row> {
        self.rows.values().cloned().collect()
    }

    /// Returns the rows in the same order, as somebody else has found them.
    pub(super) fn ordered(&self, found: Vec<Row>) -> Vec<Row> {
        let mut rows: Vec<_> =
            found.into_iter().map(|row| (name(&self.contract.key_of(&row)), row)).collect();
        rows.sort_by(|left, right| left.0.cmp(&right.0));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Makes statements up, such that each changes the table: no insert of what is there, no update to the same.
    pub(super) fn any(&self, random: &mut StdRng, count: usize, truncates: bool) -> Vec<Write> {
        let mut table = self.clone();
        let mut writes = Vec::new();
        while writes.len() < count {
            let (id, other) = (random.random_range(0..24), random.random_range(0..24));
            let key = |id: i64| vec![Value::Integer(id)];
            let known = |id: i64| table.rows.contains_key(&name(&key(id)));
            let row = person(id, &format!("{:08x}", random.random::<u32>()), random.random_range(0..120));
            let write = match random.random_range(0..10) {
                0..6 => Write::Put(row),
                6..8 if known(id) => Write::Delete(key(id)),
                8 if known(id) && !known(other) => {
                    Write::Rekey { from: key(id), to: person(other, "moved", id) }
                }
                9 if truncates && random.random_range(0..4) == 0 => Write::Truncate,
                _ => continue,
            };
            table.write(&write);
            writes.push(write);
        }
        writes
    }
}

fn name(key: &Row) -> String {
    format!("{key:?}")
}

/// The contract of most checks: `id` is the key, `name` and `age` may be null.
pub fn people() -> Arc<Contract> {
    let fields = vec![
        Field::new("id", Type::Long),
        Field::new("name", Type::Text { length: None }),
        Field::new("age", Type::Int),
    ];
    contract("people", fields)
}

/// Makes a contract whose first field is the key.
pub(super) fn contract(stream: &str, fields: Vec<Field>) -> Arc<Contract> {
    Contract {
        stream: stream.into(),
        doc: "People who cannot exist.".into(),
        sharing: Sharing::Unconditional,
        fields,
        key: vec![0],
        catalogue: serde_json::Map::new(),
    }
    .shared()
}

pub(super) fn person(id: i64, name: &str, age: i64) -> Row {
    vec![Value::Integer(id), Value::text(name.to_owned()), Value::Integer(age)]
}

pub(super) fn key(id: i64) -> Row {
    vec![Value::Integer(id)]
}

/// The lane of the sinks under test.
pub fn lane() -> LaneId {
    LaneId::new(PipelineId::new(Kind::Replicate, "conformance"), 0)
}
