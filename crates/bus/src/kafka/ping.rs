//! Asks a cluster whether it is there, and hears why it is not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hutong_core::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use super::client::Client;
use super::error::failed;

/// How long what librdkafka has to say is waited for after a question that had no answer.
const HEARS: Duration = Duration::from_millis(200);

/// Keeps the last reason that librdkafka gave: what a call returns says only that there was no answer.
#[derive(Default)]
struct Heard {
    last: Mutex<Option<String>>,
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That every broker is down is told after the reason, and says less.
        if last.is_none() || error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            *last = Some(reason.to_owned());
        }
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {}
}

/// Returns how many brokers the cluster has; `Err` names the brokers that were asked and why they do not answer.
pub(super) fn ping(client: &Client, timeout: Duration) -> Result<usize> {
    let doing = || format!("ask Kafka at {} for its brokers", client.config().brokers);
    let asker: BaseProducer<Heard> =
        client.settings().create_with_context(Heard::default()).map_err(|e| failed(doing(), e))?;
    let error = match asker.client().fetch_metadata(None, timeout) {
        Ok(metadata) => return Ok(metadata.brokers().len()),
        Err(error) => failed(doing(), error),
    };
    asker.poll(HEARS);
    let last = asker.client().context().last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(reason) = last else { return Err(error) };
    let why = format!("no answer in {} s, and the last that was heard is: {reason}", timeout.as_secs());
    let hint = "look at `brokers`, `tls` and `sasl` of [bus.kafka], and whether the cluster runs".to_owned();
    let hint = error.hint.unwrap_or(hint);
    Err(Error::new(error.kind, doing(), why).hint(hint))
}

#[cfg(test)]
mod tests {
    use hutong_core::ErrorKind;

    use super::super::client::Config;
    use super::*;

    #[test]
    fn says_who_does_not_answer_and_why() {
        // Nothing listens on port 1.
        let config = Config {
            brokers: "127.0.0.1:1".into(),
            bus: "hutong".into(),
            security: Vec::new(),
            replication: None,
        };
        let client = Client::new(config).unwrap();

        let error = ping(&client, Duration::from_secs(1)).unwrap_err();

        assert_eq!(error.kind, ErrorKind::Unavailable);
        let text = error.to_string();
        for part in ["ask Kafka at 127.0.0.1:1", "no answer in 1 s", "Connection refused"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
