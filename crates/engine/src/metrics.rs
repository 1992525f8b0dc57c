//! Every metric of Hutong, one function a fact.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hutong_core::{Batch, Error, ErrorKind, Kind, LaneId, Op, PipelineId, Result, ResultExt};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::certificates::Certificates;
use crate::latency::Latency;
use crate::ledgered::Ledgered;
use crate::parts::Parts;
use crate::produced::{Outcome, Produced};
use crate::runtime::Runtime;
use crate::stand::Stand;
use crate::status::{LaneStatus, State, now_us};
use crate::verdict::Verdict;
use crate::verified::Verified;

/// The kinds of errors after which a lane opens again: a closed set, as above.
const RETRIED: [ErrorKind; 2] = [ErrorKind::Unavailable, ErrorKind::Unknown];

/// Returns the rules by which a pipeline may drop a change: closed sets, so that every series is there from the start.
fn drop_rules(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Capture => &["outside_contract", "suspended", "reloaded", "asked_locked", "asked_denied"],
        Kind::Replicate | Kind::Deliver => &["filtered", "outside_grant"],
        Kind::Receipt => &[],
    }
}

/// The rules by which it may drop what another program has written into its topic, beside those above.
const FOREIGN: [&str; 3] = ["duplicate", "message", "tombstone"];

/// The rule by which the permit step sets a change aside that it cannot decide about.
const UNDECIDED: &str = "unknown_value";

/// What may happen to a captured row: a closed set.
const OPERATIONS: [(Op, &str); 5] = [
    (Op::Read, "read"),
    (Op::Insert, "insert"),
    (Op::Update, "update"),
    (Op::Delete, "delete"),
    (Op::Truncate, "truncate"),
];

/// The metrics of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    committed: IntCounterVec,
    dropped: IntCounterVec,
    quarantined: IntCounterVec,
    captured: IntCounterVec,
    policy_errors: IntCounterVec,
    retries: IntCounterVec,
    commit_seconds: HistogramVec,
    lag_seconds: GaugeVec,
    lag_changes: IntGaugeVec,
    lag_bytes: IntGaugeVec,
    waiting: IntGaugeVec,
    state: IntGaugeVec,
    verdict: IntGaugeVec,
    freshness_target: GaugeVec,
    headroom: GaugeVec,
    retention: GaugeVec,
    last_applied: GaugeVec,
    configured: IntGaugeVec,
    latency: Latency,
    parts: Parts,
    verified: Verified,
    ledgered: Ledgered,
    certificates: Certificates,
    stand: Stand,
    produced: Produced,
    runtime: Runtime,
    /// Held while the gauges of lanes are told anew.
    told: Mutex<()>,
}

impl Metrics {
    /// Makes the metrics with a registry of their own.
    pub fn new() -> Result<Self> {
        Self::build().or_kind(ErrorKind::Broken, || "register metrics".into())
    }

    fn build() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("hutong".into()), None)?;
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let committed =
            counter("changes_committed_total", "Changes committed to the pipeline's sink.", &["pipeline"])?;
        let dropped = counter(
            "changes_dropped_total",
            "Changes dropped by a named rule: `filtered`, `outside_contract`, `outside_grant`, `suspended` (the \
             table no longer fits), `reloaded`, `asked_locked` and `asked_denied` (rows that a repair asked for and that \
             could not be read); of a topic that another program writes also `duplicate` (the same change of a row \
             again), `tombstone` and `message`.",
            &["pipeline", "rule"],
        )?;
        let quarantined =
            counter("changes_quarantined_total", "Changes set aside with a reason.", &["pipeline"])?;
        let captured = counter(
            "changes_captured_total",
            "Changes that a capture has brought to the stream, by what happened to the row: `read` (by a snapshot), `insert`, \
             `update`, `delete`, `truncate`.",
            &["stream", "operation"],
        )?;
        let policy_errors = counter(
            "policy_errors_total",
            "Changes about which the subscription's grant could not decide, and grants that could not be applied at \
             all. What it has decided is told by `hutong_changes_committed_total` and, as `filtered` and \
             `outside_grant`, by `hutong_changes_dropped_total`.",
            &["pipeline"],
        )?;
        let retries = counter(
            "retries_total",
            "Times that a lane had to open again, by what went wrong: `unavailable`, `unknown_outcome`.",
            &["pipeline", "kind"],
        )?;
        let lag_changes =
            gauge("lag_changes", "Changes behind the origin, as far as known.", &["pipeline", "partition"])?;
        let lag_bytes = gauge("lag_bytes", "Bytes of the origin's log behind.", &["pipeline", "partition"])?;
        let waiting = gauge("quarantine_waiting", "Items that wait in the quarantine now.", &["pipeline"])?;
        let state = gauge(
            "lane_state",
            "How many of the pipeline's lanes are in the state: `opening`, `running`, `retrying`, `paused` (or \
             held: nothing may flow), `halted`, `stopped`.",
            &["pipeline", "state"],
        )?;
        let verdict = gauge(
            "lane_verdict",
            "How many of the pipeline's lanes have the verdict over the last twelve watermarks: `ok`, `slow` (moves, \
             and falls further behind), `stalled` (nothing passes), `stopped` (does not run), `blocked` (a transaction was left open on \
             its topic), `rewound` (reads again), `paused` (a person has paused it, or nothing may flow).",
            &["pipeline", "verdict"],
        )?;
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            let family = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let freshness_target = seconds(
            "freshness_target_seconds",
            "How fresh the subscription promises to be: its `freshness` in the configuration.",
            &["pipeline"],
        )?;
        let headroom = seconds(
            "retention_headroom_seconds",
            "How long the topic keeps, at least, what the subscription has not read; the lowest of its lanes.",
            &["pipeline"],
        )?;
        let retention = seconds(
            "retention_seconds",
            "How long the topics keep what is older than their base: `[bus] history`.",
            &[],
        )?;
        let last_applied = seconds(
            "last_applied_timestamp_seconds",
            "When the pipeline last committed a change, since 1970; 0 when it has not since the process started.",
            &["pipeline"],
        )?;
        let configured = gauge(
            "lanes_configured",
            "How many lanes the pipeline has in this process's configuration, whichever process runs them.",
            &["pipeline"],
        )?;
        let (latency, parts) = (Latency::new(&registry)?, Parts::new(&registry)?);
        let (verified, ledgered) = (Verified::new(&registry)?, Ledgered::new(&registry)?);
        let (certificates, stand) = (Certificates::new(&registry)?, Stand::new(&registry)?);
        let (produced, runtime) = (Produced::new(&registry)?, Runtime::new(&registry)?);
        let lag_seconds = seconds(
            "lag_seconds",
            "Seconds behind the origin: 0 when the newest watermark is young and passed, else the age of the first \
             change that has not passed, or of the last sign that everything had.",
            &["pipeline", "partition"],
        )?;
        // Few: there are as many as pipelines, and how long changes take is told by stream.
        let buckets = vec![0.1, 1.0];
        let commit_seconds = HistogramVec::new(
            HistogramOpts::new(
                "commit_seconds",
                "Time that one commit of the sink took; `_count` is how many there were.",
            )
            .buckets(buckets),
            &["pipeline"],
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        let families = Families {
            registry,
            committed,
            dropped,
            quarantined,
            captured,
            policy_errors,
            retries,
            commit_seconds,
            lag_seconds,
            lag_changes,
            lag_bytes,
            waiting,
            state,
            verdict,
            freshness_target,
            headroom,
            retention,
            last_applied,
            configured,
            latency,
            parts,
            verified,
            ledgered,
            certificates,
            stand,
            produced,
            runtime,
            told: Mutex::default(),
        };
        Ok(Self(Arc::new(families)))
    }

    /// Returns what the comparisons of the process found.
    pub fn verified(&self) -> &Verified {
        &self.0.verified
    }

    /// Returns how the process stands to the ledger.
    pub fn ledgered(&self) -> &Ledgered {
        &self.0.ledgered
    }

    /// Returns when the certificates end that the configuration names.
    pub fn certificates(&self) -> &Certificates {
        &self.0.certificates
    }

    /// Makes the series of a captured stream visible, at zero.
    pub fn stream_captured(&self, stream: &str) {
        for (_, operation) in OPERATIONS {
            self.0.captured.with_label_values(&[stream, operation]);
        }
    }

    /// Makes every series of a lane visible, at zero.
    pub fn lane_added(&self, lane: &LaneId) {
        let pipeline = lane.pipeline.to_string();
        let m = &self.0;
        for family in [&m.committed, &m.quarantined] {
            family.with_label_values(&[&pipeline]);
        }
        for kind in RETRIED {
            m.retries.with_label_values(&[pipeline.as_str(), kind.name()]);
        }
        for rule in drop_rules(lane.pipeline.kind) {
            m.dropped.with_label_values(&[pipeline.as_str(), rule]);
        }
        if matches!(lane.pipeline.kind, Kind::Replicate | Kind::Deliver) {
            m.policy_errors.with_label_values(&[&pipeline]);
        }
        m.commit_seconds.with_label_values(&[&pipeline]);
        m.produced.added(&lane.pipeline);
    }

    /// Makes the series visible, at zero, of a lane whose topic another program writes.
    pub fn foreign_added(&self, lane: &LaneId) {
        let pipeline = lane.pipeline.to_string();
        for rule in FOREIGN {
            self.0.dropped.with_label_values(&[pipeline.as_str(), rule]);
        }
    }

    /// Counts how a commit of a lane into topics ended; of another lane it tells nothing.
    pub(crate) fn produced<T>(&self, lane: &LaneId, commit: &Result<T>) {
        self.0.produced.ended(&lane.pipeline, Outcome::of(commit));
    }

    /// Tells how many lanes a pipeline has by the configuration.
    pub fn lanes_configured(&self, pipeline: &PipelineId, lanes: u32) {
        self.0.configured.with_label_values(&[&pipeline.to_string()]).set(i64::from(lanes));
    }

    /// Counts a commit and how long it took.
    pub fn committed(&self, lane: &LaneId, changes: u64, quarantined: u64, took: Duration) {
        let pipeline = lane.pipeline.to_string();
        self.0.committed.with_label_values(&[&pipeline]).inc_by(changes);
        self.0.quarantined.with_label_values(&[&pipeline]).inc_by(quarantined);
        self.0.commit_seconds.with_label_values(&[&pipeline]).observe(took.as_secs_f64());
    }

    /// Counts by stream what a commit of a capture has brought into topics, and what a grant could not decide about.
    pub fn told(&self, lane: &LaneId, batch: &Batch) {
        if lane.pipeline.kind != Kind::Capture {
            let undecided = batch.rejected.iter().filter(|rejected| rejected.rule == UNDECIDED).count();
            if undecided > 0 {
                let pipeline = lane.pipeline.to_string();
                self.0.policy_errors.with_label_values(&[&pipeline]).inc_by(undecided as u64);
            }
            return;
        }
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for change in &batch.changes {
            let operation = OPERATIONS.iter().find(|(op, _)| *op == change.op).map_or("", |(_, word)| word);
            *counts.entry((change.contract.stream.as_str(), operation)).or_default() += 1;
        }
        for ((stream, operation), count) in counts {
            self.0.captured.with_label_values(&[stream, operation]).inc_by(count);
        }
    }

    /// Counts a grant that could not be applied at all.
    pub fn policy_failed(&self, lane: &LaneId) {
        self.0.policy_errors.with_label_values(&[&lane.pipeline.to_string()]).inc();
    }

    /// Counts changes that a named rule dropped (I3).
    pub fn dropped(&self, lane: &LaneId, rule: &str, count: u64) {
        self.0.dropped.with_label_values(&[lane.pipeline.to_string().as_str(), rule]).inc_by(count);
    }

    /// Counts an attempt that failed.
    pub fn retried(&self, lane: &LaneId, kind: ErrorKind) {
        self.0.retries.with_label_values(&[lane.pipeline.to_string().as_str(), kind.name()]).inc();
    }

    /// Returns the histograms of how long changes are on their way.
    pub fn latency(&self) -> &Latency {
        &self.0.latency
    }

    /// Returns what stands around the lanes.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Returns every family of metrics that has a series, as it stands now.
    pub fn families(&self, lanes: &[LaneStatus]) -> Vec<MetricFamily> {
        let _told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget();
        self.show(lanes);
        let machine = self.0.runtime.families();
        let mut families = self.0.registry.gather();
        families.extend(machine);
        families
    }

    /// Forgets the gauges of all lanes: one that another process runs now is not to be seen here as it was.
    fn forget(&self) {
        let m = &self.0;
        m.stand.forget();
        [&m.lag_changes, &m.lag_bytes, &m.waiting, &m.state, &m.verdict].into_iter().for_each(|g| g.reset());
        let seconds = [&m.lag_seconds, &m.freshness_target, &m.headroom, &m.retention, &m.last_applied];
        seconds.into_iter().for_each(|g| g.reset());
    }

    /// Returns the text that Prometheus scrapes, with the lanes as they stand now.
    pub fn scrape(&self, lanes: &[LaneStatus]) -> Result<String> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.families(lanes), &mut text)
            .or_kind(ErrorKind::Broken, || "write metrics".into())?;
        String::from_utf8(text).map_err(|e| Error::caused(ErrorKind::Broken, "write metrics", e))
    }

    fn show(&self, lanes: &[LaneStatus]) {
        for lane in lanes {
            let partition = lane.lane.rsplit('.').next().unwrap_or("0");
            let labels = [lane.pipeline.as_str(), partition];
            self.0.lag_seconds.with_label_values(&labels).set(lane.lag_seconds);
            // What is not known is not shown: a zero would be taken for "none", and an old number for a new one.
            let known = [(&self.0.lag_changes, lane.lag_changes), (&self.0.lag_bytes, lane.lag_bytes)];
            for (gauge, count) in known {
                match count {
                    Some(count) => {
                        gauge.with_label_values(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
                    }
                    // An error says that it was not shown before.
                    None => drop(gauge.remove_label_values(&labels)),
                }
            }
        }
        self.0.stand.show(lanes, now_us());
        let none: [&str; 0] = [];
        if let Some(history) = lanes.iter().find_map(|lane| lane.history_seconds) {
            self.0.retention.with_label_values(&none).set(history);
        }
        for (pipeline, lanes) in by_pipeline(lanes) {
            self.show_pipeline(pipeline, &lanes);
        }
    }

    /// A hundred subscriptions of four lanes would have thousands of series by lane: which lane it is, status tells.
    fn show_pipeline(&self, pipeline: &str, lanes: &[&LaneStatus]) {
        let m = &self.0;
        let count = |of: &dyn Fn(&LaneStatus) -> bool| lanes.iter().filter(|lane| of(lane)).count() as i64;
        for state in State::ALL.into_iter().filter(|state| *state != State::Held) {
            // Either is as people would have it; which it is, status tells.
            let held = |lane: &LaneStatus| state == State::Paused && lane.state == State::Held;
            let lanes = count(&|lane| lane.state == state || held(lane));
            m.state.with_label_values(&[pipeline, state.name()]).set(lanes);
        }
        // Lanes that have not opened yet do not know what waits.
        if lanes.iter().any(|lane| lane.waiting.is_some()) {
            let waiting: u64 = lanes.iter().filter_map(|lane| lane.waiting).sum();
            m.waiting.with_label_values(&[pipeline]).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        for verdict in Verdict::ALL {
            let lanes = count(&|lane| lane.verdict == verdict);
            m.verdict.with_label_values(&[pipeline, verdict.name()]).set(lanes);
        }
        if let Some(target) = lanes.iter().find_map(|lane| lane.freshness_seconds) {
            m.freshness_target.with_label_values(&[pipeline]).set(target);
        }
        if let Some(headroom) = lanes.iter().filter_map(|lane| lane.headroom_seconds).reduce(f64::min) {
            m.headroom.with_label_values(&[pipeline]).set(headroom);
        }
        let applied_us = lanes.iter().filter_map(|lane| lane.applied_us).max().unwrap_or(0);
        m.last_applied.with_label_values(&[pipeline]).set(applied_us as f64 / 1e6);
    }
}

fn by_pipeline(lanes: &[LaneStatus]) -> BTreeMap<&str, Vec<&LaneStatus>> {
    let mut pipelines: BTreeMap<&str, Vec<&LaneStatus>> = BTreeMap::new();
    for lane in lanes {
        pipelines.entry(&lane.pipeline).or_default().push(lane);
    }
    pipelines
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
