//! Hutong's own tables in a store, and where each lane stands.

use std::collections::BTreeMap;
use std::path::Path;

use hutong_core::ledger::{Proof, receipt::NOTE};
use hutong_core::{Checkpoint, Error, ErrorKind, LaneId, Result};
use rusqlite::{Connection, OptionalExtension, params};

use super::error::Context;
use super::install::now_us;
use super::narrow::Narrowed;
use super::sink::SinkConfig;
use super::{beside, connect, gone, narrow, receipts, room, row, target};
use crate::gone::Gone;
use crate::receipt;
use crate::steered::{NOBODYS, RECALLED};

const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS hutong_lane (
    lane TEXT NOT NULL PRIMARY KEY,
    checkpoint TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    "grant" TEXT NOT NULL,
    table_name TEXT NOT NULL,
    changed_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS hutong_quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    stream TEXT NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL,
    position TEXT NOT NULL,
    key TEXT,
    change TEXT,
    record TEXT,
    first_seen_us INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    settled_us INTEGER);
CREATE INDEX IF NOT EXISTS hutong_quarantine_waiting ON hutong_quarantine (lane, key) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS hutong_row (
    table_name TEXT NOT NULL,
    key TEXT NOT NULL,
    lane TEXT NOT NULL,
    "offset",
    PRIMARY KEY (table_name, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hutong_row_lane ON hutong_row (lane);
CREATE TABLE IF NOT EXISTS hutong_receipt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    delta TEXT NOT NULL,
    "grant" TEXT NOT NULL,
    changes INTEGER NOT NULL,
    written INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    sequence INTEGER,
    proof TEXT);
"#;

/// Where a lane of a store stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneState {
    /// The lane.
    pub lane: String,
    /// What it has committed.
    pub checkpoint: Checkpoint,
    /// How often it was opened.
    pub epoch: i64,
    /// The digest of the grant under which its rows were written.
    pub grant: String,
    /// The table that it writes.
    pub table: String,
    /// When it committed last, microseconds since 1970 UTC.
    pub changed_us: i64,
    /// How many items of it wait in the quarantine.
    pub waiting: u64,
}

/// Returns where the lanes of a store stand; reads only. Empty when Hutong never wrote the file.
pub fn lanes(path: &Path) -> Result<Vec<LaneState>> {
    let connection = connect::to_read(path)?;
    let doing = || "read the lanes of a store".to_owned();
    if !written(&connection).doing(doing)? {
        return Ok(Vec::new());
    }
    let sql = "SELECT lane, checkpoint, epoch, \"grant\", table_name, changed_us, (SELECT count(*) \
               FROM hutong_quarantine q WHERE q.lane = l.lane AND q.state = 'waiting') FROM hutong_lane l ORDER BY lane";
    let mut statement = connection.prepare(sql).doing(doing)?;
    let mut rows = statement.query([]).doing(doing)?;
    let mut states = Vec::new();
    while let Some(row) = rows.next().doing(doing)? {
        let checkpoint: String = row.get(1).doing(doing)?;
        states.push(LaneState {
            lane: row.get(0).doing(doing)?,
            checkpoint: read_checkpoint(&checkpoint)?,
            epoch: row.get(2).doing(doing)?,
            grant: row.get(3).doing(doing)?,
            table: row.get(4).doing(doing)?,
            changed_us: row.get(5).doing(doing)?,
            waiting: row.get::<_, i64>(6).doing(doing)? as u64,
        });
    }
    Ok(states)
}

/// Returns how many rows of a table each lane has written; reads only.
pub fn rows_of(path: &Path, table: &str) -> Result<BTreeMap<String, u64>> {
    let connection = connect::to_read(path)?;
    let doing = || format!("count the rows of {table}");
    if !written(&connection).doing(doing)? {
        return Ok(BTreeMap::new());
    }
    row::count(&connection, table).doing(doing)
}

/// States whether Hutong's tables are in the file.
pub(super) fn written(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 1 FROM sqlite_master WHERE name = 'hutong_receipt'", [], |row| {
        row.get(0)
    })
}

/// Creates Hutong's own tables where they are missing.
pub(super) fn create(connection: &Connection) -> Result<()> {
    let doing = || "create Hutong's tables in the store".to_owned();
    if !written(connection).doing(doing)? {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT")).doing(doing)?;
    }
    receipts::complete(connection).doing(doing)
}

/// Takes a lane over: returns its new epoch and where it stands.
///
/// I5: under another grant, or into another table, its rows and its quarantine go and it starts anew, when the table
/// takes what comes instead. Under a grant that lets less through it goes on where it stands, and what is granted no
/// more goes (see `narrow.rs`). I3: where somebody has dropped the table, or a column of it, every lane that had something
/// there starts anew. Where all of its rows are granted as they are, as in a reload, they are served until those that come instead
/// are there (see `beside.rs`). With lane 0 go the lanes that the pipeline no longer has.
pub(super) fn open(connection: &Connection, config: &SinkConfig) -> Result<(i64, Checkpoint)> {
    let SinkConfig { lane, table, grant, partitions, contract, content, number, .. } = config;
    let name = lane.to_string();
    let doing = || format!("open lane {name}");
    let sql = "SELECT checkpoint, epoch, \"grant\", table_name FROM hutong_lane WHERE lane = ?1";
    let found: Option<(String, i64, String, String)> = connection
        .query_row(sql, [&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()
        .doing(doing)?;
    let (mut checkpoint, epoch, before) = match found {
        None => (Checkpoint::default(), 1, None),
        Some((text, epoch, mark, held)) => (read_checkpoint(&text)?, epoch + 1, Some((mark, held))),
    };
    let strayed = checkpoint.strayed();
    let gone = gone::look(connection, table, contract.as_deref())?;
    let here = before.as_ref().filter(|(_, held)| held == table);
    let lost = here.and_then(|(mark, _)| gone.strikes(&checkpoint, mark));
    if !gone.is_nothing() {
        gone::strike(connection, table, &name, &gone)?;
    }
    let known = !strayed
        && lost.is_none()
        && before.as_ref().is_some_and(|(mark, held)| mark == grant && held == table);
    let before = before.filter(|_| !known);
    let same = content.as_ref().zip(before.as_ref().filter(|(_, held)| held == table));
    let dropped = gone == Gone::Table;
    let served = same.filter(|_| !dropped).is_some_and(|(content, (mark, _))| {
        !strayed && content.covers(&checkpoint, (mark != NOBODYS).then_some(&**mark))
    });
    let narrower = same.filter(|_| !checkpoint.serves() && lost.is_none());
    let narrowed = match narrower.and_then(|(content, (mark, _))| content.narrows_from(&checkpoint, mark)) {
        Some(narrowing) => narrow::in_place(connection, config, &narrowing)?,
        None => None,
    };
    if let Some(contract) = contract.as_ref().filter(|_| !known && narrowed.is_none()) {
        room::renew(connection, table, contract, lane, grant)?;
    } else if let Some(contract) = contract.as_ref().filter(|_| !gone.is_nothing()) {
        target::prepare(connection, table, contract)?;
    }
    if let Some(Narrowed { changed, removed }) = narrowed {
        let counts = (changed, removed);
        let proof = number.and_then(|number| Proof::narrowed(&name, number, &checkpoint, counts));
        if let Some(proof) = proof {
            counted(connection, &name, grant, counts, &proof, &mut checkpoint).doing(doing)?;
        }
        tracing::info!(lane = %lane, changed, removed, "narrowed where it stands, and goes on");
    } else if let Some((_, held)) = before {
        // Of an earlier one, which did not come to its end.
        beside::remove(connection, &name).doing(doing)?;
        if let Some(why) = &lost {
            tracing::warn!(lane = %lane, table, why, "somebody has dropped it: it begins anew");
        }
        let mut removed = 0;
        if served && beside::can(connection, &held, &name)? {
            checkpoint = checkpoint.anew_beside();
            tracing::info!(lane = %lane, "is filled anew beside its rows, which are served until then");
        } else {
            removed = row::remove_rows(connection, &name, &held).doing(doing)?;
            checkpoint = checkpoint.anew();
            let says =
                if dropped || lost.is_some() { "starts anew" } else { "starts anew under another grant" };
            tracing::info!(lane = %lane, "{says}");
        }
        connection.execute("DELETE FROM hutong_quarantine WHERE lane = ?1", [&name]).doing(doing)?;
        if let Some(number) = number.filter(|_| grant.starts_with(RECALLED)) {
            let removed = removed as u64;
            let proof = Proof::recalled(&name, number, &checkpoint, removed);
            counted(connection, &name, grant, (0, removed), &proof, &mut checkpoint).doing(doing)?;
        }
    }
    if let Some(content) = content {
        content.note(&mut checkpoint);
    }
    let sql = "INSERT INTO hutong_lane (lane, checkpoint, epoch, \"grant\", table_name, changed_us) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (lane) DO UPDATE SET checkpoint = excluded.checkpoint, \
               epoch = excluded.epoch, \"grant\" = excluded.\"grant\", table_name = excluded.table_name";
    connection.execute(sql, params![name, text(&checkpoint), epoch, grant, table, now_us()]).doing(doing)?;
    if let Some(partitions) = partitions.filter(|_| lane.partition == 0) {
        retire(connection, lane, partitions).doing(doing)?;
    }
    Ok((epoch, checkpoint))
}

/// Leaves the receipt of rows that were written or deleted because a grant has changed, in the transaction that does so
/// (I2).
fn counted(
    connection: &Connection,
    lane: &str,
    mark: &str,
    (written, deleted): (u64, u64),
    proof: &Proof,
    checkpoint: &mut Checkpoint,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO hutong_receipt \
               (lane, delta, \"grant\", changes, written, deleted, quarantined, at_us, sequence, proof) \
               VALUES (?1, '{}', ?2, 0, ?3, ?4, 0, ?5, ?6, ?7)";
    let (written, deleted, sequence) =
        (written.cast_signed(), deleted.cast_signed(), proof.sequence.cast_signed());
    let text = receipt::text(proof);
    connection.execute(sql, params![lane, mark, written, deleted, now_us(), sequence, text])?;
    checkpoint.notes.insert(NOTE.into(), proof.head().to_string());
    Ok(())
}

/// Removes the lanes of a pipeline that its partitions no longer have, with their rows and their quarantine:
/// nobody opens such a lane again, so its rows would stay for good.
fn retire(connection: &Connection, lane: &LaneId, partitions: u32) -> rusqlite::Result<()> {
    let lanes: Vec<(String, String)> = connection
        .prepare("SELECT lane, table_name FROM hutong_lane")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let gone =
        lanes.iter().filter(|(name, _)| lane.pipeline.partition(name).is_some_and(|p| p >= partitions));
    for (name, table) in gone {
        row::remove_rows(connection, name, table)?;
        beside::remove(connection, name)?;
        connection.execute("DELETE FROM hutong_quarantine WHERE lane = ?1", [name])?;
        connection.execute("DELETE FROM hutong_lane WHERE lane = ?1", [name])?;
        tracing::info!(lane = name, "removed: its topic has no such partition");
    }
    Ok(())
}

/// Writes where the lane stands now. I2: in the transaction of its rows, and as its last statement.
pub(super) fn advance(
    connection: &Connection,
    lane: &str,
    epoch: i64,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let sql = "UPDATE hutong_lane SET checkpoint = ?1, changed_us = ?2 WHERE lane = ?3 AND epoch = ?4";
    let doing = || format!("commit lane {lane}");
    let mut statement = connection.prepare_cached(sql).doing(doing)?;
    match statement.execute(params![text(checkpoint), now_us(), lane, epoch]).doing(doing)? {
        0 => Err(Error::new(ErrorKind::Fenced, doing(), "a newer owner has opened it")
            .hint("another process runs it: stop one of the two")),
        _ => Ok(()),
    }
}

pub(super) fn text(checkpoint: &Checkpoint) -> String {
    serde_json::to_string(checkpoint).expect("texts print")
}

pub(super) fn read_checkpoint(text: &str) -> Result<Checkpoint> {
    serde_json::from_str(text).map_err(|e| Error::caused(ErrorKind::Malformed, "read a checkpoint", e))
}
