//! Reads a captured table as a chunk snapshot does, to compare it with its replicas.
//!
//! In chunks, each in a read transaction of its own, so that whoever writes the file waits for one chunk at most.

use std::path::Path;
use std::sync::Arc;

use hutong_core::{Error, ErrorKind, Position, Result};
use rusqlite::Connection;

use super::cursor::{Cursor, Progress};
use super::error::Context;
use super::reader::{Found, Reader, Reading};
use super::source::{Captured, Limits, blocking};
use super::trigger::Names;
use super::{connect, install};
use crate::holding::Scanned;

/// A captured table on its way out, chunk by chunk. A file may be waited for, so that is done on threads for it.
pub struct Scan(Option<Reads>);

struct Reads {
    connection: Connection,
    reader: Reader,
    progress: Progress,
}

impl Scan {
    /// Starts on one table of a capture. `Err(SchemaConflict)` when it cannot be read by its contract now.
    pub async fn start(path: &Path, capture: &str, captured: Captured) -> Result<Self> {
        let (path, capture) = (path.to_owned(), capture.to_owned());
        blocking(move || Reads::start(&path, &capture, captured)).await.map(|reads| Self(Some(reads)))
    }

    /// Reads the next chunk; `None`: every row was read. Who drops it halfway starts again.
    pub async fn chunk(&mut self) -> Result<Option<Vec<Scanned>>> {
        self.on(Reads::chunk).await
    }

    /// Returns the number of the log's last row: a capture that has read it has read all that was seen.
    pub async fn place(&mut self) -> Result<u64> {
        self.on(|reads| reads.place()).await
    }

    async fn on<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Reads) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::new(ErrorKind::Broken, "read a table to verify it", "it was given up halfway");
        let mut reads = self.0.take().ok_or_else(gone)?;
        let (reads, done) = blocking(move || {
            let done = work(&mut reads);
            Ok((reads, done))
        })
        .await?;
        self.0 = Some(reads);
        done
    }
}

impl Reads {
    fn start(path: &Path, capture: &str, captured: Captured) -> Result<Self> {
        let connection = connect::existing(path)?;
        let verified = install::verify(&connection, capture, std::slice::from_ref(&captured))?;
        let standing = verified.into_iter().next().transpose()?;
        let reading = Reading { captured, standing, place: Arc::default() };
        let reader = Reader { names: Names::of(capture), tables: vec![reading], limit: Limits::default() };
        let progress = Progress { layout: 0, done: false, rows: 0, schema: None, after: Vec::new() };
        Ok(Self { connection, reader, progress })
    }

    fn chunk(&mut self) -> Result<Option<Vec<Scanned>>> {
        if self.progress.done {
            return Ok(None);
        }
        let (mut found, mut cursor) = (Found::default(), Cursor::default());
        let tx = self.connection.unchecked_transaction().doing(|| "read a table to verify it".into())?;
        self.progress.done = self.reader.chunk(&tx, 0, &mut self.progress, &mut cursor, &mut found)?;
        drop(tx);
        let whole = found.changes.into_iter().filter_map(|change| change.after).map(Ok);
        let refused = found.rejected.into_iter().filter_map(|rejected| {
            let row = rejected.change.and_then(|change| change.after)?;
            Some(Err((rejected.reason, row)))
        });
        Ok(Some(whole.chain(refused).collect()))
    }

    fn place(&self) -> Result<u64> {
        self.reader.ends(&self.connection).map(|(head, _)| head)
    }
}

/// Returns the log's row that a capture of a SQLite file has read up to; `Err(Malformed)` on another's position.
pub fn reached(position: Position) -> Result<u64> {
    Cursor::read(position).map(|cursor| cursor.seq)
}
