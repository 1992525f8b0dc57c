//! A writer's schema compiled against a contract: once for each schema id, then run for each record.
//!
//! Reads every order of Debezium's envelope (WIRE section 4), from Hutong and from Debezium alike. What a
//! record means is decided in [`super::decode`].

use std::sync::Arc;

use hutong_core::{Contract, Error, ErrorKind, Place, Result, Type, Value};

use super::convert::{Branch, Slot, optional};
use super::seal::{self, SealedColumn, Unseal};
use super::shape::{Id, Kind, Shapes};
use crate::binary::{Fault, Input};

/// What a field of the envelope is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    Before,
    After,
    Source,
    Transaction,
    Op,
    Other,
}

/// What a field of `source` or `transaction` is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fact {
    Connector,
    Name,
    Db,
    Schema,
    Table,
    TsMs,
    TsUs,
    TsNs,
    TxId,
    Lsn,
    Position,
    Before,
    Unchanged,
    Last,
    TransactionId,
    Order,
    StreamOrder,
}

/// A fact's place: its branch when it is optional, and what its bytes look like.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fact: Option<Fact>,
    pub(super) whole: Id,
    pub(super) branch: Option<Branch>,
}

/// A field of `Value`: where it goes in the contract's row, or how it is passed over.
#[derive(Debug)]
enum Column {
    Into(usize, Slot),
    Skip(Id),
}

/// A writer's schema, compiled.
#[derive(Debug)]
pub struct Plan {
    pub(super) contract: Arc<Contract>,
    pub(super) shapes: Shapes,
    pub(super) parts: Vec<(Part, Id, Option<Branch>)>,
    columns: Vec<Column>,
    pub(super) source: Vec<Found>,
    pub(super) transaction: Vec<Found>,
    /// Whether Hutong wrote it: then `source` says what is unchanged and how much of the old row is known.
    pub(super) own: bool,
    /// Whether old rows of a foreign writer are whole (REPLICA IDENTITY FULL).
    pub(super) foreign_before_full: bool,
    /// Fields of the contract that the writer did not know yet.
    pub(super) missing: Vec<usize>,
    /// The columns whose values are sealed, and by what they are opened.
    pub(super) sealed: Vec<SealedColumn>,
    pub(super) unseal: Option<Unseal>,
    /// The latest place and transaction, shared by the changes that came from them.
    pub(super) place: Arc<Place>,
    pub(super) transaction_id: Arc<str>,
}

impl Plan {
    /// Compiles a writer's schema text against the contract that the rows are to be read by.
    ///
    /// `Err(Malformed)`: it is no envelope. `Err(SchemaConflict)`: a field's type is not the contract's and
    /// cannot become it exactly; names the field.
    pub fn compile(writer: &str, contract: &Arc<Contract>) -> Result<Self> {
        let doing = || format!("read the writer's schema of {}", contract.stream);
        let malformed = |why: String| Error::new(ErrorKind::Malformed, doing(), why);
        let conflict = |why: String| {
            Error::new(ErrorKind::SchemaConflict, doing(), why)
                .hint("make the contract agree with what the topic holds, or read another generation of it")
        };
        let shapes = Shapes::parse(writer).map_err(malformed)?;
        let fields = shapes.record(shapes.root).ok_or_else(|| malformed("it is not a record".into()))?;
        let mut parts = Vec::new();
        let mut rows = Vec::new();
        let (mut source, mut transaction) = (Vec::new(), Vec::new());
        for (name, whole) in fields {
            let (branch, id) = optional(&shapes, *whole).unwrap_or((None, *whole));
            let part = match (name.as_str(), &shapes.get(id).kind) {
                ("before", Kind::Record(_)) => Part::Before,
                ("after", Kind::Record(_)) => Part::After,
                ("source", Kind::Record(_)) if branch.is_none() => Part::Source,
                ("transaction", Kind::Record(_)) => Part::Transaction,
                ("op", Kind::Text) if branch.is_none() => Part::Op,
                ("before" | "after" | "source" | "op", _) => {
                    return Err(malformed(format!("its `{name}` is not what an envelope has there")));
                }
                _ => Part::Other,
            };
            match part {
                Part::Before | Part::After => rows.push(id),
                Part::Source => source = facts(&shapes, id, source_fact),
                Part::Transaction => transaction = facts(&shapes, id, transaction_fact),
                Part::Op | Part::Other => {}
            }
            // A part that nobody reads is passed over whole, its union included.
            parts.push(if part == Part::Other { (part, *whole, None) } else { (part, id, branch) });
        }
        let has = |part| parts.iter().any(|(p, _, _)| *p == part);
        let message = fields.iter().any(|(name, _)| name == "message");
        if !has(Part::Op) || !has(Part::Source) || !(has(Part::After) || message) {
            return Err(malformed("it has no `op`, `source` or `after`: it is no change envelope".into()));
        }
        if rows.iter().any(|id| *id != rows[0]) {
            return Err(malformed("its `before` and `after` are of different types".into()));
        }
        let (columns, sealed) = match rows.first() {
            Some(row) => columns(&shapes, *row, contract).map_err(conflict)?,
            None => (Vec::new(), Vec::new()),
        };
        let reads = |i: usize| columns.iter().any(|c| matches!(c, Column::Into(at, _) if *at == i));
        let missing: Vec<usize> = (0..contract.fields.len()).filter(|i| !reads(*i)).collect();
        if let Some(i) = missing.iter().find(|i| !rows.is_empty() && contract.is_key(**i)) {
            return Err(conflict(format!("key field `{}` is not in it", contract.fields[*i].name)));
        }
        let own = source.iter().any(|f| f.fact == Some(Fact::Unchanged))
            && source.iter().any(|f| f.fact == Some(Fact::Before));
        Ok(Self {
            contract: Arc::clone(contract),
            shapes,
            parts,
            columns,
            source,
            transaction,
            own,
            foreign_before_full: false,
            missing,
            sealed,
            unseal: None,
            place: Arc::default(),
            transaction_id: "".into(),
        })
    }

    /// Says that old rows of a writer other than Hutong are whole; otherwise only their key counts.
    #[must_use]
    pub fn foreign_before_full(mut self, full: bool) -> Self {
        self.foreign_before_full = full;
        self
    }

    /// Gives it the keys of sealed columns; without them they stay unknown.
    #[must_use]
    pub fn unsealing(mut self, unseal: Option<Unseal>) -> Self {
        self.unseal = unseal;
        self
    }

    /// Reads a row. Fields that the writer did not know are unknown.
    pub(super) fn row(&self, input: &mut Input<'_>) -> std::result::Result<Vec<Value>, Fault> {
        let mut row = Vec::with_capacity(self.contract.fields.len());
        for column in &self.columns {
            match column {
                // Mostly the writer has the contract's order.
                Column::Into(at, slot) if *at == row.len() => row.push(slot.read(input)?),
                Column::Into(at, slot) => {
                    let value = slot.read(input)?;
                    row.resize(row.len().max(at + 1), Value::Unknown);
                    row[*at] = value;
                }
                Column::Skip(id) => self.shapes.skip(input, *id)?,
            }
        }
        row.resize(self.contract.fields.len(), Value::Unknown);
        Ok(row)
    }
}

/// The columns of a writer's row, and those of them that are sealed.
type Columns = (Vec<Column>, Vec<SealedColumn>);

/// Pairs a writer's row with the contract: by wire name, else by the table's name for a foreign writer.
fn columns(shapes: &Shapes, row: Id, contract: &Contract) -> std::result::Result<Columns, String> {
    let (mut columns, mut sealed) = (Vec::new(), Vec::new());
    for (name, id) in shapes.record(row).unwrap_or_default() {
        let by_column = || contract.fields.iter().position(|f| f.column.as_deref() == Some(name.as_str()));
        let Some(at) = contract.index(name).or_else(by_column) else {
            columns.push(Column::Skip(*id));
            continue;
        };
        let at_field = |why: String| format!("field `{name}`: {why}");
        let found = seal::column(shapes, *id, contract, at).map_err(at_field)?;
        let ty = if found.is_some() { &Type::Bytes } else { &contract.fields[at].ty };
        columns.push(Column::Into(at, Slot::compile(shapes, *id, ty).map_err(at_field)?));
        sealed.extend(found);
    }
    Ok((columns, sealed))
}

/// Finds the facts of a block. A field of an unexpected type tells nothing: connectors differ here.
fn facts(shapes: &Shapes, block: Id, known: impl Fn(&str) -> Option<(Fact, Kind)>) -> Vec<Found> {
    let fields = shapes.record(block).unwrap_or_default();
    fields
        .iter()
        .map(|(name, whole)| {
            let nothing = Found { fact: None, whole: *whole, branch: None };
            let (Some((fact, wanted)), Some((branch, id))) = (known(name), optional(shapes, *whole)) else {
                return nothing;
            };
            let kind = &shapes.get(id).kind;
            let fits = match (&wanted, kind) {
                (Kind::Array(_), Kind::Array(item)) => shapes.get(*item).kind == Kind::Text,
                (wanted, kind) => wanted == kind,
            };
            if fits { Found { fact: Some(fact), whole: *whole, branch } } else { nothing }
        })
        .collect()
}

fn source_fact(name: &str) -> Option<(Fact, Kind)> {
    Some(match name {
        "connector" => (Fact::Connector, Kind::Text),
        "name" => (Fact::Name, Kind::Text),
        "db" => (Fact::Db, Kind::Text),
        "schema" => (Fact::Schema, Kind::Text),
        "table" => (Fact::Table, Kind::Text),
        "ts_ms" => (Fact::TsMs, Kind::Long),
        "ts_us" => (Fact::TsUs, Kind::Long),
        "ts_ns" => (Fact::TsNs, Kind::Long),
        "txId" => (Fact::TxId, Kind::Long),
        "lsn" => (Fact::Lsn, Kind::Long),
        "position" => (Fact::Position, Kind::Text),
        "before" => (Fact::Before, Kind::Text),
        "unchanged" => (Fact::Unchanged, Kind::Array(0)),
        "last" => (Fact::Last, Kind::Boolean),
        _ => return None,
    })
}

fn transaction_fact(name: &str) -> Option<(Fact, Kind)> {
    Some(match name {
        "id" => (Fact::TransactionId, Kind::Text),
        "total_order" => (Fact::Order, Kind::Long),
        "data_collection_order" => (Fact::StreamOrder, Kind::Long),
        _ => return None,
    })
}
