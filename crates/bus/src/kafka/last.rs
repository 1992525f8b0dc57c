//! The last committed record of a checkpoint partition.

use std::time::Instant;

use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Client, TIMEOUT};
use super::error::failed;
use super::topics::watermarks;

/// The last committed record of a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Its offset.
    pub(super) offset: u64,
    /// Its value; `None` is a tombstone.
    pub(super) value: Option<Bytes>,
}

/// Returns the last committed record of a partition that has `key`.
///
/// I2: the end is asked for uncommitted, then everything committed before it is read. A reader that stops
/// before that end stands before an open transaction, so the answer would be stale: that is a retry.
pub(super) fn record(client: &Client, topic: &str, partition: u32, key: &[u8]) -> Result<Option<Last>> {
    let doing = || format!("read the last checkpoint in {topic}/{partition}");
    let (low, high) = watermarks(client, topic, partition)?;
    if low >= high {
        return Ok(None);
    }
    let consumer: BaseConsumer = client
        .reading(&format!("{}.checkpoints", client.config().bus))
        .create()
        .map_err(|e| failed(doing(), e))?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, partition as i32, Offset::Beginning).map_err(|e| failed(doing(), e))?;
    consumer.assign(&place).map_err(|e| failed(doing(), e))?;
    let deadline = Instant::now() + TIMEOUT;
    let mut last = None;
    let mut next = low;
    loop {
        match consumer.poll(std::time::Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                next = message.offset() as u64 + 1;
                if message.key() == Some(key) {
                    let value = message.payload().map(Bytes::copy_from_slice);
                    last = Some(Last { offset: next - 1, value });
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                // The last place of a committed transaction is its marker, which no reader sees; an
                // uncommitted one would have kept the stable offset, and so the end, further back.
                let (_, stable) = consumer
                    .fetch_watermarks(topic, partition as i32, TIMEOUT)
                    .map_err(|e| failed(doing(), e))?;
                if u64::try_from(stable).unwrap_or(0) >= high {
                    return Ok(last);
                }
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    doing(),
                    format!("a transaction is open at {stable}, before the end at {high}"),
                ));
            }
            Some(Err(error)) => return Err(failed(doing(), error)),
        }
        if next >= high {
            return Ok(last);
        }
        if Instant::now() > deadline {
            return Err(Error::new(ErrorKind::Unavailable, doing(), "the end was not reached in time"));
        }
    }
}
