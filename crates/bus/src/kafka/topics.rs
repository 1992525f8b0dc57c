//! Topics: made as DESIGN section 9 says, and what differs from that on those that exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::{Error, ErrorKind, Result};
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tracing::info;

use super::blocking;
use super::client::{Client, TIMEOUT};
use super::error::failed;
use super::replicas::Brokers;
use crate::log::{Extent, RECORD_LIMIT_BYTES, TopicSpec};

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}

/// Returns the settings that a topic should have, by Kafka's names.
fn wanted(topic: &TopicSpec, replicated: bool) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("min.insync.replicas", if replicated { "2" } else { "1" }.to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("max.message.bytes", RECORD_LIMIT_BYTES.to_string()),
    ];
    if topic.compacted {
        settings.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", (16 << 20).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ]);
    } else {
        // Hutong trims with DeleteRecords, never past the base: Kafka itself must not.
        settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", "-1".to_owned()),
        ]);
    }
    settings
}

/// Creates a topic that is missing; returns what differs on one that is there.
pub(super) async fn ensure(client: &Arc<Client>, topic: &TopicSpec) -> Result<Vec<String>> {
    let (asker, name) = (Arc::clone(client), topic.name.clone());
    let ask =
        move || Ok((Brokers::of(&asker.metadata()?, asker.config().replication), partitions(&asker, &name)?));
    let (brokers, found) = blocking(ask).await?;
    let replication = brokers.replication();
    let Some((count, replicas)) = found else {
        let replication = brokers.given(client).await;
        let settings = wanted(topic, replication >= 3);
        return create(client, topic, (replication, &brokers), &settings).await.map(|()| Vec::new());
    };
    let settings = wanted(topic, replication >= 3);
    let mut drift = Vec::new();
    if topic.compacted && count < topic.partitions {
        // A pipeline that got more lanes needs a checkpoint partition for each.
        let wish = NewPartitions::new(&topic.name, topic.partitions as usize);
        let doing = || format!("give topic {} {} partitions", topic.name, topic.partitions);
        let results =
            client.admin().create_partitions([&wish], &options()).await.map_err(|e| failed(doing(), e))?;
        if let Some((_, code)) = results.into_iter().find_map(std::result::Result::err) {
            return Err(failed(doing(), rdkafka::error::KafkaError::AdminOp(code)));
        }
    } else if !topic.compacted && count != topic.partitions {
        drift.push(format!("topic {} has {count} partitions, not {}", topic.name, topic.partitions));
    }
    if replicas < replication {
        drift.push(format!(
            "topic {} has {replicas} replicas, not {replication} {}: `kafka-reassign-partitions.sh` gives it more",
            topic.name,
            brokers.why()
        ));
    }
    drift.extend(settings_drift(client, topic, &settings).await?);
    Ok(drift)
}

async fn create(
    client: &Arc<Client>,
    topic: &TopicSpec,
    (replication, brokers): (usize, &Brokers),
    settings: &[(&'static str, String)],
) -> Result<()> {
    let wish =
        NewTopic::new(&topic.name, topic.partitions as i32, TopicReplication::Fixed(replication as i32));
    let wish = settings.iter().fold(wish, |wish, (name, value)| wish.set(name, value));
    let doing = || format!("create topic {}", topic.name);
    let results = client.admin().create_topics([&wish], &options()).await.map_err(|e| failed(doing(), e))?;
    for (_, code) in results.into_iter().filter_map(std::result::Result::err) {
        // Another process was quicker: its wish is ours.
        if code == Code::InvalidReplicationFactor {
            return Err(brokers.too_few(doing(), replication));
        }
        if code != Code::TopicAlreadyExists {
            return Err(failed(doing(), rdkafka::error::KafkaError::AdminOp(code)));
        }
    }
    // The metadata of a new topic takes a moment to reach every broker, and its leaders another.
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        let (asker, name) = (Arc::clone(client), topic.name.clone());
        let seen = match blocking(move || extent(&asker, &name)).await {
            Ok(seen) => seen,
            Err(error) if error.kind == ErrorKind::Unavailable => None,
            Err(error) => return Err(error),
        };
        if seen.is_some() {
            info!(topic = topic.name, replicas = replication, brokers = brokers.known, "topic made");
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Error::new(ErrorKind::Unavailable, doing(), "the cluster does not show it"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn settings_drift(
    client: &Client,
    topic: &TopicSpec,
    wanted: &[(&'static str, String)],
) -> Result<Vec<String>> {
    let described = client
        .admin()
        .describe_configs(&[ResourceSpecifier::Topic(&topic.name)], &options())
        .await
        .map_err(|e| failed(format!("read the settings of topic {}", topic.name), e))?;
    let mut drift = Vec::new();
    for resource in described.into_iter().flatten() {
        for (name, value) in wanted {
            let found = resource.get(name).and_then(|entry| entry.value.as_deref());
            // While a broker is away the cluster looks smaller than its topics were made for: stricter is no drift.
            let stricter = |found: &str| *name == "min.insync.replicas" && found > value.as_str();
            if found.is_some_and(|found| found != value && !stricter(found)) {
                let found = found.unwrap_or_default();
                drift.push(format!("topic {} has {name}={found}, not {value}", topic.name));
            }
        }
    }
    Ok(drift)
}

/// Returns how many partitions and replicas a topic has; `None` when there is no such topic.
fn partitions(client: &Client, topic: &str) -> Result<Option<(u32, usize)>> {
    let metadata = client
        .asker()
        .fetch_metadata(Some(topic), TIMEOUT)
        .map_err(|e| failed(format!("ask for topic {topic}"), e))?;
    let Some(found) = metadata.topics().first() else { return Ok(None) };
    if let Some(code) = found.error() {
        let code = Code::from(code);
        return match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => Ok(None),
            _ => {
                Err(failed(format!("ask for topic {topic}"), rdkafka::error::KafkaError::MetadataFetch(code)))
            }
        };
    }
    let replicas = found.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
    Ok(Some((found.partitions().len() as u32, replicas)).filter(|(count, _)| *count > 0))
}

/// Returns the first kept offset and the end of each partition.
pub(super) fn extent(client: &Client, topic: &str) -> Result<Option<Extent>> {
    let Some((count, _)) = partitions(client, topic)? else { return Ok(None) };
    (0..count).map(|p| Ok((p, watermarks(client, topic, p)?))).collect::<Result<Extent>>().map(Some)
}

/// Returns the partitions in which a transaction is open, each with the offset of its first record: what committed
/// readers are told to be the end ("last stable offset", KIP-98), where it stands before the true one.
pub(super) fn open_transactions(client: &Client, topic: &str) -> Result<BTreeMap<u32, u64>> {
    let mut open = BTreeMap::new();
    for (partition, (_, end)) in extent(client, topic)?.unwrap_or_default() {
        let (_, stable) = client
            .committed_asker()?
            .fetch_watermarks(topic, partition as i32, TIMEOUT)
            .map_err(|e| failed(format!("ask for the committed end of {topic}/{partition}"), e))?;
        // Asked for later: what was open meanwhile and is no more is not told.
        let stable = u64::try_from(stable).unwrap_or(0);
        if stable < end {
            open.insert(partition, stable);
        }
    }
    Ok(open)
}

/// Returns the first kept offset and the end of one partition, uncommitted records included.
pub(super) fn watermarks(client: &Client, topic: &str, partition: u32) -> Result<(u64, u64)> {
    let (low, high) = client
        .asker()
        .fetch_watermarks(topic, partition as i32, TIMEOUT)
        .map_err(|e| failed(format!("ask for the extent of {topic}/{partition}"), e))?;
    Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
}

/// Removes the records of a partition before an offset.
pub(super) async fn delete_before(client: &Client, topic: &str, partition: u32, offset: u64) -> Result<()> {
    let doing = || format!("trim {topic}/{partition} before {offset}");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition as i32, Offset::Offset(offset as i64))
        .map_err(|e| failed(doing(), e))?;
    let deleted = client.admin().delete_records(&list, &options()).await.map_err(|e| failed(doing(), e))?;
    // Each partition has an answer of its own.
    let refused = deleted.elements().iter().find_map(|element| element.error().err());
    refused.map_or(Ok(()), |error| Err(failed(doing(), error)))
}

/// Removes a topic; `false` when there is none.
pub(super) async fn delete(client: &Client, topic: &str) -> Result<bool> {
    let doing = || format!("delete topic {topic}");
    let results = client.admin().delete_topics(&[topic], &options()).await.map_err(|e| failed(doing(), e))?;
    match results.into_iter().find_map(std::result::Result::err) {
        None => Ok(true),
        Some((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => Ok(false),
        Some((_, code)) => Err(failed(doing(), rdkafka::error::KafkaError::AdminOp(code))),
    }
}

/// Returns the offset of the first record that was written at a time or later; `None` when there is none.
pub(super) fn since(client: &Client, topic: &str, partition: u32, since_us: i64) -> Result<Option<u64>> {
    let doing = || format!("look for a time in {topic}/{partition}");
    let mut list = TopicPartitionList::new();
    // A list asks by time in the place of the offset, in milliseconds.
    list.add_partition_offset(topic, partition as i32, Offset::Offset(since_us.div_euclid(1_000).max(0)))
        .map_err(|e| failed(doing(), e))?;
    let found = client.asker().offsets_for_times(list, TIMEOUT).map_err(|e| failed(doing(), e))?;
    let element = found.find_partition(topic, partition as i32);
    let element = element.ok_or_else(|| Error::new(ErrorKind::Unavailable, doing(), "there is no answer"))?;
    element.error().map_err(|e| failed(doing(), e))?;
    Ok(match element.offset() {
        Offset::Offset(offset) => u64::try_from(offset).ok(),
        _ => None,
    })
}
