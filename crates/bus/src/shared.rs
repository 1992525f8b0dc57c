//! One read of a partition for all the lanes of a process that stand at about the same place in it.
//!
//! A decorator of any [`Log`]. Lanes at one place of a partition share a feed; one that stands elsewhere begins a
//! feed of its own, and changes into the one that has come further as soon as that holds its place. Bytes only, like
//! all logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::feed::{Feed, Member};
use crate::log::{Extent, Fetched, Log, Reader, TopicSpec, Trim, Writer};

/// How long a feed waits for lanes of its process that are still opening.
pub(crate) const GATHERING: Duration = Duration::from_secs(2);

/// A log whose readers share what they read.
pub struct Shared {
    log: Arc<dyn Log>,
    partitions: Mutex<HashMap<(String, u32), Arc<Partition>>>,
}

/// A partition that lanes of this process read.
struct Partition {
    log: Arc<dyn Log>,
    topic: String,
    number: u32,
    /// How many lanes have still to say where they stand.
    expected: watch::Sender<usize>,
    feeds: Mutex<Feeds>,
    /// A feed that is about to begin, and where. Many lanes that open at once begin one: whichever of them is polled
    /// drives it, so one that is not, because its store hangs, holds nobody up.
    beginning: Mutex<Option<(u64, Beginning)>>,
}

type Beginning = future::Shared<BoxFuture<'static, Result<Arc<Feed>, Arc<Error>>>>;

#[derive(Default)]
struct Feeds {
    begun: u64,
    /// Until when feeds wait for lanes that are expected: one that never comes delays nothing twice.
    gathering: Option<Instant>,
    known: Vec<Weak<Feed>>,
}

impl Shared {
    /// Makes a log over another one.
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self { log, partitions: Mutex::default() })
    }

    /// Announces a lane that is going to read a partition, so that those that open sooner wait for it a moment.
    pub fn expect(&self, topic: &str, partition: u32) {
        self.partition(topic, partition).expected.send_modify(|expected| *expected += 1);
    }

    fn partition(&self, topic: &str, number: u32) -> Arc<Partition> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = partitions.entry((topic.to_owned(), number)).or_insert_with(|| {
            Arc::new(Partition {
                log: Arc::clone(&self.log),
                topic: topic.to_owned(),
                number,
                expected: watch::Sender::new(0),
                feeds: Mutex::default(),
                beginning: Mutex::default(),
            })
        });
        Arc::clone(partition)
    }
}

#[async_trait]
impl Trim for Shared {
    async fn since(&self, topic: &str, partition: u32, since_us: i64) -> Result<u64> {
        self.log.since(topic, partition, since_us).await
    }

    async fn trim(&self, topic: &str, partition: u32, base: u64, since_us: i64) -> Result<u64> {
        self.log.trim(topic, partition, base, since_us).await
    }

    async fn delete(&self, topic: &str) -> Result<bool> {
        self.log.delete(topic).await
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
        let teller = self.log.reader(topic, partition, group).await?;
        Ok(Box::new(Place { partition: self.partition(topic, partition), teller, at: At::Nowhere }))
    }
}

impl Partition {
    fn feeds(&self) -> MutexGuard<'_, Feeds> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, offset: u64, ahead_of: Option<(u64, u64)>) -> Option<Member> {
        // Not held while a feed may be dropped.
        let known: Vec<Arc<Feed>> = {
            let mut feeds = self.feeds();
            feeds.known.retain(|feed| feed.strong_count() > 0);
            feeds.known.iter().filter_map(Weak::upgrade).collect()
        };
        known.iter().find_map(|feed| feed.join(offset, ahead_of))
    }

    /// Returns a share in a feed that has come further than a lane's own and holds its place.
    fn change(&self, member: &Member) -> Option<Member> {
        let alone = self.feeds().known.len() <= 1;
        if alone { None } else { self.join(member.offset(), Some(member.place())) }
    }

    /// Finds the feed of a lane that stands at an offset, or begins it.
    async fn settle(self: Arc<Self>, offset: u64) -> Result<Member> {
        loop {
            if let Some(member) = self.join(offset, None) {
                return Ok(member);
            }
            let (at, beginning) = self.beginning(offset);
            let begun = beginning.clone().await;
            self.over(&beginning);
            match begun {
                Ok(feed) => {
                    if let Some(member) = feed.join(offset, None) {
                        return Ok(member);
                    }
                }
                // That is of the other's place alone.
                Err(error) if error.kind == ErrorKind::PositionLost && at != offset => {}
                Err(error) => {
                    let copy = Error::new(error.kind, error.doing.clone(), error.why());
                    return Err(match &error.hint {
                        Some(hint) => copy.hint(hint.clone()),
                        None => copy,
                    });
                }
            }
        }
    }

    /// Returns the feed that is about to begin, of this lane if there is no other.
    fn beginning(self: &Arc<Self>, offset: u64) -> (u64, Beginning) {
        let mut beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        let own = || (offset, Arc::clone(self).begin(offset).boxed().shared());
        beginning.get_or_insert_with(own).clone()
    }

    fn over(&self, done: &Beginning) {
        let mut beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        beginning.take_if(|(_, known)| known.ptr_eq(done));
    }

    async fn begin(self: Arc<Self>, offset: u64) -> Result<Arc<Feed>, Arc<Error>> {
        let mut reader = self.log.reader(&self.topic, self.number, None).await.map_err(Arc::new)?;
        reader.seek(offset).await.map_err(Arc::new)?;
        let mut feeds = self.feeds();
        feeds.begun += 1;
        let until = *feeds.gathering.get_or_insert_with(|| Instant::now() + GATHERING);
        let feed = Feed::begin(feeds.begun, reader, offset, (self.expected.subscribe(), until));
        feeds.known.push(Arc::downgrade(&feed));
        Ok(feed)
    }
}

/// A lane's place in a partition.
struct Place {
    partition: Arc<Partition>,
    /// Tells group-lag tools how far the pipeline is; reads nothing.
    teller: Box<dyn Reader>,
    at: At,
}

enum At {
    Nowhere,
    /// On its way. Kept here, so that a call that is dropped does not lose what was done: calls may be dropped more
    /// often than a reader takes to begin.
    Moving(BoxFuture<'static, Result<Member>>),
    Reading(Member),
}

impl Place {
    fn go(&mut self, offset: u64) {
        self.at = At::Moving(Arc::clone(&self.partition).settle(offset).boxed());
    }

    async fn arrive(&mut self) -> Result<()> {
        if let At::Moving(way) = &mut self.at {
            let arrived = way.await;
            // What has ended is not asked again, whatever came of it.
            self.at = At::Nowhere;
            self.at = At::Reading(arrived?);
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for Place {
    async fn seek(&mut self, offset: u64) -> Result<()> {
        self.go(offset);
        let arrived = self.arrive().await;
        self.partition.expected.send_modify(|expected| *expected = expected.saturating_sub(1));
        arrived
    }

    async fn next(&mut self, limit: usize, limit_bytes: usize) -> Result<Fetched> {
        loop {
            self.arrive().await?;
            let At::Reading(member) = &mut self.at else {
                let doing = format!("read {}/{}", self.partition.topic, self.partition.number);
                let why = "the reader was not told where to start";
                return Err(Error::new(ErrorKind::Unavailable, doing, why));
            };
            if let Some(further) = self.partition.change(member) {
                *member = further;
            }
            match member.next(limit, limit_bytes).await? {
                Some(fetched) => return Ok(fetched),
                None => {
                    let offset = member.offset();
                    self.go(offset);
                }
            }
        }
    }

    async fn note(&mut self, next: u64) -> Result<()> {
        self.teller.note(next).await
    }
}
