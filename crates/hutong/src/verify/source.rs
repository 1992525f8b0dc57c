//! The half beside the source: reads the captured table, and lets through what the grant lets through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hutong_bus::watermark::{Watermark, partition_key};
use hutong_core::verify::{Answer, Aside, Ask, KeyDigest, Tally};
use hutong_core::{
    Before, Change, Checkpoint, Contract, Error, ErrorKind, Op, Origin, Permit, Place, Position, Quality,
    Result, Row, Step, Value, Verdict,
};
use hutong_stores::holding::Scanned;
use hutong_stores::{postgres, sqlite};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Plan;
use crate::config::plan::{CapturePlan, StoreSystem, SubscriptionPlan};
use crate::wire::{self, Bus};

/// How often the capture is asked whether it has passed.
const LOOK: Duration = Duration::from_millis(200);

/// What the source half tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// The rows, as far as they were asked for.
    pub answer: Answer,
    /// Partition to the end of its topic before the table was read: what stands behind it has moved meanwhile.
    pub begins: BTreeMap<u32, u64>,
    /// Partition to the place behind everything that was read: a lane that stands there has passed it.
    pub ends: BTreeMap<u32, u64>,
    /// How many records of the topic were passed over, in which the halves speak: nobody can read them.
    pub passed_over: u64,
}

/// The source half of one subscription.
pub struct Source<'a> {
    bus: &'a Bus,
    bus_name: &'a str,
    capture: &'a CapturePlan,
    table: &'a str,
    subscription: &'a SubscriptionPlan,
    quality: Quality,
    permit: Permit,
    projected: Arc<Contract>,
    patience: Duration,
    origin: Origin,
    /// The keys at the source of the rows that were asked for by key last.
    known: BTreeMap<KeyDigest, Row>,
}

/// A row that is to be sent again.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// One that the source half has told of.
    Known(KeyDigest),
    /// One that only the replica has, by its key in clear.
    Clear(Row),
}

/// Who tells what the source holds: the half itself, or somebody who asks it over the bus.
#[async_trait]
pub trait Half: Send {
    /// Reads the table, and waits until the capture has passed everything that was seen.
    ///
    /// `settled`: transactions that run when it begins have ended before a row is read.
    async fn tell(&mut self, ask: &Ask, skip: &[usize], settled: bool) -> Result<Told>;

    /// Asks the capture to send rows again as they are, or their deletes, to every subscriber.
    async fn mend(&mut self, wanted: &[Wanted]) -> Result<()>;
}

#[async_trait]
impl Half for Source<'_> {
    async fn tell(&mut self, ask: &Ask, skip: &[usize], settled: bool) -> Result<Told> {
        self.is_whole().await?;
        let topic = self.subscription.stream.topic();
        let extent = self.bus.log().extent(&topic).await?.unwrap_or_default();
        let begins = extent.into_iter().map(|(partition, (_, end))| (partition, end)).collect();
        let mut tally = Tally::new(ask.clone(), skip.to_vec());
        let place = self.read(&mut tally, settled).await?;
        let ends = self.passed(place).await?;
        let mut answer = tally.answer();
        // I5: what the grant may hide stays here.
        let keys =
            answer.details.iter_mut().filter_map(|(digest, row)| Some((*digest, row.source_key.take()?)));
        self.known.extend(keys);
        Ok(Told { answer, begins, ends, passed_over: 0 })
    }

    async fn mend(&mut self, wanted: &[Wanted]) -> Result<()> {
        let key = |wanted: &Wanted| match wanted {
            Wanted::Known(digest) => self.known.get(digest).cloned(),
            Wanted::Clear(key) => Some(key.clone()),
        };
        let keys: Vec<Row> = wanted.iter().filter_map(key).collect();
        match &self.capture.store.system {
            StoreSystem::Postgres { url, .. } => postgres::mend(&url.resolve()?, self.table, &keys).await,
            StoreSystem::Sqlite { path } => {
                let contract = Arc::clone(&self.subscription.stream.contract);
                let captured = sqlite::Captured { name: self.table.to_owned(), contract };
                sqlite::mend(path, &self.capture.name, captured, keys).await
            }
        }
    }
}

impl<'a> Source<'a> {
    /// Makes it; touches nothing. `Err(Config)` when this configuration does not capture the stream.
    pub fn new(
        plan: &'a Plan,
        bus: &'a Bus,
        subscription: &'a SubscriptionPlan,
        patience: Duration,
    ) -> Result<Self> {
        let stream = &subscription.stream.name;
        let found = plan.captures.iter().find_map(|capture| {
            let table = capture.tables.iter().find(|(_, fed)| fed.name == *stream);
            table.map(|(table, _)| (capture, table.as_str()))
        });
        let Some((capture, table)) = found else {
            let doing = format!("read the source of {stream}");
            return Err(Error::new(ErrorKind::Config, doing, "no capture of this configuration feeds it")
                .hint("run it with the configuration of the department that captures the stream"));
        };
        let permit = wire::permit(subscription)?;
        let projected = permit.projection();
        let place = Arc::new(Place::default());
        let origin = Origin { place, committed_us: 0, xid: None, lsn: None, transaction: None, last: false };
        let (bus_name, quality) = (plan.bus.name.as_str(), Quality::new());
        Ok(Self {
            bus,
            bus_name,
            capture,
            table,
            subscription,
            quality,
            permit,
            projected,
            patience,
            origin,
            known: BTreeMap::new(),
        })
    }

    /// Reads every row; returns the place that the capture must pass.
    async fn read(&mut self, tally: &mut Tally, settled: bool) -> Result<u64> {
        let contract = Arc::clone(&self.subscription.stream.contract);
        match &self.capture.store.system {
            StoreSystem::Postgres { url, .. } => {
                let url = url.resolve()?;
                let mut scan =
                    postgres::Scan::start(&url, self.table, contract, settled, self.patience).await?;
                while let Some(rows) = scan.chunk().await? {
                    rows.into_iter().for_each(|row| self.take(row, tally));
                }
                scan.place().await
            }
            StoreSystem::Sqlite { path } => {
                let captured = sqlite::Captured { name: self.table.to_owned(), contract };
                let mut scan = sqlite::Scan::start(path, &self.capture.name, captured).await?;
                while let Some(rows) = scan.chunk().await? {
                    rows.into_iter().for_each(|row| self.take(row, tally));
                }
                scan.place().await
            }
        }
    }

    /// Takes a row through the steps that its change went through.
    fn take(&mut self, scanned: Scanned, tally: &mut Tally) {
        let (row, refused) = match scanned {
            Ok(row) => (row, None),
            Err((_, rest)) => (rest, Some("not_carried")),
        };
        let source_key = self.subscription.stream.contract.key_of(&row);
        let change = self.change(row);
        let passed = match refused {
            Some(rule) => Err(rule),
            None => match self.quality.apply(change) {
                Verdict::Pass(change) => match self.permit.apply(change) {
                    Verdict::Pass(change) => Ok(change.after),
                    Verdict::Drop { .. } => Ok(None),
                    Verdict::Reject(rejected) => Err(rejected.rule),
                },
                Verdict::Drop { .. } => Ok(None),
                Verdict::Reject(rejected) => Err(rejected.rule),
            },
        };
        match passed {
            // A row outside of the filter is a delete, and is not in the replica.
            Ok(None) => {}
            Ok(Some(row)) => tally.add(&self.projected, &row, || Some(source_key)),
            Err(rule) => {
                let lone = self.change(self.subscription.stream.contract.key_row(&source_key));
                let key = self.permit.keys(&lone).into_iter().next();
                let row = key.map(|key| self.projected.key_row(&key));
                let key = row.and_then(|row| KeyDigest::of(&self.projected, &row));
                tally.aside(key, Aside { rule: rule.to_owned(), at_replica: false });
            }
        }
    }

    fn change(&self, row: Vec<Value>) -> Change {
        Change {
            contract: Arc::clone(&self.subscription.stream.contract),
            op: Op::Read,
            before: Before::None,
            after: Some(row),
            position: Position::START,
            source_position: Position::START,
            origin: self.origin.clone(),
        }
    }

    /// Refuses while what the capture has read of the table does not stand for it.
    async fn is_whole(&self) -> Result<()> {
        let name = match &self.capture.store.system {
            StoreSystem::Postgres { .. } => postgres::ident::TableName::parse(self.table)?.plain(),
            StoreSystem::Sqlite { .. } => self.table.to_owned(),
        };
        let doing = || format!("verify {}", self.subscription.name);
        let status = "`hutong status` says how far it is";
        let Some(checkpoint) = self.latest().await?.map(|last| last.checkpoint) else {
            let why = format!("capture {} has never committed", self.capture.name);
            return Err(Error::new(ErrorKind::Unavailable, doing(), why).hint("start it: `hutong run`"));
        };
        let stream = &self.subscription.stream.name;
        let suspended = checkpoint.suspended();
        if let Some(found) = suspended.iter().find(|found| found.table == name || found.table == *stream) {
            let why = format!("{name} is suspended, its changes are dropped: {}", found.reason);
            return Err(Error::new(ErrorKind::SchemaConflict, doing(), why)
                .hint("`hutong contract check` says what to do about it"));
        }
        if !checkpoint.snapshots().iter().any(|table| table.table == name && table.done) {
            let why = format!("the snapshot of {name} is still being read");
            return Err(Error::new(ErrorKind::Unavailable, doing(), why).hint(status));
        }
        Ok(())
    }

    async fn latest(&self) -> Result<Option<Watermark>> {
        let doing = || format!("read where capture {} stands", self.capture.name);
        let pipeline = self.capture.pipeline();
        let latest = hutong_bus::latest(self.bus.log().as_ref(), self.bus_name, &pipeline);
        let late = |_| Error::new(ErrorKind::Unavailable, doing(), "its checkpoint topic does not end");
        timeout(self.patience, latest).await.map_err(late)?
    }

    /// Waits until the capture has committed everything before a place of the source's log; returns where the topic
    /// then ends.
    async fn passed(&self, place: u64) -> Result<BTreeMap<u32, u64>> {
        let until = Instant::now() + self.patience;
        let (topic, partitions) = (self.subscription.stream.topic(), self.subscription.stream.partitions);
        let mut first: Option<Watermark> = None;
        loop {
            if let Some(last) = self.latest().await?.filter(|last| self.is_past(&last.checkpoint, place)) {
                // The ends lag one commit behind: the next record tells those of this one.
                match &first {
                    Some(first) if *first != last => {
                        let end = |partition| last.ends.get(&partition_key(&topic, partition)).copied();
                        return Ok((0..partitions).map(|p| (p, end(p).unwrap_or(0))).collect());
                    }
                    Some(_) => {}
                    None => first = Some(last),
                }
            }
            if Instant::now() >= until {
                let doing = format!("verify {}", self.subscription.name);
                let why = format!(
                    "capture {} has not come past what was read of {} within {} s",
                    self.capture.name,
                    self.table,
                    self.patience.as_secs()
                );
                return Err(Error::new(ErrorKind::Unavailable, doing, why).hint(
                    "`hutong status` says whether it runs and how far behind it is; --patience waits longer",
                ));
            }
            sleep(LOOK).await;
        }
    }

    fn is_past(&self, checkpoint: &Checkpoint, place: u64) -> bool {
        let Some(position) = checkpoint.positions.values().next() else { return false };
        match &self.capture.store.system {
            StoreSystem::Postgres { .. } => position.as_wal().is_some_and(|(_, lsn, ..)| lsn > place),
            StoreSystem::Sqlite { .. } => sqlite::reached(*position).is_ok_and(|seq| seq >= place),
        }
    }
}
