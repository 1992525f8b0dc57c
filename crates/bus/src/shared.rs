//! One read of a partition for all the lanes of a process that stand at the same place in it.
//!
//! A decorator of any [`Log`]: lanes at the head of a partition share one reader and take what it has read from a
//! short memory; a lane that is behind reads for itself until it stands where the others do. No task of its own: the
//! lane that wants the next records first reads them, for everybody. Bytes only, like all logs.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};
use tokio::sync::watch;

use crate::log::{Extent, Fetched, Incoming, Log, Reader, TopicSpec, Trim, Writer};

/// How many bytes a partition's memory holds at the most, but for its last portion.
const MEMORY_BYTES: usize = 2 << 20;
/// How many portions it holds at the most.
const MEMORY_PORTIONS: usize = 256;

/// Nobody reads the partition now.
struct NoFeed;

/// A topic and a partition of it.
type Name = (String, u32);

/// A log whose readers share what they read.
pub struct Shared {
    log: Arc<dyn Log>,
    feeds: Arc<Feeds>,
}

/// The feeds that somebody reads from now.
#[derive(Default)]
struct Feeds {
    known: Mutex<HashMap<Name, Weak<Feed>>>,
    /// Held while a feed is begun, so that many lanes that open at once begin one.
    beginning: tokio::sync::Mutex<()>,
}

/// The one reader of a partition, and what it has read lately.
struct Feed {
    /// Whoever holds it reads for everybody.
    reader: tokio::sync::Mutex<Box<dyn Reader>>,
    memory: Mutex<Memory>,
    /// Counts what was read, to wake those who wait.
    grown: watch::Sender<u64>,
    /// How many lanes read from it.
    members: AtomicUsize,
}

/// A lane's share in a feed.
struct Member(Arc<Feed>);

impl Member {
    fn new(feed: Arc<Feed>) -> Self {
        feed.members.fetch_add(1, Ordering::Relaxed);
        Self(feed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Portions in the order in which they were read. They are numbered, because one that only says where the end is
/// moves no offset.
#[derive(Default)]
struct Memory {
    portions: VecDeque<Portion>,
    bytes: usize,
    /// The number behind the last portion, and the offset that it reached.
    number: u64,
    next: u64,
    /// The reader has failed: a new feed must begin.
    failed: bool,
}

struct Portion {
    from: u64,
    bytes: usize,
    fetched: Arc<Fetched>,
}

/// What the memory has of a portion.
enum Found {
    Portion(Arc<Fetched>),
    /// It was not read yet.
    Nothing,
    /// It is no longer there, or will never come.
    Forgotten,
}

impl Shared {
    /// Makes a log over another one.
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self { log, feeds: Arc::default() })
    }
}

#[async_trait]
impl Trim for Shared {
    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64> {
        self.log.trim(topic, partition, base, since_us).await
    }
}

#[async_trait]
impl Log for Shared {
    async fn ensure(&self, topic: &TopicSpec) -> Result<Vec<String>> {
        self.log.ensure(topic).await
    }

    async fn extent(&self, topic: &str) -> Result<Option<Extent>> {
        self.log.extent(topic).await
    }

    async fn writer(&self, lane: &LaneId) -> Result<Box<dyn Writer>> {
        self.log.writer(lane).await
    }

    async fn reader(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&PipelineId>,
    ) -> Result<Box<dyn Reader>> {
        let own = self.log.reader(topic, partition, group).await?;
        Ok(Box::new(Place {
            log: Arc::clone(&self.log),
            feeds: Arc::clone(&self.feeds),
            name: (topic.to_owned(), partition),
            group: group.cloned(),
            own,
            at: At::Nowhere,
        }))
    }
}

impl Feeds {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Weak<Feed>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a share in the feed of a partition, with the number of the portion that begins at an offset or holds it.
    ///
    /// `Ok(None)`: there is none that one could read from here. `Err`: there is no feed at all.
    fn join(&self, name: &Name, offset: u64) -> std::result::Result<Option<(Member, u64)>, NoFeed> {
        let feeds = self.lock();
        let feed = feeds.get(name).and_then(Weak::upgrade).ok_or(NoFeed)?;
        let memory = feed.memory();
        if memory.failed {
            return Err(NoFeed);
        }
        let number = memory.holds(offset);
        drop(memory);
        Ok(number.map(|number| (Member::new(feed), number)))
    }

    /// Reads the next portion for everybody who shares the feed.
    async fn read(
        &self,
        feed: &Feed,
        reader: &mut dyn Reader,
        limits: (usize, usize),
    ) -> Result<Arc<Fetched>> {
        let read = reader.next(limits.0, limits.1).await.map(Arc::new);
        match &read {
            Ok(fetched) => {
                // Under the lock of all feeds, so that nobody joins between the count and the note.
                let _feeds = self.lock();
                if feed.members.load(Ordering::Relaxed) > 1 {
                    feed.memory().push(Arc::clone(fetched));
                } else {
                    feed.memory().pass(fetched.next);
                }
            }
            Err(_) => feed.memory().failed = true,
        }
        feed.grown.send_modify(|count| *count += 1);
        read
    }
}

impl Feed {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Returns the number of the first portion that has something behind an offset.
    fn holds(&self, offset: u64) -> Option<u64> {
        if offset == self.next {
            return Some(self.number);
        }
        let first = self.number - self.portions.len() as u64;
        let found = self.portions.iter().position(|portion| portion.fetched.next > offset)?;
        (self.portions[found].from <= offset).then_some(first + found as u64)
    }

    /// Returns a portion by its number.
    fn portion(&self, number: u64) -> Found {
        let first = self.number - self.portions.len() as u64;
        match number.checked_sub(first).map(|at| self.portions.get(at as usize)) {
            Some(Some(portion)) => Found::Portion(Arc::clone(&portion.fetched)),
            Some(None) if !self.failed => Found::Nothing,
            Some(None) | None => Found::Forgotten,
        }
    }

    fn push(&mut self, fetched: Arc<Fetched>) {
        let bytes = fetched.records.iter().map(weight).sum();
        let from = std::mem::replace(&mut self.next, fetched.next);
        self.number += 1;
        self.bytes += bytes;
        self.portions.push_back(Portion { from, bytes, fetched });
        while self.portions.len() > 1
            && (self.bytes > MEMORY_BYTES || self.portions.len() > MEMORY_PORTIONS)
            && let Some(oldest) = self.portions.pop_front()
        {
            self.bytes -= oldest.bytes;
        }
    }

    /// Takes note of what the only lane has read, and keeps nothing of it.
    fn pass(&mut self, next: u64) {
        self.portions.clear();
        (self.bytes, self.next) = (0, next);
        self.number += 1;
    }
}

fn weight(record: &Incoming) -> usize {
    record.value.as_ref().map_or(0, bytes::Bytes::len) + size_of::<Incoming>()
}

/// A lane's place in a partition.
struct Place {
    log: Arc<dyn Log>,
    feeds: Arc<Feeds>,
    name: Name,
    group: Option<PipelineId>,
    /// Reads when the lane is alone, and tells group-lag tools in either case.
    own: Box<dyn Reader>,
    at: At,
}

enum At {
    Nowhere,
    /// Reads for itself; the offset to be read next.
    Alone(u64),
    /// Reads from a feed; the portion to be read next, and the offset.
    Together(Member, u64, u64),
}

impl Place {
    /// Begins a feed at an offset, unless another lane has begun one meanwhile.
    async fn begin(&mut self, offset: u64) -> Result<()> {
        let feeds = Arc::clone(&self.feeds);
        let _beginning = feeds.beginning.lock().await;
        match feeds.join(&self.name, offset) {
            Ok(Some((member, number))) => self.at = At::Together(member, number, offset),
            Ok(None) => {
                self.own.seek(offset).await?;
                self.at = At::Alone(offset);
            }
            Err(NoFeed) => {
                let mut reader = self.log.reader(&self.name.0, self.name.1, None).await?;
                reader.seek(offset).await?;
                let feed = Arc::new(Feed {
                    reader: tokio::sync::Mutex::new(reader),
                    memory: Mutex::new(Memory { next: offset, ..Memory::default() }),
                    grown: watch::Sender::new(0),
                    members: AtomicUsize::new(0),
                });
                feeds.lock().insert(self.name.clone(), Arc::downgrade(&feed));
                self.at = At::Together(Member::new(feed), 0, offset);
            }
        }
        Ok(())
    }

    /// Moves behind a portion, and returns what of it stands at or behind an offset.
    fn take(&mut self, number: u64, next: u64, fetched: Arc<Fetched>) -> Fetched {
        if let At::Together(_, at, offset) = &mut self.at {
            (*at, *offset) = (number + 1, fetched.next);
        }
        let mut fetched = Arc::unwrap_or_clone(fetched);
        if fetched.records.first().is_some_and(|record| record.offset < next) {
            fetched.records.retain(|record| record.offset >= next);
        }
        fetched
    }
}

#[async_trait]
impl Reader for Place {
    async fn seek(&mut self, offset: u64) -> Result<()> {
        self.at = At::Nowhere;
        self.begin(offset).await
    }

    async fn next(&mut self, limit: usize, limit_bytes: usize) -> Result<Fetched> {
        // Cancel safe: between what is read, or taken from the memory, and the return nothing waits.
        loop {
            let (feed, number, next) = match &self.at {
                At::Nowhere => {
                    let why = "the reader was not told where to start";
                    return Err(Error::new(ErrorKind::Unavailable, format!("read {}", self.name.0), why));
                }
                At::Alone(next) => {
                    let next = *next;
                    if let Ok(Some((member, number))) = self.feeds.join(&self.name, next) {
                        self.own = self.log.reader(&self.name.0, self.name.1, self.group.as_ref()).await?;
                        self.at = At::Together(member, number, next);
                        continue;
                    }
                    let fetched = self.own.next(limit, limit_bytes).await?;
                    self.at = At::Alone(fetched.next);
                    return Ok(fetched);
                }
                At::Together(member, number, next) => (Arc::clone(&member.0), *number, *next),
            };
            let mut grown = feed.grown.subscribe();
            let found = feed.memory().portion(number);
            match found {
                Found::Portion(fetched) => return Ok(self.take(number, next, fetched)),
                Found::Forgotten => {
                    // Too slow for the others, or the feed has ended: as if it began here.
                    self.begin(next).await?;
                    continue;
                }
                Found::Nothing => {}
            }
            let mut reader = tokio::select! {
                biased;
                _ = grown.changed() => continue,
                reader = feed.reader.lock() => reader,
            };
            // Somebody may have read while this lane waited for its turn.
            if !matches!(feed.memory().portion(number), Found::Nothing) {
                continue;
            }
            let fetched = self.feeds.read(&feed, reader.as_mut(), (limit, limit_bytes)).await?;
            return Ok(self.take(number, next, fetched));
        }
    }

    async fn note(&mut self, next: u64) -> Result<()> {
        self.own.note(next).await
    }
}
