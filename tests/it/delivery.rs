//! Delivery topics over the built program: the permitted rows, once each, and nobody else's name; another grant begins
//! another topic; a recall leaves none.

use std::collections::{BTreeMap, BTreeSet};

use hutong_bus::embedded::{Bus as Folder, Options};
use hutong_bus::log::Log;
use hutong_testkit::launch::{Kafka, Postgres, Registry, connect};
use rusqlite::Connection;
use serde_json::Value as Json;
use tokio_postgres::Client;

use crate::cli::{ended, python};
use crate::installation::{Bus, Installation, until};

const CONTRACT: &str = r#"{"type":"record","name":"entry","title":"登记","key":["id"],
    "sharing":"conditional","condition":"用于履行法定职责","fields":[
    {"name":"id","type":"long"},{"name":"name","type":["null","string"]},
    {"name":"phone","type":["null","string"]},{"name":"state","type":["null","string"]},
    {"name":"note","type":["null","string"]}]}"#;

/// Sixty people who are in the register, and three whom nobody may learn of.
const TABLE: &str =
    "CREATE TABLE entry (id bigint PRIMARY KEY, name text, phone text, state text, note text);
    ALTER TABLE entry ALTER COLUMN note SET STORAGE EXTERNAL;
    INSERT INTO entry SELECT n, '甲' || n, '139' || (10000000 + n), '正常', repeat('长', 2000)
      FROM generate_series(1, 60) n;
    INSERT INTO entry SELECT n, '乙', '13900000000', '注销', 'x' FROM generate_series(990101, 990103) n";

fn configuration(owner: &str, source: &str) -> String {
    let subscription = |name: &str, rest: &str| {
        format!(
            "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"entry\"\npurpose = \"核验\"\n\
             legal_basis = \"示例法 第一条\"\nuntil = 2099-12-31\ninto = {{ topic = true }}\n{rest}\n"
        )
    };
    format!(
        "[department.{owner}]\nname = \"市公安局\"\n[department.renshe]\nname = \"市人社局\"\n\
         [store.source.postgres]\nurl = \"{source}\"\n\
         [stream.entry]\nowner = \"{owner}\"\ncontract = \"entry.avsc\"\npartitions = 2\n\
         [capture.{owner}]\nfrom = \"source\"\ntables = {{ \"public.entry\" = \"entry\" }}\n\
         chunk_rows = 7\nwatermark_interval = \"1s\"\n{}{}",
        subscription("pension", "columns = [\"id\", \"name\", \"note\"]\nrows = \"state <> '注销'\""),
        subscription(
            "hidden",
            "columns = [\"name\", \"phone\"]\nmask = { phone = \"phone\" }\nkey = { file = \"hidden.key\" }"
        ),
    )
}

/// One round of what happens in the register: rows come, go, change, leave the filter and come back.
fn round(n: i64) -> String {
    format!(
        "UPDATE entry SET name = name || '+' WHERE id % 3 = {n} % 3;
         UPDATE entry SET phone = phone || '0' WHERE id % 5 = {n} % 5;
         UPDATE entry SET state = '注销' WHERE id = {n};
         UPDATE entry SET state = '正常', note = '回来' WHERE id = {n} - 4;
         DELETE FROM entry WHERE id = 60 - {n};
         UPDATE entry SET id = id + 500 WHERE id = 30 + {n};
         INSERT INTO entry VALUES ({n} + 100, '丙', NULL, '正常', NULL), (990200 + {n}, '乙', NULL, '注销', NULL);
         UPDATE entry SET name = name || '-' WHERE id > 990000;
         DELETE FROM entry WHERE id = 990200 + {n} - 2;"
    )
}

/// What a topic has told: the rows in the end, by key, and all keys that were ever named.
#[derive(Default)]
struct Told {
    rows: BTreeMap<String, Json>,
    named: BTreeSet<String>,
}

/// Returns what changes tell, as `hutong tap -o json` prints them. Panics when a change stands there twice.
fn told(changes: &[Json]) -> Told {
    let mut told = Told::default();
    let mut seen = BTreeSet::new();
    for change in changes {
        let (before, after) = (&change["before"], &change["after"]);
        let row = if after.is_null() { before } else { after };
        let key = row[change["key"][0].as_str().unwrap()].to_string();
        // The rows of a chunk share its place; each is read once.
        let once = (change["source_position"].to_string(), change["op"].to_string(), key.clone());
        assert!(seen.insert(once), "twice: {change}");
        told.named.insert(key.clone());
        match after {
            Json::Null => drop(told.rows.remove(&key)),
            row => drop(told.rows.insert(key, row.clone())),
        }
    }
    told
}

/// Returns what a change tells, without where and when it happened: a place or a time may hold any digits.
fn without(change: &Json, names: &[&str]) -> String {
    let mut told = change.clone();
    for name in names {
        told.as_object_mut().unwrap().remove(*name);
    }
    told.to_string()
}

/// Returns the rows that a query makes, as JSON, in an order of their own.
async fn expected(source: &Client, sql: &str) -> Vec<String> {
    let rows = source.query(&format!("SELECT to_jsonb(r)::text FROM ({sql}) r"), &[]).await.unwrap();
    sorted(rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()))
}

fn sorted(rows: impl Iterator<Item = Json>) -> Vec<String> {
    let mut rows: Vec<String> = rows
        .map(|row| {
            let fields: BTreeMap<String, Json> = serde_json::from_value(row).unwrap();
            serde_json::to_string(&fields).unwrap()
        })
        .collect();
    rows.sort();
    rows
}

const PENSION: &str = "SELECT id, name, note FROM entry WHERE state <> '注销'";
const HIDDEN: &str = "SELECT name, CASE WHEN phone IS NULL THEN NULL WHEN phone ~ '^1[0-9]{10}$'
    THEN left(phone, 3) || '****' || right(phone, 4) ELSE repeat('*', length(phone)) END AS phone FROM entry";

/// Waits until every lane has opened, so that its topic is there.
async fn started(installation: &Installation) {
    until("every lane runs", async || {
        let lanes = installation.lanes()?;
        (lanes.len() == 5 && lanes.iter().all(|lane| lane["state"] == "running")).then_some(())
    })
    .await;
}

fn without_key(mut row: Json) -> Json {
    let key = row.as_object_mut().unwrap().remove("hutong_key");
    assert_eq!(key.unwrap().as_str().unwrap().len(), 64);
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i5_i7_a_delivery_topic_tells_the_granted_rows_once_and_names_nobody_else() {
    let source = Postgres::shared().await.unwrap();
    let client = connect(&source.url).await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    let owner = &source.name;
    let installation = Installation::new(Bus::Embedded, owner, &configuration(owner, &source.url)).await;
    installation.write("entry.avsc", CONTRACT);
    installation.write("hidden.key", "0123456789abcdef0123456789abcdef");
    installation.ask(&["check"]).expect(0);
    // A row that leaves the filter could not be told from one that was never in it.
    let probed = installation.ask(&["check", "--probe"]);
    assert!(
        probed.out.contains("ALTER TABLE public.entry REPLICA IDENTITY FULL"),
        "{} {}",
        probed.out,
        probed.err
    );
    assert_ne!(probed.code, 0);
    client.batch_execute("ALTER TABLE entry REPLICA IDENTITY FULL").await.unwrap();
    installation.ask(&["check", "--probe"]).expect(0);

    for n in 0..12 {
        let run = installation.run();
        client.batch_execute(&round(n)).await.unwrap();
        if n % 4 == 3 {
            started(&installation).await;
        }
        // Wherever it stands then.
        run.kill();
    }
    let run = installation.run();
    started(&installation).await;
    let (pension, hidden) = (expected(&client, PENSION).await, expected(&client, HIDDEN).await);
    let reached = |changes: &[Json]| sorted(told(changes).rows.into_values()) == pension;
    let changes = installation.tap_as("entry", &["--delivered", "pension"], reached).await;
    let named = told(&changes).named;
    for change in &changes {
        let told = without(change, &["position", "source_position", "committed_us"]);
        assert!(!told.contains("9901") && !told.contains("9902"), "{named:?}");
    }
    assert!(changes.iter().any(|change| change["op"] == "d"), "rows have left");
    let reached = |changes: &[Json]| sorted(told(changes).rows.into_values().map(without_key)) == hidden;
    let changes = installation.tap_as("entry", &["--delivered", "hidden"], reached).await;
    assert!(changes.iter().all(|change| change["key"][0] == "hutong_key"));
    let status = installation.ask(&["status"]);
    assert!(status.out.contains("deliver.pension.1"), "{}", status.out);
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_a_stranger_reads_a_delivery_topic_by_its_own_schema() {
    let source = Postgres::shared().await.unwrap();
    let client = connect(&source.url).await.unwrap();
    client.batch_execute(&format!("{TABLE}; ALTER TABLE entry REPLICA IDENTITY FULL")).await.unwrap();
    let owner = &source.name;
    let installation = Installation::new(Bus::Kafka, owner, &configuration(owner, &source.url)).await;
    installation.write("entry.avsc", CONTRACT);
    installation.write("hidden.key", "0123456789abcdef0123456789abcdef");
    let run = installation.run();
    started(&installation).await;
    let pension = expected(&client, PENSION).await;
    let reached = |changes: &[Json]| sorted(told(changes).rows.into_values()) == pension;
    installation.tap_as("entry", &["--delivered", "pension"], reached).await;
    let later = "UPDATE entry SET phone = '1' WHERE id = 1; UPDATE entry SET state = '注销' WHERE id = 2;
        TRUNCATE entry; INSERT INTO entry VALUES (7, '丁', NULL, '正常', NULL), (990300, '乙', NULL, '注销', NULL)";
    client.batch_execute(later).await.unwrap();

    let (brokers, registry) =
        (Kafka::shared().await.unwrap().bootstrap(), Registry::shared().await.unwrap().url());
    let topic = format!("{owner}.entry.to.pension.v1");
    // Sixty of the snapshot, one that has left, a truncate in each partition, one that has come.
    let out = ended(python("read_topic.py", &[&brokers, &registry, &topic, "64"])).expect(0);
    let records: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ops = |op: &str| records.iter().filter(|record| record["value"]["op"] == op).collect::<Vec<_>>();
    assert_eq!(["r", "d", "t", "c"].map(|op| ops(op).len()), [60, 1, 2, 1], "{out}");
    assert_eq!(ops("d")[0]["key"]["id"], 2);
    let value = &ops("c")[0]["value"];
    let columns: Vec<&str> = value["after"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(columns, ["id", "name", "note"]);
    for record in &records {
        let told = without(&record["value"], &["source", "transaction", "ts_ms", "ts_us", "ts_ns"]);
        assert!(!told.contains("9903") && !told.contains("9901"), "{out}");
        assert!(!record["key"].to_string().contains("990"), "{out}");
    }
    run.stop().await;
}

const TOWN: &str = r#"
[ledger]
governing = "shuju"
governing_key = "GOVERNING"
keys = { shuju = "shuju.key", gongan = "gongan.key", renshe = "renshe.key" }
[department.shuju]
name = "数据局"
[department.gongan]
name = "公安局"
[department.renshe]
name = "人社局"
[store.office.sqlite]
path = "office.db"
[stream.entry]
owner = "gongan"
contract = "entry.avsc"
partitions = 2
[capture.register]
from = "office"
tables = { entry = "entry" }
watermark_interval = "1s"
[subscription.pension]
department = "renshe"
stream = "entry"
purpose = "核验"
legal_basis = "示例法 第一条"
until = 2099-12-31
columns = ["id", "name", "phone"]
into = { topic = true }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_narrowed_grant_begins_the_next_topic_and_a_recall_leaves_none() {
    let installation = Installation::new(Bus::Embedded, "deliveredtown", TOWN).await;
    installation.announce(&[
        "nothing flows",
        "the configuration asks for something else than is granted: the grant flows",
        "will open again",
    ]);
    installation.write("entry.avsc", CONTRACT);
    let says = |arguments: &[&str]| installation.ask(arguments).expect(0);
    let keys = installation.make_keys(["shuju", "gongan", "renshe"]);
    let office = Connection::open(installation.path("office.db")).unwrap();
    let table = "CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, phone TEXT, state TEXT, note TEXT);
        INSERT INTO entry VALUES (1, '甲', '1', 's', 'n'), (2, '乙', '2', 's', 'n'), (3, '丙', '3', 's', 'n')";
    office.execute_batch(table).unwrap();
    says(&["source", "install", "register"]);
    installation.found(&keys, "entry");
    says(&["subscription", "request", "pension"]);
    let run = installation.run();
    let exists = async |generation: u32| {
        let options = Options { bus: "busdeliveredtown".into(), ..Options::default() };
        let bus = Folder::open_read_only(&installation.path("bus"), options).unwrap();
        bus.extent(&format!("gongan.entry.to.pension.v{generation}")).await.unwrap().is_some()
    };
    let reaches = async |ids: &[i64]| {
        let there = |changes: &[Json]| {
            let rows = told(changes).rows;
            rows.values().map(|row| row["id"].as_i64().unwrap()).eq(ids.iter().copied())
        };
        installation.tap_as("entry", &["--delivered", "pension"], there).await
    };
    // Whether the topic holds a row, as the receipts of its lanes tell, and under which grants it did.
    let traced = async |id: &str, holds: Json, grants: &[u64]| {
        until(&format!("the receipts tell of {id}: {holds} {grants:?}"), async || {
            let told: Json = serde_json::from_str(&says(&["trace", "entry", id, "-o", "json"])).unwrap();
            let one = &told["subscriptions"][0];
            let held = one["holdings"].as_array()?.iter().flat_map(|h| h["grants"].as_array().unwrap());
            let numbers: Vec<u64> = held.map(|grant| grant["number"].as_u64().unwrap()).collect();
            (one["holds"] == holds && numbers == grants).then_some(())
        })
        .await;
    };
    assert!(!exists(1).await, "nothing was granted yet");

    says(&["subscription", "approve", "pension"]);
    until("the topic begins", async || exists(1).await.then_some(())).await;
    reaches(&[1, 2, 3]).await;
    traced("1", true.into(), &[5]).await;
    office.execute_batch("UPDATE entry SET name = '丁' WHERE id = 1").unwrap();

    says(&["subscription", "narrow", "pension", "--rows", "id > 1"]);
    until("the next topic begins, the earlier is gone", async || {
        (exists(2).await && !exists(1).await).then_some(())
    })
    .await;
    let changes = reaches(&[2, 3]).await;
    assert!(changes.iter().all(|change| change["op"] == "r" && change["after"]["id"] != 1), "{changes:?}");
    traced("1", false.into(), &[5]).await;
    traced("2", true.into(), &[5, 6]).await;

    says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    let gone = async || {
        let lanes = installation.lanes()?;
        let mut own = lanes.iter().filter(|lane| lane["pipeline"] == "deliver.pension");
        let told = own
            .all(|lane| lane["error"].as_str().is_some_and(|e| e.contains("its delivery topic is deleted")));
        (told && !exists(2).await).then_some(())
    };
    until("the recall is done", gone).await;
    traced("2", false.into(), &[5, 6]).await;
    assert!(says(&["trace", "entry", "2"]).contains("it was recalled"));

    says(&["subscription", "request", "pension"]);
    says(&["subscription", "approve", "pension"]);
    until("another grant begins another topic", async || exists(3).await.then_some(())).await;
    reaches(&[1, 2, 3]).await;
    traced("1", true.into(), &[5, 9]).await;
    run.stop().await;
    let verified = says(&["ledger", "verify"]);
    assert!(verified.contains("receipts of gongan: ") && !verified.contains("FAIL"), "{verified}");

    // What has a meaning for a replica only says so, and what to do instead.
    for arguments in [
        &["verify", "pension"][..],
        &["verify", "pension", "--half", "source"],
        &["subscription", "pause", "pension", "--reason", "维护"],
        &["subscription", "rewind", "pension", "--to-time", "1h"],
    ] {
        let told = installation.ask(arguments);
        assert!(told.code == 4 && told.err.contains("there is no replica"), "{arguments:?} {}", told.err);
        assert!(told.err.contains("hutong tap entry --delivered pension"), "{arguments:?} {}", told.err);
    }
    let traced = says(&["trace", "entry", "1"]);
    assert!(traced.contains("--delivered pension"), "it is not said that nothing was delivered: {traced}");

    // A person's word, too.
    let said = says(&["subscription", "reload", "pension", "--dry-run"]);
    assert!(said.contains("nothing is changed") && said.contains("next generation"), "{said}");
    assert!(exists(3).await);
    let said = says(&["subscription", "reload", "pension", "--by", "li", "--reason", "掉了"]);
    assert!(said.contains("2 lanes") && said.contains("next generation"), "{said}");
    let history = says(&["subscription", "history", "pension"]);
    assert!(history.contains("reload") && history.contains("li") && history.contains("掉了"), "{history}");
    let run = installation.run();
    until("a reload begins the next topic", async || (exists(4).await && !exists(3).await).then_some(()))
        .await;
    reaches(&[1, 2, 3]).await;
    run.stop().await;
}
