//! One row into a table, and the rows of a lane out of it.
//!
//! Knows one transaction that is open and the SQL of a target; nothing of batches.

use std::collections::BTreeMap;

use hutong_core::{Op, Position, Value};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, params, params_from_iter};

use super::connect::quoted;
use super::error::{self, Refusal};
use super::target::{LANE, OFFSET, Target, same};
use super::values;
use crate::fold::{End, UNKNOWN_VALUE};
use crate::reread::NOT_THERE;

const SKIPPED: &str = "the store leaves the row as it is and says nothing: a trigger of the table skips it";

/// Why one row was not written.
pub(super) enum Fault {
    /// The store refused it.
    Refused(Refusal),
    /// A rule of Hutong's refused it.
    Rule(&'static str, String),
    /// The transaction is gone.
    RolledBack,
    /// Anything else: an outage, which is never the row's fault (I3).
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error::refusal(&error) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Failed(error),
        }
    }
}

/// Returns what one change does by itself.
pub(super) fn end_of(op: Op, row: &[Value]) -> End {
    match op {
        Op::Delete => End::Delete,
        _ if row.iter().any(Value::is_unknown) => End::Patch,
        _ => End::Put,
    }
}

/// Writes one row, and of a department's own table also which lane it comes from; after `Err` nothing of it stands.
pub(super) fn write(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    end: End,
    row: &[Value],
) -> Result<(), Fault> {
    // A trigger's RAISE(FAIL) leaves standing what its statement has done before.
    connection.prepare_cached("SAVEPOINT one")?.execute([])?;
    let mut done = match end {
        End::Put => put(connection, target, lane, position, row),
        End::Patch => patch(connection, target, lane, position, row),
        End::Delete => delete(connection, target, row),
    };
    if done.is_ok() && !target.own {
        done = note_lane(connection, target, lane, position, row, end).map_err(Fault::from);
    }
    if connection.is_autocommit() {
        return Err(match done {
            // A rollback that no trigger asked for is an outage.
            Err(Fault::Failed(error)) => Fault::Failed(error),
            _ => Fault::RolledBack,
        });
    }
    if done.is_err() {
        connection.prepare_cached("ROLLBACK TO one")?.execute([])?;
    }
    connection.prepare_cached("RELEASE one")?.execute([])?;
    done
}

/// Returns the fault of a row that was not written although nothing was said against it.
fn skipped() -> Fault {
    Fault::Refused(Refusal { reason: SKIPPED.into(), curable: false })
}

/// States whether the row of a key is there.
fn exists(connection: &Connection, target: &Target, key: Vec<Stored>) -> rusqlite::Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {})", quoted(&target.table), target.by_key);
    connection.prepare_cached(&sql)?.query_row(params_from_iter(key), |row| row.get(0))
}

/// Removes the rows of a lane from a table; nothing when there is no such table.
///
/// Returns how many there were.
pub(super) fn remove_rows(connection: &Connection, lane: &str, table: &str) -> rusqlite::Result<usize> {
    let mut removed = 0;
    for RowsOf { condition, bound, .. } in rows_of(connection, lane, table)? {
        let sql = format!("DELETE FROM {} WHERE {condition}", quoted(table));
        removed += connection.prepare_cached(&sql)?.execute(params_from_iter(bound))?;
    }
    connection.execute("DELETE FROM hutong_row WHERE table_name = ?1 AND lane = ?2", [table, lane])?;
    Ok(removed)
}

/// How rows of a lane are found in a table.
pub(super) struct RowsOf {
    /// The condition that they fulfil.
    pub(super) condition: String,
    /// What is bound to it.
    pub(super) bound: Vec<Stored>,
    /// Of a department's own table, the key of the one row, as `hutong_row` keeps it.
    pub(super) key: Option<String>,
}

/// Returns how the rows of a lane are found in a table; none when there is no such table.
pub(super) fn rows_of(connection: &Connection, lane: &str, table: &str) -> rusqlite::Result<Vec<RowsOf>> {
    let columns = "SELECT name FROM pragma_table_info(?1)";
    let columns: Vec<String> = connection
        .prepare(columns)?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    if columns.iter().any(|c| c == LANE) {
        let bound = vec![Stored::Text(lane.to_owned())];
        return Ok(vec![RowsOf { condition: format!("{LANE} = ?"), bound, key: None }]);
    }
    let sql = "SELECT key FROM hutong_row WHERE table_name = ?1 AND lane = ?2";
    let keys: Vec<String> = connection
        .prepare(sql)?
        .query_map([table, lane], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let one = |key: String| {
        let parts: Vec<(String, super::cursor::Place)> = serde_json::from_str(&key).ok()?;
        let condition = parts.iter().map(|(column, _)| same(column)).collect::<Vec<_>>().join(" AND ");
        Some(RowsOf {
            condition,
            bound: parts.iter().map(|(_, place)| place.stored()).collect(),
            key: Some(key),
        })
    };
    Ok(keys.into_iter().filter_map(one).collect())
}

/// Returns how many rows of a table each lane has written; none when there is no such table.
pub(super) fn count(connection: &Connection, table: &str) -> rusqlite::Result<BTreeMap<String, u64>> {
    let made_here = "SELECT count(*) > 0 FROM pragma_table_info(?1) WHERE name = ?2";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
    if connection.query_row(made_here, [table, LANE], |row| row.get(0))? {
        let sql =
            format!("SELECT {LANE}, count(*) FROM {} WHERE {LANE} IS NOT NULL GROUP BY 1", quoted(table));
        return connection.prepare(&sql)?.query_map([], read)?.collect();
    }
    let sql = "SELECT lane, count(*) FROM hutong_row WHERE table_name = ?1 GROUP BY 1";
    connection.prepare(sql)?.query_map([table], read)?.collect()
}

/// Returns a row's key as `hutong_row` keeps it: columns and stored values, so that no contract is needed to
/// find the row again.
fn row_key(target: &Target, row: &[Value]) -> String {
    let parts = target.contract.key.iter().map(|at| {
        let field = &target.contract.fields[*at];
        let value = row.get(*at).unwrap_or(&Value::Unknown);
        let place = values::write(&field.ty, value).ok().and_then(|s| super::cursor::Place::of((&s).into()));
        (field.column().to_owned(), place)
    });
    serde_json::to_string(&parts.collect::<Vec<_>>()).expect("texts and numbers print")
}

fn put(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    row: &[Value],
) -> Result<(), Fault> {
    let mut bound = Vec::with_capacity(row.len() + 2);
    for (field, value) in target.contract.fields.iter().zip(row) {
        bound.push(stored(field, value)?);
    }
    if target.own {
        bound.extend([Stored::Text(lane.to_owned()), offset(position)]);
    }
    match connection.prepare_cached(&target.upsert)?.execute(params_from_iter(bound))? {
        // A row that is a key and nothing else may be there already.
        0 if !target.key_only => Err(skipped()),
        _ => Ok(()),
    }
}

fn patch(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    row: &[Value],
) -> Result<(), Fault> {
    let (mut set, mut bound) = (Vec::new(), Vec::new());
    for (at, (field, value)) in target.contract.fields.iter().zip(row).enumerate() {
        if !value.is_unknown() && !target.contract.is_key(at) {
            set.push(format!("{} = ?", quoted(field.column())));
            bound.push(stored(field, value)?);
        }
    }
    if target.own {
        set.extend([format!("{LANE} = ?"), format!("{OFFSET} = ?")]);
        bound.extend([Stored::Text(lane.to_owned()), offset(position)]);
    }
    let sql = if set.is_empty() {
        // There is nothing to set, but the row must be there all the same.
        format!(
            "UPDATE {0} SET {1} = {1} WHERE {2}",
            quoted(&target.table),
            key_column(target),
            target.by_key
        )
    } else {
        format!("UPDATE {} SET {} WHERE {}", quoted(&target.table), set.join(", "), target.by_key)
    };
    bound.extend(key(target, row)?);
    match connection.prepare_cached(&sql)?.execute(params_from_iter(bound))? {
        0 if exists(connection, target, key(target, row)?)? => Err(skipped()),
        0 => Err(Fault::Rule(UNKNOWN_VALUE, NOT_THERE.into())),
        _ => Ok(()),
    }
}

fn delete(connection: &Connection, target: &Target, row: &[Value]) -> Result<(), Fault> {
    let key = key(target, row)?;
    match connection.prepare_cached(&target.delete)?.execute(params_from_iter(key.iter()))? {
        // A row that is not there is fine.
        0 if exists(connection, target, key)? => Err(skipped()),
        _ => Ok(()),
    }
}

fn key(target: &Target, row: &[Value]) -> Result<Vec<Stored>, Fault> {
    let part = |at: &usize| stored(&target.contract.fields[*at], row.get(*at).unwrap_or(&Value::Unknown));
    target.contract.key.iter().map(part).collect()
}

fn key_column(target: &Target) -> String {
    target.contract.key_fields().next().map(|f| quoted(f.column())).unwrap_or_default()
}

/// I6: what SQLite cannot hold exactly is refused, by name.
pub(super) fn stored(field: &hutong_core::Field, value: &Value) -> Result<Stored, Fault> {
    values::write(&field.ty, value)
        .map_err(|why| Fault::Rule("not_carried", format!("column {}: {why}", field.column())))
}

fn offset(position: Position) -> Stored {
    match position.as_offset().and_then(|o| i64::try_from(o).ok()) {
        Some(offset) => Stored::Integer(offset),
        None => Stored::Text(position.to_string()),
    }
}

fn note_lane(
    connection: &Connection,
    target: &Target,
    lane: &str,
    position: Position,
    row: &[Value],
    end: End,
) -> rusqlite::Result<()> {
    let key = row_key(target, row);
    if end == End::Delete {
        let sql = "DELETE FROM hutong_row WHERE table_name = ?1 AND key = ?2";
        connection.prepare_cached(sql)?.execute([&target.table, &key])?;
    } else {
        let sql = "INSERT INTO hutong_row (table_name, key, lane, \"offset\") VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (table_name, key) DO UPDATE SET lane = excluded.lane, \"offset\" = excluded.\"offset\"";
        connection.prepare_cached(sql)?.execute(params![target.table, key, lane, offset(position)])?;
    }
    Ok(())
}
