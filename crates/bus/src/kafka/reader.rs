//! A reader of one partition, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::blocking;
use super::client::Client;
use super::error::failed;
use super::topics::watermarks;
use crate::log::{Fetched, Incoming, Reader};

/// Records that one hand-over holds at the most.
const RECORD_LIMIT: usize = 5_000;
/// Bytes that one hand-over holds at the most, but for its last record.
const BYTE_LIMIT: usize = 512 << 10;
/// How long a reader goes on without having seen the end before it asks for it.
const END_INTERVAL: Duration = Duration::from_secs(1);
/// How often group-lag tools are told.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// A reader of one partition.
pub(super) struct Partition {
    client: Arc<Client>,
    topic: String,
    partition: u32,
    group: Option<String>,
    running: Option<Running>,
    teller: Option<Arc<BaseConsumer>>,
    noted: Option<Instant>,
}

/// The thread that reads, and what it hands over.
struct Running {
    fetched: mpsc::Receiver<Result<Fetched>>,
    stop: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Partition {
    pub(super) fn new(client: Arc<Client>, topic: &str, partition: u32, group: Option<String>) -> Self {
        Self { client, topic: topic.to_owned(), partition, group, running: None, teller: None, noted: None }
    }
}

#[async_trait]
impl Reader for Partition {
    async fn seek(&mut self, offset: u64) -> Result<()> {
        self.running = None;
        let (client, topic, partition) = (Arc::clone(&self.client), self.topic.clone(), self.partition);
        let group = format!("{}.reader", client.config().bus);
        let running = blocking(move || {
            let (low, high) = watermarks(&client, &topic, partition)?;
            if offset < low || offset > high {
                return Err(Error::new(
                    ErrorKind::PositionLost,
                    format!("read {topic}/{partition} from {offset}"),
                    format!("the topic holds {low} to {high}"),
                )
                .hint("`hutong subscription reload NAME` reads it again from the base"));
            }
            let doing = || format!("read {topic}/{partition}");
            let consumer: BaseConsumer = client.reading(&group).create().map_err(|e| failed(doing(), e))?;
            let mut place = TopicPartitionList::new();
            place
                .add_partition_offset(&topic, partition as i32, Offset::Offset(offset as i64))
                .map_err(|e| failed(doing(), e))?;
            consumer.assign(&place).map_err(|e| failed(doing(), e))?;
            let stop = Arc::new(AtomicBool::new(false));
            let (sender, fetched) = mpsc::channel(1);
            let drain = Drain {
                client,
                consumer,
                stop: Arc::clone(&stop),
                topic: topic.clone(),
                partition: partition as i32,
                next: offset,
                end: high,
            };
            std::thread::Builder::new()
                .name(format!("read {topic}/{partition}"))
                .spawn(move || drain.run(&sender))
                .or_kind(ErrorKind::Unavailable, || format!("start a thread to read {topic}/{partition}"))?;
            Ok(Running { fetched, stop })
        })
        .await?;
        self.running = Some(running);
        Ok(())
    }

    async fn next(&mut self, _limit: usize, _limit_bytes: usize) -> Result<Fetched> {
        let doing = || format!("read {}/{}", self.topic, self.partition);
        let running = self.running.as_mut().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, doing(), "the reader was not told where to start")
        })?;
        // Cancel safe: `recv` takes a hand-over out only when it returns it.
        match running.fetched.recv().await {
            Some(fetched) => fetched,
            None => Err(Error::new(ErrorKind::Unavailable, doing(), "the reading thread has ended")),
        }
    }

    async fn note(&mut self, next: u64) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        if self.noted.is_some_and(|at| at.elapsed() < NOTE_INTERVAL) {
            return Ok(());
        }
        self.noted = Some(Instant::now());
        // Nobody reads it back: a tool that shows an old number is no reason to stop a lane.
        if let Err(error) = self.tell(&group.clone(), next) {
            tracing::debug!(%error, "tell the group offset");
        }
        Ok(())
    }
}

impl Partition {
    fn tell(&mut self, group: &str, next: u64) -> Result<()> {
        let doing = || format!("tell the offset of {}/{}", self.topic, self.partition);
        let teller = match &self.teller {
            Some(teller) => Arc::clone(teller),
            None => self.client.teller(group)?,
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition as i32, Offset::Offset(next as i64))
            .and_then(|()| teller.commit(&list, CommitMode::Async))
            .map_err(|e| failed(doing(), e))?;
        // Takes the answers to earlier ones out of the client's queue.
        while teller.poll(Duration::ZERO).is_some() {}
        self.teller = Some(teller);
        Ok(())
    }
}

/// The loop of the reading thread.
struct Drain {
    client: Arc<Client>,
    consumer: BaseConsumer,
    stop: Arc<AtomicBool>,
    topic: String,
    partition: i32,
    next: u64,
    end: u64,
}

impl Drain {
    fn run(mut self, sender: &mpsc::Sender<Result<Fetched>>) {
        let mut known = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            match self.gather() {
                Ok(None) => {}
                Ok(Some(fetched)) => {
                    if fetched.next == fetched.end {
                        known = Instant::now();
                    }
                    if sender.blocking_send(Ok(fetched)).is_err() {
                        return;
                    }
                    if known.elapsed() > END_INTERVAL {
                        self.ask();
                        known = Instant::now();
                    }
                }
                Err(error) => {
                    // The receiver may be gone; then nobody needs the error.
                    drop(sender.blocking_send(Err(error)));
                    return;
                }
            }
        }
    }

    /// Asks where the end is, for a reader that does not see it by itself.
    ///
    /// Over the connection for questions: on the reader's own the answer would wait for the fetch that is on its way,
    /// and with it every record, for up to `fetch.wait.max.ms`.
    fn ask(&mut self) {
        match watermarks(&self.client, &self.topic, self.partition as u32) {
            Ok((_, high)) => self.end = high,
            Err(error) => tracing::debug!(%error, topic = self.topic, "ask for the end"),
        }
    }

    /// Waits for a record, then takes what is there without waiting.
    fn gather(&mut self) -> Result<Option<Fetched>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut reached_end = false;
        while records.len() < RECORD_LIMIT && bytes < BYTE_LIMIT {
            let wait = if records.is_empty() { Duration::from_millis(100) } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let record = own(&message);
                    bytes += record.value.as_ref().map_or(0, Bytes::len) + 64;
                    self.next = record.offset + 1;
                    records.push(record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    reached_end = true;
                    break;
                }
                Some(Err(error)) => {
                    return Err(failed(format!("read {}/{}", self.topic, self.partition), error));
                }
            }
        }
        if reached_end {
            // The marker that ends a transaction takes an offset that no reader sees, so the end is where
            // we are, not what the broker calls the end.
            self.end = self.next;
        } else if !records.is_empty() {
            // The end was not seen, so at least one record is thought to follow.
            self.end = self.end.max(self.next + 1);
        }
        if records.is_empty() && !reached_end {
            return Ok(None);
        }
        Ok(Some(Fetched { records, next: self.next, end: self.end }))
    }
}

fn own(message: &BorrowedMessage<'_>) -> Incoming {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|h| (h.key.to_owned(), Bytes::copy_from_slice(h.value.unwrap_or_default())))
            .collect()
    });
    Incoming {
        offset: message.offset() as u64,
        written_us: message.timestamp().to_millis().unwrap_or(0) * 1_000,
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
    }
}

#[cfg(test)]
mod tests {
    use hutong_testkit::launch::Kafka;

    use super::*;
    use crate::kafka::{Config, topics};
    use crate::log::TopicSpec;

    #[tokio::test(flavor = "multi_thread")]
    async fn lag_tools_are_told_how_far_each_group_is() {
        let brokers = Kafka::shared().await.unwrap().bootstrap();
        let config = Config { brokers, bus: "offsets".into(), ..Config::default() };
        let client = Arc::new(Client::new(config).unwrap());
        let topic = TopicSpec { name: "a.offsets.v1".into(), partitions: 2, compacted: false };
        topics::ensure(&client, &topic).await.unwrap();
        let mut told = Vec::new();
        for (group, partition, next) in [("one", 0, 3), ("one", 1, 7), ("two", 1, 9)] {
            let group = Some(format!("offsets.{group}"));
            told.push((Partition::new(Arc::clone(&client), &topic.name, partition, group), next));
        }
        let looker: BaseConsumer = client.reading("offsets.one").create().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            for (reader, next) in &mut told {
                reader.note(*next).await.unwrap();
            }
            let mut list = TopicPartitionList::new();
            list.add_partition_range("a.offsets.v1", 0, 1);
            let found = looker.committed_offsets(list, super::super::client::TIMEOUT).unwrap();
            let found: Vec<Offset> = found.elements().iter().map(|one| one.offset()).collect();
            if found == [Offset::Offset(3), Offset::Offset(7)] {
                break;
            }
            assert!(Instant::now() < deadline, "{found:?}");
        }
    }
}
