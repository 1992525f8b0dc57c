//! Sealed columns on their way: what a capture seals by, and what a lane opens by.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_bus::envelope::Unseal;
use hutong_bus::{Sealing, Unsealing, keys};
use hutong_core::seal::{Custody, Reader};
use hutong_core::{Error, ErrorKind, Result};

use super::Bus;
use crate::config::Plan;
use crate::config::plan::{CapturePlan, SealingPlan, StreamPlan, SubscriptionPlan};
use crate::ledger::sealing_key;

/// The keys of a configuration, and the grants that are given some.
#[derive(Debug, Clone, Default)]
pub struct Seals {
    plan: SealingPlan,
    /// Stream to the grants that open columns by a key of their own department.
    readers: BTreeMap<String, Vec<Reader>>,
}

impl Seals {
    /// Gathers what a plan says; reads no key.
    pub fn of(plan: &Plan) -> Self {
        let mut readers: BTreeMap<String, Vec<Reader>> = BTreeMap::new();
        for subscription in &plan.subscriptions {
            let (stream, fields) = (&subscription.stream, subscription.given());
            if let Some(to) = plan.sealing.public.get(&subscription.department).filter(|_| !fields.is_empty())
            {
                let reader = Reader { grant: subscription.name.clone(), to: to.clone(), fields };
                readers.entry(stream.name.clone()).or_default().push(reader);
            }
        }
        Self { plan: plan.sealing.clone(), readers }
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
        let keys = keys::topic(bus, stream.capture.as_deref().unwrap_or_default());
        let nothing = Unsealing { keys, own: None, by: None, grant: None, fields };
        if nothing.fields.is_empty() {
            return Ok(Some(nothing));
        }
        if self.plan.keys.contains_key(&stream.owner) {
            let own = Some(self.custody(&stream.owner)?);
            return Ok(Some(Unsealing { own, ..nothing }));
        }
        let by = self.plan.public.get(&stream.owner).cloned();
        let by = by.ok_or_else(|| self.missing(&stream.owner))?;
        let own = Some(self.custody(&subscription.department)?);
        Ok(Some(Unsealing { own, by: Some(by), grant: Some(subscription.name.clone()), ..nothing }))
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
        let unsealing = Unsealing { keys, own, by: None, grant: None, fields };
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
