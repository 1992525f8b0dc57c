//! Where the bytes of a record stand that could not be read.
//!
//! Not in a subscriber's quarantine, which holds what is granted and no more (I5): of such a record nobody knows what it
//! holds. They stand in the topic, as long as that keeps them.

use std::collections::BTreeMap;
use std::time::Duration;

use hutong_bus::log::Extent;
use serde::Serialize;
use serde_json::Value as Json;

use super::Bus;
use super::items::Item;
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;

/// How long the bus is asked: whoever lists a quarantine may do so because the bus is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the bytes of a record are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// The command that shows them; `None` when there is none.
    pub command: Option<String>,
    /// Whether the topic still holds them; `None` when it does not answer.
    pub held: Option<bool>,
    /// In words.
    pub said: String,
}

/// Notes at each item of a record that could not be read where its bytes are. Asks the bus for nothing when there is none.
pub async fn locate(plan: &Plan, subscription: &SubscriptionPlan, items: &mut [Item]) {
    let mut topics: BTreeMap<String, Option<Extent>> = BTreeMap::new();
    for (topic, _, _) in items.iter().filter_map(|item| place(item.record.as_ref()?)) {
        topics.entry(topic).or_default();
    }
    if topics.is_empty() {
        return;
    }
    let asked = async {
        let bus = Bus::look(&plan.bus).ok()?;
        for (topic, extent) in &mut topics {
            *extent = Some(bus.log().extent(topic).await.ok()?.unwrap_or_default());
        }
        Some(())
    };
    // What does not answer in time is not known.
    let _ = tokio::time::timeout(PATIENCE, asked).await;
    for item in items {
        let Some((topic, partition, offset)) = item.record.as_ref().and_then(place) else { continue };
        let extent = topics.get(&topic).and_then(Option::as_ref);
        item.bytes = Some(bytes(subscription, (&topic, partition, offset), extent));
    }
}

/// Returns the topic, the partition and the offset of a record.
fn place(record: &Json) -> Option<(String, u32, u64)> {
    let partition = u32::try_from(record.get("partition")?.as_u64()?).ok()?;
    Some((record.get("topic")?.as_str()?.to_owned(), partition, record.get("offset")?.as_u64()?))
}

fn bytes(
    subscription: &SubscriptionPlan,
    (topic, partition, offset): (&str, u32, u64),
    extent: Option<&Extent>,
) -> Bytes {
    let stream = &subscription.stream;
    let at = format!("{topic}/{partition} at offset {offset}");
    let command = (topic == stream.topic())
        .then(|| format!("hutong tap {} --at {partition}/{offset} --raw", stream.name));
    let held = extent
        .map(|extent| extent.get(&partition).is_some_and(|(first, end)| (*first..*end).contains(&offset)));
    let said = match (held, &command) {
        (Some(false), _) => format!(
            "they are gone: {at} is not held any more, since what is before a topic's base is removed after `history`, and \
             nothing else keeps them. Its reason and its digest stay. `hutong verify {0} --repair` brings the replica what the \
             source has, `hutong subscription reload {0}` fills it anew",
            subscription.name
        ),
        (held, Some(_)) => {
            let known = if held.is_none() { "the bus does not answer; " } else { "" };
            format!(
                "{known}{at} holds them, until a later base of the topic is there and `history` has passed"
            )
        }
        (_, None) => format!(
            "{at} holds them, a generation of the stream before the present one, {}: a tool of the bus reads it",
            stream.topic()
        ),
    };
    Bytes { command: command.filter(|_| held != Some(false)), held, said }
}
