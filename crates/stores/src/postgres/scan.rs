//! Reads a captured table as a chunk snapshot does, to compare it with its replicas.
//!
//! In chunks, so that no transaction is long and memory holds one of them. Whoever has read all of them asks for the
//! place in the log behind everything that was seen ([`Scan::place`]), which the capture must pass.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Contract, Error, ErrorKind, Result, Secret};
use tokio::time::{Instant, sleep};

use super::catalog::Types;
use super::chunk::{self, Progress, Refused};
use super::connect::{self, Session};
use super::error;
use super::ident::{TableName, literal};
use super::reload::draw_xid;
use super::slot::PREFIX;
use crate::holding::Scanned;

/// How many rows a chunk holds at most.
const ROWS: usize = 5_000;
/// How long before it is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// A captured table on its way out, chunk by chunk.
pub struct Scan {
    session: Session,
    open: bool,
    types: Types,
    name: TableName,
    contract: Arc<Contract>,
    progress: Progress,
    /// Transactions with lower numbers must have ended before a row is read.
    barrier: u64,
    patience: Duration,
}

impl Scan {
    /// Starts; touches the table with the first chunk. `settled`: every transaction that runs now must have ended before
    /// a row is read, for one may be streamed already and not yet seen. `patience`: how long a chunk waits for such
    /// transactions, or for a lock.
    pub async fn start(
        url: &Secret,
        table: &str,
        contract: Arc<Contract>,
        settled: bool,
        patience: Duration,
    ) -> Result<Self> {
        let name = TableName::parse(table)?;
        let session = connect::open(url, "verify").await?;
        chunk::prepare(&session).await?;
        let barrier = if settled { draw_xid(&session).await? } else { 0 };
        let (open, types, progress) = (false, Types::default(), Progress::default());
        Ok(Self { session, open, types, name, contract, progress, barrier, patience })
    }

    /// Reads the next chunk; `None`: every row was read.
    pub async fn chunk(&mut self) -> Result<Option<Vec<Scanned>>> {
        if self.progress.done {
            return Ok(None);
        }
        let until = Instant::now() + self.patience;
        let doing = || format!("read {} to verify it", self.name.plain());
        loop {
            let (barrier, name, contract) = (self.barrier, &self.name, &self.contract);
            let (open, types, progress) = (&mut self.open, &mut self.types, &self.progress);
            let read = chunk::read(&self.session, open, types, name, contract, progress, ROWS, |seen| {
                barrier == 0 || seen.xmin > barrier
            });
            let (why, hint) = match read.await {
                Ok(chunk) => {
                    self.progress = chunk.progress;
                    let rows = chunk.rows.into_iter().flatten();
                    let rows = rows.map(|row| row.map_err(|uncarried| (uncarried.why, uncarried.rest)));
                    return Ok(Some(rows.collect()));
                }
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Unfit(why) | Refused::Outgrown(why)) => {
                    return Err(Error::new(ErrorKind::SchemaConflict, doing(), why)
                        .hint("`hutong contract check` says what to do about it"));
                }
                Err(Refused::Busy) => {
                    ("somebody holds a lock on it", "try again when it is free; --patience waits longer")
                }
                Err(Refused::Behind) => (
                    "a transaction that writes runs for so long",
                    "look for it in pg_stat_activity (backend_xid is not null), end it, or try again later; --patience waits longer",
                ),
            };
            if Instant::now() >= until {
                return Err(Error::new(ErrorKind::Unavailable, doing(), why).hint(hint));
            }
            sleep(AGAIN).await;
        }
    }

    /// Returns a place of the log behind everything that was seen: a capture that stands behind it has read all of it.
    ///
    /// Writes a message there that says nothing to anybody, so that an idle capture comes to it too.
    pub async fn place(&self) -> Result<u64> {
        let sql =
            format!("SELECT (pg_logical_emit_message(true, {}, 'verify') - '0/0')::int8", literal(PREFIX));
        let row = self.session.query_one(&sql, &[]).await;
        let row = row.map_err(|e| error::of(e, || "write a watermark".to_owned()))?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }
}
