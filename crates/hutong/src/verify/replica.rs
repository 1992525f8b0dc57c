//! The half beside the replica: reads its rows together with where its lanes stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hutong_bus::watermark::partition_key;
use hutong_core::verify::{Answer, Aside, Ask, KeyDigest, Tally};
use hutong_core::{Contract, Error, ErrorKind, Permit, Result, Row};
use hutong_stores::holding::{HeldLane, Holding, Waits};
use hutong_stores::{postgres, sqlite};
use tokio::time::{Instant, sleep};

use super::window::{self, Moved};
use crate::config::plan::{StorePlan, StoreSystem, SubscriptionPlan};
use crate::wire::{self, Bus};

/// How often the lanes are asked whether they have passed.
const LOOK: Duration = Duration::from_millis(300);

/// The replica half of one subscription.
pub struct Replica<'a> {
    bus: &'a Bus,
    subscription: &'a SubscriptionPlan,
    store: &'a StorePlan,
    table: &'a str,
    permit: Permit,
    projected: Arc<Contract>,
    mark: String,
    patience: Duration,
}

/// What the replica half has seen.
pub struct Held {
    /// The rows, as far as they were asked for.
    pub answer: Answer,
    /// Partition to where its lane stood when they were read.
    pub reached: BTreeMap<u32, u64>,
    /// How many rows of a department's own table are not Hutong's.
    pub foreign: u64,
}

impl<'a> Replica<'a> {
    /// Makes it; touches nothing. `Err(Config)` when the subscription has no replica.
    pub fn new(bus: &'a Bus, subscription: &'a SubscriptionPlan, patience: Duration) -> Result<Self> {
        let (store, table) = subscription.replica("verify")?;
        let permit = wire::permit(subscription)?;
        let projected = permit.projection();
        let mark = wire::mark(subscription)?;
        Ok(Self { bus, subscription, store, table, permit, projected, mark, patience })
    }

    /// Returns the contract of the replica's rows.
    pub fn projected(&self) -> &Arc<Contract> {
        &self.projected
    }

    /// Returns the fields that the replica keeps in a form of its own, with why: they cannot be compared.
    pub async fn uncertain(&self) -> Result<Vec<(usize, String)>> {
        match &self.store.system {
            StoreSystem::Postgres { url, .. } => {
                postgres::sink::uncertain(&url.resolve()?, self.table, &self.projected).await
            }
            // What a SQLite file cannot hold as it is, is refused when it is written.
            StoreSystem::Sqlite { .. } => Ok(Vec::new()),
        }
    }

    /// Reads the replica once its lanes stand at `ends` or behind them.
    pub async fn look(&self, ask: &Ask, skip: &[usize], ends: &BTreeMap<u32, u64>) -> Result<Held> {
        let until = Instant::now() + self.patience;
        loop {
            let tally = Arc::new(Mutex::new(Tally::new(ask.clone(), skip.to_vec())));
            let holding = self.held(&tally, ends).await?;
            if holding.read {
                let tally = Arc::into_inner(tally).expect("whoever read the rows has ended");
                let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
                holding.waiting.iter().for_each(|waits| set_aside(waits, &mut tally));
                let reached = (0..self.subscription.stream.partitions)
                    .filter_map(|partition| Some((partition, self.stand(&holding.lanes, partition)?)));
                let (answer, reached) = (tally.answer(), reached.collect());
                return Ok(Held { answer, reached, foreign: holding.foreign });
            }
            self.are_whole(&holding.lanes)?;
            if Instant::now() >= until {
                return Err(self.late(&holding.lanes, ends));
            }
            sleep(LOOK).await;
        }
    }

    /// Returns the keys of which changes stand in the topic between two places.
    pub async fn moved(
        &mut self,
        begins: &BTreeMap<u32, u64>,
        reached: &BTreeMap<u32, u64>,
    ) -> Result<Moved> {
        window::moved(self.bus, &self.subscription.stream, &mut self.permit, begins, reached).await
    }

    async fn held(&self, tally: &Arc<Mutex<Tally>>, ends: &BTreeMap<u32, u64>) -> Result<Holding> {
        let (contract, pipeline) = (Arc::clone(&self.projected), self.subscription.pipeline());
        let (tally, kept) = (Arc::clone(tally), Arc::clone(&self.projected));
        let each = move |row: &Row| {
            tally.lock().unwrap_or_else(PoisonError::into_inner).add(&kept, row, || None);
        };
        let (mark, topic, places) = (self.mark.clone(), self.subscription.stream.topic(), ends.clone());
        let lane = self.subscription.pipeline();
        let ready = move |lanes: &[HeldLane]| {
            places.iter().all(|(partition, end)| {
                let name = format!("{lane}.{partition}");
                let found = lanes.iter().find(|held| held.lane == name && held.grant == mark);
                found.is_some_and(|held| stands(held, &topic, *partition) >= *end)
            })
        };
        let table = self.table.to_owned();
        match &self.store.system {
            StoreSystem::Postgres { url, .. } => {
                postgres::sink::held(&url.resolve()?, &table, &contract, &pipeline, ready, each).await
            }
            StoreSystem::Sqlite { path } => {
                let path = path.clone();
                let read = move || sqlite::held(&path, &table, &contract, &pipeline, ready, each);
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(|e| Error::caused(ErrorKind::Broken, "read a SQLite file", e))?
            }
        }
    }

    fn stand(&self, lanes: &[HeldLane], partition: u32) -> Option<u64> {
        let name = format!("{}.{partition}", self.subscription.pipeline());
        let held = lanes.iter().find(|held| held.lane == name)?;
        Some(stands(held, &self.subscription.stream.topic(), partition))
    }

    /// Refuses where waiting helps nothing.
    fn are_whole(&self, lanes: &[HeldLane]) -> Result<()> {
        let doing = || format!("verify {}", self.subscription.name);
        let hint = "start it (`hutong run`), and try again when `hutong status` says that it runs";
        if lanes.is_empty() {
            let why = "its lanes have never written into the replica";
            return Err(Error::new(ErrorKind::Unavailable, doing(), why).hint(hint));
        }
        if let Some(other) = lanes.iter().find(|lane| lane.grant != self.mark) {
            let why = format!(
                "lane {} writes under another grant than this configuration's, or is to begin anew",
                other.lane
            );
            return Err(Error::new(ErrorKind::Unavailable, doing(), why).hint(hint));
        }
        Ok(())
    }

    fn late(&self, lanes: &[HeldLane], ends: &BTreeMap<u32, u64>) -> Error {
        let topic = self.subscription.stream.topic();
        let behind = ends.iter().filter_map(|(partition, end)| {
            let stand = self.stand(lanes, *partition).unwrap_or(0);
            (stand < *end).then(|| {
                format!(
                    "{}.{partition} stands at {stand} of {topic}/{partition}, which must be {end}",
                    self.subscription.pipeline()
                )
            })
        });
        let why = behind.collect::<Vec<_>>().join("; ");
        let why = format!("its lanes have not come so far within {} s: {why}", self.patience.as_secs());
        Error::new(ErrorKind::Unavailable, format!("verify {}", self.subscription.name), why).hint(
            "a replica that is filling cannot be compared yet; `hutong status` says whether its lanes run; --patience \
             waits longer",
        )
    }
}

fn stands(held: &HeldLane, topic: &str, partition: u32) -> u64 {
    held.checkpoint.position(&partition_key(topic, partition)).as_offset().unwrap_or(0)
}

fn set_aside(waits: &Waits, tally: &mut Tally) {
    let key = waits
        .change
        .as_ref()
        .and_then(|change| KeyDigest::of(&change.contract, change.after.as_ref().or(change.before.row())?));
    tally.aside(key, Aside { rule: waits.rule.clone(), at_replica: true });
}
