//! Dates and times as the texts that SQLite's own functions write, read back exactly or not at all.

const DAY_US: i64 = 86_400_000_000;

/// Returns `YYYY-MM-DD`; `None` outside the years 0000 to 9999, which the text cannot hold.
pub(super) fn date_text(days: i32) -> Option<String> {
    let (year, month, day) = civil(i64::from(days));
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Reads `YYYY-MM-DD`.
pub(super) fn date(text: &str) -> Option<i32> {
    let b = text.as_bytes();
    if b.len() != 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&b[..4])?, number(&b[5..7])?, number(&b[8..])?);
    let days = days(year, month, day);
    // A day that the calendar does not have comes back as another one.
    (civil(days) == (year, month, day)).then_some(days as i32)
}

/// Returns `HH:MM:SS[.ffffff]`; `None` when it is no time of day (24:00:00 is one).
pub(super) fn time_text(us: i64) -> Option<String> {
    if !(0..=DAY_US).contains(&us) {
        return None;
    }
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    Some(text)
}

/// Reads `HH:MM:SS[.fraction]`; a fraction finer than a microsecond is refused, not cut (I6).
pub(super) fn time(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    if b.len() < 8 || b[2] != b':' || b[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(&b[..2])?, number(&b[3..5])?, number(&b[6..8])?);
    let mut fraction = 0;
    match b.get(8) {
        None => {}
        Some(b'.') if b.len() > 9 => {
            for (i, digit) in b[9..].iter().enumerate() {
                if !digit.is_ascii_digit() || (i >= 6 && *digit != b'0') {
                    return None;
                }
                if i < 6 {
                    fraction += i64::from(digit - b'0') * 10_i64.pow(5 - i as u32);
                }
            }
        }
        Some(_) => return None,
    }
    let us = (hour * 3600 + minute * 60 + second) * 1_000_000 + fraction;
    (minute < 60 && second < 60 && us <= DAY_US).then_some(us)
}

/// Returns `YYYY-MM-DD HH:MM:SS[.ffffff]`; `None` outside the years 0000 to 9999.
pub(super) fn timestamp_text(us: i64) -> Option<String> {
    let date = date_text(i32::try_from(us.div_euclid(DAY_US)).ok()?)?;
    Some(format!("{date} {}", time_text(us.rem_euclid(DAY_US))?))
}

/// Reads `YYYY-MM-DD HH:MM:SS[.fraction]`, also with a `T` between.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    let (day, clock) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b' ' | b'T') {
        return None;
    }
    let clock = time(clock).filter(|us| *us < DAY_US)?;
    Some(i64::from(date(day)?) * DAY_US + clock)
}

/// Reads a timestamp that ends in `Z` or an offset: `+08`, `+0800`, `+08:00`.
pub(super) fn timestamp_tz(text: &str) -> Option<i64> {
    if let Some(local) = text.strip_suffix('Z') {
        return timestamp(local);
    }
    let at = 19 + text.get(19..)?.find(['+', '-'])?;
    let (local, offset) = text.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let b = offset.as_bytes();
    let (hour, minute) = match b.len() {
        3 => (number(&b[1..])?, 0),
        5 => (number(&b[1..3])?, number(&b[3..])?),
        6 if b[3] == b':' => (number(&b[1..3])?, number(&b[4..])?),
        _ => return None,
    };
    (hour < 24 && minute < 60).then_some(timestamp(local)? - sign * (hour * 60 + minute) * 60_000_000)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

/// Returns the proleptic Gregorian date of a day since 1970-01-01 (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", civil_from_days).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// Returns the day since 1970-01-01 of a proleptic Gregorian date (the same source, days_from_civil).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn i6_every_instant_round_trips(us in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let text = timestamp_text(us).unwrap();
            prop_assert_eq!(timestamp(&text), Some(us));
            prop_assert_eq!(timestamp_tz(&format!("{text}Z")), Some(us));
            let day = us.div_euclid(DAY_US) as i32;
            prop_assert_eq!(date(&date_text(day).unwrap()), Some(day));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,32}") {
            let _ = (date(&text), time(&text), timestamp(&text), timestamp_tz(&text));
        }
    }

    #[test]
    fn i6_refuses_what_is_not_exact() {
        assert_eq!(date("2026-02-29"), None);
        assert_eq!(date("2024-02-29"), Some(19_782));
        assert_eq!(date("2024-2-29"), None);
        assert_eq!(time("12:60:00"), None);
        assert_eq!(time("00:00:00.1234567"), None);
        assert_eq!(time("00:00:00.1234560"), Some(123_456));
        assert_eq!(time("24:00:00"), Some(DAY_US));
        assert_eq!(timestamp("2026-01-01T08:00:00"), timestamp("2026-01-01 08:00:00"));
        assert_eq!(timestamp_tz("2026-01-01 08:00:00+08:00"), timestamp("2026-01-01 00:00:00"));
        assert_eq!(timestamp_tz("2026-01-01 08:00:00"), None);
    }
}
