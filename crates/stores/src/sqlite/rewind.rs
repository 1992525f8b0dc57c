//! Sets a lane back to an earlier place of its topic, so that its next owner reads a record again that can be read now.
//!
//! Reading forward again converges: the replica takes the last state of each row.

use std::path::Path;

use hutong_core::{Error, ErrorKind, Position, Result};
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::error::Context;
use super::install::now_us;
use super::{connect, lane};

/// Shuts the owner of a lane out, sets the lane back to `to` in a partition, and settles what it has set aside from
/// there on, for that comes again; in one transaction. Returns the settled items.
///
/// `Err(Refused)` when the lane is not here or has not come so far; then nothing has happened.
pub fn rewind(path: &Path, name: &str, partition: &str, to: u64) -> Result<Vec<i64>> {
    let mut connection = connect::existing(path)?;
    let doing = || format!("rewind {name} to offset {to}");
    let refused = |why: &str| Error::new(ErrorKind::Refused, doing(), why);
    if !lane::written(&connection).doing(doing)? {
        return Err(refused("the lane is not known here"));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
    let sql = "SELECT checkpoint FROM hutong_lane WHERE lane = ?1";
    let found: Option<String> =
        transaction.query_row(sql, [name], |row| row.get(0)).optional().doing(doing)?;
    let mut checkpoint = lane::read_checkpoint(&found.ok_or_else(|| refused("the lane is not known here"))?)?;
    let to = Position::offset(to);
    if checkpoint.position(partition) <= to {
        return Err(refused("the lane has not come so far in that topic"));
    }
    checkpoint.positions.insert(partition.to_owned(), to);
    let sql = "UPDATE hutong_lane SET epoch = epoch + 1, checkpoint = ?2, changed_us = ?3 WHERE lane = ?1";
    transaction.execute(sql, params![name, lane::text(&checkpoint), now_us()]).doing(doing)?;
    let settled = {
        let sql = "UPDATE hutong_quarantine SET state = 'replayed', settled_us = ?3 \
                   WHERE lane = ?1 AND state = 'waiting' AND position >= ?2 RETURNING id";
        let mut statement = transaction.prepare(sql).doing(doing)?;
        let ids =
            statement.query_map(params![name, to.to_string(), now_us()], |row| row.get(0)).doing(doing)?;
        ids.collect::<rusqlite::Result<Vec<i64>>>().doing(doing)?
    };
    transaction.commit().doing(doing)?;
    Ok(settled)
}
