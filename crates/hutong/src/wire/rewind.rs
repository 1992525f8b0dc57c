//! Sets a lane back to a record that could not be read and can be read now.

use std::sync::Arc;

use hutong_bus::log::Incoming;
use hutong_bus::watermark::partition_key;
use hutong_bus::{Decoder, Outcome};
use hutong_core::{Act, Error, ErrorKind, Order, Position, Result};

use super::items::Item;
use super::steer::steer;
use super::{Bus, record_at};
use crate::config::plan::SubscriptionPlan;

/// Sets the lane of an item back to the item's record; returns the items that are settled by it.
///
/// `Err(Refused)` when its topic no longer holds the record, it still cannot be read, or the lane has not come so far;
/// then nothing has happened.
pub async fn rewind(bus: &Bus, subscription: &SubscriptionPlan, item: &Item, act: Act) -> Result<Vec<i64>> {
    let order = order(bus, subscription, item, act).await?;
    let steered = steer(subscription, &order).await?;
    let own = steered.into_iter().find(|steered| steered.lane == item.lane);
    match own.filter(|steered| steered.after.is_some()) {
        Some(steered) => Ok(steered.settled),
        None => {
            let why = "the lane has not come so far in that topic";
            Err(Error::new(ErrorKind::Refused, format!("replay item {}", item.id), why))
        }
    }
}

/// Returns the order that sets the lane of an item back; `Err(Refused)` as above.
pub async fn order(bus: &Bus, subscription: &SubscriptionPlan, item: &Item, act: Act) -> Result<Order> {
    let stream = &subscription.stream;
    let refused = |why: String| Error::new(ErrorKind::Refused, format!("replay item {}", item.id), why);
    let record = item.record.as_ref();
    let number = |name: &str| record.and_then(|record| record[name].as_u64());
    let (Some(partition), Some(offset)) =
        (number("partition").and_then(|p| u32::try_from(p).ok()), number("offset"))
    else {
        return Err(refused("it does not say where its record stands".into()));
    };
    let (topic, was) =
        (stream.topic(), record.and_then(|record| record["topic"].as_str()).unwrap_or_default());
    if was != topic {
        return Err(refused(format!("its record stands in {was}, and the subscription reads {topic}"))
            .hint("discard it"));
    }
    let found = record_at(bus, &topic, partition, offset).await.map_err(|error| match error.kind {
        ErrorKind::Refused => refused(format!("its record is gone: {}", error.why())).hint("discard it"),
        _ => error,
    })?;
    readable(bus, subscription, &found).await.map_err(|why| {
        refused(format!("its record still cannot be read: {why}")).hint(format!(
            "mend the cause, for example register its schema again; `hutong tap {} --at {partition}/{offset} --raw` \
             shows it; or discard it",
            stream.name
        ))
    })?;
    let key = partition_key(&topic, partition);
    let back = [(item.lane.clone(), (key, Position::offset(offset)))].into();
    Ok(Order { act, back })
}

async fn readable(
    bus: &Bus,
    subscription: &SubscriptionPlan,
    record: &Incoming,
) -> std::result::Result<(), String> {
    let stream = &subscription.stream;
    let mut decoder =
        Decoder::new(Arc::clone(bus.registry()), Arc::clone(&stream.contract)).of(&stream.topic());
    decoder.learn(std::slice::from_ref(record)).await.map_err(|error| error.to_string())?;
    match decoder.decode(record) {
        Outcome::Change(_) | Outcome::Dropped(_) => Ok(()),
        Outcome::Unreadable { reason, .. } => Err(reason),
    }
}
