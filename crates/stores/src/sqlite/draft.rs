//! Drafts a contract from a live table, and compares one with a table.

use std::path::Path;

use hutong_core::contract::Sharing;
use hutong_core::{Contract, Error, ErrorKind, Field, Result, Type};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value as Json};

use super::connect::{self, quoted, quoted_list};
use super::error::Context;
use super::install;
use super::source::Captured;
use super::table::Table;
use super::target::{LANE, OFFSET};
use super::values;
use crate::Finding;

/// How many rows `compare` reads: SQLite does not hold values to the declared type, so rows are looked at too.
const SAMPLE: usize = 1_000;

/// Drafts the contract of a table by its declared types, for a person to review.
///
/// It is shared with nobody, and says so, until a person has decided otherwise.
pub fn draft(path: &Path, table: &str) -> Result<Contract> {
    let connection = connect::existing(path)?;
    let doing = || format!("draft a contract of table {table}");
    let refuse = |why: String| Error::new(ErrorKind::SchemaConflict, doing(), why);
    let shape = Table::read(&connection, table)?.ok_or_else(|| refuse("there is no such table".into()))?;
    let key = key(&shape).ok_or_else(|| refuse("it has no unique key whose columns are NOT NULL".into()))?;
    let mut fields: Vec<Field> = Vec::new();
    for (i, column) in shape.columns.iter().enumerate().filter(|(_, c)| c.name != LANE && c.name != OFFSET) {
        let mut name = wire_name(&column.name).unwrap_or_else(|| format!("field_{}", i + 1));
        if fields.iter().any(|f| f.name == name) {
            name = format!("field_{}", i + 1);
        }
        let mut field = Field::new(name, drafted(&column.declared));
        field.column = (field.name != column.name).then(|| column.name.clone());
        field.nullable = !column.required && !key.contains(&column.name);
        field.catalogue.insert("title".into(), Json::from(column.name.clone()));
        fields.push(field);
    }
    let key = key.iter().filter_map(|k| fields.iter().position(|f| f.column() == k)).collect();
    Ok(Contract {
        stream: wire_name(table).unwrap_or_else(|| "stream".into()),
        doc: String::new(),
        sharing: Sharing::Denied("to be decided".into()),
        fields,
        key,
        catalogue: Map::from_iter([("title".into(), Json::from(table))]),
    })
}

/// Compares a table that is to be captured with its contract. Changes nothing.
pub fn compare(path: &Path, table: &str, contract: &Contract) -> Result<Vec<Finding>> {
    let connection = connect::existing(path)?;
    let Some(shape) = Table::read(&connection, table)? else {
        let what = format!("table {table} does not exist in {}", path.display());
        return Ok(vec![Finding::bad(what, "create it, or correct the capture's `tables`")]);
    };
    let mut findings = Vec::new();
    let captured = Captured { name: table.to_owned(), contract: std::sync::Arc::new(contract.clone()) };
    match install::fitting(&connection, &captured) {
        Ok(_) => {
            findings
                .push(Finding::good(format!("table {table} has the contract's columns and a unique key")));
        }
        Err(error) => findings.push(error.into()),
    }
    for column in &shape.columns {
        // I5: said, and not sent.
        if !contract.fields.iter().any(|f| f.column().eq_ignore_ascii_case(&column.name)) {
            findings.push(Finding::good(format!(
                "column {} of table {table} is in no contract and stays",
                column.name
            )));
        }
    }
    let fields: Vec<&Field> = contract.fields.iter().filter(|f| shape.column(f.column()).is_some()).collect();
    for field in &fields {
        let declared = shape.column(field.column()).map(|c| c.declared.as_str()).unwrap_or_default();
        if binary(declared) && matches!(field.ty, Type::Decimal { .. } | Type::Numeric) {
            let what = format!(
                "column {} is declared {declared}, so SQLite keeps its decimals as binary numbers",
                field.column()
            );
            findings.push(Finding::bad(what, format!("declare it {}", values::declared(&field.ty))));
        }
    }
    findings.extend(sample(&connection, table, &fields)?);
    Ok(findings)
}

/// Looks at the first rows, one finding a column that holds what the contract does not allow.
fn sample(connection: &Connection, table: &str, fields: &[&Field]) -> Result<Vec<Finding>> {
    let doing = || format!("read rows of table {table}");
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let columns = quoted_list(fields.iter().map(|f| f.column()));
    let mut statement = connection
        .prepare(&format!("SELECT {columns} FROM {} LIMIT {SAMPLE}", quoted(table)))
        .doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    let mut faults: Vec<Option<String>> = vec![None; fields.len()];
    while let Some(row) = rows.next().doing(doing)? {
        for (i, field) in fields.iter().enumerate() {
            let stored = row.get_ref(i).doing(doing)?;
            let fault = match values::read(&field.ty, stored) {
                Ok(_) if !field.nullable && matches!(stored, ValueRef::Null) => {
                    Err("the contract says never NULL, the table holds one".into())
                }
                other => other,
            };
            if let Err(why) = fault {
                faults[i].get_or_insert(why);
            }
        }
    }
    let fault = |(field, why): (&&Field, Option<String>)| {
        let what = format!("column {} of table {table}", field.column());
        why.map(|why| Finding::bad(format!("{what}: {why}"), "correct the rows, or the contract"))
    };
    Ok(fields.iter().zip(faults).filter_map(fault).collect())
}

/// Returns the columns of the key: the primary key, else a unique index over columns that are NOT NULL.
fn key(shape: &Table) -> Option<Vec<String>> {
    if !shape.primary.is_empty() {
        return Some(shape.primary.clone());
    }
    let required = |name: &str| shape.column(name).is_some_and(|c| c.required);
    let unique = shape.unique.iter().find(|u| u.iter().all(|i| required(&i.column)))?;
    Some(unique.iter().map(|i| i.column.clone()).collect())
}

/// Returns a name that may stand on the wire; `None` when the column's own is none.
fn wire_name(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with("hutong_");
    fits.then_some(name)
}

/// Returns the type that a declared type most likely means; what Hutong declares comes back as it was.
fn drafted(declared: &str) -> Type {
    let (name, numbers) = match declared.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.trim_end_matches(')')),
        None => (declared.trim(), ""),
    };
    let numbers: Vec<u32> = numbers.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    match name {
        "BOOLEAN" | "BOOL" => Type::Boolean,
        "INT2" | "SMALLINT" => Type::Int16,
        "INT4" => Type::Int,
        "FLOAT4" => Type::Float,
        "DATE" => Type::Date,
        "TIME" => Type::Time,
        "TIMESTAMP" | "DATETIME" => Type::Timestamp,
        "TIMESTAMPTZ" => Type::TimestampTz,
        "JSON TEXT" | "JSON" => Type::Json,
        "UUID" => Type::Uuid,
        "DURATION TEXT" => Type::Interval,
        _ if name.contains("DECIMAL") || name.contains("NUMERIC") => match numbers[..] {
            [precision, scale] if precision > 0 && scale <= precision => Type::Decimal { precision, scale },
            [precision] if precision > 0 => Type::Decimal { precision, scale: 0 },
            _ => Type::Numeric,
        },
        _ if name.contains("INT") => Type::Long,
        _ if name.contains("CHAR") => Type::Text { length: numbers.first().copied() },
        _ if name.contains("BLOB") => Type::Bytes,
        _ if name.contains("REAL") || name.contains("FLOA") || name.contains("DOUB") => Type::Double,
        _ => Type::Text { length: None },
    }
}

/// States whether a column of the declared type makes binary numbers of decimal texts.
fn binary(declared: &str) -> bool {
    !declared.is_empty() && !["CHAR", "CLOB", "TEXT", "BLOB"].iter().any(|part| declared.contains(part))
}
