//! A stranger reads the topics: Debezium's envelope with the right values, found by confluent-kafka's Avro
//! deserializer and the registry alone (`tests/python/read_topic.py`).

use std::collections::BTreeMap;

use hutong_testkit::launch::{Database, Kafka, Postgres, Registry, connect};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::cli::{ended, python};
use crate::installation::{Bus, Installation};

const TABLES: &str = r#"
CREATE SCHEMA office;
CREATE TABLE office.case_file (
  district text, number int, "标题" varchar(50) NOT NULL, opened date, fee numeric(12,2), weight numeric,
  seen timestamp, changed timestamptz, hour time, active boolean, ratio double precision, digest bytea,
  note json, tag uuid, labels text[], internal text, PRIMARY KEY (district, number));
ALTER TABLE office.case_file REPLICA IDENTITY FULL;
INSERT INTO office.case_file VALUES
  ('东湖区', 1, '第一件', '1990-03-07', 12.50, 0.0010, '2026-01-02 03:04:05.123456',
   '2026-01-02 03:04:05.5+08', '23:59:59.999999', true, 0.1, '\x00ff', '{"a": [1, null]}',
   '9f0c3a52-0000-4000-8000-00000000abcd', '{甲,NULL,"c,d"}', 'internal'),
  ('东湖区', 2, 'second', '1969-12-31', -9999999999.99, -123456789012345678901234567890.5,
   '1969-12-31 23:59:59.999999', '1900-01-01 00:00:00+00', '00:00', false, -2.5e300, '', '[]', NULL, '{}', NULL),
  ('', 3, 'nothing', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE office.plain (id bigint PRIMARY KEY, name text);
INSERT INTO office.plain VALUES (1, 'one');
"#;

const CASE_FILE: &str = r#"{"type": "record", "name": "case_file", "sharing": "unconditional",
  "key": ["district", "number"], "fields": [
  {"name": "district", "type": "string"},
  {"name": "number", "type": "int"},
  {"name": "title", "column": "标题", "type": {"type": "string", "length": 50}},
  {"name": "opened", "type": ["null", {"type": "int", "logicalType": "date"}]},
  {"name": "fee", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
  {"name": "weight", "type": ["null", {"type": "record", "name": "VariableScaleDecimal",
    "namespace": "io.debezium.data", "connect.name": "io.debezium.data.VariableScaleDecimal",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]}]},
  {"name": "seen", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}]},
  {"name": "changed", "type": ["null", {"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"}]},
  {"name": "hour", "type": ["null", {"type": "long", "logicalType": "time-micros"}]},
  {"name": "active", "type": ["null", "boolean"]},
  {"name": "ratio", "type": ["null", "double"]},
  {"name": "digest", "type": ["null", "bytes"]},
  {"name": "note", "type": ["null", {"type": "string", "connect.name": "io.debezium.data.Json"}]},
  {"name": "tag", "type": ["null", {"type": "string", "connect.name": "io.debezium.data.Uuid"}]},
  {"name": "labels", "type": ["null", {"type": "array", "items": ["null", "string"]}]}]}"#;

const PLAIN: &str = r#"{"type": "record", "name": "plain", "sharing": "unconditional", "key": ["id"], "fields": [
  {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]}]}"#;

/// What PostgreSQL says of the same rows, in the form of `read_topic.py`; each line is a field.
const CASE_FILE_ROWS: &str = r#"SELECT json_build_object(
  'district', district, 'number', number, 'title', "标题",
  'opened', CASE WHEN opened IS NOT NULL THEN json_build_object('date', opened::text) END,
  'fee', CASE WHEN fee IS NOT NULL THEN json_build_object('decimal', fee::text) END,
  'weight', CASE WHEN weight IS NOT NULL THEN json_build_object('numeric', weight::text) END,
  'seen', CASE WHEN seen IS NOT NULL THEN json_build_object('timestamp', to_char(seen, 'YYYY-MM-DD"T"HH24:MI:SS.US')) END,
  'changed', to_char(changed AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'hour', CASE WHEN hour IS NOT NULL THEN json_build_object('time', to_char(hour, 'HH24:MI:SS.US')) END,
  'active', active, 'ratio', ratio,
  'digest', CASE WHEN digest IS NOT NULL THEN json_build_object('bytes', encode(digest, 'hex')) END,
  'note', note::text, 'tag', tag, 'labels', labels)::text FROM office.case_file"#;

/// Rows by their number.
type Rows = BTreeMap<i64, Json>;

async fn rows(source: &Client) -> Rows {
    let found = source.query(CASE_FILE_ROWS, &[]).await.unwrap();
    let parsed = found.iter().map(|row| serde_json::from_str::<Json>(row.get(0)).unwrap());
    parsed.map(|row| (row["number"].as_i64().unwrap(), row)).collect()
}

/// Reads a topic until it has told `count` changes; fails when there are more.
async fn read(stream: &str, count: usize) -> Vec<Json> {
    let (brokers, registry) =
        (Kafka::shared().await.unwrap().bootstrap(), Registry::shared().await.unwrap().url());
    let topic = format!("strange.{stream}.v1");
    let out = ended(python("read_topic.py", &[&brokers, &registry, &topic, &count.to_string()])).expect(0);
    let records: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), count, "{out}");
    records
}

async fn installation(database: &Database) -> Installation {
    let rest = format!(
        r#"
[department.strange]
name = "公安局"

[store.office.postgres]
url = "{}"

[stream.case_file]
owner = "strange"
contract = "case_file.avsc"

[stream.plain]
owner = "strange"
contract = "plain.avsc"

[capture.strange]
from = "office"
tables = {{ "office.case_file" = "case_file", "office.plain" = "plain" }}
watermark_interval = "1s"
"#,
        database.url
    );
    let installation = Installation::new(Bus::Kafka, "strange", &rest).await;
    installation.write("case_file.avsc", CASE_FILE);
    installation.write("plain.avsc", PLAIN);
    installation
}

/// Asserts what every envelope has, whatever happened.
#[track_caller]
fn assert_envelope(record: &Json, database: &str, table: &str) {
    let value = record["value"].as_object().unwrap();
    let names: Vec<&str> = value.keys().map(String::as_str).collect();
    assert_eq!(names, ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"]);
    let source = &value["source"];
    let names: Vec<&str> = source.as_object().unwrap().keys().map(String::as_str).collect();
    let debezium = ["version", "connector", "name", "ts_ms", "snapshot", "db", "sequence", "ts_us", "ts_ns"];
    let postgres = ["schema", "table", "txId", "lsn", "xmin"];
    let hutong = ["position", "before", "unchanged", "last"];
    assert_eq!(names, [&debezium[..], &postgres, &hutong].concat());
    let place = ["connector", "db", "schema", "table"].map(|name| source[name].as_str().unwrap());
    assert_eq!(place, ["postgresql", database, "office", table]);
    for clocks in [source, &record["value"]] {
        let [ms, us, ns] = ["ts_ms", "ts_us", "ts_ns"].map(|name| clocks[name].as_i64().unwrap());
        assert_eq!((us.div_euclid(1000), us * 1000), (ms, ns));
        let age = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - ms;
        assert!((0..600_000).contains(&age), "{age} ms old");
    }
    assert_eq!(source["snapshot"], if value["op"] == "r" { "true" } else { "false" });
    assert_eq!(source["unchanged"], json!([]));
    if value["op"] != "t" {
        assert_eq!(record["partition"], record["java"], "Java would have chosen another partition");
    }
}

/// Asserts that positions rise within each partition, bytewise.
#[track_caller]
fn assert_ordered(records: &[Json]) {
    let mut last: BTreeMap<i64, &str> = BTreeMap::new();
    for record in records.iter().filter(|r| r["value"]["op"] != "r") {
        let position = record["value"]["source"]["position"].as_str().unwrap();
        let before = last.insert(record["partition"].as_i64().unwrap(), position);
        assert!(before.is_none_or(|before| before < position), "{before:?} then {position}");
    }
}

/// Returns the one record that tells `op` of the key `number`.
#[track_caller]
fn one<'a>(records: &'a [Json], op: &str, field: &str, number: i64) -> &'a Json {
    let mut found = records.iter().filter(|r| r["value"]["op"] == op && r["key"][field] == number);
    let record = found.next().unwrap_or_else(|| panic!("no {op} of {number} in {records:#?}"));
    assert!(found.next().is_none(), "{op} of {number} comes twice");
    record
}

#[tokio::test]
async fn i6_a_stranger_finds_debeziums_envelope_with_the_right_values() {
    let database = Postgres::shared().await.unwrap();
    let source = connect(&database.url).await.unwrap();
    source.batch_execute(TABLES).await.unwrap();
    let first = rows(&source).await;
    let installation = installation(&database).await;
    installation.ask(&["check"]).expect(0);
    let run = installation.run();
    // The snapshot, before anything changes.
    let snapshot = read("case_file", 3).await;
    read("plain", 1).await;
    for number in [1, 2, 3] {
        let value = &one(&snapshot, "r", "number", number)["value"];
        assert_eq!(value["after"], first[&number], "every type as the table says");
        let names = |row: &Json| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&value["after"]), names(&first[&number]), "and in the contract's order");
        assert_eq!((&value["before"], &value["source"]["before"]), (&Json::Null, &json!("none")));
    }

    let one_transaction = r#"BEGIN;
        UPDATE office.case_file SET "标题" = '改名', fee = 13 WHERE number = 1;
        INSERT INTO office.case_file (district, number, "标题", opened) VALUES ('西山区', 4, 'fourth', '2026-02-28');
        UPDATE office.case_file SET number = 20 WHERE number = 2;
        INSERT INTO office.plain VALUES (2, 'two');
        DELETE FROM office.case_file WHERE number = 3;
        COMMIT"#;
    source.batch_execute(one_transaction).await.unwrap();
    source.batch_execute("UPDATE office.plain SET name = NULL WHERE id = 1").await.unwrap();
    source.batch_execute("DELETE FROM office.plain WHERE id = 2").await.unwrap();
    source.batch_execute("TRUNCATE office.plain").await.unwrap();
    let cases = read("case_file", 8).await;
    // A truncate stands in each of the four partitions.
    let plain = read("plain", 4 + 4).await;
    run.stop().await;

    let now = rows(&source).await;
    cases.iter().for_each(|record| assert_envelope(record, &database.name, "case_file"));
    plain.iter().for_each(|record| assert_envelope(record, &database.name, "plain"));
    assert_ordered(&cases);
    assert_ordered(&plain);
    let told = |record: &Json| {
        let value = &record["value"];
        (
            value["before"].clone(),
            value["after"].clone(),
            value["source"]["before"].as_str().unwrap().to_owned(),
        )
    };
    let case = |op, number| one(&cases, op, "number", number);
    let full = || "full".to_owned();
    assert_eq!(told(case("u", 1)), (first[&1].clone(), now[&1].clone(), full()));
    assert_eq!(told(case("c", 4)), (Json::Null, now[&4].clone(), "none".to_owned()));
    assert_eq!(told(case("d", 3)), (first[&3].clone(), Json::Null, full()));
    // A key change is two parts of one position.
    let (gone, came) = (case("d", 2), case("c", 20));
    assert_eq!(told(gone), (first[&2].clone(), Json::Null, full()));
    assert_eq!(told(came).1, now[&20]);
    let position = |record: &Json| record["value"]["source"]["position"].as_str().unwrap().to_owned();
    assert_eq!(position(gone)[..28], position(came)[..28]);
    assert_eq!((&position(gone)[28..], &position(came)[28..]), ("00", "01"));
    // With the default identity, an old image is the key or nothing.
    assert_eq!(one(&plain, "u", "id", 1)["value"]["after"], json!({"id": 1, "name": null}));
    assert_eq!(
        told(one(&plain, "d", "id", 2)),
        (json!({"id": 2, "name": null}), Json::Null, "key".to_owned())
    );

    let truncates: Vec<&Json> = plain.iter().filter(|r| r["value"]["op"] == "t").collect();
    let mut partitions: Vec<i64> = truncates.iter().map(|r| r["partition"].as_i64().unwrap()).collect();
    partitions.sort();
    assert_eq!(partitions, [0, 1, 2, 3]);
    for record in truncates {
        assert_eq!(record["key"], Json::Null);
        assert_eq!(told(record), (Json::Null, Json::Null, "none".to_owned()));
    }
    assert_one_transaction(&cases, one(&plain, "c", "id", 2));
}

/// Asserts what regroups the transaction that wrote into both tables.
#[track_caller]
fn assert_one_transaction(cases: &[Json], other: &Json) {
    let mut changes: Vec<&Json> = cases.iter().filter(|r| r["value"]["op"] != "r").chain([other]).collect();
    changes.sort_by_key(|r| r["value"]["transaction"]["total_order"].as_i64().unwrap());
    let (first, all) = (&changes[0]["value"], changes.iter().map(|r| &r["value"]));
    let ids: Vec<&Json> = all.clone().map(|v| &v["transaction"]["id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(
        all.clone().all(|v| v["source"]["txId"] == first["source"]["txId"] && v["source"]["lsn"].is_i64())
    );
    let last: Vec<bool> = all.map(|v| v["source"]["last"].as_bool().unwrap()).collect();
    assert_eq!(last, [false, false, false, false, false, true], "the last change ends the transaction");
}
