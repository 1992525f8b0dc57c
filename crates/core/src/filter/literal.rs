//! What stands on the other side of a comparison: a literal, typed by the column that it is compared with.
//!
//! I6: nothing is coerced here but exactly. A literal that the column's type cannot hold exactly is either
//! refused, or the comparison is rewritten so that its outcome is exact (`age > 17.5` becomes `age > 17`).

use std::cmp::Ordering;

use bigdecimal::num_bigint::Sign;
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};
use jiff::civil;

use crate::contract::Type;
use crate::problem::nearest;
use crate::value::Value;

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Returns the comparison with its sides exchanged.
    pub(super) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    /// States whether it holds of a left side that stands so to the right.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    /// Returns its SQL.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// A literal as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    Number(String),
    Text(String),
    Boolean(bool),
    Date(String),
    Time(String),
    Timestamp(String),
    TimestampTz(String),
}

impl Written {
    fn name(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Boolean(_) => "a truth value",
            Self::Date(_) => "a date",
            Self::Time(_) => "a time",
            Self::Timestamp(_) => "a timestamp",
            Self::TimestampTz(_) => "a timestamp with time zone",
        }
    }
}

/// A literal of a column's type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Decimal(BigDecimal),
    Text(String),
    /// In lower case.
    Uuid(String),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    TimestampTz(i64),
}

impl Literal {
    /// Compares a value with the literal; `None` when the value is not of the literal's type.
    pub(super) fn order(&self, value: &Value) -> Option<Ordering> {
        Some(match (value, self) {
            (Value::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Value::Integer(a), Self::Integer(b)) => a.cmp(b),
            // NaN stands above every number, as in PostgreSQL.
            (Value::Float(a), Self::Double(b)) => f64::from(*a).partial_cmp(b).unwrap_or(Ordering::Greater),
            (Value::Double(a), Self::Double(b)) => a.partial_cmp(b).unwrap_or(Ordering::Greater),
            (Value::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Value::Text(a), Self::Text(b)) => (**a).as_bytes().cmp(b.as_bytes()),
            // RFC 9562, section 4: the digits are the same in either case.
            (Value::Text(a), Self::Uuid(b)) => a.bytes().map(|a| a.to_ascii_lowercase()).cmp(b.bytes()),
            (Value::Date(a), Self::Date(b)) => a.cmp(b),
            (Value::Time(a), Self::Time(b))
            | (Value::Timestamp(a), Self::Timestamp(b))
            | (Value::TimestampTz(a), Self::TimestampTz(b)) => a.cmp(b),
            _ => return None,
        })
    }

    /// Compares two literals of one column, to sort a list.
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.total_cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) | (Self::Uuid(a), Self::Uuid(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Time(a), Self::Time(b))
            | (Self::Timestamp(a), Self::Timestamp(b))
            | (Self::TimestampTz(a), Self::TimestampTz(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

/// A comparison that was typed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Bound {
    /// To be decided by the value.
    Compare(Comparison, Literal),
    /// The same for every value that is not NULL: an `int` is never equal to 1.5.
    Always(bool),
}

/// Why a comparison cannot be typed, and what to write in its place.
pub(super) type Refusal = (String, Option<String>);

/// Types the comparison of a column with a literal.
pub(super) fn bind(
    column: &str,
    ty: &Type,
    comparison: Comparison,
    written: &Written,
) -> Result<Bound, Refusal> {
    let mismatch = |hint: &str| {
        let message = format!("column `{column}` is {} and is compared with {}", article(ty), written.name());
        Err((message, (!hint.is_empty()).then(|| hint.to_owned())))
    };
    let plain = |literal| Ok(Bound::Compare(comparison, literal));
    let equality = |what: &str| {
        (
            format!("column `{column}` is {}, which has no order: {what}", article(ty)),
            Some("compare it with =, <> or IN".into()),
        )
    };
    match (ty, written) {
        (Type::Boolean, Written::Boolean(_)) if comparison.orders() => {
            Err(equality("false is not less than true"))
        }
        (Type::Boolean, Written::Boolean(truth)) => plain(Literal::Boolean(*truth)),
        (Type::Boolean, _) => mismatch("write TRUE or FALSE"),
        (Type::Int16 | Type::Int | Type::Long, Written::Number(number)) => {
            integer(comparison, &decimal(number)?)
        }
        (Type::Decimal { .. } | Type::Numeric, Written::Number(number)) => {
            plain(Literal::Decimal(decimal(number)?))
        }
        (Type::Float | Type::Double, Written::Number(number)) if comparison.orders() => {
            double(comparison, number, &decimal(number)?)
        }
        (Type::Float | Type::Double, Written::Number(_)) => Err((
            format!(
                "column `{column}` is {}: it is never exactly equal to a number that people write",
                article(ty)
            ),
            Some("compare it with <, <=, >, >= or BETWEEN".into()),
        )),
        (
            Type::Int16
            | Type::Int
            | Type::Long
            | Type::Decimal { .. }
            | Type::Numeric
            | Type::Float
            | Type::Double,
            _,
        ) => mismatch("write a number, without quotes"),
        (Type::Text { .. }, Written::Text(text)) => plain(Literal::Text(text.clone())),
        (Type::Text { .. }, Written::Number(number)) => mismatch(&format!("write '{number}'")),
        (Type::Text { .. }, _) => mismatch("write a text in single quotes"),
        (Type::Enum { .. }, Written::Text(_)) if comparison.orders() => {
            Err(equality("the order of its values is the type's own, not that of their text"))
        }
        (Type::Enum { allowed }, Written::Text(text)) if allowed.contains(text) => {
            plain(Literal::Text(text.clone()))
        }
        (Type::Enum { allowed }, Written::Text(text)) => Err((
            format!("column `{column}` never holds '{text}'"),
            Some(match nearest(text, allowed.iter().map(String::as_str)) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("it holds one of {}", allowed.join(", ")),
            }),
        )),
        (Type::Uuid, Written::Text(_)) if comparison.orders() => Err(equality("a UUID is a name")),
        (Type::Uuid, Written::Text(text)) if is_uuid(text) => plain(Literal::Uuid(text.to_ascii_lowercase())),
        (Type::Uuid, Written::Text(_)) => Err((
            format!("column `{column}` is a UUID, and this text is none"),
            Some("write 8-4-4-4-12 hexadecimal digits".into()),
        )),
        (Type::Enum { .. } | Type::Uuid, _) => mismatch("write a text in single quotes"),
        (Type::Date, Written::Date(text) | Written::Text(text)) => match date(text) {
            Some(days) => plain(Literal::Date(days)),
            None => Err(unreadable("a date", "DATE '1990-01-31'")),
        },
        (Type::Date, _) => mismatch("write DATE '1990-01-31'"),
        (Type::Time, Written::Time(text) | Written::Text(text)) => match time(text) {
            Some(micros) => plain(Literal::Time(micros)),
            None => Err(unreadable("a time of day", "TIME '08:30:00'")),
        },
        (Type::Time, _) => mismatch("write TIME '08:30:00'"),
        (Type::Timestamp, Written::Timestamp(text) | Written::Date(text) | Written::Text(text)) => {
            match timestamp(text) {
                Some(micros) => plain(Literal::Timestamp(micros)),
                None => Err(unreadable("a timestamp", "TIMESTAMP '1990-01-31 08:30:00'")),
            }
        }
        (Type::Timestamp, _) => mismatch("write TIMESTAMP '1990-01-31 08:30:00'"),
        (Type::TimestampTz, Written::Timestamp(text) | Written::TimestampTz(text) | Written::Text(text)) => {
            match instant(text) {
                Some(micros) => plain(Literal::TimestampTz(micros)),
                None => Err(unreadable(
                    "an instant: it needs its offset from UTC",
                    "TIMESTAMPTZ '1990-01-31 08:30:00+08:00'",
                )),
            }
        }
        (Type::TimestampTz, _) => mismatch("write TIMESTAMPTZ '1990-01-31 08:30:00+08:00'"),
        (Type::Bytes | Type::Json | Type::Interval | Type::Array(_), _) => Err((
            format!("column `{column}` is {}: a row filter cannot compare it", article(ty)),
            Some("only IS NULL and IS NOT NULL are known of it".into()),
        )),
    }
}

/// Returns the type's name with its article.
pub(super) fn article(ty: &Type) -> String {
    let name = ty.name();
    let article = if name.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {name}")
}

fn unreadable(what: &str, form: &str) -> Refusal {
    (format!("this is not exactly {what}"), Some(format!("write {form}")))
}

/// Reads digits with at most one point, and a sign before them.
fn decimal(number: &str) -> Result<BigDecimal, Refusal> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.bytes().any(|b| b.is_ascii_digit());
    let read = plain.then(|| number.parse().ok()).flatten();
    read.ok_or_else(|| {
        (
            format!("the number {number} is not written as plain digits"),
            Some("write it out, like 1000 or 0.25".into()),
        )
    })
}

fn integer(comparison: Comparison, number: &BigDecimal) -> Result<Bound, Refusal> {
    let floor = number.with_scale_round(0, RoundingMode::Floor);
    let whole = floor == *number;
    let Some(floor) = floor.to_i64() else {
        let above = number.sign() == Sign::Plus;
        return Ok(Bound::Always(match comparison {
            Comparison::Equal => false,
            Comparison::NotEqual => true,
            Comparison::Less | Comparison::LessOrEqual => above,
            Comparison::Greater | Comparison::GreaterOrEqual => !above,
        }));
    };
    Ok(match comparison {
        _ if whole => Bound::Compare(comparison, Literal::Integer(floor)),
        Comparison::Equal => Bound::Always(false),
        Comparison::NotEqual => Bound::Always(true),
        Comparison::Less | Comparison::LessOrEqual => {
            Bound::Compare(Comparison::LessOrEqual, Literal::Integer(floor))
        }
        Comparison::Greater | Comparison::GreaterOrEqual => {
            Bound::Compare(Comparison::Greater, Literal::Integer(floor))
        }
    })
}

/// Rewrites a comparison with a decimal into one with the greatest double that is not above it.
fn double(comparison: Comparison, text: &str, number: &BigDecimal) -> Result<Bound, Refusal> {
    let exact = |double: f64| BigDecimal::try_from(double).ok();
    let refusal = || (format!("the number {text} is beyond what a double can hold"), None);
    let mut below: f64 = text.parse().map_err(|_| refusal())?;
    if !below.is_finite() {
        return Err(refusal());
    }
    if exact(below).is_none_or(|double| double > *number) {
        below = below.next_down();
    }
    let comparison = match comparison {
        same if exact(below).is_some_and(|double| double == *number) => same,
        Comparison::Less | Comparison::LessOrEqual => Comparison::LessOrEqual,
        _ => Comparison::Greater,
    };
    Ok(Bound::Compare(comparison, Literal::Double(below)))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// States whether a text has the form: `0` stands for a digit, everything else for itself.
fn formed(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(t, f)| if f == b'0' { t.is_ascii_digit() } else { t == f })
}

/// Reads `YYYY-MM-DD` as days since 1970-01-01.
fn date(text: &str) -> Option<i32> {
    if !formed(text, "0000-00-00") {
        return None;
    }
    let date: civil::Date = text.parse().ok()?;
    i32::try_from(micros(date.at(0, 0, 0, 0))?.div_euclid(86_400_000_000)).ok()
}

/// Reads `HH:MM[:SS[.ffffff]]` as microseconds since midnight.
fn time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    let seconds = formed(clock, "00:00:00");
    if !digits || !(seconds || formed(clock, "00:00") && clock.len() == text.len()) {
        return None;
    }
    let part = |from: usize| clock.get(from..from + 2).and_then(|p| p.parse::<i64>().ok());
    let (hour, minute, second) = (part(0)?, part(3)?, if seconds { part(6)? } else { 0 });
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    (hour < 24 && minute < 60 && second < 60)
        .then_some(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)
}

/// Reads a date, or a date and a time, as microseconds since 1970.
fn timestamp(text: &str) -> Option<i64> {
    let (day, clock) = (text.get(..10)?, text.get(10..)?);
    let midnight = i64::from(date(day)?) * 86_400_000_000;
    match clock.strip_prefix([' ', 'T']) {
        Some(clock) => Some(midnight + time(clock)?),
        None => clock.is_empty().then_some(midnight),
    }
}

/// Reads a date, a time and an offset as microseconds since 1970 UTC.
fn instant(text: &str) -> Option<i64> {
    if let Some(local) = text.strip_suffix('Z') {
        return timestamp(local);
    }
    let sign = text.get(10..)?.rfind(['+', '-'])? + 10;
    let (local, offset) = (text.get(..sign)?, text.get(sign + 1..)?);
    let minutes = match offset {
        hours if formed(hours, "00") => hours.parse::<i64>().ok()? * 60,
        both if formed(both, "00:00") => {
            both.get(..2)?.parse::<i64>().ok()? * 60 + both.get(3..)?.parse::<i64>().ok()?
        }
        _ => return None,
    };
    let east = if text.as_bytes().get(sign) == Some(&b'-') { -minutes } else { minutes };
    (minutes < 16 * 60).then_some(timestamp(local)? - east * 60_000_000)
}

fn micros(moment: civil::DateTime) -> Option<i64> {
    let moment = jiff::tz::TimeZone::UTC.to_timestamp(moment).ok()?;
    Some(moment.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_reads_moments_exactly_or_not_at_all() {
        assert_eq!(date("1970-01-02"), Some(1));
        assert_eq!(date("1969-12-31"), Some(-1));
        for wrong in ["1970-02-30", "19700102", "1970-1-2", "1970-01-02T", "infinity", "", "１970-01-02"] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
        assert_eq!(time("00:00:01.5"), Some(1_500_000));
        assert_eq!(time("08:30"), Some(30_600_000_000));
        for wrong in ["24:00:00", "08:60", "08:30:60", "08:30.5", "08:30:00.1234567", "8:30"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        assert_eq!(timestamp("1970-01-02"), Some(86_400_000_000));
        assert_eq!(timestamp("1970-01-01T00:00:00.000001"), Some(1));
        assert_eq!(timestamp("1970-01-01x"), None);
        assert_eq!(instant("1970-01-01 08:00:00+08:00"), Some(0));
        assert_eq!(instant("1970-01-01 08:00:00+08"), Some(0));
        assert_eq!(instant("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(instant("1969-12-31 19:00:00-05:00"), Some(0));
        assert_eq!(instant("1970-01-01 08:00:00"), None);
        assert_eq!(instant("1970-01-01"), None);
    }

    #[test]
    fn i6_numbers_compare_exactly_with_every_type() {
        use Comparison::*;
        let int = |comparison, text: &str| {
            bind("c", &Type::Long, comparison, &Written::Number(text.into())).unwrap()
        };
        assert_eq!(int(Less, "1.5"), Bound::Compare(LessOrEqual, Literal::Integer(1)));
        assert_eq!(int(Greater, "-1.5"), Bound::Compare(Greater, Literal::Integer(-2)));
        assert_eq!(int(Equal, "2.0"), Bound::Compare(Equal, Literal::Integer(2)));
        assert_eq!(int(Equal, "2.5"), Bound::Always(false));
        assert_eq!(int(LessOrEqual, "9223372036854775808"), Bound::Always(true));
        assert_eq!(int(Greater, "-9223372036854775809"), Bound::Always(true));
        // 0.1 as a double is above one tenth, so it is not among those that are at most 0.1.
        let bound = bind("c", &Type::Double, LessOrEqual, &Written::Number("0.1".into())).unwrap();
        let Bound::Compare(comparison, literal) = bound else { panic!("{bound:?}") };
        assert!(!comparison.holds(literal.order(&Value::Double(0.1)).unwrap()));
        assert!(comparison.holds(literal.order(&Value::Double(0.1f64.next_down())).unwrap()));
        let half = bind("c", &Type::Double, Less, &Written::Number("0.5".into())).unwrap();
        assert_eq!(half, Bound::Compare(Less, Literal::Double(0.5)));
    }
}
