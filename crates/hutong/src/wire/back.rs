//! Where the lanes of a subscription stand in their topic at a time, for who wants them to read again from there.
//!
//! A topic knows when its records were written, which is never before they were committed at the source, by clocks that
//! agree. So the first record that was written at a time, or later, is before the first that was committed then.

use std::collections::BTreeMap;
use std::time::Duration;

use hutong_bus::latest;
use hutong_bus::log::{Extent, Log};
use hutong_bus::watermark::{Watermark, incarnation_note, partition_key};
use hutong_core::{Error, ErrorKind, Kind, PipelineId, Position, Result};

use super::Bus;
use super::steer::Stand;
use crate::config::Plan;
use crate::config::plan::{StreamPlan, SubscriptionPlan};

/// So much earlier than asked: the clocks of departments differ, and what is read twice does no harm.
const MARGIN_US: i64 = 60_000_000;

/// How long a record is waited for that the topic says it holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a partition holds from its base on: the half-open range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Where the base begins.
    pub first: u64,
    /// Where the partition ends.
    pub end: u64,
}

/// Returns the base of each partition that a subscription reads; none when its topic was not begun.
pub async fn bases(plan: &Plan, bus: &Bus, subscription: &SubscriptionPlan) -> Result<BTreeMap<u32, Base>> {
    let (found, last) = look(plan, bus, subscription).await?;
    Ok(of(&subscription.stream.topic(), &found, last.as_ref()))
}

/// Returns every place at which a base of a partition has begun, as far as the capture notes them; none of a topic that
/// another program writes.
pub async fn begun(plan: &Plan, bus: &Bus, stream: &StreamPlan, partition: u32) -> Result<Vec<u64>> {
    let Some(capture) = &stream.capture else { return Ok(Vec::new()) };
    let capture = PipelineId::new(Kind::Capture, capture);
    let Some(last) = latest(bus.log().as_ref(), &plan.bus.name, &capture).await? else {
        return Ok(Vec::new());
    };
    let (topic, losses) = (stream.topic(), last.checkpoint.losses());
    let key = partition_key(&topic, partition);
    let given_up = losses.iter().flat_map(|loss| [loss.bases.get(&key), loss.begins.get(&key)]);
    Ok(last.base(&topic, partition).into_iter().chain(given_up.flatten().copied()).collect())
}

/// Returns what the topic holds, and its capture's last word.
async fn look(
    plan: &Plan,
    bus: &Bus,
    subscription: &SubscriptionPlan,
) -> Result<(Extent, Option<Watermark>)> {
    let log = bus.log().as_ref();
    let found = log.extent(&subscription.stream.topic()).await?.unwrap_or_default();
    let Some(capture) = &subscription.stream.capture else { return Ok((found, None)) };
    let last = latest(log, &plan.bus.name, &PipelineId::new(Kind::Capture, capture)).await?;
    Ok((found, last))
}

/// Of a topic that another program writes, everything is the base.
fn of(topic: &str, found: &Extent, last: Option<&Watermark>) -> BTreeMap<u32, Base> {
    let base = |(partition, (first, end)): (&u32, &(u64, u64))| {
        let noted = last.and_then(|last| last.base(topic, *partition));
        (*partition, Base { first: noted.unwrap_or_default().max(*first), end: *end })
    };
    found.iter().map(base).collect()
}

/// Returns for each lane that has come further the partition and the place of the first record that may have been
/// committed at a time (microseconds since 1970 UTC) or later.
///
/// `Err(PositionLost)` when the topic holds nothing that is so old, `Err(Refused)` when the time is still to come.
pub async fn back(
    plan: &Plan,
    bus: &Bus,
    subscription: &SubscriptionPlan,
    stands: &[Stand],
    (to_us, now_us): (i64, i64),
) -> Result<BTreeMap<String, (String, Position)>> {
    let (name, topic) = (&subscription.name, subscription.stream.topic());
    let doing = || format!("rewind {name} to {}", moment(plan, to_us));
    if to_us > now_us {
        let why = format!("that time is still to come: it is {}", moment(plan, now_us));
        return Err(Error::new(ErrorKind::Refused, doing(), why));
    }
    let lost = |why: String| {
        Error::new(ErrorKind::PositionLost, doing(), why)
            .hint(format!("`hutong subscription reload {name}` fills the replica anew, from the base"))
    };
    let (found, last) = look(plan, bus, subscription).await?;
    let bases = of(&topic, &found, last.as_ref());
    let incarnation = last.as_ref().and_then(|last| last.incarnation(&topic));
    let note = incarnation_note(&topic);
    let other = |stand: &&Stand| stand.checkpoint.note(&note).is_some_and(|known| incarnation != Some(known));
    if let Some(stand) = stands.iter().find(other) {
        return Err(lost(format!("the topic was begun anew since {} has read it", stand.lane)));
    }
    let mut oldest: Option<i64> = None;
    for (partition, base) in &bases {
        let written = written_us(bus.log().as_ref(), &topic, *partition, *base).await?;
        oldest = oldest.into_iter().chain(written).min();
    }
    match oldest {
        None => return Err(lost("its topic holds nothing yet".into())),
        Some(oldest) if to_us < oldest => {
            let why =
                format!("the base of its topic begins at {}, and nothing older counts", moment(plan, oldest));
            return Err(lost(why));
        }
        Some(_) => {}
    }
    let mut back = BTreeMap::new();
    for stand in stands {
        let Some(partition) = subscription.pipeline().partition(&stand.lane) else { continue };
        let Some(base) = bases.get(&partition) else { continue };
        let key = partition_key(&topic, partition);
        let since = bus.log().since(&topic, partition, to_us.saturating_sub(MARGIN_US)).await?;
        let to = Position::offset(since.max(base.first));
        if to < stand.checkpoint.position(&key) {
            back.insert(stand.lane.clone(), (key, to));
        }
    }
    Ok(back)
}

/// Returns when the first record of a base was written; `None` when it has none.
async fn written_us(log: &dyn Log, topic: &str, partition: u32, base: Base) -> Result<Option<i64>> {
    if base.first >= base.end {
        return Ok(None);
    }
    let mut reader = log.reader(topic, partition, None).await?;
    reader.seek(base.first).await?;
    let read = async {
        loop {
            let fetched = reader.next(1, 1).await?;
            if let Some(record) = fetched.records.first() {
                return Ok(Some(record.written_us));
            }
            if fetched.next >= fetched.end.min(base.end) {
                return Ok(None);
            }
        }
    };
    // On Kafka the marker of a transaction is the end of nothing that a reader sees.
    tokio::time::timeout(PATIENCE, read).await.unwrap_or(Ok(None))
}

/// Returns a time as people of the bus's zone read it.
fn moment(plan: &Plan, us: i64) -> String {
    crate::moment::text(us, &plan.bus.zone)
}
