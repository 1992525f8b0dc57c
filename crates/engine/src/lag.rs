//! How old a lane's knowledge is, as one pure rule.

/// What a lane knows about where it stands. Times are microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything that the origin committed before this time has been passed.
    pub complete_to_us: Option<i64>,
    /// The source commit time of the newest change passed (committed, dropped or quarantined).
    pub passed_us: Option<i64>,
    /// The source commit time of the first change that is read but not passed.
    pub waiting_us: Option<i64>,
    /// Changes known to stand behind the place that is passed.
    pub count: Option<u64>,
    /// When the lane was first started.
    pub started_us: i64,
}

/// The shortest interval by which freshness is judged, microseconds: readers tell it no oftener.
pub const SHORTEST_INTERVAL_US: i64 = 2_000_000;

/// Returns the lag in seconds: 0 when the newest watermark is at most two intervals old and passed, else
/// the age of the first change that is not passed, or of the last sign that everything was.
///
/// Never negative and never NaN. A change has a time by its source's clock, which may be wrong: one that is not passed
/// was not committed before the last watermark that was, and where it was read is told by who calls.
pub fn seconds(standing: &Standing, now_us: i64, interval_us: i64) -> f64 {
    let fresh = standing
        .complete_to_us
        .is_some_and(|t| now_us.saturating_sub(t) <= 2 * interval_us.max(SHORTEST_INTERVAL_US));
    if fresh && standing.waiting_us.is_none() && standing.count.unwrap_or(0) == 0 {
        return 0.0;
    }
    let waiting_us =
        standing.waiting_us.max(standing.complete_to_us.filter(|_| standing.waiting_us.is_some()));
    let since = waiting_us.or(standing.passed_us.max(standing.complete_to_us)).unwrap_or(standing.started_us);
    now_us.saturating_sub(since).max(0) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn follows_the_definition() {
        let now = 1_000 * SECOND;
        let at = |s: Standing| seconds(&s, now, 5 * SECOND);
        let idle = Standing {
            complete_to_us: Some(now - 9 * SECOND),
            passed_us: Some(5),
            count: Some(0),
            ..Standing::default()
        };
        assert_eq!(at(idle), 0.0, "an idle stream with a young watermark is fresh");
        assert_eq!(
            at(Standing { complete_to_us: Some(now - 60 * SECOND), ..idle }),
            60.0,
            "a dead capture shows as lag"
        );
        assert_eq!(
            at(Standing { waiting_us: Some(now - 7 * SECOND), ..idle }),
            7.0,
            "what waits counts from its commit"
        );
        assert_eq!(
            at(Standing { waiting_us: Some(now - 600 * SECOND), ..idle }),
            9.0,
            "by a source's clock that is behind: no older than the last watermark"
        );
        assert_eq!(
            at(Standing { count: Some(3), passed_us: Some(now - 4 * SECOND), complete_to_us: None, ..idle }),
            4.0
        );
        assert_eq!(at(Standing { waiting_us: Some(now + 7 * SECOND), ..idle }), 0.0, "never negative");
        assert_eq!(
            at(Standing { started_us: now - SECOND, ..Standing::default() }),
            1.0,
            "nothing known yet"
        );
    }

    proptest! {
        /// Whatever is known, and whatever the clocks say.
        #[test]
        fn is_a_number_of_seconds_and_never_negative(
            complete_to_us in any::<Option<i64>>(),
            passed_us in any::<Option<i64>>(),
            waiting_us in any::<Option<i64>>(),
            count in any::<Option<u64>>(),
            started_us in any::<i64>(),
            now_us in any::<i64>(),
            interval_us in 0..i64::MAX / 4,
        ) {
            let standing = Standing { complete_to_us, passed_us, waiting_us, count, started_us };
            let lag = seconds(&standing, now_us, interval_us);
            prop_assert!(lag.is_finite() && lag >= 0.0, "{lag}");
        }

        /// A capture that tells nothing any more: each second is a second more.
        #[test]
        fn silence_counts_second_by_second(interval in 0..60 * SECOND, silent in 0..1_000_i64) {
            let told = 1_000_000 * SECOND;
            let standing = Standing { complete_to_us: Some(told), count: Some(0), ..Standing::default() };
            let tolerated = 2 * interval.max(SHORTEST_INTERVAL_US);
            let lag = seconds(&standing, told + silent * SECOND, interval);
            let wanted = if silent * SECOND <= tolerated { 0.0 } else { silent as f64 };
            prop_assert_eq!(lag, wanted);
        }
    }
}
