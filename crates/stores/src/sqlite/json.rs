//! Arrays as the JSON text that a column holds.
//!
//! Booleans, integers and binary floating-point numbers are JSON's own; decimals, dates, times and texts are
//! strings, bytes hexadecimal strings, infinities the strings `Infinity` and `-Infinity`.

use bytes::Bytes;
use hutong_core::{Type, Value, hexadecimal};
use serde_json::Value as Json;

use super::{calendar, values};

/// Returns a value as JSON; `Err` when JSON cannot hold it exactly.
pub(super) fn of(ty: &Type, value: &Value) -> Result<Json, String> {
    let text = |text: Option<String>| {
        text.map(Json::from).ok_or_else(|| "its year is outside 0000 to 9999".to_owned())
    };
    Ok(match value {
        Value::Unknown => return Err("it is not known".into()),
        Value::Null => Json::Null,
        Value::Boolean(b) => (*b).into(),
        Value::Integer(i) => (*i).into(),
        Value::Float(f) => real(f64::from(*f))?,
        Value::Double(d) => real(*d)?,
        Value::Decimal(d) => d.to_plain_string().into(),
        Value::Text(t) => Json::from(&**t),
        Value::Bytes(b) => hexadecimal::text(b).into(),
        Value::Date(d) => text(calendar::date_text(*d))?,
        Value::Time(t) => text(calendar::time_text(*t))?,
        Value::Timestamp(t) => text(calendar::timestamp_text(*t))?,
        Value::TimestampTz(t) => text(calendar::timestamp_text(*t).map(|t| t + "Z"))?,
        Value::Array(items) => {
            let Type::Array(item) = ty else {
                return Err("it is an array, the contract says otherwise".into());
            };
            items.iter().map(|v| of(item, v)).collect::<Result<_, _>>()?
        }
    })
}

/// Reads a value of a type out of JSON.
pub(super) fn read(ty: &Type, json: &Json) -> Result<Value, String> {
    let wrong = || format!("the contract says {}, the JSON holds something else", ty.name());
    Ok(match (ty, json) {
        (_, Json::Null) => Value::Null,
        (Type::Boolean, Json::Bool(b)) => Value::Boolean(*b),
        (Type::Int16 | Type::Int | Type::Long, Json::Number(n)) => {
            let i = n.as_i64().ok_or_else(wrong)?;
            let fits = match ty {
                Type::Int16 => i16::try_from(i).is_ok(),
                Type::Int => i32::try_from(i).is_ok(),
                _ => true,
            };
            if !fits {
                return Err(wrong());
            }
            Value::Integer(i)
        }
        (Type::Float | Type::Double, _) => {
            let d = match json {
                Json::Number(n) => n.as_f64().ok_or_else(wrong)?,
                Json::String(s) if s == "Infinity" => f64::INFINITY,
                Json::String(s) if s == "-Infinity" => f64::NEG_INFINITY,
                _ => return Err(wrong()),
            };
            match ty {
                Type::Double => Value::Double(d),
                _ if f64::from(d as f32) == d => Value::Float(d as f32),
                _ => return Err(wrong()),
            }
        }
        (Type::Bytes, Json::String(s)) => Value::Bytes(unhex(s).ok_or_else(wrong)?),
        (Type::Array(item), Json::Array(items)) => {
            Value::Array(items.iter().map(|v| read(item, v)).collect::<Result<_, _>>()?)
        }
        (_, Json::String(s)) if !matches!(ty, Type::Array(_)) => values::read_text(ty, s)?,
        _ => return Err(wrong()),
    })
}

fn real(d: f64) -> Result<Json, String> {
    if d.is_nan() {
        return Err("JSON holds no NaN".into());
    }
    if d.is_infinite() {
        return Ok(if d > 0.0 { "Infinity" } else { "-Infinity" }.into());
    }
    Ok(d.into())
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pairs = digits.chunks_exact(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?));
    pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
}
