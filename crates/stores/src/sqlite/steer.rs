//! Does to the lanes of a pipeline what a person says: pauses them, lets them go on, sets them back, fills them anew.
//!
//! Knows `hutong_lane` and the quarantine; no row moves here. Reading forward again converges, for the replica takes the
//! last state of each row; the rows of a reload are removed by whoever opens the lane (see `lane.rs`).

use std::path::Path;

use hutong_core::{Hold, Order, PipelineId, Result, Verb};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::error::Context;
use super::install::now_us;
use super::{connect, lane};
use crate::steered::{NOBODYS, Steered};

/// Gives an order to all lanes of a pipeline, in one transaction. Whoever runs them is shut out, and opens them again.
///
/// When it returns, nothing that was under way before is committed any more. Returns the lanes, by name; none when the
/// pipeline has never written here. After `Err` nothing has happened.
pub fn steer(path: &Path, pipeline: &PipelineId, order: &Order) -> Result<Vec<Steered>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut connection = connect::existing(path)?;
    let doing = || format!("{} {pipeline}", order.act.verb.name());
    if !lane::written(&connection).doing(doing)? {
        return Ok(Vec::new());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
    let mut steered = Vec::new();
    for (lane, text, epoch) in lanes(&transaction, pipeline).doing(doing)? {
        let before = lane::read_checkpoint(&text)?;
        let mut after = order.apply(&lane, &before);
        let mut settled = Vec::new();
        if let Some(after) = &mut after {
            let epoch = after.turn(epoch);
            let sql = "UPDATE hutong_lane SET epoch = ?2, checkpoint = ?3, \"grant\" = coalesce(?4, \"grant\"), \
                       changed_us = ?5 WHERE lane = ?1";
            let grant = (order.act.verb == Verb::Reload).then_some(NOBODYS);
            transaction
                .execute(sql, params![lane, epoch, lane::text(after), grant, now_us()])
                .doing(doing)?;
            if let Some((_, to)) = order.back.get(&lane) {
                settled = settle(&transaction, &lane, &to.to_string()).doing(doing)?;
            }
        }
        steered.push(Steered { lane, before, after, settled });
    }
    transaction.commit().doing(doing)?;
    Ok(steered)
}

/// Puts a note into the checkpoint of a lane, whoever runs it; nothing where it has never written.
pub fn note(path: &Path, lane: &str, name: &str, text: &str) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let connection = connect::existing(path)?;
    let doing = || format!("note {name} of {lane}");
    if !lane::written(&connection).doing(doing)? {
        return Ok(());
    }
    let sql = "UPDATE hutong_lane SET \
               checkpoint = json_patch(checkpoint, json_object('notes', json_object(?2, ?3))) WHERE lane = ?1";
    connection.execute(sql, params![lane, name, text]).map(drop).doing(doing)
}

/// Looks how a lane stands to the owner that opened it under `own`; reads only.
pub(super) fn look(path: &Path, name: &str, own: i64) -> Result<Hold> {
    let doing = || format!("look at lane {name}");
    let connection = connect::to_read(path)?;
    let sql = "SELECT checkpoint, epoch FROM hutong_lane WHERE lane = ?1";
    let found: Option<(String, i64)> =
        connection.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional().doing(doing)?;
    // A lane that its topic no longer has was removed by another owner.
    let Some((text, epoch)) = found else { return Ok(Hold::Taken) };
    Ok(lane::read_checkpoint(&text)?.hold(epoch, own))
}

fn lanes(connection: &Connection, pipeline: &PipelineId) -> rusqlite::Result<Vec<(String, String, i64)>> {
    let sql = "SELECT lane, checkpoint, epoch FROM hutong_lane WHERE substr(lane, 1, length(?1)) = ?1 ORDER BY lane";
    let mut statement = connection.prepare(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([format!("{pipeline}.")], read)?.collect()
}

/// Settles what a lane has set aside from a place on, for that comes again; returns the items.
fn settle(connection: &Connection, lane: &str, from: &str) -> rusqlite::Result<Vec<i64>> {
    let sql = "UPDATE hutong_quarantine SET state = 'replayed', settled_us = ?3 \
               WHERE lane = ?1 AND state = 'waiting' AND position >= ?2 RETURNING id";
    let mut statement = connection.prepare(sql)?;
    statement.query_map(params![lane, from, now_us()], |row| row.get(0))?.collect()
}
