//! Records that somebody has damaged: an error, or just what their bytes say. Never a NULL that was not there.

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{Before, Change, Contract, ErrorKind, Op, Row, Value};
use hutong_testkit::hostile;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

use super::super::{Decoded, Encoder, Plan, contract_of, schemas};
use super::any_change;
use super::truth::{self, Said, is_said};
use crate::framing;

/// What a record may take while it is decoded: the row itself, and for each of its bytes the largest value that one
/// byte can be, twice, while its list grows.
const ROW_BYTES: usize = 64 << 10;
const FACTOR: usize = 200;

/// Returns the bodies of some valid records of every kind.
fn bodies(contract: &Arc<Contract>) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let strategy = any_change::change(contract);
    let mut encoder = Encoder::new(Arc::clone(contract), 1, 2);
    let mut body = || {
        let change = strategy.new_tree(&mut runner).unwrap().current();
        let encoded = encoder.encode(&change, 77).unwrap();
        framing::split(&encoded.value).unwrap().1.to_vec()
    };
    (0..40).map(|_| body()).collect()
}

/// Asserts that a row is what the bytes say of it, but for the fields that they call unchanged.
fn agrees(contract: &Contract, row: &Row, said: &Said, unchanged: &[String]) {
    for (field, value) in contract.fields.iter().zip(row) {
        if unchanged.contains(&field.name) {
            assert!(value.is_unknown(), "{} is unchanged, and not {value:?}", field.name);
        } else {
            let said = said.field(&field.name);
            assert!(is_said(&field.ty, value, said), "{} is {value:?}, its bytes say {said:?}", field.name);
        }
    }
}

fn agrees_with(change: &Change, said: &Said) {
    let contract = &change.contract;
    let op = said.field("op").text();
    assert_eq!(change.op.letter(), op);
    let (after, before, source) = (said.field("after"), said.field("before"), said.field("source"));
    let Said::List(unchanged) = source.field("unchanged") else { panic!("a list") };
    let unchanged: Vec<String> = unchanged.iter().map(Said::text).collect();
    match &change.after {
        Some(row) => agrees(contract, row, after, &unchanged),
        None => assert_eq!(*after, Said::Null),
    }
    match (&change.before, source.field("before").text().as_str()) {
        (Before::None, word) => assert!(word == "none" || *before == Said::Null, "{word}"),
        (Before::Full(row), word) => {
            assert_eq!(word, "full");
            agrees(contract, row, before, &[]);
        }
        (Before::Key(row), word) => {
            assert_eq!(word, "key");
            for (i, (field, value)) in contract.fields.iter().zip(row).enumerate() {
                match contract.is_key(i) {
                    true => assert!(is_said(&field.ty, value, before.field(&field.name))),
                    false => assert!(value.is_unknown(), "an old image is never invented"),
                }
            }
        }
    }
    assert_eq!(
        *source.field("ts_us") == Said::Number(change.origin.committed_us),
        *source.field("ts_us") != Said::Null
    );
}

#[test]
fn i6_a_damaged_record_is_an_error_or_what_its_bytes_say() {
    let contract = any_change::contract();
    let text = schemas(&contract, "a.all.v1").value;
    let schema: Json = serde_json::from_str(&text).unwrap();
    let mut plan = Plan::compile(&text, &contract).unwrap();
    let (mut read, mut refused) = (0, 0);
    hostile::feed(
        "i6_a_damaged_record_is_an_error_or_what_its_bytes_say",
        4_000,
        &bodies(&contract),
        |bytes| {
            let record = Bytes::copy_from_slice(bytes);
            let mut decoded = None;
            let most = ROW_BYTES + FACTOR * bytes.len();
            hostile::within(most, || decoded = Some(plan.decode(&record, 9)));
            match decoded.unwrap() {
                Ok(Decoded::Change(change)) => {
                    let said = truth::read(&schema, bytes)
                        .expect("a record that is read has the form of its schema");
                    agrees_with(&change, &said);
                    read += 1;
                }
                Ok(Decoded::Dropped(rule)) => assert_eq!(rule, "message"),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Malformed);
                    refused += 1;
                }
            }
        },
    );
    assert!(
        std::env::var(hutong_testkit::seed::VARIABLE).is_ok() || read > 40 && refused > 40,
        "{read} {refused}"
    );
}

/// Returns a schema of an envelope whose row holds a key and one more field of the type given.
fn with_field(contract: &Contract, ty: &Json) -> String {
    let mut schema: Json = serde_json::from_str(&schemas(contract, "t").value).unwrap();
    let row = &mut schema["fields"][0]["type"][1]["fields"];
    row.as_array_mut().unwrap().push(json!({"name": "more", "type": ty}));
    schema.to_string()
}

fn small() -> Arc<Contract> {
    let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"long"}]}"#;
    Contract::parse(text).unwrap().shared()
}

/// Returns an insert's record with these bytes for the field `more` in its row.
fn with_more(contract: &Arc<Contract>, more: &[u8]) -> Bytes {
    let mut runner = TestRunner::deterministic();
    let template = any_change::change(&any_change::contract()).new_tree(&mut runner).unwrap().current();
    let change = Change {
        contract: Arc::clone(contract),
        op: Op::Insert,
        before: Before::None,
        after: Some(vec![Value::Integer(1)]),
        ..template
    };
    let encoded = Encoder::new(Arc::clone(contract), 1, 2).encode(&change, 0).unwrap();
    let body = framing::split(&encoded.value).unwrap().1;
    // No old row, then the index of the new one, then its key of one byte.
    assert_eq!(body[..3], [0, 2, 2]);
    [&body[..3], more, &body[3..]].concat().into()
}

#[test]
fn a_schema_that_doubles_with_every_level_costs_no_more_than_its_record() {
    let contract = small();
    // Each type has the one before it twice, and the first takes no byte at all: the last is 2^50 of them.
    let fields = (0..50).map(|level| {
        let before = if level == 0 { json!("null") } else { json!(format!("L{}", level - 1)) };
        let twice = json!([{"name": "a", "type": before}, {"name": "b", "type": before}]);
        let ty = json!({"type": "record", "name": format!("L{level}"), "fields": twice});
        json!({"name": format!("f{level}"), "type": ty})
    });
    let ty = json!({"type": "record", "name": "Top", "fields": fields.collect::<Vec<_>>()});
    let mut plan = Plan::compile(&with_field(&contract, &ty), &contract).unwrap();
    let error = plan.decode(&with_more(&contract, &[]), 0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.to_string().contains("more parts"), "{error}");
}

#[test]
fn lists_of_nothing_cost_no_more_than_their_record() {
    let contract = small();
    let ty = json!({"type": "array", "items": {"type": "array", "items": "null"}});
    let mut plan = Plan::compile(&with_field(&contract, &ty), &contract).unwrap();
    // 100,000 lists of as many nothings as there are bytes left: 2 × 10^10 of them.
    let lists = 100_000;
    let mut more = Vec::new();
    let number = |number: i64, out: &mut Vec<u8>| {
        let mut buffer = bytes::BytesMut::new();
        crate::binary::put_long(&mut buffer, number);
        out.extend_from_slice(&buffer);
    };
    number(lists, &mut more);
    for at in 0..lists {
        number((lists - at) * 3, &mut more);
        more.push(0);
    }
    more.push(0);
    let error = plan.decode(&with_more(&contract, &more), 0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    // As many as anybody could mean are passed over.
    let some = [&[2, 4, 0][..], &[0]].concat();
    assert!(matches!(plan.decode(&with_more(&contract, &some), 0), Ok(Decoded::Change(_))));
}

#[test]
fn a_damaged_schema_is_refused_or_reads_what_it_can() {
    let contract = any_change::contract();
    let small = small();
    let own = schemas(&contract, "a.all.v1").value;
    let recursive = with_field(
        &small,
        &json!(["null", {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}]),
    );
    let odd = with_field(
        &small,
        &json!({"type": "map", "values": {"type": "fixed", "name": "F", "size": 16, "logicalType": "unheard-of"}}),
    );
    let bodies: Vec<Bytes> = bodies(&contract).into_iter().take(4).map(Bytes::from).collect();
    let valid = [own.as_str(), &recursive, &odd, &schemas(&small, "t").value];
    hostile::feed_texts("a_damaged_schema_is_refused_or_reads_what_it_can", 1_500, &valid, |text| {
        let _ = contract_of(text, "s");
        for contract in [&contract, &small] {
            match Plan::compile(text, contract) {
                Ok(mut plan) => bodies.iter().for_each(|body| {
                    if let Err(error) = plan.decode(body, 0) {
                        assert_eq!(error.kind, ErrorKind::Malformed);
                    }
                }),
                Err(error) => assert!(matches!(error.kind, ErrorKind::Malformed | ErrorKind::SchemaConflict)),
            }
        }
    });
}

#[test]
fn schemas_of_every_excess_are_refused_or_read() {
    let contract = small();
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}\"int\"{}", open.repeat(depth), close.repeat(depth))
    };
    let name = "n".repeat(1 << 20);
    for (text, is_refused) in [
        (nested("[", "]", 50_000), true),
        (nested(r#"{"type":"array","items":"#, "}", 100), true),
        (format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#), true),
        (with_field(&contract, &json!({"type": "fixed", "name": name, "size": u64::MAX})), false),
        (
            with_field(&contract, &json!({"type": "enum", "name": "E", "symbols": vec![name.as_str(); 8]})),
            false,
        ),
        (with_field(&contract, &json!({"type": "int", "logicalType": "unheard-of"})), false),
        (with_field(&contract, &json!("Nobody")), true),
    ] {
        let compiled = Plan::compile(&text, &contract);
        assert_eq!(compiled.is_err(), is_refused, "{}", text.chars().take(80).collect::<String>());
        if let Ok(mut plan) = compiled {
            // None of them fits into what is there.
            let _ = plan.decode(&with_more(&contract, &[0]), 0);
        }
    }
}
