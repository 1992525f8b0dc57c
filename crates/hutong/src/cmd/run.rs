//! `hutong run`: everything that is configured, or what is named, until it is asked to stop.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, LaneId, Result};
use hutong_engine::{Metrics, Supervisor, supervisor::OnError};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{arguments, progress};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::exit::Exit;
use crate::http;
use crate::ledger::{Ends, Publisher};
use crate::share::{Roster, carry};
use crate::verify::scheduled;
use crate::wire::{self, Wire};

/// How long lanes may take to finish what they are committing.
const GRACE: Duration = Duration::from_secs(30);

pub(super) async fn run(config: &Path, options: &arguments::Run) -> Result<Exit> {
    // First of all: who is asked to stop while it begins ends as well as later.
    let mut supervisor = Supervisor::new();
    stop_on_signal(&mut supervisor)?;
    let plan = super::check::load(config)?;
    only_known(&plan, &options.only)?;
    let guard = http::token::Guard::of(&plan.http)?;
    let (board, metrics) = (wire::before::board(&plan), Metrics::new()?);
    let wire = Arc::new(Wire::connect(&plan, board.clone(), metrics.clone())?);
    let named = |pipeline: String| options.only.is_empty() || options.only.contains(&pipeline);
    let captures: Vec<_> = plan.captures.iter().filter(|c| named(c.pipeline().to_string())).collect();
    let subscriptions: Vec<_> =
        plan.subscriptions.iter().filter(|s| named(s.pipeline().to_string())).collect();
    let roster = Roster::of(&plan, &captures, &subscriptions);
    captures.iter().for_each(|c| metrics.lanes_configured(&c.pipeline(), 1));
    subscriptions.iter().for_each(|s| metrics.lanes_configured(&s.pipeline(), s.stream.partitions));
    if !roster.is_shared() {
        roster.places().iter().for_each(|place| wire.announced(&place.lane));
    }
    // Served once every lane is on the board: who looks early must not see a part and take it for all.
    let pulse = http::health::Pulse::default();
    supervisor.spawn("pulse", OnError::Continue, pulse.clone().beat(supervisor.token()));
    wire::watch::start(&mut supervisor, &plan, &wire, board.clone(), &metrics, |p| named(p.to_owned()));
    wire::before::keep(&mut supervisor, &plan, board.clone());
    let verifying = metrics.clone();
    let watched = http::status::Watched {
        board: board.clone(),
        metrics,
        pulse,
        group_lag: http::status::GroupLag::of(&plan),
        roster: roster.clone(),
    };
    let routes = guard.before(http::status::router(watched));
    let address = http::serve(&mut supervisor, "http", plan.http.address, routes).await?;
    info!(%address, "metrics and status");
    if let Some(address) = wire.serve_registry(&mut supervisor).await? {
        info!(%address, "schema registry");
    }
    let seals = captures.iter().any(|c| c.tables.iter().any(|(_, stream)| stream.contract.seals()));
    if let Some(ledger) = wire.ledger().filter(|_| seals || !subscriptions.is_empty()) {
        let asked = supervisor.token();
        tokio::select! {
            () = asked.cancelled() => {}
            read = ledger.catch_up() => {
                if let Err(problem) = read {
                    warn!(error = %problem, "the ledger cannot be read yet, so nothing flows");
                }
            }
        }
        supervisor.spawn("ledger", OnError::Continue, ledger.clone().follow(supervisor.token()));
    }
    publish(&mut supervisor, &plan, &wire, &subscriptions);
    for place in roster.places() {
        let task = carry(Arc::clone(&wire), place.clone(), supervisor.token());
        supervisor.spawn(place.lane.to_string(), OnError::Continue, task);
    }
    roster.attend(&mut supervisor, &wire);
    let shared = Arc::new(plan.clone());
    for (subscription, every) in subscriptions.iter().filter_map(|s| Some((*s, s.verify?))) {
        let pipeline = subscription.pipeline().to_string();
        verifying.verified().added(&pipeline);
        // Who runs its first lane compares for all: the others would read the same tables once more.
        let first =
            roster.places().iter().find(|p| p.lane == LaneId::new(subscription.pipeline(), 0)).cloned();
        let holds = move || first.as_ref().is_none_or(|place| place.holding.holds(&place.pair));
        let (shared, metrics) = (Arc::clone(&shared), verifying.clone());
        let task = scheduled(shared, subscription.clone(), every, holds, metrics, supervisor.token());
        supervisor.spawn(format!("verify {pipeline}"), OnError::Continue, task);
    }
    let ends = |s: &&SubscriptionPlan| s.principal.is_some() && s.until.is_some() && wire.ledger().is_none();
    for subscription in subscriptions.iter().copied().filter(ends) {
        let name = format!("the end of {}", subscription.name);
        let task = Arc::clone(&wire).close_at_the_end(subscription.clone(), supervisor.token());
        supervisor.spawn(name, OnError::Continue, task);
    }
    supervisor.spawn("progress", OnError::Continue, progress::tell(board, supervisor.token()));
    supervisor.wait(GRACE).await?;
    info!("stopped");
    Ok(Exit::Done)
}

/// Publishes the receipts of the subscriptions that are carried here, whichever process runs their lanes: one task a
/// department that owns their streams.
fn publish(supervisor: &mut Supervisor, plan: &Plan, wire: &Wire, subscriptions: &[&SubscriptionPlan]) {
    let (Some(ledger), Some(ledger_plan)) = (wire.ledger(), &plan.ledger) else { return };
    let owners: BTreeSet<&str> = subscriptions.iter().map(|s| s.stream.owner.as_str()).collect();
    for owner in owners {
        let ends = Ends {
            bus: plan.bus.name.clone(),
            zone: plan.bus.zone.clone(),
            log: Arc::clone(wire.bus().log()),
            append: Arc::clone(wire.bus().append()),
        };
        match Publisher::new(owner, ends, (ledger.clone(), ledger_plan.clone()), subscriptions) {
            Ok(publisher) => {
                let name = format!("receipts of {owner}");
                supervisor.spawn(name, OnError::Continue, publisher.run(supervisor.token()));
            }
            // Its lanes say the same.
            Err(problem) => warn!(department = owner, error = %problem, "receipts wait in the stores"),
        }
    }
}

fn only_known(plan: &Plan, only: &[String]) -> Result<()> {
    let known: Vec<String> = plan
        .captures
        .iter()
        .map(|c| c.pipeline().to_string())
        .chain(plan.subscriptions.iter().map(|s| s.pipeline().to_string()))
        .collect();
    match only.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(Error::new(ErrorKind::Config, format!("run {name}"), "there is no such pipeline")
            .hint(format!("the pipelines are {}", known.join(", ")))),
        None => Ok(()),
    }
}

/// I7: SIGTERM and Ctrl-C drain: what is being committed is finished, nothing new begins.
pub(super) fn stop_on_signal(supervisor: &mut Supervisor) -> Result<()> {
    let listen = |kind| signal(kind).map_err(|e| Error::caused(ErrorKind::Broken, "listen for signals", e));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let token = supervisor.token();
    supervisor.spawn("signals", OnError::Continue, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = token.cancelled() => return Ok(()),
        }
        info!("asked to stop: finishing what is being committed");
        token.cancel();
        Ok(())
    });
    Ok(())
}
