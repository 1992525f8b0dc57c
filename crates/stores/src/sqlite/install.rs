//! Puts the change log and its triggers into a department's file, takes them out, and checks that they stand.
//!
//! A *layout* is one table with the columns that its triggers log, under a number that is never used again.
//! Whenever triggers are made anew the table gets a new layout, for changes may have been missed before; a
//! source that finds a layout that it has not snapshotted reads the table again. So neither a table that was
//! rebuilt nor a contract that grew nor a log that was removed and installed again loses a row silently (I3).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hutong_core::{Contract, Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::connect::{self, literal, quoted};
use super::error::Context;
use super::source::Captured;
use super::table::Table;
use super::trigger::{self, Names};

/// What `install` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Tables whose triggers were made; the source reads these tables as a whole.
    pub made: Vec<String>,
    /// Tables whose triggers stood already.
    pub kept: Vec<String>,
}

/// Puts the change log of a capture and its triggers into the file, in one transaction. Idempotent.
///
/// `Err(SchemaConflict)` names the table and what is wrong with it, and then nothing has changed.
pub fn install(path: &Path, capture: &str, tables: &[Captured]) -> Result<Installed> {
    let mut connection = connect::existing(path)?;
    let names = Names::of(capture);
    let doing = || format!("install capture {capture}");
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
    let mut shapes = Vec::new();
    for captured in tables {
        shapes.push((captured, fitting(&tx, captured)?));
    }
    let width = tables.iter().map(|t| t.contract.fields.len()).max().unwrap_or(0);
    let identity = shapes.iter().map(|(_, shape)| shape.identity.len()).max().unwrap_or(1);
    make_tables(&tx, &names, width, identity).doing(doing)?;
    let mut installed = Installed::default();
    let mut standing = Vec::new();
    for (captured, shape) in &shapes {
        let columns = columns_of(&captured.contract);
        let latest = latest_layout(&tx, &names, &captured.name).doing(doing)?;
        if let Some(layout) = latest
            && stands(&tx, &names, shape, &columns, layout).doing(doing)?
        {
            installed.kept.push(captured.name.clone());
        } else {
            make_triggers(&tx, &names, shape, &columns).doing(doing)?;
            installed.made.push(captured.name.clone());
        }
        standing.push(format!("{}{}:", names.trigger_prefix, captured.name));
    }
    for name in triggers(&tx, &names).doing(doing)? {
        if !standing.iter().any(|prefix| name.starts_with(prefix.as_str())) {
            tx.execute_batch(&format!("DROP TRIGGER {}", quoted(&name))).doing(doing)?;
        }
    }
    tx.commit().doing(doing)?;
    Ok(installed)
}

/// Takes triggers and change log of a capture out of the file, in one transaction. Idempotent.
pub fn remove(path: &Path, capture: &str) -> Result<()> {
    let mut connection = connect::existing(path)?;
    let names = Names::of(capture);
    let doing = || format!("remove capture {capture}");
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
    for name in triggers(&tx, &names).doing(doing)? {
        tx.execute_batch(&format!("DROP TRIGGER {}", quoted(&name))).doing(doing)?;
    }
    for table in [&names.log, &names.doomed, &names.layout] {
        tx.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(table))).doing(doing)?;
    }
    tx.commit().doing(doing)
}

/// Returns the shape of a captured table, or why it cannot be captured.
pub(super) fn fitting(connection: &Connection, captured: &Captured) -> Result<Table> {
    let doing = || format!("capture table {}", captured.name);
    let conflict = |why: String| Error::new(ErrorKind::SchemaConflict, doing(), why);
    let Some(shape) = Table::read(connection, &captured.name)? else {
        return Err(conflict("there is no such table".into()));
    };
    for field in &captured.contract.fields {
        if shape.column(field.column()).is_none() {
            return Err(conflict(format!("it has no column {}, which the contract names", field.column())));
        }
    }
    let key: Vec<&str> = captured.contract.key_fields().map(|f| f.column()).collect();
    if !shape.is_unique(&key) {
        return Err(conflict(format!(
            "its columns {} are the contract's key and are not unique",
            key.join(", ")
        )));
    }
    if let Some(index) = &shape.expression {
        // What OR REPLACE removes by such an index could not be found again.
        return Err(conflict(format!("its unique index {index} is over an expression")));
    }
    Ok(shape)
}

/// Returns the layout and shape of each table, in their order, or why the table cannot be read now.
///
/// `Err(Config)` when the capture or one of its tables was never installed.
pub(super) fn verify(
    connection: &Connection,
    capture: &str,
    tables: &[Captured],
) -> Result<Vec<Result<(i64, Table)>>> {
    let names = Names::of(capture);
    let hint = format!("hutong source install {capture}");
    let doing = || format!("read the change log of capture {capture}");
    let missing = |kind, why: String| Error::new(kind, doing(), why).hint(hint.clone());
    for name in [&names.log, &names.layout, &names.doomed] {
        if !exists(connection, "table", name).doing(doing)? {
            return Err(missing(ErrorKind::Config, "the file has no change log".into()));
        }
    }
    let mut found = Vec::new();
    for captured in tables {
        let Some(layout) = latest_layout(connection, &names, &captured.name).doing(doing)? else {
            return Err(missing(ErrorKind::Config, format!("table {} has no triggers", captured.name)));
        };
        let shape = match fitting(connection, captured) {
            Ok(shape) => shape,
            Err(error) if error.kind == ErrorKind::SchemaConflict => {
                found.push(Err(error));
                continue;
            }
            Err(error) => return Err(error),
        };
        if stands(connection, &names, &shape, &columns_of(&captured.contract), layout).doing(doing)? {
            found.push(Ok((layout, shape)));
        } else {
            let why = format!("the triggers of table {} are not what they must be", captured.name);
            found.push(Err(missing(ErrorKind::SchemaConflict, why)));
        }
    }
    Ok(found)
}

fn columns_of(contract: &Contract) -> Vec<String> {
    contract.fields.iter().map(|f| f.column().to_owned()).collect()
}

fn make_tables(
    connection: &Connection,
    names: &Names,
    width: usize,
    identity: usize,
) -> rusqlite::Result<()> {
    let (log, doomed) = (quoted(&names.log), quoted(&names.doomed));
    if !exists(connection, "table", &names.log)? {
        // Sequence numbers and layouts begin at the time of installation, so they go on growing when a log is
        // removed and installed again, and positions of the earlier one are all before it.
        let start = now_us();
        connection.execute_batch(&format!(
            "CREATE TABLE {log} (seq INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, \
             layout INTEGER NOT NULL, op TEXT NOT NULL); \
             INSERT INTO sqlite_sequence (name, seq) VALUES ({}, {start});",
            literal(&names.log)
        ))?;
    }
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {doomed} (layout INTEGER NOT NULL); \
         CREATE TABLE IF NOT EXISTS {} (id INTEGER PRIMARY KEY, tbl TEXT NOT NULL, columns TEXT NOT NULL);",
        quoted(&names.layout)
    ))?;
    widen(connection, &names.log, "o", width)?;
    widen(connection, &names.log, "n", width)?;
    widen(connection, &names.doomed, "i", identity)?;
    widen(connection, &names.doomed, "o", width)
}

/// Adds the columns that a wider table needs. They have no type, so values stay as they are (I6).
fn widen(connection: &Connection, table: &str, prefix: &str, width: usize) -> rusqlite::Result<()> {
    for i in 0..width {
        let column = format!("{prefix}{i}");
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        if connection.query_row(sql, [table, &column], |row| row.get::<_, i64>(0))? == 0 {
            connection.execute_batch(&format!("ALTER TABLE {} ADD COLUMN {column}", quoted(table)))?;
        }
    }
    Ok(())
}

fn make_triggers(
    connection: &Connection,
    names: &Names,
    shape: &Table,
    columns: &[String],
) -> rusqlite::Result<()> {
    let table = quoted(&names.layout);
    let last: i64 =
        connection.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?;
    let id = now_us().max(last + 1);
    let text = serde_json::to_string(columns).expect("a list of texts prints");
    connection.execute(
        &format!("INSERT INTO {table} (id, tbl, columns) VALUES (?1, ?2, ?3)"),
        params![id, shape.name, text],
    )?;
    for trigger in trigger::all(names, shape, columns, id) {
        connection.execute_batch(&format!(
            "DROP TRIGGER IF EXISTS {}; {}",
            quoted(&trigger.name),
            trigger.sql
        ))?;
    }
    Ok(())
}

/// States whether every trigger of the table is there, word for word.
fn stands(
    connection: &Connection,
    names: &Names,
    shape: &Table,
    columns: &[String],
    layout: i64,
) -> rusqlite::Result<bool> {
    for trigger in trigger::all(names, shape, columns, layout) {
        let sql = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1";
        let found: Option<String> =
            connection.query_row(sql, [&trigger.name], |row| row.get(0)).optional()?;
        if found.as_deref() != Some(trigger.sql.as_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn latest_layout(connection: &Connection, names: &Names, table: &str) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT max(id) FROM {} WHERE tbl = ?1", quoted(&names.layout));
    connection.query_row(&sql, [table], |row| row.get(0))
}

fn triggers(connection: &Connection, names: &Names) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, length(?1)) = ?1";
    connection.prepare(sql)?.query_map([&names.trigger_prefix], |row| row.get(0))?.collect()
}

fn exists(connection: &Connection, kind: &str, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = ?1 AND name = ?2";
    Ok(connection.query_row(sql, [kind, name], |row| row.get::<_, i64>(0))? > 0)
}

/// Returns microseconds since 1970 UTC.
pub(super) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
