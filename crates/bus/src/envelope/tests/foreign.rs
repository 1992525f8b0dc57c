//! Debezium's own envelopes: all orders, both union orders, its types, its marks.

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use hutong_core::{Before, Contract, Decimal, ErrorKind, Op, Result, Value};
use serde_json::{Value as Json, json};

use super::super::{Decoded, Plan, schemas};
use crate::embedded::{Level, problems};
use crate::oracle;

fn contract(fields: &str) -> Arc<Contract> {
    let text = format!(
        r#"{{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[
            {{"name":"id","type":"long"}}{fields}]}}"#
    );
    Contract::parse(&text).unwrap().shared()
}

/// An envelope's schema with the parts in the order given, a row of `id` and the fields, and a source.
fn envelope(order: &[&str], fields: Json) -> String {
    let mut row = vec![json!({"name": "id", "type": "long"})];
    row.extend(fields.as_array().unwrap().iter().cloned());
    let parts: Vec<Json> = order
        .iter()
        .map(|part| match *part {
            "before" => json!({"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": row}], "default": null}),
            "after" => json!({"name": "after", "type": ["null", "Value"], "default": null}),
            "source" => json!({"name": "source", "type": {
                "type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql", "fields": [
                    {"name": "version", "type": "string"}, {"name": "connector", "type": "string"},
                    {"name": "name", "type": "string"}, {"name": "ts_ms", "type": "long"},
                    {"name": "snapshot", "type": [{"type": "string", "connect.name": "io.debezium.data.Enum"}, "null"], "default": "false"},
                    {"name": "db", "type": "string"}, {"name": "schema", "type": "string"},
                    {"name": "table", "type": "string"}, {"name": "lsn", "type": ["null", "long"], "default": null}]}}),
            "transaction" => json!({"name": "transaction", "type": ["null", {
                "type": "record", "name": "ConnectDefault", "namespace": "io.confluent.connect.avro", "fields": [
                    {"name": "id", "type": "string"}, {"name": "total_order", "type": "long"},
                    {"name": "data_collection_order", "type": "long"}]}], "default": null}),
            "op" => json!({"name": "op", "type": "string"}),
            other => json!({"name": other, "type": ["null", "long"], "default": null}),
        })
        .collect();
    json!({"type": "record", "name": "Envelope", "namespace": "gov.public.case", "fields": parts}).to_string()
}

const NEWEST: [&str; 8] = ["before", "after", "source", "transaction", "op", "ts_ms", "ts_us", "ts_ns"];

fn some(at: u32, value: Avro) -> Avro {
    Avro::Union(at, Box::new(value))
}

fn none() -> Avro {
    some(0, Avro::Null)
}

fn record(fields: Vec<(&str, Avro)>) -> Avro {
    Avro::Record(fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
}

/// Writes an envelope by `apache-avro`; the rows hold `id` and one field `v`.
fn written(schema: &str, op: &str, before: Option<Avro>, after: Option<Avro>) -> bytes::Bytes {
    let parsed = apache_avro::Schema::parse_str(schema).unwrap();
    let row =
        |v: Option<Avro>| v.map_or_else(none, |v| some(1, record(vec![("id", Avro::Long(7)), ("v", v)])));
    let source = record(vec![
        ("version", Avro::String("2.1".into())),
        ("connector", Avro::String("postgresql".into())),
        ("name", Avro::String("gov".into())),
        ("ts_ms", Avro::Long(1_500)),
        ("snapshot", some(1, Avro::Null)),
        ("db", Avro::String("gov".into())),
        ("schema", Avro::String("public".into())),
        ("table", Avro::String("case".into())),
        ("lsn", some(1, Avro::Long(-1))),
    ]);
    let block = record(vec![
        ("id", Avro::String("9:1".into())),
        ("total_order", Avro::Long(1)),
        ("data_collection_order", Avro::Long(1)),
    ]);
    let parts = [
        ("before", row(before)),
        ("after", row(after)),
        ("source", source),
        ("transaction", some(1, block)),
        ("op", Avro::String(op.into())),
        ("ts_ms", some(1, Avro::Long(1))),
        ("ts_us", none()),
        ("ts_ns", none()),
    ];
    let apache_avro::Schema::Record(shape) = &parsed else { panic!("a record") };
    let fields = shape
        .fields
        .iter()
        .map(|f| (f.name.clone(), parts.iter().find(|(n, _)| *n == f.name).unwrap().1.clone()));
    oracle::write(schema, Avro::Record(fields.collect())).into()
}

fn read(writer: &str, contract: &Arc<Contract>, bytes: &bytes::Bytes) -> Result<hutong_core::Change> {
    match Plan::compile(writer, contract)?.decode(bytes, 3)? {
        Decoded::Change(change) => Ok(*change),
        Decoded::Dropped(rule) => panic!("dropped by {rule}"),
    }
}

#[test]
fn every_order_of_debezium_is_read() {
    let contract = contract(r#",{"name":"v","type":["null","string"]}"#);
    let fields =
        json!([{"name": "v", "type": [{"type": "string", "connect.default": "x"}, "null"], "default": "x"}]);
    let orders: [&[&str]; 4] = [
        &["before", "after", "source", "op", "ts_ms"],
        &["before", "after", "source", "op", "ts_ms", "transaction"],
        &["before", "after", "source", "op", "ts_ms", "ts_us", "ts_ns", "transaction"],
        &NEWEST,
    ];
    for order in orders {
        let schema = envelope(order, fields.clone());
        let old = Avro::String("zeros".into());
        let bytes = written(&schema, "u", Some(some(0, old)), Some(some(1, Avro::Null)));
        let change = read(&schema, &contract, &bytes).unwrap();
        assert_eq!(change.op, Op::Update);
        // The null branch stands second here, and NULL is not the default.
        assert_eq!(change.after, Some(vec![Value::Integer(7), Value::Null]));
        // Of a foreign old row only the key counts, unless configured.
        assert_eq!(change.before, Before::Key(vec![Value::Integer(7), Value::Unknown]));
        assert_eq!(change.origin.committed_us, 1_500_000);
        assert_eq!(change.origin.lsn, Some(u64::MAX));
        assert_eq!(change.origin.transaction.is_some(), order.contains(&"transaction"));
        let mut full = Plan::compile(&schema, &contract).unwrap().foreign_before_full(true);
        let Decoded::Change(change) = full.decode(&bytes, 3).unwrap() else { panic!("a change") };
        assert_eq!(change.before, Before::Full(vec![Value::Integer(7), Value::text("zeros")]));
    }
}

#[test]
fn i6_types_of_debezium_become_ours_exactly_or_not_at_all() {
    let named = |base: &str, name: &str| json!({"type": base, "connect.name": name});
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": 1,
        "connect.parameters": {"scale": "1"}, "connect.name": "org.apache.kafka.connect.data.Decimal"});
    let ours = |logical: &str| format!(r#"{{"type":"long","logicalType":"{logical}"}}"#);
    let (timestamp, time) = (ours("local-timestamp-micros"), ours("time-micros"));
    let tz = r#"{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}"#.to_owned();
    let money = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#.to_owned();
    let date = r#"{"type":"int","logicalType":"date"}"#.to_owned();

    let ten = Value::Decimal(Decimal::new(100.into(), 1));
    let bytes = |b: &[u8]| Avro::Bytes(b.to_vec());
    let rows: Vec<(Json, Avro, &str, std::result::Result<Value, &str>)> = vec![
        (named("int", "io.debezium.time.Date"), Avro::Int(-1), &date, Ok(Value::Date(-1))),
        (named("long", "io.debezium.time.Timestamp"), Avro::Long(5), &timestamp, Ok(Value::Timestamp(5_000))),
        (
            named("long", "io.debezium.time.MicroTimestamp"),
            Avro::Long(5),
            &timestamp,
            Ok(Value::Timestamp(5)),
        ),
        (
            named("long", "io.debezium.time.NanoTimestamp"),
            Avro::Long(5_000),
            &timestamp,
            Ok(Value::Timestamp(5)),
        ),
        (named("long", "io.debezium.time.NanoTimestamp"), Avro::Long(5_001), &timestamp, Err("nanoseconds")),
        (named("long", "io.debezium.time.Timestamp"), Avro::Long(i64::MAX), &timestamp, Err("beyond")),
        (named("int", "io.debezium.time.Time"), Avro::Int(7), &time, Ok(Value::Time(7_000))),
        (named("long", "io.debezium.time.NanoTime"), Avro::Long(7_000), &time, Ok(Value::Time(7))),
        (named("long", "io.debezium.time.MicroTime"), Avro::Long(-1), &time, Err("within a day")),
        (
            named("string", "io.debezium.time.ZonedTimestamp"),
            Avro::String("1970-01-01T08:00:01+08:00".into()),
            &tz,
            Ok(Value::TimestampTz(1_000_000)),
        ),
        (
            named("string", "io.debezium.time.ZonedTimestamp"),
            Avro::String("soon".into()),
            &tz,
            Err("ISO 8601"),
        ),
        (json!("int"), Avro::Int(3), "\"long\"", Ok(Value::Integer(3))),
        (json!("float"), Avro::Float(0.5), "\"double\"", Ok(Value::Double(0.5))),
        (json!("long"), Avro::Long(3), "\"int\"", Err("written as long")),
        (json!("long"), Avro::Long(3), &timestamp, Err("written as long")),
        (named("long", "io.debezium.time.MicroDuration"), Avro::Long(3), "\"long\"", Err("MicroDuration")),
        (named("bytes", "io.debezium.data.Bits"), bytes(&[1]), "\"bytes\"", Err("Bits")),
        (
            named("string", "io.debezium.data.Enum"),
            Avro::String("a".into()),
            "\"string\"",
            Ok(Value::text("a")),
        ),
        (decimal.clone(), bytes(&[100]), &money, Ok(ten)),
        (decimal.clone(), bytes(&[0x7f, 0xff]), &money, Err("more digits")),
        (decimal, bytes(&[]), &money, Ok(Value::Decimal(Decimal::new(0.into(), 2)))),
    ];
    for (theirs, value, mine, wanted) in rows {
        let contract = contract(&format!(r#",{{"name":"v","type":["null",{mine}]}}"#));
        let schema =
            envelope(&NEWEST, json!([{"name": "v", "type": ["null", theirs.clone()], "default": null}]));
        // `apache-avro` would refuse a plain number for a logical type, so it writes by the bare base type.
        let base = theirs.get("type").cloned().unwrap_or(theirs.clone());
        let bare = envelope(&NEWEST, json!([{"name": "v", "type": ["null", base], "default": null}]));
        let bytes = written(&bare, "c", None, Some(some(1, value)));
        match (read(&schema, &contract, &bytes), wanted) {
            (Ok(change), Ok(value)) => assert_eq!(change.after.unwrap()[1], value, "{theirs}"),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{theirs}: {error}"),
            (found, wanted) => panic!("{theirs}: {found:?}, not {wanted:?}"),
        }
    }
}

#[test]
fn an_unchanged_large_value_is_unknown() {
    let mark = "__debezium_unavailable_value";
    let numbers = Avro::Array(mark.bytes().map(|b| Avro::Int(b.into())).collect());
    let rows = [
        ("\"string\"", json!("string"), Avro::String(mark.into())),
        ("\"bytes\"", json!("bytes"), Avro::Bytes(mark.into())),
        (r#"{"type":"array","items":["null","int"]}"#, json!({"type": "array", "items": "int"}), numbers),
    ];
    for (mine, theirs, value) in rows {
        let contract = contract(&format!(r#",{{"name":"v","type":["null",{mine}]}}"#));
        let schema = envelope(&NEWEST, json!([{"name": "v", "type": ["null", theirs], "default": null}]));
        let change = read(&schema, &contract, &written(&schema, "u", None, Some(some(1, value)))).unwrap();
        assert_eq!(change.after.unwrap()[1], Value::Unknown);
    }
}

/// A topic that Debezium began can be continued by Hutong: its readers take our schema as the next version.
#[test]
fn our_schema_follows_debeziums_of_the_same_table() {
    let named = |base: &str, name: &str| json!({"type": base, "connect.version": 1, "connect.name": name});
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2,
        "connect.name": "org.apache.kafka.connect.data.Decimal"});
    let theirs = envelope(
        &NEWEST,
        json!([
            {"name": "name", "type": [{"type": "string", "connect.default": "x"}, "null"], "default": "x"},
            {"name": "small", "type": {"type": "int", "connect.type": "int16"}},
            {"name": "money", "type": ["null", decimal], "default": null},
            {"name": "born", "type": ["null", named("int", "io.debezium.time.Date")], "default": null},
            {"name": "seen", "type": named("long", "io.debezium.time.MicroTimestamp")},
            {"name": "tz", "type": named("string", "io.debezium.time.ZonedTimestamp")}
        ]),
    );
    let contract = contract(
        r#",{"name":"name","type":"string"},{"name":"small","type":{"type":"int","connect.type":"int16"}},
        {"name":"money","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
        {"name":"born","type":["null",{"type":"int","logicalType":"date"}]},
        {"name":"seen","type":{"type":"long","logicalType":"local-timestamp-micros"}},
        {"name":"tz","type":{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}}"#,
    );
    Plan::compile(&theirs, &contract).unwrap();
    let ours: Json = serde_json::from_str(&schemas(&contract, "gov.public.case").value).unwrap();
    let theirs = theirs.replace(
        "\"name\":\"ConnectDefault\",\"namespace\":\"io.confluent.connect.avro\"",
        "\"name\":\"block\",\"namespace\":\"event\"",
    );
    let theirs: Json = serde_json::from_str(&theirs).unwrap();
    let problems = problems(Level::Backward, &ours, &theirs);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn truncates_messages_and_contradictions() {
    let contract = contract(r#",{"name":"v","type":["null","string"]}"#);
    let schema = envelope(&NEWEST, json!([{"name": "v", "type": ["null", "string"], "default": null}]));
    let change = read(&schema, &contract, &written(&schema, "t", None, None)).unwrap();
    assert_eq!((change.op, change.key()), (Op::Truncate, None));
    let mut plan = Plan::compile(&schema, &contract).unwrap();
    assert_eq!(plan.decode(&written(&schema, "m", None, None), 0).unwrap(), Decoded::Dropped("message"));
    for (op, before, after) in
        [("d", None, None), ("u", None, None), ("d", None, Some(none())), ("x", None, None)]
    {
        let error = plan.decode(&written(&schema, op, before, after), 0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed);
    }
}

#[test]
fn what_is_no_envelope_or_does_not_fit_is_named() {
    let contract = contract(r#",{"name":"v","type":["null","string"]}"#);
    let rows = [
        ("{", ErrorKind::Malformed, "not JSON"),
        ("\"string\"", ErrorKind::Malformed, "not a record"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}"#,
            ErrorKind::Malformed,
            "no change envelope",
        ),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"id","type":"Nowhere"}]}"#,
            ErrorKind::Malformed,
            "Nowhere",
        ),
        (
            &envelope(&NEWEST, json!([])).replace("\"id\",\"type\":\"long\"", "\"no\",\"type\":\"long\""),
            ErrorKind::SchemaConflict,
            "`id`",
        ),
        (
            &envelope(&NEWEST, json!([{"name": "v", "type": ["null", "int", "string"]}])),
            ErrorKind::SchemaConflict,
            "`v`",
        ),
    ];
    for (schema, kind, says) in rows {
        let error = Plan::compile(schema, &contract).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
