//! The topic of wrapped keys: one partition, never compacted, never trimmed. Bytes only; what they open is the core's.
//!
//! A capture adds to it in a transaction with its checkpoint, before it seals anything under a key of it.

use hutong_core::seal::Wrapped;
use hutong_core::{Error, Result};

use crate::ledger::{Found, Tail, spec};
use crate::log::Log;

/// Returns the name of the topic: `<bus>.keys`.
pub fn topic(bus: &str) -> String {
    format!("{bus}.keys")
}

/// Makes the topic when it is missing.
pub(crate) async fn ensure(log: &dyn Log, bus: &str) -> Result<()> {
    for drift in log.ensure(&spec(&topic(bus))).await? {
        tracing::warn!(drift, "a topic is not as it should be");
    }
    Ok(())
}

/// Reads every record. A topic that does not exist is empty; what is no record of keys is passed over, so that nobody can
/// stop the bus by writing rubbish.
pub async fn read(log: &dyn Log, bus: &str) -> Result<Vec<Wrapped>> {
    let found = Tail::new(topic(bus)).read(log).await;
    let found =
        found.map_err(|error| Error { doing: format!("read the keys of {}", topic(bus)), ..error })?;
    let Found::Records(records) = found else { return Ok(Vec::new()) };
    Ok(records.into_iter().flatten().filter_map(|record| Wrapped::decode(&record)).collect())
}
