//! What flows where: the configuration's departments, streams, grants and stores, and how each pipeline goes.
//!
//! Holds no secret, no address and no path: a store is its name and its kind. I5: it shows what is granted, never a row.

use std::collections::{BTreeMap, BTreeSet};

use hutong_core::contract::Sharing;
use hutong_engine::status::now_us;
use serde::Serialize;

use crate::cmd::looking;
use crate::cmd::pace::{self, Pace};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, StorePlan, StoreSystem, StreamPlan, SubscriptionPlan, Target};
use crate::http::status::Status;
use crate::moment;

/// What flows where.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Flow {
    /// When it was drawn, in the bus's zone.
    pub(super) at: String,
    /// Whether a process answered, so that rates and states are live.
    pub(super) live: bool,
    /// Why none answered.
    pub(super) silent: Option<String>,
    /// The departments that own, or get, something of what is drawn.
    pub(super) departments: Vec<Department>,
    /// The stores.
    pub(super) stores: Vec<Store>,
    /// The streams, owner by owner.
    pub(super) streams: Vec<Stream>,
}

/// A department.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Department {
    pub(super) id: String,
    pub(super) name: String,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Store {
    pub(super) name: String,
    /// `postgres` or `sqlite`.
    pub(super) system: &'static str,
    /// Whether it answered the process at its last look.
    pub(super) answers: Option<bool>,
}

/// A stream, where it comes from, and who is granted what of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) owner: String,
    pub(super) topic: String,
    pub(super) partitions: u32,
    pub(super) columns: usize,
    /// `unconditional`, `conditional` or `none`.
    pub(super) sharing: &'static str,
    /// The capture that feeds it, when this configuration has it.
    pub(super) capture: Option<Capture>,
    pub(super) grants: Vec<Grant>,
}

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Capture {
    pub(super) pipeline: String,
    pub(super) store: String,
    pub(super) table: String,
    /// How it goes; of a capture that feeds several streams, all together.
    pub(super) pace: Option<Pace>,
    /// Whether another process runs it.
    pub(super) elsewhere: bool,
}

/// What a subscription is to get.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Grant {
    pub(super) subscription: String,
    pub(super) pipeline: String,
    pub(super) department: String,
    pub(super) purpose: String,
    pub(super) legal_basis: String,
    pub(super) until: Option<String>,
    pub(super) columns: Vec<String>,
    /// Column to mask.
    pub(super) masks: BTreeMap<String, String>,
    /// The condition that its rows fulfil.
    pub(super) rows: Option<String>,
    /// The store that it is written into; none of one that is delivered into a topic.
    pub(super) store: Option<String>,
    /// The table; or what the names of its delivery topics share.
    pub(super) into: String,
    pub(super) pace: Option<Pace>,
    pub(super) elsewhere: bool,
}

impl Flow {
    /// Draws the plan, and how it goes, when a process answered; else why it did not.
    pub(super) fn of(plan: &Plan, answer: Result<&Status, String>, only: &looking::Graph) -> Self {
        let (status, silent) = match answer {
            Ok(status) => (Some(status), None),
            Err(why) => (None, Some(why)),
        };
        let live = Live {
            paces: status.map(|status| pace::pipelines(&status.lanes)).unwrap_or_default(),
            elsewhere: status.and_then(|s| s.share.as_ref()).map_or(&[][..], |share| &share.elsewhere),
        };
        let department = only.department.as_deref();
        let wanted = |stream: &&StreamPlan| only.stream.as_ref().is_none_or(|name| *name == stream.name);
        let mut streams: Vec<Stream> = plan
            .streams
            .values()
            .map(|stream| stream.as_ref())
            .filter(wanted)
            .map(|stream| {
                let owned = department.is_none_or(|department| department == stream.owner);
                let granted = plan.subscriptions.iter().filter(|s| s.stream.name == stream.name);
                let granted = granted.filter(|s| owned || Some(s.department.as_str()) == department);
                let mut grants: Vec<Grant> = granted.map(|s| live.grant(s)).collect();
                grants
                    .sort_by(|a, b| (&a.department, &a.subscription).cmp(&(&b.department, &b.subscription)));
                Stream {
                    capture: plan.captures.iter().find_map(|capture| live.capture(capture, stream)),
                    grants,
                    ..self::stream(stream)
                }
            })
            .filter(|stream| department.is_none_or(|d| d == stream.owner || !stream.grants.is_empty()))
            .collect();
        streams.sort_by(|a, b| (&a.owner, &a.name).cmp(&(&b.owner, &b.name)));
        let grants = || streams.iter().flat_map(|stream| &stream.grants);
        let named: BTreeSet<&str> = streams
            .iter()
            .map(|stream| stream.owner.as_str())
            .chain(grants().map(|grant| grant.department.as_str()))
            .collect();
        let held: BTreeSet<&str> = streams
            .iter()
            .filter_map(|stream| Some(stream.capture.as_ref()?.store.as_str()))
            .chain(grants().filter_map(|grant| grant.store.as_deref()))
            .collect();
        let departments = named.iter().map(|id| Department {
            id: (*id).to_owned(),
            name: plan.departments.get(*id).cloned().unwrap_or_else(|| (*id).to_owned()),
        });
        let stores = held.iter().filter_map(|name| plan.stores.get(*name)).map(|s| store(s, status));
        let (departments, stores) = (departments.collect(), stores.collect());
        let at = moment::text(now_us(), &plan.bus.zone);
        Self { at, live: status.is_some(), silent, departments, stores, streams }
    }

    /// Returns a department's name.
    pub(super) fn department<'a>(&'a self, id: &'a str) -> &'a str {
        self.departments.iter().find(|department| department.id == id).map_or(id, |d| &d.name)
    }

    /// Returns a store's kind.
    pub(super) fn system(&self, store: &str) -> &'static str {
        self.stores.iter().find(|s| s.name == store).map_or("", |store| store.system)
    }

    /// Returns all grants.
    pub(super) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.streams.iter().flat_map(|stream| &stream.grants)
    }
}

/// How the pipelines go that run here, and the lanes that do not.
struct Live<'a> {
    paces: BTreeMap<String, Pace>,
    elsewhere: &'a [String],
}

impl Live<'_> {
    fn capture(&self, capture: &CapturePlan, stream: &StreamPlan) -> Option<Capture> {
        let (table, _) = capture.tables.iter().find(|(_, fed)| fed.name == stream.name)?;
        let pipeline = capture.pipeline().to_string();
        let (pace, elsewhere) = self.pace(&pipeline);
        let (store, table) = (capture.store.name.clone(), table.clone());
        Some(Capture { pipeline, store, table, pace, elsewhere })
    }

    fn grant(&self, subscription: &SubscriptionPlan) -> Grant {
        let pipeline = subscription.pipeline().to_string();
        let (pace, elsewhere) = self.pace(&pipeline);
        let (store, into) = match &subscription.into {
            Target::Table { store, table } => (Some(store.name.clone()), table.clone()),
            Target::Topic => (None, subscription.delivery_stem()),
        };
        let masks = subscription.masks.iter().filter(|(column, _)| subscription.columns.contains(column));
        Grant {
            subscription: subscription.name.clone(),
            pipeline,
            department: subscription.department.clone(),
            purpose: subscription.purpose.clone(),
            legal_basis: subscription.legal_basis.clone(),
            until: subscription.until.map(|day| day.to_string()),
            columns: subscription.columns.clone(),
            masks: masks.map(|(column, mask)| (column.clone(), mask.to_string())).collect(),
            rows: subscription.rows.clone(),
            store,
            into,
            pace,
            elsewhere,
        }
    }

    fn pace(&self, pipeline: &str) -> (Option<Pace>, bool) {
        let pace = self.paces.get(pipeline).cloned();
        let is_of = |lane: &String| lane.rsplit_once('.').is_some_and(|(of, _)| of == pipeline);
        let elsewhere = pace.is_none() && self.elsewhere.iter().any(is_of);
        (pace, elsewhere)
    }
}

fn stream(plan: &StreamPlan) -> Stream {
    Stream {
        name: plan.name.clone(),
        title: plan.contract.title().to_owned(),
        owner: plan.owner.clone(),
        topic: plan.topic(),
        partitions: plan.partitions,
        columns: plan.contract.fields.len(),
        sharing: match plan.sharing {
            Sharing::Unconditional => "unconditional",
            Sharing::Conditional(_) => "conditional",
            Sharing::Denied(_) => "none",
        },
        capture: None,
        grants: Vec::new(),
    }
}

fn store(plan: &StorePlan, status: Option<&Status>) -> Store {
    let name = format!("store {}", plan.name);
    let part = status.and_then(|status| status.parts.iter().find(|part| part.name == name));
    let system = match plan.system {
        StoreSystem::Postgres { .. } => "postgres",
        StoreSystem::Sqlite { .. } => "sqlite",
    };
    Store { name: plan.name.clone(), system, answers: part.and_then(|part| part.answers) }
}
