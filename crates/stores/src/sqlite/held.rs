//! Reads what a replica holds of one pipeline, together with where its lanes stand: in one read transaction.

use std::path::Path;

use hutong_core::{Contract, PipelineId, Result, Row, Type, Value};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::connect::{self, literal, quoted};
use super::cursor::Place;
use super::error::Context;
use super::table::Table;
use super::target::{LANE, OFFSET, same};
use super::{lane, values};
use crate::holding::{HeldLane, Holding, Waits};

/// Reads the rows of a pipeline, one by one, into `each`, when `ready` says of its lanes that they stand where they
/// must; otherwise only where they stand.
///
/// A value that the contract's type cannot be is what the file holds instead, which no granted value equals. The store
/// keeps a log beside the file (WAL), so its lanes go on writing meanwhile.
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
        let sql =
            format!("SELECT {columns} FROM {} WHERE substr({LANE}, 1, length(?1)) = ?1", quoted(&shape.name));
        let mut statement = tx.prepare(&sql).doing(doing)?;
        let mut rows = statement.query([&mine]).doing(doing)?;
        while let Some(found) = rows.next().doing(doing)? {
            each(&row(contract, found).doing(doing)?);
        }
        return Ok(holding);
    }
    own(&tx, &shape, contract, &mine, &columns, &mut each).doing(doing)?;
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

/// Reads the rows of a department's own table that the side table says are the pipeline's, a few keys at a time.
fn own(
    connection: &Connection,
    shape: &Table,
    contract: &Contract,
    mine: &str,
    columns: &str,
    each: &mut impl FnMut(&Row),
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT key FROM hutong_row WHERE table_name = {} AND substr(lane, 1, length(?1)) = ?1",
        literal(&shape.name)
    );
    let mut keys = connection.prepare(&sql)?;
    let mut keys = keys.query(params![mine])?;
    while let Some(key) = keys.next()? {
        let key: String = key.get(0)?;
        let Ok(parts) = serde_json::from_str::<Vec<(String, Place)>>(&key) else { continue };
        let condition = parts.iter().map(|(c, _)| same(c)).collect::<Vec<_>>().join(" AND ");
        let sql = format!("SELECT {columns} FROM {} WHERE {condition}", quoted(&shape.name));
        let mut statement = connection.prepare_cached(&sql)?;
        let bound = parts.iter().map(|(_, place)| place.stored());
        let mut rows = statement.query(rusqlite::params_from_iter(bound))?;
        while let Some(found) = rows.next()? {
            each(&row(contract, found)?);
        }
    }
    Ok(())
}

fn row(contract: &Contract, found: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let value = |(at, field): (usize, &hutong_core::Field)| Ok(value(&field.ty, found.get_ref(at)?));
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
