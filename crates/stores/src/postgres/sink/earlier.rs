//! Ends what an earlier owner of a lane has left open in the store.
//!
//! Knows the advisory lock that every commit of a lane takes; nothing of epochs, which alone shut an owner out.

use hutong_core::{LaneId, Result};
use tokio_postgres::Client;

use super::commit::lock_of;
use crate::postgres::error;

/// How long a session that is told to end may take, in milliseconds.
const GOES_MS: i64 = 5_000;

/// Ends the sessions that stand in the middle of a commit of the lane.
///
/// The caller is about to take the lane over, so whoever is in a commit of it is an earlier owner: one that goes on opens
/// again, and one that stands still in the midst of sending rows would hold them for as long as a statement may last.
pub(super) async fn end(client: &Client, lane: &LaneId) -> Result<()> {
    let sql = format!(
        "SELECT l.pid, pg_terminate_backend(l.pid, {GOES_MS})
           FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid, (SELECT {} AS key) k
          WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' AND l.granted AND l.objsubid = 1
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND (l.classid::int8 << 32) | l.objid::int8 = k.key
            AND a.usename = current_user AND l.pid <> pg_backend_pid()",
        lock_of(&lane.to_string())
    );
    let doing = || format!("end the sessions of an earlier owner of {lane}");
    for row in client.query(&sql, &[]).await.map_err(|e| error::of(e, doing))? {
        let (pid, ended): (i32, bool) = (row.get(0), row.get(1));
        tracing::info!(lane = %lane, pid, ended, "an earlier owner stood in the middle of a commit");
    }
    Ok(())
}
