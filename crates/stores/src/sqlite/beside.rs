//! The table that a lane fills while the rows that it has written before are served, and how it takes their place.
//!
//! Knows the two tables of a lane; nothing of batches, nor of when the lane has come far enough
//! (`hutong_core::beside`).

use std::sync::Arc;

use hutong_core::{Checkpoint, Contract, Error, ErrorKind, Result};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::connect::{quoted, quoted_list};
use super::error::Context;
use super::gone;
use super::table::Table;
use super::target::{self, LANE, OFFSET};
use crate::steered::NOBODYS;

/// What ends the filling beside: the table that is served, and the contracts of what was filled.
pub(super) struct Put {
    pub(super) table: String,
    /// What the opening of the lane has made sure of in that table.
    pub(super) had: Option<Arc<Contract>>,
    pub(super) contracts: Vec<Arc<Contract>>,
}

/// Returns the table that a lane fills beside the one that is served.
fn table(lane: &str) -> String {
    let digest = hutong_core::hexadecimal::text(&Sha256::digest(lane.as_bytes()));
    format!("hutong_beside_{}", &digest[..32])
}

/// Returns the table that a lane writes that stands here.
pub(super) fn written(lane: &str, served: &str, checkpoint: &Checkpoint) -> String {
    if checkpoint.serves() { table(lane) } else { served.to_owned() }
}

/// States whether a table has rows of a lane that can be served while it is filled anew: not of a department's own, which
/// takes no second one beside it.
pub(super) fn can(connection: &Connection, served: &str, lane: &str) -> Result<bool> {
    let made_here = |shape: &Table| shape.column(LANE).is_some() && shape.column(OFFSET).is_some();
    if !Table::read(connection, served)?.as_ref().is_some_and(made_here) {
        return Ok(false);
    }
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {LANE} = ?1)", quoted(served));
    let doing = || format!("look for rows of {lane} in {served}");
    connection.query_row(&sql, [lane], |row| row.get(0)).doing(doing)
}

/// Removes what a lane has filled beside.
pub(super) fn remove(connection: &Connection, lane: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(&table(lane))))
}

/// Puts what a lane has filled in the place of what it serves, in the transaction of the commit that has come so far (I2):
/// who reads the table sees the one or the other.
///
/// `Err(Refused)` and others that no waiting cures: the table does not take all of it at once.
pub(super) fn put(connection: &Connection, lane: &str, to: &Put) -> Result<()> {
    let (served, filled) = (&to.table, table(lane));
    let doing = || doing(lane, served);
    // I3: made again here, the table would lack what the other lanes have written.
    gone::check(connection, served, to.had.as_deref())?;
    for contract in &to.contracts {
        target::prepare(connection, served, contract)?;
    }
    connection.execute(&format!("DELETE FROM {} WHERE {LANE} = ?1", quoted(served)), [lane]).doing(doing)?;
    // Without a single row there was no contract to make it for.
    let Some(from) = Table::read(connection, &filled)? else { return Ok(()) };
    let there = Table::read(connection, served)?;
    let has = |name: &str| there.as_ref().and_then(|t| t.column(name)).is_some_and(|c| !c.generated);
    // A column that is granted no more stays empty.
    let columns = quoted_list(from.columns.iter().map(|c| c.name.as_str()).filter(|name| has(name)));
    let (served, filled) = (quoted(served), quoted(&filled));
    let sql = format!("INSERT INTO {served} ({columns}) SELECT {columns} FROM {filled}");
    let written = connection.execute(&sql, []).doing(doing)?;
    let count = format!("SELECT count(*) FROM {filled}");
    let all: i64 = connection.query_row(&count, [], |row| row.get(0)).doing(doing)?;
    if written as i64 != all {
        return Err(Error::new(ErrorKind::Refused, doing(), "a trigger of the table skips rows"));
    }
    remove(connection, lane).doing(doing)
}

fn doing(lane: &str, served: &str) -> String {
    format!("put what {lane} has filled anew in its place in {served}")
}

/// Notes that a lane starts anew in its place when it opens next: its table does not take all of it at once, and of row
/// by row it can be told what it refuses.
///
/// Returns the error that says so.
pub(super) fn give_up(
    connection: &Connection,
    (lane, epoch): (&str, i64),
    served: &str,
    why: &str,
) -> Result<Error> {
    // Without what its rows were granted as, nothing of them is served on.
    let sql = "UPDATE hutong_lane SET \"grant\" = ?3, checkpoint = json_remove(checkpoint, ?4) \
               WHERE lane = ?1 AND epoch = ?2";
    let note = format!("$.notes.\"{}\"", hutong_core::grant::NOTE);
    let doing = || doing(lane, served);
    if connection.execute(sql, params![lane, epoch, NOBODYS, note]).doing(doing)? == 0 {
        return Err(Error::new(ErrorKind::Fenced, doing(), "another owner has taken the lane over"));
    }
    Ok(Error::new(ErrorKind::Unavailable, doing(), why)
        .hint("it is filled anew row by row instead, and the replica shows a part until then"))
}
