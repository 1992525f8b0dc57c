//! The ledger's topic: one partition, never compacted, never trimmed. Bytes only; what they say is the core's.
//!
//! Writers do not fence each other: whoever has something to say appends one record, beside any running process.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, Result};

use crate::log::{Log, TopicSpec};

/// How long one read may take before the ledger counts as out of reach: an open transaction of a stranger would hold it
/// up for as long as it likes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the name of the topic: `<bus>.ledger`.
pub fn topic(bus: &str) -> String {
    format!("{bus}.ledger")
}

/// A bus to whose topics a single record can be added.
#[async_trait]
pub trait Append: Send + Sync {
    /// Makes the topic when it is missing, and adds a record to its one partition, durably. Returns its offset.
    ///
    /// After `Err(Unknown)` nobody knows whether it was added: read the topic.
    async fn append(&self, topic: &str, value: Bytes) -> Result<u64>;
}

/// Returns how the topic is made.
pub(crate) fn spec(topic: &str) -> TopicSpec {
    TopicSpec { name: topic.to_owned(), partitions: 1, compacted: false }
}

/// Reads every committed record of a one-partition topic from its beginning, and later only what is new.
pub struct Tail {
    topic: String,
    next: u64,
}

/// What a tail found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The new records, in order; one without a value is `None`.
    Records(Vec<Option<Bytes>>),
    /// The topic no longer holds what was read of it before, or what follows it.
    Cut,
}

impl Tail {
    /// Makes the reader of a topic of which nothing was read yet.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), next: 0 }
    }

    /// Reads on to the present end. A topic that does not exist is empty.
    ///
    /// `Err` leaves the place as it was: the same records come again.
    pub async fn read(&mut self, log: &dyn Log) -> Result<Found> {
        let doing = || format!("read the ledger {}", self.topic);
        let read = tokio::time::timeout(PATIENCE, self.read_on(log)).await;
        let read =
            read.map_err(|_| Error::new(ErrorKind::Unavailable, doing(), "its end was not reached"))?;
        let (found, next) = read?;
        self.next = next;
        Ok(found)
    }

    async fn read_on(&self, log: &dyn Log) -> Result<(Found, u64)> {
        let extent = log.extent(&self.topic).await?;
        let (first, end) = extent.and_then(|extent| extent.get(&0).copied()).unwrap_or((0, 0));
        let trimmed = self.next > 0 && first > self.next;
        if end < self.next || trimmed {
            return Ok((Found::Cut, self.next));
        }
        let (mut records, mut next) = (Vec::new(), self.next.max(first));
        if next < end {
            let mut reader = log.reader(&self.topic, 0, None).await?;
            reader.seek(next).await?;
            while next < end {
                let fetched = reader.next(1_000, 8 << 20).await?;
                records.extend(fetched.records.into_iter().map(|record| record.value));
                next = fetched.next;
            }
        }
        Ok((Found::Records(records), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Bus, Options};

    #[tokio::test]
    async fn records_are_appended_beside_the_owner_of_the_folder_and_come_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        // Before any process has run.
        let beside = Bus::open_beside(folder.path(), Options::default()).unwrap();
        assert_eq!(beside.append("b.ledger", "0".into()).await.unwrap(), 0);
        drop(beside);
        let owner = Bus::open(folder.path(), Options::default()).unwrap();
        let mut tail = Tail::new("b.ledger");
        assert_eq!(tail.read(owner.as_ref()).await.unwrap(), Found::Records(vec![Some("0".into())]));
        let beside = Bus::open_beside(folder.path(), Options::default()).unwrap();
        for n in 1..4 {
            let by: &dyn Append = if n == 2 { owner.as_ref() } else { beside.as_ref() };
            assert_eq!(by.append("b.ledger", n.to_string().into()).await.unwrap(), n);
        }
        let wanted = (1..4).map(|n| Some(n.to_string().into())).collect();
        assert_eq!(tail.read(owner.as_ref()).await.unwrap(), Found::Records(wanted));
        assert_eq!(tail.read(owner.as_ref()).await.unwrap(), Found::Records(Vec::new()));
        // A topic that is not there is empty, and one that was there before is cut.
        let mut nowhere = Tail::new("nowhere");
        assert_eq!(nowhere.read(owner.as_ref()).await.unwrap(), Found::Records(Vec::new()));
        nowhere.next = 1;
        assert_eq!(nowhere.read(owner.as_ref()).await.unwrap(), Found::Cut);
    }
}
