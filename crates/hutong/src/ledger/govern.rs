//! One subscription under the ledger: its lanes are made, ended and made again as the ledger says.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result};
use hutong_engine::Supervisor;
use hutong_engine::supervisor::OnError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::follow::{Ledger, Word};
use super::terms::under;
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::wire::{Bus, Wire};

/// How long lanes may take to finish what they are committing.
const GRACE: Duration = Duration::from_secs(30);

/// How long a recall that failed waits for its next try.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs a subscription as the ledger says, until it is asked to stop.
///
/// The lanes themselves ask the ledger before each commit, so that nothing depends on how soon this task is woken.
pub async fn govern(
    wire: Arc<Wire>,
    ledger: Ledger,
    subscription: SubscriptionPlan,
    token: CancellationToken,
) -> Result<()> {
    let mut looks = ledger.looks();
    loop {
        let word = ledger.word(&subscription);
        let lanes = match &word {
            Word::Flows { number, terms } => lanes(&wire, &subscription, *number, terms),
            Word::Held { why, hint } => {
                warn!(subscription = subscription.name, why, hint, "nothing flows");
                wire.held(&subscription, &denied(&subscription, why).hint(hint));
                None
            }
            Word::Recalled { since, why } => {
                recall(&wire, &subscription, *since, why, &token).await;
                None
            }
        };
        // Ends when another word comes, or when it is asked to stop.
        let other = async {
            while ledger.word(&subscription) == word {
                if looks.changed().await.is_err() {
                    break;
                }
            }
        };
        match lanes {
            None => tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = other => {}
            },
            Some(lanes) => {
                let asked = lanes.token();
                let running = lanes.wait(GRACE);
                tokio::pin!(running, other);
                tokio::select! {
                    () = token.cancelled() => {}
                    () = &mut other => {}
                    ended = &mut running => {
                        // Each has told its own error; another word may start them again.
                        ended?;
                        tokio::select! {
                            () = token.cancelled() => return Ok(()),
                            () = &mut other => continue,
                        }
                    }
                }
                asked.cancel();
                running.await?;
                if token.is_cancelled() {
                    return Ok(());
                }
            }
        }
    }
}

/// Returns a subscription as it is granted: by the ledger where the plan has one, else as it is configured.
///
/// `Err(Denied)` when nothing flows.
pub async fn granted(plan: &Plan, bus: &Bus, configured: &SubscriptionPlan) -> Result<SubscriptionPlan> {
    match &plan.ledger {
        Some(ledger) => Ledger::new(ledger, &plan.bus.name, Arc::clone(bus.log())).granted(configured).await,
        None => Ok(configured.clone()),
    }
}

impl Ledger {
    /// Reads the ledger, and returns the subscription as it is granted now; `Err(Denied)` when nothing flows.
    async fn granted(&self, subscription: &SubscriptionPlan) -> Result<SubscriptionPlan> {
        self.catch_up().await?;
        match self.word(subscription) {
            Word::Flows { terms, .. } => under(subscription, &terms),
            Word::Held { why, hint } => Err(denied(subscription, &why).hint(hint)),
            Word::Recalled { why, .. } => Err(denied(subscription, &why)),
        }
    }
}

fn denied(subscription: &SubscriptionPlan, why: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("deliver to {}", subscription.name), why)
}

/// Makes and starts the lanes of a grant; `None` when they cannot be made, which is told.
fn lanes(
    wire: &Wire,
    subscription: &SubscriptionPlan,
    number: u64,
    terms: &hutong_core::ledger::Terms,
) -> Option<Supervisor> {
    let granted = under(subscription, terms).and_then(|granted| {
        if super::asked(subscription).terms != *terms {
            warn!(
                subscription = subscription.name,
                number, "the configuration asks for something else than is granted: the grant flows"
            );
        }
        wire.replicate_under(&granted, number)
    });
    match granted {
        Ok(lanes) => {
            info!(subscription = subscription.name, grant = number, "flows");
            let mut supervisor = Supervisor::new();
            for lane in lanes {
                supervisor.spawn(lane.id.to_string(), OnError::Continue, lane.run(supervisor.token()));
            }
            Some(supervisor)
        }
        Err(problem) => {
            warn!(subscription = subscription.name, error = %problem, "nothing flows");
            wire.held(subscription, &problem);
            None
        }
    }
}

/// Deletes the rows of the replica. I7: whoever is killed half way does it again, and what is deleted stays deleted.
async fn recall(
    wire: &Wire,
    subscription: &SubscriptionPlan,
    since: u64,
    why: &str,
    token: &CancellationToken,
) {
    loop {
        match wire.recall(subscription, since).await {
            Ok(()) => {
                info!(subscription = subscription.name, why, "recalled: the rows of the replica are deleted");
                let done = denied(subscription, &format!("{why}; the rows of the replica are deleted"));
                let name = &subscription.name;
                wire.held(
                    subscription,
                    &done.hint(format!("`hutong subscription request {name}` asks again")),
                );
                return;
            }
            Err(problem) => {
                warn!(subscription = subscription.name, error = %problem, "the recall is tried again");
                wire.held(subscription, &denied(subscription, why).hint(problem.to_string()));
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
