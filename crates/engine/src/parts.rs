//! What stands around the lanes: the bus and the stores. Whether they answer, and what a source keeps back for us.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hutong_core::Error;
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};
use serde::{Deserialize, Serialize};

/// One part as it was found at the last look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStatus {
    /// `bus`, or `store <name>`.
    pub name: String,
    /// Whether it answers; `None` before the first answer.
    pub answers: Option<bool>,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// Why it does not answer.
    pub error: Option<String>,
    /// What a person may do about it.
    pub hint: Option<String>,
}

/// What a source keeps back for a capture that has not read it yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Bytes of its log that it keeps for the capture.
    pub bytes: u64,
    /// Bytes that may still be written before it throws them away; `None` when it keeps everything, until its disk is full.
    pub safe_bytes: Option<u64>,
    /// Whether it has thrown some away already.
    pub lost: bool,
}

/// The parts of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seen: Mutex<BTreeMap<String, PartStatus>>,
    bus_up: IntGauge,
    bus_free: IntGaugeVec,
    store_up: IntGaugeVec,
    clock_skew: GaugeVec,
    retained: IntGaugeVec,
    safe: IntGaugeVec,
    lost: IntGaugeVec,
}

impl Parts {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let bus_up = IntGauge::new("bus_up", "1 when the bus answered at the last look.")?;
        registry.register(Box::new(bus_up.clone()))?;
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str, label: &str| gauges(name, help, &[label]);
        let help = "Bytes that are free where an embedded bus keeps its folder. Not there on Kafka.";
        // Without a label, and there only when it is set.
        let bus_free = gauges("bus_free_bytes", help, &[])?;
        let store_up =
            gauge("store_up", "1 when the department's store answered at the last look.", "store")?;
        let retained = gauge(
            "source_retained_bytes",
            "Bytes of its log that the source keeps for the capture: of PostgreSQL, what its slot holds back.",
            "capture",
        )?;
        let safe = gauge(
            "source_safe_bytes",
            "Bytes that the source may still write before it drops the slot's log. Not there while \
             `max_slot_wal_keep_size` sets no limit: then the disk is the limit.",
            "capture",
        )?;
        let lost = gauge(
            "source_lost",
            "1 when the source has dropped log that the capture had not read.",
            "capture",
        )?;
        let clock_skew = GaugeVec::new(
            Opts::new(
                "store_clock_skew_seconds",
                "How far the store's clock is from this machine's, ahead or behind. Shown, and added to no lag.",
            ),
            &["store"],
        )?;
        registry.register(Box::new(clock_skew.clone()))?;
        let seen = Mutex::default();
        Ok(Self(Arc::new(Inner { seen, bus_up, bus_free, store_up, clock_skew, retained, safe, lost })))
    }

    /// Makes the series of the bus visible.
    pub fn bus_added(&self, now_us: i64) {
        self.added("bus".into(), now_us);
    }

    /// Makes the series of a store visible.
    pub fn store_added(&self, store: &str, now_us: i64) {
        self.0.store_up.with_label_values(&[store]);
        self.added(format!("store {store}"), now_us);
    }

    /// Makes the series of a capture from a source that keeps its log visible.
    pub fn capture_added(&self, capture: &str) {
        self.0.retained.with_label_values(&[capture]);
        self.0.lost.with_label_values(&[capture]);
    }

    /// Notes that the bus answered, or why it did not.
    pub fn bus(&self, problem: Option<&Error>, now_us: i64) {
        self.0.bus_up.set(i64::from(problem.is_none()));
        self.found("bus".into(), problem, now_us);
    }

    /// Notes how much room an embedded bus has on its disk.
    pub fn bus_free(&self, bytes: u64) {
        let none: [&str; 0] = [];
        self.0.bus_free.with_label_values(&none).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Notes that a store answered, or why it did not.
    pub fn store(&self, store: &str, problem: Option<&Error>, now_us: i64) {
        self.0.store_up.with_label_values(&[store]).set(i64::from(problem.is_none()));
        self.found(format!("store {store}"), problem, now_us);
    }

    /// Notes how far a store's clock is from ours, microseconds.
    pub fn clock(&self, store: &str, offset_us: i64) {
        self.0.clock_skew.with_label_values(&[store]).set(offset_us.unsigned_abs() as f64 / 1e6);
    }

    /// Notes that a source keeps nothing back any more for a capture: its slot is gone. Of one that was never seen there
    /// is nothing to lose.
    pub fn vanished(&self, capture: &str) {
        if self.0.retained.with_label_values(&[capture]).get() > 0
            || self.0.lost.with_label_values(&[capture]).get() > 0
        {
            self.retained(capture, Retained { bytes: 0, safe_bytes: None, lost: true });
        }
    }

    /// Notes what a source keeps back for a capture.
    pub fn retained(&self, capture: &str, retained: Retained) {
        let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.0.retained.with_label_values(&[capture]).set(bytes(retained.bytes));
        self.0.lost.with_label_values(&[capture]).set(i64::from(retained.lost));
        match retained.safe_bytes {
            Some(safe) => self.0.safe.with_label_values(&[capture]).set(bytes(safe)),
            // A limit that was taken away: the series goes with it.
            None => drop(self.0.safe.remove_label_values(&[capture])),
        }
    }

    /// Returns every part as it was found at the last look.
    pub fn status(&self) -> Vec<PartStatus> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn added(&self, name: String, now_us: i64) {
        let part =
            PartStatus { name: name.clone(), answers: None, since_us: now_us, error: None, hint: None };
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(part);
    }

    fn found(&self, name: String, problem: Option<&Error>, now_us: i64) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = Some(problem.is_none());
        let since_us =
            seen.get(&name).filter(|part| part.answers == answers).map_or(now_us, |part| part.since_us);
        let error = problem.map(ToString::to_string);
        let hint = problem.and_then(|error| error.hint.clone());
        seen.insert(name.clone(), PartStatus { name, answers, since_us, error, hint });
    }
}
