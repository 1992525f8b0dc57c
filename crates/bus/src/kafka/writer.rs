//! The transactional writer of a lane.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, LaneId, Result};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{Client, RECORD_LIMIT_BYTES, TIMEOUT};
use super::error::failed;
use super::{blocking, last, topics};
use crate::log::{Outgoing, TopicSpec, Writer};

/// How long a transaction may stay open before the cluster aborts it.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Collects what the cluster said of each record of the open transaction.
#[derive(Default)]
struct Reports(Mutex<Delivered>);

#[derive(Default)]
struct Delivered {
    offsets: Vec<u64>,
    failed: Option<KafkaError>,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut delivered = self.lock();
        match result {
            Ok(message) => {
                if let Some(slot) = delivered.offsets.get_mut(index) {
                    *slot = u64::try_from(message.offset()).unwrap_or(0);
                }
            }
            Err((error, _)) => {
                delivered.failed.get_or_insert_with(|| error.clone());
            }
        }
    }
}

/// The one writer of a lane: its transactional id is the fence.
pub(super) struct Lane {
    client: Arc<Client>,
    lane: LaneId,
    topic: String,
    producer: Option<Arc<BaseProducer<Reports>>>,
}

impl Lane {
    pub(super) fn new(client: Arc<Client>, lane: LaneId) -> Self {
        let topic = crate::log::checkpoint_topic(&client.config().bus, &lane.pipeline);
        Self { client, lane, topic, producer: None }
    }

    fn producer(client: &Client, lane: &LaneId) -> Result<BaseProducer<Reports>> {
        client
            .settings()
            .set("transactional.id", format!("{}.{lane}", client.config().bus))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("message.timeout.ms", "45000")
            .set("acks", "all")
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", RECORD_LIMIT_BYTES.to_string())
            .set("batch.size", "1048576")
            .set("queue.buffering.max.kbytes", "131072")
            .create_with_context(Reports::default())
            .map_err(|e| failed(format!("make the producer of {lane}"), e))
    }
}

#[async_trait]
impl Writer for Lane {
    async fn open(&mut self) -> Result<Option<Bytes>> {
        self.producer = None;
        let checkpoints =
            TopicSpec { name: self.topic.clone(), partitions: self.lane.partition + 1, compacted: true };
        for drift in topics::ensure(&self.client, &checkpoints).await? {
            tracing::warn!(drift, "a topic is not as it should be");
        }
        let (client, lane, topic) = (Arc::clone(&self.client), self.lane.clone(), self.topic.clone());
        let (producer, value) = blocking(move || {
            let producer = Self::producer(&client, &lane)?;
            // Shuts earlier producers of this id out, and ends the transaction that one left open.
            producer.init_transactions(TIMEOUT).map_err(|e| failed(format!("take over {lane}"), e))?;
            let value = last::value(&client, &topic, lane.partition, lane.to_string().as_bytes())?;
            Ok((producer, value))
        })
        .await?;
        self.producer = Some(Arc::new(producer));
        Ok(value)
    }

    async fn commit(&mut self, records: Vec<Outgoing>, checkpoint: Bytes) -> Result<Vec<u64>> {
        let doing = format!("commit {}", self.lane);
        // Taken out: a call that is dropped half way leaves no producer, so the lane must open again.
        let producer = self
            .producer
            .take()
            .ok_or_else(|| Error::new(ErrorKind::Unknown, doing.clone(), "the writer is not open"))?;
        let record = Outgoing {
            topic: self.topic.as_str().into(),
            partition: self.lane.partition,
            key: Some(self.lane.to_string().into_bytes().into()),
            value: Some(checkpoint),
            headers: Vec::new(),
        };
        let (producer, offsets) = blocking(move || {
            let offsets = transact(&producer, records, record, &doing)?;
            Ok((producer, offsets))
        })
        .await?;
        self.producer = Some(producer);
        Ok(offsets)
    }
}

/// Runs one transaction: the records, then the checkpoint (I2). Returns the records' offsets.
fn transact(
    producer: &BaseProducer<Reports>,
    records: Vec<Outgoing>,
    checkpoint: Outgoing,
    doing: &str,
) -> Result<Vec<u64>> {
    let count = records.len();
    *producer.context().lock() = Delivered { offsets: vec![0; count + 1], failed: None };
    producer.begin_transaction().map_err(|e| failed(doing, e))?;
    let sent = records
        .iter()
        .chain([&checkpoint])
        .enumerate()
        .try_for_each(|(index, record)| send(producer, record, index))
        .and_then(|()| settle(producer));
    if let Err(error) = sent {
        // The cluster aborts what stays open when the next owner opens; this only makes it sooner.
        if let Err(abort) = producer.abort_transaction(TIMEOUT) {
            tracing::debug!(error = %abort, "abort a transaction");
        }
        // A fenced producer's records are purged; only the client knows why.
        let fatal = producer.client().fatal_error().map(|(code, _)| KafkaError::Global(code));
        return Err(failed(doing, fatal.unwrap_or(error)));
    }
    let deadline = Instant::now() + TRANSACTION_TIMEOUT;
    loop {
        match producer.commit_transaction(TIMEOUT) {
            Ok(()) => break,
            // Documented as safe to call again: the same commit goes on.
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                if let Err(abort) = producer.abort_transaction(TIMEOUT) {
                    tracing::debug!(error = %abort, "abort a transaction");
                }
                return Err(failed(doing, KafkaError::Transaction(error)));
            }
            Err(error) => {
                let mut error = failed(doing, error);
                if error.kind == ErrorKind::Unavailable {
                    error.kind = ErrorKind::Unknown;
                }
                return Err(error);
            }
        }
    }
    let mut delivered = producer.context().lock();
    let mut offsets = std::mem::take(&mut delivered.offsets);
    offsets.truncate(count);
    Ok(offsets)
}

fn send(producer: &BaseProducer<Reports>, record: &Outgoing, index: usize) -> Result<(), KafkaError> {
    let mut wire: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(&record.topic, index).partition(record.partition as i32);
    if let Some(key) = &record.key {
        wire = wire.key(key);
    }
    if let Some(value) = &record.value {
        wire = wire.payload(value);
    }
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        wire = wire.headers(record.headers.iter().fold(headers, |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value.as_ref()) })
        }));
    }
    loop {
        match producer.send(wire) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                producer.poll(Duration::from_millis(5));
                wire = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Waits until the cluster has answered for every record.
///
/// Polls here instead of calling `flush`: a flush waits in steps of 100 ms for events that it serves itself.
fn settle(producer: &BaseProducer<Reports>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + TRANSACTION_TIMEOUT;
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
        if Instant::now() > deadline {
            return Err(KafkaError::Flush(Code::OperationTimedOut));
        }
    }
    match producer.context().lock().failed.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
