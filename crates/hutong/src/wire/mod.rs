//! Where adapters meet the engine: a plan becomes lanes.
//!
//! Nothing below `hutong` knows both a store and a topic; nothing else here knows any of their insides.

mod about;
mod anew;
mod back;
pub mod before;
mod bus;
pub mod bytes;
mod certificates;
mod count;
mod deliver;
mod ends;
mod entrusting;
mod granted;
pub mod items;
mod left;
pub mod probe;
pub mod readers;
mod receipts;
mod record;
mod rewind;
mod sealing;
mod stands;
pub mod steer;
mod store;
mod versions;
pub mod watch;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hutong_bus::log::{Log, checkpoint_topic};
use hutong_bus::succession::Reader;
use hutong_bus::{Delivery, Limits, TopicSink, TopicSinkConfig, TopicSource, TopicSourceConfig, TopicStream};
use hutong_core::grant::{Content, Permit, end_us};
use hutong_core::quality::Quality;
use hutong_core::{Contract, Error, ErrorKind, Kind, LaneId, PipelineId, Result, Sink, Step};
use hutong_engine::status::{Promise, now_us};
use hutong_engine::{Ahead, Board, Lane, Metrics, Settings, Supervisor};
use tracing::error;

pub use self::about::{About, about};
pub use self::anew::{Standing, Topic, losses, reread, reset, standing};
pub use self::back::{Base, back, bases, begun};
pub use self::bus::Bus;
pub use self::count::{Counted, count, sample};
pub use self::deliver::{begin_anew, generations};
pub use self::receipts::Receipts;
pub use self::record::record_at;
pub use self::rewind::{order, rewind};
pub use self::sealing::Seals;
pub use self::stands::{Stand, stands};
pub use self::store::{Department, compare, draft, install, remove};
pub use self::versions::{Versions, versions};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, StorePlan, SubscriptionPlan, Target};
use crate::http;
use crate::ledger::Ledger;

/// How often a capture of another configuration is taken to say that it is complete.
const INTERVAL: Duration = Duration::from_secs(5);

/// One process's connections: the bus and the stores, shared by its lanes.
pub struct Wire {
    bus: Bus,
    bus_name: String,
    /// Made when the first of its lanes is: whoever runs one half holds no secret of the other.
    stores: Mutex<HashMap<String, Arc<Department>>>,
    /// Subscription to what its lanes share that deliver into a topic.
    deliveries: Mutex<HashMap<String, Arc<Delivery>>>,
    quarantine_limit: u64,
    board: Board,
    metrics: Metrics,
    /// Shared by the lanes of all replicas.
    ahead: Ahead,
    registry_address: Option<SocketAddr>,
    /// Stream to how often its capture says that it is complete, where the capture is of this configuration.
    intervals: HashMap<String, Duration>,
    /// Stream to the subscriptions of this configuration that read it.
    readers: HashMap<String, Vec<Reader>>,
    zone: jiff::tz::TimeZone,
    history: Duration,
    ledger: Option<Ledger>,
    seals: Seals,
}

impl Wire {
    /// Opens the bus; a store is touched only when one of its lanes opens.
    pub fn connect(plan: &Plan, board: Board, metrics: Metrics) -> Result<Self> {
        let (bus, registry_address) = Bus::open(&plan.bus)?;
        let ledger = plan.ledger.as_ref();
        let ledger = ledger.map(|ledger| {
            let ledger = Ledger::new(ledger, plan, Arc::clone(bus.log()));
            ledger.tell(metrics.ledgered().clone());
            ledger
        });
        let intervals = plan.captures.iter().flat_map(|capture| {
            capture.tables.iter().map(|(_, stream)| (stream.name.clone(), capture.watermark_interval))
        });
        Ok(Self {
            bus,
            bus_name: plan.bus.name.clone(),
            stores: Mutex::default(),
            deliveries: Mutex::default(),
            quarantine_limit: plan.limits.quarantine,
            board,
            metrics,
            ahead: Ahead::default(),
            registry_address,
            intervals: intervals.collect(),
            readers: plan.streams.values().map(|s| (s.name.clone(), readers::of(plan, s))).collect(),
            zone: plan.bus.zone.clone(),
            history: plan.bus.history,
            ledger,
            seals: Seals::of(plan),
        })
    }

    /// Returns the bus.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Serves the embedded bus's registry; `None` on Kafka, which has one of its own.
    pub async fn serve_registry(&self, supervisor: &mut Supervisor) -> Result<Option<SocketAddr>> {
        let (Some(registry), Some(address)) = (self.bus.embedded_registry(), self.registry_address) else {
            return Ok(None);
        };
        http::serve(supervisor, "registry", address, http::registry::router(registry)).await.map(Some)
    }

    /// Makes the lane of a capture.
    pub fn capture(&self, capture: &CapturePlan) -> Result<Lane> {
        let id = LaneId::new(capture.pipeline(), 0);
        let streams = capture.tables.iter().map(|(table, stream)| {
            Ok(TopicStream {
                contract: Arc::clone(&stream.contract),
                topic: stream.topic(),
                partitions: stream.partitions,
                partition: None,
                compatibility: Some(stream.compatibility.name().to_owned()),
                readers: self.readers.get(&stream.name).cloned().unwrap_or_default(),
                anew: anew::again(capture, |name| name == table.as_str(), "the contract fits again")?,
            })
        });
        let (streams, bus) = (streams.collect::<Result<_>>()?, self.bus_name.clone());
        let config = TopicSinkConfig { streams, bus, history: self.history };
        let sink = TopicSink::new(Arc::clone(self.bus.log()), Arc::clone(self.bus.registry()), config);
        let sink = sink.sealing(self.seals.sealing(capture)?);
        let source = self.store(&capture.store)?.source(capture)?;
        capture.tables.iter().for_each(|(_, stream)| {
            self.metrics.latency().stream_added(&stream.contract.stream);
            self.metrics.stream_captured(&stream.contract.stream);
        });
        let entry = self.board.add(id.clone(), us(capture.watermark_interval), now_us());
        let told = entry.clone();
        let sink = sink.telling_versions(Arc::new(move |topic, version| told.schema(topic, version)));
        Ok(Lane {
            source,
            steps: vec![Box::new(sink.suspension()), Box::new(Quality::new())],
            sink: self.entrusting(capture, sink),
            settings: Settings { quarantine_limit: self.quarantine_limit, ends_us: None },
            entry,
            metrics: self.metrics.clone(),
            // Alone: a large transaction of a department must not make the replicas' commits small.
            ahead: Ahead::default(),
            id,
        })
    }

    /// Returns the ledger that says what may flow; `None`: the configuration says it.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Makes the lanes of a subscription, into its store or its topic: one a partition of its stream.
    ///
    /// `Err(Denied)` under a ledger, which says what flows and when: see [`Wire::replicate_under`].
    pub fn replicate(&self, subscription: &SubscriptionPlan) -> Result<Vec<Lane>> {
        (0..subscription.stream.partitions)
            .map(|partition| self.replicate_one(subscription, partition))
            .collect()
    }

    /// Makes one lane of a subscription; `Err(Denied)` under a ledger.
    pub fn replicate_one(&self, subscription: &SubscriptionPlan, partition: u32) -> Result<Lane> {
        if self.ledger.is_some() {
            let doing = format!("deliver to {}", subscription.name);
            return Err(Error::new(ErrorKind::Denied, doing, "the ledger was not asked"));
        }
        self.replicate_lane(subscription, partition, None)
    }

    /// `number`: that of the grant, under a ledger.
    fn replicate_lane(
        &self,
        subscription: &SubscriptionPlan,
        partition: u32,
        number: Option<u64>,
    ) -> Result<Lane> {
        let id = LaneId::new(subscription.pipeline(), partition);
        let permit = permit(subscription).inspect_err(|_| self.metrics.policy_failed(&id))?;
        let stream = &subscription.stream;
        let interval = self.intervals.get(&stream.name).copied().unwrap_or(INTERVAL);
        let config = TopicSourceConfig {
            topic: stream.topic(),
            partition,
            contract: Arc::clone(&stream.contract),
            checkpoint_topic: stream
                .capture
                .as_ref()
                .map(|name| checkpoint_topic(&self.bus_name, &PipelineId::new(Kind::Capture, name))),
            pipeline: Some(id.pipeline.clone()),
            foreign_before_full: false,
            limits: Limits { watermark_interval: interval, ..Limits::default() },
        };
        self.bus.shared().expect(&config.topic, partition);
        let log: Arc<dyn Log> = Arc::clone(self.bus.shared()) as _;
        // I5: a delivery topic would hold in clear what is sealed; without keys its lane does not open.
        let unsealing = match subscription.into {
            Target::Table { .. } => self.seals.unsealing(&self.bus_name, subscription)?,
            Target::Topic => None,
        };
        let source = TopicSource::new(log, Arc::clone(self.bus.registry()), config).unsealing(unsealing);
        let (mark, projection) = (mark(subscription)?, permit.projection());
        let content = subscription.grant()?.content(self::permit(subscription)?, &place(subscription), &mark);
        let sink: Box<dyn Sink> = match subscription.into {
            Target::Table { .. } => {
                self.sink(subscription, &id, mark, (Some((projection, content)), number))?
            }
            Target::Topic => Box::new(self.delivery(subscription, mark, projection).sink(number)),
        };
        let steps: Vec<Box<dyn Step>> = vec![Box::new(permit)];
        self.metrics.latency().stream_added(&stream.contract.stream);
        let entry = self.board.add(id.clone(), us(interval), now_us());
        // Of a topic that another program writes nobody here knows how long it is kept.
        let history = stream.capture.as_ref().map(|_| self.history);
        if history.is_none() {
            self.metrics.foreign_added(&id);
        }
        let unmarked = stream.capture.is_none();
        entry.promise(Promise { freshness: Some(subscription.freshness), history, unmarked });
        Ok(Lane {
            source: Box::new(source),
            steps,
            sink,
            settings: Settings {
                quarantine_limit: self.quarantine_limit,
                ends_us: subscription.until.and_then(|until| end_us(until, &self.zone)),
            },
            entry,
            metrics: self.metrics.clone(),
            ahead: self.ahead.clone(),
            id,
        })
    }

    fn sink(
        &self,
        subscription: &SubscriptionPlan,
        id: &LaneId,
        grant: String,
        (written, number): (Option<(Arc<Contract>, Content)>, Option<u64>),
    ) -> Result<Box<dyn Sink>> {
        let (store, table) = subscription.replica("write")?;
        let (contract, content) = written.unzip();
        self.store(store)?.sink(store::Replica {
            lane: id.clone(),
            table: table.to_owned(),
            grant,
            partitions: subscription.stream.partitions,
            contract,
            content,
            number,
            quarantine_limit: self.quarantine_limit,
        })
    }

    /// Shows a lane that could not even be made: the others go on.
    pub fn cannot_run(&self, lane: LaneId, problem: &Error) {
        let hint = problem.hint.as_deref().unwrap_or("");
        error!(%lane, error = %problem, hint, "halted");
        self.metrics.lane_added(&lane);
        self.board.add(lane, 0, now_us()).halted(problem, now_us());
    }

    fn store(&self, plan: &StorePlan) -> Result<Arc<Department>> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&plan.name) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(Department::new(plan)?);
        stores.insert(plan.name.clone(), Arc::clone(&store));
        Ok(store)
    }
}

fn us(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the mark of what a subscription's lanes write.
///
/// A new generation of the topic, or another number of partitions, is other rows in other lanes: like another grant, it
/// fills the replica anew.
pub fn mark(subscription: &SubscriptionPlan) -> Result<String> {
    Ok(format!("{} {}", subscription.grant()?.digest(), place(subscription)))
}

fn place(subscription: &SubscriptionPlan) -> String {
    format!("{} {}", subscription.stream.topic(), subscription.stream.partitions)
}

/// Returns the step that lets through just what a subscription is granted (I5).
pub fn permit(subscription: &SubscriptionPlan) -> Result<Permit> {
    let contract = Arc::clone(&subscription.stream.contract);
    let permit = Permit::new(contract, &subscription.grant()?).map_err(|problems| {
        let why = problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>().join("; ");
        Error::new(ErrorKind::Config, format!("compile the grant of {}", subscription.name), why)
    })?;
    Ok(match subscription.into {
        Target::Table { .. } => permit,
        Target::Topic => permit.told(),
    })
}
