//! `hutong subscription`: looks after a subscription's replica.

use std::path::Path;

use hutong_core::{Error, ErrorKind, Result};

use super::arguments::Subscription;
use super::{check, ledger, status};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::exit::Exit;
use crate::wire;

pub(super) async fn run(config: &Path, action: Subscription) -> Result<Exit> {
    match action {
        Subscription::Reload { name } => {
            let plan = check::load(config)?;
            reload(&plan, find(&plan, &name)?).await
        }
        Subscription::Permission(action) => ledger::permission(config, action).await,
    }
}

async fn reload(plan: &Plan, subscription: &SubscriptionPlan) -> Result<Exit> {
    let (name, table) = (&subscription.name, &subscription.table);
    let lanes = wire::reload(subscription).await?;
    if lanes.is_empty() {
        println!("subscription {name} has written nothing yet: it begins at the base anyway");
        return Ok(Exit::Done);
    }
    println!("subscription {name}: {} lanes begin at the base when they open next", lanes.len());
    println!("  each removes its rows of {table}, and what it has quarantined, and reads everything again");
    let pipeline = subscription.pipeline().to_string();
    if status::running(plan, &pipeline).await {
        println!(
            "  the process at {} runs them: they halt with their next commit, so restart it",
            plan.http.address
        );
    } else {
        println!(
            "  `hutong run` does it; a process elsewhere that runs them halts them and must be restarted"
        );
    }
    Ok(Exit::Done)
}

pub(super) fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a SubscriptionPlan> {
    plan.subscriptions.iter().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<&str> = plan.subscriptions.iter().map(|s| s.name.as_str()).collect();
        Error::new(
            ErrorKind::Config,
            format!("find subscription {name}"),
            "the configuration has no such subscription",
        )
        .hint(format!("the subscriptions are: {}", known.join(", ")))
    })
}
