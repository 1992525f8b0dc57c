//! Values that do not fit their type are refused by the field's name, and never named themselves.

use std::str::FromStr;
use std::sync::Arc;

use hutong_core::{Before, Change, Contract, Decimal, ErrorKind, Op, Origin, Place, Position, Value};

use super::super::Encoder;

fn contract() -> Arc<Contract> {
    Contract::parse(
        r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"int"},
        {"name":"small","type":["null",{"type":"int","connect.type":"int16"}]},
        {"name":"money","type":["null",{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}]},
        {"name":"word","type":{"type":"string","length":3}},
        {"name":"seen","type":["null",{"type":"string","connect.name":"io.debezium.time.ZonedTimestamp"}]},
        {"name":"ref","type":["null",{"type":"string","connect.name":"io.debezium.data.Uuid"}]},
        {"name":"state","type":["null",{"type":"string","connect.name":"io.debezium.data.Enum","connect.parameters":{"allowed":"a,b"}}]},
        {"name":"list","type":["null",{"type":"array","items":["null","int"]}]}]}"#,
    )
    .unwrap()
    .shared()
}

fn change(contract: &Arc<Contract>, op: Op, before: Before, after: Option<Vec<Value>>) -> Change {
    let place = Place { connector: "sqlite".into(), ..Place::default() };
    Change {
        contract: Arc::clone(contract),
        op,
        before,
        after,
        position: Position::offset(0),
        source_position: Position::offset(0),
        origin: Origin {
            place: Arc::new(place),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    }
}

#[test]
fn i6_what_does_not_fit_is_refused_by_name() {
    let contract = contract();
    let mut row = vec![Value::Null; 8];
    row[0] = Value::Integer(1);
    row[3] = Value::text("公安局");
    let mut encoder = Encoder::new(Arc::clone(&contract), 1, 2);
    encoder.encode(&change(&contract, Op::Insert, Before::None, Some(row.clone())), 0).unwrap();
    let decimal = |text: &str| Value::Decimal(Decimal::from_str(text).unwrap());
    let rows = [
        (0, Value::Integer(1 << 40), "id"),
        (0, Value::Null, "id"),
        (0, Value::Unknown, "id"),
        (1, Value::Integer(40_000), "small"),
        (2, decimal("1234.5"), "money"),
        (2, decimal("1.234"), "money"),
        (2, Value::Integer(1), "money"),
        (3, Value::text("公安局长"), "word"),
        (3, Value::Null, "word"),
        (4, Value::TimestampTz(i64::MAX), "seen"),
        (5, Value::text("7b4"), "ref"),
        (6, Value::text("c"), "state"),
        (7, Value::Array(vec![Value::Integer(1), Value::Unknown]), "list"),
        (7, Value::Array(vec![Value::Integer(1 << 40)]), "list"),
    ];
    for (at, value, field) in rows {
        let mut row = row.clone();
        row[at] = value;
        let error = encoder.encode(&change(&contract, Op::Insert, Before::None, Some(row)), 0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused, "{field}");
        assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
        assert!(!error.to_string().contains("1234") && !error.to_string().contains("局长"), "{error}");
    }
    // A refused change leaves nothing behind in the next one.
    let again = encoder.encode(&change(&contract, Op::Insert, Before::None, Some(row.clone())), 0).unwrap();
    let fresh = Encoder::new(Arc::clone(&contract), 1, 2)
        .encode(&change(&contract, Op::Insert, Before::None, Some(row)), 0)
        .unwrap();
    assert_eq!(again, fresh);
}

#[test]
fn a_change_that_contradicts_itself_is_refused() {
    let contract = contract();
    let row = || Some(vec![Value::Integer(1), Value::Null, Value::Null, Value::text("a")]);
    let rows = [
        (Op::Delete, Before::None, None),
        (Op::Insert, Before::None, None),
        (Op::Truncate, Before::None, row()),
        (Op::Insert, Before::None, row()),
    ];
    for (op, before, after) in rows {
        let error = Encoder::new(Arc::clone(&contract), 1, 2)
            .encode(&change(&contract, op, before, after), 0)
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
    }
}
