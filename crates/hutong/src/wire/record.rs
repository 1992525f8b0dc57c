//! One record of a topic, by its place.

use std::time::Duration;

use hutong_bus::log::Incoming;
use hutong_core::{Error, ErrorKind, Result};

use super::Bus;

/// How long a record is waited for that the topic says it holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the record at an offset.
///
/// `Err(Refused)` when the topic does not hold it, with what it holds.
pub async fn record_at(bus: &Bus, topic: &str, partition: u32, offset: u64) -> Result<Incoming> {
    let doing = || format!("read offset {offset} of {topic}/{partition}");
    let refused = |why: String| Error::new(ErrorKind::Refused, doing(), why);
    let extent = bus.log().extent(topic).await?.unwrap_or_default();
    let Some((first, end)) = extent.get(&partition).copied() else {
        return Err(refused(match extent.len() {
            0 => "there is no such topic".into(),
            count => format!("the topic has the partitions 0 to {}", count - 1),
        }));
    };
    if offset < first || offset >= end {
        let held = if first == end { "nothing".into() } else { format!("offsets {first} to {}", end - 1) };
        return Err(refused(format!("the partition holds {held}")));
    }
    let mut reader = bus.log().reader(topic, partition, None).await?;
    reader.seek(offset).await?;
    let read = async {
        loop {
            let fetched = reader.next(1, 1).await?;
            if let Some(record) = fetched.records.into_iter().next() {
                return Ok(Some(record));
            }
            if fetched.next > offset {
                return Ok(None);
            }
        }
    };
    let found: Result<Option<Incoming>> = tokio::time::timeout(PATIENCE, read)
        .await
        .map_err(|_| Error::new(ErrorKind::Unavailable, doing(), "it does not come"))?;
    found?.filter(|record| record.offset == offset).ok_or_else(|| {
        refused("no committed record stands there: it is a transaction's marker, or was aborted".into())
    })
}
