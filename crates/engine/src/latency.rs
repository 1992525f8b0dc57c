//! How long changes are on their way, by stream and stage.

use std::time::Duration;

use hutong_core::{Batch, Kind, LaneId, Op};
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

/// The stages: a closed set. What is left of `whole` without the other two is the bus's part.
pub const STAGES: [&str; 3] = ["capture", "apply", "whole"];

/// The histograms of all streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Latency(HistogramVec);

impl Latency {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Time on the way. `capture`: from the source's commit to the topic; `apply`: from the topic \
                    to the subscriber's store; `whole`: from the source's commit to the store. One observation a \
                    source transaction and commit, snapshots left out (`apply`: one a commit).";
        let buckets = vec![0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];
        let opts = HistogramOpts::new("latency_seconds", help).buckets(buckets);
        let family = HistogramVec::new(opts, &["stream", "stage"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self(family))
    }

    /// Makes every series of a stream visible, at zero.
    pub fn stream_added(&self, stream: &str) {
        for stage in STAGES {
            self.0.with_label_values(&[stream, stage]);
        }
    }

    /// Counts what a commit has brought to its end; `held` is how long ago the first of it was read.
    pub(crate) fn committed(&self, lane: &LaneId, batch: &Batch, held: Duration, now_us: i64) {
        let Some(first) = batch.changes.first() else { return };
        let stage = match lane.pipeline.kind {
            Kind::Capture => "capture",
            Kind::Replicate | Kind::Deliver => {
                self.of(&first.contract.stream, "apply").observe(held.as_secs_f64());
                "whole"
            }
        };
        // The changes of a transaction stand together and share their time: one look at the histogram for all of them.
        let mut last: Option<(&str, i64)> = None;
        let mut family: Option<(&str, Histogram)> = None;
        for change in &batch.changes {
            let (stream, us) = (change.contract.stream.as_str(), change.origin.committed_us);
            // A row of a snapshot was committed whenever; what it tells is when it was read.
            if change.op == Op::Read || last == Some((stream, us)) {
                continue;
            }
            last = Some((stream, us));
            if family.as_ref().is_none_or(|(name, _)| *name != stream) {
                family = Some((stream, self.of(stream, stage)));
            }
            if let Some((_, histogram)) = &family {
                // A source whose clock is ahead of ours has no negative latency.
                histogram.observe(now_us.saturating_sub(us).max(0) as f64 / 1e6);
            }
        }
    }

    fn of(&self, stream: &str, stage: &str) -> Histogram {
        self.0.with_label_values(&[stream, stage])
    }
}
