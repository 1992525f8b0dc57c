//! Finds what somebody has dropped of a replica, and has the lanes begin anew whose rows or values went with it.
//!
//! Knows tables and where lanes stand; which of them are struck is `crate::gone`'s to say.

use hutong_core::{Contract, Field, Result};
use rusqlite::{Connection, params};

use super::error::Context;
use super::lane;
use super::table::Table;
use super::target::{LANE, OFFSET};
use crate::gone::Gone;
use crate::steered::NOBODYS;

/// Looks what a table lacks of a contract that Hutong would make by itself; without a contract nobody knows.
pub(super) fn look(connection: &Connection, table: &str, contract: Option<&Contract>) -> Result<Gone> {
    let Some(contract) = contract else { return Ok(Gone::Nothing) };
    let Some(shape) = Table::read(connection, table)? else { return Ok(Gone::Table) };
    let made_here = shape.column(LANE).is_some() && shape.column(OFFSET).is_some();
    let fields = contract.fields.iter().filter(|_| made_here);
    let lacking = fields.map(Field::column).filter(|column| shape.column(column).is_none());
    Ok(Gone::of(lacking.map(str::to_owned).collect()))
}

/// `Err(Unavailable)` when a table has lost what the opening of a lane has made sure of.
pub(super) fn check(connection: &Connection, table: &str, had: Option<&Contract>) -> Result<()> {
    look(connection, table, had)?.refused(table)
}

/// Has every lane begin anew whose table is not there any more, in a transaction of its own: what an opening then cannot do
/// must not undo it (I3). States whether it was a department's own table, of which the side table tells.
pub(super) fn begin(connection: &Connection, table: &str, contract: Option<&Contract>) -> Result<bool> {
    if look(connection, table, contract)? != Gone::Table {
        return Ok(false);
    }
    strike(connection, table, "", &Gone::Table)?;
    let sql = "SELECT EXISTS (SELECT 1 FROM hutong_row WHERE table_name = ?1 COLLATE NOCASE)";
    connection
        .query_row(sql, [table], |row| row.get(0))
        .doing(|| format!("find what was written into {table}"))
}

/// Has the other lanes begin anew that have lost something, in the transaction that makes it again (I2, I3). Whoever runs
/// them is shut out and opens them again.
pub(super) fn strike(connection: &Connection, table: &str, lane: &str, gone: &Gone) -> Result<()> {
    let doing = || format!("have the other lanes of {table} begin anew");
    let sql = "SELECT lane, checkpoint, epoch, \"grant\" FROM hutong_lane \
               WHERE table_name = ?1 COLLATE NOCASE AND lane <> ?2 ORDER BY lane";
    let mut statement = connection.prepare(sql).doing(doing)?;
    let others: Vec<(String, String, i64, String)> = statement
        .query_map([table, lane], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .doing(doing)?
        .collect::<rusqlite::Result<Vec<_>>>()
        .doing(doing)?;
    for (other, text, before, mark) in others {
        // One that cannot be read is its own lane's fault to tell, and keeps no other from its rows.
        let Ok(mut checkpoint) = lane::read_checkpoint(&text) else {
            tracing::warn!(lane = other, table, "its checkpoint cannot be read: it is left");
            continue;
        };
        let Some(why) = gone.strikes(&checkpoint, &mark) else { continue };
        let epoch = checkpoint.turn(before);
        let sql = "UPDATE hutong_lane SET epoch = ?2, checkpoint = ?3, \"grant\" = ?4 WHERE lane = ?1";
        connection.execute(sql, params![other, epoch, lane::text(&checkpoint), NOBODYS]).doing(doing)?;
        tracing::warn!(lane = other, table, why, "somebody has dropped it: it begins anew");
    }
    Ok(())
}
