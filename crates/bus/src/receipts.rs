//! The topic of a department's receipts: one partition, trimmed only behind a root and after years. Bytes only; what
//! they say is the core's.

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
    walk_from(log, topic, (0, 0), each).await
}

/// Shows the committed records of a partition, as [`walk`] does, from an offset on or the first that is kept.
pub(crate) async fn walk_from(
    log: &dyn Log,
    topic: &str,
    (partition, from): (u32, u64),
    mut each: impl FnMut(&Incoming) -> Result<bool> + Send,
) -> Result<()> {
    let extent = log.extent(topic).await?;
    let Some((first, end)) = extent.and_then(|extent| extent.get(&partition).copied()) else { return Ok(()) };
    let from = first.max(from);
    if from >= end {
        return Ok(());
    }
    let mut reader = log.reader(topic, partition, None).await?;
    reader.seek(from).await?;
    loop {
        let fetched = reader.next(1_000, 8 << 20).await?;
        for record in fetched.records.iter().filter(|record| record.offset < end) {
            if !each(record)? {
                return Ok(());
            }
        }
        // The marker that ends a transaction takes an offset that no reader sees.
        if fetched.next >= fetched.end.min(end) {
            return Ok(());
        }
    }
}
