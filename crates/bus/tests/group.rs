//! A group over a real broker: pairs are shared out, stay where they are while others move, and are handed over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use hutong_bus::holding::{Holding, Pair};
use hutong_bus::kafka::{Bus, Config, Idea, SILENCE};
use hutong_bus::log::{Log, TopicSpec};
use hutong_testkit::launch::Kafka;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 4;

/// A process that takes part.
struct Member {
    holding: Holding,
    token: CancellationToken,
    task: JoinHandle<hutong_core::Result<()>>,
}

impl Member {
    async fn joins(topic: &str, made: bool) -> Self {
        Self::with(topic, made, None).await
    }

    #[expect(clippy::disallowed_methods, reason = "it stands for a process")]
    async fn with(topic: &str, made: bool, idea: Option<Idea>) -> Self {
        let kafka = Kafka::shared().await.unwrap();
        let config =
            Config { brokers: kafka.bootstrap(), bus: "b".into(), security: Vec::new(), replication: None };
        let bus = Bus::new(config).unwrap();
        let (holding, token) = (Holding::nothing(), CancellationToken::new());
        let (group, topics) = (format!("b.share.{topic}"), vec![topic.to_owned()]);
        let made = if made { vec![spec(topic)] } else { Vec::new() };
        let (holds, asked) = (holding.clone(), token.clone());
        let task = tokio::spawn(async move { bus.attend((group, idea), topics, made, holds, asked).await });
        Self { holding, token, task }
    }

    fn held(&self, topic: &str) -> Vec<u32> {
        (0..PARTITIONS).filter(|p| self.holding.holds(&Pair::new(topic, *p))).collect()
    }

    async fn leaves(self) {
        self.token.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn spec(topic: &str) -> TopicSpec {
    TopicSpec { name: topic.into(), partitions: PARTITIONS, compacted: true }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_are_shared_stay_where_they_are_and_are_handed_over() {
    let topic = "b.shared.v1";
    let first = Member::joins(topic, true).await;
    until("one alone has all", || first.held(topic) == [0, 1, 2, 3]).await;
    // Works on all of it, and gives up what is taken away when it likes.
    let mut holds = Vec::new();
    for partition in 0..PARTITIONS {
        holds.push((partition, first.holding.take(&Pair::new(topic, partition)).await));
    }

    let second = Member::joins(topic, false).await;
    until("two are to go", || first.held(topic).len() == 2).await;
    let kept = first.held(topic);
    assert!(second.held(topic).is_empty(), "they are given when nobody works on them");
    holds.retain(|(partition, _)| kept.contains(partition));
    until("two have half each", || second.held(topic).len() == 2).await;
    assert_eq!(first.held(topic), kept, "what stays goes on");
    assert!(second.held(topic).iter().all(|partition| !kept.contains(partition)));

    drop(holds);
    let began = Instant::now();
    first.leaves().await;
    until("the other has all", || second.held(topic).len() == 4).await;
    assert!(began.elapsed() < SILENCE, "at once, and not when it is missed: {:?}", began.elapsed());
    second.leaves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_later_is_shared_out_then() {
    let topic = "b.later.v1";
    let member = Member::joins(topic, false).await;
    until("it says what is missing", || member.holding.problem().is_some()).await;
    assert!(member.held(topic).is_empty());
    let kafka = Kafka::shared().await.unwrap();
    let config =
        Config { brokers: kafka.bootstrap(), bus: "b".into(), security: Vec::new(), replication: None };
    Bus::new(config).unwrap().ensure(&spec(topic)).await.unwrap();
    until("it has all", || member.held(topic).len() == 4).await;
    assert_eq!(member.holding.problem(), None);
    member.leaves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_take_the_lanes_for_something_else_are_told_while_they_are_there() {
    let topic = "b.unlike.v1";
    let idea = |flows, store| Some(Idea::of(flows, store));
    let first = Member::with(topic, true, idea("columns a b", "db-1")).await;
    until("one alone has all", || first.held(topic).len() == 4).await;
    // One of the same configuration, and one that tells nothing.
    let (second, older) =
        (Member::with(topic, false, idea("columns a b", "db-1")).await, Member::joins(topic, false).await);
    let third = Member::with(topic, false, idea("columns a", "db-1")).await;
    for member in [&first, &second] {
        until("it sees the one that differs", || member.holding.others().is_some()).await;
        let others = member.holding.others().unwrap();
        assert_eq!((others.count, others.flows, others.stores, others.hosts.len()), (1, true, false, 1));
    }
    until("that one sees two", || third.holding.others().is_some_and(|others| others.count == 2)).await;
    assert_eq!(older.holding.others(), None, "who has no idea compares nothing");

    third.leaves().await;
    for member in [&first, &second] {
        until("nobody differs any more", || member.holding.others().is_none()).await;
    }
    for member in [first, second, older] {
        member.leaves().await;
    }
}
