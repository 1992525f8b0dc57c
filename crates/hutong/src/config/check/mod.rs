//! Check: what the entries mean together. Pure, and never stops at the first problem.
//!
//! Each theme is one file. A theme returns what is whole and tells what is not; only a document without any error
//! becomes a plan.

mod bus;
mod capture;
mod flow;
mod grant;
mod keys;
mod ledger;
mod name;
mod principal;
mod say;
mod sealing;
mod store;
mod stream;
mod subscription;

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::Contract;
use hutong_core::problem::Problem as Unreadable;
use jiff::Timestamp;

use super::document::Document;
use super::plan::{Plan, StorePlan};
use super::problem::Problem;

/// Returns the stores that a document names, and what is wrong with them; looks at nothing else.
pub(super) fn stores(document: &Document) -> (BTreeMap<String, Arc<StorePlan>>, Vec<Problem>) {
    let contracts = Contracts::new();
    let mut check =
        Check { document, contracts: &contracts, now: Timestamp::UNIX_EPOCH, problems: Vec::new() };
    (store::stores(&mut check), check.problems)
}

/// The contracts that the streams name, by stream; `Err` says why one cannot be read.
pub(super) type Contracts = BTreeMap<String, Result<Contract, Unreadable>>;

/// What all themes share: the document, the contracts, the time, and the problems so far.
struct Check<'a> {
    document: &'a Document,
    contracts: &'a Contracts,
    now: Timestamp,
    problems: Vec<Problem>,
}

/// Makes a plan of a document, or tells everything that stands against it.
pub(super) fn check(
    document: &Document,
    contracts: &Contracts,
    now: Timestamp,
) -> (Option<Plan>, Vec<Problem>) {
    let mut check = Check { document, contracts, now, problems: Vec::new() };
    name::check(&mut check);
    principal::check(&mut check);
    let settings = bus::settings(&mut check);
    let streams = stream::streams(&mut check, settings.partitions);
    let stores = store::stores(&mut check);
    let captures = capture::captures(&mut check, &stores, &streams);
    let subscriptions = subscription::subscriptions(&mut check, &stores, &streams, &settings.zone);
    flow::check(&mut check);
    let http = bus::http(&mut check);
    let limits = bus::limits(&mut check);
    let bus_name = settings.bus.as_ref().map_or("hutong", |bus| bus.name.as_str());
    let ledger = ledger::ledger(&mut check, bus_name);
    let sealing = sealing::sealing(&mut check, &streams, &captures, &subscriptions);
    let whole = check.errors() == 0;
    let plan = settings.bus.filter(|_| whole).map(|bus| Plan {
        bus,
        departments: name::departments(document),
        principals: principal::all(document),
        streams,
        stores,
        captures,
        subscriptions,
        http,
        limits,
        ledger,
        sealing,
    });
    (plan, check.problems)
}
