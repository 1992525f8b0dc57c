//! What lanes tell of where they stand beside their lag: how far snapshots have come, what is refused, where topics end
//! and by which schema they are written, since when something waits.

use std::collections::BTreeMap;

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use crate::status::LaneStatus;

/// The gauges of all lanes; told anew at each scrape.
#[derive(Debug)]
pub(crate) struct Stand {
    snapshot_rows: IntGaugeVec,
    snapshot_done: IntGaugeVec,
    refused: IntGaugeVec,
    topic_end: IntGaugeVec,
    schema_version: IntGaugeVec,
    oldest: GaugeVec,
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
        let schema_version = gauge(
            "schema_version",
            "The version that the registry has given the schema by which a lane here writes the topic. Not there while \
             the registry did not tell.",
            &["topic"],
        )?;
        let oldest = GaugeVec::new(
            Opts::new(
                "quarantine_oldest_seconds",
                "How long the oldest item of the quarantine waits now; 0 when none waits.",
            ),
            &["pipeline"],
        )?;
        registry.register(Box::new(oldest.clone()))?;
        Ok(Self { snapshot_rows, snapshot_done, refused, topic_end, schema_version, oldest })
    }

    pub(crate) fn forget(&self) {
        [&self.snapshot_rows, &self.snapshot_done, &self.refused, &self.topic_end, &self.schema_version]
            .into_iter()
            .for_each(|g| g.reset());
        self.oldest.reset();
    }

    pub(crate) fn show(&self, lanes: &[LaneStatus], now_us: i64) {
        let mut ends: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut oldest: BTreeMap<&str, i64> = BTreeMap::new();
        for lane in lanes {
            let pipeline = lane.pipeline.as_str();
            for snapshot in &lane.snapshots {
                let labels = [pipeline, snapshot.table.as_str()];
                self.snapshot_rows.with_label_values(&labels).set(signed(snapshot.rows));
                self.snapshot_done.with_label_values(&labels).set(i64::from(snapshot.done));
            }
            for (topic, version) in &lane.schemas {
                self.schema_version.with_label_values(&[topic]).set(i64::from(*version));
            }
            // Lanes that have not opened yet do not know what waits.
            if lane.waiting.is_some() {
                let known = oldest.entry(pipeline).or_insert(now_us);
                *known = (*known).min(lane.oldest_us.unwrap_or(now_us));
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
        for (pipeline, since_us) in oldest {
            // By the store's clock, which may be ahead.
            let waits_us = now_us.saturating_sub(since_us).max(0);
            self.oldest.with_label_values(&[pipeline]).set(waits_us as f64 / 1e6);
        }
        for ((topic, partition), end) in ends {
            self.topic_end.with_label_values(&[topic, partition]).set(signed(end));
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
