//! `hutong policy`: what a grant does to a row, tried before anybody relies on it.
//!
//! Nothing is read but the configuration, and with `--granted` the ledger; no row leaves a store.

mod cases;
mod explain;
mod trial;

use std::path::Path;
use std::sync::Arc;

use hutong_core::{Error, ErrorKind, Result};

use super::arguments::Policy;
use super::{check, ledger};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::exit::Exit;
use crate::ledger::{Ledger, in_time};
use crate::wire::Bus;

pub(super) async fn run(config: &Path, action: Policy) -> Result<Exit> {
    match action {
        Policy::Test { file, granted, output } => {
            let plan = check::load(config)?;
            let subscriptions = subscriptions(&plan, granted).await?;
            cases::run(&subscriptions, &file, output)
        }
        Policy::Explain { stream, department, row, granted, output } => {
            let plan = check::load(config)?;
            let subscriptions = subscriptions(&plan, granted).await?;
            explain::run(&plan, &subscriptions, (&stream, &department), &row, output)
        }
    }
}

/// Returns the subscriptions as the configuration asks for them, or as the ledger grants them: then without those to
/// which nothing flows now, for whichever reason.
async fn subscriptions(plan: &Plan, granted: bool) -> Result<Vec<SubscriptionPlan>> {
    if !granted {
        return Ok(plan.subscriptions.clone());
    }
    let Some(configured) = &plan.ledger else {
        // Which says what is missing.
        return ledger::read(plan, false).await.map(|_| Vec::new());
    };
    let ledger = Ledger::new(configured, plan, Arc::clone(Bus::look(&plan.bus)?.log()));
    let mut flowing = Vec::new();
    for own in &plan.subscriptions {
        match ledger.granted(own).await.and_then(|granted| in_time(plan, granted)) {
            Ok(granted) => flowing.push(granted),
            Err(problem) if problem.kind == ErrorKind::Denied => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(flowing)
}

/// Finds a subscription.
fn find<'a>(subscriptions: &'a [SubscriptionPlan], name: &str) -> Result<&'a SubscriptionPlan> {
    subscriptions.iter().find(|own| own.name == name).ok_or_else(|| {
        let known: Vec<&str> = subscriptions.iter().map(|own| own.name.as_str()).collect();
        Error::new(
            ErrorKind::Config,
            format!("find subscription {name}"),
            "there is none, or nothing is granted to it",
        )
        .hint(format!("the subscriptions are: {}", known.join(", ")))
    })
}
