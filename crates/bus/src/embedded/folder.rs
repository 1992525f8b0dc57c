//! The folder of the bus: its lock, its file, its tables.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rusqlite::{Connection, OpenFlags};

use super::error::Wrap;

/// The layout of the tables. A file of a higher one was written by a newer Hutong and is refused.
const LAYOUT: i64 = 1;

/// Every name of a table is the word that DESIGN has for it. `latest` finds the record that a newer one of
/// the same key replaces in a compacted topic.
const TABLES: &str = "
    CREATE TABLE topic (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, compacted INTEGER NOT NULL) STRICT;
    CREATE TABLE extent (
        topic INTEGER NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY (topic, partition)) STRICT, WITHOUT ROWID;
    CREATE TABLE record (
        topic INTEGER NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
        written_us INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB,
        PRIMARY KEY (topic, partition, offset)) STRICT, WITHOUT ROWID;
    CREATE TABLE latest (
        topic INTEGER NOT NULL, partition INTEGER NOT NULL, key BLOB NOT NULL, offset INTEGER NOT NULL,
        PRIMARY KEY (topic, partition, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE lane_epoch (lane TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE schema (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE subject_version (
        subject TEXT NOT NULL, version INTEGER NOT NULL, id INTEGER NOT NULL REFERENCES schema, deleted INTEGER NOT NULL,
        PRIMARY KEY (subject, version)) STRICT, WITHOUT ROWID;
    CREATE INDEX subject_version_id ON subject_version (id);
    CREATE TABLE compatibility (subject TEXT PRIMARY KEY, level TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// What may be chosen about an embedded bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// The bus's name, the first part of the names of its checkpoint topics.
    pub bus: String,
    /// How many read connections work at once.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { bus: "hutong".into(), readers: 4 }
    }
}

/// The folder, owned by this process.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked at this moment still has the file open. Nothing to
        // do about an error; the lock ends with the process.
        let _ = self.0.unlock();
    }
}

/// Returns the path of the bus's file.
pub(super) fn file(folder: &Path) -> PathBuf {
    folder.join("bus.sqlite")
}

/// Makes the folder and locks it for this process; the lock lasts as long as the returned value,
/// and ends with the process however that ends (I7).
pub(super) fn lock(folder: &Path) -> Result<Lock> {
    let doing = || format!("open the bus's folder {}", folder.display());
    make(folder).or_kind(ErrorKind::Denied, doing)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("owner"))
        .or_kind(ErrorKind::Denied, doing)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let owner = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                _ => "another process".into(),
            };
            // No word of another folder: in an empty one a command would find nothing, and a capture begin anew.
            return Err(Error::new(ErrorKind::Config, doing(), format!("{owner} has it open"))
                .hint(format!("one process owns an embedded bus: stop {owner} first, or use Kafka")));
        }
        Err(TryLockError::Error(e)) => return Err(Error::caused(ErrorKind::Unavailable, doing(), e)),
    }
    let pid = std::process::id().to_string();
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(pid.as_bytes()))
        .or_kind(ErrorKind::Unavailable, doing)?;
    Ok(Lock(file))
}

/// Makes the folder, for its owner only: the log holds rows of people.
fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Opens the one writing connection, and makes the tables in a new file.
pub(super) fn open_to_write(folder: &Path) -> Result<Connection> {
    let doing = "open the bus's file";
    let mut db = Connection::open(file(folder)).doing(doing)?;
    db.busy_timeout(Duration::from_secs(10)).doing(doing)?;
    // Rows are envelopes of some hundred bytes to some kilobytes: larger pages keep them out of overflow
    // pages. The limit shrinks the write-ahead log again after a large transaction.
    db.execute_batch(
        "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON; PRAGMA cache_size = -32768; PRAGMA journal_size_limit = 67108864;",
    )
    .doing(doing)?;
    db.set_prepared_statement_cache_capacity(64);
    let layout = layout(&db)?;
    if layout == 0 {
        let tx = db.transaction().doing(doing)?;
        tx.execute_batch(TABLES).doing("make the bus's tables")?;
        tx.pragma_update(None, "user_version", LAYOUT).doing("make the bus's tables")?;
        tx.commit().doing("make the bus's tables")?;
    }
    Ok(db)
}

/// Opens a reading connection.
pub(super) fn open_to_read(folder: &Path) -> Result<Connection> {
    let doing = "open the bus's file to read";
    if !file(folder).exists() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            doing,
            "nothing has been written into its folder yet",
        )
        .hint("start it with `hutong run`"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file(folder), flags).doing(doing)?;
    db.busy_timeout(Duration::from_secs(10)).doing(doing)?;
    db.set_prepared_statement_cache_capacity(64);
    if layout(&db)? == 0 {
        return Err(Error::new(ErrorKind::Config, doing, "it holds no tables of a bus"));
    }
    Ok(db)
}

fn layout(db: &Connection) -> Result<i64> {
    let doing = "read the layout of the bus's file";
    let layout = db.query_row("PRAGMA user_version", [], |row| row.get(0)).doing(doing)?;
    if layout > LAYOUT {
        return Err(Error::new(
            ErrorKind::Config,
            doing,
            format!("it has layout {layout}, this Hutong knows {LAYOUT}"),
        )
        .hint("use the newer Hutong that wrote it"));
    }
    Ok(layout)
}
