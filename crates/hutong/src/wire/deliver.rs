//! Deliveries: a subscription's delivery topic, for departments with Kafka clients of their own.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hutong_bus::{Delivery, DeliveryConfig, Generations, Subscriber};
use hutong_core::grant::expired;
use hutong_core::{Checkpoint, Contract, LaneId, Order, Result};
use hutong_engine::status::now_us;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::watch::{tick, ticks};
use super::{Bus, Wire};
use crate::config::Plan;
use crate::config::plan::{SubscriptionPlan, Target};

/// How often is looked whether a last day is over.
const LOOK: Duration = Duration::from_secs(1);

/// Returns the delivery topics of a subscription.
pub fn generations(bus: &Bus, bus_name: &str, subscription: &SubscriptionPlan) -> Generations {
    Generations {
        log: Arc::clone(bus.log()),
        registry: Arc::clone(bus.registry()),
        bus: bus_name.to_owned(),
        pipeline: subscription.pipeline(),
        stem: subscription.delivery_stem(),
        partitions: subscription.stream.partitions,
        subscriber: subscriber(bus, subscription),
    }
}

fn subscriber(bus: &Bus, subscription: &SubscriptionPlan) -> Option<Subscriber> {
    Some(Subscriber {
        cluster: Arc::clone(bus.cluster()?),
        principal: subscription.principal.clone()?,
        department: subscription.department.clone(),
    })
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
    generations(&bus, &plan.bus.name, subscription).reload(order).await
}

impl Wire {
    /// Takes away what the department of a subscription may read of its delivery, if it has one. `false`: the cluster did
    /// not, which is said, and is to be tried again.
    pub async fn dismiss(&self, subscription: &SubscriptionPlan) -> bool {
        let done = match subscription.into {
            Target::Table { .. } => Ok(()),
            Target::Topic => generations(&self.bus, &self.bus_name, subscription).dismiss().await,
        };
        if let Err(problem) = &done {
            let (name, hint) = (&subscription.name, problem.hint.as_deref().unwrap_or(""));
            warn!(subscription = name, error = %problem, hint, "its department may still read: tried again");
        }
        done.is_ok()
    }

    /// States whether the last day of a subscription is over.
    pub fn is_over(&self, subscription: &SubscriptionPlan) -> bool {
        subscription.until.is_some_and(|until| expired(until, &self.zone, now_us()))
    }

    /// Waits for the last day of a subscription to end and takes away what its department may read.
    pub async fn close_at_the_end(
        self: Arc<Self>,
        subscription: SubscriptionPlan,
        token: CancellationToken,
    ) -> Result<()> {
        let mut looks = ticks(LOOK);
        while tick(&mut looks, &token).await {
            if self.is_over(&subscription) && self.dismiss(&subscription).await {
                break;
            }
        }
        Ok(())
    }

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
            compatibility: Some(stream.compatibility.name().to_owned()),
            history: self.history,
        };
        let made = Delivery::new(generations(&self.bus, &self.bus_name, subscription), config);
        deliveries.insert(subscription.name.clone(), Arc::clone(&made));
        made
    }
}
