//! Narrows a replica where it stands: columns that are granted no more are emptied, and the rows stay.
//!
//! Knows which columns went, and the rows of a lane; nothing of what a grant is.

use std::sync::Arc;

use hutong_core::{Contract, ErrorKind, Result};
use rusqlite::{Connection, params_from_iter};

use super::connect::quoted;
use super::error::{self, Context};
use super::sink::SinkConfig;
use super::table::Table;
use super::{row, target};

/// Empties columns of a lane's rows, in the transaction that opens it (I5, I7).
///
/// Returns how many rows had a value there. `None` when the table does not let them be empty, or when something waits in
/// the quarantine, which may hold what is granted no more: then the replica fills anew.
pub(super) fn empty(connection: &Connection, config: &SinkConfig, gone: &[String]) -> Result<Option<usize>> {
    let lane = config.lane.to_string();
    let doing = || format!("empty columns of {} for {lane}", config.table);
    let waits = "SELECT EXISTS (SELECT 1 FROM hutong_quarantine WHERE lane = ?1 AND state = 'waiting')";
    if connection.query_row(waits, [&lane], |row| row.get(0)).doing(doing)? {
        return Ok(None);
    }
    if !fits(connection, &config.table, config.contract.as_ref())? {
        return Ok(None);
    }
    connection.execute_batch("SAVEPOINT narrow").doing(doing)?;
    let rows = match set_null(connection, &lane, &config.table, gone) {
        Err(problem) if error::refusal(&problem).is_none() => return Err(problem).doing(doing),
        // What its table says may quote a row.
        Err(_) => None,
        Ok(rows) => rows,
    };
    // What was settled has the columns, too.
    let rest = if rows.is_some() { "RELEASE narrow" } else { "ROLLBACK TO narrow; RELEASE narrow" };
    connection.execute_batch(rest).doing(doing)?;
    if rows.is_some() {
        connection.execute("DELETE FROM hutong_quarantine WHERE lane = ?1", [&lane]).doing(doing)?;
    } else {
        tracing::info!(lane, "its columns cannot be emptied: it fills anew");
    }
    Ok(rows)
}

fn fits(connection: &Connection, table: &str, contract: Option<&Arc<Contract>>) -> Result<bool> {
    match contract.map(|contract| target::prepare(connection, table, contract)) {
        Some(Err(error)) if error.kind == ErrorKind::SchemaConflict => Ok(false),
        made => made.transpose().map(|_| true),
    }
}

/// Returns how many rows it has changed; `None` when some of them still have a value: a trigger has the last word.
fn set_null(
    connection: &Connection,
    lane: &str,
    table: &str,
    gone: &[String],
) -> rusqlite::Result<Option<usize>> {
    let Ok(Some(shape)) = Table::read(connection, table) else { return Ok(None) };
    let there = || gone.iter().filter(|column| shape.column(column).is_some()).map(|column| quoted(column));
    let set: Vec<String> = there().map(|column| format!("{column} = NULL")).collect();
    let filled: Vec<String> = there().map(|column| format!("{column} IS NOT NULL")).collect();
    if set.is_empty() {
        return Ok(Some(0));
    }
    let (table, set, filled) = (quoted(table), set.join(", "), filled.join(" OR "));
    let mut emptied = 0;
    for (own, bound) in row::rows_of(connection, lane, &shape.name)? {
        let whose = format!("WHERE ({filled}) AND {own}");
        let sql = format!("UPDATE {table} SET {set} {whose}");
        emptied += connection.prepare_cached(&sql)?.execute(params_from_iter(&bound))?;
        let left = format!("SELECT EXISTS (SELECT 1 FROM {table} {whose})");
        if connection.prepare_cached(&left)?.query_row(params_from_iter(&bound), |row| row.get(0))? {
            return Ok(None);
        }
    }
    Ok(Some(emptied))
}
