//! The table that a lane writes: made from the contract, or checked and used as it stands.

use std::sync::Arc;

use hutong_core::{Contract, Error, ErrorKind, Field, Result, Type};
use rusqlite::Connection;

use super::connect::{quoted, quoted_list};
use super::error::Context;
use super::table::Table;
use super::values;

/// The column that names the lane of a row, in tables that Hutong created.
pub(super) const LANE: &str = "hutong_lane";
/// The column that names the offset of the change that a row comes from.
pub(super) const OFFSET: &str = "hutong_offset";

/// A table that is ready for rows of a contract, with the SQL that writes them.
#[derive(Debug)]
pub(super) struct Target {
    /// The contract.
    pub(super) contract: Arc<Contract>,
    /// The table.
    pub(super) table: String,
    /// Whether rows name their lane themselves; else `hutong_row` does it for them.
    pub(super) own: bool,
    /// Whether a row is its key and nothing else, so that one that is there already stays as it is.
    pub(super) key_only: bool,
    /// Upserts a row: the fields in order, then lane and offset where rows name them.
    pub(super) upsert: String,
    /// Deletes a row by its key.
    pub(super) delete: String,
    /// The condition that finds a row by its key.
    pub(super) by_key: String,
}

/// Makes room for rows of a contract: makes the table, adds columns to one that Hutong made, checks any other.
pub(super) fn prepare(connection: &Connection, table: &str, contract: &Arc<Contract>) -> Result<Target> {
    let doing = || format!("prepare table {table}");
    match Table::read(connection, table)? {
        None => {
            connection.execute_batch(&create(table, contract)).doing(doing)?;
        }
        Some(shape) => {
            let own = shape.column(LANE).is_some() && shape.column(OFFSET).is_some();
            for field in &contract.fields {
                match shape.column(field.column()) {
                    Some(_) => {}
                    None if own && !contract.key_fields().any(|k| k.name == field.name) => {
                        let sql = format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), declaration(field));
                        connection.execute_batch(&sql).doing(doing)?;
                    }
                    None => {
                        let why = format!("it has no column {}", field.column());
                        return Err(Error::new(ErrorKind::SchemaConflict, doing(), why)
                            .hint(format!("add the column {}", declaration(field))));
                    }
                }
            }
        }
    }
    ready(connection, table, contract)
}

/// Takes the table as it stands: `Err(SchemaConflict)` when it does not take rows of the contract.
pub(super) fn ready(connection: &Connection, table: &str, contract: &Arc<Contract>) -> Result<Target> {
    let doing = || format!("prepare table {table}");
    let Some(shape) = Table::read(connection, table)? else {
        return Err(Error::new(ErrorKind::SchemaConflict, doing(), "it is not a table"));
    };
    let faults = faults(&shape, contract);
    if !faults.is_empty() {
        return Err(Error::new(ErrorKind::SchemaConflict, doing(), faults.join("; ")));
    }
    Ok(target(&shape, contract))
}

/// Returns the fault of a table without a column.
pub(super) fn lacks(column: &str) -> String {
    format!("it has no column {column}")
}

/// Returns why rows of the contract cannot be written into the table exactly and found again; empty: they can.
pub(super) fn faults(shape: &Table, contract: &Contract) -> Vec<String> {
    let mut faults = Vec::new();
    for field in &contract.fields {
        let Some(column) = shape.column(field.column()) else {
            faults.push(lacks(field.column()));
            continue;
        };
        if column.generated {
            faults.push(format!("column {} is computed by the table", column.name));
        }
        if !affinity(&column.declared).holds(&field.ty) {
            faults.push(format!(
                "column {} is declared {}, where SQLite would convert {}: declare it {}",
                column.name,
                if column.declared.is_empty() { "without a type" } else { &column.declared },
                field.ty.name(),
                values::declared(&field.ty),
            ));
        }
    }
    let key: Vec<&str> = contract.key_fields().map(Field::column).collect();
    if !shape.is_unique(&key) {
        faults.push(format!("its columns {} are the contract's key and are not unique", key.join(", ")));
    }
    // I6: two rows of the stream whose keys are one to the store would overwrite each other.
    if let Some(collation) = shape.folding(&key) {
        faults.push(format!(
            "its key {} is unique by the collation {collation}, which takes different keys for one: \
             declare it COLLATE BINARY",
            key.join(", ")
        ));
    }
    faults
}

/// How a column converts what is stored in it (SQLite, "Datatypes In SQLite", section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// States whether every value of the type stays as it is written. I6.
    fn holds(self, ty: &Type) -> bool {
        match ty {
            Type::Boolean | Type::Int16 | Type::Int | Type::Long => !matches!(self, Self::Text | Self::Real),
            Type::Float | Type::Double => !matches!(self, Self::Text),
            // Texts that look like numbers become numbers under every other affinity.
            Type::Text { .. } | Type::Decimal { .. } | Type::Numeric | Type::Json | Type::Enum { .. } => {
                matches!(self, Self::Text | Self::Blob)
            }
            // These never look like numbers, and blobs are never converted.
            Type::Bytes
            | Type::Date
            | Type::Time
            | Type::Timestamp
            | Type::TimestampTz
            | Type::Uuid
            | Type::Interval
            | Type::Array(_) => true,
        }
    }
}

/// Returns the affinity of a declared type, which is in upper case.
fn affinity(declared: &str) -> Affinity {
    let has = |part: &str| declared.contains(part);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || declared.is_empty() {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// Returns `CREATE TABLE`. Hutong creates no constraint but the key: the rest is the source's to hold.
fn create(table: &str, contract: &Contract) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (i, field) in contract.fields.iter().enumerate() {
        let required = if contract.is_key(i) { " NOT NULL" } else { "" };
        lines.push(format!("{}{required}{}", declaration(field), comment(field.title())));
    }
    lines.push(format!("{LANE} TEXT NOT NULL"));
    lines.push(format!("{OFFSET} NOT NULL"));
    lines.push(format!("PRIMARY KEY ({})", quoted_list(contract.key_fields().map(Field::column))));
    let mut sql = format!("CREATE TABLE {} (\n  {}\n);\n", quoted(table), lines.join(",\n  "));
    // A lane that is reset or truncated finds its rows by this.
    sql.push_str(&format!(
        "CREATE INDEX {} ON {} ({LANE})",
        quoted(&format!("{table}_{LANE}")),
        quoted(table)
    ));
    sql
}

/// Returns the condition that finds a value of a key's column: byte for byte, whatever collation the column has.
pub(super) fn same(column: &str) -> String {
    format!("{} = ? COLLATE BINARY", quoted(column))
}

fn declaration(field: &Field) -> String {
    format!("{} {}", quoted(field.column()), values::declared(&field.ty))
}

/// Returns a comment as SQLite keeps it in the text of the table.
fn comment(title: &str) -> String {
    format!(" /* {} */", title.replace("*/", "* /"))
}

fn target(shape: &Table, contract: &Arc<Contract>) -> Target {
    let own = shape.column(LANE).is_some() && shape.column(OFFSET).is_some();
    let table = quoted(&shape.name);
    let mut columns: Vec<&str> = contract.fields.iter().map(Field::column).collect();
    if own {
        columns.extend([LANE, OFFSET]);
    }
    let key: Vec<&str> = contract.key_fields().map(Field::column).collect();
    let set: Vec<String> = columns
        .iter()
        .filter(|c| !key.contains(c))
        .map(|c| format!("{0} = excluded.{0}", quoted(c)))
        .collect();
    let conflict = if set.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", set.join(", ")) };
    let by_key = key.iter().map(|c| same(c)).collect::<Vec<_>>().join(" AND ");
    Target {
        contract: Arc::clone(contract),
        own,
        key_only: set.is_empty(),
        upsert: format!(
            "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO {conflict}",
            quoted_list(columns.iter().copied()),
            vec!["?"; columns.len()].join(", "),
            quoted_list(key.iter().copied()),
        ),
        delete: format!("DELETE FROM {table} WHERE {by_key}"),
        by_key,
        table: shape.name.clone(),
    }
}
