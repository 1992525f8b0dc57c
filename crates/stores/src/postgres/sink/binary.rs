//! Writes values in PostgreSQL's binary COPY format, exactly or not at all (I6).
//!
//! Source: PostgreSQL documentation, COPY, "Binary Format"; the layouts are those of each type's `*_recv`
//! function. Knows one column's kind and one value; nothing of tables or connections.

use std::ops::Range;

use bigdecimal::num_bigint::Sign;
use bytes::{BufMut, Bytes, BytesMut};
use hutong_core::{Decimal, Value};

/// The signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_US: i64 = 10_957 * 86_400_000_000;
/// The most digits that a numeric has before its point, and after it.
const NUMERIC_DIGITS: (i64, i64) = (131_072, 16_383);

/// How a column's values are written into the staging table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// A numeric; with the digits that the column keeps after the point.
    Numeric {
        scale: Option<i64>,
    },
    /// A text; with the characters that the column holds, and whether it pads them with blanks.
    Text {
        limit: Option<usize>,
        padded: bool,
    },
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Json,
    Jsonb,
    Uuid,
    /// A type whose exact form is its text: staged as text, cast by the server.
    ViaText,
    /// A one-dimensional array.
    Array(Box<Kind>),
}

impl Kind {
    /// Returns the type of the staging table's column.
    pub(super) fn staged(&self) -> String {
        match self {
            Self::Bool => "boolean".into(),
            Self::Int2 => "int2".into(),
            Self::Int4 => "int4".into(),
            Self::Int8 => "int8".into(),
            Self::Float4 => "float4".into(),
            Self::Float8 => "float8".into(),
            Self::Numeric { .. } => "numeric".into(),
            Self::Text { .. } | Self::ViaText => "text".into(),
            Self::Bytea => "bytea".into(),
            Self::Date => "date".into(),
            Self::Time => "time".into(),
            Self::Timestamp => "timestamp".into(),
            Self::TimestampTz => "timestamptz".into(),
            Self::Json => "json".into(),
            Self::Jsonb => "jsonb".into(),
            Self::Uuid => "uuid".into(),
            Self::Array(item) => format!("{}[]", item.staged()),
        }
    }

    /// States whether the server must cast the staged value by its text.
    pub(super) fn cast(&self) -> bool {
        match self {
            Self::ViaText => true,
            Self::Array(item) => item.cast(),
            _ => false,
        }
    }

    /// Returns the object id of the staged type, which an array's items name.
    fn oid(&self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Bytea => 17,
            Self::Int8 => 20,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Text { .. } | Self::ViaText | Self::Array(_) => 25,
            Self::Json => 114,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Date => 1082,
            Self::Time => 1083,
            Self::Timestamp => 1114,
            Self::TimestampTz => 1184,
            Self::Numeric { .. } => 1700,
            Self::Uuid => 2950,
            Self::Jsonb => 3802,
        }
    }
}

/// Rows in COPY's format, each of which can be sent by itself.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl Rows {
    /// Returns how many rows there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Appends a row: its run (set when it is sent), its number, its offset and its values.
    ///
    /// `Err` says which column cannot hold its value, by its number; the rows stay as they were.
    pub(super) fn push<'a>(
        &mut self,
        offset: Option<u64>,
        values: impl ExactSizeIterator<Item = (&'a Kind, &'a Value)>,
    ) -> Result<(), (usize, &'static str)> {
        let start = self.bytes.len();
        self.bytes.put_i16(3 + values.len() as i16);
        self.bytes.put_i32(4);
        self.bytes.put_i32(0);
        self.bytes.put_i32(4);
        self.bytes.put_i32(self.ends.len() as i32);
        match offset {
            Some(offset) => {
                self.bytes.put_i32(8);
                self.bytes.put_i64(offset as i64);
            }
            None => self.bytes.put_i32(-1),
        }
        for (at, (kind, value)) in values.enumerate() {
            if let Err(why) = field(kind, value, &mut self.bytes) {
                self.bytes.truncate(start);
                return Err((at, why));
            }
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Returns a whole COPY stream of some of the rows for the replica itself: lane, offset and values.
    pub(super) fn direct(&self, range: Range<usize>, lane: &str) -> Bytes {
        // A row begins with the count of its fields, its run and its number.
        const OWN: usize = 2 + 8 + 8;
        let mut out = BytesMut::with_capacity(self.from(range.end) - self.from(range.start) + 64);
        out.put_slice(HEAD);
        for at in range {
            let row = &self.bytes[self.from(at)..self.ends[at]];
            let count = i16::from_be_bytes([row[0], row[1]]);
            out.put_i16(count - 1);
            out.put_i32(lane.len() as i32);
            out.put_slice(lane.as_bytes());
            out.put_slice(&row[OWN..]);
        }
        out.put_i16(-1);
        out.freeze()
    }

    fn from(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] }
    }

    /// Returns a whole COPY stream of some of the rows for the staging table, marked with `run`.
    pub(super) fn copy(&self, range: Range<usize>, run: i32) -> Bytes {
        let start = self.from(range.start);
        let body = &self.bytes[start..self.from(range.end)];
        let mut out = BytesMut::with_capacity(body.len() + 21);
        out.put_slice(HEAD);
        let head = out.len();
        out.put_slice(body);
        for at in range {
            // A row begins with the count of its fields and the length of its run.
            let run_at = head + self.from(at) - start + 6;
            out[run_at..run_at + 4].copy_from_slice(&run.to_be_bytes());
        }
        out.put_i16(-1);
        out.freeze()
    }
}

/// Appends a field with its length; NULL and what is not told are a NULL in the staging table.
fn field(kind: &Kind, value: &Value, out: &mut BytesMut) -> Result<(), &'static str> {
    if matches!(value, Value::Null | Value::Unknown) {
        out.put_i32(-1);
        return Ok(());
    }
    let start = out.len();
    out.put_i32(0);
    body(kind, value, out)?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| "it is larger than PostgreSQL takes")?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn body(kind: &Kind, value: &Value, out: &mut BytesMut) -> Result<(), &'static str> {
    const RANGE: &str = "it lies outside the range of the column";
    match (kind, value) {
        (Kind::Bool, Value::Boolean(b)) => out.put_u8(u8::from(*b)),
        (Kind::Int2, Value::Integer(n)) => out.put_i16(i16::try_from(*n).map_err(|_| RANGE)?),
        (Kind::Int4, Value::Integer(n)) => out.put_i32(i32::try_from(*n).map_err(|_| RANGE)?),
        (Kind::Int8, Value::Integer(n)) => out.put_i64(*n),
        (Kind::Float4, Value::Float(n)) => out.put_f32(*n),
        (Kind::Float8, Value::Float(n)) => out.put_f64(f64::from(*n)),
        (Kind::Float8, Value::Double(n)) => out.put_f64(*n),
        (Kind::Numeric { .. }, Value::Integer(n)) => numeric(&Decimal::from(*n), None, out)?,
        (Kind::Numeric { scale }, Value::Decimal(n)) => numeric(n, *scale, out)?,
        (Kind::Text { limit, padded }, Value::Text(text)) => {
            if limit.is_some_and(|limit| text.len() > limit && text.chars().count() > limit) {
                return Err("it has more characters than the column holds");
            }
            if *padded && text.ends_with(' ') {
                return Err("it ends with a blank, which a column of fixed length cannot tell from padding");
            }
            out.put_slice(text.as_bytes());
        }
        (Kind::Bytea, Value::Bytes(bytes)) => out.put_slice(bytes),
        (Kind::Date, Value::Date(n)) => out.put_i32(n.checked_sub(EPOCH_DAYS).ok_or(RANGE)?),
        (Kind::Time, Value::Time(n)) => out.put_i64(*n),
        (Kind::Timestamp, Value::Timestamp(n)) | (Kind::TimestampTz, Value::TimestampTz(n)) => {
            out.put_i64(n.checked_sub(EPOCH_US).ok_or(RANGE)?);
        }
        (Kind::Json | Kind::ViaText, Value::Text(text)) => out.put_slice(text.as_bytes()),
        (Kind::Jsonb, Value::Text(text)) => {
            out.put_u8(1);
            out.put_slice(text.as_bytes());
        }
        (Kind::Uuid, Value::Text(text)) => {
            out.put_u128(uuid(text).ok_or("it is not a UUID of 36 characters")?);
        }
        (Kind::Array(item), Value::Array(items)) => {
            out.put_i32(i32::from(!items.is_empty()));
            out.put_i32(i32::from(items.iter().any(Value::is_null)));
            out.put_u32(item.oid());
            if !items.is_empty() {
                out.put_i32(i32::try_from(items.len()).map_err(|_| RANGE)?);
                out.put_i32(1);
            }
            for value in items {
                if value.is_unknown() {
                    return Err("an item of it is not told");
                }
                field(item, value, out)?;
            }
        }
        _ => return Err("it is not of the contract's type"),
    }
    Ok(())
}

fn uuid(text: &str) -> Option<u128> {
    let dashed = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text.as_bytes()[*at] == b'-');
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let plain = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if dashed && plain { u128::from_str_radix(&digits, 16).ok() } else { None }
}

/// Writes a number in groups of four digits; `Err` rather than rounding it to the column's `scale`.
fn numeric(number: &Decimal, scale: Option<i64>, out: &mut BytesMut) -> Result<(), &'static str> {
    const LARGE: &str = "it has more digits than PostgreSQL holds";
    let (whole, exponent) = number.as_bigint_and_exponent();
    let mut digits = whole.magnitude().to_string().into_bytes();
    let negative = number.sign() == Sign::Minus;
    if exponent < 0 {
        if -exponent > NUMERIC_DIGITS.0 {
            return Err(LARGE);
        }
        digits.resize(digits.len() + (-exponent) as usize, b'0');
    }
    let after = exponent.max(0);
    if after > NUMERIC_DIGITS.1 || digits.len() as i64 - after > NUMERIC_DIGITS.0 {
        return Err(LARGE);
    }
    if let Some(scale) = scale.filter(|scale| after > *scale) {
        let cut = usize::try_from(after - scale).map_err(|_| LARGE)?;
        if digits.iter().rev().take(cut).any(|d| *d != b'0') {
            return Err("it has more digits after the point than the column keeps");
        }
    }
    let after_digits = after as usize;
    // So many zeros before and behind that the point falls between two groups.
    let before_digits = digits.len().saturating_sub(after_digits);
    let lead = after_digits.saturating_sub(digits.len()) + (4 - before_digits % 4) % 4;
    let mut padded = vec![b'0'; lead];
    padded.append(&mut digits);
    padded.resize(padded.len() + (4 - after_digits % 4) % 4, b'0');
    let groups: Vec<i16> =
        padded.chunks(4).map(|g| g.iter().fold(0, |n, d| n * 10 + i16::from(d - b'0'))).collect();
    let zeros = groups.iter().take_while(|g| **g == 0).count();
    let end = groups.iter().rposition(|g| *g != 0).map_or(zeros, |at| at + 1);
    let weight = before_digits.div_ceil(4) as i64 - 1 - zeros as i64;
    let kept = if zeros < end { &groups[zeros..end] } else { &[] };
    out.put_i16(i16::try_from(kept.len()).map_err(|_| LARGE)?);
    out.put_i16(if kept.is_empty() { 0 } else { i16::try_from(weight).map_err(|_| LARGE)? });
    out.put_u16(if negative { 0x4000 } else { 0 });
    out.put_i16(i16::try_from(after).map_err(|_| LARGE)?);
    for group in kept {
        out.put_i16(*group);
    }
    Ok(())
}
