//! SQL on a file as a person would type it: for the demonstration, which plays the department's own program
//! and checks the replicas with SQL of its own.

use std::path::Path;

use hutong_core::{ErrorKind, Result, ResultExt};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::connect;

/// A connection that runs SQL text.
#[derive(Debug)]
pub struct Plain {
    connection: Connection,
}

impl Plain {
    /// Opens a file, which is made when it is missing.
    pub fn open(path: &Path) -> Result<Self> {
        let doing = || format!("open {}", path.display());
        let connection = Connection::open(path).or_kind(ErrorKind::Unavailable, doing)?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).or_kind(ErrorKind::Unavailable, doing)?;
        connect::write_ahead(&connection).or_kind(ErrorKind::Unavailable, doing)?;
        Ok(Self { connection })
    }

    /// Runs statements, separated by semicolons, in one transaction.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        let doing = || "run SQL".to_owned();
        let transaction = self.connection.transaction().or_kind(ErrorKind::Unavailable, doing)?;
        transaction.execute_batch(sql).or_kind(ErrorKind::Refused, doing)?;
        transaction.commit().or_kind(ErrorKind::Unavailable, doing)
    }

    /// Makes the tables of another file visible under a name.
    pub fn attach(&self, path: &Path, name: &str) -> Result<()> {
        let attached = self
            .connection
            .execute(&format!("ATTACH DATABASE ?1 AS {name}"), [path.to_string_lossy().as_ref()])
            .or_kind(ErrorKind::Unavailable, || format!("attach {}", path.display()))?;
        debug_assert_eq!(attached, 0, "ATTACH changes no row");
        Ok(())
    }

    /// Returns the rows of a query as texts; NULL is `None`.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let doing = || "run a query".to_owned();
        let mut statement = self.connection.prepare(sql).or_kind(ErrorKind::Refused, doing)?;
        let columns = statement.column_count();
        let read = statement
            .query_map([], |row| {
                (0..columns)
                    .map(|i| {
                        Ok(match row.get_ref(i)? {
                            ValueRef::Null => None,
                            ValueRef::Integer(n) => Some(n.to_string()),
                            ValueRef::Real(n) => Some(n.to_string()),
                            ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                            ValueRef::Blob(bytes) => Some(format!("{} bytes", bytes.len())),
                        })
                    })
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .or_kind(ErrorKind::Unavailable, doing)?;
        read.collect::<rusqlite::Result<Vec<_>>>().or_kind(ErrorKind::Unavailable, doing)
    }
}
