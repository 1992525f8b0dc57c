//! Removes from a change log what is durable downstream.

use rusqlite::{Connection, params};

use super::connect::quoted;
use super::recent::LOOK_BACK;
use super::trigger::Names;

/// How many rows one transaction removes, so that the department's own programs wait for milliseconds only.
const BITE: i64 = 1_000;

/// Removes the rows up to `seq`, but never the last ones.
///
/// I1: nothing after `seq` is removed. The last rows stay for who looks back on them, and because SQLite's own
/// counter may lie before them (after `INSERT OR FAIL`): a number that is given out twice would be a change that
/// is never read.
pub(super) fn prune(connection: &Connection, names: &Names, seq: u64) -> rusqlite::Result<()> {
    let log = quoted(&names.log);
    let sql = format!(
        "DELETE FROM {log} WHERE seq <= min(?1, (SELECT max(seq) FROM {log})) - {LOOK_BACK} \
         AND seq < (SELECT min(seq) FROM {log}) + ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    while statement.execute(params![seq as i64, BITE])? > 0 {}
    Ok(())
}
