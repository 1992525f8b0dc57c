//! What was on its way while the two sides were read: the keys of a stretch of the topic.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::Decoder;
use hutong_core::verify::KeyDigest;
use hutong_core::{Error, ErrorKind, Op, Permit, Result};
use tokio::time::timeout;

use crate::config::plan::StreamPlan;
use crate::wire::Bus;

/// How long the records may take that the lane has read already.
const PATIENCE: Duration = Duration::from_secs(30);

/// The keys that moved.
#[derive(Debug, Default)]
pub struct Moved {
    keys: HashSet<KeyDigest>,
    /// A truncate, or a record that does not decode, stood among them: any key may have moved.
    all: bool,
}

impl Moved {
    /// States whether a key moved, as far as anybody knows.
    pub fn has(&self, key: KeyDigest) -> bool {
        self.all || self.keys.contains(&key)
    }
}

/// Reads the topic from one place in each partition to another.
pub(super) async fn moved(
    bus: &Bus,
    stream: &StreamPlan,
    permit: &mut Permit,
    begins: &BTreeMap<u32, u64>,
    reached: &BTreeMap<u32, u64>,
) -> Result<Moved> {
    let (mut moved, topic, projected) = (Moved::default(), stream.topic(), permit.projection());
    let mut decoder = Decoder::new(Arc::clone(bus.registry()), Arc::clone(&stream.contract)).of(&topic);
    for (partition, end) in reached {
        let mut next = begins.get(partition).copied().unwrap_or(0);
        if next >= *end {
            continue;
        }
        let mut reader = bus.log().reader(&topic, *partition, None).await?;
        reader.seek(next).await?;
        while next < *end {
            let fetched = timeout(PATIENCE, reader.next(1_000, 4 << 20)).await.map_err(|_| {
                let doing = format!("read {topic}/{partition} from {next} to {end}");
                Error::new(ErrorKind::Unavailable, doing, "it does not come")
            })??;
            for record in fetched.records.iter().filter(|record| record.offset < *end) {
                match decoder.decode_one(record).await {
                    Ok(Some(change)) if change.op == Op::Truncate => moved.all = true,
                    Ok(Some(change)) => {
                        let rows = permit.keys(&change).into_iter().map(|key| projected.key_row(&key));
                        moved.keys.extend(rows.filter_map(|row| KeyDigest::of(&projected, &row)));
                    }
                    Ok(None) => {}
                    Err(_) => moved.all = true,
                }
            }
            next = fetched.next;
        }
    }
    Ok(moved)
}
