//! Every metric of Hutong, one function a fact.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, LaneId, Result, ResultExt};
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::status::{LaneStatus, State};

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
        let dropped =
            counter("changes_dropped_total", "Changes dropped by a named rule.", &["pipeline", "rule"])?;
        let quarantined =
            counter("changes_quarantined_total", "Changes set aside with a reason.", &["pipeline"])?;
        let commits =
            counter("commits_total", "Transactions committed to the pipeline's sink.", &["pipeline"])?;
        let retries = counter("retries_total", "Times that a lane had to open again.", &["pipeline"])?;
        let lag_changes =
            gauge("lag_changes", "Changes behind the origin, as far as known.", &["pipeline", "partition"])?;
        let lag_bytes = gauge("lag_bytes", "Bytes of the origin's log behind.", &["pipeline", "partition"])?;
        let waiting = gauge(
            "quarantine_waiting",
            "Items that wait in the quarantine now.",
            &["pipeline", "partition"],
        )?;
        let state =
            gauge("lane_state", "1 for the state that the lane is in.", &["pipeline", "partition", "state"])?;
        let lag_seconds = GaugeVec::new(
            Opts::new("lag_seconds", "Seconds behind the origin."),
            &["pipeline", "partition"],
        )?;
        registry.register(Box::new(lag_seconds.clone()))?;
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
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
        };
        Ok(Self(Arc::new(families)))
    }

    /// Makes every series of a lane visible, at zero.
    pub fn lane_added(&self, lane: &LaneId) {
        let pipeline = lane.pipeline.to_string();
        let m = &self.0;
        for family in [&m.committed, &m.quarantined, &m.commits, &m.retries] {
            family.with_label_values(&[&pipeline]);
        }
        for rule in DROP_RULES {
            m.dropped.with_label_values(&[pipeline.as_str(), rule]);
        }
        m.commit_seconds.with_label_values(&[&pipeline]);
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
    pub fn retried(&self, lane: &LaneId) {
        self.0.retries.with_label_values(&[&lane.pipeline.to_string()]).inc();
    }

    /// Returns the text that Prometheus scrapes, with the lanes as they stand now.
    pub fn scrape(&self, lanes: &[LaneStatus]) -> Result<String> {
        for lane in lanes {
            let partition = lane.lane.rsplit('.').next().unwrap_or("0");
            let labels = [lane.pipeline.as_str(), partition];
            self.0.lag_seconds.with_label_values(&labels).set(lane.lag_seconds);
            // What is not known is not shown: a zero would be taken for "none".
            let known = [
                (&self.0.lag_changes, lane.lag_changes),
                (&self.0.lag_bytes, lane.lag_bytes),
                (&self.0.waiting, lane.waiting),
            ];
            for (gauge, count) in known {
                if let Some(count) = count {
                    gauge.with_label_values(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
            for state in State::ALL {
                let labels = [lane.pipeline.as_str(), partition, state.name()];
                self.0.state.with_label_values(&labels).set(i64::from(lane.state == state));
            }
        }
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.0.registry.gather(), &mut text)
            .or_kind(ErrorKind::Broken, || "write metrics".into())?;
        String::from_utf8(text).map_err(|e| Error::caused(ErrorKind::Broken, "write metrics", e))
    }
}
