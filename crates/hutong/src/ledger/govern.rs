//! One lane under the ledger: it is made, ended and made again as the ledger says.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::grant::expired;
use hutong_core::{Class, Error, ErrorKind, Result};
use hutong_engine::Lane;
use hutong_engine::status::now_us;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::follow::{Ground, Ledger, Word};
use super::pinned;
use super::terms::under;
use crate::config::Plan;
use crate::config::plan::{SubscriptionPlan, Target};
use crate::share::Place;
use crate::wire::{Bus, Wire};

/// How long a lane may take to finish what it is committing.
const GRACE: Duration = Duration::from_secs(30);

/// How long a recall that failed waits for its next try.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs a lane of a subscription as the ledger says, until it is asked to stop.
///
/// The lane itself asks the ledger before each commit, so that nothing depends on how soon this task is woken.
pub async fn govern(
    wire: &Arc<Wire>,
    ledger: &Ledger,
    subscription: &SubscriptionPlan,
    place: &Place,
    token: CancellationToken,
) -> Result<()> {
    let mut looks = ledger.looks();
    loop {
        let word = ledger.word(subscription);
        let lane = match &word {
            Word::Flows { number, terms } => lane(wire, subscription, place, *number, terms),
            Word::Held { why, hint, ground } => {
                warn!(lane = %place.lane, why, hint, "nothing flows");
                let problem = denied(subscription, why).hint(hint);
                match ground {
                    Ground::Said(since_us) => wire.held(&place.lane, &problem, *since_us),
                    Ground::Wrong => wire.halted(&place.lane, &problem),
                }
                dismiss(wire, ledger, subscription, &word, &token).await;
                remember(ledger, subscription, place, &word, &token).await;
                None
            }
            Word::Recalled { number, since, since_us, why } => {
                recall(wire, subscription, place, (*number, *since, *since_us), why, &token).await;
                remember(ledger, subscription, place, &word, &token).await;
                None
            }
        };
        // Ends when another word comes, or when it is asked to stop.
        let other = async {
            while ledger.word(subscription) == word {
                if looks.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::pin!(other);
        if let Some(lane) = lane {
            let asked = token.child_token();
            let running = lane.run(asked.clone());
            tokio::pin!(running);
            tokio::select! {
                () = token.cancelled() => return running.await,
                () = &mut other => {
                    asked.cancel();
                    if timeout(GRACE, running).await.is_err() {
                        warn!(lane = %place.lane, "did not stop in time and is dropped");
                    }
                    continue;
                }
                // It has told its own error; another word may start it again.
                _ = &mut running => {
                    if over(wire, subscription, &word) {
                        dismiss(wire, ledger, subscription, &word, &token).await;
                    }
                }
            }
        }
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = &mut other => {}
        }
    }
}

/// Returns a subscription as a row of it may be let through now, outside of a lane.
///
/// `Err(Denied)` when nothing flows, or when its last day is over (I5).
pub async fn permitted(plan: &Plan, configured: &SubscriptionPlan) -> Result<SubscriptionPlan> {
    match &plan.ledger {
        None => in_time(plan, configured.clone()),
        Some(_) => in_time(plan, granted(plan, &Bus::look(&plan.bus)?, configured).await?),
    }
}

/// I5: a lane ends by its clock; so does whatever else lets a row through.
pub(crate) fn in_time(plan: &Plan, granted: SubscriptionPlan) -> Result<SubscriptionPlan> {
    match granted.until {
        Some(until) if expired(until, &plan.bus.zone, now_us()) => {
            let why = format!("the last day of its grant is over: {until}");
            Err(denied(&granted, &why).hint("a new approval with a later `until`"))
        }
        _ => Ok(granted),
    }
}

/// Returns a subscription as it is granted: by the ledger where the plan has one, else as it is configured.
///
/// `Err(Denied)` when nothing flows.
pub async fn granted(plan: &Plan, bus: &Bus, configured: &SubscriptionPlan) -> Result<SubscriptionPlan> {
    match &plan.ledger {
        Some(ledger) => Ledger::new(ledger, plan, Arc::clone(bus.log())).granted(configured).await,
        None => Ok(configured.clone()),
    }
}

impl Ledger {
    /// Reads the ledger, and returns the subscription as it is granted now; `Err(Denied)` when nothing flows.
    pub(crate) async fn granted(&self, subscription: &SubscriptionPlan) -> Result<SubscriptionPlan> {
        self.catch_up().await?;
        match self.word(subscription) {
            Word::Flows { terms, .. } => under(subscription, &terms),
            Word::Held { why, hint, .. } => Err(denied(subscription, &why).hint(hint)),
            Word::Recalled { why, .. } => Err(denied(subscription, &why)),
        }
    }
}

fn denied(subscription: &SubscriptionPlan, why: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("deliver to {}", subscription.name), why)
}

/// Makes the lane of a grant; `None` when it cannot be made, which is told.
fn lane(
    wire: &Wire,
    subscription: &SubscriptionPlan,
    place: &Place,
    number: u64,
    terms: &hutong_core::ledger::Terms,
) -> Option<Lane> {
    let granted = under(subscription, terms).and_then(|granted| {
        if super::asked(subscription).terms != *terms {
            warn!(
                subscription = subscription.name,
                number, "the configuration asks for something else than is granted: the grant flows"
            );
        }
        wire.replicate_under(&granted, number, place.lane.partition)
    });
    match granted {
        Ok(lane) => {
            info!(lane = %place.lane, grant = number, "flows");
            Some(place.seat(lane))
        }
        Err(problem) => {
            warn!(lane = %place.lane, error = %problem, "nothing flows");
            wire.halted(&place.lane, &problem);
            None
        }
    }
}

/// States whether what is granted has come to its last day.
fn over(wire: &Wire, subscription: &SubscriptionPlan, word: &Word) -> bool {
    let Word::Flows { terms, .. } = word else { return false };
    wire.is_over(&SubscriptionPlan { until: terms.until, ..subscription.clone() })
}

/// Takes away what the department may read of its delivery, while the ledger says so.
async fn dismiss(
    wire: &Wire,
    ledger: &Ledger,
    subscription: &SubscriptionPlan,
    word: &Word,
    token: &CancellationToken,
) {
    while_said(ledger, subscription, word, token, || wire.dismiss(subscription)).await;
}

/// Lets the store of a lane remember that the ledger has said so, while it does: what is offered no more stops a lane as
/// what is suspended does.
async fn remember(
    ledger: &Ledger,
    subscription: &SubscriptionPlan,
    place: &Place,
    word: &Word,
    token: &CancellationToken,
) {
    let tried = || async {
        let remembered = pinned::remember(ledger, subscription, &place.lane).await;
        // Another history has been told of, and is another word.
        !remembered.is_err_and(|problem| problem.class() == Class::Retry)
    };
    while_said(ledger, subscription, word, token, tried).await;
}

/// Tries until it is done, while the ledger says so: a process that has not read it yet, or cannot, knows nothing.
async fn while_said<F: Future<Output = bool>>(
    ledger: &Ledger,
    subscription: &SubscriptionPlan,
    word: &Word,
    token: &CancellationToken,
    tried: impl Fn() -> F,
) {
    while ledger.is_verified(&subscription.department) && ledger.word(subscription) == *word {
        if tried().await {
            return;
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Deletes the rows of the lane, or the delivery topic. I7: whoever is killed half way does it again, and what is deleted
/// stays deleted.
async fn recall(
    wire: &Wire,
    subscription: &SubscriptionPlan,
    place: &Place,
    (number, since, since_us): (u64, u64, i64),
    why: &str,
    token: &CancellationToken,
) {
    loop {
        match wire.recall(subscription, &place.lane, number, since).await {
            Ok(()) => {
                let what = match subscription.into {
                    Target::Table { .. } => "the rows of the replica are deleted",
                    Target::Topic => "its delivery topic is deleted",
                };
                info!(lane = %place.lane, why, "recalled: {what}");
                let done = denied(subscription, &format!("{why}; {what}"));
                let name = &subscription.name;
                let done = done.hint(format!("`hutong subscription request {name}` asks again"));
                wire.held(&place.lane, &done, Some(since_us));
                return;
            }
            Err(problem) => {
                warn!(lane = %place.lane, error = %problem, "the recall is tried again");
                wire.halted(&place.lane, &denied(subscription, why).hint(problem.to_string()));
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
