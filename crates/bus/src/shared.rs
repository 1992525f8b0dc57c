//! One read of a partition for all the lanes of a process that stand at about the same place in it.
//!
//! A decorator of any [`Log`]. Lanes at one place of a partition share a [`Feed`]; one that is behind reads for itself
//! until it stands where the others do. Bytes only, like all logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};

use crate::feed::{Feed, Joined, Member};
use crate::log::{Extent, Fetched, Log, Reader, TopicSpec, Trim, Writer};

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
    feed: Mutex<Weak<Feed>>,
    /// Held while a feed is begun, so that many lanes that open at once begin one.
    beginning: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Makes a log over another one.
    pub fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self { log, partitions: Mutex::default() })
    }

    fn partition(&self, topic: &str, number: u32) -> Arc<Partition> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = partitions.entry((topic.to_owned(), number)).or_insert_with(|| {
            let (log, topic) = (Arc::clone(&self.log), topic.to_owned());
            Arc::new(Partition { log, topic, number, feed: Mutex::default(), beginning: Default::default() })
        });
        Arc::clone(partition)
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
        let teller = self.log.reader(topic, partition, group).await?;
        Ok(Box::new(Place { partition: self.partition(topic, partition), teller, at: At::Nowhere }))
    }
}

impl Partition {
    fn feed(&self) -> MutexGuard<'_, Weak<Feed>> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, offset: u64) -> Joined {
        // Not held while a share is dropped, which may end the feed.
        let feed = self.feed().upgrade();
        feed.map_or(Joined::Over, |feed| feed.join(offset))
    }

    /// Makes a reader into one that others share, unless there is such a one meanwhile: then it goes on alone.
    fn begin(&self, reader: Box<dyn Reader>, offset: u64) -> At {
        let mut known = self.feed();
        if known.upgrade().is_some_and(|feed| !matches!(feed.join(offset), Joined::Over)) {
            return At::Alone(reader, offset);
        }
        let (feed, member) = Feed::begin(reader, offset);
        *known = Arc::downgrade(&feed);
        At::Together(member)
    }

    async fn alone(&self, offset: u64) -> Result<Box<dyn Reader>> {
        let mut reader = self.log.reader(&self.topic, self.number, None).await?;
        reader.seek(offset).await?;
        Ok(reader)
    }

    /// Finds out how a lane reads from an offset on.
    async fn settle(self: Arc<Self>, offset: u64) -> Result<At> {
        match self.join(offset) {
            Joined::Member(member) => return Ok(At::Together(member)),
            Joined::Elsewhere => return Ok(At::Alone(self.alone(offset).await?, offset)),
            Joined::Over => {}
        }
        let one = self.beginning.lock().await;
        match self.join(offset) {
            Joined::Member(member) => Ok(At::Together(member)),
            Joined::Elsewhere => {
                drop(one);
                Ok(At::Alone(self.alone(offset).await?, offset))
            }
            Joined::Over => Ok(self.begin(self.alone(offset).await?, offset)),
        }
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
    Moving(BoxFuture<'static, Result<At>>),
    /// Reads for itself; the offset to be read next.
    Alone(Box<dyn Reader>, u64),
    Together(Member),
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
            self.at = arrived?;
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for Place {
    async fn seek(&mut self, offset: u64) -> Result<()> {
        self.go(offset);
        self.arrive().await
    }

    async fn next(&mut self, limit: usize, limit_bytes: usize) -> Result<Fetched> {
        loop {
            self.arrive().await?;
            match std::mem::replace(&mut self.at, At::Nowhere) {
                At::Alone(reader, next) => {
                    self.at = match self.partition.join(next) {
                        Joined::Member(member) => At::Together(member),
                        Joined::Over => self.partition.begin(reader, next),
                        Joined::Elsewhere => At::Alone(reader, next),
                    };
                }
                at => self.at = at,
            }
            match &mut self.at {
                At::Alone(reader, next) => {
                    let fetched = reader.next(limit, limit_bytes).await?;
                    *next = fetched.next;
                    return Ok(fetched);
                }
                At::Together(member) => match member.next(limit, limit_bytes).await? {
                    Some(fetched) => return Ok(fetched),
                    None => {
                        let offset = member.offset();
                        self.go(offset);
                    }
                },
                At::Moving(_) | At::Nowhere => {
                    let doing = format!("read {}/{}", self.partition.topic, self.partition.number);
                    let why = "the reader was not told where to start";
                    return Err(Error::new(ErrorKind::Unavailable, doing, why));
                }
            }
        }
    }

    async fn note(&mut self, next: u64) -> Result<()> {
        self.teller.note(next).await
    }
}
