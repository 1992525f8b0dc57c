//! A stream's contract: its reviewed row schema with its catalogue entry.
//!
//! Knows the Avro text of a contract (`schemas/<stream>.avsc`) and nothing of envelopes, registries or tables.

mod avro;
mod diff;
mod field;
mod read;
mod write;

use std::sync::Arc;

use serde_json::Value as Json;

pub use diff::{Difference, diff};
pub use field::{Check, Field};
pub use read::parse;

use crate::value::{Row, Value};

/// Who may have a stream at all (三种共享类型).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// 无条件共享: any department.
    Unconditional,
    /// 有条件共享: named departments, or part of it; the condition in words.
    Conditional(String),
    /// 不予共享: nobody; the law that says so.
    Denied(String),
}

/// The type of a field, as the wire and the stores know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// `boolean`.
    Boolean,
    /// A whole number of 16 bits.
    Int16,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A binary floating-point number of 32 bits.
    Float,
    /// A binary floating-point number of 64 bits.
    Double,
    /// A text of at most `length` characters.
    Text {
        /// The most characters; `None` when there is no limit.
        length: Option<u32>,
    },
    /// Bytes.
    Bytes,
    /// A decimal number with fixed precision and scale.
    Decimal {
        /// The most digits in all.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// A decimal number of any precision and scale.
    Numeric,
    /// A calendar date.
    Date,
    /// A time of day to the microsecond.
    Time,
    /// A date and time to the microsecond, without a zone.
    Timestamp,
    /// An instant to the microsecond.
    TimestampTz,
    /// A JSON document, kept as its text.
    Json,
    /// A UUID, as its 36 characters.
    Uuid,
    /// A duration, as its ISO 8601 text.
    Interval,
    /// One of the allowed texts.
    Enum {
        /// The allowed texts, in the type's order.
        allowed: Vec<String>,
    },
    /// A one-dimensional array; items may be NULL.
    Array(Box<Type>),
}

impl Type {
    /// Returns the type's name for people: `decimal(12,2)`, `text(18)`, `date`.
    pub fn name(&self) -> String {
        match self {
            Self::Boolean => "boolean".into(),
            Self::Int16 => "int16".into(),
            Self::Int => "int".into(),
            Self::Long => "long".into(),
            Self::Float => "float".into(),
            Self::Double => "double".into(),
            Self::Text { length: Some(length) } => format!("text({length})"),
            Self::Text { length: None } => "text".into(),
            Self::Bytes => "bytes".into(),
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Self::Numeric => "numeric".into(),
            Self::Date => "date".into(),
            Self::Time => "time".into(),
            Self::Timestamp => "timestamp".into(),
            Self::TimestampTz => "timestamptz".into(),
            Self::Json => "json".into(),
            Self::Uuid => "uuid".into(),
            Self::Interval => "interval".into(),
            Self::Enum { allowed } => format!("enum({})", allowed.join(",")),
            Self::Array(item) => format!("array of {}", item.name()),
        }
    }
}

/// A stream's contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// The stream's name; for the projection that a grant leaves, the same name.
    pub stream: String,
    /// One sentence on what a row is.
    pub doc: String,
    /// Who may have it.
    pub sharing: Sharing,
    /// The fields, in wire order.
    pub fields: Vec<Field>,
    /// Indexes into `fields` of the key, in key order. Never empty.
    pub key: Vec<usize>,
    /// The catalogue entry: every other property of the record, as written.
    pub catalogue: serde_json::Map<String, Json>,
}

impl Contract {
    /// Reads a contract from its Avro text; `Err` names the field and what is wrong with it.
    pub fn parse(text: &str) -> crate::Result<Self> {
        parse(text)
    }

    /// Returns the Avro text, as `schemas/<stream>.avsc` holds it.
    pub fn to_avsc(&self) -> String {
        write::avsc(self)
    }

    /// Returns the catalogue's title, else the stream's name.
    pub fn title(&self) -> &str {
        self.catalogue.get("title").and_then(Json::as_str).unwrap_or(&self.stream)
    }

    /// Returns the index of a field by its wire name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// Returns the field of a wire name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// States whether the field at `index` is part of the key.
    pub fn is_key(&self, index: usize) -> bool {
        self.key.contains(&index)
    }

    /// Returns the key's fields, in key order.
    pub fn key_fields(&self) -> impl Iterator<Item = &Field> {
        self.key.iter().map(|i| &self.fields[*i])
    }

    /// Returns the fields that are sealed.
    pub fn sealed(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.sealed)
    }

    /// States whether a field is sealed.
    pub fn seals(&self) -> bool {
        self.sealed().next().is_some()
    }

    /// States whether a field of the key is sealed: then records are keyed by a digest.
    pub fn seals_key(&self) -> bool {
        self.key_fields().any(|field| field.sealed)
    }

    /// Returns the key's values out of a row of this contract, in key order.
    pub fn key_of(&self, row: &[Value]) -> Row {
        self.key.iter().map(|i| row.get(*i).cloned().unwrap_or(Value::Unknown)).collect()
    }

    /// Makes every value of a row unknown but those of the key.
    pub fn keep_key(&self, row: &mut [Value]) {
        for (at, value) in row.iter_mut().enumerate() {
            if !self.key.contains(&at) {
                *value = Value::Unknown;
            }
        }
    }

    /// Returns a row in which only the key is known.
    pub fn key_row(&self, key: &[Value]) -> Row {
        let mut row = vec![Value::Unknown; self.fields.len()];
        for (value, i) in key.iter().zip(&self.key) {
            row[*i] = value.clone();
        }
        row
    }

    /// Shares the contract.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contract_of_the_demo_reads_and_writes_back() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.ends_with(".avsc") || name.starts_with("hutong_") {
                continue;
            }
            let contract = Contract::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(Contract::parse(&contract.to_avsc()).unwrap(), contract, "{name}");
            count += 1;
        }
        assert!(count >= 6, "the six streams of the field");
    }
}
