//! What the checkpoints of lanes tell beside their lag: how far snapshots have come, what is refused, where topics end.

use std::collections::BTreeMap;

use prometheus::{IntGaugeVec, Opts, Registry};

use crate::status::LaneStatus;

/// The gauges of all lanes; told anew at each scrape.
#[derive(Debug)]
pub(crate) struct Stand {
    snapshot_rows: IntGaugeVec,
    snapshot_done: IntGaugeVec,
    refused: IntGaugeVec,
    topic_end: IntGaugeVec,
}

impl Stand {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let snapshot_rows = gauge(
            "snapshot_rows",
            "Rows of the table that its snapshot has read so far.",
            &["pipeline", "table"],
        )?;
        let snapshot_done = gauge(
            "snapshot_done",
            "1 when the snapshot of the table has read every row.",
            &["pipeline", "table"],
        )?;
        let refused = gauge(
            "schemas_refused",
            "Tables and streams of the capture whose schema is refused (a table that no longer fits its contract, a \
             contract that would break readers): their changes are dropped as `suspended`.",
            &["pipeline"],
        )?;
        let topic_end = gauge(
            "topic_end",
            "The offset behind the last record of the partition that a lane here has seen.",
            &["topic", "partition"],
        )?;
        Ok(Self { snapshot_rows, snapshot_done, refused, topic_end })
    }

    pub(crate) fn forget(&self) {
        [&self.snapshot_rows, &self.snapshot_done, &self.refused, &self.topic_end]
            .into_iter()
            .for_each(|g| g.reset());
    }

    pub(crate) fn show(&self, lanes: &[LaneStatus]) {
        let mut ends: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for lane in lanes {
            let pipeline = lane.pipeline.as_str();
            for snapshot in &lane.snapshots {
                let labels = [pipeline, snapshot.table.as_str()];
                self.snapshot_rows.with_label_values(&labels).set(signed(snapshot.rows));
                self.snapshot_done.with_label_values(&labels).set(i64::from(snapshot.done));
            }
            if pipeline.starts_with("capture.") {
                self.refused.with_label_values(&[pipeline]).set(lane.suspended.len() as i64);
                // Its position is none of a topic.
                continue;
            }
            for (key, position) in &lane.positions {
                let (Some((topic, partition)), Some(offset)) = (key.rsplit_once('/'), position.as_offset())
                else {
                    continue;
                };
                let known = ends.entry((topic, partition)).or_default();
                *known = (*known).max(offset.saturating_add(lane.lag_changes.unwrap_or(0)));
            }
        }
        for ((topic, partition), end) in ends {
            self.topic_end.with_label_values(&[topic, partition]).set(signed(end));
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
