//! The topic of a department's receipts: one partition, trimmed only behind a root and after years. Bytes only; what
//! they say is the core's.

use std::ops::Range;

use hutong_core::Result;

use crate::log::{Incoming, Log, TopicSpec};

/// Returns the name of the topic: `<bus>.receipt.<department>`.
pub fn topic(bus: &str, department: &str) -> String {
    format!("{bus}.receipt.{department}")
}

/// Returns how the topic is made.
pub fn spec(topic: &str) -> TopicSpec {
    TopicSpec { name: topic.to_owned(), partitions: 1, compacted: false }
}

/// Shows every committed record of a one-partition topic, from the first that is kept to the present end, until `each`
/// says that it has seen enough (`false`). A topic that does not exist is empty.
pub async fn walk(
    log: &dyn Log,
    topic: &str,
    each: impl FnMut(&Incoming) -> Result<bool> + Send,
) -> Result<()> {
    let extent = log.extent(topic).await?;
    let Some((first, end)) = extent.and_then(|extent| extent.get(&0).copied()) else { return Ok(()) };
    walk_between(log, topic, 0, first..end, each).await.map(drop)
}

/// Shows the committed records of a stretch of a partition, as [`walk`] does; returns the offset that it has come to. Asks
/// nobody when the stretch is empty.
pub(crate) async fn walk_between(
    log: &dyn Log,
    topic: &str,
    partition: u32,
    Range { start: from, end }: Range<u64>,
    mut each: impl FnMut(&Incoming) -> Result<bool> + Send,
) -> Result<u64> {
    if from >= end {
        return Ok(from);
    }
    let mut reader = log.reader(topic, partition, None).await?;
    reader.seek(from).await?;
    loop {
        let fetched = reader.next(1_000, 8 << 20).await?;
        for record in fetched.records.iter().filter(|record| record.offset < end) {
            if !each(record)? {
                return Ok(record.offset + 1);
            }
        }
        // The marker that ends a transaction takes an offset that no reader sees.
        if fetched.next >= fetched.end.min(end) {
            return Ok(fetched.next);
        }
    }
}
