//! Opens connections to SQLite files, each as its use needs it, and quotes names for SQL.

use std::path::Path;
use std::time::{Duration, Instant};

use hutong_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::Context;

/// How long a statement waits for another process to let go of the file.
const BUSY: Duration = Duration::from_secs(5);

/// Opens a department's existing file, leaving its settings as they are.
pub(super) fn existing(path: &Path) -> Result<Connection> {
    if !path.is_file() {
        return Err(Error::new(ErrorKind::Config, doing(path), "there is no such file"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).doing(|| doing(path))?;
    connection.busy_timeout(BUSY).doing(|| doing(path))?;
    // Reads a page, so a file that is no database is found here.
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).doing(|| doing(path))?;
    Ok(connection)
}

/// Opens an existing file to look at it: nothing of it changes, and no write-ahead log is folded into it at the end.
pub(super) fn to_read(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).doing(|| doing(path))?;
    connection.busy_timeout(BUSY).doing(|| doing(path))?;
    Ok(connection)
}

/// Opens the file of a store that Hutong writes; with `make` it is made when it is not there.
pub(super) fn writer(path: &Path, make: bool) -> Result<Connection> {
    let mut flags = OpenFlags::default();
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, make);
    let connection = Connection::open_with_flags(path, flags).doing(|| doing(path))?;
    connection.busy_timeout(BUSY).doing(|| doing(path))?;
    write_ahead(&connection).doing(|| doing(path))?;
    // I7: a commit that was answered is on the disk.
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;").doing(|| doing(path))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(connection)
}

/// Lets readers read while a writer writes. The first connections to a new file all want to change it so, and SQLite
/// refuses all but one at once, however long they would wait: a lock that two share, neither can make exclusive.
pub(super) fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        match connection.execute_batch("PRAGMA journal_mode = WAL") {
            Err(refused)
                if refused.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < BUSY =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// Returns a name in SQL's double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text in SQL's single quotes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns names in SQL's double quotes, separated by commas.
pub(super) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

fn doing(path: &Path) -> String {
    format!("open SQLite file {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::writer;

    #[test]
    fn who_opens_a_new_file_at_the_same_time_waits_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..100 {
            let path = folder.path().join(format!("{round}.db"));
            let start = Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        let connection = writer(&path, true).unwrap();
                        connection
                            .execute_batch("CREATE TABLE IF NOT EXISTS one (id INTEGER PRIMARY KEY)")
                            .unwrap();
                    });
                }
            });
        }
    }
}
