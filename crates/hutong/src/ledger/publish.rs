//! The receipts of a department's streams: out of the subscribers' stores into its topic, each once, and rooted day by
//! day in the ledger.
//!
//! Beside the lanes, and behind them: what a lane has committed is proved in its store already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hutong_bus::ledger::Append;
use hutong_bus::log::{Headers, Log, Outgoing, Writer};
use hutong_bus::receipts;
use hutong_core::ledger::{Act, Head, Kept, Receipt};
use hutong_core::{Error, ErrorKind, Kind, LaneId, PipelineId, Result};
use hutong_engine::status::now_us;
use jiff::Span;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::custody::private_key;
use super::follow::Ledger;
use super::reading::Reading;
use crate::config::plan::{LedgerPlan, SubscriptionPlan};
use crate::moment::today;
use crate::wire::Receipts;

/// How often the stores are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How many receipts one transaction publishes.
const BATCH: usize = 1_000;

/// How long published receipts are kept (DOMAIN, "Clocks"). Only what a root covers goes.
const KEPT_YEARS: i32 = 3;

/// What was published: it commits with the records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    version: u32,
    /// The day on which the last one was published.
    day: Date,
    /// How many receipts the topic holds, and the digest over them.
    head: Head,
    /// Department and lane to the head of its chain.
    lanes: BTreeMap<String, Head>,
    /// What was published when the day before ended.
    #[serde(default)]
    closed: Option<Closed>,
}

/// What was published when a day ended: a root of that day proves all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    /// How many receipts the topic held.
    sequence: u64,
    /// Department and lane to the head of its chain.
    lanes: BTreeMap<String, Head>,
}

/// The newest version of [`Published`] that this program reads, and the one that it writes.
const VERSION: u32 = 2;

impl Published {
    /// Returns how far the receipts of each lane are proved by a root over so many of the topic; the most that is known.
    fn proved(&self, rooted: u64) -> Option<&BTreeMap<String, Head>> {
        if rooted >= self.head.sequence {
            return Some(&self.lanes);
        }
        self.closed.as_ref().filter(|closed| rooted >= closed.sequence).map(|closed| &closed.lanes)
    }
}

/// Whose receipts a store holds.
struct Recipient {
    department: String,
    subscription: String,
    stream: String,
    pipeline: PipelineId,
}

impl Recipient {
    /// Returns by what a lane of its is known among those of all departments.
    fn name(&self, lane: &str) -> String {
        format!("{} {lane}", self.department)
    }
}

/// The writer of the topic, and what it has published.
type Open = (Box<dyn Writer>, Published);

/// Publishes the receipts of one department's streams.
pub struct Publisher {
    owner: String,
    bus: String,
    zone: TimeZone,
    log: Arc<dyn Log>,
    append: Arc<dyn Append>,
    ledger: Ledger,
    plan: LedgerPlan,
    stores: Vec<(Receipts, Vec<Recipient>)>,
    /// Open while it is the last one that was.
    open: Option<Open>,
    /// Whether it was said that no root can be signed here.
    keyless: bool,
    /// The root up to which the stores have forgotten.
    forgotten: u64,
}

/// What a publisher works over.
pub struct Ends {
    /// The bus's name.
    pub bus: String,
    /// The zone in which a day ends.
    pub zone: TimeZone,
    /// The topics.
    pub log: Arc<dyn Log>,
    /// Where roots are written.
    pub append: Arc<dyn Append>,
}

impl Publisher {
    /// Makes the publisher of a department for those subscriptions of this process that are given; touches nothing.
    pub fn new(
        owner: &str,
        ends: Ends,
        (ledger, plan): (Ledger, LedgerPlan),
        subscriptions: &[&SubscriptionPlan],
    ) -> Result<Self> {
        let mut stores: BTreeMap<(bool, &str), (Receipts, Vec<Recipient>)> = BTreeMap::new();
        for subscription in subscriptions.iter().filter(|s| s.stream.owner == owner) {
            let recipient = Recipient {
                department: subscription.department.clone(),
                subscription: subscription.name.clone(),
                stream: subscription.stream.name.clone(),
                pipeline: subscription.pipeline(),
            };
            // A delivery keeps its own, a store those of all its lanes.
            let store = subscription.into.store();
            let place = (store.is_some(), store.map_or(subscription.name.as_str(), |store| &store.name));
            match stores.get_mut(&place) {
                Some((_, recipients)) => recipients.push(recipient),
                None => {
                    let receipts = match store {
                        Some(store) => Receipts::of(store)?,
                        None => Receipts::of_delivery(&ends.log, &ends.bus, subscription.pipeline()),
                    };
                    stores.insert(place, (receipts, vec![recipient]));
                }
            }
        }
        let Ends { bus, zone, log, append } = ends;
        let stores = stores.into_values().collect();
        let owner = owner.to_owned();
        Ok(Self {
            owner,
            bus,
            zone,
            log,
            append,
            ledger,
            plan,
            stores,
            open: None,
            keyless: false,
            forgotten: 0,
        })
    }

    /// Publishes until it is asked to stop. What it could not publish then, the next one does.
    pub async fn run(mut self, token: CancellationToken) -> Result<()> {
        let mut well = true;
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            // A round ends soon; what it has not committed comes again.
            let round = tokio::select! {
                () = token.cancelled() => return Ok(()),
                round = self.round() => round,
            };
            match round {
                Ok(()) if !well => info!(department = self.owner, "receipts are published again"),
                // Another process publishes those of its subscriptions: each takes the topic over for a round.
                Err(problem) if problem.kind == ErrorKind::Fenced => continue,
                Err(problem) => {
                    if well {
                        let hint = problem.hint.clone().unwrap_or_default();
                        warn!(department = self.owner, error = %problem, hint, "receipts wait in the stores");
                    }
                    well = false;
                    continue;
                }
                Ok(()) => {}
            }
            well = true;
        }
    }

    /// Publishes what is new. After `Err` the next round asks the topic where it stands.
    pub(super) async fn round(&mut self) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.take_over().await?,
        };
        self.root(&open.1).await?;
        let mut missed = None;
        for at in 0..self.stores.len() {
            missed = self.store(at, &mut open).await?.or(missed);
        }
        // Behind what was published: so a store that was set back loses nothing that nobody has seen.
        if missed.is_none() {
            missed = self.forget(&open.1).await.err();
        }
        self.open = Some(open);
        missed.map_or(Ok(()), Err)
    }

    async fn take_over(&mut self) -> Result<Open> {
        let topic = self.topic();
        for drift in self.log.ensure(&receipts::spec(&topic)).await? {
            warn!(topic, drift, "the receipt topic is not as it should be");
        }
        let lane = LaneId::new(PipelineId::new(Kind::Receipt, &self.owner), 0);
        let mut writer = self.log.writer(&lane).await?;
        let published = match writer.open().await? {
            None => Published {
                version: VERSION,
                day: self.today(),
                head: self.plan.charter.receipts(&self.owner),
                lanes: BTreeMap::new(),
                closed: None,
            },
            Some(bytes) => read(&bytes, &topic)?,
        };
        Ok((writer, published))
    }

    fn topic(&self) -> String {
        receipts::topic(&self.bus, &self.owner)
    }

    fn today(&self) -> Date {
        today(&self.zone)
    }

    /// Publishes what the lanes of a store have left since. A store that is away is `Ok` with its error: it keeps no
    /// other's receipts back.
    async fn store(&mut self, at: usize, open: &mut Open) -> Result<Option<Error>> {
        let (topic, today) = (self.topic(), self.today());
        let (receipts, recipients) = &mut self.stores[at];
        let heads = match receipts.heads().await {
            Ok(heads) => heads,
            Err(problem) => return Ok(Some(problem)),
        };
        for (lane, head) in heads {
            let of_lane = |to: &&Recipient| to.pipeline.partition(&lane).is_some();
            let Some(to) = recipients.iter().find(of_lane) else { continue };
            loop {
                let last = open.1.lanes.get(&to.name(&lane)).copied();
                if last == Some(head) {
                    break;
                }
                let found = match fresh(receipts, &lane, last).await {
                    Ok(found) => found,
                    Err(problem) => return Ok(Some(problem)),
                };
                if found.is_empty() {
                    break;
                }
                publish(open, &topic, today, (to, &lane), found).await?;
            }
        }
        Ok(None)
    }

    /// Signs the root of the day on which the last receipt was published, when that day is over.
    async fn root(&mut self, published: &Published) -> Result<()> {
        let day = published.day;
        let rooted = self.ledger.book().roots(&self.owner).last().map_or(0, |root| root.receipts.sequence);
        if day >= self.today() || published.head.sequence <= rooted {
            return Ok(());
        }
        let key = match private_key(&self.plan, &self.owner) {
            Ok(key) => key,
            Err(problem) => {
                if !std::mem::replace(&mut self.keyless, true) {
                    let department = &self.owner;
                    let hint = format!("`hutong ledger root {department}`, daily, where {department} acts");
                    warn!(department, error = %problem, hint, "the receipts of a day are not rooted from here");
                }
                return Ok(());
            }
        };
        let mut reading = Reading::new(&self.bus, self.plan.charter.clone(), false);
        reading.catch_up(self.log.as_ref()).await?;
        if reading
            .book
            .roots(&self.owner)
            .last()
            .is_some_and(|root| root.receipts.sequence >= published.head.sequence)
        {
            return Ok(());
        }
        let act = Act::Rooted { day, receipts: published.head };
        reading.append((self.log.as_ref(), self.append.as_ref()), &self.owner, &key, act).await?;
        info!(department = self.owner, %day, receipts = published.head.sequence, "rooted");
        self.trim_old(&reading).await
    }

    /// Forgets in the stores what a root proves, whoever has signed it.
    async fn forget(&mut self, published: &Published) -> Result<()> {
        let rooted = self.ledger.book().roots(&self.owner).last().map_or(0, |root| root.receipts.sequence);
        if rooted == self.forgotten {
            return Ok(());
        }
        let Some(proved) = published.proved(rooted) else { return Ok(()) };
        for (receipts, recipients) in &mut self.stores {
            for (name, head) in proved {
                let Some((department, lane)) = name.split_once(' ') else { continue };
                let own =
                    |to: &Recipient| to.department == department && to.pipeline.partition(lane).is_some();
                if recipients.iter().any(own) {
                    receipts.forget(lane, head.sequence).await?;
                }
            }
        }
        self.forgotten = rooted;
        Ok(())
    }

    /// Forgets in the topic what a root has proved for years.
    async fn trim_old(&mut self, reading: &Reading) -> Result<()> {
        let Ok(oldest) = self.today().checked_sub(Span::new().years(KEPT_YEARS)) else { return Ok(()) };
        let roots = reading.book.roots(&self.owner);
        match roots.iter().rfind(|root| root.day < oldest) {
            Some(root) => trim(self.log.as_ref(), &self.topic(), root.receipts.sequence).await,
            None => Ok(()),
        }
    }
}

/// Publishes receipts of one lane.
async fn publish(
    (writer, published): &mut Open,
    topic: &str,
    today: Date,
    (to, lane): (&Recipient, &str),
    found: Vec<Kept>,
) -> Result<()> {
    let mut next = Published { version: VERSION, day: today, ..published.clone() };
    if published.day < today {
        next.closed = Some(Closed { sequence: published.head.sequence, lanes: published.lanes.clone() });
    }
    let topic: Arc<str> = topic.into();
    let mut records = Vec::with_capacity(found.len());
    for kept in found {
        let receipt = Receipt {
            number: next.head.sequence.saturating_add(1),
            department: to.department.clone(),
            subscription: to.subscription.clone(),
            stream: to.stream.clone(),
            lane: lane.to_owned(),
            written: kept.written,
            deleted: kept.deleted,
            quarantined: kept.quarantined,
            at_us: kept.at_us,
            proof: kept.proof,
        };
        let name = to.name(lane);
        let goes_on = next.lanes.get(&name).is_none_or(|last| receipt.proof.follows(lane, last));
        if let Some(closed) = next.closed.as_mut().filter(|_| !goes_on) {
            // Of another history no root says anything yet.
            closed.lanes.remove(&name);
        }
        let record = receipt.record();
        next.head = next.head.after(Some(&record));
        next.lanes.insert(name, receipt.proof.head());
        records.push(Outgoing {
            topic: Arc::clone(&topic),
            partition: 0,
            key: None,
            value: Some(record.into()),
            headers: Headers::new(),
        });
    }
    let checkpoint = serde_json::to_vec(&next).expect("texts and numbers print");
    // I2: records and what was published are one transaction, so each receipt stands in the topic once.
    writer.commit(records, Bytes::from(checkpoint)).await?;
    *published = next;
    Ok(())
}

fn read(bytes: &[u8], topic: &str) -> Result<Published> {
    let doing = || format!("read what was published to {topic}");
    let published: Published =
        serde_json::from_slice(bytes).map_err(|e| Error::caused(ErrorKind::Broken, doing(), e))?;
    if published.version > VERSION {
        return Err(Error::new(ErrorKind::Config, doing(), "a newer Hutong wrote it").hint("use that one"));
    }
    Ok(published)
}

/// Returns the receipts of a lane that follow the last published one. Of a lane whose history is another one, for its
/// store was set back or made anew, all that the store has: whoever reads them sees both.
async fn fresh(receipts: &mut Receipts, lane: &str, last: Option<Head>) -> Result<Vec<Kept>> {
    let Some(last) = last else { return receipts.since(lane, 0, BATCH).await };
    let mut found = receipts.since(lane, last.sequence, BATCH + 1).await?;
    match found.first() {
        Some(first) if first.proof.head() == last => drop(found.remove(0)),
        Some(first) if first.proof.follows(lane, &last) => found.truncate(BATCH),
        _ => found = receipts.since(lane, 0, BATCH).await?,
    }
    Ok(found)
}

/// Removes the receipts up to a number from their topic: they end at a root, so that what follows can be verified.
pub(super) async fn trim(log: &dyn Log, topic: &str, upto: u64) -> Result<()> {
    let mut base = None;
    receipts::walk(log, topic, |record| {
        let number = record.value.as_deref().and_then(|value| Receipt::read(value).ok()).map(|r| r.number);
        if number.is_some_and(|number| number > upto) {
            base = Some(record.offset);
            return Ok(false);
        }
        // All of them are old.
        base = Some(record.offset + 1);
        Ok(true)
    })
    .await?;
    if let Some(base) = base {
        log.trim(topic, 0, base, now_us()).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "publish_test.rs"]
mod tests;
