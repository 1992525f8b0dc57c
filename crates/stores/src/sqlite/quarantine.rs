//! Where changes wait that could not go on, each with its reason, and what people do with them.
//!
//! A store's quarantine holds the permitted projection only; of a record that does not decode, where it stands
//! and its digest. States: `waiting`, `superseded` (a later change of the row was applied), `replayed`,
//! `discarded`.

use std::path::Path;

use hutong_core::{Position, Rejected, Reread, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value as Json;

use super::error::Context;
use super::install::now_us;
pub use super::replay::replay;
use super::{connect, lane};
use crate::keep;
use crate::reread;

/// An item of a quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its number in the store.
    pub id: i64,
    /// The lane that it was on.
    pub lane: String,
    /// The stream.
    pub stream: String,
    /// The rule that refused it.
    pub rule: String,
    /// Why, in words.
    pub reason: String,
    /// Its place in the partition that it was read from, as text.
    pub position: String,
    /// The row's key, as text.
    pub key: Option<String>,
    /// The permitted change: `op`, `before` and `after` by wire names.
    pub change: Option<Json>,
    /// Of a record that did not decode: topic, partition, offset, schema id, digest.
    pub record: Option<Json>,
    /// When it came here, microseconds since 1970 UTC.
    pub first_seen_us: i64,
    /// `waiting`, `superseded`, `replayed` or `discarded`.
    pub state: String,
}

const COLUMNS: &str = "id, lane, stream, rule, reason, position, key, change, record, first_seen_us, state";

/// Returns the waiting items of a store, or all of them, oldest first.
pub fn list(path: &Path, all: bool) -> Result<Vec<Item>> {
    let connection = connect::existing(path)?;
    let doing = || "read the quarantine".to_owned();
    if !lane::written(&connection).doing(doing)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {COLUMNS} FROM hutong_quarantine WHERE ?1 OR state = 'waiting' ORDER BY id");
    let mut statement = connection.prepare(&sql).doing(doing)?;
    let items = statement.query_map([all], read).doing(doing)?;
    items.collect::<rusqlite::Result<_>>().doing(doing)
}

/// Returns one item.
pub fn show(path: &Path, id: i64) -> Result<Option<Item>> {
    let connection = connect::existing(path)?;
    let doing = || format!("read item {id} of the quarantine");
    if !lane::written(&connection).doing(doing)? {
        return Ok(None);
    }
    find(&connection, id).doing(doing)
}

/// Settles a waiting item as discarded; `false` when no such item waits.
pub fn discard(path: &Path, id: i64) -> Result<bool> {
    let connection = connect::existing(path)?;
    let doing = || format!("discard item {id} of the quarantine");
    if !lane::written(&connection).doing(doing)? {
        return Ok(false);
    }
    settle(&connection, id, "discarded").doing(doing)
}

/// Puts an item in, in the transaction of its batch (I3).
pub(super) fn insert(connection: &Connection, lane: &str, rejected: &Rejected) -> rusqlite::Result<()> {
    let change = rejected.change.as_deref();
    let key = change.and_then(|c| keep::key_text(&c.contract, c.after.as_ref().or(c.before.row())?));
    let record = rejected.record.as_ref().map(|r| keep::record_json(r).to_string());
    let sql = "INSERT INTO hutong_quarantine (lane, stream, rule, reason, position, key, change, record, first_seen_us) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        lane,
        rejected.stream,
        rejected.rule,
        rejected.reason,
        rejected.position.to_string(),
        key,
        change.map(|c| keep::change_json(c).to_string()),
        record,
        now_us(),
    ])?;
    Ok(())
}

/// Returns the oldest items of a lane that wait under a rule and have come after another, at most `limit`.
pub(super) fn of_rule(
    connection: &Connection,
    lane: &str,
    rule: &str,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<Item>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM hutong_quarantine WHERE lane = ?1 AND rule = ?2 AND state = 'waiting' AND id > ?3 \
         ORDER BY id LIMIT ?4"
    );
    connection.prepare_cached(&sql)?.query_map(params![lane, rule, after, limit], read)?.collect()
}

/// Returns how many items of a lane wait under a rule.
pub(super) fn count(connection: &Connection, lane: &str, rule: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM hutong_quarantine WHERE lane = ?1 AND rule = ?2 AND state = 'waiting'";
    connection.prepare_cached(sql)?.query_row([lane, rule], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Returns how many changes wait, of those that a lane has read again, whose rows are not there.
pub(super) fn lacking(connection: &Connection, lane: &str, again: &Reread) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM hutong_quarantine WHERE lane = ?1 AND state = 'waiting' \
         AND position >= ?2 AND position < ?3 AND {}",
        reread::lacking()
    );
    let bound = params![lane, again.from.to_string(), again.to.to_string()];
    connection.query_row(&sql, bound, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}

/// Returns how many items of a lane wait, and since when the oldest does (microseconds since 1970 UTC).
pub(super) fn waiting(connection: &Connection, lane: &str) -> rusqlite::Result<(u64, Option<i64>)> {
    let sql =
        "SELECT count(*), min(first_seen_us) FROM hutong_quarantine WHERE lane = ?1 AND state = 'waiting'";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?));
    connection.prepare_cached(sql)?.query_row([lane], read)
}

/// Returns what queues behind an item under a rule: later changes of its row, in order.
pub(super) fn behind(connection: &Connection, item: &Item, rule: &str) -> rusqlite::Result<Vec<Item>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM hutong_quarantine WHERE lane = ?1 AND key = ?2 AND rule = ?3 AND state = 'waiting' \
         ORDER BY position, id"
    );
    connection.prepare_cached(&sql)?.query_map(params![item.lane, item.key, rule], read)?.collect()
}

/// States whether anything of a lane waits.
pub(super) fn waits(connection: &Connection, lane: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM hutong_quarantine WHERE lane = ?1 AND state = 'waiting')";
    connection.prepare_cached(sql)?.query_row([lane], |row| row.get(0))
}

/// States whether an earlier change of the row waits.
pub(super) fn waits_for(
    connection: &Connection,
    lane: &str,
    key: &str,
    before: Position,
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM hutong_quarantine \
               WHERE lane = ?1 AND key = ?2 AND state = 'waiting' AND position < ?3)";
    connection.prepare_cached(sql)?.query_row(params![lane, key, before.to_string()], |row| row.get(0))
}

/// Marks what waits for a row as superseded: a later complete change or a delete of it was applied.
pub(super) fn supersede(
    connection: &Connection,
    lane: &str,
    key: &str,
    by: Position,
) -> rusqlite::Result<()> {
    let sql = "UPDATE hutong_quarantine SET state = 'superseded', settled_us = ?4 \
               WHERE lane = ?1 AND key = ?2 AND state = 'waiting' AND position < ?3";
    connection.prepare_cached(sql)?.execute(params![lane, key, by.to_string(), now_us()])?;
    Ok(())
}

/// Marks every item of a lane from before a truncate as superseded, also one whose row nobody knows.
pub(super) fn supersede_all(connection: &Connection, lane: &str, by: Position) -> rusqlite::Result<()> {
    let sql = "UPDATE hutong_quarantine SET state = 'superseded', settled_us = ?3 \
               WHERE lane = ?1 AND state = 'waiting' AND position < ?2";
    connection.execute(sql, params![lane, by.to_string(), now_us()])?;
    Ok(())
}

/// Ends the wait of an item; `false` when it does not wait.
pub(super) fn settle(connection: &Connection, id: i64, state: &str) -> rusqlite::Result<bool> {
    let sql = "UPDATE hutong_quarantine SET state = ?2, settled_us = ?3 WHERE id = ?1 AND state = 'waiting'";
    Ok(connection.execute(sql, params![id, state, now_us()])? > 0)
}

/// Finds one item.
pub(super) fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Item>> {
    let sql = format!("SELECT {COLUMNS} FROM hutong_quarantine WHERE id = ?1");
    connection.query_row(&sql, [id], read).optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Item> {
    let parsed = |text: Option<String>| text.and_then(|t| serde_json::from_str(&t).ok());
    Ok(Item {
        id: row.get(0)?,
        lane: row.get(1)?,
        stream: row.get(2)?,
        rule: row.get(3)?,
        reason: row.get(4)?,
        position: row.get(5)?,
        key: row.get(6)?,
        change: parsed(row.get(7)?),
        record: parsed(row.get(8)?),
        first_seen_us: row.get(9)?,
        state: row.get(10)?,
    })
}
