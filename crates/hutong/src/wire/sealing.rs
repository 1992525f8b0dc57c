//! Sealed columns on their way: what a capture seals by, and what a lane opens by.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_bus::envelope::Unseal;
use hutong_bus::{Sealing, TopicSink, Unsealing, keys};
use hutong_core::seal::{Custody, Reader};
use hutong_core::{Error, ErrorKind, Result, Sink};

use super::entrusting::Entrusting;
use super::{Bus, Wire};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, SealingPlan, StreamPlan, SubscriptionPlan};
use crate::ledger::{Asked, sealing_key};

/// The keys of a configuration, and the grants that are given some.
#[derive(Debug, Clone, Default)]
pub struct Seals {
    plan: SealingPlan,
    /// Stream to the grants that open columns by a key of their own department; none under a ledger, which says who may.
    readers: BTreeMap<String, Vec<Reader>>,
    under_ledger: bool,
}

impl Seals {
    /// Gathers what a plan says; reads no key.
    pub fn of(plan: &Plan) -> Self {
        let mut readers: BTreeMap<String, Vec<Reader>> = BTreeMap::new();
        let under_ledger = plan.ledger.is_some();
        for subscription in plan.subscriptions.iter().filter(|_| !under_ledger) {
            let (stream, fields) = (&subscription.stream, subscription.given());
            if let Some(to) = plan.sealing.public.get(&subscription.department).filter(|_| !fields.is_empty())
            {
                let reader = Reader { grant: subscription.name.clone(), to: to.clone(), fields };
                readers.entry(stream.name.clone()).or_default().push(reader);
            }
        }
        Self { plan: plan.sealing.clone(), readers, under_ledger }
    }

    /// Returns what seals the streams of a capture; empty when none of them has a sealed column.
    pub(super) fn sealing(&self, capture: &CapturePlan) -> Result<BTreeMap<String, Sealing>> {
        let streams = capture.tables.iter().map(|(_, stream)| stream);
        let sealed = streams.filter(|stream| stream.contract.seals()).map(|stream| {
            let owner = self.custody(&stream.owner)?;
            let readers = self.readers.get(&stream.name).cloned().unwrap_or_default();
            Ok((stream.contract.stream.clone(), Sealing { owner, readers }))
        });
        sealed.collect()
    }

    /// Returns what opens the sealed columns that a subscription needs; `None` when its stream has none.
    ///
    /// I5: only those are opened: what the grant names, what its rows are filtered by, and the key.
    pub fn unsealing(&self, bus: &str, subscription: &SubscriptionPlan) -> Result<Option<Unsealing>> {
        let (stream, fields) = (&subscription.stream, subscription.opened());
        if !stream.contract.seals() {
            return Ok(None);
        }
        let capture = stream.capture.as_deref().unwrap_or_default();
        let keys = keys::topic(bus, capture);
        let remedy = String::new();
        let nothing = Unsealing { keys, own: None, by: None, grant: None, fields, remedy };
        if nothing.fields.is_empty() {
            return Ok(Some(nothing));
        }
        let (owner, department, name) = (&stream.owner, &subscription.department, &subscription.name);
        if self.plan.keys.contains_key(owner) {
            let remedy = format!(
                "is that the key of `{owner}` by which `capture.{capture}` seals, and is {} whole?",
                nothing.keys
            );
            return Ok(Some(Unsealing { own: Some(self.custody(owner)?), remedy, ..nothing }));
        }
        let given = subscription.given();
        if let Some(field) = nothing.fields.iter().find(|field| !given.contains(field)) {
            let why = format!(
                "its grant masks it, filters rows or keys them by it, so the key of `{department}` does not open it"
            );
            return Err(Error::new(ErrorKind::Denied, format!("open column {field} for {name}"), why)
                .hint(format!("run its lanes where [sealing] has the key of `{owner}`")));
        }
        let by = self.plan.public.get(owner).cloned();
        let by = by.ok_or_else(|| self.missing(owner))?;
        let own = self.custody(department)?;
        let public = format!("public = {{ {department} = \"{}\" }}", own.public());
        let remedy = match self.under_ledger {
            true => format!(
                "`capture.{capture}` of `{owner}` wraps the key for `{name}` within seconds of its grant, while it runs and \
                 [sealing] of its configuration has {public}"
            ),
            false => format!(
                "`capture.{capture}` of `{owner}` wraps the key for `{name}` when it starts with that subscription in its \
                 configuration, and {public} under [sealing]"
            ),
        };
        let grant = Some(name.clone());
        Ok(Some(Unsealing { own: Some(own), by: Some(by), grant, remedy, ..nothing }))
    }

    /// Returns what opens every sealed column of a stream for a person who looks at it; `None` where the key of its owner
    /// is not here: then they stay unknown.
    pub async fn look(&self, bus: &Bus, name: &str, stream: &StreamPlan) -> Result<Option<Unseal>> {
        if !stream.contract.seals() || !self.plan.keys.contains_key(&stream.owner) {
            return Ok(None);
        }
        let own = Some(self.custody(&stream.owner)?);
        let fields = stream.contract.sealed().map(|field| field.name.clone()).collect();
        let keys = keys::topic(name, stream.capture.as_deref().unwrap_or_default());
        let unsealing = Unsealing { keys, own, by: None, grant: None, fields, remedy: String::new() };
        unsealing.keys(bus.log().as_ref(), &stream.topic()).await.map(Some)
    }

    fn custody(&self, department: &str) -> Result<Arc<dyn Custody>> {
        let path = self.plan.keys.get(department).ok_or_else(|| self.missing(department))?;
        Ok(Arc::new(sealing_key(path, department)?))
    }

    fn missing(&self, department: &str) -> Error {
        let doing = format!("open sealed columns by the key of {department}");
        Error::new(ErrorKind::Denied, doing, "[sealing] does not name it")
            .hint("`hutong check` says where lanes must run")
    }
}

impl Wire {
    /// Returns the end of a capture; under a ledger one that asks it who may open what is sealed.
    pub(super) fn entrusting(&self, capture: &CapturePlan, sink: TopicSink) -> Box<dyn Sink> {
        let streams = capture.tables.iter().map(|(_, stream)| stream);
        let streams: Vec<_> = streams.filter(|stream| stream.contract.seals()).cloned().collect();
        match self.ledger() {
            Some(ledger) if !streams.is_empty() => {
                let (public, zone) = (self.seals.plan.public.clone(), self.zone.clone());
                Box::new(Entrusting::new(sink, ledger.clone(), Asked { streams, public, zone }))
            }
            _ => Box::new(sink),
        }
    }
}
