//! Comparisons by schedule, beside the lanes of a running process.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Contract, Result};
use hutong_engine::Metrics;
use hutong_engine::status::now_us;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::check::Report;
use super::{Replica, Settings, check, columns, source_half};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::ledger::granted;
use crate::wire::Bus;

/// How long the capture and the lanes may take to come to what was read: nobody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a comparison that could not be made waits for its next try, unless the schedule is shorter.
const AGAIN: Duration = Duration::from_secs(300);

/// Compares one subscription each time that `every` has passed, until it is asked to stop. Mends nothing: whoever is
/// told of a difference decides. `holds` says whether this process is the one of several that does it.
pub async fn scheduled(
    plan: Arc<Plan>,
    subscription: SubscriptionPlan,
    every: Duration,
    holds: impl Fn() -> bool + Send,
    metrics: Metrics,
    token: CancellationToken,
) -> Result<()> {
    let pipeline = subscription.pipeline().to_string();
    let mut wait = every;
    loop {
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        if !holds() {
            metrics.verified().elsewhere(&pipeline);
            wait = every.min(AGAIN);
            continue;
        }
        let compared = tokio::select! {
            () = token.cancelled() => return Ok(()),
            compared = compare(&plan, &subscription) => compared,
        };
        wait = match compared {
            Ok((report, contract)) => {
                metrics.verified().done(&pipeline, report.differing().count(), now_us());
                told(&pipeline, &report, &contract);
                every
            }
            Err(problem) => {
                let hint = problem.hint.as_deref().unwrap_or("");
                warn!(pipeline, error = %problem, hint, "the replica could not be compared with its source");
                every.min(AGAIN)
            }
        };
    }
}

async fn compare(plan: &Plan, configured: &SubscriptionPlan) -> Result<(Report, Arc<Contract>)> {
    let bus = Bus::look(&plan.bus)?;
    let subscription = granted(plan, &bus, configured).await?;
    let mut source = source_half(plan, &bus, &subscription, false, PATIENCE)?;
    let mut replica = Replica::new(&bus, &subscription, PATIENCE)?;
    let contract = Arc::clone(replica.projected());
    let report = check(source.as_mut(), &mut replica, Settings::default()).await?;
    Ok((report, contract))
}

/// Logs what was found: kinds and columns, never a key or a value.
fn told(pipeline: &str, report: &Report, contract: &Contract) {
    let differ = report.differing().count();
    let rows = report.source_rows;
    if differ == 0 && report.is_whole() {
        info!(pipeline, rows, "compared with the source: nothing differs");
        return;
    }
    if differ == 0 {
        let (changing, waiting) =
            (report.moving().count(), report.waiting().values().sum::<u64>() + report.unknown);
        let (left, columns) = (report.left + report.left_keys as u64, report.uncertain.len());
        info!(
            pipeline,
            rows,
            changing,
            waiting,
            left,
            columns,
            "compared with the source: nothing differs in what could be compared, which is not all"
        );
        return;
    }
    let mut altered: Vec<&str> =
        report.differing().flat_map(|(_, _, difference)| columns(contract, difference)).collect();
    altered.sort_unstable();
    altered.dedup();
    let name = pipeline.split_once('.').map_or(pipeline, |(_, name)| name);
    error!(
        pipeline,
        rows,
        differ,
        columns = altered.join(", "),
        hint = format!("`hutong verify {name}` names the keys; with --repair it mends them"),
        "the replica differs from its source"
    );
}
