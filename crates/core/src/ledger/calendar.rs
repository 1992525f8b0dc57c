//! Working days: by when a request must be answered.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};

/// Which days are worked. Monday to Friday, but for what stands here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calendar {
    /// Days that are not worked.
    pub holidays: BTreeSet<Date>,
    /// Saturdays and Sundays that are worked in their place.
    pub workdays: BTreeSet<Date>,
}

impl Calendar {
    /// States whether a day is worked.
    pub fn works(&self, day: Date) -> bool {
        let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        self.workdays.contains(&day) || (!weekend && !self.holidays.contains(&day))
    }

    /// Returns the last day of a term of working days that begins on the day after `from`.
    pub fn due(&self, from: Date, days: u32) -> Date {
        let (mut day, mut left) = (from, days);
        while left > 0 {
            let Ok(next) = day.tomorrow() else { return day };
            day = next;
            left -= u32::from(self.works(day));
        }
        day
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_term_passes_weekends_and_holidays_and_counts_days_that_are_worked_in_their_place() {
        let calendar = Calendar {
            holidays: (1..=7).map(|day| date(2026, 10, day)).collect(),
            workdays: [date(2026, 10, 10)].into(),
        };
        let rows = [
            // From a Thursday to the Friday.
            (date(2026, 9, 24), 1, date(2026, 9, 25)),
            (date(2026, 9, 25), 1, date(2026, 9, 28)),
            // 1 to 7 October are not worked, Saturday the 10th is.
            (date(2026, 9, 30), 1, date(2026, 10, 8)),
            (date(2026, 9, 30), 3, date(2026, 10, 10)),
            (date(2026, 9, 30), 4, date(2026, 10, 12)),
            (date(2026, 9, 30), 0, date(2026, 9, 30)),
        ];
        for (from, days, due) in rows {
            assert_eq!(calendar.due(from, days), due, "{from} {days}");
        }
    }
}
