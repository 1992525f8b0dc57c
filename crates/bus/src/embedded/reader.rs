//! Reading: a small pool of connections, and the reader of one partition.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use super::error::Wrap;
use super::log::Bus;
use super::{folder, topic};
use crate::log::Fetched;

/// How often a bus that is open read-only looks again: nobody wakes it.
const LOOK: Duration = Duration::from_millis(250);

/// Read connections. A read never waits for a write, and a write never for a read (WAL).
pub(super) struct Pool {
    folder: PathBuf,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// Makes a pool that opens up to `size` connections when they are needed.
    pub(super) fn new(folder: PathBuf, size: usize) -> Self {
        Self { folder, permits: Arc::new(Semaphore::new(size.max(1))), idle: Mutex::default() }
    }

    /// Runs `work` on a snapshot of the file, on a blocking thread. Cancel safe.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let doing = || "read from the bus".to_owned();
        let permit = Arc::clone(&self.permits).acquire_owned().await.or_kind(ErrorKind::Broken, doing)?;
        let pool = Arc::clone(self);
        spawn_blocking(move || {
            let _permit = permit;
            let idle = pool.idle().pop();
            let db = match idle {
                Some(db) => db,
                None => folder::open_to_read(&pool.folder)?,
            };
            let result = snapshot(&db, work);
            pool.idle().push(db);
            result
        })
        .await
        .or_kind(ErrorKind::Unavailable, doing)?
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One transaction, so that all queries of the work see the same commits.
fn snapshot<T>(db: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let tx = db.unchecked_transaction().doing("begin to read from the bus")?;
    let result = work(&tx);
    tx.finish().doing("end a read from the bus")?;
    result
}

/// The reader of one partition.
pub(super) struct Reader {
    bus: Arc<Bus>,
    topic: Arc<str>,
    partition: u32,
    place: u64,
    woken: watch::Receiver<()>,
}

impl Reader {
    /// Makes a reader that stands at offset 0.
    pub(super) fn new(bus: Arc<Bus>, topic: Arc<str>, partition: u32) -> Self {
        let woken = bus.wakes.listen(&topic);
        Self { bus, topic, partition, place: 0, woken }
    }

    async fn fetch(&self, place: u64, limits: (usize, usize)) -> Result<Fetched> {
        let (name, partition) = (Arc::clone(&self.topic), self.partition);
        self.bus
            .reads
            .run(move |db| {
                let doing = || format!("read topic {name} partition {partition} at offset {place}");
                let topic = topic::find(db, &name)?;
                let range = topic.map(|t| topic::range(db, t, partition)).transpose()?.flatten();
                let (Some(topic), Some((first, end))) = (topic, range) else {
                    // A replicate may start before the capture that creates its topic.
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        doing(),
                        "there is no such topic or partition yet",
                    )
                    .hint("start the capture that fills it"));
                };
                if place < first || place > end {
                    let why = if place < first { "it was trimmed" } else { "it is beyond the end" };
                    let why = format!("{why}: the topic holds offsets from {first} to {end}");
                    return Err(Error::new(ErrorKind::PositionLost, doing(), why)
                        .hint("`hutong subscription reload NAME` reads it again from the base"));
                }
                topic::read(db, topic, partition, place, end, limits)
            })
            .await
    }
}

#[async_trait]
impl crate::log::Reader for Reader {
    async fn seek(&mut self, offset: u64) -> Result<()> {
        self.fetch(offset, (1, 1)).await?;
        self.place = offset;
        Ok(())
    }

    async fn next(&mut self, limit: usize, limit_bytes: usize) -> Result<Fetched> {
        loop {
            // Before the look: a commit that lands after it is seen by `changed`.
            self.woken.borrow_and_update();
            let fetched = self.fetch(self.place, (limit, limit_bytes)).await?;
            if fetched.next > self.place {
                self.place = fetched.next;
                return Ok(fetched);
            }
            if self.bus.is_read_only() {
                tokio::time::sleep(LOOK).await;
            } else {
                self.woken.changed().await.or_kind(ErrorKind::Unavailable, || "wait for records".into())?;
            }
        }
    }
}
