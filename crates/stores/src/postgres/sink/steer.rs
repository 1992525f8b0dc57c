//! Does to the lanes of a pipeline what a person says: pauses them, lets them go on, sets them back, fills them anew.
//!
//! Knows `hutong_lane` and the quarantine; no row moves here. Reading forward again converges, for the replica takes the
//! last state of each row; the rows of a reload are removed by whoever opens the lane (see `lane.rs`).

use hutong_core::{Checkpoint, Error, ErrorKind, Order, PipelineId, Result, Secret, Verb};
use tokio_postgres::Client;
use tokio_postgres::types::Json;

use super::quarantine;
use crate::postgres::{connect, error};
use crate::steered::{NOBODYS, Steered};

/// How long it waits for a lane whose owner is just taking it over.
const PATIENCE: &str = "SET LOCAL lock_timeout = '20s'";

/// Gives an order to all lanes of a pipeline, in one transaction. Whoever runs them is shut out, and opens them again.
///
/// When it returns, nothing that was under way before is committed any more. Returns the lanes, by name; none when the
/// pipeline has never written here. After `Err` nothing has happened, but for `ErrorKind::Unknown`.
pub async fn steer(url: &Secret, pipeline: &PipelineId, order: &Order) -> Result<Vec<Steered>> {
    let mut session = connect::open(url, order.act.verb.name()).await?;
    let doing = || format!("{} {pipeline}", order.act.verb.name());
    let failed = |e| error::of(e, doing);
    if !quarantine::there(&session).await? {
        return Ok(Vec::new());
    }
    let tx = session.transaction().await.map_err(failed)?;
    tx.batch_execute(PATIENCE).await.map_err(failed)?;
    // Held until the end: a commit of its owner is before it or is shut out.
    let sql = r#"SELECT lane, "position", epoch FROM hutong.hutong_lane
                  WHERE starts_with(lane, $1 || '.') ORDER BY lane FOR UPDATE"#;
    let rows = tx.query(sql, &[&pipeline.to_string()]).await.map_err(failed)?;
    let mut steered = Vec::new();
    for row in rows {
        let lane: String = row.get(0);
        let Json(before) = row
            .try_get::<_, Json<Checkpoint>>(1)
            .map_err(|e| Error::caused(ErrorKind::Broken, format!("read the checkpoint of {lane}"), e))?;
        let mut after = order.apply(&lane, &before);
        let mut settled = Vec::new();
        if let Some(after) = &mut after {
            let epoch = after.turn(row.get(2));
            let sql = r#"UPDATE hutong.hutong_lane SET epoch = $2, "position" = $3,
                             "grant" = coalesce($4, "grant"), changed = clock_timestamp() WHERE lane = $1"#;
            let grant = (order.act.verb == Verb::Reload).then_some(NOBODYS);
            tx.execute(sql, &[&lane, &epoch, &Json(&*after), &grant]).await.map_err(failed)?;
            if let Some((_, to)) = order.back.get(&lane) {
                settled = settle(tx.client(), &lane, &to.to_string()).await.map_err(failed)?;
            }
        }
        steered.push(Steered { lane, before, after, settled });
    }
    tx.commit().await.map_err(|e| Error::new(ErrorKind::Unknown, doing(), error::text(&e)))?;
    Ok(steered)
}

/// Puts a note into the checkpoint of a lane, whoever runs it; nothing where it has never written.
pub async fn note(url: &Secret, lane: &str, name: &str, text: &str) -> Result<()> {
    let session = connect::open(url, "note").await?;
    if !quarantine::there(&session).await? {
        return Ok(());
    }
    let sql = r#"UPDATE hutong.hutong_lane SET "position" = "position" || jsonb_build_object('notes',
                     coalesce("position" -> 'notes', '{}') || jsonb_build_object($2::text, $3::text))
                  WHERE lane = $1"#;
    let noted = session.execute(sql, &[&lane, &name, &text]).await;
    noted.map(drop).map_err(|e| error::of(e, || format!("note {name} of {lane}")))
}

/// Settles what a lane has set aside from a place on, for that comes again; returns the items.
async fn settle(client: &Client, lane: &str, from: &str) -> Result<Vec<i64>, tokio_postgres::Error> {
    let sql = r#"UPDATE hutong.hutong_quarantine SET state = 'replayed', settled = clock_timestamp()
                  WHERE lane = $1 AND state = 'waiting' AND "position" >= $2 COLLATE "C" RETURNING id"#;
    Ok(client.query(sql, &[&lane, &from]).await?.iter().map(|row| row.get(0)).collect())
}
