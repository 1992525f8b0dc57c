//! How a store's quarantine keeps a change: JSON that a person can read and that reads back exactly.
//!
//! Shared by the store sinks. A change stands with its columns, types and key, so that it can be replayed
//! long after its contract has grown. Whoever calls it keeps it in the store and never logs it.

use std::sync::Arc;

use hutong_core::change::Place;
use hutong_core::contract::Sharing;
use hutong_core::{
    Before, Change, Contract, Decimal, Error, ErrorKind, Field, Op, Origin, Position, RecordTrace, Result,
    Row, Type, Value, hexadecimal,
};
use jiff::civil::{Date, DateTime, Time};
use serde_json::{Map, Value as Json, json};

/// Returns the JSON of a change. What is not told is left out of a row; NULL is null.
pub fn change_json(change: &Change) -> Json {
    let contract = &change.contract;
    let fields: Vec<Json> = contract
        .fields
        .iter()
        .map(|f| {
            let mut field = json!({"name": f.name, "type": f.ty.to_contract()});
            if let Some(column) = &f.column {
                field["column"] = json!(column);
            }
            field
        })
        .collect();
    json!({
        "stream": contract.stream,
        "op": change.op.letter(),
        "before": change.before.row().map(|row| row_json(contract, row)),
        "after": change.after.as_ref().map(|row| row_json(contract, row)),
        "position": change.position,
        "source_position": change.source_position,
        "committed_us": change.origin.committed_us,
        "key": contract.key_fields().map(|f| f.name.as_str()).collect::<Vec<_>>(),
        "fields": fields,
    })
}

/// Returns the subscription of a lane, `replicate.<subscription>.<partition>`.
pub(crate) fn subscription_of(lane: &str) -> &str {
    lane.split('.').nth(1).unwrap_or(lane)
}

/// Says why an item without a change cannot be applied, and what a person does; `record`: whether its record did not
/// decode.
pub(crate) fn nothing_kept(record: bool, lane: &str) -> (&'static str, String) {
    let subscription = subscription_of(lane);
    if record {
        let hint =
            "`hutong quarantine replay` reads its record again from the topic, when its cause is mended";
        return ("its record did not decode, so there is no change to apply", hint.into());
    }
    // I5: whether the department may hold it was not decided.
    let why = "it could not be decided whether the row is granted, so its change is not kept";
    (
        why,
        format!(
            "the next complete change of the row brings it; else `hutong subscription reload {subscription}`, or discard the item"
        ),
    )
}

/// Returns the JSON of what is known of a record that did not decode.
pub fn record_json(record: &RecordTrace) -> Json {
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "schema_id": record.schema_id,
        "digest": record.digest,
    })
}

/// Returns the text by which the quarantine finds changes of one key; `None` when the key is not known.
///
/// Equal exactly when [`crate::fold::Key`] is: I4 holds for a row, not for a way to write its key.
pub fn key_text(contract: &Contract, row: &[Value]) -> Option<String> {
    let mut values = Vec::with_capacity(contract.key.len());
    for at in &contract.key {
        let value = row.get(*at)?;
        if value.is_unknown() || value.is_null() {
            return None;
        }
        values.push(key_json(value));
    }
    Some(Json::Array(values).to_string())
}

/// Returns the JSON of a key for a person and a program: wire names and values.
pub fn key_shown(contract: &Contract, key: &[Value]) -> Json {
    let parts = contract.key_fields().zip(key).map(|(field, value)| (field.name.clone(), value_json(value)));
    Json::Object(parts.collect())
}

/// Returns the JSON of a key's values, which [`read_key`] reads back.
pub fn written_key(key: &[Value]) -> Json {
    Json::Array(key.iter().map(value_json).collect())
}

/// Reads a key of a contract back; `None` when it is none.
pub fn read_key(contract: &Contract, json: &Json) -> Option<Row> {
    let values = json.as_array().filter(|values| values.len() == contract.key.len())?;
    let key = contract.key_fields().zip(values).map(|(field, json)| read_value(&field.ty, json));
    let key: Row = key.collect::<Option<_>>()?;
    (!key.iter().any(Value::is_null)).then_some(key)
}

/// Reads a change back from [`change_json`].
pub fn read_change(json: &Json) -> Result<Change> {
    read(json).map_err(|why| Error::new(ErrorKind::Malformed, "read a quarantined change", why))
}

fn read(json: &Json) -> std::result::Result<Change, String> {
    let text =
        |name: &str| json.get(name).and_then(Json::as_str).ok_or_else(|| format!("it has no `{name}`"));
    let position = |name: &str| {
        text(name)?.parse::<Position>().map_err(|e| format!("its `{name}` is wrong: {}", e.why()))
    };
    let list =
        |name: &str| json.get(name).and_then(Json::as_array).ok_or_else(|| format!("it has no `{name}`"));
    let fields = list("fields")?.iter().map(read_field).collect::<std::result::Result<Vec<_>, _>>()?;
    let key = list("key")?
        .iter()
        .map(|name| fields.iter().position(|f| Some(f.name.as_str()) == name.as_str()))
        .collect::<Option<Vec<_>>>()
        .ok_or("its key names no field")?;
    let contract = Contract {
        stream: text("stream")?.to_owned(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        fields,
        key,
        catalogue: Map::new(),
    };
    let row = |name: &str| match json.get(name) {
        Some(Json::Object(object)) => read_row(&contract, object).map(Some),
        _ => Ok(None),
    };
    let (before, after) = (row("before")?, row("after")?);
    let op = match text("op")? {
        "r" => Op::Read,
        "c" => Op::Insert,
        "u" => Op::Update,
        "d" => Op::Delete,
        "t" => Op::Truncate,
        other => return Err(format!("its op `{other}` is unknown")),
    };
    Ok(Change {
        op,
        before: before.map_or(Before::None, Before::Key),
        after,
        position: position("position")?,
        source_position: position("source_position")?,
        origin: Origin {
            place: Arc::new(Place::default()),
            committed_us: json.get("committed_us").and_then(Json::as_i64).unwrap_or_default(),
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
        contract: contract.shared(),
    })
}

fn read_field(json: &Json) -> std::result::Result<Field, String> {
    let name = json.get("name").and_then(Json::as_str).ok_or("a field has no name")?;
    // A contract of one field reads the type by the contract's own rules.
    let small = json!({
        "type": "record", "name": "s", "sharing": "unconditional", "key": ["f"],
        "fields": [{"name": "f", "type": json.get("type")}]
    });
    let small = Contract::parse(&small.to_string()).map_err(|e| format!("field {name}: {}", e.why()))?;
    let ty = small.fields.into_iter().next().map(|f| f.ty).ok_or("a field has no type")?;
    let mut field = Field::new(name, ty);
    field.column = json.get("column").and_then(Json::as_str).map(str::to_owned);
    Ok(field)
}

fn row_json(contract: &Contract, row: &[Value]) -> Json {
    let known = contract.fields.iter().zip(row).filter(|(_, value)| !value.is_unknown());
    Json::Object(known.map(|(field, value)| (field.name.clone(), value_json(value))).collect())
}

fn read_row(contract: &Contract, object: &Map<String, Json>) -> std::result::Result<Row, String> {
    let value = |field: &Field| match object.get(&field.name) {
        None => Ok(Value::Unknown),
        Some(json) => {
            read_value(&field.ty, json).ok_or_else(|| format!("field {} is not of its type", field.name))
        }
    };
    contract.fields.iter().map(value).collect()
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Unknown | Value::Null => Json::Null,
        Value::Boolean(b) => json!(b),
        Value::Integer(n) => json!(n),
        // As texts: JSON has no NaN, and readers of JSON round.
        Value::Float(n) => json!(n.to_string()),
        Value::Double(n) => json!(n.to_string()),
        Value::Decimal(n) => json!(n.to_string()),
        Value::Text(text) => json!(&**text),
        Value::Bytes(bytes) => json!(hexadecimal::text(bytes)),
        // As a calendar writes them, where it reaches; else as their number.
        Value::Date(n) => date(*n).map_or(json!(n), |date| json!(date.to_string())),
        Value::Time(n) => time(*n).map_or(json!(n), |time| json!(time.to_string())),
        Value::Timestamp(n) => moment(*n).map_or(json!(n), |moment| json!(moment.to_string())),
        Value::TimestampTz(n) => moment(*n).map_or(json!(n), |moment| json!(format!("{moment}Z"))),
        Value::Array(items) => Json::Array(items.iter().map(value_json).collect()),
    }
}

/// Returns the JSON of a key's value, one for all values that a database takes as equal: 1.0 and 1.00, 0 and -0.
fn key_json(value: &Value) -> Json {
    match value {
        Value::Decimal(n) => json!(n.normalized().to_string()),
        Value::Float(n) if *n == 0.0 => json!("0"),
        Value::Double(n) if *n == 0.0 => json!("0"),
        Value::Array(items) => Json::Array(items.iter().map(key_json).collect()),
        other => value_json(other),
    }
}

/// Reads a value as a person writes it: as it is kept, a number also where a text is kept and a text where a number is.
pub fn written_value(ty: &Type, json: &Json) -> Option<Value> {
    match (ty, json) {
        (Type::Float | Type::Double | Type::Decimal { .. } | Type::Numeric, Json::Number(number)) => {
            read_value(ty, &json!(number.to_string()))
        }
        (Type::Int16 | Type::Int | Type::Long, Json::String(text)) => text.parse().ok().map(Value::Integer),
        (Type::Boolean, Json::String(text)) => text.parse().ok().map(Value::Boolean),
        _ => read_value(ty, json),
    }
}

fn read_value(ty: &Type, json: &Json) -> Option<Value> {
    Some(match (ty, json) {
        (_, Json::Null) => Value::Null,
        (Type::Boolean, Json::Bool(b)) => Value::Boolean(*b),
        (Type::Int16, json) => Value::Integer(i16::try_from(json.as_i64()?).ok()?.into()),
        (Type::Int, json) => Value::Integer(i32::try_from(json.as_i64()?).ok()?.into()),
        (Type::Long, json) => Value::Integer(json.as_i64()?),
        (Type::Float, json) => Value::Float(json.as_str()?.parse().ok()?),
        (Type::Double, json) => Value::Double(json.as_str()?.parse().ok()?),
        (Type::Decimal { .. } | Type::Numeric, json) => Value::Decimal(decimal(json.as_str()?)?),
        (Type::Text { .. } | Type::Json | Type::Uuid | Type::Interval | Type::Enum { .. }, json) => {
            Value::text(json.as_str()?)
        }
        (Type::Bytes, json) => Value::Bytes(bytes(json.as_str()?)?.into()),
        (Type::Date, Json::Number(n)) => Value::Date(n.as_i64()?.try_into().ok()?),
        (Type::Time, Json::Number(n)) => Value::Time(n.as_i64()?),
        (Type::Timestamp, Json::Number(n)) => Value::Timestamp(n.as_i64()?),
        (Type::TimestampTz, Json::Number(n)) => Value::TimestampTz(n.as_i64()?),
        (Type::Date, json) => Value::Date(days(json.as_str()?.parse().ok()?)?),
        (Type::Time, json) => Value::Time(micros(DateTime::from_parts(EPOCH, json.as_str()?.parse().ok()?))?),
        (Type::Timestamp, json) => Value::Timestamp(micros(json.as_str()?.parse().ok()?)?),
        (Type::TimestampTz, json) => {
            Value::TimestampTz(micros(json.as_str()?.strip_suffix('Z')?.parse().ok()?)?)
        }
        (Type::Array(item), Json::Array(items)) => {
            Value::Array(items.iter().map(|json| read_value(item, json)).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// How far a number's point is from its digits at most: beyond what a database holds, and not so far that nobody can
/// write the number out.
const SCALE_LIMIT: u64 = 200_000;

fn decimal(text: &str) -> Option<Decimal> {
    let number: Decimal = text.parse().ok()?;
    (number.fractional_digit_count().unsigned_abs() <= SCALE_LIMIT).then_some(number)
}

const EPOCH: Date = Date::constant(1970, 1, 1);

fn date(days: i32) -> Option<Date> {
    EPOCH.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

fn days(date: Date) -> Option<i32> {
    EPOCH.until((jiff::Unit::Day, date)).ok().map(|span| span.get_days())
}

fn time(micros: i64) -> Option<Time> {
    // 24:00:00 is a time to a database, and none to a calendar.
    (0..86_400_000_000).contains(&micros).then(|| moment(micros).map(DateTime::time))?
}

fn moment(micros: i64) -> Option<DateTime> {
    let timestamp = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(jiff::tz::Offset::UTC.to_datetime(timestamp))
}

fn micros(moment: DateTime) -> Option<i64> {
    jiff::tz::Offset::UTC.to_timestamp(moment).ok().map(|timestamp| timestamp.as_microsecond())
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_every_value_reads_back_exactly() {
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        let list = Type::Array(Box::new(Type::Decimal { precision: 5, scale: 1 }));
        let fields = [
            (Type::Long, vec![Value::Integer(i64::MIN), Value::Integer(i64::MAX)]),
            (Type::Boolean, vec![Value::Boolean(true), Value::Null]),
            (Type::Float, vec![Value::Float(0.1), Value::Float(f32::INFINITY)]),
            (Type::Double, vec![Value::Double(-0.0), Value::Double(5e-324)]),
            (Type::Numeric, vec![decimal("1.00"), decimal("1e30"), decimal("-0.0000001")]),
            (Type::Text { length: Some(9) }, vec![Value::text("张\u{0}\"'"), Value::text("")]),
            (Type::Bytes, vec![Value::Bytes(vec![0, 255, 16].into())]),
            (
                Type::Date,
                vec![Value::Date(0), Value::Date(-719_529), Value::Date(i32::MAX), Value::Date(i32::MIN)],
            ),
            (Type::Time, vec![Value::Time(0), Value::Time(86_399_999_999), Value::Time(86_400_000_000)]),
            (
                Type::Timestamp,
                vec![
                    Value::Timestamp(-1),
                    Value::Timestamp(i64::MAX),
                    Value::Timestamp(1_600_000_000_000_001),
                ],
            ),
            (Type::TimestampTz, vec![Value::TimestampTz(1), Value::TimestampTz(i64::MIN)]),
            (list, vec![Value::Array(vec![decimal("1.5"), Value::Null]), Value::Array(vec![])]),
        ];
        for (ty, values) in fields {
            for value in values {
                let json = serde_json::to_string(&value_json(&value)).unwrap();
                let back = read_value(&ty, &serde_json::from_str(&json).unwrap());
                assert_eq!(back.as_ref(), Some(&value), "{json}");
                if let (Some(Value::Decimal(a)), Value::Decimal(b)) = (back, &value) {
                    assert_eq!(a.as_bigint_and_exponent(), b.as_bigint_and_exponent(), "the scale is kept");
                }
            }
        }
    }

    #[test]
    fn i4_keys_that_are_one_row_have_one_text() {
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        let list = |text: &str| Value::Array(vec![decimal(text), Value::Null]);
        let values = [
            (Type::Numeric, ["1.0", "1.00", "100", "1e2", "-0.10", "0.0", "0"].map(decimal).to_vec()),
            (Type::Double, [0.0, -0.0, 1.5, f64::NAN, -f64::NAN].map(Value::Double).to_vec()),
            (Type::Float, [0.0, -0.0, 1.5].map(Value::Float).to_vec()),
            (Type::Array(Box::new(Type::Numeric)), ["1.0", "1", "2"].map(list).to_vec()),
        ];
        for (ty, values) in values {
            let contract = Contract {
                stream: "s".into(),
                doc: String::new(),
                sharing: Sharing::Unconditional,
                fields: vec![Field::new("id", ty)],
                key: vec![0],
                catalogue: Map::new(),
            };
            for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (a, b))) {
                let (a, b) = (std::slice::from_ref(a), std::slice::from_ref(b));
                let same = crate::fold::Key::of(&contract, a) == crate::fold::Key::of(&contract, b);
                assert_eq!(key_text(&contract, a) == key_text(&contract, b), same, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_change_reads_back_and_shows_only_what_is_told() {
        let mut id = Field::new("gmsfhm", Type::Text { length: Some(18) });
        id.column = Some("公民身份号码".into());
        let contract = Contract {
            stream: "population_base".into(),
            doc: String::new(),
            sharing: Sharing::Unconditional,
            fields: vec![id, Field::new("hutong_key", Type::Bytes), Field::new("csrq", Type::Date)],
            key: vec![0],
            catalogue: Map::new(),
        }
        .shared();
        let row = vec![Value::text("990101199003070015"), Value::Unknown, Value::Date(7370)];
        let origin = Origin {
            place: Arc::new(Place::default()),
            committed_us: 7,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        };
        let change = Change {
            contract: Arc::clone(&contract),
            op: Op::Update,
            before: Before::Key(contract.key_row(&[Value::text("990101199003070015")])),
            after: Some(row),
            position: Position::offset(9),
            source_position: Position::wal(0, 5, 1, 0),
            origin,
        };
        let json = change_json(&change);
        assert_eq!(json["after"], json!({"gmsfhm": "990101199003070015", "csrq": "1990-03-07"}));
        assert_eq!(read_change(&json).unwrap(), change);
        assert_eq!(key_text(&contract, change.after.as_ref().unwrap()).unwrap(), r#"["990101199003070015"]"#);
    }
}
