//! Makes room for the first rows of a lane that starts anew, before anything of its earlier rows is removed.
//!
//! Knows tables and contracts, and whose rows a table holds; nothing of checkpoints.

use std::sync::Arc;

use hutong_core::{Contract, ErrorKind, LaneId, Result};
use rusqlite::{Connection, params};

use super::connect::quoted;
use super::error::Context;
use super::table::Table;
use super::target::{self, LANE, OFFSET};
use crate::steered::NOBODYS;

/// Prepares the table of a contract. One that Hutong created, that holds rows of this pipeline only and that does not
/// fit is made anew. Any other that does not fit is `Err(SchemaConflict)`, and nothing of the transaction may stay:
/// the replica keeps what it has.
pub(super) fn renew(
    connection: &Connection,
    table: &str,
    contract: &Arc<Contract>,
    lane: &LaneId,
    grant: &str,
) -> Result<()> {
    let conflict = match target::prepare(connection, table, contract) {
        Err(error) if error.kind == ErrorKind::SchemaConflict => error,
        made => return made.map(drop),
    };
    let there = Table::read(connection, table)?;
    let made_here = there.is_some_and(|t| t.column(LANE).is_some() && t.column(OFFSET).is_some());
    let doing = || format!("make {table} anew for {}", contract.stream);
    let (pipeline, own) = (format!("{}.", lane.pipeline), lane.to_string());
    if !made_here || !only_of(connection, table, &pipeline, &own, grant).doing(doing)? {
        return Err(conflict);
    }
    connection.execute_batch(&format!("DROP TABLE {}", quoted(table))).doing(doing)?;
    // Whose rows went with it starts anew too, whatever grant it comes with.
    let sql = "UPDATE hutong_lane SET \"grant\" = ?4 \
               WHERE substr(lane, 1, length(?1)) = ?1 AND lane <> ?2 AND table_name = ?3";
    connection.execute(sql, params![pipeline, own, table, NOBODYS]).doing(doing)?;
    tracing::info!(lane = %lane, table, why = %conflict, "the table is made anew");
    target::prepare(connection, table, contract).map(drop)
}

/// States whether a table that Hutong created holds nothing but what the lanes of a pipeline wrote under other grants.
fn only_of(
    connection: &Connection,
    table: &str,
    pipeline: &str,
    own: &str,
    grant: &str,
) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT NOT EXISTS (SELECT 1 FROM {} WHERE substr({LANE}, 1, length(?1)) <> ?1) \
            AND NOT EXISTS (SELECT 1 FROM hutong_lane WHERE table_name = ?2 AND lane <> ?3 \
                             AND (substr(lane, 1, length(?1)) <> ?1 OR \"grant\" = ?4))",
        quoted(table)
    );
    connection.query_row(&sql, params![pipeline, table, own, grant], |row| row.get(0))
}
