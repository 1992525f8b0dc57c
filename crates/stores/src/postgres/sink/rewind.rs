//! Sets a lane back to an earlier place of its topic, so that its next owner reads a record again that can be read now.
//!
//! Reading forward again converges: the replica takes the last state of each row.

use hutong_core::{Checkpoint, Error, ErrorKind, Position, Result, Secret};
use tokio_postgres::types::Json;

use super::quarantine;
use crate::postgres::{connect, error};

/// Shuts the owner of a lane out, sets the lane back to `to` in a partition, and settles what it has set aside from
/// there on, for that comes again; in one transaction. Returns the settled items.
///
/// `Err(Refused)` when the lane is not here or has not come so far; then nothing has happened.
pub async fn rewind(url: &Secret, lane: &str, partition: &str, to: u64) -> Result<Vec<i64>> {
    let mut session = connect::open(url, "rewind").await?;
    let doing = || format!("rewind {lane} to offset {to}");
    let failed = |e| error::of(e, doing);
    let refused = |why: &str| Error::new(ErrorKind::Refused, doing(), why);
    if !quarantine::there(&session).await? {
        return Err(refused("the lane is not known here"));
    }
    let tx = session.transaction().await.map_err(failed)?;
    // Held until the end: a commit of its owner is before it or is shut out.
    let sql = r#"SELECT "position" FROM hutong.hutong_lane WHERE lane = $1 FOR UPDATE"#;
    let row = tx.query_opt(sql, &[&lane]).await.map_err(failed)?;
    let row = row.ok_or_else(|| refused("the lane is not known here"))?;
    let mut checkpoint = row
        .try_get::<_, Json<Checkpoint>>(0)
        .map_err(|e| Error::caused(ErrorKind::Broken, format!("read the checkpoint of {lane}"), e))?
        .0;
    let to = Position::offset(to);
    if checkpoint.position(partition) <= to {
        return Err(refused("the lane has not come so far in that topic"));
    }
    checkpoint.positions.insert(partition.to_owned(), to);
    let sql = r#"UPDATE hutong.hutong_lane SET epoch = epoch + 1, "position" = $2, changed = clock_timestamp()
                  WHERE lane = $1"#;
    tx.execute(sql, &[&lane, &Json(&checkpoint)]).await.map_err(failed)?;
    let sql = r#"UPDATE hutong.hutong_quarantine SET state = 'replayed', settled = clock_timestamp()
                  WHERE lane = $1 AND state = 'waiting' AND "position" >= $2 COLLATE "C" RETURNING id"#;
    let rows = tx.query(sql, &[&lane, &to.to_string()]).await.map_err(failed)?;
    let settled = rows.iter().map(|row| row.get(0)).collect();
    tx.commit().await.map_err(|e| Error::new(ErrorKind::Unknown, doing(), error::text(&e)))?;
    Ok(settled)
}
