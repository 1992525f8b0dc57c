//! What a writer's field becomes in a contract's field: decided once, at compile.
//!
//! I6: only what keeps every value exactly is accepted. Source of the names: WIRE section 7 (Debezium 1.2 to 3.7).

use hutong_core::{Type, Value};

use super::shape::{Id, Kind, Shape, Shapes};
use super::value::DAY_US;
use super::{decimal, instant};
use crate::binary::{Fault, Input};

/// How bytes of a field become a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Convert {
    Boolean,
    Int16,
    Int,
    Long,
    Float,
    Double,
    FloatToDouble,
    Text,
    Symbol(Vec<String>),
    Bytes,
    /// The writer's scale, and the contract's precision and scale when it limits them.
    Decimal {
        scale: i64,
        limit: Option<(u32, u32)>,
    },
    VariableDecimal,
    Date,
    /// An int or a long, a factor to microseconds (negative: a divisor).
    Time {
        wide: bool,
        factor: i64,
    },
    Timestamp {
        factor: i64,
    },
    TimestampTz,
    TimestampTzLong {
        factor: i64,
    },
    Array(Box<Slot>),
}

/// A value that may be null: which branch is which.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slot {
    /// `Some`: it is a union; which branch holds the value, and how many there are.
    pub(super) branch: Option<Branch>,
    pub(super) convert: Convert,
}

/// The branch of a union that holds the value. Any other branch is null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Branch {
    at: usize,
    count: usize,
}

impl Branch {
    /// Reads the branch's index and states whether the value follows.
    pub(super) fn read(self, input: &mut Input<'_>) -> Result<bool, Fault> {
        match input.index()? {
            index if index == self.at => Ok(true),
            index if index < self.count => Ok(false),
            _ => Err("a union has no such branch"),
        }
    }
}

/// Splits `["null", T]`, `[T, "null"]` or T into the branch of T and T.
pub(super) fn optional(shapes: &Shapes, id: Id) -> Option<(Option<Branch>, Id)> {
    let Kind::Union(branches) = &shapes.get(id).kind else { return Some((None, id)) };
    let mut values = branches.iter().enumerate().filter(|(_, b)| shapes.get(**b).kind != Kind::Null);
    let (at, value) = values.next()?;
    values.next().is_none().then_some((Some(Branch { at, count: branches.len() }), *value))
}

impl Slot {
    /// Finds how a writer's type becomes a contract's; `Err` says why it cannot.
    pub(super) fn compile(shapes: &Shapes, id: Id, ty: &Type) -> Result<Self, String> {
        let (branch, id) =
            optional(shapes, id).ok_or("it is a union of several types; only one beside null can be read")?;
        Ok(Self { branch, convert: compile(shapes, id, ty)? })
    }

    /// Reads a value.
    pub(super) fn read(&self, input: &mut Input<'_>) -> Result<Value, Fault> {
        match self.branch {
            None => self.convert.read(input),
            Some(branch) if branch.read(input)? => self.convert.read(input),
            Some(_) => Ok(Value::Null),
        }
    }
}

fn compile(shapes: &Shapes, id: Id, ty: &Type) -> Result<Convert, String> {
    let shape = shapes.get(id);
    let (connect, logical) = (shape.connect(), shape.logical());
    let bare = logical.is_empty() && matches!(connect, "" | "io.debezium.time.Year");
    let found = match (ty, &shape.kind) {
        (Type::Boolean, Kind::Boolean) => Some(Convert::Boolean),
        (Type::Int16, Kind::Int) if bare => Some(Convert::Int16),
        (Type::Int | Type::Long, Kind::Int) if bare => Some(Convert::Int),
        (Type::Long, Kind::Long) if bare => Some(Convert::Long),
        (Type::Float, Kind::Float) => Some(Convert::Float),
        (Type::Double, Kind::Double) => Some(Convert::Double),
        (Type::Double, Kind::Float) => Some(Convert::FloatToDouble),
        (Type::TimestampTz, Kind::Text) if matches!(connect, "" | "io.debezium.time.ZonedTimestamp") => {
            Some(Convert::TimestampTz)
        }
        (Type::TimestampTz, Kind::Long) if connect.is_empty() => instant_factor(logical),
        // Each of them is its text; a contract that says Text takes every text as it is.
        (Type::Text { .. }, Kind::Text) => Some(Convert::Text),
        (Type::Json, Kind::Text) if matches!(connect, "" | "io.debezium.data.Json") => Some(Convert::Text),
        (Type::Uuid, Kind::Text) if matches!(connect, "" | "io.debezium.data.Uuid") => Some(Convert::Text),
        (Type::Interval, Kind::Text) if matches!(connect, "" | "io.debezium.time.Interval") => {
            Some(Convert::Text)
        }
        (Type::Enum { .. }, Kind::Text) if matches!(connect, "" | "io.debezium.data.Enum") => {
            Some(Convert::Text)
        }
        (Type::Text { .. } | Type::Enum { .. }, Kind::Symbols(symbols)) => {
            Some(Convert::Symbol(symbols.clone()))
        }
        (Type::Bytes, Kind::Bytes) if connect.is_empty() && logical.is_empty() => Some(Convert::Bytes),
        (Type::Decimal { precision, scale }, Kind::Bytes) => decimal_of(shape, Some((*precision, *scale))),
        (Type::Numeric, Kind::Bytes) => decimal_of(shape, None),
        (Type::Numeric, Kind::Record(fields)) if is_variable_decimal(shapes, fields) => {
            Some(Convert::VariableDecimal)
        }
        (Type::Date, Kind::Int) => date(connect, logical),
        (Type::Time, Kind::Int | Kind::Long) => time(shape.kind == Kind::Long, connect, logical),
        (Type::Timestamp, Kind::Long) => timestamp(connect, logical),
        (Type::Array(item), Kind::Array(inner)) => {
            return Slot::compile(shapes, *inner, item).map(|slot| Convert::Array(Box::new(slot)));
        }
        _ => None,
    };
    found.ok_or_else(|| format!("it is written as {}, the contract says {}", shape.describe(), ty.name()))
}

fn instant_factor(logical: &str) -> Option<Convert> {
    match logical {
        "timestamp-micros" => Some(Convert::TimestampTzLong { factor: 1 }),
        "timestamp-millis" => Some(Convert::TimestampTzLong { factor: 1_000 }),
        "timestamp-nanos" => Some(Convert::TimestampTzLong { factor: -1_000 }),
        _ => None,
    }
}

fn date(connect: &str, logical: &str) -> Option<Convert> {
    let named = matches!(connect, "io.debezium.time.Date" | "org.apache.kafka.connect.data.Date");
    (named || (connect.is_empty() && logical == "date")).then_some(Convert::Date)
}

fn time(wide: bool, connect: &str, logical: &str) -> Option<Convert> {
    let factor = match (wide, connect, logical) {
        (true, "io.debezium.time.MicroTime", _) | (true, "", "time-micros") => 1,
        (true, "io.debezium.time.NanoTime", _) => -1_000,
        (false, "io.debezium.time.Time" | "org.apache.kafka.connect.data.Time", _) => 1_000,
        (false, "", "time-millis") => 1_000,
        _ => return None,
    };
    Some(Convert::Time { wide, factor })
}

fn timestamp(connect: &str, logical: &str) -> Option<Convert> {
    let factor = match (connect, logical) {
        ("io.debezium.time.MicroTimestamp", _) | ("", "local-timestamp-micros") => 1,
        ("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp", _) => 1_000,
        ("", "local-timestamp-millis") => 1_000,
        ("io.debezium.time.NanoTimestamp", _) | ("", "local-timestamp-nanos") => -1_000,
        _ => return None,
    };
    Some(Convert::Timestamp { factor })
}

/// A decimal with a fixed scale. The writer may have fewer digits on either side of the point, never more;
/// Connect writes precision 64 when it knows none, and then each value is held against the contract.
fn decimal_of(shape: &Shape, limit: Option<(u32, u32)>) -> Option<Convert> {
    let named = shape.connect() == "org.apache.kafka.connect.data.Decimal";
    if !(named || (shape.connect().is_empty() && shape.logical() == "decimal")) {
        return None;
    }
    let scale = shape.number("scale", "scale").unwrap_or(0);
    let precision = shape.number("precision", "connect.decimal.precision").filter(|p| *p != 64);
    if !decimal::scale_is_sane(scale) {
        return None;
    }
    if let Some((most, places)) = limit {
        let whole = i64::from(most) - i64::from(places);
        if scale > i64::from(places) || precision.is_some_and(|p| p.saturating_sub(scale) > whole) {
            return None;
        }
    }
    Some(Convert::Decimal { scale, limit })
}

fn is_variable_decimal(shapes: &Shapes, fields: &[(String, Id)]) -> bool {
    let [(scale, scale_id), (value, value_id)] = fields else { return false };
    (scale.as_str(), value.as_str()) == ("scale", "value")
        && shapes.get(*scale_id).kind == Kind::Int
        && shapes.get(*value_id).kind == Kind::Bytes
}

/// Multiplies by a factor, or divides by a negative one: only when nothing is lost.
fn scaled(number: i64, factor: i64) -> Result<i64, Fault> {
    if factor > 0 {
        number.checked_mul(factor).ok_or("a time is beyond what microseconds can hold")
    } else if number % factor == 0 {
        Ok(number / -factor)
    } else {
        Err("a time has nanoseconds, which cannot be carried exactly")
    }
}

impl Convert {
    fn read(&self, input: &mut Input<'_>) -> Result<Value, Fault> {
        Ok(match self {
            Self::Boolean => Value::Boolean(input.boolean()?),
            Self::Int16 => {
                let number = input.int()?;
                i16::try_from(number).map_err(|_| "a number has more than 16 bits")?;
                Value::Integer(number.into())
            }
            Self::Int => Value::Integer(input.int()?.into()),
            Self::Long => Value::Integer(input.long()?),
            Self::Float => Value::Float(input.float()?),
            Self::Double => Value::Double(input.double()?),
            Self::FloatToDouble => Value::Double(input.float()?.into()),
            Self::Text => Value::Text(input.text()?),
            Self::Symbol(symbols) => {
                let symbol = symbols.get(input.index()?).ok_or("an enumeration has no such symbol")?;
                Value::text(symbol.as_str())
            }
            Self::Bytes => Value::Bytes(input.bytes()?),
            Self::Decimal { scale, limit } => {
                let number = decimal::read(input.slice()?, *scale)?;
                match limit {
                    None => Value::Decimal(number),
                    Some((precision, places)) => {
                        let number = decimal::unscaled(&number, *precision, *places)
                            .ok_or("a decimal has more digits than the contract says")?;
                        Value::Decimal(hutong_core::Decimal::new(number, i64::from(*places)))
                    }
                }
            }
            Self::VariableDecimal => {
                let scale = i64::from(input.int()?);
                if !decimal::scale_is_sane(scale) {
                    return Err("a decimal's scale is beyond any database's");
                }
                Value::Decimal(decimal::read(input.slice()?, scale)?)
            }
            Self::Date => Value::Date(input.int()?),
            Self::Time { wide, factor } => {
                let number = if *wide { input.long()? } else { input.int()?.into() };
                let us = scaled(number, *factor)?;
                if !(0..=DAY_US).contains(&us) {
                    return Err("a time of day is not within a day");
                }
                Value::Time(us)
            }
            Self::Timestamp { factor } => Value::Timestamp(scaled(input.long()?, *factor)?),
            Self::TimestampTz => {
                let us = instant::read(input.str()?)
                    .ok_or("an instant is not ISO 8601 with an offset, exact to the microsecond")?;
                Value::TimestampTz(us)
            }
            Self::TimestampTzLong { factor } => Value::TimestampTz(scaled(input.long()?, *factor)?),
            Self::Array(slot) => {
                let mut items = Vec::new();
                loop {
                    let count = input.block()?;
                    if count == 0 {
                        break Value::Array(items);
                    }
                    for _ in 0..count {
                        items.push(slot.read(input)?);
                    }
                }
            }
        })
    }
}
