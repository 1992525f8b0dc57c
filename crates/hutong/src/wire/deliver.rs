//! Deliveries: a subscription's delivery topic, for departments with Kafka clients of their own.

use std::sync::{Arc, PoisonError};

use hutong_bus::{Delivery, DeliveryConfig, Generations};
use hutong_core::{Checkpoint, Contract, LaneId, Order, Result};

use super::{Bus, Wire};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;

/// Returns the delivery topics of a subscription.
pub fn generations(bus: &Bus, bus_name: &str, subscription: &SubscriptionPlan) -> Generations {
    Generations {
        log: Arc::clone(bus.log()),
        registry: Arc::clone(bus.registry()),
        bus: bus_name.to_owned(),
        pipeline: subscription.pipeline(),
        stem: subscription.delivery_stem(),
    }
}

/// Ends the present generation of a delivery; returns where its lanes stood. Whoever runs them is shut out, and opens
/// them again by itself.
///
/// An embedded bus that another process has open is `Err`.
pub async fn begin_anew(
    plan: &Plan,
    subscription: &SubscriptionPlan,
    order: &Order,
) -> Result<Vec<(LaneId, Checkpoint)>> {
    let (bus, _) = Bus::open(&plan.bus)?;
    generations(&bus, &plan.bus.name, subscription).reload(subscription.stream.partitions, order).await
}

impl Wire {
    /// Returns the delivery that the lanes of a subscription share in this process, while what is delivered is the same.
    pub(super) fn delivery(
        &self,
        subscription: &SubscriptionPlan,
        mark: String,
        contract: Arc<Contract>,
    ) -> Arc<Delivery> {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = deliveries.get(&subscription.name).filter(|shared| shared.writes_under(&mark)) {
            return Arc::clone(shared);
        }
        let stream = &subscription.stream;
        let config = DeliveryConfig {
            mark,
            contract,
            partitions: stream.partitions,
            compatibility: Some(stream.compatibility.name().to_owned()),
            history: self.history,
        };
        let made = Delivery::new(generations(&self.bus, &self.bus_name, subscription), config);
        deliveries.insert(subscription.name.clone(), Arc::clone(&made));
        made
    }
}
