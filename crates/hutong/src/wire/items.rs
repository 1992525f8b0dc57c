//! What waits in the quarantines: of a subscription in its store, of a capture in its topic.

use std::sync::Arc;

use hutong_bus::envelope::Unseal;
use hutong_bus::log::Incoming;
use hutong_bus::{Decoder, quarantine};
use hutong_core::{Contract, Error, ErrorKind, Result};
use hutong_stores::keep::{change_json, record_json};
use hutong_stores::{postgres, sqlite};
use serde::Serialize;
use serde_json::Value as Json;

use super::bytes::Bytes;
use super::{Bus, Seals};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, StorePlan, StoreSystem, SubscriptionPlan};

/// One item of a quarantine.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// Its number: in a store the item's, in a topic the record's offset.
    pub id: i64,
    /// In a capture's quarantine the stream: its topic counts for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The lane that set it aside.
    pub lane: String,
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// Where it stood.
    pub position: String,
    /// `waiting`, `superseded`, `replayed` or `discarded`.
    pub state: String,
    /// When it was set aside.
    pub first_seen: String,
    /// The change, as far as it may be shown.
    pub change: Option<Json>,
    /// What is known of a record that did not decode.
    pub record: Option<Json>,
    /// Where the bytes of that record are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
}

impl Item {
    /// Returns what it is called: `ID`, in a capture's quarantine `STREAM/ID`.
    pub fn name(&self) -> String {
        self.stream.as_ref().map_or_else(|| self.id.to_string(), |stream| format!("{stream}/{}", self.id))
    }
}

/// Returns what waits for a subscription's replica.
pub async fn of_replica(subscription: &SubscriptionPlan, store: &StorePlan) -> Result<Vec<Item>> {
    let mine = format!("{}.", subscription.pipeline());
    let items = all(store).await?;
    Ok(items.into_iter().filter(|item| item.lane.starts_with(&mine)).collect())
}

/// Returns what a delivery has set aside: the records of its quarantine topic, which hold what is granted and no more.
pub async fn of_delivery(bus: &Bus, bus_name: &str, subscription: &SubscriptionPlan) -> Result<Vec<Item>> {
    let contract = super::permit(subscription)?.projection();
    let topic = super::generations(bus, bus_name, subscription).quarantine_topic();
    of_topic(bus, &topic, &subscription.stream.name, &contract, None).await
}

async fn all(store: &StorePlan) -> Result<Vec<Item>> {
    Ok(match &store.system {
        StoreSystem::Postgres { url, .. } => {
            let items = postgres::sink::list(&url.resolve()?, None, true).await?;
            items
                .into_iter()
                .map(|i| Item {
                    id: i.id,
                    stream: None,
                    lane: i.lane,
                    rule: i.rule,
                    reason: i.reason,
                    position: i.position.to_string(),
                    state: i.state,
                    first_seen: i.first_seen,
                    change: i.change,
                    record: i.record,
                    bytes: None,
                })
                .collect()
        }
        StoreSystem::Sqlite { path } => {
            // Looking at a store that no lane has opened yet does not make it.
            let items = if path.exists() { sqlite::quarantine::list(path, true)? } else { Vec::new() };
            items
                .into_iter()
                .map(|i| Item {
                    id: i.id,
                    stream: None,
                    lane: i.lane,
                    rule: i.rule,
                    reason: i.reason,
                    position: i.position,
                    state: i.state,
                    first_seen: moment(i.first_seen_us),
                    change: i.change,
                    record: i.record,
                    bytes: None,
                })
                .collect()
        }
    })
}

/// Gives an item up. `false` when it does not wait.
pub async fn discard(store: &StorePlan, id: i64) -> Result<bool> {
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::sink::discard(&url.resolve()?, id).await,
        StoreSystem::Sqlite { path } => sqlite::quarantine::discard(path, id),
    }
}

/// Applies an item again.
pub async fn replay(store: &StorePlan, id: i64) -> Result<()> {
    match &store.system {
        StoreSystem::Postgres { url, .. } => postgres::sink::replay(&url.resolve()?, id).await,
        StoreSystem::Sqlite { path } => sqlite::quarantine::replay(path, id),
    }
}

/// Returns what a capture has set aside: the records of its quarantine topics.
pub async fn of_capture(plan: &Plan, bus: &Bus, capture: &CapturePlan) -> Result<Vec<Item>> {
    let (mut items, seals) = (Vec::new(), Seals::of(plan));
    for (_, stream) in &capture.tables {
        let unseal = seals.look(bus, &plan.bus.name, stream).await?;
        let topic = stream.quarantine_topic();
        items.extend(of_topic(bus, &topic, &stream.name, &stream.contract, unseal).await?);
    }
    Ok(items)
}

async fn of_topic(
    bus: &Bus,
    topic: &str,
    stream: &str,
    contract: &Arc<Contract>,
    unseal: Option<Unseal>,
) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut decoder = Decoder::new(Arc::clone(bus.registry()), Arc::clone(contract));
    decoder.unseal(unseal);
    for (partition, (first, end)) in bus.log().extent(topic).await?.unwrap_or_default() {
        if first == end {
            continue;
        }
        let mut reader = bus.log().reader(topic, partition, None).await?;
        reader.seek(first).await?;
        loop {
            let fetched = reader.next(1_000, 8 << 20).await?;
            for record in fetched.records {
                items.push(item(&record, stream, &mut decoder).await?);
            }
            if fetched.next >= fetched.end {
                break;
            }
        }
    }
    Ok(items)
}

async fn item(record: &Incoming, stream: &str, decoder: &mut Decoder) -> Result<Item> {
    let missing = || Error::new(ErrorKind::Malformed, "read a quarantine record", "it is empty");
    let kept = quarantine::decode(record.value.as_ref().ok_or_else(missing)?)?;
    // A change that could not be written, or that an older contract wrote, is shown without its row.
    let envelope = Incoming { value: kept.envelope, key: record.key.clone(), headers: Vec::new(), ..*record };
    let change =
        if envelope.value.is_some() { decoder.decode_one(&envelope).await.unwrap_or(None) } else { None };
    Ok(Item {
        id: i64::try_from(record.offset).unwrap_or(i64::MAX),
        stream: Some(stream.to_owned()),
        lane: kept.lane,
        rule: kept.rule,
        reason: kept.reason,
        position: kept.position,
        state: "waiting".into(),
        first_seen: moment(kept.at_us),
        change: change.as_ref().map(change_json),
        record: kept.record.as_ref().map(record_json),
        bytes: None,
    })
}

fn moment(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map(|t| t.to_string()).unwrap_or_default()
}
