//! The shape of a table as SQLite itself describes it: columns, what identifies a row, what is unique.

use hutong_core::Result;
use rusqlite::{Connection, OptionalExtension};

use super::connect::quoted;
use super::error::Context;

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its declared type, in upper case; may be empty.
    pub(super) declared: String,
    /// Whether it is declared NOT NULL.
    pub(super) required: bool,
    /// Whether the table computes it.
    pub(super) generated: bool,
}

/// A column of an index, with the collation by which the index compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexed {
    /// The column.
    pub(super) column: String,
    /// The collation.
    pub(super) collation: String,
}

impl Indexed {
    /// Returns SQL that compares the column of `row` with `with` as the index does.
    pub(super) fn matches(&self, row: &str, operator: &str, with: &str) -> String {
        format!("{row}{} COLLATE {} {operator} {with}", quoted(&self.column), quoted(&self.collation))
    }
}

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Its name.
    pub(super) name: String,
    /// Its columns.
    pub(super) columns: Vec<Column>,
    /// What identifies a row to SQLite: the row number, or the primary key of a table WITHOUT ROWID.
    pub(super) identity: Vec<Indexed>,
    /// Whether VACUUM may give a row another identity: a row number that no column holds.
    pub(super) renumbered: bool,
    /// The columns of the declared primary key, in key order.
    pub(super) primary: Vec<String>,
    /// Every set of columns that is unique, the identity among them.
    pub(super) unique: Vec<Vec<Indexed>>,
    /// The name of a unique index over an expression, when there is one.
    pub(super) expression: Option<String>,
}

impl Table {
    /// Returns the table's shape; `None` when there is no such table.
    pub(super) fn read(connection: &Connection, name: &str) -> Result<Option<Self>> {
        read(connection, name).doing(|| format!("read the shape of table {name}"))
    }

    /// Returns a column.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// States whether no two rows can have the same values in `columns`.
    pub(super) fn is_unique(&self, columns: &[&str]) -> bool {
        self.unique_by(columns).next().is_some()
    }

    /// Returns a collation by which `columns` are unique and which takes different texts for one.
    pub(super) fn folding(&self, columns: &[&str]) -> Option<String> {
        let mut collations = self.unique_by(columns).flatten().map(|part| part.collation.clone());
        collations.find(|collation| !collation.eq_ignore_ascii_case("BINARY"))
    }

    /// Returns the unique sets of just these columns.
    fn unique_by<'a>(&'a self, columns: &'a [&str]) -> impl Iterator<Item = &'a Vec<Indexed>> + 'a {
        self.unique.iter().filter(|unique| {
            unique.len() == columns.len()
                && unique.iter().all(|u| columns.iter().any(|c| c.eq_ignore_ascii_case(&u.column)))
        })
    }
}

fn read(connection: &Connection, name: &str) -> rusqlite::Result<Option<Table>> {
    let without_rowid: Option<bool> = connection
        .query_row(
            "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1 COLLATE NOCASE",
            [name],
            |row| row.get(0),
        )
        .optional()?;
    let Some(without_rowid) = without_rowid else { return Ok(None) };
    let mut columns = Vec::new();
    let mut primary: Vec<(i64, String)> = Vec::new();
    let mut statement = connection
        .prepare("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let column: String = row.get(0)?;
        let rank: i64 = row.get(3)?;
        if rank > 0 {
            primary.push((rank, column.clone()));
        }
        columns.push(Column {
            name: column,
            declared: row.get::<_, String>(1)?.to_ascii_uppercase(),
            required: row.get(2)?,
            generated: row.get::<_, i64>(4)? >= 2,
        });
    }
    primary.sort();
    let primary: Vec<String> = primary.into_iter().map(|(_, column)| column).collect();

    let mut unique = Vec::new();
    let mut expression = None;
    let mut primary_index = None;
    let mut statement =
        connection.prepare("SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\"")?;
    let indexes: Vec<(String, String)> = statement
        .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (index, origin) in indexes {
        let mut statement =
            connection.prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
        let parts: Vec<(Option<String>, String)> = statement
            .query_map([&index], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let parts: Option<Vec<Indexed>> = parts
            .into_iter()
            .map(|(column, collation)| column.map(|column| Indexed { column, collation }))
            .collect();
        match parts {
            None => expression = Some(index),
            Some(parts) => {
                if origin == "pk" {
                    primary_index = Some(parts.clone());
                }
                unique.push(parts);
            }
        }
    }
    // The order in which SQLite lists indexes is not promised; the triggers' text must not depend on it.
    unique.sort_by_key(|u| u.iter().map(|i| i.column.clone()).collect::<Vec<_>>());

    let alone = |column: &str| vec![Indexed { column: column.to_owned(), collation: "BINARY".to_owned() }];
    let (identity, renumbered) = match (&primary_index, primary.as_slice()) {
        (Some(parts), _) if without_rowid => (parts.clone(), false),
        // Without an index of its own the primary key is the row number itself.
        (None, [column]) => (alone(column), false),
        _ => {
            let taken = |name: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
            let free = ["rowid", "_rowid_", "oid"].into_iter().find(|n| !taken(n)).unwrap_or("rowid");
            (alone(free), true)
        }
    };
    if !unique.contains(&identity) {
        unique.push(identity.clone());
    }
    Ok(Some(Table { name: name.to_owned(), columns, identity, renumbered, primary, unique, expression }))
}
