//! The transactional writer of a lane.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, LaneId, Result};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{Client, TIMEOUT};
use super::error::failed;
use super::{blocking, last, topics};
use crate::log::{Outgoing, RECORD_LIMIT_BYTES, TopicSpec, Writer};

/// How long a transaction may stay open before the cluster aborts it.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after one transaction the next begins at the earliest.
///
/// The cluster answers a commit before it has written the marker of every partition. A transaction that begins
/// meanwhile is refused, and the client tries again only after 20 ms (`retry_backoff_ms` in `rdkafka_txnmgr.c`): with a
/// pause of 1 to 2 ms nine of ten transactions in a row take less than 9 ms, without it 25 ms.
const PAUSE: Duration = Duration::from_millis(2);

/// When a transaction began, by two clocks: one of them goes on while the machine sleeps.
struct Began(Instant, SystemTime);

impl Began {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

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
    /// How long a transaction may stay open.
    limit: Duration,
    producer: Option<Arc<BaseProducer<Reports>>>,
    /// When the last transaction was over.
    ended: Option<Instant>,
    /// The offset of the lane's last checkpoint record, as far as this owner knows.
    committed: Option<u64>,
}

impl Lane {
    pub(super) fn new(client: Arc<Client>, lane: LaneId) -> Self {
        let topic = crate::log::checkpoint_topic(&client.config().bus, &lane.pipeline);
        Self { client, lane, topic, limit: TRANSACTION_TIMEOUT, producer: None, ended: None, committed: None }
    }

    fn producer(client: &Client, lane: &LaneId, limit: Duration) -> Result<BaseProducer<Reports>> {
        client
            .settings()
            .set("transactional.id", format!("{}.{lane}", client.config().bus))
            .set("transaction.timeout.ms", limit.as_millis().to_string())
            .set("message.timeout.ms", (limit * 3 / 4).as_millis().to_string())
            .set("acks", "all")
            // The first record of a transaction waits for its partition to be added to it, and the others come meanwhile.
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", RECORD_LIMIT_BYTES.to_string())
            .set("batch.size", "1048576")
            .set("queue.buffering.max.kbytes", "32768")
            .create_with_context(Reports::default())
            .map_err(|e| failed(format!("make the producer of {lane}"), e))
    }

    /// Tells what an error of a commit means for the lane.
    ///
    /// I7: a process that stands still for longer than a transaction may last is shut out as if there were a newer
    /// owner. When nobody else has committed meanwhile, there is none, and the lane may open again.
    async fn judge(&self, error: Error, began: &Began) -> Error {
        // Kafka counts from the first record, a moment after the beginning.
        if error.kind != ErrorKind::Fenced || began.elapsed() < self.limit * 9 / 10 {
            return error;
        }
        let (client, lane, topic) = (Arc::clone(&self.client), self.lane.clone(), self.topic.clone());
        let last =
            blocking(move || last::record(&client, &topic, lane.partition, lane.to_string().as_bytes()))
                .await;
        match last {
            Ok(last) if last.as_ref().map(|last| last.offset) == self.committed => {
                let why =
                    "this process stood still for longer than a transaction may last, and it was aborted";
                Error::new(ErrorKind::Unknown, error.doing, why)
            }
            Ok(_) => error,
            Err(unread) => {
                tracing::debug!(error = %unread, "look for a newer owner");
                error
            }
        }
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
        let limit = self.limit;
        let (producer, last) = blocking(move || {
            let producer = Self::producer(&client, &lane, limit)?;
            // Shuts earlier producers of this id out, and ends the transaction that one left open.
            producer.init_transactions(TIMEOUT).map_err(|e| failed(format!("take over {lane}"), e))?;
            let last = last::record(&client, &topic, lane.partition, lane.to_string().as_bytes())?;
            Ok((producer, last))
        })
        .await?;
        self.producer = Some(Arc::new(producer));
        self.committed = last.as_ref().map(|last| last.offset);
        Ok(last.and_then(|last| last.value))
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
        let pause = self.ended.and_then(|ended| PAUSE.checked_sub(ended.elapsed()));
        let began = Began::now();
        let done = blocking(move || {
            // Here and not by the runtime's timer, which counts whole milliseconds.
            std::thread::sleep(pause.unwrap_or_default());
            write(&producer, &records, &record, &doing)?;
            let offsets = finish(&producer, &doing)?;
            Ok((producer, offsets))
        })
        .await;
        match done {
            Ok((producer, mut offsets)) => {
                self.producer = Some(producer);
                self.ended = Some(Instant::now());
                self.committed = offsets.pop();
                Ok(offsets)
            }
            Err(error) => Err(self.judge(error, &began).await),
        }
    }
}

/// Begins a transaction and writes the records, then the checkpoint (I2).
fn write(
    producer: &BaseProducer<Reports>,
    records: &[Outgoing],
    checkpoint: &Outgoing,
    doing: &str,
) -> Result<()> {
    let count = records.len();
    *producer.context().lock() = Delivered { offsets: vec![0; count + 1], failed: None };
    producer.begin_transaction().map_err(|e| failed(doing, e))?;
    let sent = records
        .iter()
        .chain([checkpoint])
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
    Ok(())
}

/// Commits what was written; returns the offsets of the records and, last, of the checkpoint.
fn finish(producer: &BaseProducer<Reports>, doing: &str) -> Result<Vec<u64>> {
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
    let offsets = std::mem::take(&mut producer.context().lock().offsets);
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
                serve(producer);
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
        serve(producer);
        if Instant::now() > deadline {
            return Err(KafkaError::Flush(Code::OperationTimedOut));
        }
    }
    match producer.context().lock().failed.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Takes one answer of the cluster, or waits a moment for it.
///
/// Not a poll with a timeout: the binding turns what is left of one below a millisecond into none, and spins.
fn serve(producer: &BaseProducer<Reports>) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, PipelineId};
    use hutong_testkit::launch::Kafka;

    use super::*;
    use crate::kafka::Config;
    use crate::kafka::topics::watermarks;

    async fn opened(client: &Arc<Client>) -> Lane {
        let lane = LaneId::new(PipelineId::new(Kind::Capture, "paused"), 0);
        let mut lane = Lane::new(Arc::clone(client), lane);
        lane.limit = Duration::from_secs(2);
        lane.open().await.unwrap();
        lane
    }

    /// Begins a commit, stands still until the cluster has aborted it, and goes on; returns what that means.
    async fn paused_commit(lane: &mut Lane, another_owner: bool) -> Error {
        let client = Arc::clone(&lane.client);
        let record = Outgoing {
            topic: lane.topic.as_str().into(),
            partition: 0,
            key: Some(Bytes::from(lane.lane.to_string())),
            value: Some(Bytes::from_static(b"late")),
            headers: Vec::new(),
        };
        let producer = lane.producer.take().unwrap();
        let began = Began::now();
        let topic = lane.topic.clone();
        let (producer, aborted) = blocking(move || {
            write(&producer, &[], &record, "commit")?;
            let (_, open) = watermarks(&client, &topic, 0)?;
            let deadline = Instant::now() + Duration::from_secs(60);
            // The marker of the abort takes an offset.
            while watermarks(&client, &topic, 0)?.1 == open && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let (_, end) = watermarks(&client, &topic, 0)?;
            Ok((producer, end > open))
        })
        .await
        .unwrap();
        assert!(aborted, "the cluster aborts what stays open");
        if another_owner {
            let mut other = Lane::new(Arc::clone(&lane.client), lane.lane.clone());
            other.open().await.unwrap();
            other.commit(Vec::new(), Bytes::from_static(b"other")).await.unwrap();
        }
        let error = blocking(move || finish(&producer, "commit")).await.unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::Fenced,
            "the cluster says the same of a pause and of another owner"
        );
        lane.judge(error, &began).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn i7_a_lane_that_stood_still_opens_again_unless_another_has_taken_it() {
        let kafka = Kafka::shared().await.unwrap();
        let config = Config {
            brokers: kafka.bootstrap(),
            bus: "paused".into(),
            security: Vec::new(),
            replication: None,
        };
        let client = Arc::new(Client::new(config).unwrap());
        let mut lane = opened(&client).await;
        lane.commit(Vec::new(), Bytes::from_static(b"first")).await.unwrap();

        let error = paused_commit(&mut lane, false).await;
        assert_eq!(error.kind, ErrorKind::Unknown, "{error:?}");
        assert_eq!(lane.open().await.unwrap(), Some(Bytes::from_static(b"first")));
        lane.commit(Vec::new(), Bytes::from_static(b"second")).await.unwrap();

        let error = paused_commit(&mut lane, true).await;
        assert_eq!(error.kind, ErrorKind::Fenced, "{error:?}");
    }
}
