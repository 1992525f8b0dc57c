//! Compares a replica, row by row, with what SQL over the source says it must hold.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::every_type::Kept;
use crate::installation::answered;

/// One row as texts.
type Row = Vec<Option<String>>;

/// A column of a replica and the SQL over the source that says what it must hold.
pub(crate) struct Expected {
    /// The replica's column, not quoted.
    pub(crate) column: String,
    /// SQL over the source that gives a text.
    pub(crate) sql: String,
    /// How SQLite keeps it.
    pub(crate) kept: Kept,
}

impl Expected {
    /// Expects the source's column as it is.
    pub(crate) fn same(column: &str) -> Self {
        Self::of(column, &format!("{}::text", quoted(column)))
    }

    /// Expects what SQL says.
    pub(crate) fn of(column: &str, sql: &str) -> Self {
        Self { column: column.into(), sql: sql.into(), kept: Kept::Text }
    }
}

/// What a replica must hold: the columns, key first, of the rows of a source's table.
pub(crate) struct Projection {
    /// The source's table with its condition, as SQL after FROM.
    pub(crate) from: String,
    /// The columns; the first `key` of them are the key.
    pub(crate) columns: Vec<Expected>,
}

/// A replica.
pub(crate) enum Replica<'a> {
    /// A table of PostgreSQL, as SQL after FROM.
    Postgres(&'a Client, &'a str),
    /// A table of a SQLite file.
    Sqlite(&'a Path, &'a str),
}

impl Projection {
    async fn wanted(&self, source: &Client) -> Vec<Row> {
        let list: Vec<&str> = self.columns.iter().map(|c| c.sql.as_str()).collect();
        let rows = query(source, &format!("SELECT {} FROM {}", list.join(", "), self.from)).await;
        sorted(rows.expect("the source answers").into_iter().map(|row| self.plain(row)).collect())
    }

    /// Returns what the replica holds; `None` while its table is not there.
    async fn held(&self, replica: &Replica<'_>) -> Option<Vec<Row>> {
        let rows = match replica {
            Replica::Postgres(client, table) => {
                let list: Vec<String> =
                    self.columns.iter().map(|c| format!("{}::text", quoted(&c.column))).collect();
                query(client, &format!("SELECT {} FROM {table}", list.join(", "))).await?
            }
            Replica::Sqlite(path, table) => self.sqlite(path, table).ok()?,
        };
        Some(sorted(rows.into_iter().map(|row| self.plain(row)).collect()))
    }

    fn sqlite(&self, path: &Path, table: &str) -> rusqlite::Result<Vec<Row>> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let list: Vec<String> = self.columns.iter().map(|c| quoted(&c.column)).collect();
        let mut statement = connection.prepare(&format!("SELECT {} FROM \"{table}\"", list.join(", ")))?;
        let rows = statement.query_map([], |row| {
            (0..self.columns.len()).map(|at| row.get_ref(at).map(text)).collect::<rusqlite::Result<Row>>()
        })?;
        rows.collect()
    }

    /// Brings binary numbers and JSON to one spelling.
    fn plain(&self, row: Row) -> Row {
        let spell = |(value, expected): (Option<String>, &Expected)| match expected.kept {
            Kept::Text => value,
            Kept::Real => value.map(|text| format!("{:?}", text.parse::<f64>().unwrap())),
            Kept::Json => {
                value.map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap().to_string())
            }
        };
        row.into_iter().zip(&self.columns).map(spell).collect()
    }

    /// Waits until the replica holds just what it must; returns how many rows that are.
    ///
    /// The source must be at rest. After the deadline, panics with the first differences.
    pub(crate) async fn reached(&self, source: &Client, replica: &Replica<'_>) -> usize {
        let wanted = self.wanted(source).await;
        let mut last = None;
        let search = answered(async || {
            last = self.held(replica).await;
            last.as_ref().is_some_and(|held| *held == wanted).then_some(wanted.len())
        });
        if let Some(count) = search.await {
            return count;
        }
        let held = last.expect("the replica's table is there");
        panic!(
            "the replica of {} has {} rows of {}\n{}",
            self.from,
            held.len(),
            wanted.len(),
            self.tell(&wanted, &held)
        );
    }

    /// Tells the first rows that differ, and in what.
    fn tell(&self, wanted: &[Row], held: &[Row]) -> String {
        let lacks = wanted.iter().filter(|row| held.binary_search(row).is_err());
        let surplus: Vec<&Row> = held.iter().filter(|row| wanted.binary_search(row).is_err()).collect();
        let mut text = String::new();
        for row in lacks.take(5) {
            text.push_str(&format!("lacks {:?}", &row[..2]));
            // The columns that differ from the row that is there under the same first columns.
            if let Some(there) = surplus.iter().find(|there| there[0] == row[0]) {
                for ((column, wanted), held) in
                    self.columns.iter().zip(row).zip(*there).filter(|((_, a), b)| a != b)
                {
                    text.push_str(&format!("\n    {}: {held:?} instead of {wanted:?}", column.column));
                }
            }
            text.push('\n');
        }
        for row in surplus.iter().take(5) {
            text.push_str(&format!("has {:?}\n", &row[..2]));
        }
        text
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(n) => Some(n.to_string()),
        ValueRef::Real(n) => Some(format!("{n:?}")),
        ValueRef::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        ValueRef::Blob(bytes) => {
            Some(bytes.iter().fold("\\x".into(), |text, byte| format!("{text}{byte:02x}")))
        }
    }
}

/// Returns the rows of a query as texts, in the spelling that the comparison needs.
async fn query(client: &Client, sql: &str) -> Option<Vec<Row>> {
    client
        .batch_execute("SET IntervalStyle = iso_8601; SET TimeZone = 'UTC'; SET extra_float_digits = 1")
        .await
        .ok()?;
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        // The table, its schema or a column is not there yet.
        Err(error) if error.code().is_some_and(|c| matches!(c.code(), "42P01" | "3F000" | "42703")) => {
            return None;
        }
        Err(error) => panic!("{sql}: {error:?}"),
    };
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Some(messages.into_iter().filter_map(row).collect())
}
