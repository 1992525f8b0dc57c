//! What is to be thought of a lane, by a few pure rules over a window (as in LinkedIn's Burrow): no thresholds to tune.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::lag::SHORTEST_INTERVAL_US;
use crate::reason::{Left, Reason};
use crate::status::State;

/// How many intervals of the lane's watermarks a window spans.
pub const WINDOW: usize = 12;

/// What is to be thought of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is caught up, or catches up.
    #[default]
    Ok,
    /// It moves, and falls further behind all the same.
    Slow,
    /// It is open and behind, and nothing has passed in the whole window.
    Stalled,
    /// It does not run: it has halted, was stopped, or could not open in the whole window.
    Stopped,
    /// A transaction was left open on its topic, and it waits before that.
    Blocked,
    /// It stands before a place that it had reached, and reads again.
    Rewound,
    /// A person has paused it, or nothing may flow, so it is not judged.
    Paused,
}

impl Verdict {
    /// All verdicts, for metrics that show every series from the start.
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Slow, Self::Stalled, Self::Stopped, Self::Blocked, Self::Rewound, Self::Paused];

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Stalled => "stalled",
            Self::Stopped => "stopped",
            Self::Blocked => "blocked",
            Self::Rewound => "rewound",
            Self::Paused => "paused",
        }
    }
}

/// A look at a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// What it was doing.
    pub state: State,
    /// Changes that had passed since the process started, by whatever outcome.
    pub passed: u64,
    /// How far behind it was.
    pub lag_seconds: f64,
    /// Changes known to wait, where its source can tell.
    pub waiting: Option<u64>,
    /// Whether it has read something that is not committed yet.
    pub reads: bool,
}

/// The looks of a window, oldest first, one an interval.
#[derive(Debug, Clone)]
pub struct Window {
    interval_us: i64,
    samples: VecDeque<Sample>,
    rewound_us: Option<i64>,
}

impl Window {
    /// Makes the window of a lane whose watermarks come every `interval_us`.
    pub fn new(interval_us: i64) -> Self {
        let interval_us = interval_us.max(500_000);
        Self { interval_us, samples: VecDeque::with_capacity(WINDOW + 1), rewound_us: None }
    }

    /// Takes a look in, unless the last one is younger than an interval.
    pub fn take(&mut self, sample: Sample) {
        if matches!(sample.state, State::Paused | State::Held) {
            // What was before says nothing of how it goes on afterwards.
            self.samples.clear();
            return;
        }
        // A look that comes a little early is the next one: who looks has a clock of its own.
        let early = self.samples.back().is_some_and(|s| sample.at_us - s.at_us < self.interval_us * 9 / 10);
        if !early {
            self.samples.push_back(sample);
            while self.samples.len() > WINDOW + 1 {
                self.samples.pop_front();
            }
        }
    }

    /// Notes that the lane went back.
    pub fn rewound(&mut self, at_us: i64) {
        self.rewound_us = Some(at_us);
    }

    /// Judges the lane by the window and a look of this moment, and says why. `left`: a transaction that stands open on
    /// its topic.
    pub fn judge(&self, now: Sample, left: Option<&Left>) -> (Verdict, Reason) {
        match now.state {
            State::Halted => return (Verdict::Stopped, Reason::Halted),
            State::Stopped => return (Verdict::Stopped, Reason::Ended),
            State::Paused => return (Verdict::Paused, Reason::Paused),
            State::Held => return (Verdict::Paused, Reason::Held),
            State::Opening | State::Running | State::Retrying => {}
        }
        let span_us = self.interval_us * WINDOW as i64;
        if let Some(at_us) = self.rewound_us.filter(|at| now.at_us - at < span_us) {
            let ago = (now.at_us - at_us).max(0) / 1_000_000;
            return (Verdict::Rewound, Reason::WentBack(ago));
        }
        let tolerated = 2.0 * self.interval_us.max(SHORTEST_INTERVAL_US) as f64 / 1e6;
        let caught_up = |s: &Sample| s.lag_seconds <= tolerated && s.state == State::Running;
        // What it is known to wait for needs no window, but more than a moment: every commit is open for one.
        let lasts = |left: &&Left| (now.at_us - left.since_us) as f64 / 1e6 >= tolerated;
        let waits = now.state == State::Running && !caught_up(&now) && now.waiting == Some(0);
        if let Some(left) = left.filter(lasts).filter(|_| waits) {
            let seconds = (now.at_us - left.since_us) / 1_000_000;
            return (Verdict::Blocked, Reason::Open(left.clone(), seconds));
        }
        if self.samples.iter().chain([&now]).any(caught_up) {
            return (Verdict::Ok, Reason::CaughtUp);
        }
        let Some(first) = self.samples.front().filter(|_| self.samples.len() > WINDOW) else {
            return (Verdict::Ok, Reason::Young);
        };
        let seconds = (now.at_us - first.at_us) / 1_000_000;
        if self.samples.iter().chain([&now]).all(|s| s.state != State::Running) {
            return (Verdict::Stopped, Reason::Closed(seconds));
        }
        if now.passed == first.passed {
            let why = match now.waiting {
                Some(0) | None if now.reads => Reason::Uncommitted(seconds),
                Some(0) => Reason::Silent(now.lag_seconds),
                Some(count) => Reason::Waiting(count, seconds),
                None => Reason::Nothing(seconds),
            };
            return (Verdict::Stalled, why);
        }
        if now.lag_seconds >= first.lag_seconds {
            let passed = now.passed.saturating_sub(first.passed);
            let (before, now) = (first.lag_seconds, now.lag_seconds);
            return (Verdict::Slow, Reason::Falling { passed, seconds, before, now });
        }
        (Verdict::Ok, Reason::Gaining(now.lag_seconds, first.lag_seconds))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Looks once a second for 13 s, and judges by the last look.
    fn judged(look: impl Fn(i64) -> Sample) -> Verdict {
        let mut window = Window::new(SECOND);
        (0..13).for_each(|n| window.take(look(n)));
        window.judge(look(12), None).0
    }

    fn sample(n: i64, passed: u64, lag_seconds: f64) -> Sample {
        Sample {
            at_us: n * SECOND,
            state: State::Running,
            passed,
            lag_seconds,
            waiting: Some(7),
            reads: true,
        }
    }

    #[test]
    fn each_verdict_has_its_rule() {
        assert_eq!(judged(|n| sample(n, 5, 0.0)), Verdict::Ok, "idle");
        assert_eq!(judged(|n| sample(n, n as u64, 900.0 - n as f64)), Verdict::Ok, "catches up");
        assert_eq!(judged(|n| sample(n, n as u64, 900.0 + n as f64)), Verdict::Slow);
        assert_eq!(judged(|n| sample(n, n as u64, 900.0)), Verdict::Slow, "as much comes as goes");
        assert_eq!(judged(|n| sample(n, 5, 900.0 + n as f64)), Verdict::Stalled);
        assert_eq!(judged(|n| sample(n, 5, 5.0 * n as f64)), Verdict::Ok, "it was caught up in the window");
        let hangs = |n| Sample { waiting: Some(0), ..sample(n, 5, 900.0 + n as f64) };
        let silent = |n| Sample { reads: false, ..hangs(n) };
        let why = |look: &dyn Fn(i64) -> Sample| {
            let mut window = Window::new(SECOND);
            (0..13).for_each(|n| window.take(look(n)));
            window.judge(look(12), None).1
        };
        assert_eq!(why(&hangs), Reason::Uncommitted(12), "its store is the matter, and not its capture");
        assert!(matches!(why(&silent), Reason::Silent(_)));
        let retrying = |n| Sample { state: State::Retrying, ..sample(n, 5, 900.0) };
        assert_eq!(judged(retrying), Verdict::Stopped);
        assert_eq!(
            judged(|n| if n == 6 { sample(n, 5, 900.0) } else { retrying(n) }),
            Verdict::Stalled,
            "it opened, and nothing came of it"
        );
        assert_eq!(judged(|n| Sample { state: State::Halted, ..sample(n, 5, 0.0) }), Verdict::Stopped);
    }

    #[test]
    fn is_not_judged_before_the_window_is_full() {
        let mut window = Window::new(SECOND);
        (0..WINDOW as i64).for_each(|n| window.take(sample(n, 5, 900.0)));
        assert_eq!(window.judge(sample(12, 5, 900.0), None).0, Verdict::Ok);
    }

    #[test]
    fn a_transaction_that_is_left_open_is_told_at_once_and_only_of_who_waits_for_it() {
        let window = Window::new(SECOND);
        let left = |since_us| Left { since_us, ..Left::default() };
        let judged = |look: Sample, left: &Left| window.judge(look, Some(left)).0;
        let waits = Sample { waiting: Some(0), ..sample(60, 5, 50.0) };
        assert_eq!(judged(waits, &left(0)), Verdict::Blocked, "no window is full");
        assert_eq!(judged(waits, &left(57 * SECOND)), Verdict::Ok, "a commit is under way");
        assert_eq!(
            judged(Sample { lag_seconds: 0.0, ..waits }, &left(0)),
            Verdict::Ok,
            "nothing waits behind it"
        );
        assert_eq!(judged(sample(60, 5, 50.0), &left(0)), Verdict::Ok, "much can be read before it");
        assert_eq!(
            judged(Sample { state: State::Retrying, ..waits }, &left(0)),
            Verdict::Ok,
            "it has another trouble"
        );
        assert_eq!(judged(Sample { state: State::Paused, ..waits }, &left(0)), Verdict::Paused);
        let (_, reason) = window.judge(waits, Some(&left(0)));
        assert_eq!(reason, Reason::Open(left(0), 60));
    }

    #[test]
    fn a_rewind_is_told_for_one_window() {
        let mut window = Window::new(SECOND);
        window.rewound(0);
        assert_eq!(window.judge(sample(3, 5, 900.0), None).0, Verdict::Rewound);
        assert_eq!(window.judge(sample(12, 5, 900.0), None).0, Verdict::Ok);
    }

    #[test]
    fn a_lane_that_was_paused_is_judged_by_what_came_afterwards() {
        let mut window = Window::new(SECOND);
        (0..13).for_each(|n| window.take(sample(n, 5, 900.0)));
        let paused = |n| Sample { state: State::Paused, ..sample(n, 5, 900.0) };
        assert_eq!(window.judge(paused(13), None).0, Verdict::Paused);
        assert_eq!(window.judge(Sample { state: State::Held, ..paused(13) }, None).0, Verdict::Paused);
        window.take(paused(13));
        assert_eq!(
            window.judge(sample(14, 5, 900.0), None).0,
            Verdict::Ok,
            "it is not stalled because it stood"
        );
        (14..27).for_each(|n| window.take(sample(n, 5, 900.0)));
        assert_eq!(window.judge(sample(27, 5, 900.0), None).0, Verdict::Stalled);
    }

    #[test]
    fn looks_that_come_too_often_do_not_shorten_the_window() {
        let mut window = Window::new(SECOND);
        for n in 0..130 {
            window.take(Sample { at_us: n * SECOND / 10, ..sample(0, 5, 900.0) });
        }
        assert_eq!(
            window.judge(sample(13, 5, 900.0), None).1.en(),
            "7 changes wait, and none has passed in 11 s"
        );
    }

    proptest! {
        #[test]
        fn who_was_caught_up_or_caught_up_again_is_never_accused(lags in prop::collection::vec(0.0..2_000.0, 13), zero in 0_usize..13) {
            let look = |n: i64| {
                let lag = if n as usize == zero { 0.0 } else { lags[n as usize] };
                sample(n, 5, lag)
            };
            prop_assert_eq!(judged(look), Verdict::Ok);
        }
    }
}
