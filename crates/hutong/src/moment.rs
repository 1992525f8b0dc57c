//! Times as people write and read them.

use hutong_core::{Error, ErrorKind, Result};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Returns a time to the second, in a zone: `2026-11-26 08:00:00 +08:00`.
pub fn text(us: i64, zone: &TimeZone) -> String {
    let moment = Timestamp::from_microsecond(us).map(|moment| moment.to_zoned_datetime(zone.clone()));
    moment.map(|moment| moment.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()).unwrap_or_default()
}

/// Returns the day that it is in a zone.
pub fn today(zone: &TimeZone) -> Date {
    Timestamp::now().to_zoned_datetime(zone.clone()).date()
}

/// Reads a time: with its zone (`2026-11-26T08:00:00+08:00`), in `zone` without one, or so long before `now` (`2h`,
/// `90min`, `1d 6h`). Returns microseconds since 1970 UTC.
pub fn read(written: &str, now: Timestamp, zone: &TimeZone) -> Result<i64> {
    let written = written.trim();
    if let Ok(moment) = written.parse::<Timestamp>() {
        return Ok(moment.as_microsecond());
    }
    if let Ok(moment) = written.parse::<DateTime>()
        && let Ok(moment) = zone.to_zoned_datetime(moment)
    {
        return Ok(moment.timestamp().as_microsecond());
    }
    if let Ok(ago) = written.parse::<Span>()
        && ago.is_positive()
        && let Ok(moment) = now.to_zoned_datetime(zone.clone()).checked_sub(ago)
    {
        return Ok(moment.timestamp().as_microsecond());
    }
    Err(Error::new(ErrorKind::Config, format!("read the time `{written}`"), "it is none").hint(
        "write 2026-11-26T08:00:00+08:00, 2026-11-26T08:00 in the bus's zone, or how long ago: 2h, 90min, 1d",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let now: Timestamp = "2026-11-26T00:00:00Z".parse().unwrap();
        for (written, expected) in [
            ("2026-11-26T08:00:00+08:00", "2026-11-26 08:00:00 +08:00"),
            ("2026-11-25T23:59:59Z", "2026-11-26 07:59:59 +08:00"),
            ("2026-11-26T07:30", "2026-11-26 07:30:00 +08:00"),
            ("2026-11-26 07:30:15", "2026-11-26 07:30:15 +08:00"),
            ("2026-11-26", "2026-11-26 00:00:00 +08:00"),
            ("2h", "2026-11-26 06:00:00 +08:00"),
            ("90min", "2026-11-26 06:30:00 +08:00"),
            ("1d 6h", "2026-11-25 02:00:00 +08:00"),
        ] {
            assert_eq!(text(read(written, now, &zone).unwrap(), &zone), expected, "{written}");
        }
        for written in ["", "yesterday", "-2h", "2026-13-01", "99999999999y"] {
            assert_eq!(read(written, now, &zone).unwrap_err().kind, ErrorKind::Config, "{written}");
        }
    }
}
