//! The lanes of a subscription as their store knows them, and what a person does to them; of a delivery as its
//! checkpoint topic does.
//!
//! Works whether a process runs them or not: what is done stands there.

use std::collections::BTreeMap;

use hutong_core::{Checkpoint, LaneId, Order, Result};
use hutong_stores::{NOBODYS, Steered, postgres, sqlite};

use super::{Bus, deliver};
use crate::config::Plan;
use crate::config::plan::{StorePlan, StoreSystem, SubscriptionPlan, Target};

/// A lane as its store knows it.
#[derive(Debug, Clone)]
pub struct Stand {
    /// The lane.
    pub lane: String,
    /// The table that it writes, as the store keeps its name, or what its delivery topics' names begin with.
    pub table: String,
    /// What it has committed.
    pub checkpoint: Checkpoint,
    /// Whether it begins at the base when it opens next.
    pub anew: bool,
}

/// Returns every lane that writes where a subscription does, by name; reads only.
pub async fn stands(plan: &Plan, subscription: &SubscriptionPlan) -> Result<Vec<Stand>> {
    match &subscription.into {
        Target::Table { store, .. } => of_store(store).await,
        Target::Topic => {
            let topics = deliver::generations(&Bus::look(&plan.bus)?, &plan.bus.name, subscription);
            let stand = |(lane, checkpoint, anew): (LaneId, Checkpoint, bool)| Stand {
                lane: lane.to_string(),
                table: topics.stem.clone(),
                checkpoint,
                anew,
            };
            Ok(topics.stands().await?.into_iter().map(stand).collect())
        }
    }
}

async fn of_store(store: &StorePlan) -> Result<Vec<Stand>> {
    let stand = |(lane, stand): (String, super::Stand)| Stand {
        lane,
        table: stand.table,
        checkpoint: stand.checkpoint,
        anew: stand.mark == NOBODYS,
    };
    Ok(super::stands(store).await?.into_iter().map(stand).collect())
}

/// Returns how many rows of a subscription's table each lane has written; reads only.
pub async fn rows(subscription: &SubscriptionPlan) -> Result<BTreeMap<String, u64>> {
    let (store, table) = subscription.replica("count the rows of")?;
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::sink::rows_of(&url.resolve()?, table).await,
        StoreSystem::Sqlite { path } if !path.exists() => Ok(BTreeMap::new()),
        StoreSystem::Sqlite { path } => sqlite::rows_of(path, table),
    }
}

/// Gives an order to the lanes of a subscription, in one transaction of its store; none when it has never written.
///
/// Whoever runs them is shut out, and opens them again by itself.
pub async fn steer(subscription: &SubscriptionPlan, order: &Order) -> Result<Vec<Steered>> {
    let pipeline = subscription.pipeline();
    let (store, _) = subscription.replica(order.act.verb.name())?;
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::sink::steer(&url.resolve()?, &pipeline, order).await,
        StoreSystem::Sqlite { path } => sqlite::steer(path, &pipeline, order),
    }
}

/// Puts a note into the checkpoint of a lane in its store, whoever runs it; nothing where it has never written.
pub async fn note(store: &StorePlan, lane: &LaneId, name: &str, text: &str) -> Result<()> {
    let lane = lane.to_string();
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::sink::note(&url.resolve()?, &lane, name, text).await,
        StoreSystem::Sqlite { path } => sqlite::note(path, &lane, name, text),
    }
}
