//! A second, plain reader of Avro's binary form: what a record's bytes really say.
//!
//! Shares nothing with the reader that it is held against. `apache-avro` cannot stand here: it turns a cut record
//! into NULLs. Source: Apache Avro 1.12 specification, "Binary encoding".

use std::collections::HashMap;

use bigdecimal::num_bigint::BigInt;
use hutong_core::{Decimal, Type, Value};
use serde_json::Value as Json;

/// What the bytes say of one value. A union is the branch that was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Null,
    Boolean(bool),
    Number(i64),
    Float([u8; 4]),
    Double([u8; 8]),
    Bytes(Vec<u8>),
    List(Vec<Said>),
    Record(Vec<(String, Said)>),
}

impl Said {
    /// Returns a field of a record.
    pub(super) fn field(&self, name: &str) -> &Self {
        let Self::Record(fields) = self else { panic!("{name} of what is no record: {self:?}") };
        &fields.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("a field {name}")).1
    }

    /// Returns a text, also of bytes that are not quite one.
    pub(super) fn text(&self) -> String {
        let Self::Bytes(bytes) = self else { panic!("no text: {self:?}") };
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// Reads a whole record; `None` when the bytes are not what the schema says.
pub(super) fn read(schema: &Json, bytes: &[u8]) -> Option<Said> {
    let mut reading = Reading { rest: bytes, named: HashMap::new() };
    remember(schema, &mut reading.named);
    let said = reading.value(schema)?;
    reading.rest.is_empty().then_some(said)
}

/// Remembers every record: where a value is null, its type is not met on the way.
fn remember(schema: &Json, named: &mut HashMap<String, Json>) {
    match schema {
        Json::Array(parts) => parts.iter().for_each(|part| remember(part, named)),
        Json::Object(object) => {
            if let (Some("record"), Some(name)) = (schema["type"].as_str(), schema["name"].as_str()) {
                named.insert(name.to_owned(), schema.clone());
            }
            object.values().for_each(|part| remember(part, named));
        }
        _ => {}
    }
}

struct Reading<'a> {
    rest: &'a [u8],
    named: HashMap<String, Json>,
}

impl Reading<'_> {
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken.to_vec())
    }

    fn number(&mut self) -> Option<i64> {
        let (mut zigzag, mut shift) = (0_u128, 0);
        loop {
            let byte = self.take(1)?[0];
            zigzag |= u128::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            if shift > 63 {
                return None;
            }
        }
        let zigzag = u64::try_from(zigzag).ok()?;
        Some(if zigzag % 2 == 0 { (zigzag / 2) as i64 } else { -((zigzag / 2) as i64) - 1 })
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn list(&mut self, items: &Json) -> Option<Vec<Said>> {
        let mut list = Vec::new();
        loop {
            let count = self.number()?;
            if count == 0 {
                return Some(list);
            }
            if count < 0 {
                self.number()?;
            }
            for _ in 0..count.unsigned_abs() {
                list.push(self.value(items)?);
            }
        }
    }

    fn value(&mut self, schema: &Json) -> Option<Said> {
        let name = match schema {
            Json::Array(branches) => {
                let at = usize::try_from(self.number()?).ok()?;
                return self.value(branches.get(at)?);
            }
            Json::Object(object) => match &object["type"] {
                Json::String(name) => name.as_str(),
                inner => return self.value(inner),
            },
            Json::String(name) => name.as_str(),
            _ => panic!("no schema: {schema}"),
        };
        Some(match name {
            "null" => Said::Null,
            "boolean" => Said::Boolean(match self.take(1)?[0] {
                0 => false,
                1 => true,
                _ => return None,
            }),
            "int" => Said::Number(i32::try_from(self.number()?).ok()?.into()),
            "long" => Said::Number(self.number()?),
            "float" => Said::Float(self.take(4)?.try_into().ok()?),
            "double" => Said::Double(self.take(8)?.try_into().ok()?),
            "bytes" | "string" => Said::Bytes(self.bytes()?),
            "array" => Said::List(self.list(&schema["items"])?),
            "record" => {
                let fields = schema["fields"].as_array().unwrap();
                let said =
                    fields.iter().map(|f| Some((f["name"].as_str()?.to_owned(), self.value(&f["type"])?)));
                Said::Record(said.collect::<Option<_>>()?)
            }
            name => {
                let short = name.rsplit('.').next().unwrap();
                let known = self.named.get(short).unwrap_or_else(|| panic!("a type {name}")).clone();
                return self.value(&known);
            }
        })
    }
}

/// States whether a value is what the bytes say, NULL exactly where they say NULL.
pub(super) fn is_said(ty: &Type, value: &Value, said: &Said) -> bool {
    let moment = |said: &Said| said.text().parse::<jiff::Timestamp>().ok();
    let number = |bytes: &[u8]| match bytes {
        [] => BigInt::from(0),
        bytes => BigInt::from_signed_bytes_be(bytes),
    };
    match (ty, value, said) {
        (_, Value::Null, said) => *said == Said::Null,
        (_, _, Said::Null) => false,
        (_, Value::Boolean(value), Said::Boolean(said)) => value == said,
        (_, Value::Integer(value) | Value::Time(value) | Value::Timestamp(value), Said::Number(said)) => {
            value == said
        }
        (_, Value::Date(value), Said::Number(said)) => i64::from(*value) == *said,
        (_, Value::Float(value), Said::Float(said)) => value.to_le_bytes() == *said,
        (_, Value::Double(value), Said::Double(said)) => value.to_le_bytes() == *said,
        (_, Value::Text(value), Said::Bytes(said)) => value.as_bytes() == said.as_slice(),
        (_, Value::Bytes(value), Said::Bytes(said)) => **value == **said,
        (_, Value::TimestampTz(value), said @ Said::Bytes(_)) => moment(said)
            .is_some_and(|said| said.as_microsecond() == *value && said.subsec_nanosecond() % 1_000 == 0),
        (Type::Decimal { scale, .. }, Value::Decimal(value), Said::Bytes(said)) => {
            *value == Decimal::new(number(said), i64::from(*scale))
        }
        (Type::Numeric, Value::Decimal(value), said @ Said::Record(_)) => {
            let (Said::Number(scale), Said::Bytes(said)) = (said.field("scale"), said.field("value")) else {
                return false;
            };
            *value == Decimal::new(number(said), *scale)
        }
        (Type::Array(ty), Value::Array(values), Said::List(said)) => {
            values.len() == said.len()
                && values.iter().zip(said).all(|(value, said)| is_said(ty, value, said))
        }
        _ => false,
    }
}
