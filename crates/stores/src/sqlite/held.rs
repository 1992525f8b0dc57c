//! Reads what a replica holds of one pipeline, together with where its lanes stand: in one read transaction.

use std::path::Path;

use hutong_core::{Contract, Field, PipelineId, Result, Row, Type, Value};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::connect::{self, literal, quoted};
use super::cursor::Place;
use super::error::Context;
use super::table::Table;
use super::target::{LANE, OFFSET, same};
use super::{lane, values};
use crate::holding::{HeldLane, Holding, Waits, others};

/// Reads the rows of a pipeline, one by one, into `each`, when `ready` says of its lanes that they stand where they
/// must; otherwise only where they stand.
///
/// A value that the contract's type cannot be is what the file holds instead, which no granted value equals. The store
/// keeps a log beside the file (WAL), so its lanes go on writing meanwhile.
///
/// I3, I5: in a table that Hutong made, a row that no lane of this store has written is read with the others, but
/// nothing of it is taken as granted: of it only the key is known. In a department's own table such rows are counted.
pub fn held(
    path: &Path,
    table: &str,
    contract: &Contract,
    pipeline: &PipelineId,
    ready: impl Fn(&[HeldLane]) -> bool,
    mut each: impl FnMut(&Row),
) -> Result<Holding> {
    let mut holding = Holding::default();
    if !path.exists() {
        return Ok(holding);
    }
    let connection = connect::existing(path)?;
    let doing = || format!("read what {table} holds of {pipeline}");
    let tx = connection.unchecked_transaction().doing(doing)?;
    if !lane::written(&tx).doing(doing)? {
        return Ok(holding);
    }
    let mine = format!("{pipeline}.");
    holding.lanes = lanes(&tx, &mine)?;
    if !ready(&holding.lanes) {
        return Ok(holding);
    }
    holding.waiting = waiting(&tx, &mine).doing(doing)?;
    holding.read = true;
    let Some(shape) = Table::read(&tx, table)? else { return Ok(holding) };
    let columns = contract.fields.iter().map(|f| quoted(f.column())).collect::<Vec<_>>().join(", ");
    if shape.column(LANE).is_some() && shape.column(OFFSET).is_some() {
        made(&tx, &shape, contract, &mine, &columns, &mut each).doing(doing)?;
        return Ok(holding);
    }
    holding.foreign = own(&tx, &shape, contract, &mine, &columns, &mut each).doing(doing)?;
    Ok(holding)
}

fn lanes(connection: &Connection, mine: &str) -> Result<Vec<HeldLane>> {
    let doing = || "read the lanes of a store".to_owned();
    let sql = "SELECT lane, \"grant\", table_name, checkpoint FROM hutong_lane \
               WHERE substr(lane, 1, length(?1)) = ?1 ORDER BY lane";
    let mut statement = connection.prepare(sql).doing(doing)?;
    let mut rows = statement.query([mine]).doing(doing)?;
    let mut lanes = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        let checkpoint: String = row.get(3).doing(doing)?;
        lanes.push(HeldLane {
            lane: row.get(0).doing(doing)?,
            grant: row.get(1).doing(doing)?,
            table: row.get(2).doing(doing)?,
            checkpoint: lane::read_checkpoint(&checkpoint)?,
        });
    }
    Ok(lanes)
}

fn waiting(connection: &Connection, mine: &str) -> rusqlite::Result<Vec<Waits>> {
    let sql = "SELECT rule, change FROM hutong_quarantine \
               WHERE state = 'waiting' AND substr(lane, 1, length(?1)) = ?1";
    let mut statement = connection.prepare(sql)?;
    let items = statement.query_map([mine], |row| {
        let change: Option<String> = row.get(1)?;
        let change = change.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Waits::read(row.get(0)?, change.as_ref()))
    })?;
    items.collect()
}

/// Reads the rows of a table that Hutong made which are no other pipeline's: who adds one by hand names any lane.
fn made(
    connection: &Connection,
    shape: &Table,
    contract: &Contract,
    mine: &str,
    columns: &str,
    each: &mut impl FnMut(&Row),
) -> rusqlite::Result<()> {
    let mut lanes = connection.prepare("SELECT lane FROM hutong_lane")?;
    let lanes: Vec<String> = lanes.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let lane = format!("coalesce({LANE}, '')");
    let others: String =
        others(lanes, mine).iter().map(|other| format!(" AND NOT {}", begins(&lane, other))).collect();
    let written = begins(&lane, mine);
    let table = quoted(&shape.name);
    let sql = format!("SELECT {columns}, {written} FROM {table} WHERE {written} OR (TRUE{others})");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        each(&row(contract, found, found.get(contract.fields.len())?)?);
    }
    Ok(())
}

/// Returns the condition that a text begins with another.
fn begins(text: &str, with: &str) -> String {
    format!("(substr({text}, 1, {}) = {})", with.chars().count(), literal(with))
}

/// Reads the rows of a department's own table that the side table says are the pipeline's, a few keys at a time; returns
/// how many rows of it no lane has written.
fn own(
    connection: &Connection,
    shape: &Table,
    contract: &Contract,
    mine: &str,
    columns: &str,
    each: &mut impl FnMut(&Row),
) -> rusqlite::Result<u64> {
    let count = format!("SELECT count(*) FROM {}", quoted(&shape.name));
    let mut foreign = connection.query_row(&count, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
    let sql = format!(
        "SELECT key, {} FROM hutong_row WHERE table_name = {}",
        begins("lane", mine),
        literal(&shape.name)
    );
    let mut keys = connection.prepare(&sql)?;
    let mut keys = keys.query([])?;
    while let Some(key) = keys.next()? {
        let (key, is_mine): (String, bool) = (key.get(0)?, key.get(1)?);
        let Ok(parts) = serde_json::from_str::<Vec<(String, Place)>>(&key) else { continue };
        let condition = parts.iter().map(|(c, _)| same(c)).collect::<Vec<_>>().join(" AND ");
        let sql = format!("SELECT {columns} FROM {} WHERE {condition}", quoted(&shape.name));
        let mut statement = connection.prepare_cached(&sql)?;
        let bound = parts.iter().map(|(_, place)| place.stored());
        let mut rows = statement.query(rusqlite::params_from_iter(bound))?;
        while let Some(found) = rows.next()? {
            foreign = foreign.saturating_sub(1);
            if is_mine {
                each(&row(contract, found, true)?);
            }
        }
    }
    Ok(foreign)
}

/// Reads a row; of one that no lane has written, the key alone.
fn row(contract: &Contract, found: &rusqlite::Row<'_>, written: bool) -> rusqlite::Result<Row> {
    let value = |(at, field): (usize, &Field)| -> rusqlite::Result<Value> {
        if written || contract.is_key(at) {
            Ok(value(&field.ty, found.get_ref(at)?))
        } else {
            Ok(Value::Unknown)
        }
    };
    contract.fields.iter().enumerate().map(value).collect()
}

/// Reads a value back; what is not of the contract's type stays recognisable as that.
pub(super) fn value(ty: &Type, stored: ValueRef<'_>) -> Value {
    values::read(ty, stored).unwrap_or_else(|_| match stored {
        ValueRef::Null => Value::Null,
        // Tagged with what they are, so that no two of them are one, nor one of them a value of the contract.
        ValueRef::Integer(n) => Value::Array(vec![Value::Unknown, Value::Integer(n)]),
        ValueRef::Real(n) => Value::Array(vec![Value::Unknown, Value::Double(n)]),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Value::Array(vec![Value::Unknown, Value::Bytes(text.to_vec().into())])
        }
    })
}
