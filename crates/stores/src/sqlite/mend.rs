//! Sends rows again as they are now, by key, through the capture: what a replica lost or altered comes back so.
//!
//! A line of the change log for each key, written in one transaction with what the table holds then: as exact and as
//! well ordered as what the triggers write (I4).

use std::collections::HashMap;
use std::path::Path;

use hutong_core::{Contract, Result, Row, Type, Value};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, params_from_iter};

use super::connect::{quoted, quoted_list};
use super::cursor::Place;
use super::error::Context;
use super::install::now_us;
use super::source::{Captured, blocking};
use super::table::Table;
use super::target::same;
use super::trigger::{Names, numbered};
use super::{connect, install, values};
use crate::fold;

/// A line of the log that tells what a row is now, without what it was before.
pub(super) const IS: &str = "r";
/// A line of the log that tells that there is no row of a key.
pub(super) const GONE: &str = "g";

/// Asks the capture of a table to send the rows of these keys again, or their deletes.
///
/// Durable when it returns; a capture that does not run does it when it runs.
pub async fn mend(path: &Path, capture: &str, captured: Captured, keys: Vec<Row>) -> Result<()> {
    let (path, capture) = (path.to_owned(), capture.to_owned());
    // Whoever writes the file is waited for.
    blocking(move || ask(&path, &capture, &captured, &keys)).await
}

fn ask(path: &Path, capture: &str, captured: &Captured, keys: &[Row]) -> Result<()> {
    let mut connection = connect::existing(path)?;
    let doing = || format!("ask for rows of {}", captured.name);
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).doing(doing)?;
    let standing = install::verify(&tx, capture, std::slice::from_ref(captured))?;
    let Some((layout, shape)) = standing.into_iter().next().transpose()? else { return Ok(()) };
    let log = Log {
        connection: &tx,
        names: Names::of(capture),
        layout,
        shape: &shape,
        contract: &captured.contract,
    };
    log.write(keys).doing(doing)?;
    tx.commit().doing(doing)
}

struct Log<'a> {
    connection: &'a Connection,
    names: Names,
    layout: i64,
    shape: &'a Table,
    contract: &'a Contract,
}

impl Log<'_> {
    fn write(&self, keys: &[Row]) -> rusqlite::Result<()> {
        let mut left: HashMap<fold::Key, &Row> = HashMap::new();
        for key in keys {
            // The form in which the key is stored here is not told by its value alone: a number may be a text.
            if !self.is(key)?
                && let Some(of) = fold::Key::of(self.contract, &self.contract.key_row(key))
            {
                left.insert(of, key);
            }
        }
        if !left.is_empty() && self.contract.key_fields().any(|field| has_forms(&field.ty)) {
            self.search(&mut left)?;
        }
        for key in left.into_values() {
            self.gone(key)?;
        }
        Ok(())
    }

    /// Logs the row of a key as it is; `false` when there is none that is stored as Hutong would store it.
    fn is(&self, key: &Row) -> rusqlite::Result<bool> {
        let fields = self.contract.key_fields().zip(key);
        let bound: Option<Vec<Stored>> =
            fields.map(|(field, value)| values::write(&field.ty, value).ok()).collect();
        let Some(bound) = bound else { return Ok(false) };
        let condition = self.contract.key_fields().map(|field| same(field.column())).collect::<Vec<_>>();
        self.log(&condition.join(" AND "), bound)
    }

    fn log(&self, condition: &str, bound: Vec<Stored>) -> rusqlite::Result<bool> {
        let sql = format!(
            "INSERT INTO {} (at_us, layout, op, {}) SELECT {}, {}, '{IS}', {} FROM {} WHERE {condition}",
            quoted(&self.names.log),
            numbered("n", self.contract.fields.len()),
            now_us(),
            self.layout,
            quoted_list(self.contract.fields.iter().map(|field| field.column())),
            quoted(&self.shape.name),
        );
        Ok(self.connection.prepare(&sql)?.execute(params_from_iter(bound))? > 0)
    }

    /// Looks through the whole table for keys that are stored in another form.
    fn search(&self, left: &mut HashMap<fold::Key, &Row>) -> rusqlite::Result<()> {
        let columns: Vec<&str> = self.contract.key_fields().map(|field| field.column()).collect();
        let sql =
            format!("SELECT {} FROM {}", quoted_list(columns.iter().copied()), quoted(&self.shape.name));
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let condition = columns.iter().map(|c| format!("{} IS ?", quoted(c))).collect::<Vec<_>>();
        while let Some(row) = rows.next()? {
            let (mut key, mut bound) = (Vec::new(), Vec::new());
            for (at, field) in self.contract.key_fields().enumerate() {
                let stored = row.get_ref(at)?;
                key.push(values::read(&field.ty, stored).unwrap_or(Value::Unknown));
                bound.extend(Place::of(stored).map(|place| place.stored()));
            }
            let of = fold::Key::of(self.contract, &self.contract.key_row(&key));
            if of.is_some_and(|of| left.remove(&of).is_some()) {
                self.log(&condition.join(" AND "), bound)?;
            }
        }
        Ok(())
    }

    /// Logs that there is no row of a key: its values stand where the triggers put an old row.
    fn gone(&self, key: &Row) -> rusqlite::Result<()> {
        let columns: Vec<String> = self.contract.key.iter().map(|at| format!("o{at}")).collect();
        let sql = format!(
            "INSERT INTO {} (at_us, layout, op, {}) VALUES ({}, {}, '{GONE}', {})",
            quoted(&self.names.log),
            columns.join(", "),
            now_us(),
            self.layout,
            vec!["?"; columns.len()].join(", "),
        );
        let fields = self.contract.key_fields().zip(key);
        let bound: Vec<Stored> =
            fields.filter_map(|(field, value)| values::write(&field.ty, value).ok()).collect();
        if bound.len() == columns.len() {
            self.connection.prepare_cached(&sql)?.execute(params_from_iter(bound))?;
        }
        Ok(())
    }
}

/// States whether values of a type that are one may be stored in several forms.
fn has_forms(ty: &Type) -> bool {
    match ty {
        Type::Decimal { .. }
        | Type::Numeric
        | Type::Float
        | Type::Double
        | Type::Time
        | Type::Timestamp
        | Type::TimestampTz
        | Type::Array(_) => true,
        Type::Boolean
        | Type::Int16
        | Type::Int
        | Type::Long
        | Type::Text { .. }
        | Type::Bytes
        | Type::Date
        | Type::Json
        | Type::Uuid
        | Type::Interval
        | Type::Enum { .. } => false,
    }
}
