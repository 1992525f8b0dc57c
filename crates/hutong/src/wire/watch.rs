//! Looks now and then whether the bus and the stores answer, and what the sources keep back.
//!
//! Beside the lanes and with connections of its own: what a slot holds back grows just when no lane can open.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::log::Log;
use hutong_core::{Error, ErrorKind, Result};
use hutong_engine::parts::Retained;
use hutong_engine::supervisor::OnError;
use hutong_engine::{Board, Metrics, Parts, Supervisor, status::now_us};
use hutong_stores::{postgres, sqlite};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{Wire, certificates, ends, left};
use crate::config::Plan;
use crate::config::plan::{BusSystem, StorePlan, StoreSystem};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often is looked, at the most and at the least.
const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(10);

/// How often lanes are looked at for their verdicts.
const LOOK: Duration = Duration::from_millis(500);

/// Starts to look at everything that the pipelines use; `named` says which pipelines run.
pub fn start(
    supervisor: &mut Supervisor,
    plan: &Plan,
    wire: &Wire,
    board: Board,
    metrics: &Metrics,
    named: impl Fn(&str) -> bool,
) {
    let parts = metrics.parts();
    let captures: Vec<_> = plan.captures.iter().filter(|c| named(&c.pipeline().to_string())).collect();
    let subscriptions: Vec<_> =
        plan.subscriptions.iter().filter(|s| named(&s.pipeline().to_string())).collect();
    // As often as the quickest capture tells how fresh it is.
    let every = captures.iter().map(|c| c.watermark_interval).min().unwrap_or(SELDOM).clamp(OFTEN, SELDOM);
    let token = supervisor.token();
    supervisor.spawn("verdicts", OnError::Continue, judge(board.clone(), token.clone()));
    match &plan.bus.system {
        BusSystem::Embedded(embedded) => {
            let room = room(embedded.folder.clone(), parts.clone(), every, token.clone());
            supervisor.spawn("watch the disk", OnError::Continue, room);
        }
        // Only there others may write too.
        BusSystem::Kafka(kafka) => {
            let (log, bus) = (Arc::clone(wire.bus().log()), (plan.bus.name.as_str(), kafka.brokers.as_str()));
            let look = left::Look::of(log, bus, board.clone(), &subscriptions).watch(every, token.clone());
            supervisor.spawn("watch for open transactions", OnError::Continue, look);
        }
    }
    let markers = matches!(plan.bus.system, BusSystem::Kafka(_));
    let ends = ends::Look::of(Arc::clone(wire.bus().log()), board.clone(), markers, &subscriptions);
    supervisor.spawn("watch the topics' ends", OnError::Continue, ends.watch(every, token.clone()));
    let streams = captures.iter().flat_map(|c| c.tables.iter().map(|(_, stream)| stream));
    if let Some(stream) = streams.chain(subscriptions.iter().map(|s| &s.stream)).next() {
        parts.bus_added(now_us());
        let bus = bus(Arc::clone(wire.bus().log()), stream.topic(), parts.clone(), every, token.clone());
        supervisor.spawn("watch the bus", OnError::Continue, bus);
    }
    let used: BTreeSet<&str> = captures
        .iter()
        .map(|c| c.store.name.as_str())
        .chain(subscriptions.iter().filter_map(|s| Some(s.into.store()?.name.as_str())))
        .collect();
    let files = certificates::named(plan, &used);
    if !files.is_empty() {
        let certificates = certificates::watch(files, metrics.certificates().clone(), token.clone());
        supervisor.spawn("watch the certificates", OnError::Continue, certificates);
    }
    for store in used.iter().filter_map(|name| plan.stores.get(*name)) {
        parts.store_added(&store.name, now_us());
        let captured = captures.iter().filter(|c| c.store.name == store.name);
        let captured: Vec<String> = captured.map(|c| c.name.clone()).collect();
        let asked = match Asked::of(store, captured, parts) {
            Ok(asked) => asked,
            Err(problem) => {
                // Its lanes say the same; the others go on.
                parts.store(&store.name, Some(&problem), now_us());
                continue;
            }
        };
        let watch = watch(asked, store.name.clone(), parts.clone(), every, token.clone());
        supervisor.spawn(format!("watch store {}", store.name), OnError::Continue, watch);
    }
}

/// A store that is asked.
enum Asked {
    Postgres(Box<postgres::Pulse>),
    Sqlite(PathBuf),
}

impl Asked {
    fn of(store: &StorePlan, captures: Vec<String>, parts: &Parts) -> Result<Self> {
        Ok(match &store.system {
            StoreSystem::Postgres { url, .. } => {
                captures.iter().for_each(|capture| parts.capture_added(capture));
                Self::Postgres(Box::new(postgres::Pulse::new(url.resolve()?, captures)))
            }
            StoreSystem::Sqlite { path } => Self::Sqlite(path.clone()),
        })
    }

    async fn ask(&mut self, store: &str, parts: &Parts) -> Result<()> {
        match self {
            Self::Postgres(pulse) => {
                let vital = pulse.ask(now_us).await?;
                parts.clock(store, vital.clock_us);
                vital.gone.iter().for_each(|capture| parts.vanished(capture));
                for kept in vital.kept {
                    let retained =
                        Retained { bytes: kept.bytes, safe_bytes: kept.safe_bytes, lost: kept.lost };
                    parts.retained(&kept.capture, retained);
                }
                Ok(())
            }
            Self::Sqlite(path) => {
                let path = path.clone();
                let asked = tokio::task::spawn_blocking(move || sqlite::answers(&path));
                asked.await.unwrap_or_else(|e| Err(Error::caused(ErrorKind::Broken, "ask a SQLite file", e)))
            }
        }
    }
}

async fn watch(
    mut asked: Asked,
    store: String,
    parts: Parts,
    every: Duration,
    token: CancellationToken,
) -> Result<()> {
    let mut ticks = ticks(every);
    while tick(&mut ticks, &token).await {
        let answer = within(format!("ask store {store}"), asked.ask(&store, &parts)).await;
        parts.store(&store, answer.as_ref().err(), now_us());
    }
    Ok(())
}

async fn bus(
    log: Arc<dyn Log>,
    topic: String,
    parts: Parts,
    every: Duration,
    token: CancellationToken,
) -> Result<()> {
    let mut ticks = ticks(every);
    while tick(&mut ticks, &token).await {
        // Any answer is good, also that there is no such topic yet.
        let answer = within("ask the bus".into(), async { log.extent(&topic).await.map(drop) }).await;
        parts.bus(answer.as_ref().err(), now_us());
    }
    Ok(())
}

/// Tells how much room the folder of an embedded bus has.
async fn room(folder: PathBuf, parts: Parts, every: Duration, token: CancellationToken) -> Result<()> {
    let mut ticks = ticks(every);
    while tick(&mut ticks, &token).await {
        // A folder that is not there yet, or a system that does not tell, shows nothing.
        if let Ok(disk) = rustix::fs::statvfs(&folder) {
            parts.bus_free(disk.f_bavail.saturating_mul(disk.f_frsize));
        }
    }
    Ok(())
}

/// Looks at the lanes for their verdicts until it is asked to stop.
async fn judge(board: Board, token: CancellationToken) -> Result<()> {
    let mut ticks = ticks(LOOK);
    while tick(&mut ticks, &token).await {
        board.look(now_us());
    }
    Ok(())
}

pub(super) fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next look; `false` when there is none any more.
pub(super) async fn tick(ticks: &mut tokio::time::Interval, token: &CancellationToken) -> bool {
    tokio::select! {
        _ = ticks.tick() => true,
        () = token.cancelled() => false,
    }
}

pub(super) async fn within<T>(doing: String, answer: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let why = format!("no answer in {} s", PATIENCE.as_secs());
            Err(Error::new(ErrorKind::Unavailable, doing, why))
        }
    }
}
