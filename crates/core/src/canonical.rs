//! The one form of a value in bytes that digests are made of.

use crate::value::Value;

/// Appends a value's canonical bytes: a letter for its kind, its length in 4 bytes (most significant first), its bytes.
/// A whole number is the same in every width, a decimal number at every scale. `false` of a value that is unknown or
/// cannot be in a key; then nothing is appended.
pub(crate) fn scalar(value: &Value, bytes: &mut Vec<u8>) -> bool {
    let mut put = |letter: u8, part: &[u8]| {
        bytes.push(letter);
        bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
        bytes.extend_from_slice(part);
        true
    };
    match value {
        Value::Unknown | Value::Null | Value::Array(_) => false,
        Value::Boolean(truth) => put(b'b', &[u8::from(*truth)]),
        Value::Integer(number) => put(b'i', &number.to_be_bytes()),
        Value::Float(number) => put(b'f', &number.to_bits().to_be_bytes()),
        Value::Double(number) => put(b'g', &number.to_bits().to_be_bytes()),
        Value::Decimal(number) => {
            let (digits, scale) = number.normalized().into_bigint_and_exponent();
            put(b'n', format!("{digits}e{scale}").as_bytes())
        }
        Value::Text(text) => put(b't', text.as_bytes()),
        Value::Bytes(part) => put(b'x', part),
        Value::Date(days) => put(b'd', &days.to_be_bytes()),
        Value::Time(micros) => put(b'c', &micros.to_be_bytes()),
        Value::Timestamp(micros) => put(b's', &micros.to_be_bytes()),
        Value::TimestampTz(micros) => put(b'z', &micros.to_be_bytes()),
    }
}

/// Appends any value: as [`scalar`] does, NULL and what is unknown as a letter each, an array as its length and its
/// items.
pub(crate) fn any(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Unknown => bytes.push(b'U'),
        Value::Null => bytes.push(b'N'),
        Value::Array(items) => {
            bytes.push(b'a');
            bytes.extend_from_slice(&(items.len() as u32).to_be_bytes());
            items.iter().for_each(|item| any(item, bytes));
        }
        value => {
            scalar(value, bytes);
        }
    }
}
