//! A sink of Kafka Connect reads the topics: every type with the schema that Connect knows for it, and with the
//! source table's values, through Connect's own Avro converter and the registry alone (`tests/java/ReadTopic.java`).

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::path::Path;
use std::process::Command;

use hutong_core::{Contract, Type};
use hutong_testkit::launch::{Database, Kafka, Postgres, Registry, connect};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::cli::{ended, root};
use crate::every_type;
use crate::installation::{Bus, Installation};

/// Rows enough for each column to have each of its values, and NULL, at least once.
const ROWS: usize = 12;

/// Every type has no enumeration that a contract can list: one of its labels holds a comma.
const PREPARE: &str = "
    CREATE TYPE season AS ENUM ('春', 'late autumn', 'w''\"{}');
    ALTER TABLE every_type ADD COLUMN season season;
    ALTER TABLE every_type REPLICA IDENTITY FULL;";

/// What a row is as the reader prints it, by its key.
type Rows = BTreeMap<i64, Json>;

/// Returns the SQL of a value as the reader prints it: under the schema's name, or its type where it has no name.
///
/// Times and binary numbers are told by their bits, so that nobody rounds for the comparison.
fn printed(ty: &Type, value: &str) -> String {
    let micros = format!("(extract(epoch FROM {value}) * 1000000)::bigint::text");
    let text = format!("{value}::text");
    let (schema, text, parameters) = match ty {
        Type::Boolean => ("boolean", text, vec![]),
        Type::Int16 => ("int16", text, vec![]),
        Type::Int => ("int32", text, vec![]),
        Type::Long => ("int64", text, vec![]),
        Type::Float => ("float32", format!("encode(float4send({value}), 'hex')"), vec![]),
        Type::Double => ("float64", format!("encode(float8send({value}), 'hex')"), vec![]),
        // inet's cast to text adds the length of the network.
        Type::Text { .. } => {
            let written = format!(
                "CASE pg_typeof({value}) WHEN 'inet'::regtype THEN to_json({value}) #>> '{{}}' ELSE {text} END"
            );
            ("string", written, vec![])
        }
        Type::Bytes => ("bytes", format!("encode({value}, 'hex')"), vec![]),
        Type::Decimal { precision, scale } => {
            let parameters =
                vec![("scale", scale.to_string()), ("connect.decimal.precision", precision.to_string())];
            ("org.apache.kafka.connect.data.Decimal", text, parameters)
        }
        Type::Numeric => ("io.debezium.data.VariableScaleDecimal", text, vec![]),
        Type::Date => ("org.apache.kafka.connect.data.Date", text, vec![]),
        Type::Time => ("io.debezium.time.MicroTime", micros, vec![]),
        Type::Timestamp => ("io.debezium.time.MicroTimestamp", micros, vec![]),
        Type::TimestampTz => {
            let utc = format!("to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
            ("io.debezium.time.ZonedTimestamp", utc, vec![])
        }
        Type::Json => ("io.debezium.data.Json", text, vec![]),
        Type::Uuid => ("io.debezium.data.Uuid", text, vec![]),
        Type::Interval => ("io.debezium.time.Interval", text, vec![]),
        Type::Enum { allowed } => ("io.debezium.data.Enum", text, vec![("allowed", allowed.join(","))]),
        Type::Array(item) => {
            let item = printed(item, "item");
            return nullable(
                value,
                &format!("(SELECT coalesce(json_agg({item}), '[]') FROM unnest({value}) item)"),
            );
        }
    };
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let parameters: String =
        parameters.iter().map(|(name, is)| format!(", '{name}', {}", quoted(is))).collect();
    nullable(value, &format!("json_build_object('{schema}', {text}{parameters})"))
}

fn nullable(value: &str, sql: &str) -> String {
    // A row whose fields are all NULL is not NOT NULL.
    format!("CASE WHEN {value} IS DISTINCT FROM NULL THEN {sql} END")
}

/// Returns what the source's table says the reader must print, fields in the contract's order.
async fn rows(source: &Client, contract: &Contract) -> Rows {
    source.batch_execute("SET IntervalStyle = iso_8601").await.unwrap();
    let list: Vec<String> =
        contract.fields.iter().map(|f| format!("({})::text", printed(&f.ty, f.column()))).collect();
    let found = source.query(&format!("SELECT id, {} FROM every_type", list.join(", ")), &[]).await.unwrap();
    let value = |text: Option<String>| text.map_or(Json::Null, |text| serde_json::from_str(&text).unwrap());
    let row = |row: tokio_postgres::Row| {
        let fields = contract.fields.iter().enumerate();
        (row.get(0), fields.map(|(at, field)| (field.name.clone(), value(row.get(at + 1)))).collect())
    };
    found.into_iter().map(row).collect()
}

/// Reads the topic through the converter until it has told `count` changes; fails when there are more.
async fn read(count: usize) -> Vec<Json> {
    let (brokers, registry) =
        (Kafka::shared().await.unwrap().bootstrap(), Registry::shared().await.unwrap().url());
    let (registry, _) = registry.split_once("/apis/").unwrap();
    let libs = root().join("target/servers/connect/libs");
    assert!(libs.is_dir(), "no converter in {}: run `make servers`, which fetches it", libs.display());
    let mut reader = java();
    reader.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]);
    reader.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]).arg(libs.join("*"));
    reader.arg(root().join("tests/java/ReadTopic.java"));
    reader.args([&brokers, registry, "connect.every_type.v1", &count.to_string()]);
    let out = ended(reader).expect(0);
    let records: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), count, "{out}");
    records
}

/// Returns Java, chosen as `tools/setup.sh` does.
fn java() -> Command {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    Command::new(home.filter(|java| java.is_file()).unwrap_or_else(|| "java".into()))
}

async fn installation(database: &Database) -> Installation {
    let rest = format!(
        r#"
[department.connect]
name = "公安局"

[store.office.postgres]
url = "{}"

[stream.every_type]
owner = "connect"
contract = "every_type.avsc"

[capture.connect]
from = "office"
tables = {{ "every_type" = "every_type" }}
watermark_interval = "1s"
"#,
        database.url
    );
    let installation = Installation::new(Bus::Kafka, "connect", &rest).await;
    installation.draft_contract(&database.url, "every_type", "every_type");
    installation
}

/// Returns the one record that tells `op` of the key `id`.
#[track_caller]
fn one<'a>(records: &'a [Json], op: &str, id: i64) -> &'a Json {
    let key = json!({"id": {"int64": id.to_string()}});
    let mut found = records.iter().filter(|r| r["value"]["op"]["string"] == op && r["key"] == key);
    let record = found.next().unwrap_or_else(|| panic!("no {op} of {id}"));
    assert!(found.next().is_none(), "{op} of {id} comes twice");
    record
}

/// Asserts the images of a change, field by field so that a failure names the field.
#[track_caller]
fn assert_images(record: &Json, before: Option<&Json>, after: Option<&Json>) {
    for (image, wanted) in [("before", before), ("after", after)] {
        let (told, wanted) = (&record["value"][image], wanted.unwrap_or(&Json::Null));
        for (name, value) in wanted.as_object().into_iter().flatten() {
            assert_eq!(&told[name], value, "`{name}` of {image}");
        }
        assert_eq!(told, wanted, "{image}");
        let names = |row: &Json| row.as_object().map(|row| row.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(told), names(wanted), "{image} in the contract's order");
    }
}

/// Asserts what the source block says of a change.
#[track_caller]
fn assert_source(record: &Json, database: &Database, snapshot: &str, before: &str) {
    let source = &record["value"]["source"];
    let text = |name: &str| source[name]["string"].as_str().unwrap().to_owned();
    let place = ["connector", "db", "schema", "table", "before"].map(text);
    assert_eq!(place, ["postgresql", &database.name, "public", "every_type", before]);
    assert_eq!(source["snapshot"]["io.debezium.data.Enum"], snapshot);
    assert_eq!(source["unchanged"], json!([]));
    assert!(!text("position").is_empty());
    let milliseconds: i64 = source["ts_ms"]["int64"].as_str().unwrap().parse().unwrap();
    assert!(
        (0..600_000).contains(&(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - milliseconds))
    );
    let names = ["key_schema", "value_schema"].map(|name| record[name].as_str().unwrap());
    assert_eq!(names, ["connect.every_type.v1.Key", "connect.every_type.v1.Envelope"]);
}

#[tokio::test]
async fn i6_connects_avro_converter_finds_every_type_with_the_right_values() {
    let database = Postgres::shared().await.unwrap();
    let source = connect(&database.url).await.unwrap();
    source.batch_execute(&format!("{}{PREPARE}", every_type::table())).await.unwrap();
    let inserts: Vec<String> = (0..ROWS).map(|n| every_type::insert(n, n)).collect();
    source.batch_execute(&inserts.join(";")).await.unwrap();
    let seasons = "UPDATE every_type SET season = (enum_range(NULL::season))[1 + id % 4]";
    source.batch_execute(seasons).await.unwrap();
    let installation = installation(&database).await;
    let contract = std::fs::read_to_string(installation.path("every_type.avsc")).unwrap();
    let contract = Contract::parse(&contract).unwrap();
    let types: Vec<_> = contract.fields.iter().map(|f| discriminant(&f.ty)).collect();
    let different = types.iter().enumerate().filter(|(at, ty)| !types[..*at].contains(ty)).count();
    assert_eq!(different, 19, "a column of every type that a contract knows");

    let first = rows(&source, &contract).await;
    let run = installation.run();
    let snapshot = read(ROWS).await;
    for (id, row) in &first {
        let record = one(&snapshot, "r", *id);
        assert_images(record, None, Some(row));
        assert_source(record, &database, "true", "none");
    }

    let (insert, update) = (every_type::insert(100, 3), every_type::update(1, 5));
    let one_transaction = format!(
        "BEGIN; {insert}; {update}; UPDATE every_type SET id = 200 WHERE id = 2; DELETE FROM every_type WHERE id = 3"
    );
    source.batch_execute(&one_transaction).await.unwrap();
    let id = source.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    let id: String = id.get(0);
    source.batch_execute("COMMIT").await.unwrap();
    let now = rows(&source, &contract).await;
    source.batch_execute("TRUNCATE every_type").await.unwrap();
    // A truncate stands in each of the four partitions.
    let changes = read(ROWS + 5 + 4).await;
    run.stop().await;

    assert_images(one(&changes, "c", 100), None, Some(&now[&100]));
    assert_images(one(&changes, "u", 1), Some(&first[&1]), Some(&now[&1]));
    assert_images(one(&changes, "d", 2), Some(&first[&2]), None);
    assert_images(one(&changes, "c", 200), None, Some(&now[&200]));
    assert_images(one(&changes, "d", 3), Some(&first[&3]), None);
    for (op, key, before) in
        [("c", 100, "none"), ("u", 1, "full"), ("d", 2, "full"), ("c", 200, "none"), ("d", 3, "full")]
    {
        let record = one(&changes, op, key);
        assert_source(record, &database, "false", before);
        assert_eq!(record["value"]["source"]["txId"], json!({"int64": id}), "{op} of {key}");
        assert_eq!(
            record["value"]["source"]["last"],
            json!({"boolean": (key == 3).to_string()}),
            "{op} of {key}"
        );
    }
    let truncates: Vec<&Json> = changes.iter().filter(|r| r["value"]["op"]["string"] == "t").collect();
    assert_eq!(truncates.len(), 4);
    for record in truncates {
        assert_eq!((&record["key_schema"], &record["key"]), (&Json::Null, &Json::Null));
        assert_images(record, None, None);
    }
}
