//! Digests of keys, rows and values: the same wherever the same value is read.
//!
//! A value is digested as what it is and not as how a store writes it: 1.0 and 1.00 are one number, a duration is its
//! months, days and microseconds, a UUID has no case. Texts and bytes are what they are to the last byte (I6).

use std::fmt;

use sha2::{Digest, Sha256};

use crate::contract::{Contract, Type};
use crate::hexadecimal;
use crate::value::Value;

/// The digest of a row's key: 16 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 16]);

/// The digest of a whole row, its key included: 16 bytes of SHA-256, as a number.
pub type RowDigest = u128;

/// A range of keys: the first two bytes of their digests.
pub type Range = u16;

impl KeyDigest {
    /// Digests the key of a row of a contract; `None` when a part of it is NULL or not known.
    pub fn of(contract: &Contract, row: &[Value]) -> Option<Self> {
        let mut hash = Sha256::new();
        for at in &contract.key {
            let value = row.get(*at).filter(|value| !value.is_null() && !value.is_unknown())?;
            // A database takes both zeros as one key.
            let zero = match value {
                Value::Double(n) if *n == 0.0 => Some(Value::Double(0.0)),
                Value::Float(n) if *n == 0.0 => Some(Value::Float(0.0)),
                _ => None,
            };
            put(&contract.fields[*at].ty, zero.as_ref().unwrap_or(value), &mut hash);
        }
        Some(Self(half(hash)))
    }

    /// Returns the range that the key belongs to.
    pub fn range(self) -> Range {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal::text(&self.0))
    }
}

/// Digests a row of a contract without the fields of `skip`.
pub(super) fn row_digest(contract: &Contract, row: &[Value], key: KeyDigest, skip: &[usize]) -> RowDigest {
    let mut hash = Sha256::new();
    hash.update(key.0);
    for (at, (field, value)) in contract.fields.iter().zip(row).enumerate() {
        if !skip.contains(&at) {
            put(&field.ty, value, &mut hash);
        }
    }
    u128::from_be_bytes(half(hash))
}

/// Digests one value; the key makes digests of one value in two rows differ.
pub fn field_digest(key: KeyDigest, ty: &Type, value: &Value) -> u64 {
    let mut hash = Sha256::new();
    hash.update(key.0);
    put(ty, value, &mut hash);
    half(hash)[..8].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn half(hash: Sha256) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

/// Feeds a value so that no two different sequences of values feed the same bytes.
fn put(ty: &Type, value: &Value, hash: &mut Sha256) {
    match value {
        Value::Unknown => hash.update([0]),
        Value::Null => hash.update([1]),
        Value::Boolean(truth) => hash.update([2, u8::from(*truth)]),
        Value::Integer(n) => tagged(3, &n.to_be_bytes(), hash),
        Value::Float(n) => tagged(4, &if n.is_nan() { f32::NAN } else { *n }.to_bits().to_be_bytes(), hash),
        Value::Double(n) => tagged(5, &if n.is_nan() { f64::NAN } else { *n }.to_bits().to_be_bytes(), hash),
        Value::Decimal(n) => sized(6, n.normalized().to_plain_string().as_bytes(), hash),
        Value::Text(text) => match ty {
            Type::Uuid => sized(7, text.to_ascii_lowercase().as_bytes(), hash),
            Type::Interval => match duration(text) {
                Some(parts) => parts.iter().for_each(|part| tagged(8, &part.to_be_bytes(), hash)),
                None => sized(7, text.as_bytes(), hash),
            },
            _ => sized(7, text.as_bytes(), hash),
        },
        Value::Bytes(bytes) => sized(9, bytes, hash),
        Value::Date(n) => tagged(10, &n.to_be_bytes(), hash),
        Value::Time(n) => tagged(11, &n.to_be_bytes(), hash),
        Value::Timestamp(n) => tagged(12, &n.to_be_bytes(), hash),
        Value::TimestampTz(n) => tagged(13, &n.to_be_bytes(), hash),
        Value::Array(items) => {
            tagged(14, &(items.len() as u64).to_be_bytes(), hash);
            let item_type = if let Type::Array(item) = ty { item } else { ty };
            items.iter().for_each(|item| put(item_type, item, hash));
        }
    }
}

fn tagged(tag: u8, bytes: &[u8], hash: &mut Sha256) {
    hash.update([tag]);
    hash.update(bytes);
}

fn sized(tag: u8, bytes: &[u8], hash: &mut Sha256) {
    tagged(tag, &(bytes.len() as u64).to_be_bytes(), hash);
    hash.update(bytes);
}

/// Reads an ISO 8601 duration as months, days and microseconds, as PostgreSQL keeps one; `None` when it is none.
fn duration(text: &str) -> Option<[i64; 3]> {
    let mut parts = [0_i64; 3];
    let (mut rest, mut timed) = (text.strip_prefix('P')?, false);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix('T') {
            (rest, timed) = (time, true);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = (&rest[..end], &rest[end..=end]);
        rest = &rest[end + 1..];
        if unit == "S" && timed {
            parts[2] = parts[2].checked_add(micros(number)?)?;
            continue;
        }
        let (part, each) = match (unit, timed) {
            ("Y", false) => (0, 12),
            ("M", false) => (0, 1),
            ("W", false) => (1, 7),
            ("D", false) => (1, 1),
            ("H", true) => (2, 3_600_000_000),
            ("M", true) => (2, 60_000_000),
            _ => return None,
        };
        parts[part] = number.parse::<i64>().ok()?.checked_mul(each)?.checked_add(parts[part])?;
    }
    Some(parts)
}

fn micros(seconds: &str) -> Option<i64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits = fraction.len() <= 6 && fraction.bytes().all(|b| b.is_ascii_digit());
    let fraction: i64 = digits.then(|| format!("{fraction:0<6}").parse().ok())??;
    let whole_us = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    whole_us.checked_add(if whole.starts_with('-') { -fraction } else { fraction })
}
