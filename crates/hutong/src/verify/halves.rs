//! Which source half a process asks: its own, or one over the bus.

use std::sync::Arc;
use std::time::Duration;

use hutong_bus::verification;
use hutong_core::Result;

use super::exchange::{Asked, Exchange};
use super::source::{Half, Source};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::wire::{self, Bus};

/// Returns the source half: of this process where it captures the stream, else the one that answers over the bus.
/// `apart`: that one in any case.
pub fn source_half<'a>(
    plan: &'a Plan,
    bus: &'a Bus,
    subscription: &'a SubscriptionPlan,
    apart: bool,
    patience: Duration,
) -> Result<Box<dyn Half + 'a>> {
    let mut fed = plan.captures.iter().flat_map(|capture| &capture.tables);
    if !apart && fed.any(|(_, stream)| stream.name == subscription.stream.name) {
        return Ok(Box::new(Source::new(plan, bus, subscription, patience)?));
    }
    Ok(Box::new(Asked::new(exchange(plan, subscription)?, patience)))
}

/// Opens the topic in which the halves of a subscription speak.
pub fn exchange(plan: &Plan, subscription: &SubscriptionPlan) -> Result<Exchange> {
    let (bus, append) = Bus::speak(&plan.bus)?;
    Ok(Exchange {
        log: Arc::clone(bus.log()),
        append,
        registry: Arc::clone(bus.registry()),
        topic: verification::topic(&plan.bus.name, &subscription.name),
        mark: wire::mark(subscription)?,
        projected: wire::permit(subscription)?.projection(),
    })
}
