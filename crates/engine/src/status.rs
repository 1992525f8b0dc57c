//! What each lane is doing, for people and for metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hutong_core::snapshot::{Progress, Suspended};
use hutong_core::{Behind, Checkpoint, Class, Error, LaneId, Loss, Pause, Position};
use serde::{Deserialize, Serialize};

use crate::lag::{self, Standing};
pub use crate::promise::Promise;
use crate::rate::Window;
use crate::reason::{Left, Reason};
use crate::verdict::{Sample, Verdict, Window as Looks};

/// What a lane is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It takes its sink over and asks where it stands.
    Opening,
    /// It moves changes, or waits for some.
    Running,
    /// It waits before it opens again.
    Retrying,
    /// A person has paused it.
    Paused,
    /// Nothing may flow through it, by what the departments have said or have yet to say.
    Held,
    /// It stopped by itself: a person must act.
    Halted,
    /// It was asked to stop, or its bounded source has ended.
    Stopped,
}

impl State {
    /// All states, for metrics that show every series from the start.
    pub const ALL: [Self; 7] =
        [Self::Opening, Self::Running, Self::Retrying, Self::Paused, Self::Held, Self::Halted, Self::Stopped];

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Halted => "halted",
            Self::Stopped => "stopped",
        }
    }
}

/// One lane as `hutong status` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// The lane's name.
    pub lane: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// What it is doing.
    pub state: State,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// Seconds behind its origin.
    pub lag_seconds: f64,
    /// Changes behind its origin, when the source can tell.
    pub lag_changes: Option<u64>,
    /// Bytes of its origin's log behind, where only bytes can be told.
    pub lag_bytes: Option<u64>,
    /// Whether it has opened since the process started.
    pub opened: bool,
    /// Changes committed since the process started.
    pub committed: u64,
    /// Changes a second over the last seconds.
    pub rate: f64,
    /// Changes dropped since the process started, by rule.
    pub dropped: BTreeMap<String, u64>,
    /// Changes quarantined since the process started.
    pub quarantined: u64,
    /// Items that wait in the quarantine now, when the sink can tell.
    #[serde(default)]
    pub waiting: Option<u64>,
    /// Since when the oldest of them waits, microseconds since 1970 UTC; `None` when none waits, or nobody can tell.
    #[serde(default)]
    pub oldest_us: Option<i64>,
    /// Attempts since the last success.
    pub attempts: u32,
    /// The last error, when the lane is not well.
    pub error: Option<String>,
    /// What a person must do about it.
    pub hint: Option<String>,
    /// Where it stands, by partition. The checkpoint's notes are not shown: a snapshot's holds a row's key.
    pub positions: BTreeMap<String, Position>,
    /// How far its snapshots have come.
    pub snapshots: Vec<Progress>,
    /// The versions of the schemas by which it writes topics, by topic.
    #[serde(default)]
    pub schemas: BTreeMap<String, u32>,
    /// The tables whose changes are dropped, and why.
    #[serde(default)]
    pub suspended: Vec<Suspended>,
    /// Since when it is paused, by whom and why, when it is.
    #[serde(default)]
    pub pause: Option<Pause>,
    /// The last loss that a person has accepted for it.
    #[serde(default)]
    pub last_loss: Option<Loss>,
    /// What is to be thought of it.
    #[serde(default)]
    pub verdict: Verdict,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
    /// The same in Chinese; empty from an older process.
    #[serde(default)]
    pub reason_zh: String,
    /// The kind of the last error, when the lane is not well.
    #[serde(default)]
    pub kind: Option<String>,
    /// How fresh it promises to be, where it promises anything.
    #[serde(default)]
    pub freshness_seconds: Option<f64>,
    /// How long the topic keeps, at least, what the lane has not read.
    #[serde(default)]
    pub headroom_seconds: Option<f64>,
    /// How long its topic keeps what is older than the base.
    #[serde(default)]
    pub history_seconds: Option<f64>,
    /// When it last committed a change, microseconds since 1970 UTC; `None` when it has not since the process started.
    #[serde(default)]
    pub applied_us: Option<i64>,
}

/// One lane's entry on the board. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    id: LaneId,
    interval_us: i64,
    opened: bool,
    bytes: Option<u64>,
    state: State,
    since_us: i64,
    standing: Standing,
    committed: u64,
    window: Window,
    dropped: BTreeMap<String, u64>,
    quarantined: u64,
    waiting: Option<u64>,
    oldest_us: Option<i64>,
    attempts: u32,
    problem: Option<(String, Option<String>)>,
    kind: Option<&'static str>,
    checkpoint: Checkpoint,
    promise: Promise,
    looks: Looks,
    schemas: BTreeMap<String, u32>,
    left: Option<Left>,
    /// When it began to fill, if that was in this process.
    begun_us: Option<i64>,
    /// How many changes wait for a lane that does not read, as who looks has found.
    unread: Option<u64>,
    applied_us: Option<i64>,
}

impl Inner {
    fn lag_seconds(&self, now_us: i64) -> f64 {
        let Standing { waiting_us, count, .. } = self.standing;
        if self.promise.unmarked
            && self.state == State::Running
            && waiting_us.is_none()
            && count.unwrap_or(0) == 0
        {
            // All that can be known is that it has been read to its end.
            return 0.0;
        }
        lag::seconds(&Standing { count: self.count(), ..self.standing }, now_us, self.interval_us)
    }

    /// Returns how many changes wait: what the lane knows itself, or who looks while it does not read.
    fn count(&self) -> Option<u64> {
        self.standing.count.max(self.unread)
    }

    /// States whether it reads the base for the first time, and has come to no watermark since.
    fn fills(&self) -> bool {
        self.begun_us.is_some() && self.standing.complete_to_us.is_none()
    }

    fn sample(&self, now_us: i64) -> Sample {
        let passed = self.committed + self.quarantined + self.dropped.values().sum::<u64>();
        let lag_seconds = self.lag_seconds(now_us);
        let (waiting, reads) = (self.count(), self.standing.waiting_us.is_some());
        Sample { at_us: now_us, state: self.state, passed, lag_seconds, waiting, reads }
    }
}

impl Entry {
    /// Makes the entry of a lane that has not opened yet.
    pub(crate) fn new(id: LaneId, interval_us: i64, now_us: i64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            id,
            interval_us,
            opened: false,
            bytes: None,
            state: State::Opening,
            since_us: now_us,
            standing: Standing { started_us: now_us, ..Standing::default() },
            committed: 0,
            window: Window::default(),
            dropped: BTreeMap::new(),
            quarantined: 0,
            waiting: None,
            oldest_us: None,
            attempts: 0,
            problem: None,
            kind: None,
            checkpoint: Checkpoint::default(),
            promise: Promise::default(),
            looks: Looks::new(interval_us),
            schemas: BTreeMap::new(),
            left: None,
            begun_us: None,
            unread: None,
            applied_us: None,
        })))
    }

    /// Notes up to when everything had been passed before this process.
    pub(crate) fn began_before(&self, us: i64) {
        let started_us = &mut self.lock().standing.started_us;
        *started_us = us.min(*started_us);
    }

    /// Returns up to when everything has been passed, as far as anybody knows.
    pub(crate) fn passed_to_us(&self) -> i64 {
        let Standing { passed_us, complete_to_us, started_us, .. } = self.lock().standing;
        passed_us.max(complete_to_us).unwrap_or(started_us)
    }

    /// Returns the lane's name.
    pub(crate) fn id(&self) -> LaneId {
        self.lock().id.clone()
    }

    /// Notes the transaction that stands open on the topic, or that there is none.
    pub(crate) fn left(&self, left: Option<Left>) {
        self.lock().left = left;
    }

    /// States whether it has opened and does not read now.
    pub(crate) fn rests(&self) -> bool {
        let inner = self.lock();
        inner.state != State::Running && !inner.checkpoint.positions.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while counting leaves counts that are still worth showing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the lane is doing now.
    pub(crate) fn state(&self, state: State, now_us: i64) {
        let mut inner = self.lock();
        if state == State::Running {
            inner.unread = None;
        }
        if inner.state != state {
            inner.state = state;
            inner.since_us = now_us;
        }
    }

    /// Notes what is promised of the lane.
    pub fn promise(&self, promise: Promise) {
        self.lock().promise = promise;
    }

    /// Notes which version of its schema a topic is written by.
    pub fn schema(&self, topic: &str, version: u32) {
        self.lock().schemas.insert(topic.to_owned(), version);
    }

    /// Notes where the lane stands after it was opened.
    pub(crate) fn opened(&self, checkpoint: &Checkpoint, now_us: i64) {
        let mut inner = self.lock();
        inner.opened = true;
        if inner.checkpoint.positions.iter().any(|(partition, at)| checkpoint.position(partition) < *at) {
            // What it knew of its freshness is not true of the place where it stands now.
            inner.looks.rewound(now_us);
            inner.standing = Standing { started_us: now_us, ..Standing::default() };
        }
        if checkpoint.is_empty() && inner.begun_us.replace(now_us).is_none() {
            inner.standing.started_us = now_us;
        }
        // A capture told it with its last commit: after a restart it is as far behind as it was before.
        let told = checkpoint.note("complete_to_us").and_then(|us| us.parse().ok());
        inner.standing.complete_to_us = inner.standing.complete_to_us.max(told);
        inner.checkpoint = checkpoint.clone();
    }

    /// Notes that the lane is paused. What it knew of its lag goes on to age; how much waits, nobody counts meanwhile.
    pub(crate) fn paused(&self, pause: &Pause, now_us: i64) {
        let mut inner = self.lock();
        inner.state = State::Paused;
        // Of a later form, or of a clock ahead.
        inner.since_us = if (1..now_us).contains(&pause.since_us) { pause.since_us } else { now_us };
        // After a restart nothing is known but that nothing has passed since the pause.
        let since_us = inner.since_us;
        inner.standing.complete_to_us.get_or_insert(since_us);
        inner.standing.count = None;
        inner.bytes = None;
        inner.attempts = 0;
        inner.problem = None;
        inner.kind = None;
    }

    /// Returns when the lane began to fill an empty sink, if that was in this process.
    pub(crate) fn begun_us(&self) -> Option<i64> {
        self.lock().begun_us
    }

    /// Notes that a batch is read and not yet committed; `first_us` is its oldest change's commit time, by its source's
    /// clock: if that is ahead, it counts from now on.
    pub(crate) fn reading(&self, first_us: Option<i64>, now_us: i64) {
        self.lock().standing.waiting_us = first_us.map(|us| us.min(now_us));
    }

    /// States whether it does not read now and something of it is set aside.
    pub(crate) fn sets_aside(&self) -> bool {
        let inner = self.lock();
        inner.state != State::Running && inner.waiting.is_some_and(|waiting| waiting > 0)
    }

    /// Notes how many items of a lane that does not read now are set aside.
    pub(crate) fn waits(&self, waiting: u64) {
        let mut inner = self.lock();
        inner.waiting = Some(waiting);
        inner.oldest_us = inner.oldest_us.filter(|_| waiting > 0);
    }

    /// Notes where a partition ends that the lane does not read now: so much waits. `markers`: each transaction has one
    /// more record there that nobody sees.
    pub(crate) fn ends(&self, partition: &str, end: u64, markers: bool) {
        let mut inner = self.lock();
        let at = inner.checkpoint.positions.get(partition).and_then(|at| at.as_offset());
        let Some(at) = at.filter(|_| inner.state != State::Running) else { return };
        let behind = end.saturating_sub(at).saturating_sub(u64::from(markers));
        inner.unread = Some(behind);
    }

    /// Notes a commit.
    pub(crate) fn passed(&self, passed: &Passed<'_>, now_us: i64) {
        let mut inner = self.lock();
        inner.committed += passed.committed;
        inner.window.add(now_us, passed.committed);
        inner.quarantined += passed.quarantined;
        if passed.waiting.is_some() {
            (inner.waiting, inner.oldest_us) = (passed.waiting, passed.oldest_us);
        }
        for (rule, count) in passed.dropped {
            *inner.dropped.entry((*rule).to_owned()).or_default() += count;
        }
        inner.standing.waiting_us = None;
        inner.standing.count = passed.behind.count;
        inner.unread = None;
        inner.bytes = passed.behind.bytes;
        let newest_us = passed.newest_us.map(|us| us.min(now_us));
        inner.standing.passed_us = inner.standing.passed_us.max(newest_us);
        inner.standing.complete_to_us = inner.standing.complete_to_us.max(passed.behind.complete_to_us);
        inner.checkpoint = passed.checkpoint.clone();
        inner.attempts = 0;
        inner.problem = None;
        inner.kind = None;
        if passed.committed > 0 {
            inner.applied_us = Some(now_us);
        }
        if inner.state != State::Running {
            inner.state = State::Running;
            inner.since_us = now_us;
        }
    }

    /// Notes that the lane halted before it began, whatever the kind of the error.
    pub fn halted(&self, error: &Error, now_us: i64) {
        self.failed(error, 0, now_us);
        self.state(State::Halted, now_us);
    }

    /// Notes that nothing may flow through the lane, why, and since when, where somebody has said when.
    pub fn held(&self, why: &Error, since_us: Option<i64>, now_us: i64) {
        self.failed(why, 0, now_us);
        let mut inner = self.lock();
        inner.state = State::Held;
        // Said by another department's clock, which may be ahead.
        inner.since_us = since_us.filter(|us| (1..now_us).contains(us)).unwrap_or(now_us);
    }

    /// Notes an error, and what follows from it.
    pub(crate) fn failed(&self, error: &Error, attempts: u32, now_us: i64) {
        let mut inner = self.lock();
        inner.attempts = attempts;
        inner.problem = Some((error.to_string(), error.hint.clone()));
        inner.kind = Some(error.kind.name());
        let state = if error.class() == Class::Retry { State::Retrying } else { State::Halted };
        if inner.state != state {
            inner.state = state;
            inner.since_us = now_us;
        }
    }

    /// Returns the lane as it is shown.
    pub fn status(&self, now_us: i64) -> LaneStatus {
        let inner = self.lock();
        let lag_seconds = inner.lag_seconds(now_us);
        let (verdict, reason) = inner.looks.judge(inner.sample(now_us), inner.left.as_ref());
        let cure = match &reason {
            Reason::Open(left, _) => Some(left.hint.clone()),
            _ => None,
        };
        let caught_up = inner.state == State::Running && inner.standing.count == Some(0);
        LaneStatus {
            lane: inner.id.to_string(),
            pipeline: inner.id.pipeline.to_string(),
            state: inner.state,
            since_us: inner.since_us,
            lag_seconds,
            lag_changes: inner.count(),
            lag_bytes: inner.bytes,
            opened: inner.opened,
            committed: inner.committed,
            rate: inner.window.rate(now_us),
            dropped: inner.dropped.clone(),
            quarantined: inner.quarantined,
            waiting: inner.waiting,
            oldest_us: inner.oldest_us,
            attempts: inner.attempts,
            error: inner.problem.as_ref().map(|(text, _)| text.clone()),
            hint: inner.problem.as_ref().map_or(cure, |(_, hint)| hint.clone()),
            positions: inner.checkpoint.positions.clone(),
            snapshots: inner.checkpoint.snapshots(),
            schemas: inner.schemas.clone(),
            suspended: inner.checkpoint.suspended(),
            pause: inner.checkpoint.pause(),
            last_loss: inner.checkpoint.losses().pop(),
            verdict,
            reason: reason.en(),
            reason_zh: reason.zh(),
            kind: inner.kind.map(str::to_owned),
            freshness_seconds: inner.promise.freshness.map(|target| target.as_secs_f64()),
            // What is unread is no older than the lag; nothing younger than `history` is trimmed, nor the base that fills it.
            headroom_seconds: inner.promise.history.map(|history| {
                let old = if caught_up || inner.fills() { 0.0 } else { lag_seconds };
                (history.as_secs_f64() - old).max(0.0)
            }),
            history_seconds: inner.promise.history.map(|history| history.as_secs_f64()),
            applied_us: inner.applied_us,
        }
    }

    /// States whether it runs and is behind by more than its watermarks are apart.
    pub(crate) fn is_behind(&self, now_us: i64) -> bool {
        let inner = self.lock();
        let tolerated = 2.0 * inner.interval_us.max(lag::SHORTEST_INTERVAL_US) as f64 / 1e6;
        inner.state == State::Running && inner.lag_seconds(now_us) > tolerated
    }

    /// Takes a look for the verdict's window.
    pub(crate) fn look(&self, now_us: i64) {
        let mut inner = self.lock();
        let sample = inner.sample(now_us);
        inner.looks.take(sample);
    }
}

/// What a commit has passed.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    pub(crate) committed: u64,
    pub(crate) quarantined: u64,
    pub(crate) waiting: Option<u64>,
    pub(crate) oldest_us: Option<i64>,
    pub(crate) dropped: &'a BTreeMap<&'static str, u64>,
    pub(crate) newest_us: Option<i64>,
    pub(crate) behind: Behind,
    pub(crate) checkpoint: &'a Checkpoint,
}

/// Returns the wall clock, microseconds since 1970 UTC.
pub fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
#[path = "status_test.rs"]
mod tests;
