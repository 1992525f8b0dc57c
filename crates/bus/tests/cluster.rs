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
    let config = Config { brokers: cluster.bootstrap(), bus: "b".into(), security: Vec::new() };
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
