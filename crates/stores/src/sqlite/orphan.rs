//! Which changes of a batch leave a foreign key without its row, when that shows at COMMIT only.
//!
//! SQLite says of a deferred constraint that it fails, and of no row that it is the one. `PRAGMA foreign_key_check`
//! does. Knows the tables of a batch and what refers to them; nothing of when it is asked.

use rusqlite::types::Value as Stored;
use rusqlite::{Connection, params_from_iter};

use super::apply::Apply;
use super::connect::quoted;
use super::row;
use super::target::Target;
use crate::fold::{End, Keyed, Part};

/// A row whose foreign key finds nothing.
struct Orphan {
    table: String,
    rowid: i64,
    parent: String,
    constraint: i64,
}

/// Returns the last change of each key of the batch that a broken foreign key names and that still counts.
///
/// Of a table WITHOUT ROWID SQLite names no row, so nothing is found.
pub(super) fn find(connection: &Connection, apply: &Apply) -> rusqlite::Result<Vec<usize>> {
    let mut found = Vec::new();
    for orphan in orphans(connection)? {
        for part in &apply.folded.parts {
            let Some(target) = apply.targets.iter().find(|t| *t.contract == *part.contract) else { continue };
            // The row refers to something that is not there; or a row that it refers to was deleted.
            if orphan.table.eq_ignore_ascii_case(&target.table) {
                let key = target.contract.key_fields().map(|f| f.column().to_owned()).collect();
                let values = values(connection, &orphan, key)?;
                found.extend(blame(apply, part, target, &values, false));
            }
            if orphan.parent.eq_ignore_ascii_case(&target.table) {
                let (own, others) = columns(connection, &orphan, target)?;
                let values = values(connection, &orphan, own)?;
                let values = values.into_iter().map(|(_, value)| value);
                let values: Vec<(String, Stored)> = others.into_iter().zip(values).collect();
                found.extend(blame(apply, part, target, &values, true));
            }
        }
    }
    Ok(found)
}

fn orphans(connection: &Connection) -> rusqlite::Result<Vec<Orphan>> {
    let sql = "SELECT \"table\", rowid, parent, fkid FROM pragma_foreign_key_check WHERE rowid IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Orphan { table: row.get(0)?, rowid: row.get(1)?, parent: row.get(2)?, constraint: row.get(3)? })
    };
    statement.query_map([], read)?.collect()
}

/// Returns the columns of a constraint, and those that they refer to.
fn columns(
    connection: &Connection,
    orphan: &Orphan,
    target: &Target,
) -> rusqlite::Result<(Vec<String>, Vec<String>)> {
    let sql = "SELECT \"from\", \"to\" FROM pragma_foreign_key_list(?1) WHERE id = ?2 ORDER BY seq";
    let mut statement = connection.prepare(sql)?;
    let pairs: Vec<(String, Option<String>)> = statement
        .query_map((&orphan.table, orphan.constraint), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut key = target.contract.key_fields().map(|f| f.column().to_owned());
    // A constraint that names no column means the primary key.
    Ok(pairs.into_iter().map(|(from, to)| (from, to.or_else(|| key.next()).unwrap_or_default())).unzip())
}

/// Returns some columns of a row, by name.
fn values(
    connection: &Connection,
    orphan: &Orphan,
    columns: Vec<String>,
) -> rusqlite::Result<Vec<(String, Stored)>> {
    let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let sql = format!("SELECT {} FROM {} WHERE rowid = ?", names.join(", "), quoted(&orphan.table));
    let read = |row: &rusqlite::Row<'_>| (0..columns.len()).map(|at| row.get(at)).collect();
    let values: Vec<Stored> = connection.query_row(&sql, params_from_iter([orphan.rowid]), read)?;
    Ok(columns.into_iter().zip(values).collect())
}

/// Returns the change to blame: of the key that has these values, the last that is not blamed yet.
fn blame(
    apply: &Apply,
    part: &Part,
    target: &Target,
    values: &[(String, Stored)],
    deleted: bool,
) -> Option<usize> {
    let is = |keyed: &&Keyed| {
        let row = keyed.row(&apply.changes);
        let same = |(column, value): &(String, Stored)| {
            let at = target.contract.fields.iter().position(|f| f.column().eq_ignore_ascii_case(column));
            at.filter(|at| target.contract.is_key(*at)).is_some_and(|at| {
                row::stored(&target.contract.fields[at], &row[at]).is_ok_and(|stored| stored == *value)
            })
        };
        (keyed.end == End::Delete) == deleted && !values.is_empty() && values.iter().all(same)
    };
    let keyed = part.keys.iter().find(is)?;
    part.of_key(&apply.changes, &keyed.key).filter(|at| !apply.poison.contains_key(at)).last()
}
