//! How long changes are on their way, by stream and stage.

use std::time::Duration;

use hutong_core::{Batch, Kind, LaneId, Op};
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};

/// The stages: a closed set.
pub const STAGES: [&str; 4] = ["capture", "bus", "apply", "whole"];

/// The histograms of all streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Latency(HistogramVec);

impl Latency {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Time on the way. `capture`: from the source's commit to the topic; `bus`: in the topic, until a \
                    lane has read it; `apply`: from there to the subscriber's store; `whole`: from the source's \
                    commit to the store. One observation a source transaction and commit, without snapshots and \
                    what is older than the replica (`bus` and `apply`: one a commit).";
        let buckets = vec![0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0];
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

    /// Counts what a commit has brought to its end; `held` is how long ago the first of it was read, `begun_us` when
    /// the lane began to fill.
    pub(crate) fn committed(
        &self,
        lane: &LaneId,
        batch: &Batch,
        held: Duration,
        begun_us: Option<i64>,
        now_us: i64,
    ) {
        let Some(first) = batch.changes.first() else { return };
        let stage = match lane.pipeline.kind {
            Kind::Capture => "capture",
            // Receipts are no changes.
            Kind::Receipt => return,
            Kind::Replicate | Kind::Deliver => {
                let stream = &first.contract.stream;
                self.of(stream, "apply").observe(held.as_secs_f64());
                let lay_us = |written_us: i64| {
                    let read_us = now_us - i64::try_from(held.as_micros()).unwrap_or(i64::MAX);
                    // Who wrote it has a clock of its own, and a cluster counts milliseconds.
                    read_us.saturating_sub(written_us).max(0)
                };
                let young = |us: &i64| begun_us.is_none_or(|begun_us| *us >= begun_us);
                if let Some(us) = batch.trail.written_us.filter(young).map(lay_us) {
                    self.of(stream, "bus").observe(us as f64 / 1e6);
                }
                "whole"
            }
        };
        // The changes of a transaction stand together and share their time: one look at the histogram for all of them.
        let mut last: Option<(&str, i64)> = None;
        let mut family: Option<(&str, Histogram)> = None;
        for change in &batch.changes {
            let (stream, us) = (change.contract.stream.as_str(), change.origin.committed_us);
            // A row of a snapshot was committed whenever; what it tells is when it was read. And what a new replica
            // finds in the topic is old without having been late.
            if change.op == Op::Read
                || begun_us.is_some_and(|begun_us| us < begun_us)
                || last == Some((stream, us))
            {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hutong_core::contract::Sharing;
    use hutong_core::{Before, Change, Contract, Field, Origin, PipelineId, Position, Type, Value};

    use super::*;

    fn change(contract: &Arc<Contract>, op: Op, committed_us: i64) -> Change {
        let place = Arc::default();
        let origin = Origin { place, committed_us, xid: None, lsn: None, transaction: None, last: false };
        let position = Position::offset(1);
        let after = Some([Value::Integer(1)].into_iter().collect());
        let contract = Arc::clone(contract);
        Change { contract, op, before: Before::None, after, position, source_position: position, origin }
    }

    #[test]
    fn counts_a_transaction_once_and_neither_snapshots_nor_what_is_older_than_the_replica() {
        let contract = Contract {
            stream: "people".into(),
            doc: String::new(),
            sharing: Sharing::Unconditional,
            fields: vec![Field::new("id", Type::Int)],
            key: vec![0],
            catalogue: Default::default(),
        }
        .shared();
        let second = 1_000_000;
        let changes = [
            (Op::Read, 70),
            (Op::Insert, 80),
            (Op::Insert, 95),
            (Op::Update, 95),
            (Op::Update, 98),
            // A clock that is ahead.
            (Op::Delete, 101),
        ];
        let changes = changes.map(|(op, us)| change(&contract, op, us * second)).to_vec();
        let mut batch = Batch { changes, ..Batch::default() };
        batch.trail.written_us = Some(96 * second);
        let latency = Latency::new(&Registry::new()).unwrap();
        let lane = |kind| LaneId::new(PipelineId::new(kind, "a"), 0);
        let held = Duration::from_secs(1);

        latency.committed(&lane(Kind::Replicate), &batch, held, Some(90 * second), 100 * second);
        latency.committed(&lane(Kind::Capture), &batch, held, None, 100 * second);
        // Older than the replica, and by a clock that is ahead.
        batch.changes.truncate(1);
        for written in [80, 101] {
            batch.trail.written_us = Some(written * second);
            latency.committed(&lane(Kind::Replicate), &batch, held, Some(90 * second), 100 * second);
        }

        let told = |stage| {
            let of = latency.of("people", stage);
            (of.get_sample_count(), of.get_sample_sum())
        };
        assert_eq!([told("apply"), told("whole"), told("capture")], [(3, 3.0), (3, 7.0), (4, 27.0)]);
        assert_eq!(told("bus"), (2, 3.0), "read a second before the commit, 3 s after it was written");
    }
}
