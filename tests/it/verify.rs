//! `hutong verify`: no false alarm while everything changes, every planted difference by its key, and a repair that
//! mends just those.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hutong_testkit::launch::{Database, Postgres, connect};
use rusqlite::Connection;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::cli::Ended;
use crate::end_to_end;
use crate::installation::{Bus, Installation, seed, until};
use crate::register;

/// Every subscription of the end-to-end configuration: into PostgreSQL and SQLite, masked, filtered, of every type.
const ALL: [&str; 6] =
    ["all_people", "all_marriages", "all_types", "some_people", "office_marriages", "office_types"];

/// How long a writer rests after four transactions.
const PACE: Duration = Duration::from_millis(250);

/// Changes the registers until it is dropped.
struct Workload<'a>(&'a AtomicBool);

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while writers keep changing the registers; returns how many transactions they have made.
fn while_changing(source: &Database, writers: u64, seed: u64, act: impl FnOnce()) -> usize {
    let (stop, made) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (stop, made, url) = (&stop, &made, &source.url);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let client = connect(url).await.unwrap();
                    for round in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        register::change(&client, seed ^ (round << 8) ^ writer, 4).await;
                        made.fetch_add(4, Ordering::Relaxed);
                        // Not faster than a capture can be on a machine that does other things too.
                        tokio::time::sleep(PACE).await;
                    }
                });
            });
        }
        let workload = Workload(&stop);
        act();
        drop(workload);
    });
    made.into_inner()
}

/// Verifies, and returns the answer with how it ended.
fn verified(installation: &Installation, subscription: &str, more: &[&str]) -> (Json, Ended) {
    let mut arguments = vec!["verify", subscription, "-o", "json"];
    arguments.extend(more);
    let ended = installation.ask(&arguments);
    let answer = serde_json::from_str(&ended.out);
    (answer.unwrap_or_else(|e| panic!("{e}\n{}\n{}", ended.out, ended.err)), ended)
}

/// Lets the capture say often how far it is: each look waits for it twice.
fn often(configuration: &str) -> String {
    configuration.replace("watermark_interval = \"1s\"", "watermark_interval = \"200ms\"")
}

fn set_up(installation: &Installation, source: &Database) {
    installation.copy_contract("population_base");
    installation.write("marriage.avsc", register::MARRIAGE_CONTRACT);
    installation.draft_contract(&source.url, "every_type", "every_type");
    installation.ask(&["check"]).expect(0);
}

async fn i3_no_false_alarm(bus: Bus, people: usize, rounds: usize) {
    let seed = seed();
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let configuration = often(&end_to_end::configuration(&source, &share));
    let installation = Installation::new(bus, &source.name, &configuration).await;
    installation.announce(&["quarantined"]);
    let client = connect(&source.url).await.unwrap();
    register::create(&client, people).await;
    set_up(&installation, &source);
    let early = installation.ask(&["verify", "all_people", "--patience", "3"]);
    assert_eq!(early.code, 3, "a stream that nobody has captured: {}{}", early.out, early.err);
    assert!(early.err.contains("hutong run"), "it says what to do: {}", early.err);
    let run = installation.run();
    end_to_end::idle(&installation).await;

    // Nobody changes anything: one look at each side is enough.
    for subscription in ALL {
        let (answer, ended) = verified(&installation, subscription, &[]);
        assert_eq!((ended.code, &answer["equal"]), (0, &json!(true)), "{subscription}: {answer:#}");
        assert!(answer["source_rows"].as_u64() > Some(10), "{answer:#}");
        if answer["waiting_without_key"] == 0 && answer["waiting"] == json!([]) {
            assert_eq!(answer["source_rows"], answer["replica_rows"], "{subscription}: {answer:#}");
        }
    }

    // Everything changes all the time.
    let mut looked = 0;
    let made = while_changing(&source, 2, seed, || {
        for _ in 0..rounds {
            for subscription in ALL {
                let (answer, ended) = verified(&installation, subscription, &["--rounds", "3"]);
                assert_eq!(answer["differing"], json!([]), "{subscription}: {answer:#}");
                assert_eq!(ended.code, 0, "{subscription}: {answer:#}\n{}", ended.err);
                looked += answer["rounds"].as_u64().unwrap();
            }
        }
    });
    println!("{made} transactions while {looked} looks were taken");
    let once = (rounds * ALL.len()) as u64;
    assert!(looked > once, "some looks met a change on its way: {looked} looks, {made} transactions");

    // What waits is said to wait: a value that no bus carries, and one that SQLite does not hold.
    for sql in [
        "INSERT INTO every_type (id, t) VALUES (2001, 'x'), (2002, 'y')",
        "UPDATE every_type SET da = 'infinity' WHERE id = 2001",
        "UPDATE every_type SET f8 = 'NaN' WHERE id = 2002",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let (answer, ended) = verified(&installation, "all_types", &[]);
    assert_eq!(ended.code, 0, "{answer:#}");
    assert_eq!(answer["waiting"], json!([{"at": "source", "rule": "not_carried", "count": 1}]), "{answer:#}");
    let (answer, ended) = verified(&installation, "office_types", &[]);
    assert_eq!(ended.code, 0, "{answer:#}");
    let waits: Vec<&Json> = answer["waiting"].as_array().unwrap().iter().map(|item| &item["at"]).collect();
    assert!(waits.contains(&&json!("source")) && waits.contains(&&json!("replica")), "{answer:#}");
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i6_no_false_alarm_while_everything_changes_over_a_folder() {
    i3_no_false_alarm(Bus::Embedded, 400, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_i6_no_false_alarm_while_everything_changes_over_kafka() {
    i3_no_false_alarm(Bus::Kafka, 400, 1).await;
}

/// The people whom the workload does not touch.
fn person(n: usize) -> String {
    format!("citizen({n})")
}

async fn number(client: &Client, n: usize) -> String {
    client.query_one(&format!("SELECT {}", person(n)), &[]).await.unwrap().get(0)
}

/// Returns key to offset of every row of a replica.
async fn offsets(client: &Client, table: &str) -> BTreeMap<String, i64> {
    let sql = format!("SELECT gmsfhm, hutong_offset FROM {table}");
    client.query(&sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn sorted(answer: &Json) -> Vec<(String, String, Vec<String>)> {
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    let mut found: Vec<_> = answer["differing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let columns = item["columns"].as_array().unwrap().iter().map(text).collect();
            (text(&item["difference"]), text(&item["key"]["gmsfhm"]), columns)
        })
        .collect();
    found.sort();
    found
}

/// A department's own table beside the two that Hutong makes.
const OWN: &str = r#"
[subscription.own_people]
department = "renshe"
stream = "population_base"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["gmsfhm", "xm", "lxdh"]
into = { store = "share", table = "own_people" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_planted_differences_are_named_by_key_and_mended_and_nothing_else_is_rewritten() {
    let seed = seed();
    let (source, share) = (Postgres::shared().await.unwrap(), Postgres::shared().await.unwrap());
    let configuration = often(&end_to_end::configuration(&source, &share)) + OWN;
    let installation = Installation::new(Bus::Embedded, &source.name, &configuration).await;
    installation.announce(&["quarantined"]);
    let (client, replica) = (connect(&source.url).await.unwrap(), connect(&share.url).await.unwrap());
    // So many that what the workload changes lies far from the people of the test.
    register::create(&client, 2_000).await;
    client.batch_execute(&register::insert_people(19_000, 60, 1)).await.unwrap();
    replica
        .batch_execute("CREATE TABLE own_people (gmsfhm char(18) PRIMARY KEY, xm text, lxdh text, seen timestamptz DEFAULT now())")
        .await
        .unwrap();
    set_up(&installation, &source);
    let run = installation.run();
    until("the last person is everywhere", async || {
        let last = number(&client, 19_059).await;
        let sql = "SELECT (SELECT count(*) FROM share.people WHERE gmsfhm = $1)
                        + (SELECT count(*) FROM own_people WHERE gmsfhm = $1)";
        let found: i64 = replica.query_one(sql, &[&last]).await.ok()?.get(0);
        (found == 2).then_some(())
    })
    .await;

    // Somebody writes into the replicas by hand.
    let (gone, extra, other, masked) = (
        number(&client, 19_030).await,
        number(&client, 19_999).await,
        number(&client, 19_031).await,
        number(&client, 19_032).await,
    );
    let insert = format!(
        "INSERT INTO share.people SELECT (jsonb_populate_record(p, '{{\"gmsfhm\": \"{extra}\"}}')).* FROM share.people p
          WHERE gmsfhm = '{other}'"
    );
    for sql in [
        format!("DELETE FROM share.people WHERE gmsfhm = '{gone}'"),
        insert,
        format!("UPDATE share.people SET xm = '被改的名', hjdz = '别处' WHERE gmsfhm = '{other}'"),
        format!("DELETE FROM own_people WHERE gmsfhm = '{gone}'"),
        format!("UPDATE own_people SET xm = '被改的名' WHERE gmsfhm = '{other}'"),
        format!("UPDATE own_people SET lxdh = '13811112222' WHERE gmsfhm = '{masked}'"),
    ] {
        assert_eq!(replica.execute(&sql, &[]).await.unwrap(), 1, "{sql}");
    }
    let difference = |kind: &str, key: &String, columns: &[&str]| {
        (kind.to_owned(), key.clone(), columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
    };
    let in_people = [
        difference("altered", &other, &["xm", "hjdz"]),
        difference("missing", &gone, &[]),
        difference("surplus", &extra, &[]),
    ];
    let in_own = [
        difference("altered", &other, &["xm"]),
        difference("altered", &masked, &["lxdh"]),
        difference("missing", &gone, &[]),
    ];
    let planted = [("all_people", &in_people), ("own_people", &in_own)];

    // Found while everything else changes, by key and column, without a value.
    while_changing(&source, 2, seed, || {
        for (subscription, expected) in planted {
            let (answer, ended) = verified(&installation, subscription, &["--rounds", "4"]);
            assert_eq!(ended.code, 10, "{answer:#}\n{}", ended.err);
            assert_eq!(sorted(&answer), expected, "{subscription}: {answer:#}");
        }
    });
    let told = installation.ask(&["verify", "all_people", "--repair", "--dry-run"]);
    assert_eq!(told.code, 10, "{}{}", told.out, told.err);
    for says in ["3 rows differ", "would mend 3 rows", "altered", "missing", "surplus", &gone, "xm, hjdz"] {
        assert!(told.out.contains(says), "{says}: {}", told.out);
    }
    assert!(!told.out.contains("被改的名") && !told.out.contains("别处"), "no value: {}", told.out);

    // Mended, and every other row stands where it stood.
    let before = offsets(&replica, "share.people").await;
    let (answer, ended) = verified(&installation, "all_people", &["--repair"]);
    assert_eq!(ended.code, 0, "{answer:#}\n{}", ended.err);
    assert_eq!((&answer["mended"], &answer["after"]["equal"]), (&json!(3), &json!(true)), "{answer:#}");
    let after = offsets(&replica, "share.people").await;
    let touched: Vec<&String> = after.keys().filter(|key| before.get(*key) != after.get(*key)).collect();
    let mut expected = vec![&gone, &other];
    expected.sort();
    assert_eq!(touched, expected);
    assert!(!after.contains_key(&extra));
    // The same changes went to every subscriber, so this one is mended but for what only it differs in.
    let (answer, ended) = verified(&installation, "own_people", &[]);
    assert_eq!(
        (ended.code, sorted(&answer)),
        (10, vec![difference("altered", &masked, &["lxdh"])]),
        "{answer:#}"
    );
    let (answer, ended) = verified(&installation, "own_people", &["--repair"]);
    assert_eq!((ended.code, &answer["mended"]), (0, &json!(1)), "{answer:#}");
    let phone = format!("SELECT lxdh FROM own_people WHERE gmsfhm = '{masked}'");
    let phone: Option<String> = replica.query_one(&phone, &[]).await.unwrap().get(0);
    assert_ne!(phone.as_deref(), Some("13811112222"));
    run.stop().await;
}

const ENTRY: &str = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
    {"name":"note","type":["null","string"]},
    {"name":"at","type":["null",{"type":"long","logicalType":"local-timestamp-micros"}]},
    {"name":"span","type":["null",{"type":"string","connect.name":"io.debezium.time.Interval"}]}]}"#;

/// Of a register in SQLite, with a store in PostgreSQL and one in SQLite; the subscriptions follow.
pub(crate) fn office_and_stores(owner: &str, share: &str) -> String {
    format!(
        r#"
[department.{owner}]
name = "街道办"
[department.renshe]
name = "市人社局"
[store.office.sqlite]
path = "office.db"
[store.share.postgres]
url = "{share}"
[store.copy.sqlite]
path = "copy.db"
[stream.entry]
owner = "{owner}"
contract = "entry.avsc"
[capture.{owner}]
from = "office"
tables = {{ "entry" = "entry" }}
watermark_interval = "200ms"
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_register_in_sqlite_is_verified_and_mended_in_postgres_and_in_sqlite() {
    let share = Postgres::shared().await.unwrap();
    let owner = &share.name;
    let configuration = office_and_stores(owner, &share.url)
        + r#"
[subscription.shared]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "note", "at", "span"]
into = { store = "share", table = "share.entry" }
[subscription.copied]
department = "renshe"
stream = "entry"
purpose = "核验"
columns = ["id", "note"]
rows = "note <> '内部'"
into = { store = "copy", table = "entry" }
"#;
    let installation = Installation::new(Bus::Embedded, owner, &configuration).await;
    installation.announce(&["quarantined"]);
    installation.write("entry.avsc", ENTRY);
    let office = Connection::open(installation.path("office.db")).unwrap();
    office.busy_timeout(Duration::from_secs(10)).unwrap();
    // The keys are numbers in two forms, and both are one to the contract.
    office
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE entry (id DECIMAL TEXT PRIMARY KEY, note TEXT, at TIMESTAMP, span TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
             INSERT INTO entry SELECT iif(i % 2, i || '.50', i || ''), iif(i % 10, '备注' || i, '内部'),
                '2026-01-01 00:00:00.5', 'PT' || i || 'M' FROM n",
        )
        .unwrap();
    installation.ask(&["check"]).expect(0);
    installation.ask(&["source", "install", owner]).expect(0);
    let run = installation.run();
    let replica = connect(&share.url).await.unwrap();
    until("every entry is there", async || {
        let count: i64 = replica.query_one("SELECT count(*) FROM share.entry", &[]).await.ok()?.get(0);
        (count == 300).then_some(())
    })
    .await;
    for subscription in ["shared", "copied"] {
        let (answer, ended) = verified(&installation, subscription, &[]);
        assert_eq!(
            (ended.code, &answer["rounds"]),
            (0, &json!(1)),
            "{subscription}: {answer:#}\n{}",
            ended.err
        );
    }

    replica
        .batch_execute(
            "DELETE FROM share.entry WHERE id = 7.5; UPDATE share.entry SET span = 'PT1S' WHERE id = 8;
             INSERT INTO share.entry SELECT 9999, note, at, span, hutong_lane, hutong_offset FROM share.entry WHERE id = 9.5",
        )
        .await
        .unwrap();
    let copy = Connection::open(installation.path("copy.db")).unwrap();
    copy.busy_timeout(Duration::from_secs(10)).unwrap();
    copy.execute_batch(
        "DELETE FROM entry WHERE id = '11.50'; UPDATE entry SET note = 'x' WHERE id = '12.00';
         INSERT INTO entry SELECT '10.00', '内部', hutong_lane, hutong_offset FROM entry WHERE id = '12.00'",
    )
    .unwrap();
    for subscription in ["shared", "copied"] {
        let (answer, ended) = verified(&installation, subscription, &["--repair"]);
        let kinds: Vec<&str> = answer["differing"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["difference"].as_str().unwrap())
            .collect();
        let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
        let found = (count("missing"), count("altered"), count("surplus"));
        assert_eq!(found, (1, 1, 1), "{subscription}: {answer:#}");
        assert_eq!(
            (ended.code, &answer["mended"]),
            (0, &json!(3)),
            "{subscription}: {answer:#}\n{}",
            ended.err
        );
    }
    let count: i64 = replica.query_one("SELECT count(*) FROM share.entry", &[]).await.unwrap().get(0);
    assert_eq!(count, 300);
    run.stop().await;
}
