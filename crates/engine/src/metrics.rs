//! Every metric of Hutong, one function a fact.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result, ResultExt};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::latency::Latency;
use crate::parts::Parts;
use crate::status::{LaneStatus, State};
use crate::verdict::Verdict;
use crate::verified::Verified;

/// The kinds of errors after which a lane opens again: a closed set, as above.
const RETRIED: [ErrorKind; 2] = [ErrorKind::Unavailable, ErrorKind::Unknown];

/// The rules that may drop a change: a closed set, so that every series is there from the start.
pub const DROP_RULES: [&str; 7] =
    ["filtered", "outside_contract", "outside_grant", "suspended", "reloaded", "tombstone", "message"];

/// The metrics of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    committed: IntCounterVec,
    dropped: IntCounterVec,
    quarantined: IntCounterVec,
    commits: IntCounterVec,
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
             table no longer fits), `reloaded`, `tombstone`, `message`.",
            &["pipeline", "rule"],
        )?;
        let quarantined =
            counter("changes_quarantined_total", "Changes set aside with a reason.", &["pipeline"])?;
        let commits =
            counter("commits_total", "Transactions committed to the pipeline's sink.", &["pipeline"])?;
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
             and falls further behind), `stalled` (nothing passes), `stopped` (does not run), `rewound` (reads again), \
             `paused` (a person has paused it, or nothing may flow).",
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
            "How long the topic that the subscription reads keeps what is older than its base: `[bus] history`.",
            &["pipeline"],
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
        let verified = Verified::new(&registry)?;
        let lag_seconds = seconds(
            "lag_seconds",
            "Seconds behind the origin: 0 when the newest watermark is young and passed, else the age of the first \
             change that has not passed, or of the last sign that everything had.",
            &["pipeline", "partition"],
        )?;
        // Few: there are as many as pipelines, and how long changes take is told by stream.
        let buckets = vec![0.01, 0.1, 1.0, 10.0];
        let commit_seconds = HistogramVec::new(
            HistogramOpts::new("commit_seconds", "Time that one commit of the sink took.").buckets(buckets),
            &["pipeline"],
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        let families = Families {
            registry,
            committed,
            dropped,
            quarantined,
            commits,
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
            told: Mutex::default(),
        };
        Ok(Self(Arc::new(families)))
    }

    /// Returns what the comparisons of the process found.
    pub fn verified(&self) -> &Verified {
        &self.0.verified
    }

    /// Makes every series of a lane visible, at zero.
    pub fn lane_added(&self, lane: &LaneId) {
        let pipeline = lane.pipeline.to_string();
        let m = &self.0;
        for family in [&m.committed, &m.quarantined, &m.commits] {
            family.with_label_values(&[&pipeline]);
        }
        for kind in RETRIED {
            m.retries.with_label_values(&[pipeline.as_str(), kind.name()]);
        }
        for rule in DROP_RULES {
            m.dropped.with_label_values(&[pipeline.as_str(), rule]);
        }
        m.commit_seconds.with_label_values(&[&pipeline]);
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
        self.0.commits.with_label_values(&[&pipeline]).inc();
        self.0.commit_seconds.with_label_values(&[&pipeline]).observe(took.as_secs_f64());
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
        self.0.registry.gather()
    }

    /// Forgets the gauges of all lanes: one that another process runs now is not to be seen here as it was.
    fn forget(&self) {
        let m = &self.0;
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
        if let Some(history) = lanes.iter().find_map(|lane| lane.history_seconds) {
            m.retention.with_label_values(&[pipeline]).set(history);
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
mod tests {
    use std::time::Instant;

    use hutong_core::Kind;

    use super::*;
    use crate::status::{Board, Promise, now_us};

    #[test]
    fn a_lane_that_another_process_runs_is_not_told_any_more() {
        let (board, metrics) = (Board::new(), Metrics::new().unwrap());
        let ids = [0, 1].map(|partition| LaneId::new(PipelineId::new(Kind::Replicate, "a"), partition));
        ids.iter().for_each(|id| drop(board.add(id.clone(), 5_000_000, now_us())));
        let told = || metrics.scrape(&board.status(now_us())).unwrap();
        assert!(told().contains(r#"hutong_lane_state{pipeline="replicate.a",state="opening"} 2"#));
        board.remove(&ids[0]);
        let text = told();
        assert!(text.contains(r#"hutong_lane_state{pipeline="replicate.a",state="opening"} 1"#), "{text}");
        assert!(!text.contains(r#"hutong_lag_seconds{partition="0""#), "{text}");
        board.remove(&ids[1]);
        let text = told();
        assert!(!text.contains("hutong_lane_state{") && !text.contains("hutong_lag_seconds{"), "{text}");
    }

    #[test]
    fn a_hundred_subscriptions_stay_under_five_thousand_series() {
        let (board, metrics) = (Board::new(), Metrics::new().unwrap());
        let pipeline = |kind, n| PipelineId::new(kind, format!("n{n}"));
        let captures = (0..5).map(|n| (pipeline(Kind::Capture, n), 1));
        for (pipeline, lanes) in captures.chain((0..100).map(|n| (pipeline(Kind::Replicate, n), 4))) {
            for partition in 0..lanes {
                let id = LaneId::new(pipeline.clone(), partition);
                metrics.lane_added(&id);
                let day = Some(Duration::from_secs(86_400));
                board.add(id, 5_000_000, now_us()).promise(Promise { freshness: day, history: day });
            }
        }
        (0..10).for_each(|n| metrics.latency().stream_added(&format!("stream{n}")));
        (0..20).for_each(|n| metrics.parts().store_added(&format!("store{n}"), 0));
        let mut lanes = board.status(now_us());
        lanes.iter_mut().for_each(|lane| (lane.lag_changes, lane.waiting) = (Some(0), Some(0)));
        let began = Instant::now();
        let text = metrics.scrape(&lanes).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!((4_000..5_000).contains(&series), "{series} series, in {:?}", began.elapsed());
        let values = text.lines().filter(|line| !line.starts_with('#'));
        let numbers = values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        assert!(numbers.into_iter().all(|n| n >= 0.0), "neither NaN nor negative");
    }
}
