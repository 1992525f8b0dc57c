//! One value of a contract's type into Avro's binary form. I6: what does not fit exactly is refused.

use bigdecimal::num_bigint::BigInt;
use bigdecimal::num_traits::ToPrimitive;
use bytes::BytesMut;
use hutong_core::{Type, Value};

use super::{decimal, instant};
use crate::binary::{put_bytes, put_long, put_null, put_some};

/// The last microsecond of a day; 24:00:00 itself is a time of day in SQL.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// Writes a value that is neither NULL nor unknown; `Err` says why it does not fit, without the value.
pub(super) fn put(out: &mut BytesMut, ty: &Type, value: &Value) -> Result<(), &'static str> {
    match (ty, value) {
        (Type::Boolean, Value::Boolean(truth)) => out.extend_from_slice(&[u8::from(*truth)]),
        (Type::Int16, Value::Integer(number)) => {
            i16::try_from(*number).map_err(|_| "the number has more than 16 bits")?;
            put_long(out, *number);
        }
        (Type::Int, Value::Integer(number)) => {
            i32::try_from(*number).map_err(|_| "the number has more than 32 bits")?;
            put_long(out, *number);
        }
        (Type::Long, Value::Integer(number)) => put_long(out, *number),
        (Type::Float, Value::Float(number)) => out.extend_from_slice(&number.to_le_bytes()),
        (Type::Double, Value::Double(number)) => out.extend_from_slice(&number.to_le_bytes()),
        (Type::Text { length }, Value::Text(text)) => {
            // No character takes less than a byte: most texts need no counting.
            if length.is_some_and(|max| text.len() > max as usize && text.chars().count() > max as usize) {
                return Err("the text is longer than the type");
            }
            put_bytes(out, text.as_bytes());
        }
        (Type::Json | Type::Interval, Value::Text(text)) => put_bytes(out, text.as_bytes()),
        (Type::Uuid, Value::Text(text)) if is_uuid(text) => put_bytes(out, text.as_bytes()),
        (Type::Uuid, Value::Text(_)) => return Err("the text is no UUID"),
        (Type::Enum { allowed }, Value::Text(text)) => {
            if !allowed.iter().any(|a| a.as_str() == &**text) {
                return Err("the text is none of those allowed");
            }
            put_bytes(out, text.as_bytes());
        }
        (Type::Bytes, Value::Bytes(bytes)) => put_bytes(out, bytes),
        (Type::Decimal { precision, scale }, Value::Decimal(number)) => {
            let number = decimal::unscaled(number, *precision, *scale).ok_or("the number has more digits")?;
            put_number(out, &number);
        }
        (Type::Numeric, Value::Decimal(number)) => {
            let (number, scale) = number.as_bigint_and_exponent();
            let scale32 = i32::try_from(scale).ok().filter(|_| decimal::scale_is_sane(scale));
            put_long(out, scale32.ok_or("the number's scale is beyond any database's")?.into());
            put_number(out, &number);
        }
        (Type::Date, Value::Date(days)) => put_long(out, (*days).into()),
        (Type::Time, Value::Time(us)) if (0..=DAY_US).contains(us) => put_long(out, *us),
        (Type::Time, Value::Time(_)) => return Err("the time is not within a day"),
        (Type::Timestamp, Value::Timestamp(us)) => put_long(out, *us),
        (Type::TimestampTz, Value::TimestampTz(us)) => {
            put_bytes(out, &instant::text(*us).ok_or("the year is not within 0001 to 9999")?);
        }
        (Type::Array(item), Value::Array(items)) => put_array(out, item, items)?,
        _ => return Err("the value is of another type"),
    }
    Ok(())
}

fn put_array(out: &mut BytesMut, ty: &Type, items: &[Value]) -> Result<(), &'static str> {
    if !items.is_empty() {
        put_long(out, items.len() as i64);
        for item in items {
            match item {
                Value::Unknown => return Err("an item is unknown"),
                Value::Null => put_null(out),
                item => {
                    put_some(out);
                    put(out, ty, item)?;
                }
            }
        }
    }
    put_long(out, 0);
    Ok(())
}

fn put_number(out: &mut BytesMut, number: &BigInt) {
    match number.to_i64() {
        Some(small) => {
            let bytes = small.to_be_bytes();
            let sign = if small < 0 { 0xff } else { 0 };
            // A leading byte goes when it is only sign, and the next byte still has that sign.
            let skip = (0..7).take_while(|&i| bytes[i] == sign && (bytes[i + 1] ^ sign) & 0x80 == 0).count();
            put_bytes(out, &bytes[skip..]);
        }
        None => put_bytes(out, &number.to_signed_bytes_be()),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}
