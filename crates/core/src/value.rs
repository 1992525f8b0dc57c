//! One column's value, as exact as the store that it came from.

use bytes::Bytes;
use bytestring::ByteString;

/// An exact decimal number of any size; its scale is kept.
pub use bigdecimal::BigDecimal as Decimal;

/// A row: one value a field, in the order of the contract's fields.
pub type Row = Vec<Value>;

/// One column's value. Texts and bytes share the buffer that they were read from, so a clone is cheap.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nobody has told the value: an unchanged large value, or a column that an old image lacks. It is
    /// not NULL, and never becomes NULL: a sink leaves the column as it is, or refuses the change.
    Unknown,
    /// SQL's NULL.
    #[default]
    Null,
    /// A truth value.
    Boolean(bool),
    /// A whole number of 16, 32 or 64 bits; the contract says which.
    Integer(i64),
    /// A binary floating-point number of 32 bits.
    Float(f32),
    /// A binary floating-point number of 64 bits.
    Double(f64),
    /// An exact decimal number.
    Decimal(Decimal),
    /// A text; also JSON, UUID, enumerations and every type whose exact form is its text.
    Text(ByteString),
    /// Bytes.
    Bytes(Bytes),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00 of a date and time without a zone.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    TimestampTz(i64),
    /// A one-dimensional array.
    Array(Vec<Value>),
}

impl Value {
    /// Makes a text.
    pub fn text(text: impl Into<ByteString>) -> Self {
        Self::Text(text.into())
    }

    /// States whether the value is NULL (and known to be).
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// States whether nobody has told the value.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Returns the text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns roughly how many bytes of memory the value holds, for batch limits.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Bytes(bytes) => bytes.len(),
                Self::Array(items) => items.iter().map(Self::weight).sum(),
                Self::Decimal(_) => 16,
                _ => 0,
            }
    }
}
