//! Replication messages, values and kept changes that somebody has damaged: an error, or just what they say.

use bytes::Bytes;
use hutong_core::contract::Sharing;
use hutong_core::{Contract, ErrorKind, Field, Type, Value};
use hutong_testkit::hostile;
use jiff::Unit;
use serde_json::Value as Json;

use super::mend::{self, Asked};
use super::pgoutput::{Cell, Message, Old};
use super::text::read;
use crate::keep::{change_json, read_change, read_key, written_key};

/// A message of each kind: a relation, and what happens to its rows under each replica identity.
fn messages() -> Vec<Vec<u8>> {
    // Text, NULL, text, unchanged.
    let cells = b"\0\x04t\0\0\0\x01ant\0\0\0\x03\xe4\xba\xbau";
    let with = |head: &[u8], parts: &[&[u8]]| {
        let mut message = head.to_vec();
        parts.iter().for_each(|part| message.extend_from_slice(part));
        message
    };
    vec![
        b"R\0\0\0\x07public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0n\0\0\0\0\x19\0\0\0\x08".to_vec(),
        b"R\0\0\0\x07\0t\0f\0\0".to_vec(),
        with(b"I\0\0\0\x07N", &[cells]),
        with(b"U\0\0\0\x07N", &[cells]),
        with(b"U\0\0\0\x07K", &[cells, b"N", cells]),
        with(b"U\0\0\0\x07O", &[cells, b"N", cells]),
        with(b"D\0\0\0\x07K", &[cells]),
        with(b"D\0\0\0\x07O", &[cells]),
        b"T\0\0\0\x02\x03\0\0\0\x07\0\0\0\x08".to_vec(),
        b"Y\0\0\0\x07public\0type\0".to_vec(),
        b"O\0\0\0\0\0\0\0\x07origin\0".to_vec(),
    ]
}

/// Writes a row message as the server does; `None` of one that holds less than its bytes.
fn written(message: &Message) -> Option<Vec<u8>> {
    let tuple = |out: &mut Vec<u8>, cells: &[Cell]| {
        out.extend_from_slice(&u16::try_from(cells.len()).unwrap().to_be_bytes());
        for cell in cells {
            match cell {
                Cell::Null => out.push(b'n'),
                Cell::Unchanged => out.push(b'u'),
                Cell::Text(text) => {
                    out.push(b't');
                    out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                    out.extend_from_slice(text);
                }
            }
        }
    };
    let old = |out: &mut Vec<u8>, old: &Old| match old {
        Old::None => {}
        Old::Key(cells) => {
            out.push(b'K');
            tuple(out, cells);
        }
        Old::Full(cells) => {
            out.push(b'O');
            tuple(out, cells);
        }
    };
    let mut out = Vec::new();
    match message {
        Message::Insert { relation, new } => {
            out.push(b'I');
            out.extend_from_slice(&relation.to_be_bytes());
            out.push(b'N');
            tuple(&mut out, new);
        }
        Message::Update { relation, old: before, new } => {
            out.push(b'U');
            out.extend_from_slice(&relation.to_be_bytes());
            old(&mut out, before);
            out.push(b'N');
            tuple(&mut out, new);
        }
        Message::Delete { relation, old: before } => {
            out.push(b'D');
            out.extend_from_slice(&relation.to_be_bytes());
            old(&mut out, before);
        }
        Message::Relation(_) | Message::Truncate { .. } | Message::Other => return None,
    }
    Some(out)
}

#[test]
fn i6_a_damaged_message_is_an_error_or_what_its_bytes_say() {
    let messages = messages();
    assert!(messages.iter().all(|message| Message::parse(&message.clone().into()).is_ok()));
    hostile::feed("i6_a_damaged_message_is_an_error_or_what_its_bytes_say", 10_000, &messages, |bytes| {
        let data = Bytes::copy_from_slice(bytes);
        let mut parsed = None;
        // A cell takes a byte, a column seven, and each some words here.
        hostile::within((4 << 10) + 128 * bytes.len(), || parsed = Some(Message::parse(&data)));
        match parsed.unwrap() {
            // Written again it is the same, byte for byte: no NULL and no text that was not there.
            Ok(message) => assert!(written(&message).is_none_or(|again| again == bytes), "{message:?}"),
            Err(error) => assert_eq!(error.kind, ErrorKind::Broken),
        }
    });
}

/// Values as the server writes them, by type.
fn texts() -> Vec<(Type, &'static [&'static str])> {
    vec![
        (Type::Boolean, &["t", "f"]),
        (Type::Int16, &["-32768", "32767"]),
        (Type::Int, &["0", "-2147483648"]),
        (Type::Long, &["9223372036854775807"]),
        (Type::Float, &["0.1", "NaN", "-Infinity", "1e-45"]),
        (Type::Double, &["5e-324", "Infinity", "1.7976931348623157e+308"]),
        (Type::Decimal { precision: 9, scale: 2 }, &["12.30", "-9999999.99"]),
        (Type::Numeric, &["12.30", "-0.000000001", "100000000000000000000000"]),
        (Type::Date, &["2026-02-28", "0001-01-01", "9999-12-31"]),
        (Type::Time, &["23:59:59.999999", "24:00:00", "00:00:00.5"]),
        (Type::Timestamp, &["2026-02-28 23:59:59.5", "0001-01-01 00:00:00"]),
        (Type::TimestampTz, &["2026-02-28 23:59:59.5+00"]),
        (Type::Bytes, &["\\x00ff10"]),
        (Type::Text { length: Some(5) }, &["人口登记"]),
        (Type::Enum { allowed: vec!["a".into(), "登记".into()] }, &["登记"]),
        (Type::Array(Box::new(Type::Text { length: None })), &[r#"{a,"b, \"c\"",NULL,"NULL",""}"#, "{}"]),
        (Type::Array(Box::new(Type::Date)), &["{2026-02-28,NULL}"]),
    ]
}

/// States whether a value is the one that the text writes, told by other means than the reader's.
fn is_written(ty: &Type, value: &Value, text: &str) -> bool {
    let moment = |text: &str| text.replacen(' ', "T", 1).parse::<jiff::civil::DateTime>().ok();
    let epoch = jiff::civil::date(1970, 1, 1);
    let micros = |moment: jiff::civil::DateTime| {
        let since = epoch.at(0, 0, 0, 0).until((Unit::Microsecond, moment)).unwrap();
        since.get_microseconds()
    };
    match (ty, value) {
        (_, Value::Null | Value::Unknown) => false,
        (_, Value::Boolean(value)) => {
            ["f", "false", "t", "true"].iter().position(|t| *t == text).is_some_and(|at| (at > 1) == *value)
        }
        (_, Value::Integer(value)) => text.parse::<i128>().is_ok_and(|said| said == i128::from(*value)),
        (_, Value::Date(days)) => text
            .parse::<jiff::civil::Date>()
            .is_ok_and(|day| epoch.until((Unit::Day, day)).unwrap().get_days() == *days),
        // A calendar has no 24:00:00.
        (_, Value::Time(86_400_000_000)) => text.starts_with("24:00:00"),
        (_, Value::Time(value)) => moment(&format!("1970-01-01 {text}")).is_some_and(|m| micros(m) == *value),
        (_, Value::Timestamp(value)) => moment(text).is_some_and(|m| micros(m) == *value),
        (_, Value::TimestampTz(value)) => {
            text.strip_suffix("+00").and_then(moment).is_some_and(|m| micros(m) == *value)
        }
        (_, Value::Bytes(value)) => {
            let digits: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            text.to_ascii_lowercase() == format!("\\x{digits}")
        }
        (_, Value::Text(value)) => **value == *text,
        (_, Value::Decimal(value)) => text.parse::<hutong_core::Decimal>().is_ok_and(|said| said == *value),
        (_, Value::Float(_) | Value::Double(_) | Value::Array(_)) => true,
    }
}

#[test]
fn i6_a_damaged_value_is_refused_or_is_what_its_text_writes() {
    let texts = texts();
    let valid: Vec<&str> = texts.iter().flat_map(|(_, texts)| texts.iter().copied()).collect();
    for (ty, own) in &texts {
        for text in *own {
            let value = read(ty, false, &Bytes::from_static(text.as_bytes())).unwrap();
            assert!(is_written(ty, &value, text), "{text} {value:?}");
        }
    }
    hostile::feed_texts("i6_a_damaged_value_is_refused_or_is_what_its_text_writes", 10_000, &valid, |text| {
        for (ty, _) in &texts {
            match read(ty, false, &Bytes::copy_from_slice(text.as_bytes())) {
                Ok(value) => assert!(is_written(ty, &value, text), "{text:?} is read as {value:?}"),
                Err(why) => assert!(!why.is_empty()),
            }
        }
    });
}

/// A kept change as a store holds it.
const KEPT: &str = r#"{"stream":"population_base","op":"u","before":{"id":1},"after":{"id":1,"name":"测试甲","fee":"1.50",
    "day":"1990-03-07","at":"2026-01-01T00:00:00","seen":"2026-01-01T00:00:00Z","photo":"00ff","list":["a",null]},
    "position":"0000000000000009","source_position":"000000000000000000050000000100","committed_us":7,"key":["id"],
    "fields":[{"name":"id","type":"long"},{"name":"name","type":{"type":"string","length":18},"column":"姓名"},
    {"name":"fee","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"day","type":{"type":"int","logicalType":"date"}},{"name":"at","type":{"type":"long","logicalType":"local-timestamp-micros"}},
    {"name":"seen","type":{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}},{"name":"photo","type":"bytes"},
    {"name":"list","type":{"type":"array","items":["null","string"]}}]}"#;

#[test]
fn i3_a_damaged_item_is_refused_or_is_replayed_as_it_stands() {
    let whole: Json = serde_json::from_str(KEPT).unwrap();
    assert!(read_change(&whole).is_ok());
    hostile::feed_texts("i3_a_damaged_item_is_refused_or_is_replayed_as_it_stands", 4_000, &[KEPT], |text| {
        let Ok(json) = serde_json::from_str::<Json>(text) else { return };
        match read_change(&json) {
            // What it says is kept again in the same words, so that nothing was made up on the way.
            Ok(change) => assert_eq!(read_change(&change_json(&change)).unwrap(), change),
            Err(error) => assert_eq!(error.kind, ErrorKind::Malformed),
        }
    });
}

/// A contract whose key has a value of each type that reads back as what it is.
fn keyed() -> Contract {
    let types = [
        Type::Long,
        Type::Int16,
        Type::Numeric,
        Type::Text { length: None },
        Type::Bytes,
        Type::Date,
        Type::Time,
        Type::TimestampTz,
        Type::Array(Box::new(Type::Text { length: None })),
    ];
    let fields: Vec<Field> =
        types.into_iter().enumerate().map(|(at, ty)| Field::new(format!("f{at}"), ty)).collect();
    Contract {
        stream: "s".into(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        key: (0..fields.len()).collect(),
        fields,
        catalogue: Default::default(),
    }
}

const MEND: &str = r#"mend {"table":"public.people","keys":[[7,-8,"12.30","某\"人","00ff","1990-03-07","24:00:00",
    "2026-01-01T00:00:00Z",["a",null]],[1,2,"1e30","","","0001-01-01",86400000000,5,[]]]}"#;

#[test]
fn i6_a_hostile_message_that_asks_for_rows_names_keys_or_nothing() {
    let contract = keyed();
    let whole = Asked::read(MEND.as_bytes()).flatten().unwrap();
    // A day has 24:00:00 as a number only.
    let read: Vec<bool> = whole.keys(&contract).map(|(_, key)| key.is_some()).collect();
    assert_eq!(read, [false, true]);
    let name = "i6_a_hostile_message_that_asks_for_rows_names_keys_or_nothing";
    hostile::feed_texts(name, 4_000, &[MEND, &MEND.replace("\"24:00:00\"", "5")], |text| {
        let Some(Some(asked)) = Asked::read(text.as_bytes()) else { return };
        let mut parts = 0;
        for (_, key) in asked.keys(&contract) {
            parts += 1;
            let Some(key) = key else { continue };
            assert_eq!(read_key(&contract, &written_key(&key)).unwrap(), key, "the same key, said again");
            // What goes into a statement is of the size of what was said, and no byte ends it early.
            let mut said = Vec::new();
            hostile::within((1 << 20) + 64 * text.len(), || said.extend(key.iter().map(mend::text)));
            assert!(said.iter().all(|value: &String| !value.contains('\0')));
        }
        assert!(parts <= 256, "each is a part of one position");
    });
}
