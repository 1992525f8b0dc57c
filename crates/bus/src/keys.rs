//! The topics of wrapped keys: one a capture, one partition, never compacted, never trimmed. Bytes only; what they open is
//! the core's.
//!
//! A capture adds to its own in a transaction with its checkpoint, before it seals anything under a key of it. In one topic
//! for all, the open transaction of another capture would hide what it has committed.

use hutong_core::seal::Wrapped;
use hutong_core::{Error, Result};

use crate::ledger::spec;
use crate::log::Log;
use crate::receipts::walk;

/// Returns the name of a capture's topic: `<bus>.keys.<capture>`.
pub fn topic(bus: &str, capture: &str) -> String {
    format!("{bus}.keys.{capture}")
}

/// Makes the topic when it is missing.
pub(crate) async fn ensure(log: &dyn Log, topic: &str) -> Result<()> {
    for drift in log.ensure(&spec(topic)).await? {
        tracing::warn!(drift, "a topic is not as it should be");
    }
    Ok(())
}

/// Reads every record. A topic that does not exist is empty; what is no record of keys is passed over, so that nobody can
/// stop the bus by writing rubbish.
pub async fn read(log: &dyn Log, topic: &str) -> Result<Vec<Wrapped>> {
    let mut records = Vec::new();
    let walked = walk(log, topic, |record| {
        records.extend(record.value.as_deref().and_then(Wrapped::decode));
        Ok(true)
    });
    walked.await.map_err(|error| Error { doing: format!("read the keys in {topic}"), ..error })?;
    Ok(records)
}
