//! Narrows a replica where it stands: columns that are granted no more are emptied, values that are masked from now on
//! are masked, and rows that are granted no more go; the others stay.
//!
//! Knows the rows of a lane, and asks what becomes of each (`hutong_core::grant::Narrowing`); nothing of what a grant is.

use std::sync::Arc;

use hutong_core::grant::{Fate, Narrowing};
use hutong_core::{Contract, ErrorKind, Field, Result, Row};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, params_from_iter};

use super::connect::{quoted, quoted_list};
use super::error::{self, Context};
use super::row::RowsOf;
use super::sink::SinkConfig;
use super::table::Table;
use super::{held, row, target, values};

/// How many rows are looked at at a time.
const ROWS: usize = 2_000;

/// What was narrowed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Narrowed {
    /// How many rows were emptied or masked.
    pub(super) changed: u64,
    /// How many rows went.
    pub(super) removed: u64,
}

/// Narrows the rows of a lane, in the transaction that opens it (I5, I7).
///
/// `None` when the table does not let them be narrowed, or when something waits in the quarantine, which may hold what is
/// granted no more: then the replica fills anew.
pub(super) fn in_place(
    connection: &Connection,
    config: &SinkConfig,
    narrowing: &Narrowing,
) -> Result<Option<Narrowed>> {
    let lane = config.lane.to_string();
    let doing = || format!("narrow what {} holds of {lane}", config.table);
    let waits = "SELECT EXISTS (SELECT 1 FROM hutong_quarantine WHERE lane = ?1 AND state = 'waiting')";
    if connection.query_row(waits, [&lane], |row| row.get(0)).doing(doing)? {
        return Ok(None);
    }
    if !fits(connection, &config.table, config.contract.as_ref())? {
        return Ok(None);
    }
    connection.execute_batch("SAVEPOINT narrow").doing(doing)?;
    let done = match narrow(connection, &lane, &config.table, narrowing) {
        Err(problem) if error::refusal(&problem).is_none() => return Err(problem).doing(doing),
        // What its table says may quote a row.
        Err(_) => None,
        Ok(done) => done,
    };
    // What was settled has the columns, too.
    let rest = if done.is_some() { "RELEASE narrow" } else { "ROLLBACK TO narrow; RELEASE narrow" };
    connection.execute_batch(rest).doing(doing)?;
    if done.is_some() {
        connection.execute("DELETE FROM hutong_quarantine WHERE lane = ?1", [&lane]).doing(doing)?;
    } else {
        tracing::info!(lane, "it cannot be narrowed where it stands, and fills anew");
    }
    Ok(done)
}

fn fits(connection: &Connection, table: &str, contract: Option<&Arc<Contract>>) -> Result<bool> {
    match contract.map(|contract| target::prepare(connection, table, contract)) {
        Some(Err(error)) if error.kind == ErrorKind::SchemaConflict => Ok(false),
        made => made.transpose().map(|_| true),
    }
}

fn narrow(
    connection: &Connection,
    lane: &str,
    table: &str,
    narrowing: &Narrowing,
) -> rusqlite::Result<Option<Narrowed>> {
    let Ok(Some(shape)) = Table::read(connection, table) else { return Ok(None) };
    // What a row is found by again, unless a column has taken its name.
    let free = |name: &&str| !shape.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let Some(rowid) = ["rowid", "_rowid_", "oid"].into_iter().find(free) else { return Ok(None) };
    let here = |column: &String| shape.column(column).is_some();
    if !narrowing.reads().is_empty() {
        // What a trigger does behind a row is not seen here, and a name that is no column would be a text.
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE)";
        let followed: bool = connection.query_row(sql, [&shape.name], |row| row.get(0))?;
        if followed || !narrowing.reads().iter().all(|field| shape.column(field.column()).is_some()) {
            return Ok(None);
        }
    }
    let gone: Vec<&String> = narrowing.gone.iter().filter(|column| here(column)).collect();
    let mut done = Narrowed::default();
    for rows in row::rows_of(connection, lane, &shape.name)? {
        let part = Part { connection, lane, table: &shape.name, rows: &rows, gone: &gone, rowid };
        let (Some(judged), Some(emptied)) = (part.judge(narrowing)?, part.empty()?) else { return Ok(None) };
        done.changed += judged.changed + emptied;
        done.removed += judged.removed;
    }
    Ok(Some(done))
}

/// Some rows of a lane: all of them where they say so themselves, or one of a department's own table.
struct Part<'a> {
    connection: &'a Connection,
    lane: &'a str,
    table: &'a str,
    rows: &'a RowsOf,
    gone: &'a [&'a String],
    rowid: &'a str,
}

impl Part<'_> {
    /// Asks of each row what becomes of it, where that has to be asked; `None` when nobody can tell, or when the table
    /// does not do as it is told.
    fn judge(&self, narrowing: &Narrowing) -> rusqlite::Result<Option<Narrowed>> {
        let (reads, masks) = (narrowing.reads(), narrowing.masks());
        let mut done = Narrowed::default();
        let mut last = None;
        while !reads.is_empty() {
            let found = self.read(&reads, last)?;
            let whole = found.len() == ROWS;
            last = found.last().and_then(|(place, _)| *place);
            for (place, row) in found {
                let did = match narrowing.fate(row) {
                    Fate::Stays => continue,
                    Fate::Untold => return Ok(None),
                    Fate::Goes => {
                        done.removed += 1;
                        self.remove(place)?
                    }
                    Fate::Masked(values) => {
                        done.changed += 1;
                        self.mask(place, &masks, &values)?
                    }
                };
                if did != Some(1) {
                    return Ok(None);
                }
            }
            if last.is_none() || !whole {
                break;
            }
        }
        Ok(Some(done))
    }

    /// Reads the next rows behind a place; one of a department's own table has none, and is found by its key.
    fn read(&self, fields: &[&Field], last: Option<i64>) -> rusqlite::Result<Vec<(Option<i64>, Row)>> {
        let columns = quoted_list(fields.iter().map(|field| field.column()));
        let (table, own, rowid) = (quoted(self.table), &self.rows.condition, self.rowid);
        let mut bound = self.rows.bound.clone();
        let sql = if self.rows.key.is_some() {
            format!("SELECT NULL, {columns} FROM {table} WHERE {own}")
        } else {
            bound.push(Stored::Integer(last.unwrap_or(i64::MIN)));
            format!(
                "SELECT {rowid}, {columns} FROM {table} WHERE {own} AND {rowid} > ? ORDER BY 1 LIMIT {ROWS}"
            )
        };
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(bound), |found| {
            let value = |(at, field): (usize, &&Field)| Ok(held::value(&field.ty, found.get_ref(at + 1)?));
            let row: rusqlite::Result<Row> = fields.iter().enumerate().map(value).collect();
            Ok((found.get(0)?, row?))
        })?;
        rows.collect()
    }

    fn remove(&self, place: Option<i64>) -> rusqlite::Result<Option<usize>> {
        if let Some(key) = &self.rows.key {
            let sql = "DELETE FROM hutong_row WHERE table_name = ?1 AND lane = ?2 AND key = ?3";
            self.connection.prepare_cached(sql)?.execute([self.table, self.lane, key])?;
        }
        let (condition, bound) = self.at(place);
        let sql = format!("DELETE FROM {} WHERE {condition}", quoted(self.table));
        self.connection.prepare_cached(&sql)?.execute(params_from_iter(bound)).map(Some)
    }

    /// Masks values of a row, and empties what is granted no more there; `None` when the store cannot hold one.
    fn mask(&self, place: Option<i64>, fields: &[&Field], values: &Row) -> rusqlite::Result<Option<usize>> {
        let stored = fields.iter().zip(values).map(|(field, value)| values::write(&field.ty, value));
        let Ok(mut bound) = stored.collect::<Result<Vec<Stored>, String>>() else { return Ok(None) };
        let mut set: Vec<String> =
            fields.iter().map(|field| format!("{} = ?", quoted(field.column()))).collect();
        set.extend(self.gone.iter().map(|column| format!("{} = NULL", quoted(column))));
        let (condition, here) = self.at(place);
        bound.extend(here);
        let sql = format!("UPDATE {} SET {} WHERE {condition}", quoted(self.table), set.join(", "));
        self.connection.prepare_cached(&sql)?.execute(params_from_iter(bound)).map(Some)
    }

    fn at(&self, place: Option<i64>) -> (String, Vec<Stored>) {
        match place {
            Some(place) => (format!("{} = ?", self.rowid), vec![Stored::Integer(place)]),
            None => (self.rows.condition.clone(), self.rows.bound.clone()),
        }
    }

    /// Returns how many rows it has emptied; `None` when some of them still have a value: a trigger has the last word.
    fn empty(&self) -> rusqlite::Result<Option<u64>> {
        let gone = || self.gone.iter().map(|column| quoted(column));
        let set: Vec<String> = gone().map(|column| format!("{column} = NULL")).collect();
        let filled: Vec<String> = gone().map(|column| format!("{column} IS NOT NULL")).collect();
        if set.is_empty() {
            return Ok(Some(0));
        }
        let (table, bound) = (quoted(self.table), || params_from_iter(&self.rows.bound));
        let whose = format!("WHERE ({}) AND {}", filled.join(" OR "), self.rows.condition);
        let sql = format!("UPDATE {table} SET {} {whose}", set.join(", "));
        let emptied = self.connection.prepare_cached(&sql)?.execute(bound())?;
        let left = format!("SELECT EXISTS (SELECT 1 FROM {table} {whose})");
        let left: bool = self.connection.prepare_cached(&left)?.query_row(bound(), |row| row.get(0))?;
        Ok((!left).then_some(emptied as u64))
    }
}
