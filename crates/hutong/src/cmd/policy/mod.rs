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
            let mut subscriptions = subscriptions(&plan, granted).await?;
            subscriptions.only(&stream, &department)?;
            explain::run(&plan, &subscriptions.flowing, (&stream, &department), &row, output)
        }
    }
}

/// The subscriptions against which rows are tried.
struct Subscriptions<'a> {
    flowing: Vec<SubscriptionPlan>,
    /// Those whose grant nothing can be delivered under, and why: an error for who asks about them, and for nobody else.
    wrong: Vec<(&'a SubscriptionPlan, Error)>,
}

/// Returns the subscriptions as the configuration asks for them, or as the ledger grants them: then without those to
/// which nothing flows now, for whichever reason.
async fn subscriptions(plan: &Plan, granted: bool) -> Result<Subscriptions<'_>> {
    let mut all = Subscriptions { flowing: Vec::new(), wrong: Vec::new() };
    if !granted {
        all.flowing.clone_from(&plan.subscriptions);
        return Ok(all);
    }
    let Some(configured) = &plan.ledger else {
        // Which says what is missing.
        return ledger::read(plan, false).await.map(|_| all);
    };
    let ledger = Ledger::new(configured, plan, Arc::clone(Bus::look(&plan.bus)?.log()));
    for own in &plan.subscriptions {
        match ledger.granted(own).await.and_then(|granted| in_time(plan, granted)) {
            Ok(granted) => all.flowing.push(granted),
            Err(problem) if problem.kind == ErrorKind::Denied => {}
            Err(problem) if problem.kind == ErrorKind::Config => all.wrong.push((own, problem)),
            Err(problem) => return Err(problem),
        }
    }
    Ok(all)
}

impl Subscriptions<'_> {
    /// Keeps those of a department to a stream.
    fn only(&mut self, stream: &str, department: &str) -> Result<()> {
        let asked = |own: &SubscriptionPlan| own.department == department && own.stream.name == stream;
        self.flowing.retain(asked);
        match self.wrong.drain(..).find(|(own, _)| asked(own)) {
            Some((_, problem)) => Err(problem),
            None => Ok(()),
        }
    }

    /// Finds one by its name.
    fn find(&self, name: &str) -> Result<&SubscriptionPlan> {
        if let Some((_, problem)) = self.wrong.iter().find(|(own, _)| own.name == name) {
            let again = Error::new(problem.kind, format!("find subscription {name}"), problem.to_string());
            return Err(again.hint(problem.hint.clone().unwrap_or_default()));
        }
        self.flowing.iter().find(|own| own.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.flowing.iter().map(|own| own.name.as_str()).collect();
            Error::new(
                ErrorKind::Config,
                format!("find subscription {name}"),
                "there is none, or nothing is granted to it",
            )
            .hint(format!("the subscriptions are: {}", known.join(", ")))
        })
    }
}
