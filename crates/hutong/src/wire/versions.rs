//! Every version of one row that its topic holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_bus::envelope::Unseal;
use hutong_bus::{Decoder, Outcome};
use hutong_core::{Change, Error, ErrorKind, Op, Result};
use hutong_stores::keep::key_text;

use super::Bus;
use crate::config::plan::StreamPlan;

/// What a topic holds of one row.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// The partition in which its versions stand; `None` when there is none.
    pub partition: Option<u32>,
    /// The versions with their offsets, and the truncates of the table, in their order.
    pub changes: Vec<(u64, Change)>,
    /// The first offset that the partition holds, and when that record was written, microseconds since 1970 UTC.
    pub first: (u64, Option<i64>),
    /// The offset behind the last record.
    pub end: u64,
    /// How many records of the partition cannot be read: each may be a version.
    pub unreadable: u64,
}

/// Reads the whole topic of a stream for the row of a key, whose text is that of [`key_text`].
///
/// `unseal`: the keys of its sealed columns. `Err(Denied)` when the key is sealed and there are none: then nobody here can
/// tell which rows are meant.
pub async fn versions(bus: &Bus, stream: &StreamPlan, key: &str, unseal: Option<Unseal>) -> Result<Versions> {
    if stream.contract.seals_key() && unseal.is_none() {
        let why = format!("its key is sealed, and the sealing key of {} is not here", stream.owner);
        return Err(Error::new(ErrorKind::Denied, format!("look for a row of {}", stream.name), why)
            .hint("ask where `keys` of [sealing] names it"));
    }
    let topic = stream.topic();
    let extent = bus.log().extent(&topic).await?.unwrap_or_default();
    let mut partitions = BTreeMap::new();
    for (partition, (first, end)) in extent {
        let one = read(bus, stream, (&topic, partition), (first, end), key, unseal.clone()).await?;
        partitions.insert(partition, one);
    }
    // The key decides the partition; a truncate alone says nothing of a row.
    let own = |one: &Versions| one.changes.iter().any(|(_, change)| change.op != Op::Truncate);
    Ok(partitions.into_values().find(own).unwrap_or_default())
}

async fn read(
    bus: &Bus,
    stream: &StreamPlan,
    (topic, partition): (&str, u32),
    (first, end): (u64, u64),
    key: &str,
    unseal: Option<Unseal>,
) -> Result<Versions> {
    let mut found = Versions { partition: Some(partition), first: (first, None), end, ..Versions::default() };
    if first == end {
        return Ok(found);
    }
    let mut decoder = Decoder::new(Arc::clone(bus.registry()), Arc::clone(&stream.contract)).of(topic);
    decoder.unseal(unseal);
    let mut reader = bus.log().reader(topic, partition, None).await?;
    reader.seek(first).await?;
    loop {
        let fetched = reader.next(1_000, 8 << 20).await?;
        decoder.learn(&fetched.records).await?;
        for record in &fetched.records {
            found.first.1.get_or_insert(record.written_us);
            match decoder.decode(record) {
                Outcome::Change(change) => {
                    let row = change.after.as_ref().or(change.before.row());
                    let own =
                        row.and_then(|row| key_text(&change.contract, row)).is_some_and(|text| text == key);
                    if own || change.op == Op::Truncate {
                        found.changes.push((record.offset, *change));
                    }
                }
                Outcome::Dropped(_) => {}
                Outcome::Unreadable { .. } => found.unreadable += 1,
            }
        }
        // The marker that ends a transaction takes an offset that no reader sees.
        if fetched.next >= fetched.end.min(end) {
            return Ok(found);
        }
    }
}
