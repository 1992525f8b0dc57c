//! Topics of a cluster of three brokers, of which one is away.

use std::time::{Duration, Instant};

use hutong_bus::kafka::{Bus, Config};
use hutong_bus::log::{Log, TopicSpec};
use hutong_core::ErrorKind;
use hutong_testkit::launch::Cluster;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

const ANSWER: Duration = Duration::from_secs(10);

/// How long the cluster may take to notice what has happened, its controller being stopped too.
const PATIENCE: Duration = Duration::from_secs(300);

fn topic(name: &str) -> TopicSpec {
    TopicSpec { name: name.into(), partitions: 2, compacted: false }
}

#[tokio::test]
async fn a_topic_that_is_made_while_a_broker_is_down_has_three_replicas_all_the_same() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let config =
        Config { brokers: cluster.bootstrap(), bus: "b".into(), security: Vec::new(), replication: None };
    let bus = Bus::new(config).unwrap();
    assert_eq!(bus.ensure(&topic("b.first")).await.unwrap(), [""; 0]);
    assert_eq!(bus.thin_topics(|name| name.starts_with("b.")).await.unwrap(), []);

    cluster.nodes()[2].stop().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while bus.ping(ANSWER).await.unwrap() > 2 {
        assert!(Instant::now() < deadline, "the cluster has not noticed it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The one that was stopped may have been the controller, which the others replace first.
    while let Err(error) = bus.ensure(&topic("b.second")).await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "a lane waits: {error}");
        assert!(Instant::now() < deadline, "{error}");
    }
    assert_eq!(bus.thin_topics(|name| name.starts_with("b.")).await.unwrap(), [], "one replica is to come");
    assert_eq!(bus.ensure(&topic("b.first")).await.unwrap(), [""; 0], "what is there is as it should be");

    cluster.nodes()[2].restart().await.unwrap();
    assert_eq!(bus.ensure(&topic("b.second")).await.unwrap(), [""; 0]);
    // One that somebody has made with a single replica is told, and no other.
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
    let thin = NewTopic::new("b.thin", 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&thin], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let told = async || bus.thin_topics(|name| name.starts_with("b.")).await.unwrap();
    let shown = Instant::now() + PATIENCE;
    // Each broker hears of a topic when it does.
    loop {
        let told = told().await;
        if !told.is_empty() {
            assert_eq!(told, [("b.thin".to_owned(), 1)]);
            break;
        }
        assert!(Instant::now() < shown, "the cluster does not show it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let drift = bus.ensure(&topic("b.thin")).await.unwrap();
    assert!(drift.iter().any(|line| line.contains("has 1 replicas, not 3")), "{drift:?}");
}

#[tokio::test]
async fn a_topic_of_a_new_cluster_waits_for_as_many_brokers_as_somebody_asks_for() {
    let cluster = Cluster::start(1).await.unwrap();
    let bus = |replication| {
        let config =
            Config { brokers: cluster.bootstrap(), bus: "b".into(), security: Vec::new(), replication };
        Bus::new(config).unwrap()
    };
    let error = bus(Some(3)).ensure(&topic("b.waits")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "a lane waits: {error}");
    assert!(error.to_string().contains("3 replicas, and of 3 brokers 1 are there"), "{error}");
    assert!(error.hint.unwrap().contains("`replication` of [bus.kafka]"));
    assert_eq!(bus(Some(3)).extent("b.waits").await.unwrap(), None, "and is not made with one");

    assert_eq!(bus(Some(1)).ensure(&topic("b.waits")).await.unwrap(), [""; 0]);
    let drift = bus(Some(3)).ensure(&topic("b.waits")).await.unwrap();
    assert!(drift.iter().any(|line| line.contains("has 1 replicas, not 3 as [bus.kafka] says")), "{drift:?}");
    assert_eq!(
        bus(Some(3)).thin_topics(|name| name == "b.waits").await.unwrap(),
        [("b.waits".to_owned(), 1)]
    );
    assert_eq!(bus(None).thin_topics(|name| name == "b.waits").await.unwrap(), []);
}
