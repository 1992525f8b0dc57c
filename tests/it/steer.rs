//! What an operator does to the lanes of a subscription, on both buses and in both stores: pause, resume, rewind, reload;
//! first only asked what it would do, then done, beside a program that runs and without one.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hutong_testkit::launch::{Database, Postgres, connect};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::installation::{Bus, Installation, seed, until};
use crate::replica::{Expected, Projection, Replica};

const TABLE: &str = "CREATE SEQUENCE versions;
    CREATE TABLE entry (id bigint PRIMARY KEY, version bigint NOT NULL, note text);
    INSERT INTO entry SELECT n, nextval('versions'), '初始' || n FROM generate_series(1, 400) n;";

const CONTRACT: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"version","type":"long"},{"name":"note","type":["null","string"]}]}"#;

/// Two subscriptions that are steered, one in each store, and one that is left alone.
const STEERED: [&str; 2] = ["shared", "filed"];

fn configuration(owner: &str, source: &Database, share: &Database) -> String {
    let subscription = |name: &str, store: &str, table: &str| {
        format!(
            "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n\
             columns = [\"id\", \"version\", \"note\"]\ninto = {{ store = \"{store}\", table = \"{table}\" }}\n"
        )
    };
    format!(
        "[department.{owner}]\nname = \"市公安局\"\n[department.renshe]\nname = \"市人社局\"\n\
         [store.source.postgres]\nurl = \"{}\"\n[store.share.postgres]\nurl = \"{}\"\n\
         [store.office.sqlite]\npath = \"office.db\"\n\
         [stream.entry]\nowner = \"{owner}\"\ncontract = \"entry.avsc\"\npartitions = 2\n\
         [capture.{owner}]\nfrom = \"source\"\ntables = {{ \"public.entry\" = \"entry\" }}\n\
         watermark_interval = \"1s\"\n{}{}{}",
        source.url,
        share.url,
        subscription("shared", "share", "share.entry"),
        subscription("filed", "office", "entry"),
        subscription("witness", "office", "witness"),
    )
}

/// A register that keeps changing, with its replicas.
struct Town {
    url: String,
    client: Client,
    replica: Client,
    installation: Installation,
}

impl Town {
    async fn new(bus: Bus) -> Self {
        let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
        let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
        client.batch_execute(TABLE).await.unwrap();
        let configuration = configuration(&source.name, &source, &share);
        let installation = Installation::new(bus, &source.name, &configuration).await;
        installation.write("entry.avsc", CONTRACT);
        Self { url: source.url.clone(), client, replica, installation }
    }

    /// Waits until the named replicas hold what the register does.
    async fn equal(&self, names: &[&str]) {
        let columns = || ["id", "version", "note"].iter().map(|c| Expected::same(c)).collect();
        let entries = Projection { from: "entry".into(), columns: columns() };
        let office = self.installation.path("office.db");
        for name in names {
            let replica = match *name {
                "shared" => Replica::Postgres(&self.replica, "share.entry"),
                "filed" => Replica::Sqlite(&office, "entry"),
                _ => Replica::Sqlite(&office, "witness"),
            };
            entries.reached(&self.client, &replica).await;
        }
    }

    /// Changes the register in short transactions until it is told to stop, and truncates it now and then.
    async fn works(&self, seed: u64, stopped: &AtomicBool) {
        let client = connect(&self.url).await.unwrap();
        let mut rng = StdRng::seed_from_u64(seed);
        while !stopped.load(Ordering::Relaxed) {
            let id = rng.random_range(1..600);
            let some = format!("id BETWEEN {id} AND {}", id + 3);
            let fill = "INSERT INTO entry SELECT n, nextval('versions'), '再' FROM generate_series(1, 200) n";
            let sql = match rng.random_range(0..40) {
                0 => format!("BEGIN; TRUNCATE entry; {fill}; COMMIT"),
                1..10 => format!("DELETE FROM entry WHERE {some}"),
                10..20 => format!(
                    "INSERT INTO entry SELECT n, nextval('versions'), '新' FROM generate_series({id}, {}) n ON CONFLICT DO NOTHING",
                    id + 5
                ),
                20..25 => format!("UPDATE entry SET id = 1000000 + nextval('versions') WHERE id = {id}"),
                _ => format!("UPDATE entry SET version = nextval('versions') WHERE {some}"),
            };
            client.batch_execute(&sql).await.unwrap();
            // An office's pace.
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Does `work` while the register keeps changing.
    async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let stopped = AtomicBool::new(false);
        let work = async {
            let done = work.await;
            stopped.store(true, Ordering::Relaxed);
            done
        };
        tokio::join!(self.works(seed(), &stopped), work).1
    }

    /// Runs `hutong subscription VERB NAME …`.
    fn steer(&self, verb: &str, name: &str, rest: &[&str]) -> crate::cli::Ended {
        self.installation.ask(&[&["subscription", verb, name], rest].concat())
    }

    /// Runs it, and returns its answer.
    fn answer(&self, verb: &str, name: &str, rest: &[&str]) -> Json {
        let out = self.steer(verb, name, &[rest, &["-o", "json"]].concat()).expect(0);
        serde_json::from_str(&out).unwrap()
    }

    /// Reloads a subscription while nothing changes: whoever reads its replica meanwhile finds all of it.
    async fn serves_while_it_is_reloaded(&self, name: &str) {
        let (whole, anew) = self.rows_and_lanes_anew(name).await;
        assert!(whole > 100 && anew == 0, "{name}: {whole} rows, {anew} lanes");
        self.steer("reload", name, &[]).expect(0);
        let filled = async {
            loop {
                match self.rows_and_lanes_anew(name).await {
                    (rows, _) if rows != whole => panic!("{name}: {rows} of {whole} rows are served"),
                    (_, 0) => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let filled = tokio::time::timeout(Duration::from_secs(60), filled).await;
        filled.unwrap_or_else(|_| panic!("{name} is not filled anew"));
    }

    /// Returns how many rows the replica of a subscription has, and how many of its lanes are not filled anew yet.
    async fn rows_and_lanes_anew(&self, name: &str) -> (i64, i64) {
        let sql = |table: &str, lanes: &str, checkpoint: &str| {
            format!(
                "SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM {lanes} WHERE lane LIKE \
                 'replicate.{name}.%' AND (\"grant\" = 'reload' OR {checkpoint} LIKE '%beside.%'))"
            )
        };
        if name == "shared" {
            let sql = sql("share.entry", "hutong.hutong_lane", "\"position\"::text");
            let row = self.replica.query_one(&sql, &[]).await.unwrap();
            return (row.get(0), row.get(1));
        }
        let db = Connection::open(self.installation.path("office.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = sql("entry", "hutong_lane", "checkpoint");
        db.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    /// Waits until all lanes of a subscription are in a state, and returns them.
    async fn lanes(&self, name: &str, state: &str) -> Vec<Json> {
        until(&format!("the lanes of {name} are {state}"), async || {
            let lanes = self.installation.lanes()?;
            let pipeline = format!("replicate.{name}");
            let own: Vec<Json> = lanes.into_iter().filter(|lane| lane["pipeline"] == pipeline).collect();
            (own.len() == 2 && own.iter().all(|lane| lane["state"] == state)).then_some(own)
        })
        .await
    }

    /// Returns every row of a subscriber's store that Hutong has anything to do with, as text.
    async fn held(&self) -> BTreeMap<String, Vec<String>> {
        let mut held = BTreeMap::new();
        for table in
            ["share.entry", "hutong.hutong_lane", "hutong.hutong_quarantine", "hutong.hutong_receipt"]
        {
            let sql = format!("SELECT t::text FROM {table} t ORDER BY 1");
            let rows = self.replica.query(&sql, &[]).await.unwrap();
            held.insert(table.to_owned(), rows.iter().map(|row| row.get(0)).collect());
        }
        let db = Connection::open(self.installation.path("office.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        for table in ["entry", "witness", "hutong_lane", "hutong_quarantine", "hutong_receipt"] {
            let mut statement = db.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                (0..columns).map(|at| row.get_ref(at).map(|v| format!("{v:?}"))).collect()
            };
            let rows: Vec<Vec<String>> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
            held.insert(table.to_owned(), rows.iter().map(|row| row.join("|")).collect());
        }
        held
    }

    /// Returns how many rows were received twice: receipts that begin before an earlier one has ended.
    async fn received_twice(&self) -> i64 {
        let place = |side: &str| format!("(SELECT max(value) FROM jsonb_each_text(\"{side}\"))");
        let sql = format!(
            "SELECT count(*) FROM (SELECT {} f, max({}) OVER (PARTITION BY lane ORDER BY id ROWS BETWEEN UNBOUNDED \
             PRECEDING AND 1 PRECEDING) t FROM hutong.hutong_receipt) r WHERE f COLLATE \"C\" < t",
            place("from"),
            place("to")
        );
        let shared: i64 = self.replica.query_one(&sql, &[]).await.unwrap().get(0);
        let db = Connection::open(self.installation.path("office.db")).unwrap();
        let mut statement = db.prepare("SELECT lane, delta FROM hutong_receipt ORDER BY id").unwrap();
        let mut reached: BTreeMap<String, String> = BTreeMap::new();
        let mut filed = 0;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
        for (lane, delta) in rows.map(Result::unwrap) {
            let delta: Json = serde_json::from_str(&delta).unwrap();
            let range = delta["ranges"].as_object().unwrap().values().next().unwrap();
            let (from, to) = (range[0].as_str().unwrap().to_owned(), range[1].as_str().unwrap().to_owned());
            filed += i64::from(reached.get(&lane).is_some_and(|before| from < *before));
            reached.insert(lane, to);
        }
        shared + filed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i7_a_paused_subscription_stands_and_goes_on_where_it_stood_over_a_folder() {
    paused_and_resumed(Bus::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i7_a_paused_subscription_stands_and_goes_on_where_it_stood_over_kafka() {
    paused_and_resumed(Bus::Kafka).await;
}

async fn paused_and_resumed(bus: Bus) {
    let town = Town::new(bus).await;
    let refused = town.steer("pause", "shared", &["--reason", "早"]);
    assert!(refused.code == 9 && refused.err.contains("has written nothing yet"), "{}", refused.err);
    assert_eq!(town.steer("pause", "shared", &[]).code, 2, "nobody finds it paused without a reason");
    let run = town.installation.run();
    town.equal(&["shared", "filed", "witness"]).await;

    // In the midst of changes.
    town.beside(async {
        for name in STEERED {
            let said = town.steer("pause", name, &["--reason", "库要维护", "--by", "小李"]).expect(0);
            assert!(
                said.contains("2 lanes stand where they are") && said.contains("without a restart"),
                "{said}"
            );
            let lanes = town.lanes(name, "paused").await;
            for lane in &lanes {
                assert_eq!((&lane["verdict"], &lane["error"]), (&"paused".into(), &Json::Null), "{lane}");
                assert_eq!(
                    (&lane["pause"]["by"], &lane["pause"]["reason"]),
                    (&"小李".into(), &"库要维护".into())
                );
            }
        }
    })
    .await;
    let stood = town.held().await;
    town.beside(town.equal_in_the_end()).await;
    town.equal(&["witness"]).await;
    let now = town.held().await;
    for table in ["share.entry", "entry", "hutong.hutong_receipt"] {
        assert_eq!(now[table], stood[table], "{table}: nothing more is written");
    }
    assert_ne!(now["witness"], stood["witness"], "others flow");
    let status = town.installation.ask(&["status"]).expect(0);
    assert!(
        status.contains("replicate.shared is paused since") && status.contains("by 小李, because: 库要维护"),
        "{status}"
    );
    let ready = reqwest::get(format!("http://{}/readyz?verbose", town.installation.address())).await.unwrap();
    assert_eq!(ready.status(), 200);
    let ready = ready.text().await.unwrap();
    assert!(ready.contains("[+]replicate.filed.1 paused, paused\n"), "{ready}");
    let lag = town.lanes("shared", "paused").await[0]["lag_seconds"].as_f64().unwrap();
    until("its lag grows", async || {
        (town.lanes("shared", "paused").await[0]["lag_seconds"].as_f64()? > lag).then_some(())
    })
    .await;
    let again = town.steer("pause", "shared", &["--reason", "再"]).expect(0);
    assert!(again.contains("is paused already, since") && again.contains("库要维护"), "{again}");

    run.kill();
    let run = town.installation.run();
    for name in STEERED {
        town.lanes(name, "paused").await;
    }
    town.client.batch_execute("UPDATE entry SET version = nextval('versions')").await.unwrap();
    town.equal(&["witness"]).await;
    assert_eq!(town.held().await["share.entry"], stood["share.entry"], "I7: also after a kill");
    // One while it runs, the other while nothing does.
    let said = town.steer("resume", "shared", &["--by", "小王"]).expect(0);
    assert!(said.contains("2 lanes go on where they stood"), "{said}");
    town.beside(town.lanes("shared", "running")).await;
    town.equal(&["shared", "witness"]).await;
    run.stop().await;
    town.steer("resume", "filed", &[]).expect(0);
    let nothing = town.steer("resume", "filed", &[]).expect(0);
    assert!(nothing.contains("is not paused: nothing is done"), "{nothing}");
    let run = town.installation.run();
    town.equal(&["shared", "filed", "witness"]).await;
    assert_eq!(town.received_twice().await, 0, "I2: once");
    let history: Json = serde_json::from_str(
        &town.installation.ask(&["subscription", "history", "shared", "-o", "json"]).expect(0),
    )
    .unwrap();
    let acts: Vec<(&str, &str, usize)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|act| {
            (
                act["verb"].as_str().unwrap(),
                act["by"].as_str().unwrap(),
                act["lanes"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(acts, [("pause", "小李", 2), ("resume", "小王", 2)]);
    run.stop().await;
}

impl Town {
    /// Lets enough happen that whoever is not paused has moved.
    async fn equal_in_the_end(&self) {
        let version = async || -> i64 {
            self.client.query_one("SELECT last_value FROM versions", &[]).await.unwrap().get(0)
        };
        let before = version().await;
        until("the register has changed", async || (version().await > before + 300).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_rewind_and_a_reload_beside_changes_converge_over_a_folder() {
    rewound_and_reloaded(Bus::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_rewind_and_a_reload_beside_changes_converge_over_kafka() {
    rewound_and_reloaded(Bus::Kafka).await;
}

async fn rewound_and_reloaded(bus: Bus) {
    let town = Town::new(bus).await;
    let run = town.installation.run();
    town.equal(&["shared", "filed", "witness"]).await;
    let now = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let base: String = town.client.query_one(now, &[]).await.unwrap().get(0);
    town.beside(town.equal_in_the_end()).await;

    for name in STEERED {
        let early = town.steer("rewind", name, &["--to-time", "2000-01-01T08:00:00+08:00"]);
        assert_eq!(early.code, 7, "{}{}", early.out, early.err);
        let hint = format!("hutong subscription reload {name}");
        assert!(
            early.err.contains("the base of its topic begins at") && early.err.contains(&hint),
            "{}",
            early.err
        );
        let late = town.steer("rewind", name, &["--to-time", "2999-01-01T08:00:00+08:00"]);
        assert!(late.code == 9 && late.err.contains("still to come"), "{}{}", late.out, late.err);
        assert_eq!(town.steer("rewind", name, &["--to-time", "gestern"]).code, 4);
    }
    // While it runs and changes come, with truncates among what is read again.
    town.beside(async {
        for name in STEERED {
            let answer = town.answer("rewind", name, &["--to-time", &base, "--reason", "改错了"]);
            assert!(answer["records"].as_u64().unwrap() > 100, "{answer}");
            let lanes = answer["lanes"].as_array().unwrap();
            assert!(
                lanes.iter().all(|lane| lane["done"] == true && lane["to"].as_u64() < lane["from"].as_u64()),
                "{answer}"
            );
            assert!(answer["runs_at"].is_string(), "{answer}");
            town.lanes(name, "running").await;
        }
        town.equal_in_the_end().await;
    })
    .await;
    town.equal(&["shared", "filed", "witness"]).await;

    town.beside(async {
        for name in STEERED {
            let said = town.steer("reload", name, &["--reason", "有人手改过"]).expect(0);
            assert!(
                said.contains("2 lanes begin at the base") && said.contains("without a restart"),
                "{said}"
            );
        }
        town.equal_in_the_end().await;
    })
    .await;
    town.equal(&["shared", "filed", "witness"]).await;
    for name in STEERED {
        town.serves_while_it_is_reloaded(name).await;
    }
    run.stop().await;
    // The same without a process.
    town.steer("rewind", "filed", &["--to-time", &base]).expect(0);
    town.steer("reload", "shared", &[]).expect(0);
    let history = town.installation.ask(&["subscription", "history", "filed"]).expect(0);
    for word in ["rewind to", "改错了", "reload", "有人手改过", "2 of 2"] {
        assert!(history.contains(word), "{word} in\n{history}");
    }
    let run = town.installation.run();
    town.client.batch_execute("DELETE FROM entry WHERE id % 3 = 0").await.unwrap();
    town.equal(&["shared", "filed", "witness"]).await;
    for lane in town.lanes("filed", "running").await {
        assert_eq!((&lane["quarantined"], &lane["error"]), (&0.into(), &Json::Null), "{lane}");
    }
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_be_done_and_touches_nothing() {
    let town = Town::new(Bus::Embedded).await;
    let run = town.installation.run();
    town.equal(&["shared", "filed", "witness"]).await;
    run.stop().await;
    // As if the snapshot were two hours old, but for the records by which lanes know that they read on in the same topic.
    let bus = town.installation.path("bus").join("bus.sqlite");
    let older = "UPDATE record SET written_us = written_us - 7200000000 WHERE offset <
        (SELECT max(last.offset) FROM record last WHERE (last.topic, last.partition) = (record.topic, record.partition))";
    Connection::open(&bus).unwrap().execute_batch(older).unwrap();
    let run = town.installation.run();
    town.client
        .batch_execute("UPDATE entry SET version = nextval('versions') WHERE id <= 100")
        .await
        .unwrap();
    town.equal(&["shared", "filed", "witness"]).await;
    run.stop().await;
    let bytes = || fs::read(&bus).unwrap();
    let (held, folder, office) =
        (town.held().await, bytes(), fs::read(town.installation.path("office.db")).unwrap());

    for name in STEERED {
        let dry = |verb: &str, rest: &[&str]| town.answer(verb, name, &[rest, &["--dry-run"]].concat());
        let pause = dry("pause", &["--reason", "试"]);
        assert_eq!((&pause["dry_run"], &pause["lanes"][1]["done"]), (&true.into(), &true.into()), "{pause}");
        assert_eq!(dry("resume", &[])["lanes"][0]["done"], false);
        let rewind = dry("rewind", &["--to-time", "1h"]);
        let again = rewind["records"].as_u64().unwrap();
        // The changes, and what frames them; nothing of the snapshot.
        assert!((100..200).contains(&again), "{rewind}");
        let early = town.steer("rewind", name, &["--to-time", "3h", "--dry-run"]);
        assert_eq!(early.code, 7, "it would be refused: {}{}", early.out, early.err);
        let reload = dry("reload", &["--reason", "试"]);
        assert_eq!(reload["rows"], 400, "{reload}");
        assert!(reload["records"].as_u64().unwrap() >= 500, "{reload}");
        let said = town.steer("reload", name, &["--dry-run"]).expect(0);
        assert!(
            said.contains("dry run: nothing is changed") && said.contains("400 rows are replaced"),
            "{said}"
        );
        let said = town.steer("rewind", name, &["--to-time", "1h", "--dry-run"]).expect(0);
        assert!(said.contains("would be set back") && said.contains("older states"), "{said}");
    }

    assert_eq!(town.held().await, held, "no row of the stores");
    assert!(bytes() == folder, "no byte of the bus");
    assert!(fs::read(town.installation.path("office.db")).unwrap() == office, "no byte of the file");
    let history = town.installation.ask(&["subscription", "history", "shared"]).expect(0);
    assert!(history.contains("nobody has done anything"), "{history}");

    // And then it is done as it was said.
    for name in STEERED {
        let would = town.answer("rewind", name, &["--to-time", "1h", "--dry-run"]);
        let is = town.answer("rewind", name, &["--to-time", "1h"]);
        assert_eq!(is["lanes"], would["lanes"]);
        assert_eq!(
            town.answer("rewind", name, &["--to-time", "1h"])["lanes"][0]["done"],
            false,
            "it stands there"
        );
    }
    let run = town.installation.run();
    town.client.batch_execute("DELETE FROM entry WHERE id = 7").await.unwrap();
    town.equal(&["shared", "filed", "witness"]).await;
    run.stop().await;
}
