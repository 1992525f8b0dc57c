//! Reads the receipts that lanes have left in a file, for who publishes them.

use std::collections::BTreeMap;
use std::path::Path;

use hutong_core::Result;
use hutong_core::ledger::{Head, Kept, receipt};
use rusqlite::{Connection, params};

use super::error::Context;
use super::{connect, lane};
use crate::receipt::{head, kept};

/// Returns the head of each lane's chain; nothing of a lane that has left no receipt under a ledger.
pub fn heads(path: &Path) -> Result<BTreeMap<String, Head>> {
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    let mut heads = BTreeMap::new();
    for lane in lane::lanes(path)? {
        if let Some(note) = lane.checkpoint.note(receipt::NOTE) {
            heads.insert(lane.lane.clone(), head(&lane.lane, note)?);
        }
    }
    Ok(heads)
}

/// Returns the receipts of a lane that have this number in its chain or a later one, in their order.
pub fn since(path: &Path, lane: &str, sequence: u64, limit: usize) -> Result<Vec<Kept>> {
    let connection = connect::existing(path)?;
    let doing = || format!("read the receipts of {lane}");
    let sql = "SELECT proof, written, deleted, quarantined, at_us FROM hutong_receipt \
               WHERE lane = ?1 AND sequence >= ?2 ORDER BY sequence LIMIT ?3";
    let mut statement = connection.prepare(sql).doing(doing)?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, String>(0)?, [row.get(1)?, row.get(2)?, row.get(3)?], row.get(4)?))
    };
    let rows = statement.query_map(params![lane, sequence.cast_signed(), limit as i64], row).doing(doing)?;
    rows.map(|row| row.doing(doing).and_then(|(proof, counts, at_us)| kept(lane, &proof, counts, at_us)))
        .collect()
}

/// Forgets the receipts of a lane up to this number in its chain; returns how many.
pub fn forget(path: &Path, lane: &str, sequence: u64) -> Result<u64> {
    let connection = connect::existing(path)?;
    let sql = "DELETE FROM hutong_receipt WHERE lane = ?1 AND sequence <= ?2";
    let gone = connection.execute(sql, params![lane, sequence.cast_signed()]);
    Ok(gone.doing(|| format!("forget the receipts of {lane}"))? as u64)
}

/// Gives a table of receipts that an earlier Hutong has made what it lacks.
pub(super) fn complete(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pragma_table_info('hutong_receipt') WHERE name = 'proof'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        connection.execute_batch(
            "ALTER TABLE hutong_receipt ADD COLUMN sequence INTEGER; ALTER TABLE hutong_receipt ADD COLUMN proof TEXT;",
        )?;
    }
    connection.execute_batch(
        "CREATE INDEX IF NOT EXISTS hutong_receipt_sequence ON hutong_receipt (lane, sequence) WHERE sequence IS NOT NULL",
    )
}
