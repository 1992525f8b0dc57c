//! What of a topic a grant lets through, found by reading it: what a person sees before signing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::log::Reader;
use hutong_bus::{Decoder, Outcome};
use hutong_core::{Change, Contract, Error, ErrorKind, Op, Result, Row, Step, Verdict};

use super::back::{Base, bases};
use super::{Bus, Seals, permit};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;

/// How long a record is waited for that the topic says it holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many records of each partition are looked at for a sample.
const SAMPLED: usize = 1_000;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// The rows that the topic holds.
    pub all: u64,
    /// Those that the grant lets through.
    pub permitted: u64,
}

/// Counts rows, from the base to the present ends; reads everything and holds every key in memory.
pub async fn count(plan: &Plan, granted: &SubscriptionPlan) -> Result<Counted> {
    let bus = Bus::look(&plan.bus)?;
    let mut counted = Counted::default();
    for (partition, base) in bases(plan, &bus, granted).await? {
        let mut walk = Walk::new(plan, &bus, granted, partition, base).await?;
        let mut permit = permit(granted)?;
        // The key's text to whether the row passes.
        let mut rows: HashMap<String, bool> = HashMap::new();
        while let Some(changes) = walk.next().await? {
            changes.into_iter().for_each(|change| take(&mut rows, &mut permit, change));
        }
        counted.all += rows.len() as u64;
        counted.permitted += rows.values().filter(|passes| **passes).count() as u64;
    }
    Ok(counted)
}

/// Returns the first rows of the base that a grant lets through, as it lets them through; at most `limit`.
///
/// Only the beginning of the topic is looked at: a condition that few rows fulfil may show none.
pub async fn sample(plan: &Plan, granted: &SubscriptionPlan, limit: usize) -> Result<Vec<Change>> {
    let bus = Bus::look(&plan.bus)?;
    let (mut permit, mut found) = (permit(granted)?, Vec::new());
    for (partition, base) in bases(plan, &bus, granted).await? {
        let mut walk = Walk::new(plan, &bus, granted, partition, base).await?;
        let mut seen = 0;
        while let Some(changes) = walk.next().await? {
            seen += changes.len();
            for change in changes {
                let Some(passed) = whole(change).and_then(|change| passes(&mut permit, change)) else {
                    continue;
                };
                found.push(passed);
                if found.len() == limit {
                    return Ok(found);
                }
            }
            if seen >= SAMPLED {
                break;
            }
        }
    }
    Ok(found)
}

fn take(rows: &mut HashMap<String, bool>, permit: &mut impl Step, change: Change) {
    let key = |contract: &Contract, row: &Row| {
        let parts: Vec<_> = contract.key.iter().filter_map(|at| row.get(*at)).collect();
        format!("{parts:?}")
    };
    let own = change.after.as_ref().or(change.before.row()).map(|row| key(&change.contract, row));
    match (change.op, own) {
        (Op::Truncate, _) | (_, None) => rows.clear(),
        (Op::Delete, Some(key)) => drop(rows.remove(&key)),
        (_, Some(key)) => {
            let passes = whole(change).and_then(|change| passes(permit, change)).is_some();
            rows.insert(key, passes);
        }
    }
}

/// Returns the row of a change alone, so that one which only says less than the one before it is not passed over.
fn whole(change: Change) -> Option<Change> {
    change.after.as_ref()?;
    Some(Change { before: hutong_core::Before::None, op: Op::Read, ..change })
}

fn passes(permit: &mut impl Step, change: Change) -> Option<Change> {
    match permit.apply(change) {
        Verdict::Pass(out) if out.op != Op::Delete => Some(out),
        _ => None,
    }
}

/// One partition from its base to its end of now.
struct Walk {
    reader: Box<dyn Reader>,
    decoder: Decoder,
    place: String,
    next: u64,
    end: u64,
}

impl Walk {
    async fn new(
        plan: &Plan,
        bus: &Bus,
        granted: &SubscriptionPlan,
        partition: u32,
        base: Base,
    ) -> Result<Self> {
        let (stream, topic) = (&granted.stream, granted.stream.topic());
        let mut reader = bus.log().reader(&topic, partition, None).await?;
        if base.first < base.end {
            reader.seek(base.first).await?;
        }
        let mut decoder = Decoder::new(Arc::clone(bus.registry()), Arc::clone(&stream.contract)).of(&topic);
        // Without a key that is needed nothing is counted, rather than too little.
        if let Some(unsealing) = Seals::of(plan).unsealing(&plan.bus.name, granted)? {
            decoder.unseal(Some(unsealing.keys(bus.log().as_ref(), &topic).await?));
        }
        let place = format!("{topic}/{partition}");
        Ok(Self { reader, decoder, place, next: base.first, end: base.end })
    }

    /// Returns what comes next; `None` at the end.
    ///
    /// On Kafka the end of the broker may stand behind the marker of a transaction, which no reader sees: what the
    /// reader reaches is the end.
    async fn next(&mut self) -> Result<Option<Vec<Change>>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let doing = || format!("read {}", self.place);
        let fetched = tokio::time::timeout(PATIENCE, self.reader.next(1_000, 8 << 20)).await;
        let fetched = fetched.map_err(|_| {
            Error::new(ErrorKind::Unavailable, doing(), "what it holds does not come")
                .hint("a transaction may have been left open on the topic; look at the bus")
        })??;
        self.decoder.learn(&fetched.records).await?;
        let mut changes = Vec::new();
        for record in fetched.records.iter().filter(|record| record.offset < self.end) {
            // What cannot be read waits in a quarantine, and is no row.
            if let Outcome::Change(change) = self.decoder.decode(record) {
                changes.push(*change);
            }
        }
        self.next = if fetched.next >= fetched.end { self.end } else { fetched.next };
        Ok(Some(changes))
    }
}
