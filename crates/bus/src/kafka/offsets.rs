//! Tells lag tools how far pipelines are: the offsets of groups that have no members.
//!
//! One client tells them for all pipelines of a process. A client that commits as a member would needs be one a group, and
//! each has threads, connections and buffers of its own. The binding has no call for it, so this file speaks to
//! librdkafka itself, over what `acl.rs` has for such calls. Nobody reads an offset back.

#![expect(unsafe_code, reason = "the rdkafka crate does not wrap the call of librdkafka, which it exports")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use rdkafka::bindings as c;
use rdkafka::bindings::rd_kafka_admin_op_t as Call;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::acl::{ask, text};
use super::client::Client;
use super::error::failed;

/// How often lag tools are told.
const ROUND: Duration = Duration::from_secs(1);

/// Where the groups of a process are that were not told yet.
#[derive(Default)]
pub(super) struct Offsets(Mutex<News>);

#[derive(Default)]
struct News {
    groups: HashMap<String, Places>,
    /// Whether there is a thread that tells them.
    telling: bool,
}

/// The next offset of each topic and partition.
type Places = BTreeMap<(String, u32), u64>;

impl Offsets {
    fn lock(&self) -> MutexGuard<'_, News> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be told; the thread ends when there is nothing.
    fn take(&self) -> Option<HashMap<String, Places>> {
        let mut news = self.lock();
        news.telling = !news.groups.is_empty();
        news.telling.then(|| std::mem::take(&mut news.groups))
    }
}

/// Notes how far a group is in a partition, for the next round. Touches no network.
pub(super) fn note(
    client: &Arc<Client>,
    group: &str,
    (topic, partition): (&str, u32),
    next: u64,
) -> Result<()> {
    let mut news = client.offsets().lock();
    news.groups.entry(group.to_owned()).or_default().insert((topic.to_owned(), partition), next);
    if news.telling {
        return Ok(());
    }
    let telling = Arc::clone(client);
    std::thread::Builder::new()
        .name("tell offsets".into())
        .spawn(move || rounds(&telling))
        .or_kind(ErrorKind::Unavailable, || {
            format!("start a thread to tell the offset of {topic}/{partition}")
        })?;
    news.telling = true;
    Ok(())
}

/// Tells what there is once a round, until a round has nothing.
fn rounds(client: &Client) {
    while let Some(groups) = client.offsets().take() {
        let began = Instant::now();
        for (group, places) in groups {
            // A tool that shows an old number is no reason to stop a lane.
            if let Err(error) = tell(client, &group, &places) {
                tracing::debug!(%error, "tell the offsets of a group");
            }
        }
        std::thread::sleep(ROUND.saturating_sub(began.elapsed()));
    }
}

/// Tells where a group is, and waits until the cluster has it.
fn tell(client: &Client, group: &str, places: &Places) -> Result<()> {
    let doing = format!("tell the offsets of group {group}");
    let name = text(group, &doing)?;
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next) in places {
        list.add_partition_offset(topic, *partition as i32, Offset::Offset(*next as i64))
            .map_err(|e| failed(doing.as_str(), e))?;
    }
    // SAFETY: name and list outlive the call, which copies them.
    let mut wanted = unsafe { c::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.ptr()) };
    let answer = ask(client, Call::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, &doing, |options, queue| {
        // SAFETY: client, options and queue live until the answer has come; what is wanted is copied by the call.
        unsafe { c::rd_kafka_AlterConsumerGroupOffsets(client.native(), &raw mut wanted, 1, options, queue) };
    });
    // SAFETY: it was made above and is freed here only.
    unsafe { c::rd_kafka_AlterConsumerGroupOffsets_destroy(wanted) };
    let answer = answer?;
    // SAFETY: the event is of this kind, for it answers this call; what it holds lives as long as it does, and a list has
    // as many elements as it says.
    let codes: Vec<Code> = unsafe {
        let result = c::rd_kafka_event_AlterConsumerGroupOffsets_result(answer.event());
        if result.is_null() {
            return Err(Error::new(ErrorKind::Broken, doing, "the client answers something else"));
        }
        let mut count = 0;
        let groups = c::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count);
        let lists = (0..count).map(|at| c::rd_kafka_group_result_partitions(*groups.add(at)));
        let elements = lists.filter(|list| !list.is_null()).flat_map(|list| {
            (0..usize::try_from((*list).cnt).unwrap_or(0)).map(move |at| (*(*list).elems.add(at)).err.into())
        });
        elements.collect()
    };
    match codes.into_iter().find(|code| *code != Code::NoError) {
        Some(code) => Err(failed(doing, KafkaError::ConsumerCommit(code))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hutong_testkit::launch::Kafka;
    use rdkafka::consumer::{BaseConsumer, Consumer};

    use super::*;
    use crate::kafka::{Config, blocking, topics};
    use crate::log::TopicSpec;

    async fn client() -> Arc<Client> {
        let kafka = Kafka::shared().await.unwrap();
        let config = Config {
            brokers: kafka.bootstrap(),
            bus: "offsets".into(),
            security: Vec::new(),
            replication: None,
        };
        let client = Arc::new(Client::new(config).unwrap());
        let topic = TopicSpec { name: "a.offsets.v1".into(), partitions: 2, compacted: false };
        topics::ensure(&client, &topic).await.unwrap();
        client
    }

    /// Returns what lag tools see of a group in both partitions, as soon as it is what was expected, or in the end.
    async fn seen(client: &Arc<Client>, group: &'static str, expected: [Offset; 2]) -> [Offset; 2] {
        let client = Arc::clone(client);
        let look = move || {
            let looker: BaseConsumer =
                client.settings().set("group.id", group).create().map_err(|e| failed("look", e))?;
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let mut list = TopicPartitionList::new();
                list.add_partition_range("a.offsets.v1", 0, 1);
                let found = looker.committed_offsets(list, super::super::client::TIMEOUT);
                let found = found.map_err(|e| failed("look", e))?;
                let found = [0, 1].map(|partition| {
                    found
                        .find_partition("a.offsets.v1", partition)
                        .map_or(Offset::Invalid, |one| one.offset())
                });
                if found == expected || Instant::now() > deadline {
                    return Ok(found);
                }
            }
        };
        blocking(look).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_client_tells_the_last_place_of_each_group_again_and_again() {
        let client = client().await;
        let place = |partition| ("a.offsets.v1", partition);
        for next in 0..4 {
            note(&client, "offsets.one", place(0), next).unwrap();
        }
        note(&client, "offsets.one", place(1), 7).unwrap();
        note(&client, "offsets.two", place(1), 9).unwrap();
        let one = [Offset::Offset(3), Offset::Offset(7)];
        assert_eq!(seen(&client, "offsets.one", one).await, one);
        let two = [Offset::Invalid, Offset::Offset(9)];
        assert_eq!(seen(&client, "offsets.two", two).await, two);

        note(&client, "offsets.one", place(0), 5).unwrap();
        let one = [Offset::Offset(5), Offset::Offset(7)];
        assert_eq!(seen(&client, "offsets.one", one).await, one);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_cluster_refuses_of_one_partition_is_an_error() {
        let client = client().await;
        let places = Places::from([(("a.offsets.v1".into(), 0), 1), (("a.offsets.v1".into(), 9), 1)]);
        let error = blocking(move || tell(&client, "offsets.refused", &places)).await.unwrap_err();
        assert_eq!(error.doing, "tell the offsets of group offsets.refused");
        assert!(error.to_string().contains("partition"), "{error}");
    }
}
