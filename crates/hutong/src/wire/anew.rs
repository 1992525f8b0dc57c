//! What begins anew because a person says so: a capture whose position was lost, a table of it.

use std::collections::{BTreeMap, BTreeSet};

use hutong_bus::reread;
use hutong_bus::reset::{self, Reset};
use hutong_bus::watermark::partition_key;
use hutong_core::{Checkpoint, LaneId, Loss, Position, Result};
use hutong_stores::{postgres, sqlite};

use super::Bus;
use super::store::{postgres_tables, sqlite_tables};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, StoreSystem};

/// Gives up a capture's position: the next run truncates its tables downstream and reads them again.
///
/// Shuts out whoever runs the capture. An embedded bus that another process has open is `Err`.
pub async fn reset(plan: &Plan, capture: &CapturePlan, reason: &str) -> Result<Reset> {
    let (bus, _) = Bus::open(&plan.bus)?;
    let lane = LaneId::new(capture.pipeline(), 0);
    let topics: Vec<String> = capture.tables.iter().map(|(_, stream)| stream.topic()).collect();
    let (log, registry) = (bus.log().as_ref(), bus.registry().as_ref());
    let at = jiff::Timestamp::now().to_string();
    let accepted = Loss { at, reason: reason.into(), ..Loss::default() };
    let notes = |before: &Checkpoint| notes(capture, before, reason);
    reset::reset(log, registry, &plan.bus.name, &lane, &topics, accepted, notes).await
}

/// Returns the losses that people have accepted for a capture, oldest first.
pub async fn losses(plan: &Plan, capture: &CapturePlan) -> Result<Vec<Loss>> {
    let bus = Bus::look(&plan.bus)?;
    let last = hutong_bus::latest(bus.log().as_ref(), &plan.bus.name, &capture.pipeline()).await?;
    Ok(last.map(|last| last.checkpoint.losses()).unwrap_or_default())
}

/// Where a capture and its topics stand, as far as a person must know before something begins anew.
#[derive(Debug, Default)]
pub struct Standing {
    /// Whether it has ever committed.
    pub begun: bool,
    /// Its positions, by partition of the origin.
    pub positions: BTreeMap<String, Position>,
    /// `<topic>/<partition>` to what it holds.
    pub topics: BTreeMap<String, Topic>,
    /// The other generations of these topics that have a base.
    pub retired: BTreeSet<String>,
}

/// What a partition of a topic holds.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// Where its base begins, when it has one.
    pub base: Option<u64>,
    /// Where it ends.
    pub end: u64,
}

/// Returns where a capture stands, with the topics of the named ones of its tables; reads only.
pub async fn standing(plan: &Plan, capture: &CapturePlan, named: impl Fn(&str) -> bool) -> Result<Standing> {
    let bus = Bus::look(&plan.bus)?;
    let last = hutong_bus::latest(bus.log().as_ref(), &plan.bus.name, &capture.pipeline()).await?;
    let begun = last.is_some();
    let last = last.unwrap_or_default();
    let positions = last.checkpoint.positions.clone();
    let mut standing = Standing { begun, positions, ..Standing::default() };
    for (_, stream) in capture.tables.iter().filter(|(name, _)| named(name)) {
        let topic = stream.topic();
        standing.retired.extend(reread::others(&last.checkpoint, &topic));
        for (partition, (_, end)) in bus.log().extent(&topic).await?.unwrap_or_default() {
            let held = Topic { base: last.base(&topic, partition), end };
            standing.topics.insert(partition_key(&topic, partition), held);
        }
    }
    Ok(standing)
}

/// Lets a capture read the named ones of its tables again at its next run; returns the topics that it leaves for
/// another generation.
///
/// Shuts out whoever runs the capture. An embedded bus that another process has open is `Err`.
pub async fn reread(
    plan: &Plan,
    capture: &CapturePlan,
    tables: &[String],
    reason: &str,
) -> Result<BTreeSet<String>> {
    let (bus, _) = Bus::open(&plan.bus)?;
    let lane = LaneId::new(capture.pipeline(), 0);
    let named = |name: &str| tables.iter().any(|table| table == name);
    let streams = capture.tables.iter().filter(|(name, _)| named(name));
    let topics: Vec<String> = streams.map(|(_, stream)| stream.topic()).collect();
    let notes = |_: &Checkpoint| {
        let mut notes = again(capture, named, reason)?;
        notes.insert("reload.reason".into(), format!("{}: {reason}", tables.join(", ")));
        notes.insert("reload.at".into(), jiff::Timestamp::now().to_string());
        Ok(notes)
    };
    let bus_name = &plan.bus.name;
    reread::reread(bus.log().as_ref(), bus.registry().as_ref(), bus_name, &lane, &topics, notes).await
}

fn notes(capture: &CapturePlan, before: &Checkpoint, reason: &str) -> Result<BTreeMap<String, String>> {
    Ok(match &capture.store.system {
        StoreSystem::Postgres { .. } => postgres::anew(before, &postgres_tables(capture), reason)?,
        StoreSystem::Sqlite { .. } => sqlite::anew(before, &sqlite_tables(capture)),
    })
}

/// Returns the notes by which a capture that goes on where it stands reads some of its tables from nothing, behind a
/// truncate.
pub(super) fn again(
    capture: &CapturePlan,
    named: impl Fn(&str) -> bool,
    reason: &str,
) -> Result<BTreeMap<String, String>> {
    Ok(match &capture.store.system {
        StoreSystem::Postgres { .. } => {
            let mut tables = postgres_tables(capture);
            tables.retain(|table| named(&table.name));
            postgres::reread(&tables, reason)?
        }
        StoreSystem::Sqlite { .. } => {
            let mut tables = sqlite_tables(capture);
            tables.retain(|table| named(&table.name));
            sqlite::reread(&tables)
        }
    })
}
