//! Applies a quarantined change again: when a person has mended what refused it, or another lane may have.
//!
//! Knows one item and the row that it writes; the transaction around it is the caller's or its own.

use std::path::Path;
use std::sync::Arc;

use hutong_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::apply::UNDONE;
use super::error::Context;
use super::opened::Opened;
use super::quarantine::{self, Item};
use super::row::{self, Fault};
use super::store::Store;
use super::table::Table;
use super::{beside, connect, lane, target};
use crate::again::Round;
use crate::fold::CONFLICT;
use crate::keep;
use crate::reread::BEHIND_RULE;

/// How many items a lane tries again at a time.
const AT_A_TIME: i64 = 100;

/// Applies a waiting item to its lane's table and settles it, in one transaction.
///
/// `Err(Refused)` says why the item cannot be applied; it waits on.
pub fn replay(path: &Path, id: i64) -> Result<()> {
    let mut connection = connect::existing(path)?;
    let doing = || doing(id);
    let refuse = |why: &str| Error::new(ErrorKind::Refused, doing(), why);
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
    if !lane::written(&tx).doing(doing)? {
        return Err(refuse("there is no such item"));
    }
    let item = quarantine::find(&tx, id).doing(doing)?.ok_or_else(|| refuse("there is no such item"))?;
    apply(&tx, &item)?;
    tx.commit().doing(doing)
}

/// Tries what waits in a lane for a change of another one: some items after `after`, each with what queues behind it.
///
/// Each in a transaction of its own, so that one which a constraint refuses at COMMIT costs no other.
pub(super) async fn conflicts(store: &Store, file: &Arc<Opened>, lane: &str, after: i64) -> Result<Round> {
    let name = lane.to_owned();
    let doing = || "read what waits for another lane".to_owned();
    let read = move |connection: &Connection| {
        quarantine::of_rule(connection, &name, CONFLICT, after, AT_A_TIME).doing(doing).map(Some)
    };
    let items = store.write(file, read).await?;
    let mut left = after > 0;
    for item in &items {
        left |= !again(store, file, item).await?;
    }
    Ok(match items.last().filter(|_| items.len() as i64 == AT_A_TIME) {
        Some(last) => Round { left: true, after: last.id },
        None => Round { left, after: 0 },
    })
}

/// Replays an item and what queues behind it, in order (I4); returns whether all are through.
async fn again(store: &Store, file: &Arc<Opened>, item: &Item) -> Result<bool> {
    if !alone(store, file, item.clone()).await? {
        return Ok(false);
    }
    let (first, doing) = (item.clone(), || "read what queues behind an item".to_owned());
    let read = move |connection: &Connection| {
        quarantine::behind(connection, &first, BEHIND_RULE).doing(doing).map(Some)
    };
    for next in store.write(file, read).await? {
        if !alone(store, file, next).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Replays one item; `false` when it is refused again.
async fn alone(store: &Store, file: &Arc<Opened>, item: Item) -> Result<bool> {
    let (lane, id) = (item.lane.clone(), item.id);
    let mut undone = false;
    let work = move |connection: &Connection| {
        if undone {
            return Err(Error::new(ErrorKind::Refused, doing(id), UNDONE));
        }
        let applied = apply(connection, &item);
        undone = connection.is_autocommit();
        // The others of its transaction are run again, without it.
        if undone { Ok(None) } else { applied.map(Some) }
    };
    match store.attempt(file, work).await {
        Ok(()) => {
            tracing::info!(lane, item = id, "replayed");
            Ok(true)
        }
        Err(problem) if problem.kind == ErrorKind::Refused => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// Applies a waiting item and settles it; after `Err` the caller takes back what it has done.
fn apply(connection: &Connection, item: &Item) -> Result<()> {
    let id = item.id;
    let doing = || doing(id);
    let refuse = |why: String| Error::new(ErrorKind::Refused, doing(), why);
    if item.state != "waiting" {
        return Err(refuse(format!("it is {}", item.state)));
    }
    let earlier: Option<i64> = connection
        .query_row(
            "SELECT min(id) FROM hutong_quarantine WHERE lane = ?1 AND key = ?2 AND state = 'waiting' AND position < ?3",
            params![item.lane, item.key, item.position],
            |row| row.get(0),
        )
        .doing(doing)?;
    if let Some(earlier) = earlier {
        return Err(refuse(format!("item {earlier} of the same row waits before it")));
    }
    let Some(change) = &item.change else {
        let (why, hint) = keep::nothing_kept(item.record.is_some(), &item.lane);
        return Err(refuse(why.into()).hint(hint));
    };
    let change = keep::read_change(change)?;
    let row = change.after.as_ref().or(change.before.row());
    let row = row.ok_or_else(|| refuse("it does not carry its row".into()))?;
    let sql = "SELECT table_name, checkpoint FROM hutong_lane WHERE lane = ?1";
    let stands: Option<(String, String)> = connection
        .query_row(sql, [&item.lane], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .doing(doing)?;
    let (served, checkpoint) =
        stands.ok_or_else(|| refuse(format!("the lane {} is not known here", item.lane)))?;
    let table = beside::written(&item.lane, &served, &lane::read_checkpoint(&checkpoint)?);
    // I3: one that somebody has dropped is made again by the opening that fills it, and by nothing else.
    if Table::read(connection, &table)?.is_none() {
        return Err(refuse(format!("the table {table} is not there")));
    }
    let target = target::ready(connection, &table, &change.contract)?;
    let end = row::end_of(change.op, row);
    match row::write(connection, &target, &item.lane, change.position, end, row) {
        Ok(()) => {}
        Err(Fault::Refused(refusal)) => return Err(refuse(refusal.reason)),
        Err(Fault::Rule(_, reason)) => return Err(refuse(reason)),
        Err(Fault::RolledBack) => return Err(refuse(UNDONE.into())),
        Err(Fault::Failed(error)) => return Err(error).doing(doing),
    }
    quarantine::settle(connection, id, "replayed").doing(doing)?;
    Ok(())
}

fn doing(id: i64) -> String {
    format!("replay item {id} of the quarantine")
}
