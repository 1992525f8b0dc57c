//! What a person does to the lanes of a subscription: pause, resume, rewind, reload. First said, then done.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use hutong_bus::watermark::partition_key;
use hutong_core::{Act, Checkpoint, Error, ErrorKind, LaneId, Order, Result, Verb};
use hutong_engine::State;
use hutong_engine::status::now_us;
use hutong_stores::Steered;
use serde::Serialize;

use super::arguments::{Output, Steer};
use super::{status, told};
use crate::config::Plan;
use crate::config::plan::{SubscriptionPlan, Target};
use crate::exit::Exit;
use crate::wire::items::Item;
use crate::wire::steer::Stand;
use crate::wire::{self, items};

/// What an order did, or would do.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) subscription: String,
    pub(super) act: Act,
    /// Whether it was only asked what it would do.
    pub(super) dry_run: bool,
    pub(super) lanes: Vec<Lane>,
    /// About how many records are read again: markers of transactions count, too.
    pub(super) records: Option<u64>,
    /// The replica, and how many rows of it are replaced; of a delivery its topic.
    pub(super) table: String,
    pub(super) topic: bool,
    pub(super) rows: Option<u64>,
    /// The other pipelines that write into that table: nothing happens to their rows.
    pub(super) beside: Vec<String>,
    /// The address of the process of this configuration that runs it.
    pub(super) runs_at: Option<String>,
    /// Its lanes that have halted there, and stay so until the process is started again.
    pub(super) halted: Vec<String>,
}

/// What an order did to one lane.
#[derive(Debug, Serialize)]
pub(super) struct Lane {
    pub(super) lane: String,
    /// Whether there was anything to do to it.
    pub(super) done: bool,
    /// The offset of the record that it reads next, and would read next.
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
    pub(super) records: Option<u64>,
    pub(super) rows: Option<u64>,
    /// The items of its quarantine that are settled, for they come again.
    pub(super) settled: Vec<i64>,
    /// Since when it is paused, in words, when it is or was.
    pub(super) pause: Option<hutong_core::Pause>,
}

/// Says who acts: whom the command names, or else the system's user.
pub(super) fn act(verb: Verb, by: Option<&str>, reason: Option<&str>) -> Act {
    let named = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
    let user = || ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(named);
    let by = by.map(str::to_owned).or_else(user).unwrap_or_else(number);
    Act { verb, at_us: now_us(), by, reason: reason.unwrap_or_default().into(), to_us: None }
}

/// Returns the number of the system's user, who has no name here: a container often tells none.
fn number() -> String {
    let own = std::fs::metadata("/proc/self");
    own.map_or_else(|_| "nobody said".into(), |own| format!("user {}", own.uid()))
}

/// Pauses a subscription.
pub(super) async fn pause(
    plan: &Plan,
    subscription: &SubscriptionPlan,
    reason: &str,
    how: &Steer,
) -> Result<Exit> {
    let order = Order { act: act(Verb::Pause, how.by.as_deref(), Some(reason)), back: BTreeMap::new() };
    subscription.replica("pause")?;
    let stands = stands(plan, subscription).await?;
    if stands.own.is_empty() {
        let name = &subscription.name;
        let why = "it has written nothing yet, so no lane of it is there that could remember it";
        return Err(Error::new(ErrorKind::Refused, format!("pause {name}"), why)
            .hint("leave it out of the configuration, or name the others: `hutong run --only PIPELINE`"));
    }
    carry_out(plan, subscription, stands, order, how).await
}

/// Takes the pause of a subscription back.
pub(super) async fn resume(
    plan: &Plan,
    subscription: &SubscriptionPlan,
    reason: Option<&str>,
    how: &Steer,
) -> Result<Exit> {
    let order = Order { act: act(Verb::Resume, how.by.as_deref(), reason), back: BTreeMap::new() };
    subscription.replica("resume the lanes of")?;
    carry_out(plan, subscription, stands(plan, subscription).await?, order, how).await
}

/// Sets the lanes of a subscription back to a time.
pub(super) async fn rewind(
    plan: &Plan,
    subscription: &SubscriptionPlan,
    to_us: i64,
    reason: Option<&str>,
    how: &Steer,
) -> Result<Exit> {
    let mut order = Order { act: act(Verb::Rewind, how.by.as_deref(), reason), back: BTreeMap::new() };
    order.act.to_us = Some(to_us);
    subscription.replica("rewind")?;
    let stands = stands(plan, subscription).await?;
    let moving: Vec<Stand> = stands.own.iter().filter(|stand| !stand.anew).cloned().collect();
    let bus = wire::Bus::look(&plan.bus)?;
    order.back = wire::back(plan, &bus, subscription, &moving, (to_us, now_us())).await?;
    carry_out(plan, subscription, stands, order, how).await
}

/// Lets the replica of a subscription be filled anew, or the next generation of its delivery topic.
pub(super) async fn reload(
    plan: &Plan,
    subscription: &SubscriptionPlan,
    reason: Option<&str>,
    how: &Steer,
) -> Result<Exit> {
    let order = Order { act: act(Verb::Reload, how.by.as_deref(), reason), back: BTreeMap::new() };
    carry_out(plan, subscription, stands(plan, subscription).await?, order, how).await
}

/// States whether any lane of a subscription is paused.
pub(super) async fn is_paused(plan: &Plan, subscription: &SubscriptionPlan) -> Result<bool> {
    Ok(stands(plan, subscription).await?.own.iter().any(|stand| stand.checkpoint.pause().is_some()))
}

/// The lanes of a subscription, and the other pipelines that write into its table.
struct Stands {
    own: Vec<Stand>,
    beside: Vec<String>,
}

async fn stands(plan: &Plan, subscription: &SubscriptionPlan) -> Result<Stands> {
    let pipeline = subscription.pipeline();
    let all = wire::steer::stands(plan, subscription).await?;
    let (own, others): (Vec<Stand>, Vec<Stand>) =
        all.into_iter().partition(|stand| pipeline.partition(&stand.lane).is_some());
    let shares = |stand: &&Stand| own.iter().any(|mine| mine.table == stand.table);
    let name = |stand: &Stand| stand.lane.rsplit_once('.').map(|(name, _)| name.to_owned());
    let mut beside: Vec<String> = others.iter().filter(shares).filter_map(name).collect();
    beside.dedup();
    Ok(Stands { own, beside })
}

async fn carry_out(
    plan: &Plan,
    subscription: &SubscriptionPlan,
    stands: Stands,
    order: Order,
    how: &Steer,
) -> Result<Exit> {
    let steered = if how.dry_run {
        would_be(subscription, &stands.own, &order).await?
    } else {
        match subscription.into {
            Target::Table { .. } => wire::steer::steer(subscription, &order).await?,
            Target::Topic => begun_anew(plan, subscription, &order).await?,
        }
    };
    let mut lanes: Vec<Lane> = steered.iter().map(|steered| lane(subscription, steered)).collect();
    if order.act.verb == Verb::Reload && how.dry_run {
        counted(plan, subscription, &mut lanes).await?;
    }
    let sum = |of: &dyn Fn(&Lane) -> Option<u64>| {
        lanes.iter().filter(|lane| lane.done).map(of).sum::<Option<u64>>()
    };
    let of_it = status::ask(plan).await.map_or_else(|_| Vec::new(), |status| status.lanes);
    let of_it = of_it.iter().filter(|lane| lane.pipeline == subscription.pipeline().to_string());
    let (halted, running): (Vec<_>, Vec<_>) =
        of_it.filter(|lane| lane.state != State::Stopped).partition(|lane| lane.state == State::Halted);
    let answer = Answer {
        subscription: subscription.name.clone(),
        dry_run: how.dry_run,
        records: sum(&|lane| lane.records),
        rows: sum(&|lane| lane.rows),
        table: target(subscription),
        topic: subscription.into == Target::Topic,
        beside: stands.beside,
        runs_at: (!running.is_empty()).then(|| plan.http.address.to_string()),
        halted: halted.into_iter().map(|lane| lane.lane.clone()).collect(),
        act: order.act,
        lanes,
    };
    match how.output {
        Output::Json => super::print_json(&answer)?,
        Output::Text => told::lines(&answer, plan).iter().for_each(|line| println!("{line}")),
    }
    Ok(Exit::Done)
}

/// Returns what a person calls the replica: its table, or what its topics' names begin with.
fn target(subscription: &SubscriptionPlan) -> String {
    match &subscription.into {
        Target::Table { table, .. } => table.clone(),
        Target::Topic => subscription.delivery_stem(),
    }
}

/// Ends the present generation of a delivery.
async fn begun_anew(plan: &Plan, subscription: &SubscriptionPlan, order: &Order) -> Result<Vec<Steered>> {
    let stood = wire::begin_anew(plan, subscription, order).await?;
    let steered = |(lane, before): (LaneId, Checkpoint)| {
        let after = order.apply(&lane.to_string(), &before);
        Steered { lane: lane.to_string(), before, after, settled: Vec::new() }
    };
    Ok(stood.into_iter().map(steered).collect())
}

/// Says what an order would do; touches nothing.
async fn would_be(subscription: &SubscriptionPlan, stands: &[Stand], order: &Order) -> Result<Vec<Steered>> {
    let waiting: Vec<Item> = match order.back.is_empty() {
        true => Vec::new(),
        false => items::of_replica(subscription, subscription.replica("rewind")?.0).await?,
    };
    let settles = |lane: &str| {
        let to = order.back.get(lane).map(|(_, to)| to.to_string());
        let comes_again = |item: &&Item| {
            item.lane == lane && item.state == "waiting" && to.as_ref().is_some_and(|to| item.position >= *to)
        };
        waiting.iter().filter(comes_again).map(|item| item.id).collect()
    };
    let would = |stand: &Stand| {
        let after = order.apply(&stand.lane, &stand.checkpoint);
        let settled = if after.is_some() { settles(&stand.lane) } else { Vec::new() };
        Steered { lane: stand.lane.clone(), before: stand.checkpoint.clone(), after, settled }
    };
    Ok(stands.iter().map(would).collect())
}

fn lane(subscription: &SubscriptionPlan, steered: &Steered) -> Lane {
    let partition = subscription.pipeline().partition(&steered.lane).unwrap_or_default();
    let key = partition_key(&subscription.stream.topic(), partition);
    let place = |checkpoint: &Checkpoint| checkpoint.position(&key).as_offset();
    let (from, to) = (place(&steered.before), steered.after.as_ref().and_then(place));
    let pause = steered.after.as_ref().and_then(Checkpoint::pause).or_else(|| steered.before.pause());
    let records = from.zip(to).map(|(from, to)| from.saturating_sub(to));
    let (lane, settled) = (steered.lane.clone(), steered.settled.clone());
    Lane { lane, done: steered.after.is_some(), from, to, records, rows: None, settled, pause }
}

/// Counts what a reload would replace and read.
async fn counted(plan: &Plan, subscription: &SubscriptionPlan, lanes: &mut [Lane]) -> Result<()> {
    let rows = match subscription.into {
        Target::Table { .. } => Some(wire::steer::rows(subscription).await?),
        Target::Topic => None,
    };
    let bases = wire::bases(plan, &wire::Bus::look(&plan.bus)?, subscription).await?;
    for lane in lanes {
        let partition = subscription.pipeline().partition(&lane.lane).unwrap_or_default();
        let base = bases.get(&partition);
        lane.rows = rows.as_ref().map(|rows| rows.get(&lane.lane).copied().unwrap_or_default());
        lane.to = base.map(|base| base.first);
        lane.records = base.map(|base| base.end - base.first);
    }
    Ok(())
}
