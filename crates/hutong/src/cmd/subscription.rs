//! `hutong subscription`: looks after a subscription's replica, or its delivery topic, and its lanes; what may flow to it,
//! the ledger says.

use std::path::Path;

use hutong_core::{Error, ErrorKind, Result};
use jiff::Timestamp;

use super::arguments::Subscription;
use super::ledger::words::{Permission, Resumption, Which};
use super::{check, history, ledger, steer};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::exit::Exit;
use crate::moment;

pub(super) async fn run(config: &Path, action: Subscription) -> Result<Exit> {
    let plan = || check::load(config);
    match action {
        Subscription::Pause { name, reason, how } => {
            let plan = plan()?;
            steer::pause(&plan, find(&plan, &name)?, &reason, &how).await
        }
        Subscription::Rewind { name, to_time, reason, how } => {
            let plan = plan()?;
            let subscription = find(&plan, &name)?;
            let to_us = moment::read(&to_time, Timestamp::now(), &plan.bus.zone)?;
            steer::rewind(&plan, subscription, to_us, reason.as_deref(), &how).await
        }
        Subscription::Reload { name, reason, how } => {
            let plan = plan()?;
            steer::reload(&plan, find(&plan, &name)?, reason.as_deref(), &how).await
        }
        Subscription::History { name, output } => {
            let plan = plan()?;
            history::print(&plan, find(&plan, &name)?, output).await
        }
        Subscription::Permission(Permission::Resume { which, what }) => resume(config, which, what).await,
        Subscription::Permission(action) => ledger::permission(config, action).await,
    }
}

/// Takes back what holds it: the operator's pause, or the owner's suspension. Of the two the second is a legal act, so it
/// is never done by the way: where both hold, the person says which.
async fn resume(config: &Path, mut which: Which, what: Resumption) -> Result<Exit> {
    let plan = check::load(config)?;
    let name = which.name.clone();
    which.preview |= what.how.dry_run;
    let pause = if plan.ledger.is_none() || what.pause {
        true
    } else if what.grant {
        false
    } else {
        // Whoever acts for the owner need not reach the subscriber's store.
        let paused = match find(&plan, &name) {
            Ok(subscription) => steer::is_paused(&plan, subscription).await,
            Err(error) => Err(error),
        };
        match (paused, ledger::is_suspended(&plan, &which).await) {
            (Ok(true), Ok(true)) => {
                let why = "it is paused here, and its owner has suspended it";
                return Err(Error::new(ErrorKind::Config, format!("resume {name}"), why).hint(format!(
                    "`hutong subscription resume {name} --pause` takes the pause back; `--grant`, signed by the owner, \
                     the suspension"
                )));
            }
            (Ok(true), _) => true,
            (_, Ok(true)) => false,
            (Ok(false), _) => false,
            (Err(problem), _) => return Err(problem),
        }
    };
    if pause {
        return steer::resume(&plan, find(&plan, &name)?, what.reason.as_deref(), &what.how).await;
    }
    ledger::permission(config, Permission::Resume { which, what }).await
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
