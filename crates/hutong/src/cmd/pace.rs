//! How a pipeline goes: its lanes taken together, in one word, which says by itself how much it matters.

use std::collections::BTreeMap;

use hutong_engine::{LaneStatus, State, Verdict};
use serde::Serialize;

use super::table;
use crate::lang::Lang;

/// What is to be thought of a lane or a pipeline, from well to worst: state, verdict and promise in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Word {
    /// It is caught up, or catches up.
    Ok,
    /// It takes its ends over.
    Opening,
    /// A person has paused it.
    Paused,
    /// Nothing may flow through it now.
    Held,
    /// It reads again what it had passed.
    Rewound,
    /// It is later than promised.
    Late,
    /// It falls further behind.
    Slow,
    /// It waits before it opens again.
    Retrying,
    /// Nothing passes.
    Stalled,
    /// A transaction was left open on its topic.
    Blocked,
    /// It does not run.
    Stopped,
    /// A person must act.
    Halted,
}

/// How much a word matters: what a colour may say, and never alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing is to be done.
    Well,
    /// Somebody wanted it so.
    Still,
    /// It may need somebody.
    Watch,
    /// It needs somebody.
    Bad,
}

impl Word {
    /// Every word.
    #[cfg(test)]
    pub(super) const ALL: [Self; 12] = [
        Self::Ok,
        Self::Opening,
        Self::Paused,
        Self::Held,
        Self::Rewound,
        Self::Late,
        Self::Slow,
        Self::Retrying,
        Self::Stalled,
        Self::Blocked,
        Self::Stopped,
        Self::Halted,
    ];

    /// Returns the word for a lane.
    pub(super) fn of(lane: &LaneStatus) -> Self {
        match (lane.state, lane.verdict) {
            (State::Halted, _) => Self::Halted,
            (State::Stopped, _) | (_, Verdict::Stopped) => Self::Stopped,
            (State::Held, _) => Self::Held,
            (State::Paused, _) | (_, Verdict::Paused) => Self::Paused,
            (State::Retrying, _) => Self::Retrying,
            (_, Verdict::Stalled) => Self::Stalled,
            (_, Verdict::Blocked) => Self::Blocked,
            (_, Verdict::Slow) => Self::Slow,
            (_, Verdict::Rewound) => Self::Rewound,
            _ if lane.freshness_seconds.is_some_and(|target| lane.lag_seconds > target) => Self::Late,
            (State::Opening, _) => Self::Opening,
            (State::Running, Verdict::Ok) => Self::Ok,
        }
    }

    /// Returns it as a person reads it.
    pub(super) fn name(self, lang: Lang) -> &'static str {
        let (en, zh) = match self {
            Self::Ok => ("ok", "正常"),
            Self::Opening => ("opening", "正在打开"),
            Self::Paused => ("paused", "已暂停"),
            Self::Held => ("held", "未获准"),
            Self::Rewound => ("rewound", "回退重读"),
            Self::Late => ("late", "超过时效"),
            Self::Slow => ("slow", "越落越远"),
            Self::Retrying => ("retrying", "正在重试"),
            Self::Stalled => ("stalled", "毫无进展"),
            Self::Blocked => ("blocked", "被未关闭的事务挡住"),
            Self::Stopped => ("stopped", "未在运行"),
            Self::Halted => ("halted", "已停止"),
        };
        lang.pick(en, zh)
    }

    /// Returns how much it matters.
    pub(super) fn level(self) -> Level {
        match self {
            Self::Ok => Level::Well,
            Self::Opening | Self::Paused | Self::Held => Level::Still,
            Self::Rewound | Self::Late | Self::Slow | Self::Retrying => Level::Watch,
            Self::Stalled | Self::Blocked | Self::Stopped | Self::Halted => Level::Bad,
        }
    }
}

/// Returns the word for what a lane is doing, as a person reads it.
pub(super) fn state(state: State, lang: Lang) -> &'static str {
    let zh = match state {
        State::Opening => "正在打开",
        State::Running => "运行中",
        State::Retrying => "正在重试",
        State::Paused => "已暂停",
        State::Held => "未获准",
        State::Halted => "已停止",
        State::Stopped => "未在运行",
    };
    lang.pick(state.name(), zh)
}

/// Returns the word for what is to be thought of a lane, as a person reads it.
pub(super) fn verdict(verdict: Verdict, lang: Lang) -> &'static str {
    let zh = match verdict {
        Verdict::Ok => "正常",
        Verdict::Slow => "越落越远",
        Verdict::Stalled => "毫无进展",
        Verdict::Stopped => "未在运行",
        Verdict::Blocked => "被未关闭的事务挡住",
        Verdict::Rewound => "回退重读",
        Verdict::Paused => "已暂停",
    };
    lang.pick(verdict.name(), zh)
}

/// The lanes of a pipeline, or one lane, as they go now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Pace {
    /// The pipeline's name, or the lane's.
    pub(super) name: String,
    /// How many lanes of it this process runs.
    pub(super) lanes: usize,
    /// The worst of its lanes.
    pub(super) word: Word,
    /// Why, of the worst lane.
    pub(super) reason: String,
    /// The same in Chinese; empty from an older process.
    pub(super) reason_zh: String,
    /// The error of the worst lane.
    pub(super) error: Option<String>,
    /// What a person must do about it.
    pub(super) hint: Option<String>,
    /// The kind of that error, which `hutong explain` takes when the lane has halted.
    pub(super) kind: Option<String>,
    /// Changes a second over the last seconds.
    pub(super) rate: f64,
    /// Changes committed since the process started.
    pub(super) committed: u64,
    /// Seconds behind, of the lane that is furthest behind.
    pub(super) lag_seconds: f64,
    /// Changes behind; `None` when a lane cannot tell.
    pub(super) lag_changes: Option<u64>,
    /// Bytes of the origin's log behind, where only bytes can be told.
    pub(super) lag_bytes: Option<u64>,
    /// What waits in the quarantine, or was set aside since the process started where that cannot be told.
    pub(super) quarantined: u64,
}

impl Pace {
    /// Returns one lane.
    pub(super) fn of(lane: &LaneStatus) -> Self {
        Self {
            name: lane.lane.clone(),
            lanes: 1,
            word: Word::of(lane),
            reason: lane.reason.clone(),
            reason_zh: lane.reason_zh.clone(),
            error: lane.error.clone(),
            hint: lane.hint.clone(),
            kind: lane.kind.clone(),
            rate: lane.rate,
            committed: lane.committed,
            lag_seconds: lane.lag_seconds,
            lag_changes: lane.lag_changes,
            lag_bytes: lane.lag_bytes,
            quarantined: lane.waiting.unwrap_or(lane.quarantined),
        }
    }

    fn joined(&mut self, lane: Self) {
        if (lane.word, lane.lag_seconds) > (self.word, self.lag_seconds) {
            self.word = lane.word;
            (self.reason, self.reason_zh) = (lane.reason, lane.reason_zh);
            (self.error, self.hint, self.kind) = (lane.error, lane.hint, lane.kind);
        }
        self.lanes += 1;
        self.rate += lane.rate;
        self.committed += lane.committed;
        self.lag_seconds = self.lag_seconds.max(lane.lag_seconds);
        // What one lane does not know, nobody knows of all.
        self.lag_changes = self.lag_changes.zip(lane.lag_changes).map(|(a, b)| a + b);
        self.lag_bytes = self.lag_bytes.zip(lane.lag_bytes).map(|(a, b)| a + b);
        self.quarantined += lane.quarantined;
    }

    /// Returns why it is as it is: the error, or the verdict's reason.
    pub(super) fn why(&self, lang: Lang) -> &str {
        self.error.as_deref().unwrap_or_else(|| reason(&self.reason, &self.reason_zh, lang))
    }

    /// Returns how far behind it is, in what its source can tell.
    pub(super) fn behind(&self) -> String {
        match (self.lag_changes, self.lag_bytes) {
            (Some(changes), _) => table::thousands(changes),
            (None, Some(bytes)) => format!("{} KiB", table::thousands(bytes.div_ceil(1024))),
            (None, None) => "?".into(),
        }
    }

    /// Returns its changes a second: whole ones, and one digit more where it is slow.
    pub(super) fn per_second(&self) -> String {
        match self.rate {
            rate if rate < 0.05 => "0".into(),
            rate if rate < 9.95 => format!("{rate:.1}"),
            rate => table::thousands(rate.round() as u64),
        }
    }
}

/// Returns a reason in a language, or in the other where only that is known.
pub(super) fn reason<'a>(en: &'a str, zh: &'a str, lang: Lang) -> &'a str {
    if zh.is_empty() { en } else { lang.pick(en, zh) }
}

/// Returns the pipelines, by name.
pub(super) fn pipelines(lanes: &[LaneStatus]) -> BTreeMap<String, Pace> {
    let mut paces: BTreeMap<String, Pace> = BTreeMap::new();
    for lane in lanes {
        let one = Pace::of(lane);
        match paces.get_mut(&lane.pipeline) {
            Some(pace) => pace.joined(one),
            None => {
                let pace = Pace { name: lane.pipeline.clone(), ..one };
                paces.insert(lane.pipeline.clone(), pace);
            }
        }
    }
    paces
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, LaneId, PipelineId};
    use hutong_engine::{Board, status::now_us};

    use super::*;

    fn lanes() -> Vec<LaneStatus> {
        let board = Board::new();
        for partition in 0..3 {
            board.add(LaneId::new(PipelineId::new(Kind::Replicate, "a"), partition), 0, now_us());
        }
        let mut lanes = board.status(now_us());
        lanes.iter_mut().for_each(|lane| {
            (lane.state, lane.verdict, lane.lag_seconds) = (State::Running, Verdict::Ok, 0.0);
            (lane.rate, lane.lag_changes, lane.freshness_seconds) = (2.25, Some(2), Some(60.0));
        });
        lanes
    }

    #[test]
    fn a_pipeline_is_as_well_as_its_worst_lane_and_as_fast_as_all() {
        let mut lanes = lanes();
        let all = |lanes: &[LaneStatus]| pipelines(lanes).remove("replicate.a").unwrap();
        let pace = all(&lanes);
        assert_eq!((pace.word, pace.lanes, pace.behind()), (Word::Ok, 3, "6".into()));
        assert_eq!(pace.per_second(), "6.8");
        lanes[2].lag_seconds = 75.0;
        (lanes[1].verdict, lanes[1].reason) = (Verdict::Stalled, "7 changes wait".into());
        (lanes[1].lag_changes, lanes[1].lag_bytes) = (None, None);
        let pace = all(&lanes);
        assert_eq!(
            (pace.word, pace.reason.as_str(), pace.lag_seconds),
            (Word::Stalled, "7 changes wait", 75.0)
        );
        assert_eq!(pace.behind(), "?", "what one lane does not know, nobody knows of all");
    }

    #[test]
    fn each_lane_has_a_word_that_tells_the_worst_of_it() {
        let rows = [
            (State::Running, Verdict::Ok, 0.0, Word::Ok, Level::Well),
            (State::Running, Verdict::Ok, 61.0, Word::Late, Level::Watch),
            (State::Running, Verdict::Slow, 61.0, Word::Slow, Level::Watch),
            (State::Running, Verdict::Rewound, 0.0, Word::Rewound, Level::Watch),
            (State::Running, Verdict::Stalled, 0.0, Word::Stalled, Level::Bad),
            (State::Running, Verdict::Blocked, 75.0, Word::Blocked, Level::Bad),
            (State::Opening, Verdict::Ok, 0.0, Word::Opening, Level::Still),
            (State::Retrying, Verdict::Ok, 0.0, Word::Retrying, Level::Watch),
            (State::Retrying, Verdict::Stopped, 0.0, Word::Stopped, Level::Bad),
            (State::Paused, Verdict::Paused, 900.0, Word::Paused, Level::Still),
            (State::Held, Verdict::Paused, 900.0, Word::Held, Level::Still),
            (State::Halted, Verdict::Stopped, 0.0, Word::Halted, Level::Bad),
            (State::Stopped, Verdict::Stopped, 0.0, Word::Stopped, Level::Bad),
        ];
        for (state, verdict, lag, word, level) in rows {
            let mut lane = lanes().remove(0);
            (lane.state, lane.verdict, lane.lag_seconds) = (state, verdict, lag);
            assert_eq!((Word::of(&lane), word.level()), (word, level), "{state:?} {verdict:?} {lag}");
        }
    }

    #[test]
    fn every_word_is_said_in_both_languages() {
        for word in Word::ALL {
            assert!(word.name(Lang::En).is_ascii());
            assert!(!word.name(Lang::Zh).is_ascii(), "{word:?}");
        }
        for one in State::ALL {
            assert!(state(one, Lang::En) == one.name() && !state(one, Lang::Zh).is_ascii());
        }
        for one in Verdict::ALL {
            assert!(verdict(one, Lang::En) == one.name() && !verdict(one, Lang::Zh).is_ascii());
        }
    }
}
