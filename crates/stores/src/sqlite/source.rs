//! A SQLite file as a source: its change log, and snapshots of its tables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hutong_core::{Batch, Behind, Checkpoint, Contract, Delta, Error, ErrorKind, Place, Position, Result};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::connect;
use super::cursor::{Cursor, Progress};
use super::error::Context;
use super::install::{self, now_us};
use super::opened::Opened;
use super::reader::{Found, Reader, Reading};
use super::table::Table;
use super::trigger::Names;

/// The one partition of a source's checkpoint.
pub const PARTITION: &str = "log";

/// The prefix of the notes that tell how far a table's snapshot has come.
const NOTE_PREFIX: &str = "snapshot.";

/// The note of the log's row that was read last.
const LAST_READ: &str = "log.last_read";

/// What identifies a row of the log: a copy of the file that was restored gives its number out a second time, at
/// another time.
#[derive(Debug, Serialize, Deserialize)]
struct LastRead {
    seq: u64,
    at_us: i64,
}

/// A table that is captured, with the contract by which its rows are read.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The table.
    pub name: String,
    /// The contract.
    pub contract: Arc<Contract>,
}

/// How much one batch holds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Changes; a key change counts as two and is never split.
    pub changes: usize,
    /// Bytes of memory, roughly.
    pub bytes: usize,
    /// Rows of a snapshot that one query reads.
    pub chunk: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { changes: 20_000, bytes: 32 << 20, chunk: 5_000 }
    }
}

/// What a source reads and how often it looks.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The file.
    pub path: PathBuf,
    /// The capture's name.
    pub capture: String,
    /// The tables, in the order of their snapshots.
    pub tables: Vec<Captured>,
    /// How often the log is looked at when it is idle.
    pub poll_interval: Duration,
    /// How much one batch holds.
    pub limit: Limits,
    /// How often an idle source says that nothing happened.
    pub watermark_interval: Duration,
}

impl SourceConfig {
    /// Returns the usual settings.
    pub fn new(path: impl Into<PathBuf>, capture: impl Into<String>, tables: Vec<Captured>) -> Self {
        Self {
            path: path.into(),
            capture: capture.into(),
            tables,
            poll_interval: Duration::from_millis(50),
            limit: Limits::default(),
            watermark_interval: Duration::from_secs(2),
        }
    }
}

/// A SQLite file as a source.
///
/// SQLite tells triggers nothing of transactions. A batch that is read to the log's end holds whole ones, and
/// its last change says `last`; where the limit cuts a batch, its last change does not. The time of a change is
/// that of its statement, to the millisecond.
///
/// A table that no longer fits its contract, or whose triggers are gone, is suspended: its changes are dropped by
/// the rule `suspended` and the other tables go on. `hutong source install` ends it, and the table is then read
/// again from nothing. When no table is left, the source fails.
///
/// A file that is gone, or in whose place another one stands, is told as an outage, and an opening takes what is there.
pub struct Source {
    config: SourceConfig,
    open: Option<Open>,
    // When the last batch or watermark went out.
    told: Instant,
}

struct Open {
    state: Arc<Mutex<State>>,
    stand: Stand,
}

/// What the blocking calls use.
struct State {
    connection: Connection,
    file: Opened,
    reader: Reader,
    capture: String,
    tables: Vec<Captured>,
    /// The file's schema version for which the triggers were checked.
    schema: Option<i64>,
}

/// Where the source stands after the batch that it handed out last.
#[derive(Clone)]
struct Stand {
    position: Position,
    cursor: Cursor,
    // By table, in the order of the configuration; `None`: never begun.
    snapshots: Vec<Option<Snapshot>>,
    // Notes that the next batch sets.
    notes: BTreeMap<String, Option<String>>,
}

#[derive(Clone)]
struct Snapshot {
    progress: Progress,
    /// Whether the rows of an earlier one are downstream, so that they must go first.
    truncate: bool,
}

impl Source {
    /// Makes a source. Touches nothing until it is opened.
    pub fn new(config: SourceConfig) -> Self {
        Self { config, open: None, told: Instant::now() }
    }
}

#[async_trait]
impl hutong_core::Source for Source {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        self.open = None;
        let (config, from) = (self.config.clone(), from.clone());
        self.open = Some(blocking(move || open(config, &from)).await?);
        Ok(())
    }

    // Cancel safe: the stand moves after the last await, so a read that nobody waited for is done again.
    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            let Some(open) = &mut self.open else {
                return Err(Error::new(ErrorKind::Broken, "read the change log", "the source is not open"));
            };
            let (state, stand) = (Arc::clone(&open.state), open.stand.clone());
            let idle = self.told.elapsed() >= self.config.watermark_interval;
            let read = blocking(move || {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.read(stand, idle)
            });
            if let Some((batch, stand)) = read.await? {
                open.stand = stand;
                self.told = Instant::now();
                return Ok(Some(batch));
            }
            tokio::time::sleep(self.config.poll_interval).await;
        }
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let seq = Cursor::read(upto.position(PARTITION))?.seq;
        let state = Arc::clone(&open.state);
        blocking(move || {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that is busy now is pruned at the next ack; nothing depends on it.
            if let Err(error) = super::prune::prune(&state.connection, &state.reader.names, seq) {
                tracing::debug!(capture = state.capture, error = %error, "left the change log as it is");
            }
            Ok(())
        })
        .await
    }

    async fn close(&mut self) -> Result<()> {
        self.open = None;
        Ok(())
    }
}

fn open(config: SourceConfig, from: &Checkpoint) -> Result<Open> {
    let (connection, file) = Opened::open(&config.path, |_| connect::existing(&config.path))?;
    let verified = install::verify(&connection, &config.capture, &config.tables)?;
    let schema = schema_version(&connection)?;
    let db = config.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let place = |table: &str| Place {
        connector: "sqlite".into(),
        name: config.capture.clone(),
        db: db.clone(),
        schema: String::new(),
        table: table.to_owned(),
    };
    let reading = |captured: &Captured| Reading {
        captured: captured.clone(),
        standing: None,
        place: Arc::new(place(&captured.name)),
    };
    let tables = config.tables.iter().map(reading).collect();
    let mut reader = Reader { names: Names::of(&config.capture), tables, limit: config.limit };
    stand_by(&mut reader, verified)?;
    let mut snapshots = Vec::new();
    for table in &reader.tables {
        let noted: Option<Progress> = match from.note(&note_name(&table.captured.name)) {
            None => None,
            Some(text) => Some(serde_json::from_str(text).map_err(|e| {
                Error::caused(
                    ErrorKind::Malformed,
                    format!("read the note of table {}", table.captured.name),
                    e,
                )
            })?),
        };
        snapshots.push(noted.map(|progress| Snapshot { progress, truncate: false }));
    }
    let notes =
        retired(from, &config.tables).into_iter().filter(|(name, text)| from.note(name) != Some(text));
    let mut notes: BTreeMap<_, _> = notes.map(|(name, text)| (name, Some(text))).collect();
    let position = from.position(PARTITION);
    let mut cursor = Cursor::read(position)?;
    let (head, first) = reader.ends(&connection)?;
    let continues = |(table, snapshot): (&Reading, &Option<Snapshot>)| {
        snapshot.as_ref().is_some_and(|s| table.layout() == Some(s.progress.layout))
    };
    let lost = |why: &str| {
        let doing = format!("continue the change log of capture {} at {}", config.capture, cursor.seq);
        Error::new(ErrorKind::PositionLost, doing, why).hint(format!(
            "stop `hutong run`, then `hutong source reset {} --reason …` accepts it, then start it again: the tables are \
             truncated downstream and read again",
            config.capture
        ))
    };
    if head < cursor.seq {
        // Also where every table is read again: the numbers up to the cursor would be given out twice.
        return Err(lost("the file is older than it"));
    }
    if reader.tables.iter().zip(&snapshots).any(continues) {
        let gone = first.map_or(head > cursor.seq, |first| first > cursor.seq + 1);
        if gone {
            return Err(lost("rows after it were removed"));
        }
        if let Some(read) = last_read(from)?.filter(|read| read.seq == cursor.seq)
            && reader.time_of(&connection, read.seq)?.is_some_and(|at_us| at_us != read.at_us)
        {
            return Err(lost("the row there is another one, the file is an older copy that was written on"));
        }
    } else {
        // Every table will be read as it is then or later, so the log before is of no use.
        cursor.seq = head;
        notes.insert(LAST_READ.into(), None);
    }
    let (capture, tables) = (config.capture, config.tables);
    let state = State { connection, file, reader, capture, tables, schema: Some(schema) };
    Ok(Open { state: Arc::new(Mutex::new(state)), stand: Stand { position, cursor, snapshots, notes } })
}

impl State {
    /// Reads one batch in one read transaction; `None` when there is nothing to hand out.
    fn read(&mut self, mut stand: Stand, idle: bool) -> Result<Option<(Batch, Stand)>> {
        let doing = || "read the change log".to_owned();
        let started_us = now_us();
        // I3: after the time up to which the batch may say that it is complete. Whoever writes now writes into this file.
        self.file.stands()?;
        let tx = self.connection.unchecked_transaction().doing(doing)?;
        let schema = schema_version(&tx)?;
        if self.schema != Some(schema) {
            // Somebody changed the schema: are the triggers still what they must be?
            stand_by(&mut self.reader, install::verify(&tx, &self.capture, &self.tables)?)?;
        }
        let mut found = Found::default();
        let mut delta = Delta { notes: std::mem::take(&mut stand.notes), ..Delta::default() };
        for (table, snapshot) in self.reader.tables.iter().zip(&mut stand.snapshots) {
            if let Some(progress) = renew(table, snapshot, schema) {
                delta.set_note(note_name(&table.captured.name), progress);
            }
        }
        let mut at_end = self.reader.log(&tx, &mut stand.cursor, &mut found)?;
        if let Some((seq, at_us)) = found.last_read {
            let read = LastRead { seq, at_us };
            delta.set_note(LAST_READ, serde_json::to_string(&read).expect("two numbers print"));
        }
        if at_end && let Some(last) = found.changes.last_mut() {
            last.origin.last = true;
        }
        let pending = |(table, snapshot): (&Reading, &Option<Snapshot>)| {
            table.standing.is_some() && snapshot.as_ref().is_none_or(|s| !s.progress.done)
        };
        let table = self.reader.tables.iter().zip(&stand.snapshots).position(pending);
        if at_end
            && let Some(table) = table
            && let Some(Snapshot { progress, truncate }) = &mut stand.snapshots[table]
        {
            if std::mem::take(truncate) {
                self.reader.truncate(table, &mut stand.cursor, &mut found);
            }
            if self.reader.chunk(&tx, table, progress, &mut stand.cursor, &mut found)? {
                progress.done = true;
                progress.after.clear();
            }
            delta.set_note(note_name(&self.reader.tables[table].captured.name), text(progress));
        }
        let filled = !self.reader.tables.iter().zip(&stand.snapshots).any(pending);
        at_end &= filled;
        let (head, _) = self.reader.ends(&tx)?;
        drop(tx);
        self.schema = Some(schema);
        let complete_to_us = at_end.then_some(started_us);
        let suspended = self.reader.tables.iter().any(|t| t.standing.is_none());
        let skipped = if suspended { "suspended" } else { "reloaded" };
        let dropped = [("outside_contract", found.unchanged), (skipped, found.skipped)];
        let dropped: BTreeMap<&'static str, u64> = dropped.into_iter().filter(|d| d.1 > 0).collect();
        let to = stand.cursor.position();
        if to == stand.position && delta.is_empty() {
            if !idle {
                return Ok(None);
            }
            // A batch is never empty: the time is the step of an idle source.
            delta.set_note("complete_to_us", started_us.to_string());
        }
        delta.ranges.insert(PARTITION.into(), (stand.position, to));
        stand.position = to;
        let count = filled.then(|| head.saturating_sub(stand.cursor.seq));
        let behind = Behind { count, bytes: None, complete_to_us };
        let (changes, rejected) = (found.changes, found.rejected);
        Ok(Some((Batch { changes, rejected, dropped, delta, behind, ..Batch::default() }, stand)))
    }
}

/// Takes over what stands. `Err` when every table is suspended.
fn stand_by(reader: &mut Reader, verified: Vec<Result<(i64, Table)>>) -> Result<()> {
    let mut fault = None;
    for (table, verified) in reader.tables.iter_mut().zip(verified) {
        match verified {
            Ok(standing) => table.standing = Some(standing),
            Err(error) => {
                table.standing = None;
                tracing::warn!(table = table.captured.name, error = %error, "suspended a table");
                let cure = "bring the table back to its contract, or `hutong contract draft` makes one of what it is \
                            now; then start it again";
                fault = Some(if error.hint.is_none() { error.hint(cure) } else { error });
            }
        }
    }
    match fault {
        Some(fault) if reader.tables.iter().all(|t| t.standing.is_none()) => Err(fault),
        _ => Ok(()),
    }
}

/// Begins the snapshot of a table anew where it must; returns the note of one that is suspended now.
fn renew(table: &Reading, snapshot: &mut Option<Snapshot>, version: i64) -> Option<String> {
    let schema = table.schema(version);
    let anew = |layout| Progress { layout, done: false, rows: 0, schema, after: Vec::new() };
    match (table.layout(), &mut *snapshot) {
        // Layout 0 is nobody's: whatever layout comes next, the table is read again.
        (None, Some(found)) if found.progress.layout != 0 => {
            *found = Snapshot { progress: anew(0), truncate: true };
            return Some(text(&found.progress));
        }
        (None, _) => {}
        (Some(layout), None) => *snapshot = Some(Snapshot { progress: anew(layout), truncate: false }),
        // I3: what happened to the table meanwhile is not in the log, so it is read again from nothing.
        (Some(layout), Some(found)) if found.progress.layout != layout => {
            *found = Snapshot { progress: anew(layout), truncate: true };
        }
        (Some(layout), Some(found)) => {
            if !found.progress.done && found.progress.schema != schema {
                found.progress = anew(layout);
            }
        }
    }
    None
}

fn last_read(from: &Checkpoint) -> Result<Option<LastRead>> {
    let Some(text) = from.note(LAST_READ) else { return Ok(None) };
    let doing = || format!("read the note {LAST_READ}");
    serde_json::from_str(text).map(Some).map_err(|e| Error::caused(ErrorKind::Malformed, doing(), e))
}

/// Returns the notes of tables that are captured no more, changed so that such a table is read from nothing when it
/// comes back (I3): its changes meanwhile are dropped.
pub(super) fn retired(from: &Checkpoint, tables: &[Captured]) -> BTreeMap<String, String> {
    // Layout 0 is nobody's. It is done, so that status does not show a snapshot that nobody takes.
    let nothing = Progress { layout: 0, done: true, rows: 0, schema: None, after: Vec::new() };
    let captured = |name: &str| tables.iter().any(|table| note_name(&table.name) == name);
    let notes = from.notes.keys().filter(|name| name.starts_with(NOTE_PREFIX) && !captured(name));
    notes.map(|name| (name.clone(), text(&nothing))).collect()
}

pub(super) fn text(progress: &Progress) -> String {
    serde_json::to_string(progress).expect("numbers and texts print")
}

pub(super) fn note_name(table: &str) -> String {
    format!("{NOTE_PREFIX}{table}")
}

fn schema_version(connection: &Connection) -> Result<i64> {
    connection
        .query_row("SELECT schema_version FROM pragma_schema_version", [], |row| row.get(0))
        .doing(|| "read the schema version".into())
}

/// Runs what waits for a file on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::caused(ErrorKind::Broken, "read SQLite", error)),
    }
}
