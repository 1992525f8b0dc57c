//! The bus in one folder, behind the trait [`Log`].

use std::path::Path;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};
use rusqlite::Connection;

use super::folder::{self, Lock, Options};
use super::reader::{Pool, Reader};
use super::writer::{Touched, Wakes, Writer};
use super::{lane, topic};
use crate::ledger::{self, Append};
use crate::log::{Extent, Headers, Log, Outgoing, TopicSpec, Trim};

/// How many records one transaction of a trim removes: writers wait no longer than for that.
const SWEEP: usize = 5_000;

/// A bus in one folder. One process owns it; commands read it while no process runs.
pub struct Bus {
    // The order is the order of dropping: the writing connection is closed before the lock is given up.
    writer: Option<Writer>,
    pub(super) reads: Arc<Pool>,
    pub(super) wakes: Arc<Wakes>,
    name: String,
    this: Weak<Self>,
    _lock: Option<Lock>,
}

impl Bus {
    /// Opens the bus, and makes folder and file when they are missing.
    ///
    /// `Err(Config)` names the process that has the folder open already.
    pub fn open(folder: &Path, options: Options) -> Result<Arc<Self>> {
        let lock = folder::lock(folder)?;
        let db = folder::open_to_write(folder)?;
        let wakes = Arc::new(Wakes::default());
        let writer = Writer::start(db, Arc::clone(&wakes))?;
        Ok(Self::new(folder, options, Some(writer), wakes, Some(lock)))
    }

    /// Opens the bus to read, for commands while no process runs. Writing is `Err(Denied)`.
    pub fn open_read_only(folder: &Path, options: Options) -> Result<Arc<Self>> {
        // Said now rather than by the first read.
        drop(folder::open_to_read(folder)?);
        Ok(Self::new(folder, options, None, Arc::default(), None))
    }

    /// Opens the bus to add a record beside the process that owns it, or before any has run: SQLite lets one write at
    /// a time. Nobody's lanes may run on it.
    pub fn open_beside(folder: &Path, options: Options) -> Result<Arc<Self>> {
        if !folder::file(folder).exists() {
            // Whoever makes the tables is alone.
            let _lock = folder::lock(folder)?;
            drop(folder::open_to_write(folder)?);
        }
        let db = folder::open_to_write(folder)?;
        let wakes = Arc::new(Wakes::default());
        let writer = Writer::start(db, Arc::clone(&wakes))?;
        Ok(Self::new(folder, options, Some(writer), wakes, None))
    }

    fn new(
        folder: &Path,
        options: Options,
        writer: Option<Writer>,
        wakes: Arc<Wakes>,
        lock: Option<Lock>,
    ) -> Arc<Self> {
        let reads = Arc::new(Pool::new(folder.to_owned(), options.readers));
        Arc::new_cyclic(|this| Self {
            writer,
            reads,
            wakes,
            name: options.bus,
            this: Weak::clone(this),
            _lock: lock,
        })
    }

    /// Forgets the records of a partition before an offset; the offsets of the others stay as they are.
    /// Returns the first offset that is kept, which is never moved back and never past the end.
    ///
    /// The space is used again for new records; the file does not shrink.
    pub async fn delete_before(&self, topic: &str, partition: u32, offset: u64) -> Result<u64> {
        let doing = format!("trim topic {topic} partition {partition}");
        let name = topic.to_owned();
        let missing =
            move || Error::new(ErrorKind::Config, doing.clone(), "there is no such topic or partition");
        let writer = self.writes()?;
        let (topic, first) = writer
            .run(move |db, _| {
                let topic = topic::find(db, &name)?.ok_or_else(&missing)?;
                let first = topic::trim(db, topic, partition, offset)?.ok_or_else(&missing)?;
                Ok((topic, first))
            })
            .await?;
        while writer.run(move |db, _| topic::sweep(db, topic, partition, SWEEP)).await? == SWEEP {}
        Ok(first)
    }

    /// Returns the first kept offset of a partition whose record was written at a time (microseconds since
    /// 1970 UTC) or later, and the end when there is none: where a history of some days begins.
    pub async fn offset_since(&self, topic: &str, partition: u32, written_us: i64) -> Result<u64> {
        let (name, doing) = (topic.to_owned(), format!("look into topic {topic} partition {partition}"));
        let since = move |db: &Connection| {
            let topic = topic::find(db, &name)?;
            let since =
                topic.map(|topic| topic::since(db, topic, partition, written_us)).transpose()?.flatten();
            since.ok_or_else(|| Error::new(ErrorKind::Config, doing, "there is no such topic or partition"))
        };
        self.reads.run(since).await
    }

    /// States whether the bus was opened to read only.
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// Returns the bus's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn writes(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Denied, "write to the bus", "it was opened to read only")
                .hint("ask the running process, or start one")
        })
    }

    fn this(&self) -> Arc<Self> {
        self.this.upgrade().expect("a bus exists only in its Arc")
    }
}

#[async_trait]
impl Trim for Bus {
    async fn since(&self, topic: &str, partition: u32, since_us: i64) -> Result<u64> {
        self.offset_since(topic, partition, since_us).await
    }

    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64> {
        let since = self.offset_since(topic, partition, since_us).await?;
        self.delete_before(topic, partition, base.min(since)).await
    }

    async fn delete(&self, topic: &str) -> Result<bool> {
        let Some(extent) = self.extent(topic).await? else { return Ok(false) };
        for partition in extent.into_keys() {
            match self.delete_before(topic, partition, u64::MAX).await {
                // Somebody else of this process deletes it, too: each lane of a delivery does.
                Err(_) if self.extent(topic).await?.is_none() => return Ok(false),
                done => done?,
            };
        }
        let name = topic.to_owned();
        self.writes()?
            .run(move |db, _| topic::find(db, &name)?.map_or(Ok(()), |topic| topic::delete(db, topic)))
            .await?;
        Ok(true)
    }
}

#[async_trait]
impl Append for Bus {
    async fn append(&self, topic: &str, value: Bytes) -> Result<u64> {
        let wish = ledger::spec(topic);
        let record = Outgoing {
            topic: topic.into(),
            partition: 0,
            key: None,
            value: Some(value),
            headers: Headers::new(),
        };
        let add = move |db: &Connection, touched: &mut Touched| {
            topic::ensure(db, &wish)?;
            topic::append(db, vec![record], touched)
        };
        let offsets = self.writes()?.run(add).await?;
        offsets.first().copied().ok_or_else(|| {
            Error::new(ErrorKind::Unknown, format!("append to {}", self.name), "there is no answer")
        })
    }
}

#[async_trait]
impl Log for Bus {
    async fn ensure(&self, topic: &TopicSpec) -> Result<Vec<String>> {
        let wish = topic.clone();
        self.writes()?.run(move |db, _| topic::ensure(db, &wish)).await
    }

    async fn extent(&self, topic: &str) -> Result<Option<Extent>> {
        let name = topic.to_owned();
        self.reads
            .run(move |db| topic::find(db, &name)?.map(|topic| topic::extent(db, topic)).transpose())
            .await
    }

    async fn writer(&self, lane: &LaneId) -> Result<Box<dyn crate::log::Writer>> {
        Ok(Box::new(lane::Writer::new(self.this(), lane)))
    }

    async fn reader(
        &self,
        topic: &str,
        partition: u32,
        _group: Option<&PipelineId>,
    ) -> Result<Box<dyn crate::log::Reader>> {
        Ok(Box::new(Reader::new(self.this(), topic.into(), partition)))
    }
}
