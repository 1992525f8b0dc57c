//! An instant as text: `2026-01-01T00:00:00.123456Z`, always UTC, always six digits.
//!
//! The form of `io.debezium.time.ZonedTimestamp` (ISO 8601). Written and read by hand because every row has
//! some; any other form goes through jiff.

const DAY_US: i64 = 86_400_000_000;
/// The bytes of the text.
const LENGTH: usize = 27;
/// 0001-01-01T00:00:00Z.
const FIRST_US: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z.
const LAST_US: i64 = 253_402_300_799_999_999;

/// Returns the text of an instant; `None` outside of the years 0001 to 9999, which the form cannot hold.
pub(super) fn text(us: i64) -> Option<[u8; LENGTH]> {
    if !(FIRST_US..=LAST_US).contains(&us) {
        return None;
    }
    let (year, month, day) = civil(us.div_euclid(DAY_US));
    let of_day = us.rem_euclid(DAY_US);
    let (second, micro) = (of_day / 1_000_000, of_day % 1_000_000);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3_600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    digits(&mut text[20..26], micro);
    Some(text)
}

/// Reads an instant with any offset, as microseconds since 1970 UTC; `None` when it is none, or is not a whole
/// number of microseconds.
pub(super) fn read(text: &str) -> Option<i64> {
    if let Some(us) = read_own(text.as_bytes()) {
        return Some(us);
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    (instant.subsec_nanosecond() % 1_000 == 0).then(|| instant.as_microsecond())
}

fn read_own(text: &[u8]) -> Option<i64> {
    let text: &[u8; LENGTH] = text.try_into().ok()?;
    if [text[4], text[7], text[10], text[13], text[16], text[19], text[26]] != *b"--T::.Z" {
        return None;
    }
    let (year, month, day) = (number(&text[0..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute) = (number(&text[11..13])?, number(&text[14..16])?);
    let (second, micro) = (number(&text[17..19])?, number(&text[20..26])?);
    let in_range = (1..=12).contains(&month) && day >= 1 && hour < 24 && minute < 60 && second < 60;
    let days = days(year, month, day);
    // A day that the month lacks comes back as another date.
    if !in_range || civil(days) != (year, month, day) {
        return None;
    }
    Some(days * DAY_US + (hour * 3_600 + minute * 60 + second) * 1_000_000 + micro)
}

fn digits(into: &mut [u8], mut number: i64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

/// Days since 1970-01-01 to year, month, day, in the proleptic Gregorian calendar.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_offsets_and_refuses_what_is_not_exact() {
        let rows = [
            ("2026-01-01T00:00:00.123456Z", Some(1_767_225_600_123_456)),
            ("2026-01-01T08:00:00.123456+08:00", Some(1_767_225_600_123_456)),
            ("2026-01-01T00:00:00Z", Some(1_767_225_600_000_000)),
            ("2026-01-01T00:00:00.123456789Z", None),
            ("2026-02-30T00:00:00.000000Z", None),
            ("2026-01-01T00:00:00", None),
            ("", None),
        ];
        for (text, us) in rows {
            assert_eq!(read(text), us, "{text}");
        }
        assert_eq!(text(FIRST_US - 1), None);
        assert_eq!(text(LAST_US + 1), None);
    }

    proptest! {
        #[test]
        fn i6_text_round_trips_and_is_what_jiff_says(us in FIRST_US..=LAST_US) {
            let bytes = text(us).unwrap();
            let written = std::str::from_utf8(&bytes).unwrap();
            prop_assert_eq!(read_own(&bytes), Some(us));
            prop_assert_eq!(written.parse::<jiff::Timestamp>().unwrap().as_microsecond(), us);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,40}") {
            let _ = read(&text);
        }
    }
}
