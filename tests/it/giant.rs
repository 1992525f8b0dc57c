//! A giant transaction passes with bounded memory, and a giant snapshot goes on after a kill where it was.
//!
//! In CI as large as it takes to be split and killed in its midst; `make giant` makes it a million rows in one
//! transaction and five million in a snapshot, with the release build.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hutong_bus::log::Log;
use hutong_bus::{embedded, kafka};
use hutong_testkit::launch::{Database, Kafka, Postgres, connect};
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, until};

/// Rows of the transaction: in CI twice of what is not split, and a bit.
const TRANSACTION_ROWS: &str = "HUTONG_GIANT_TRANSACTION_ROWS";
const TRANSACTION_ROWS_IN_CI: usize = 120_000;

/// Rows of the snapshot.
const SNAPSHOT_ROWS: &str = "HUTONG_GIANT_SNAPSHOT_ROWS";
const SNAPSHOT_ROWS_IN_CI: usize = 60_000;

/// What a transaction may add to a process that has nothing to do, in kilobytes: the batch that is committed (32 MiB
/// by its weight), the one behind it, the records of one in the producer, and what the allocator keeps between them.
/// Measured: 92 MB for 120,000 rows, 115 MB for a million, of which all together would be 700.
const MOST_KB: u64 = 192 << 10;

/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(120);

const CHUNK_ROWS: usize = 5_000;

fn rows(variable: &str, in_ci: usize) -> usize {
    std::env::var(variable).map_or(in_ci, |rows| rows.parse().unwrap())
}

/// A table `giant` in a database of its own, and what carries it into a topic.
struct Giant {
    source: Database,
    client: Client,
    installation: Installation,
    bus: Bus,
}

impl Giant {
    async fn new(bus: Bus, columns: &str) -> Self {
        let source = Postgres::shared().await.unwrap();
        let client = connect(&source.url).await.unwrap();
        client.batch_execute(&format!("CREATE TABLE giant (id bigint PRIMARY KEY{columns})")).await.unwrap();
        let configuration = format!(
            r#"
[department.{owner}]
name = "市公安局"
[store.source.postgres]
url = "{}"
[stream.giant]
owner = "{owner}"
contract = "giant.avsc"
[capture.{owner}]
from = "source"
tables = {{ "public.giant" = "giant" }}
chunk_rows = {CHUNK_ROWS}
watermark_interval = "1s"
"#,
            source.url,
            owner = source.name
        );
        let installation = Installation::new(bus, &source.name, &configuration).await;
        installation.draft_contract(&source.url, "public.giant", "giant");
        Self { source, client, installation, bus }
    }

    /// Returns how many changes this run of the program has committed; `None` when nothing answers.
    async fn committed(&self) -> Option<usize> {
        let text = reqwest::get(format!("http://{}/metrics", self.installation.address())).await.ok()?;
        let text = text.text().await.ok()?;
        let series = format!("hutong_changes_committed_total{{pipeline=\"capture.{}\"}} ", self.source.name);
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
    }

    /// Waits until this run has committed so many changes, as long as it goes on committing some.
    async fn commits(&self, enough: usize) -> usize {
        let (mut most, mut since) = (0, Instant::now());
        while most < enough {
            assert!(since.elapsed() < PATIENCE, "{most} of {enough} changes are committed, and no more come");
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(now) = self.committed().await.filter(|now| *now > most) {
                (most, since) = (now, Instant::now());
            }
        }
        most
    }

    async fn log(&self) -> Arc<dyn Log> {
        match self.bus {
            Bus::Embedded => {
                embedded::Bus::open_read_only(&self.installation.path("bus"), embedded::Options::default())
                    .unwrap()
            }
            Bus::Kafka => {
                let brokers = Kafka::shared().await.unwrap().bootstrap();
                kafka::Bus::new(kafka::Config {
                    brokers,
                    bus: "giant".into(),
                    security: Vec::new(),
                    replication: None,
                })
                .unwrap()
            }
        }
    }

    /// Returns how often each row from 1 to `rows` stands in the topic.
    async fn told(&self, rows: usize) -> Vec<u8> {
        let (log, topic) = (self.log().await, format!("{}.giant.v1", self.source.name));
        let mut told = vec![0; rows + 1];
        for (partition, (first, end)) in log.extent(&topic).await.unwrap().unwrap_or_default() {
            if first == end {
                continue;
            }
            let mut reader = log.reader(&topic, partition, None).await.unwrap();
            reader.seek(first).await.unwrap();
            loop {
                let fetched = reader.next(10_000, 8 << 20).await.unwrap();
                for key in fetched.records.iter().filter_map(|record| record.key.as_ref()) {
                    told[id(key)] += 1;
                }
                if fetched.next >= fetched.end {
                    break;
                }
            }
        }
        told
    }
}

/// Reads the number that is the key of a row: behind the framing, in Avro's variable length.
fn id(key: &[u8]) -> usize {
    let zigzag = key[5..].iter().rev().fold(0_usize, |number, byte| number << 7 | usize::from(byte & 0x7f));
    assert_eq!(zigzag % 2, 0, "no row has a number below zero");
    zigzag / 2
}

/// Returns the most memory that a program has held, in kilobytes.
fn peak_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

fn each_once(told: &[u8]) {
    let wrong = told.iter().enumerate().skip(1).filter(|(_, times)| **times != 1);
    let wrong: Vec<_> = wrong.take(10).collect();
    assert!(wrong.is_empty(), "I2, I3: each row stands once in the topic, but not (row, times) {wrong:?}");
}

async fn a_transaction_passes(bus: Bus) {
    let rows = rows(TRANSACTION_ROWS, TRANSACTION_ROWS_IN_CI);
    let giant = Giant::new(bus, ", name text, note text").await;
    let run = giant.installation.run();
    // One small transaction first: what only the first one takes is no part of a giant's.
    until("the capture streams", async || giant.installation.logged("snapshot done").then_some(())).await;
    giant.client.batch_execute("INSERT INTO giant VALUES (0, '测试', '')").await.unwrap();
    giant.commits(1).await;
    let idle_kb = peak_kb(run.pid());

    let started = Instant::now();
    giant
        .client
        .batch_execute(&format!(
            "INSERT INTO giant SELECT n, '测试' || n, repeat(md5(n::text), 4) FROM generate_series(1, {rows}) n"
        ))
        .await
        .unwrap();
    giant.commits(rows + 1).await;

    let grown_kb = peak_kb(run.pid()) - idle_kb;
    println!("{rows} rows in {:?}: {idle_kb} kB and {grown_kb} kB more", started.elapsed());
    run.stop().await;
    each_once(&giant.told(rows).await);
    assert!(grown_kb < MOST_KB, "a transaction of {rows} rows takes {grown_kb} kB, and may take {MOST_KB}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i3_a_giant_transaction_passes_whole_with_bounded_memory_over_kafka() {
    a_transaction_passes(Bus::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i3_a_giant_transaction_passes_whole_with_bounded_memory_over_a_folder() {
    a_transaction_passes(Bus::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_giant_snapshot_goes_on_after_a_kill_and_reads_only_the_rest() {
    let rows = rows(SNAPSHOT_ROWS, SNAPSHOT_ROWS_IN_CI);
    let giant = Giant::new(Bus::Kafka, "").await;
    giant
        .client
        .batch_execute(&format!(
            "INSERT INTO giant SELECT n FROM generate_series(1, {rows}) n; ANALYZE giant"
        ))
        .await
        .unwrap();
    let started = Instant::now();
    let run = giant.installation.run();
    giant.commits(rows / 3).await;
    run.kill();
    assert!(!giant.installation.logged("snapshot done"), "it is killed in the midst of the snapshot");
    // The first who asks behind the kill may see a transaction that nobody has ended yet: it counts for neither run.
    let run = giant.installation.run();
    until("the next owner has opened", async || giant.committed().await).await;

    until_done(&giant).await;

    let (whole, rest) = (giant.told(rows).await, giant.committed().await.unwrap());
    println!("{rows} rows in {:?}; behind the kill {rest} of them", started.elapsed());
    each_once(&whole);
    assert!(0 < rest && rest < rows, "it goes on where it was, and does not start over: {rest} of {rows}");
    assert_eq!((rows - rest) % CHUNK_ROWS, 0, "what was committed before are whole chunks");
    let lanes = giant.installation.lanes().unwrap();
    let told = lanes[0]["snapshots"][0].clone();
    assert_eq!((told["rows"].as_u64(), told["done"].as_bool()), (Some(rows as u64), Some(true)), "{told}");
    run.stop().await;
}

/// Waits for the end of the snapshot, as long as it goes on.
async fn until_done(giant: &Giant) {
    let (mut most, mut since) = (0, Instant::now());
    while !giant.installation.logged("snapshot done") {
        assert!(since.elapsed() < PATIENCE, "the snapshot stands at {most}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Some(now) = giant.committed().await.filter(|now| *now > most) {
            (most, since) = (now, Instant::now());
        }
    }
    // What was read last is committed a moment later.
    let rows =
        |lanes: Vec<serde_json::Value>| lanes[0]["snapshots"][0]["done"].as_bool().filter(|done| *done);
    until("the last chunk is committed", async || giant.installation.lanes().and_then(rows)).await;
}
