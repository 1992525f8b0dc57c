//! Values of every type of a contract, the text by which SQL writes each, and equality without mercy.

use std::collections::BTreeMap;

use bigdecimal::num_bigint::BigInt;
use bytes::Bytes;
use hutong_core::value::Decimal;
use hutong_core::{Row, Type, Value, hexadecimal};

const DAY_US: i64 = 86_400_000_000;
/// 0001-01-01 and 9999-12-31: a day outside is held by some systems only.
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;

/// Returns every type with the values that are most likely to suffer: extremes, what looks like another type,
/// and what needs quoting. NULL is added by the checks.
pub fn cases() -> Vec<(Type, Vec<Value>)> {
    let mut cases = vec![
        (Type::Boolean, vec![Value::Boolean(true), Value::Boolean(false)]),
        (Type::Int16, integers(&[0, i16::MIN.into(), i16::MAX.into()])),
        (Type::Int, integers(&[0, i32::MIN.into(), i32::MAX.into()])),
        // 2^53 + 1 is the first whole number that a double does not hold.
        (Type::Long, integers(&[0, i64::MIN, i64::MAX, (1 << 53) + 1])),
        (Type::Bytes, vec![bytes(&[]), bytes(&[0, 255, 10, 92, 39]), Value::Bytes((0..=255).collect())]),
        (Type::Time, [0, 1, DAY_US - 1, DAY_US].map(Value::Time).to_vec()),
        (
            Type::Uuid,
            texts(&["f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "00000000-0000-0000-0000-000000000000"]),
        ),
        (Type::Interval, texts(&["P1Y2M3DT4H5M6.789012S", "P-1DT-0.000001S", "PT0S"])),
        (Type::Json, texts(&[r#"{"b": 1.0, "a":[ ],"名":"🏮 𠮷"}"#, "null", "\"\"", "1e400"])),
        (
            Type::Enum { allowed: ["申报", "注销", "it's"].map(String::from).to_vec() },
            texts(&["申报", "it's"]),
        ),
    ];
    cases.extend(of_texts());
    cases.extend(of_numbers());
    cases.extend(of_instants());
    cases.extend(of_arrays());
    cases
}

fn of_texts() -> Vec<(Type, Vec<Value>)> {
    let any = [
        "",
        " ",
        "  padded  ",
        "NULL",
        "123.0",
        "it's \"quoted\" \\N \n\r\t",
        "公安局 人口基础信息",
        "𠮷野家 🏮 👨‍👩‍👧",
        "e\u{301} is not é",
        "\u{1}\u{7f}\u{feff}\u{10ffff}",
        "no\0ul",
    ];
    vec![
        (Type::Text { length: None }, texts(&any)),
        // Four characters, of which two are beyond the BMP: fourteen bytes, and six units of UTF-16.
        (Type::Text { length: Some(4) }, texts(&["𠮷人口🏮", "", "    "])),
    ]
}

fn of_numbers() -> Vec<(Type, Vec<Value>)> {
    let float = [0.1, -0.0, 1e-45, f32::MAX, 16_777_216.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let double = [
        0.1 + 0.2,
        -0.0,
        5e-324,
        f64::MAX,
        9_007_199_254_740_992.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    let long = format!("-{}.{}", "9".repeat(60), "1234567890".repeat(4));
    vec![
        (Type::Float, float.map(Value::Float).to_vec()),
        (Type::Double, double.map(Value::Double).to_vec()),
        (
            Type::Decimal { precision: 12, scale: 2 },
            decimals(&["9999999999.99", "-9999999999.99", "0.00", "0.01", "100.00"]),
        ),
        (Type::Decimal { precision: 38, scale: 10 }, decimals(&["1234567890123456789012345678.0123456789"])),
        (
            Type::Numeric,
            decimals(&["0", "0.00", "0.000000000000000000012300", "10000000000000000000000000", &long]),
        ),
    ]
}

fn of_instants() -> Vec<(Type, Vec<Value>)> {
    // Before 1970, a leap day, the first and the last of four digits, the ides of March of 44 BC, 1 BC, and beyond.
    let days = [0, -1, 11_016, FIRST_DAY, LAST_DAY, -735_160, FIRST_DAY - 1, LAST_DAY + 1];
    let us: Vec<i64> =
        days.iter().map(|day| i64::from(*day) * DAY_US).chain([-1, 1, 1_600_000_000_000_001]).collect();
    vec![
        (Type::Date, days.map(Value::Date).to_vec()),
        (Type::Timestamp, us.iter().copied().map(Value::Timestamp).collect()),
        (Type::TimestampTz, us.into_iter().map(Value::TimestampTz).collect()),
    ]
}

fn of_arrays() -> Vec<(Type, Vec<Value>)> {
    let list = |ty: Type, items: Vec<Value>| (Type::Array(Box::new(ty)), vec![Value::Array(items)]);
    let text = || Type::Text { length: None };
    let mut texts_and_null = texts(&["a,b", "NULL", "", "\"", "\\", "{}", "🏮", " x "]);
    texts_and_null.push(Value::Null);
    let (of_texts, mut lists) = list(text(), texts_and_null);
    lists.extend([Value::Array(Vec::new()), Value::Array(vec![Value::Null])]);
    let (json, uuid) = (r#"{"a": [1, null]}"#, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
    let allowed = ["申报", "注销"].map(String::from).to_vec();
    vec![
        (of_texts, lists),
        list(Type::Text { length: Some(2) }, texts(&["人口", ""])),
        list(Type::Boolean, vec![Value::Boolean(true), Value::Null, Value::Boolean(false)]),
        list(Type::Int16, integers(&[i16::MIN.into(), i16::MAX.into()])),
        list(Type::Int, integers(&[1, -3])),
        list(Type::Long, integers(&[i64::MIN, i64::MAX])),
        list(Type::Float, vec![Value::Float(0.1), Value::Float(f32::INFINITY)]),
        list(Type::Double, vec![Value::Double(5e-324), Value::Double(f64::NEG_INFINITY)]),
        list(Type::Decimal { precision: 4, scale: 1 }, decimals(&["1.5", "-999.9", "2.0"])),
        list(Type::Numeric, decimals(&["1.50", "-2", "0.00000000000000000001"])),
        list(Type::Bytes, vec![bytes(&[]), bytes(&[0, 255])]),
        list(Type::Date, vec![Value::Date(-1), Value::Date(LAST_DAY)]),
        list(Type::Time, vec![Value::Time(1), Value::Time(DAY_US)]),
        list(Type::Timestamp, vec![Value::Timestamp(-1)]),
        list(Type::TimestampTz, vec![Value::TimestampTz(-1), Value::TimestampTz(0)]),
        list(Type::Json, texts(&[json])),
        list(Type::Uuid, texts(&[uuid])),
        list(Type::Interval, texts(&["PT1S"])),
        list(Type::Enum { allowed }, texts(&["注销"])),
    ]
}

fn integers(numbers: &[i64]) -> Vec<Value> {
    numbers.iter().copied().map(Value::Integer).collect()
}

fn texts(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::text((*text).to_owned())).collect()
}

fn decimals(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::Decimal(text.parse().expect("a decimal number"))).collect()
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

/// Asserts that these are just the expected rows, each once and value by value; they come with their keys, which are
/// whole numbers.
pub(super) fn is_exact<'a>(
    found: impl ExactSizeIterator<Item = (&'a Value, Option<&'a Row>)>,
    expected: &BTreeMap<i64, Row>,
) {
    let (count, mut wrong) = (found.len(), Vec::new());
    for (key, row) in found {
        let Value::Integer(id) = key else { panic!("a key is a number: {key:?}") };
        let Some((row, expected)) = row.zip(expected.get(id)) else {
            wrong.push(format!("row {id} should not be there"));
            continue;
        };
        let fields = row.iter().zip(expected).enumerate();
        let changed = fields.filter(|(_, (found, expected))| !same(found, expected));
        wrong.extend(changed.map(|(at, (found, expected))| {
            format!("row {id}, field {at}: {expected:?} arrived as {found:?}")
        }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, expected.len(), "every row is there once");
}

/// States whether two values are the same to the last bit: NaN is NaN, 0 is not -0, and 1.50 is not 1.5.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        (Value::Double(left), Value::Double(right)) => left.to_bits() == right.to_bits(),
        (Value::Decimal(left), Value::Decimal(right)) => digits(left) == digits(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        _ => left == right,
    }
}

/// Returns a number's digits and how many stand after the point; 1e2 is 100.
fn digits(number: &Decimal) -> (BigInt, i64) {
    match number.as_bigint_and_exponent() {
        (_, scale) if scale < 0 => number.with_scale(0).into_bigint_and_exponent(),
        parts => parts,
    }
}

/// Returns the text by which ISO SQL writes a value that is no array and not NULL: dates with ` BC` before the year
/// 1, instants in UTC with `+00`, bytes as `\x00ff`.
pub fn text(value: &Value) -> String {
    let instant = |us: &i64, zone: &str| {
        let date = date(us.div_euclid(DAY_US));
        let (date, era) = date.strip_suffix(" BC").map_or((date.as_str(), ""), |date| (date, " BC"));
        format!("{date} {}{zone}{era}", time(us.rem_euclid(DAY_US)))
    };
    match value {
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(number) => number.to_string(),
        // The shortest text that is read back as the same number.
        Value::Float(number) if number.is_finite() => format!("{number:e}"),
        Value::Double(number) if number.is_finite() => format!("{number:e}"),
        Value::Float(number) => named(f64::from(*number)),
        Value::Double(number) => named(*number),
        Value::Decimal(number) => number.to_plain_string(),
        Value::Text(text) => text.to_string(),
        Value::Bytes(bytes) => format!("\\x{}", hexadecimal::text(bytes)),
        Value::Date(days) => date(i64::from(*days)),
        Value::Time(us) => time(*us),
        Value::Timestamp(us) => instant(us, ""),
        Value::TimestampTz(us) => instant(us, "+00"),
        Value::Unknown | Value::Null | Value::Array(_) => panic!("no text stands for {value:?}"),
    }
}

fn named(number: f64) -> String {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .into()
}

fn time(us: i64) -> String {
    let (second, fraction) = (us / 1_000_000, us % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60);
    if fraction == 0 { text } else { format!("{text}.{fraction:06}") }
}

/// Returns the proleptic Gregorian date of a day since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days).
fn date(days: i64) -> String {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let (year, day) = (yoe + era * 400 + i64::from(month <= 2), doy - (153 * mp + 2) / 5 + 1);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    format!("{year:04}-{month:02}-{day:02}{era}")
}

/// Reads a value out of that text. Panics on any other text: then the store does not hold what was written.
pub fn parse(ty: &Type, text: &str) -> Value {
    let bad = || -> ! { panic!("{text:?} is no {}", ty.name()) };
    match ty {
        Type::Boolean => Value::Boolean(text.parse().unwrap_or_else(|_| bad())),
        Type::Int16 | Type::Int | Type::Long => Value::Integer(text.parse().unwrap_or_else(|_| bad())),
        Type::Float => Value::Float(text.parse().unwrap_or_else(|_| bad())),
        Type::Double => Value::Double(text.parse().unwrap_or_else(|_| bad())),
        Type::Decimal { .. } | Type::Numeric => Value::Decimal(text.parse().unwrap_or_else(|_| bad())),
        Type::Text { .. } | Type::Json | Type::Uuid | Type::Interval | Type::Enum { .. } => {
            Value::text(text.to_owned())
        }
        Type::Bytes => {
            let digits = text.strip_prefix("\\x").unwrap_or_else(|| bad());
            let pairs = digits.as_bytes().chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).unwrap_or_else(|_| bad());
                u8::from_str_radix(pair, 16).unwrap_or_else(|_| bad())
            });
            Value::Bytes(pairs.collect())
        }
        Type::Date => Value::Date(day_of(text).and_then(|day| day.try_into().ok()).unwrap_or_else(|| bad())),
        Type::Time => Value::Time(time_of(text).unwrap_or_else(|| bad())),
        Type::Timestamp => Value::Timestamp(instant_of(text).unwrap_or_else(|| bad())),
        Type::TimestampTz => {
            Value::TimestampTz(instant_of(&text.replacen("+00", "", 1)).unwrap_or_else(|| bad()))
        }
        Type::Array(_) => panic!("an array has no text of its own"),
    }
}

fn instant_of(text: &str) -> Option<i64> {
    let (plain, era) = text.strip_suffix(" BC").map_or((text, ""), |plain| (plain, " BC"));
    let (date, time) = plain.split_once(' ')?;
    Some(day_of(&format!("{date}{era}"))? * DAY_US + time_of(time)?)
}

fn time_of(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let parts: Vec<i64> = whole.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = parts[..] else { return None };
    let us: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some((hour * 3_600 + minute * 60 + second) * 1_000_000 + us)
}

/// The same source, days_from_civil.
fn day_of(text: &str) -> Option<i64> {
    let (plain, before_christ) = text.strip_suffix(" BC").map_or((text, false), |plain| (plain, true));
    let parts: Vec<i64> = plain.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day] = parts[..] else { return None };
    let year = if before_christ { 1 - year } else { year } - i64::from(month <= 2);
    let (era, yoe) = (year.div_euclid(400), year.rem_euclid(400));
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers the types without a last arm: a type that is added to the contract does not build until it is here.
    fn number(ty: &Type) -> usize {
        match ty {
            Type::Boolean => 0,
            Type::Int16 => 1,
            Type::Int => 2,
            Type::Long => 3,
            Type::Float => 4,
            Type::Double => 5,
            Type::Text { .. } => 6,
            Type::Bytes => 7,
            Type::Decimal { .. } => 8,
            Type::Numeric => 9,
            Type::Date => 10,
            Type::Time => 11,
            Type::Timestamp => 12,
            Type::TimestampTz => 13,
            Type::Json => 14,
            Type::Uuid => 15,
            Type::Interval => 16,
            Type::Enum { .. } => 17,
            Type::Array(_) => 18,
        }
    }

    #[test]
    fn every_type_has_values_and_so_has_an_array_of_it() {
        let mut plain = [0; 19];
        let mut listed = [0; 18];
        for (ty, values) in cases() {
            plain[number(&ty)] += values.len();
            if let Type::Array(item) = ty {
                listed[number(&item)] += values.len();
            }
        }
        assert!(plain.iter().chain(&listed).all(|count| *count > 0), "{plain:?} {listed:?}");
    }

    #[test]
    fn every_value_is_read_back_from_its_text() {
        for (ty, values) in cases() {
            for value in values.iter().filter(|value| !matches!(value, Value::Array(_))) {
                assert!(same(&parse(&ty, &text(value)), value), "{} {value:?}", ty.name());
            }
        }
    }

    #[test]
    fn equality_tells_what_prints_alike() {
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        assert!(same(&decimal("1e2"), &decimal("100")));
        assert!(!same(&decimal("1.5"), &decimal("1.50")));
        assert!(!same(&Value::Double(0.0), &Value::Double(-0.0)));
        assert!(same(
            &Value::Array(vec![Value::Float(f32::NAN)]),
            &Value::Array(vec![Value::Float(f32::NAN)])
        ));
    }

    #[test]
    fn the_days_are_those_that_history_names() {
        let of = |days| text(&Value::Date(days));
        assert_eq!(
            [of(0), of(11_016), of(FIRST_DAY), of(FIRST_DAY - 1), of(LAST_DAY), of(-735_160)],
            ["1970-01-01", "2000-02-29", "0001-01-01", "0001-12-31 BC", "9999-12-31", "0044-03-15 BC"]
        );
    }
}
