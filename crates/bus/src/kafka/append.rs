//! Adds one record to a topic of one partition, durably and once, without a lane.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hutong_core::{Error, ErrorKind, Result};
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::client::{Client, TIMEOUT};
use super::error::failed;
use crate::log::RECORD_LIMIT_BYTES;

/// What the cluster answered.
#[derive(Default)]
struct Report(Mutex<Option<std::result::Result<u64, KafkaError>>>);

impl ClientContext for Report {}

impl ProducerContext for Report {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let answer = match result {
            Ok(message) => Ok(u64::try_from(message.offset()).unwrap_or(0)),
            Err((error, _)) => Err(error.clone()),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

/// Adds a record; returns its offset. Idempotent, so that a lost answer of the cluster does not make two of it.
pub(super) fn one(client: &Client, topic: &str, value: &[u8]) -> Result<u64> {
    let doing = || format!("append to {topic}");
    let producer: BaseProducer<Report> = client
        .settings()
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
        .set("message.max.bytes", RECORD_LIMIT_BYTES.to_string())
        .create_with_context(Report::default())
        .map_err(|e| failed(doing(), e))?;
    let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(0).payload(value);
    producer.send(record).map_err(|(e, _)| failed(doing(), e))?;
    // The client gives up by itself a moment earlier.
    let deadline = Instant::now() + TIMEOUT + Duration::from_secs(5);
    while Instant::now() < deadline {
        producer.poll(Duration::from_millis(10));
        if let Some(answer) = producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return answer.map_err(|e| failed(doing(), e));
        }
    }
    Err(Error::new(ErrorKind::Unknown, doing(), "the cluster has not answered"))
}
