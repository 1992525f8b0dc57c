//! Reads PostgreSQL's text form of a value, exactly or not at all (I6).
//!
//! The text is that of a session with [`super::connect::SETTINGS`]. A refusal says why without the value.

use bytes::Bytes;
use bytestring::ByteString;
use hutong_core::{Decimal, Type, Value};

/// Why a value cannot be carried, in words without the value.
pub(crate) type Refusal = String;

/// Reads a value as the contract's type; `padded`: the column's trailing blanks are padding.
pub(crate) fn read(ty: &Type, padded: bool, text: &Bytes) -> Result<Value, Refusal> {
    match ty {
        Type::Bytes => return bytea(text),
        Type::Text { .. } | Type::Json | Type::Uuid | Type::Interval | Type::Enum { .. } => {}
        Type::Array(item) => {
            let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
            return array(item, padded, text);
        }
        _ => {
            let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
            return plain(ty, text);
        }
    }
    let text = ByteString::try_from(text.clone()).map_err(|_| "it is not UTF-8".to_owned())?;
    let text =
        if padded && text.ends_with(' ') { ByteString::from(text.trim_end_matches(' ')) } else { text };
    match ty {
        Type::Text { length: Some(length) } if longer(&text, *length) => {
            Err(format!("it is longer than the {length} characters of the contract"))
        }
        Type::Enum { allowed } if !allowed.iter().any(|label| **label == *text) => {
            Err("it is none of the contract's allowed texts".into())
        }
        _ => Ok(Value::Text(text)),
    }
}

fn longer(text: &str, length: u32) -> bool {
    // Bytes bound characters: counting is rarely needed.
    text.len() > length as usize && text.chars().count() > length as usize
}

fn plain(ty: &Type, text: &str) -> Result<Value, Refusal> {
    let number = || "it is not a number that the contract's type holds".to_owned();
    match ty {
        Type::Boolean => match text {
            "t" | "true" => Ok(Value::Boolean(true)),
            "f" | "false" => Ok(Value::Boolean(false)),
            _ => Err("it is no truth value".into()),
        },
        Type::Int16 => text.parse::<i16>().map(|n| Value::Integer(n.into())).map_err(|_| number()),
        Type::Int => text.parse::<i32>().map(|n| Value::Integer(n.into())).map_err(|_| number()),
        Type::Long => text.parse().map(Value::Integer).map_err(|_| number()),
        Type::Float => text.parse().map(Value::Float).map_err(|_| number()),
        Type::Double => text.parse().map(Value::Double).map_err(|_| number()),
        Type::Numeric => numeric(text).map(Value::Decimal),
        Type::Decimal { precision, scale } => {
            let number = numeric(text)?;
            let exact = number.with_scale(i64::from(*scale));
            if exact != number {
                return Err(format!("it has more than {scale} digits after the point"));
            }
            if exact.digits() > u64::from(*precision) {
                return Err(format!("it has more than {precision} digits"));
            }
            Ok(Value::Decimal(exact))
        }
        Type::Date => date(text).and_then(|days| Ok(Value::Date(i32::try_from(days).map_err(|_| number())?))),
        Type::Time => time(text).map(Value::Time),
        Type::Timestamp => timestamp(text).map(Value::Timestamp),
        Type::TimestampTz => {
            infinite(text)?;
            // The session's zone is UTC.
            let (local, era) = text.split_once("+00").ok_or("its zone is not UTC")?;
            if !era.is_empty() {
                return Err(if era == " BC" { BC.into() } else { "its zone is not UTC".into() });
            }
            timestamp(local).map(Value::TimestampTz)
        }
        Type::Text { .. }
        | Type::Bytes
        | Type::Json
        | Type::Uuid
        | Type::Interval
        | Type::Enum { .. }
        | Type::Array(_) => Err("it is not of a plain type".into()),
    }
}

const DAY_US: i64 = 86_400_000_000;

const BC: &str = "a year before 1 cannot be carried";

fn numeric(text: &str) -> Result<Decimal, Refusal> {
    if text == "NaN" || text.ends_with("Infinity") {
        return Err("NaN and infinity cannot be carried as a decimal number".into());
    }
    // Digits alone, as the server writes them: an exponent would make a number of a billion digits out of a few.
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    plain.then(|| text.parse().ok()).flatten().ok_or_else(|| "it is not a decimal number".to_owned())
}

fn infinite(text: &str) -> Result<(), Refusal> {
    if text.ends_with("infinity") { Err("infinity cannot be carried".into()) } else { Ok(()) }
}

/// Returns the number that a few digits write; `None` when they are not digits alone.
fn digits(text: &[u8]) -> Option<i64> {
    let digit = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'));
    text.iter().try_fold(0, digit)
}

/// Returns days since 1970-01-01 of `YYYY-MM-DD`.
fn date(text: &str) -> Result<i64, Refusal> {
    infinite(text)?;
    if text.ends_with(" BC") {
        return Err(BC.into());
    }
    let bad = || "it is not a date".to_owned();
    let (year, rest) = text.as_bytes().split_at_checked(4).ok_or_else(bad)?;
    let year = digits(year).ok_or_else(bad)?;
    let [b'-', rest @ .., b'-', d1, d0] = rest else {
        return Err(if rest.first().is_some_and(u8::is_ascii_digit) {
            "a year after 9999 cannot be carried".into()
        } else {
            bad()
        });
    };
    let [m1, m0] = rest else { return Err(bad()) };
    let part = |high: &u8, low: &u8| digits(&[*high, *low]).ok_or_else(bad);
    let (month, day) = (part(m1, m0)?, part(d1, d0)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=last).contains(&day) || year < 1 {
        return Err(bad());
    }
    // Days from a civil date: years start in March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    Ok(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Returns microseconds since midnight of `HH:MM:SS` with up to six digits more; 24:00:00 is a time of day.
fn time(text: &str) -> Result<i64, Refusal> {
    let bad = || "it is not a time of day".to_owned();
    let (whole, fraction) = text.as_bytes().split_at_checked(8).ok_or_else(bad)?;
    let [h1, h0, b':', m1, m0, b':', s1, s0] = whole else { return Err(bad()) };
    let part = |high: &u8, low: &u8| digits(&[*high, *low]).ok_or_else(bad);
    let (hour, minute, second) = (part(h1, h0)?, part(m1, m0)?, part(s1, s0)?);
    let micros = match fraction {
        [] => 0,
        [b'.', more @ ..] if (1..=6).contains(&more.len()) => {
            digits(more).ok_or_else(bad)? * 10_i64.pow(6 - more.len() as u32)
        }
        _ => return Err(bad()),
    };
    let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    if minute > 59 || second > 59 || micros > DAY_US { Err(bad()) } else { Ok(micros) }
}

/// Returns microseconds since 1970-01-01 00:00:00.
fn timestamp(text: &str) -> Result<i64, Refusal> {
    infinite(text)?;
    if text.ends_with(" BC") {
        return Err(BC.into());
    }
    let (day, clock) = text.split_once(' ').ok_or("it is not a date and time")?;
    let clock = time(clock)?;
    if clock == DAY_US {
        return Err("it is not a date and time".into());
    }
    Ok(date(day)? * DAY_US + clock)
}

fn bytea(text: &[u8]) -> Result<Value, Refusal> {
    let bad = || "it is not bytes in hexadecimal form".to_owned();
    let digits = text.strip_prefix(b"\\x").ok_or_else(bad)?;
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8).ok_or_else(bad);
    if digits.len() % 2 != 0 {
        return Err(bad());
    }
    let bytes = digits
        .chunks_exact(2)
        .map(|p| Ok(digit(p[0])? << 4 | digit(p[1])?))
        .collect::<Result<Vec<u8>, Refusal>>()?;
    Ok(Value::Bytes(bytes.into()))
}

/// Reads `{a,"b, c",NULL}`.
fn array(item: &Type, padded: bool, text: &str) -> Result<Value, Refusal> {
    if text.starts_with('[') {
        return Err("an array whose first index is not 1 cannot be carried".into());
    }
    let bad = || "it is not an array".to_owned();
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(bad)?;
    if inner.starts_with('{') {
        return Err("an array of more than one dimension cannot be carried".into());
    }
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    while chars.peek().is_some() {
        let mut content = String::new();
        let quoted = chars.next_if_eq(&'"').is_some();
        if quoted {
            loop {
                match chars.next().ok_or_else(bad)? {
                    '"' => break,
                    '\\' => content.push(chars.next().ok_or_else(bad)?),
                    c => content.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                content.push(if c == '\\' { chars.next().ok_or_else(bad)? } else { c });
            }
        }
        items.push(if !quoted && content == "NULL" {
            Value::Null
        } else {
            read(item, padded, &Bytes::from(content))?
        });
        match chars.next() {
            None => break,
            Some(',') if chars.peek().is_some() => {}
            Some(_) => return Err(bad()),
        }
    }
    Ok(Value::Array(items))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ty: &Type, text: &str) -> Result<Value, Refusal> {
        read(ty, false, &Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn i6_reads_exactly() {
        let decimal = Type::Decimal { precision: 6, scale: 2 };
        let texts = Type::Array(Box::new(Type::Text { length: None }));
        for (ty, text, value) in [
            (Type::Boolean, "t", Value::Boolean(true)),
            (Type::Int16, "-32768", Value::Integer(-32768)),
            (Type::Double, "-Infinity", Value::Double(f64::NEG_INFINITY)),
            (Type::Float, "0.1", Value::Float(0.1)),
            (decimal, "12.30", Value::Decimal("12.30".parse().unwrap())),
            (Type::Date, "1970-01-01", Value::Date(0)),
            (Type::Date, "2000-02-29", Value::Date(11016)),
            (Type::Date, "0001-01-01", Value::Date(-719_162)),
            (Type::Time, "24:00:00", Value::Time(86_400_000_000)),
            (Type::Time, "00:00:00.5", Value::Time(500_000)),
            (Type::Timestamp, "1969-12-31 23:59:59.999999", Value::Timestamp(-1)),
            (Type::TimestampTz, "1970-01-01 00:00:01+00", Value::TimestampTz(1_000_000)),
            (Type::Bytes, "\\x00ff", Value::Bytes(Bytes::from_static(&[0, 255]))),
            (texts.clone(), "{}", Value::Array(vec![])),
            (
                texts,
                r#"{a,"b, \"c\"",NULL,"NULL",""}"#,
                Value::Array(vec![
                    Value::text("a"),
                    Value::text("b, \"c\""),
                    Value::Null,
                    Value::text("NULL"),
                    Value::text(""),
                ]),
            ),
        ] {
            assert_eq!(of(&ty, text).unwrap(), value, "{text}");
        }
        let padded = read(&Type::Text { length: Some(2) }, true, &Bytes::from_static(b"ab   ")).unwrap();
        assert_eq!(padded, Value::text("ab"));
    }

    #[test]
    fn i6_refuses_what_cannot_be_carried() {
        for (ty, text) in [
            (Type::Int16, "32768"),
            (Type::Numeric, "NaN"),
            (Type::Numeric, "-Infinity"),
            (Type::Decimal { precision: 4, scale: 1 }, "1.25"),
            (Type::Decimal { precision: 4, scale: 1 }, "1234.5"),
            (Type::Date, "infinity"),
            (Type::Date, "0044-03-15 BC"),
            (Type::Date, "10000-01-01"),
            (Type::Timestamp, "-infinity"),
            (Type::TimestampTz, "0044-03-15 00:00:00+00 BC"),
            (Type::TimestampTz, "2026-01-01 00:00:00+08"),
            (Type::Text { length: Some(1) }, "人口"),
            (Type::Enum { allowed: vec!["a".into()] }, "b"),
            (Type::Array(Box::new(Type::Int)), "{{1},{2}}"),
            (Type::Array(Box::new(Type::Int)), "[0:1]={1,2}"),
            (Type::Array(Box::new(Type::Int)), "{1,}"),
        ] {
            let reason = of(&ty, text).unwrap_err();
            assert!(text.len() < 9 || !reason.contains(text), "a refusal does not repeat the value");
        }
    }

    proptest! {
        #[test]
        fn any_text_does_not_panic(text in "\\PC{0,30}") {
            for ty in [Type::Date, Type::Time, Type::TimestampTz, Type::Numeric, Type::Bytes,
                Type::Array(Box::new(Type::Text { length: None }))] {
                let _ = of(&ty, &text);
            }
        }

        #[test]
        fn every_day_is_one_after_the_day_before(days in -719_162i32..2_932_896) {
            let civil = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(days));
            prop_assert_eq!(of(&Type::Date, &civil.to_string()).unwrap(), Value::Date(days));
        }
    }
}
