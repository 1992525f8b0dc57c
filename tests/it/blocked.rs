//! Another program leaves a transaction open on a topic: its lanes say what they wait for, and go on when it is ended.

use std::time::Duration;

use hutong_testkit::launch::Kafka;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rusqlite::Connection;
use serde_json::Value as Json;

use crate::alarms::pager::{DISK, Pager};
use crate::installation::{Bus, Installation, until};

const TOPIC: &str = "gongan.blocked.v1";

const CONTRACT: &str = r#"{"type":"record","name":"blocked","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;

const CONFIGURATION: &str = r#"
[department.gongan]
name = "市公安局"
[department.renshe]
name = "市人社局"
[store.office.sqlite]
path = "office.db"
[store.renshe.sqlite]
path = "renshe.db"
[stream.blocked]
owner = "gongan"
contract = "blocked.avsc"
partitions = 1
[capture.blocked]
from = "office"
tables = { entry = "blocked" }
watermark_interval = "1s"
[subscription.blocked]
department = "renshe"
stream = "blocked"
purpose = "核验"
columns = ["id", "note"]
into = { store = "renshe", table = "entry" }
"#;

fn insert(installation: &Installation, id: i64) {
    let office = Connection::open(installation.path("office.db")).unwrap();
    office.busy_timeout(Duration::from_secs(10)).unwrap();
    office.execute("INSERT INTO entry VALUES (?, '初')", [id]).unwrap();
}

async fn reached(installation: &Installation, rows: i64) {
    until(&format!("the replica has {rows} rows"), async || {
        let replica = Connection::open(installation.path("renshe.db")).ok()?;
        let count = replica.query_row("SELECT count(*) FROM entry", [], |row| row.get::<_, i64>(0)).ok()?;
        (count == rows).then_some(())
    })
    .await;
}

/// A program that writes the topic in a transaction and does not end it.
async fn stranger() -> BaseProducer {
    let brokers = Kafka::shared().await.unwrap().bootstrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", "stranger.of.blocked")
        .set("transaction.timeout.ms", "300000")
        .create()
        .unwrap();
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience).unwrap();
    producer.begin_transaction().unwrap();
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(TOPIC).partition(0).payload(b"never committed");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(patience).unwrap();
    producer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_left_open_is_a_verdict_of_its_own_and_ends() {
    let installation = Installation::new(Bus::Kafka, "blocked", CONFIGURATION).await;
    installation.write("blocked.avsc", CONTRACT);
    let office = Connection::open(installation.path("office.db")).unwrap();
    office.execute_batch("CREATE TABLE entry (id INTEGER PRIMARY KEY, note TEXT)").unwrap();
    drop(office);
    installation.ask(&["source", "install", "blocked"]).expect(0);
    insert(&installation, 1);
    let run = installation.run();
    reached(&installation, 1).await;
    let lane = || -> Option<Json> {
        installation.lanes()?.into_iter().find(|lane| lane["pipeline"] == "replicate.blocked")
    };
    let well = async || {
        until("the lane is well", async || {
            lane().filter(|lane| lane["verdict"] == "ok" && lane["lag_seconds"] == 0.0)
        })
        .await
    };
    let before = well().await;
    let end: u64 =
        before["positions"][format!("{TOPIC}/0")].as_str().unwrap().trim_start_matches('0').parse().unwrap();

    let pager = Pager::of(&installation, &[DISK]).await;
    let stranger = stranger().await;
    insert(&installation, 2);

    let blocked =
        until("the lane is blocked", async || lane().filter(|lane| lane["verdict"] == "blocked")).await;
    let (reason, hint) = (blocked["reason"].as_str().unwrap(), blocked["hint"].as_str().unwrap());
    assert!(reason.starts_with(&format!("a transaction is open on {TOPIC}/0 from offset ")), "{reason}");
    assert!(reason.contains("capture.blocked does not hold it, another program does"), "{reason}");
    // The marker of the capture's own transaction stands between.
    let offset: u64 =
        hint.rsplit_once("--start-offset ").unwrap().1.split('`').next().unwrap().parse().unwrap();
    assert!((end..=end + 2).contains(&offset), "{offset} behind {end}");
    assert!(hint.contains(&format!("abort --topic {TOPIC} --partition 0")), "{hint}");
    let said = installation.ask(&["status"]);
    assert!(
        said.out.contains("is blocked: a transaction is open") && said.out.contains("what to do: `kafka-"),
        "{}",
        said.out
    );
    let scrape = async || reqwest::get(format!("http://{}/metrics", installation.address())).await.unwrap();
    let text = scrape().await.text().await.unwrap();
    for line in [
        r#"hutong_lane_verdict{pipeline="replicate.blocked",verdict="blocked"} 1"#,
        r#"hutong_lane_verdict{pipeline="capture.blocked",verdict="blocked"} 0"#,
        r#"hutong_schema_version{topic="gongan.blocked.v1"} 1"#,
        r#"hutong_topic_commits_total{outcome="refused",pipeline="capture.blocked"} 0"#,
        r#"hutong_quarantine_oldest_seconds{pipeline="replicate.blocked"} 0"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(
        !text.contains(r#"hutong_topic_commits_total{outcome="ok",pipeline="capture.blocked"} 0"#),
        "{text}"
    );

    pager.fires(&["HutongTransactionOpen replicate.blocked"]).await;
    stranger.abort_transaction(Duration::from_secs(30)).unwrap();
    reached(&installation, 2).await;
    well().await;
    pager.clear().await;
    run.stop().await;
}
