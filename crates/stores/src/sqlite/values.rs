//! What each type of a contract is in SQLite, in both directions.
//!
//! SQLite types values, not columns, so the contract decides: a value of another storage class that does not
//! hold the type exactly is refused, never converted (I6).
//!
//! | contract | declared as | stored as |
//! |---|---|---|
//! | boolean | `BOOLEAN` | INTEGER 0 or 1 |
//! | int16, int, long | `INT2`, `INT4`, `BIGINT` | INTEGER in range |
//! | float, double | `FLOAT4`, `DOUBLE` | REAL; read also from an INTEGER that it holds exactly; NaN and -0 are refused (SQLite makes them NULL and 0) |
//! | text(n), text | `VARCHAR(n)`, `TEXT` | TEXT, at most n characters |
//! | bytes | `BLOB` | BLOB |
//! | decimal(p,s), numeric | `DECIMAL TEXT(p,s)`, `NUMERIC TEXT` | TEXT; read also from INTEGER; REAL is refused: it is not what was written |
//! | date | `DATE` | TEXT `YYYY-MM-DD` |
//! | time | `TIME` | TEXT `HH:MM:SS[.ffffff]` |
//! | timestamp | `TIMESTAMP` | TEXT `YYYY-MM-DD HH:MM:SS[.ffffff]` |
//! | timestamptz | `TIMESTAMPTZ` | TEXT, the same in UTC with `Z`; read with any offset, never without |
//! | json | `JSON TEXT` | TEXT that is a JSON document |
//! | uuid, interval, enum | `UUID`, `DURATION TEXT`, `ENUM TEXT` | TEXT |
//! | array of t | `JSON TEXT` | TEXT, a JSON array of what `json.rs` makes of t |

use hutong_core::{Decimal, Type, Value};
use rusqlite::types::{Value as Stored, ValueRef};

use super::{calendar, json};

/// Reads a stored value as the contract's type; `Err` says what it is instead, without showing it.
pub(super) fn read(ty: &Type, stored: ValueRef<'_>) -> Result<Value, String> {
    match stored {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(i) => read_integer(ty, i),
        ValueRef::Real(r) => match ty {
            Type::Double => Ok(Value::Double(r)),
            Type::Float if f64::from(r as f32) == r => Ok(Value::Float(r as f32)),
            Type::Float => Err(other(ty, "a REAL that 32 bits do not hold exactly")),
            Type::Decimal { .. } | Type::Numeric => {
                Err(format!("{}: declare the column TEXT", other(ty, "a binary REAL, no exact decimal")))
            }
            _ => Err(other(ty, "a REAL")),
        },
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => read_text(ty, text),
            Err(_) => Err(other(ty, "a TEXT that is not UTF-8")),
        },
        ValueRef::Blob(bytes) => match ty {
            Type::Bytes => Ok(Value::Bytes(bytes.to_vec().into())),
            _ => Err(other(ty, "a BLOB")),
        },
    }
}

/// Returns what is stored for a value of the contract's type; `Err` when SQLite cannot hold it exactly.
pub(super) fn write(ty: &Type, value: &Value) -> Result<Stored, String> {
    let text =
        |text: Option<String>| text.map(Stored::Text).ok_or_else(|| other(ty, "a year outside 0000 to 9999"));
    Ok(match value {
        Value::Unknown => return Err("it is not known".into()),
        Value::Null => Stored::Null,
        Value::Boolean(b) => Stored::Integer(i64::from(*b)),
        Value::Integer(i) => Stored::Integer(*i),
        Value::Float(f) => Stored::Real(real(f64::from(*f))?),
        Value::Double(d) => Stored::Real(real(*d)?),
        Value::Decimal(d) => Stored::Text(d.to_plain_string()),
        Value::Text(t) => Stored::Text(t.to_string()),
        Value::Bytes(b) => Stored::Blob(b.to_vec()),
        Value::Date(d) => text(calendar::date_text(*d))?,
        Value::Time(t) => text(calendar::time_text(*t))?,
        Value::Timestamp(t) => text(calendar::timestamp_text(*t))?,
        Value::TimestampTz(t) => text(calendar::timestamp_text(*t).map(|t| t + "Z"))?,
        Value::Array(_) => Stored::Text(json::of(ty, value)?.to_string()),
    })
}

/// Returns a number that a column of type REAL holds as it is.
fn real(d: f64) -> Result<f64, String> {
    if d.is_nan() {
        return Err("SQLite holds no NaN".into());
    }
    // It keeps whole numbers as integers, which know one zero.
    if d == 0.0 && d.is_sign_negative() {
        return Err("SQLite holds no negative zero".into());
    }
    Ok(d)
}

/// Returns the type name by which Hutong declares a column.
pub(super) fn declared(ty: &Type) -> String {
    match ty {
        Type::Boolean => "BOOLEAN".into(),
        Type::Int16 => "INT2".into(),
        Type::Int => "INT4".into(),
        Type::Long => "BIGINT".into(),
        Type::Float => "FLOAT4".into(),
        Type::Double => "DOUBLE".into(),
        Type::Text { length: Some(length) } => format!("VARCHAR({length})"),
        Type::Text { length: None } => "TEXT".into(),
        Type::Bytes => "BLOB".into(),
        Type::Decimal { precision, scale } => format!("DECIMAL TEXT({precision},{scale})"),
        Type::Numeric => "NUMERIC TEXT".into(),
        Type::Date => "DATE".into(),
        Type::Time => "TIME".into(),
        Type::Timestamp => "TIMESTAMP".into(),
        Type::TimestampTz => "TIMESTAMPTZ".into(),
        Type::Json | Type::Array(_) => "JSON TEXT".into(),
        Type::Uuid => "UUID".into(),
        Type::Interval => "DURATION TEXT".into(),
        Type::Enum { .. } => "ENUM TEXT".into(),
    }
}

fn read_integer(ty: &Type, i: i64) -> Result<Value, String> {
    let within = |least: i64, most: i64| {
        if (least..=most).contains(&i) {
            Ok(Value::Integer(i))
        } else {
            Err(other(ty, "an INTEGER out of its range"))
        }
    };
    match ty {
        Type::Boolean if i == 0 || i == 1 => Ok(Value::Boolean(i == 1)),
        Type::Boolean => Err(other(ty, "an INTEGER that is neither 0 nor 1")),
        Type::Int16 => within(i16::MIN.into(), i16::MAX.into()),
        Type::Int => within(i32::MIN.into(), i32::MAX.into()),
        Type::Long => Ok(Value::Integer(i)),
        Type::Float if i.unsigned_abs() <= 1 << 24 => Ok(Value::Float(i as f32)),
        Type::Double if i.unsigned_abs() <= 1 << 53 => Ok(Value::Double(i as f64)),
        Type::Decimal { precision, scale } => decimal(ty, i.into(), *precision, *scale),
        Type::Numeric => Ok(Value::Decimal(i.into())),
        _ => Err(other(ty, "an INTEGER")),
    }
}

/// Reads a text as the type: what a TEXT column holds, and what JSON texts of the type hold.
pub(super) fn read_text(ty: &Type, text: &str) -> Result<Value, String> {
    let or = |value: Option<Value>, what: &str| value.ok_or_else(|| other(ty, what));
    match ty {
        Type::Text { length: Some(length) } if text.chars().nth(*length as usize).is_some() => {
            Err(format!("it has {} characters, the contract allows {length}", text.chars().count()))
        }
        Type::Text { .. } | Type::Interval => Ok(Value::text(text)),
        Type::Decimal { precision, scale } => match number(text) {
            Some(number) => decimal(ty, number, *precision, *scale),
            None => Err(other(ty, "a TEXT that is no number")),
        },
        Type::Numeric => or(number(text).map(Value::Decimal), "a TEXT that is no number"),
        Type::Date => or(calendar::date(text).map(Value::Date), "a TEXT that is not YYYY-MM-DD"),
        Type::Time => or(calendar::time(text).map(Value::Time), "a TEXT that is not HH:MM:SS[.ffffff]"),
        Type::Timestamp => or(
            calendar::timestamp(text).map(Value::Timestamp),
            "a TEXT that is not YYYY-MM-DD HH:MM:SS[.ffffff]",
        ),
        Type::TimestampTz => or(
            calendar::timestamp_tz(text).map(Value::TimestampTz),
            "a TEXT that is not YYYY-MM-DD HH:MM:SS[.ffffff] with Z or an offset",
        ),
        Type::Json => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(Value::text(text)),
            Err(_) => Err(other(ty, "a TEXT that is no JSON")),
        },
        Type::Uuid => {
            let dash = |i: usize| matches!(i, 8 | 13 | 18 | 23);
            let fits = text.len() == 36
                && text
                    .bytes()
                    .enumerate()
                    .all(|(i, b)| if dash(i) { b == b'-' } else { b.is_ascii_hexdigit() });
            or(fits.then(|| Value::text(text)), "a TEXT that is no UUID")
        }
        Type::Enum { allowed } => {
            or(allowed.iter().any(|a| a == text).then(|| Value::text(text)), "a TEXT that is not allowed")
        }
        Type::Array(_) => match serde_json::from_str(text) {
            Ok(array) => json::read(ty, &array),
            Err(_) => Err(other(ty, "a TEXT that is no JSON")),
        },
        Type::Boolean | Type::Int16 | Type::Int | Type::Long | Type::Float | Type::Double | Type::Bytes => {
            Err(other(ty, "a TEXT"))
        }
    }
}

/// Reads plain decimal digits: no blanks, no exponent, which would let a short text ask for endless digits.
fn number(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.bytes().any(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn decimal(ty: &Type, number: Decimal, precision: u32, scale: u32) -> Result<Value, String> {
    let scaled = number.with_scale(i64::from(scale));
    if scaled != number {
        return Err(other(ty, "a number with more digits after the point"));
    }
    if scaled.digits() > u64::from(precision) {
        return Err(other(ty, "a number with more digits"));
    }
    Ok(Value::Decimal(scaled))
}

fn other(ty: &Type, what: &str) -> String {
    format!("the contract says {}, the table holds {what}", ty.name())
}

#[cfg(test)]
#[path = "values_test.rs"]
mod tests;
