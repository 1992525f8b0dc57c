//! A group of processes that share out pairs of a topic and a partition, and read nothing.
//!
//! Kafka's group protocol, incremental (cooperative-sticky): a pair that stays where it is goes on, also while others
//! move. Knows nothing of what is done with a pair.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Result, hexadecimal};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Bus;
use super::client::Client;
use super::error::failed;
use super::idea::Idea;
use super::{blocking, topics};
use crate::holding::{Holding, LOOK, Pair};
use crate::log::TopicSpec;

/// How long a member may be silent before its pairs are given to others: the least that brokers allow unless they are
/// configured otherwise. A pair is with another process soon after that.
pub const SILENCE: Duration = Duration::from_secs(6);

/// How often a member shows that it is there, and so how soon it hears that pairs move.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a member may be without a turn before it leaves by itself: a runtime that hangs must not keep its pairs.
const HANGS: Duration = Duration::from_secs(10);

/// How long the group waits for the work on pairs that move, before they move all the same.
const DRAIN: Duration = Duration::from_secs(5);

/// How long one turn waits for something to happen.
const TURN: Duration = Duration::from_millis(200);

/// How long the cluster may take to say which topics may be read.
const ASKING: Duration = Duration::from_secs(5);

/// How often a member looks what the others take the lanes to be, and how long the cluster may take to say so.
const COMPARES: Duration = Duration::from_secs(10);
const COMPARING: Duration = Duration::from_secs(5);

/// How long before topics that could not be made are tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns the group of those who carry the captures of a bus.
pub fn of_captures(bus: &str) -> String {
    format!("{bus}.share.captures")
}

/// Returns the group of those who carry just these subscriptions of streams: topic and subscription.
///
/// Whoever is given a partition runs the lanes of its own subscriptions. Of a process that carries others a lane would be
/// run by nobody: so that is another group.
pub fn of_subscriptions<'a>(bus: &str, carried: impl IntoIterator<Item = (String, &'a str)>) -> String {
    let mut lines: Vec<String> =
        carried.into_iter().map(|(topic, name)| format!("{topic} {name}\n")).collect();
    lines.sort();
    let digest = hexadecimal::text(&Sha256::digest(lines.concat()));
    format!("{bus}.share.{}", digest.get(..8).unwrap_or(&digest))
}

impl Bus {
    /// Takes part in a group until it is asked to stop, and then leaves it when nobody works on anything any more.
    ///
    /// Makes the topics of `made` first, when they are missing; a topic of `topics` that is not there yet is shared out
    /// when it is. Tells the others its idea of the lanes, where it has one, and [`Holding::others`] who has another.
    /// `Err` never: what goes wrong is told by [`Holding::problem`] and tried again.
    pub async fn attend(
        &self,
        (group, idea): (String, Option<Idea>),
        topics: Vec<String>,
        made: Vec<TopicSpec>,
        holding: Holding,
        token: CancellationToken,
    ) -> Result<()> {
        loop {
            match self.join((&group, idea.as_ref()), &topics, &made, &holding).await {
                Ok(consumer) => {
                    info!(group, "takes part");
                    tokio::select! {
                        done = turns(Arc::new(consumer), &group, &holding, &token) => done?,
                        () = compare(&self.client, &group, idea.as_ref(), &holding) => {}
                    }
                    info!(group, "has left");
                    return Ok(());
                }
                Err(problem) => {
                    warn!(group, error = %problem, "cannot take part yet");
                    holding.failed(problem.to_string());
                }
            }
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn join(
        &self,
        (group, idea): (&str, Option<&Idea>),
        topics: &[String],
        made: &[TopicSpec],
        holding: &Holding,
    ) -> Result<BaseConsumer<Member>> {
        for topic in made {
            for drift in topics::ensure(&self.client, topic).await? {
                warn!(drift, "a topic is not as it should be");
            }
        }
        let member = Member { group: group.to_owned(), holding: holding.clone() };
        let consumer: BaseConsumer<Member> = settings(&self.client, group, idea)
            .create_with_context(member)
            .map_err(|e| failed(format!("make a client of group {group}"), e))?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|e| failed(format!("join group {group}"), e))?;
        Ok(consumer)
    }
}

fn settings(client: &Client, group: &str, idea: Option<&Idea>) -> rdkafka::ClientConfig {
    let ms = |time: Duration| time.as_millis().to_string();
    let mut settings = client.settings();
    settings
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", ms(SILENCE))
        .set("heartbeat.interval.ms", ms(HEARTBEAT))
        .set("max.poll.interval.ms", ms(HANGS))
        // A connection that a firewall has forgotten must not keep a member out for a minute.
        .set("socket.timeout.ms", "10000")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Nothing is read; it only must have a place.
        .set("auto.offset.reset", "latest")
        .set("fetch.message.max.bytes", "1")
        // How soon a topic that was made meanwhile is shared out.
        .set("topic.metadata.refresh.interval.ms", "2000");
    if let Some(idea) = idea {
        settings.set("client.id", idea.told());
    }
    settings
}

/// Looks again and again what the other members of a group take its lanes to be; never ends. Beside the turns, which may
/// wait for nothing.
async fn compare(client: &Arc<Client>, group: &str, idea: Option<&Idea>, holding: &Holding) {
    let Some(idea) = idea else { return std::future::pending().await };
    loop {
        tokio::time::sleep(COMPARES).await;
        let (asker, name, own) = (Arc::clone(client), group.to_owned(), idea.clone());
        let look = move || {
            let groups = asker.asker().fetch_group_list(Some(&name), COMPARING);
            groups
                .map(|groups| own.differs(&groups))
                .map_err(|e| failed(format!("ask for the members of {name}"), e))
        };
        match blocking(look).await {
            Ok(others) => {
                let before = holding.others();
                holding.compared(others.clone());
                match others {
                    Some(others) if before.as_ref() != Some(&others) => warn!(
                        group,
                        count = others.count,
                        hosts = others.hosts.join(" "),
                        flows = others.flows,
                        stores = others.stores,
                        hint = "stop the processes of one of the two configurations, give all the same, and start them",
                        "others carry the same subscriptions by another configuration"
                    ),
                    None if before.is_some() => info!(group, "all members have the same configuration again"),
                    _ => {}
                }
            }
            // Nothing is known; what was known stays.
            Err(problem) => debug!(group, error = %problem, "compare"),
        }
    }
}

/// Gives the client its turns, beside a look whether this process runs at all.
async fn turns(
    consumer: Arc<BaseConsumer<Member>>,
    group: &str,
    holding: &Holding,
    token: &CancellationToken,
) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ended = async {
        token.cancelled().await;
        // What is being committed is finished first: then others may have all of it at once.
        holding.idle().await;
    };
    tokio::pin!(ended);
    'turns: loop {
        let client = Arc::clone(&consumer);
        let turn = blocking(move || Ok(client.poll(TURN).and_then(Result::err)));
        tokio::pin!(turn);
        loop {
            tokio::select! {
                turn = &mut turn => {
                    if let Some(error) = turn? {
                        let refuses = error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed);
                        tell(group, holding, error);
                        if refuses {
                            let (client, holding) = (Arc::clone(&consumer), holding.clone());
                            blocking(move || note_denied(&client, &holding)).await?;
                        }
                    }
                    continue 'turns;
                }
                _ = looks.tick() => holding.look(),
                () = &mut ended => break,
            }
        }
        turn.await?;
        // Leaves the group, so that nobody waits for this member's silence.
        return blocking(move || {
            consumer.unsubscribe();
            drop(consumer);
            Ok(())
        })
        .await;
    }
}

fn tell(group: &str, holding: &Holding, error: KafkaError) {
    if error.rdkafka_error_code() == Some(Code::UnknownTopicOrPartition) {
        debug!(group, %error, "a topic is not there yet");
        holding.failed("a topic is not there yet: start the capture that makes it".into());
        return;
    }
    let problem = failed(format!("take part in group {group}"), error);
    warn!(group, error = %problem, hint = problem.hint.as_deref().unwrap_or_default(), "the group does not answer");
    holding.failed(problem.to_string());
}

/// Notes which topics of the group may not be read: the client tells of one of them, and not of which.
fn note_denied(consumer: &BaseConsumer<Member>, holding: &Holding) -> Result<()> {
    let subscribed = consumer.subscription().map_err(|e| failed("ask for what the group shares", e))?;
    for topic in subscribed.elements().iter().map(|element| element.topic().to_owned()) {
        // Who does not answer now is asked again when the client tells of it again.
        let Ok(metadata) = consumer.fetch_metadata(Some(&topic), ASKING) else { continue };
        let told = metadata.topics().iter().find(|told| told.name() == topic);
        let Some(code) = told.and_then(|told| told.error()).map(Code::from) else { continue };
        if code == Code::TopicAuthorizationFailed {
            holding.deny(&topic, failed(format!("read {topic}"), KafkaError::MetadataFetch(code)));
        }
    }
    Ok(())
}

/// What the client tells of the group.
struct Member {
    group: String,
    holding: Holding,
}

impl ClientContext for Member {}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let pairs = pairs(list);
        // Others have them already, or will in a moment: there is nothing to wait for.
        let lost = consumer.assignment_lost();
        if lost {
            self.holding.parted();
        }
        let late = self.holding.lose(&pairs, if lost { Duration::ZERO } else { DRAIN });
        info!(group = self.group, pairs = %told(&pairs), lost, late, "gives back");
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                if let Err(error) = consumer.pause(list) {
                    warn!(group = self.group, %error, "pause what is not to be read");
                }
                let pairs = pairs(list);
                info!(group = self.group, pairs = %told(&pairs), "is given");
                self.holding.gain(pairs);
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tell(&self.group, &self.holding, error.clone()),
        }
    }
}

fn pairs(list: &TopicPartitionList) -> Vec<Pair> {
    let pair = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        Some(Pair::new(element.topic(), u32::try_from(element.partition()).ok()?))
    };
    list.elements().into_iter().filter_map(pair).collect()
}

fn told(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| format!("{}/{}", pair.topic, pair.partition)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_carries_the_same_shares_whatever_its_order_and_nobody_else() {
        let group = |carried: &[(&str, &'static str)]| {
            of_subscriptions("hutong", carried.iter().map(|(topic, name)| ((*topic).to_owned(), *name)))
        };
        let one = group(&[("a.s.v1", "x"), ("a.s.v1", "y")]);
        assert_eq!(one, group(&[("a.s.v1", "y"), ("a.s.v1", "x")]));
        assert_ne!(one, group(&[("a.s.v1", "x")]));
        assert_ne!(one, group(&[("a.s.v2", "x"), ("a.s.v2", "y")]));
        assert!(one.starts_with("hutong.share.") && one.len() == "hutong.share.".len() + 8);
    }
}
