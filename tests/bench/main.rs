//! `make bench`: what Hutong does beside what PostgreSQL, Kafka and SQLite do alone, on the same rows in one run.
//!
//! Starts the real servers, measures the built program from outside, and compares at the end of each piece what has
//! arrived with what was sent. `make bench ARGS="PIECE …"` measures single pieces; what a piece needs is done first.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

mod decode;
mod fanout;
mod latency;
mod limit;
mod population;
mod program;
mod table;

use std::time::Instant;

use hutong_testkit::launch::{Kafka, Postgres, Registry, connect};
use tokio_postgres::Client;

use self::program::{Program, Used};
use self::table::Table;

/// The pieces, in the order in which they are measured.
const PIECES: [&str; 8] = ["snapshot", "insert", "decode", "sqlite", "fanout", "stream", "update", "latency"];

/// How many people the register has, unless `--people` says otherwise.
const PEOPLE: usize = 500_000;
/// How many there are at the most where fifty offices read them.
const FANOUT_PEOPLE: usize = 20_000;

struct Bench {
    people: usize,
    pieces: Vec<String>,
    folder: tempfile::TempDir,
    kafka: Kafka,
    registry: Registry,
    postgres: Postgres,
    source_url: String,
    share_url: String,
    source: Client,
    share: Client,
    table: Table,
    /// The largest memory of any run of the program, and the piece of that run.
    peak: (u64, &'static str),
}

#[tokio::main]
async fn main() {
    let mut people = PEOPLE;
    let mut pieces = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--people" => people = arguments.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| usage()),
            piece if PIECES.contains(&piece) => pieces.push(piece.to_owned()),
            _ => usage(),
        }
    }
    if pieces.is_empty() {
        pieces = PIECES.map(str::to_owned).to_vec();
    }
    let started = Instant::now();
    let (fanout, rest): (Vec<String>, Vec<String>) = pieces.into_iter().partition(|piece| piece == "fanout");
    let (mut table, mut peak) = (Table::default(), (0, ""));
    // Fifty offices read everybody's records fifty times over, so they have a smaller register of their own.
    for (people, pieces) in [(people, rest), (people.min(FANOUT_PEOPLE), fanout)] {
        if pieces.is_empty() {
            continue;
        }
        let mut bench = Bench::start(people, pieces, table, peak).await;
        bench.run().await;
        (table, peak) = (bench.table, bench.peak);
    }
    let (memory, piece) = peak;
    let note = format!("in {piece}; at most 150");
    table.add("peak_memory", memory as f64 / 1e6, "MB", Some(150.0), note);
    table.finish();
    println!("{people} people, {:.0} s in all", started.elapsed().as_secs_f64());
}

fn usage() -> ! {
    eprintln!("usage: make bench ARGS=\"[--people N] [PIECE …]\"; pieces: {}", PIECES.join(" "));
    std::process::exit(2);
}

impl Bench {
    async fn start(people: usize, pieces: Vec<String>, table: Table, peak: (u64, &'static str)) -> Self {
        let postgres = Postgres::builder()
            .fsync()
            .setting("shared_buffers", "512MB")
            .setting("max_wal_size", "8GB")
            .setting("checkpoint_timeout", "30min")
            .setting("track_commit_timestamp", "on");
        let (kafka, registry, postgres) = tokio::join!(Kafka::start(), Registry::start(), postgres.start());
        let (kafka, registry, postgres) = (kafka.unwrap(), registry.unwrap(), postgres.unwrap());
        let source_url = postgres.create_database("gongan").await.unwrap();
        let share_url = postgres.create_database("renshe").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        population::configure(folder.path(), &kafka, &registry, &source_url, &share_url);
        let (source, share) = (connect(&source_url).await.unwrap(), connect(&share_url).await.unwrap());
        population::create(&source, people).await;
        let hand = format!("{}; ALTER TABLE hand SET (autovacuum_enabled = off)", population::table("hand"));
        share.batch_execute(&hand).await.unwrap();
        Self {
            people,
            pieces,
            folder,
            kafka,
            registry,
            postgres,
            source_url,
            share_url,
            source,
            share,
            table,
            peak,
        }
    }

    fn wants(&self, pieces: &[&str]) -> bool {
        self.pieces.iter().any(|piece| pieces.contains(&piece.as_str()))
    }

    async fn run(&mut self) {
        if self.wants(&["fanout"]) {
            return self.fanout().await;
        }
        let (out_seconds, rows) = limit::copy_out(&self.source).await;
        let topic = self.snapshot(out_seconds).await;
        if self.wants(&["insert", "update", "latency"]) {
            self.insert(&rows).await;
        }
        drop(rows);
        if self.wants(&["decode"]) {
            self.decode(&topic).await;
        }
        drop(topic);
        if self.wants(&["sqlite"]) {
            self.sqlite().await;
        }
        if self.wants(&["stream", "update"]) {
            self.stream().await;
        }
        if self.wants(&["update"]) {
            self.update().await;
        }
        if self.wants(&["latency"]) {
            self.latency().await;
        }
    }

    fn used(&mut self, piece: &'static str, used: Used) -> String {
        if used.memory > self.peak.0 {
            self.peak = (used.memory, piece);
        }
        let million = used.cpu / self.people as f64 * 1e6;
        format!("{million:.1} CPU s a million, {:.0} MB", used.memory as f64 / 1e6)
    }

    /// Runs pipelines from their opening until one of them has committed a number of changes.
    async fn timed(&self, only: &[&str], until: &str, count: usize) -> (f64, Used) {
        self.source.batch_execute("CHECKPOINT").await.unwrap();
        let mut program = Program::start(self.folder.path(), only);
        let began = program.runs().await;
        let ended = program.committed(until, count as u64).await;
        (ended.duration_since(began).as_secs_f64(), program.stop().await)
    }

    async fn snapshot(&mut self, out_seconds: f64) -> Vec<limit::Record> {
        let (seconds, used) = self.timed(&["capture.gongan"], "capture.gongan", self.people).await;
        let (consume_seconds, records) = limit::consume(&self.kafka, "gongan.population_base.v1");
        let produce_seconds = limit::produce(&self.kafka, &records).await;
        assert_eq!(records.len(), self.people, "each person stands once in the topic");
        let people = self.people as f64;
        let (copy, produce) = (people / out_seconds, people / produce_seconds);
        let used = self.used("snapshot", used);
        let note = format!(
            "target 0.40; {used}; COPY out {copy:.0}, produce {produce:.0}, consume {:.0}",
            people / consume_seconds
        );
        self.table.add("snapshot_capture", people / seconds, "rows/s", Some(copy.min(produce)), note);
        records
    }

    async fn insert(&mut self, rows: &[bytes::Bytes]) {
        let (seconds, used) = self.timed(&["replicate.people"], "replicate.people", self.people).await;
        population::compare(&self.source, &self.share, "share.people", "true").await;
        let hand = limit::upsert(&mut self.share, rows).await;
        population::compare(&self.source, &self.share, "hand", "true").await;
        let note = format!("target 0.60; {}", self.used("insert", used));
        let people = self.people as f64;
        self.table.add("replicate_insert", people / seconds, "rows/s", Some(people / hand), note);
    }

    async fn sqlite(&mut self) {
        let (seconds, used) = self.timed(&["replicate.office"], "replicate.office", self.people).await;
        let file = self.folder.path().join("office.db");
        let count = rusqlite::Connection::open(&file).unwrap();
        let count: i64 = count.query_row("SELECT count(*) FROM people", [], |row| row.get(0)).unwrap();
        assert_eq!(count, self.people as i64);
        let hand = limit::sqlite(&self.source, &self.folder.path().join("hand.db")).await;
        let note = self.used("sqlite", used);
        let people = self.people as f64;
        self.table.add("replicate_sqlite", people / seconds, "rows/s", Some(people / hand), note);
    }

    async fn stream(&mut self) {
        let sql = "SELECT pg_create_logical_replication_slot('raw', 'pgoutput')";
        self.source.execute(sql, &[]).await.unwrap();
        population::update(&self.source, self.people, 1).await;
        let sql = "SELECT (pg_current_wal_flush_lsn() - '0/0')::int8";
        let end: i64 = self.source.query_one(sql, &[]).await.unwrap().get(0);
        let raw = limit::stream(self.postgres.port(), "gongan", "raw", "hutong_gongan", end as u64).await;
        assert_eq!(raw.1, self.people as u64);
        self.source.execute("SELECT pg_drop_replication_slot('raw')", &[]).await.unwrap();
        let (seconds, used) = self.timed(&["capture.gongan"], "capture.gongan", self.people).await;
        let note = format!("target 0.55; {}", self.used("stream", used));
        let people = self.people as f64;
        self.table.add("stream_capture", people / seconds, "changes/s", Some(people / raw.0), note);
    }

    async fn update(&mut self) {
        let (seconds, used) = self.timed(&["replicate.people"], "replicate.people", self.people).await;
        population::compare(&self.source, &self.share, "share.people", "true").await;
        let (_, rows) = limit::copy_out(&self.source).await;
        let hand = limit::upsert(&mut self.share, &rows).await;
        population::compare(&self.source, &self.share, "hand", "true").await;
        drop(rows);
        let people = self.people as f64;
        let note = format!("target 0.60; {}", self.used("update", used));
        self.table.add("replicate_update", people / seconds, "changes/s", Some(people / hand), note);

        population::update(&self.source, self.people, 2).await;
        self.share.batch_execute("VACUUM share.people").await.unwrap();
        let both = ["capture.gongan", "replicate.people"];
        let (seconds, used) = self.timed(&both, "replicate.people", self.people).await;
        population::compare(&self.source, &self.share, "share.people", "true").await;
        let note = format!("target 0.50; {}", self.used("end_to_end", used));
        self.table.add("end_to_end", people / seconds, "changes/s", Some(people / hand), note);
    }

    async fn decode(&mut self, topic: &[limit::Record]) {
        let contract = std::fs::read_to_string(self.folder.path().join("population_base.avsc")).unwrap();
        let rates = decode::measure(&self.registry.url(), &contract, topic).await;
        let note = format!(
            "target 0.75 and 1,000,000; limit serde_avro_fast; decode alone {:.0}, with three masks {:.0}, apache-avro {:.0}",
            rates.decode, rates.decode_mask, rates.apache_avro
        );
        self.table.add("decode_permit", rates.decode_permit, "records/s", Some(rates.serde_avro_fast), note);
    }

    async fn latency(&mut self) {
        // What a load leaves behind is cleaned up now, and not by the server while single changes are timed.
        self.source.batch_execute("VACUUM (ANALYZE) population_base").await.unwrap();
        self.share.batch_execute("VACUUM (ANALYZE) share.people").await.unwrap();
        self.source.batch_execute("CHECKPOINT").await.unwrap();
        let mut program = Program::start(self.folder.path(), &["capture.gongan", "replicate.people"]);
        program.runs().await;
        program.is_at_the_head().await;
        // A broker that has just been started takes some seconds to compile what small transactions need.
        latency::measure(&self.source_url, &self.share_url, self.people as u64, 100, 10, 9).await;
        let names =
            [(100, "latency_100_p50", "latency_100_p99"), (2_000, "latency_2000_p50", "latency_2000_p99")];
        for (round, (rate, p50, p99)) in names.into_iter().enumerate() {
            let (source, share) = (&self.source_url, &self.share_url);
            let found = latency::measure(source, share, self.people as u64, rate, 20, round as u64).await;
            let rest = format!("p95 {:.1}, max {:.1}", found.percentile(95.0), found.percentile(100.0));
            let limits = if rate == 100 { (Some(15.0), Some(40.0)) } else { (None, None) };
            self.table.add(p50, found.percentile(50.0), "ms", limits.0, "at most the limit");
            self.table.add(p99, found.percentile(99.0), "ms", limits.1, rest);
        }
        let used = program.stop().await;
        self.used("latency", used);
        population::compare(&self.source, &self.share, "share.people", "true").await;
    }

    async fn fanout(&mut self) {
        self.timed(&["capture.gongan"], "capture.gongan", self.people).await;
        let (mut used, mut filled) = (Vec::new(), Used::default());
        for (round, count) in [1, 10, 50].into_iter().enumerate() {
            let (folder, people) = (self.folder.path(), self.people as u64);
            let measured = fanout::measure(folder, &self.source_url, count, people, round as u64);
            let (streets, filling) = Box::pin(measured).await;
            self.used("fanout", streets);
            for n in 1..=count {
                let rows = format!("jzdz_xzqh = '9901{n:02}'");
                population::compare(&self.source, &self.share, &format!("share.street{n}"), &rows).await;
            }
            used.push(streets);
            filled = filling;
        }
        let [one, ten, fifty] = [used[0], used[1], used[2]];
        let megabytes = |used: Used| used.memory as f64 / 1e6;
        let note = format!(
            "at most 8 times; 10 take {:.1} times; one takes {:.2} CPU s and {:.0} MB, 50 {:.0} MB, while they are filled {:.0} MB",
            ten.cpu / one.cpu,
            one.cpu,
            megabytes(one),
            megabytes(fifty),
            megabytes(filled),
        );
        self.table.add("fanout_50", fifty.cpu, "CPU s", Some(one.cpu), note);
    }
}
