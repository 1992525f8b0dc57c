//! The same facts under the names of Kafka Lag Exporter, so that boards and alerts made for it go on working.
//!
//! Names and labels: the "Metrics" chapter of github.com/seglo/kafka-lag-exporter. Hutong's groups have no members, so the
//! three labels that would name one are there and empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hutong_engine::LaneStatus;

/// One partition that a lane reads.
struct Reading<'a> {
    group: String,
    topic: &'a str,
    partition: &'a str,
    offset: u64,
    lane: &'a LaneStatus,
}

/// Returns the metrics of all lanes that read a topic, in Prometheus' text form. `bus` prefixes the groups' names.
pub(super) fn text(lanes: &[LaneStatus], cluster: &str, bus: &str) -> String {
    let cluster = cluster.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let readings: Vec<Reading<'_>> = lanes.iter().flat_map(|lane| of_lane(lane, bus)).collect();
    let mut text = String::new();
    let by_partition = |text: &mut String, name: &str, value: &dyn Fn(&Reading<'_>) -> Option<f64>| {
        let _ = writeln!(text, "# TYPE {name} gauge");
        for reading in &readings {
            let Some(value) = value(reading) else { continue };
            let Reading { group, topic, partition, .. } = reading;
            let _ = writeln!(
                text,
                "{name}{{cluster_name=\"{cluster}\",group=\"{group}\",topic=\"{topic}\",partition=\"{partition}\",\
                 member_host=\"\",consumer_id=\"\",client_id=\"\"}} {value}"
            );
        }
    };
    let lag = |reading: &Reading<'_>| reading.lane.lag_changes.map(|count| count as f64);
    let seconds = |reading: &Reading<'_>| Some(reading.lane.lag_seconds);
    by_partition(&mut text, "kafka_consumergroup_group_offset", &|reading| Some(reading.offset as f64));
    by_partition(&mut text, "kafka_consumergroup_group_lag", &lag);
    by_partition(&mut text, "kafka_consumergroup_group_lag_seconds", &seconds);
    let by_group = |text: &mut String, name: &str, value: &dyn Fn(&Reading<'_>) -> Option<f64>| {
        let _ = writeln!(text, "# TYPE {name} gauge");
        let mut most: BTreeMap<&str, f64> = BTreeMap::new();
        for reading in &readings {
            if let Some(value) = value(reading) {
                let known = most.entry(&reading.group).or_insert(value);
                *known = known.max(value);
            }
        }
        for (group, value) in most {
            let labels = format!("cluster_name=\"{cluster}\",group=\"{group}\",is_simple_consumer=\"true\"");
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    by_group(&mut text, "kafka_consumergroup_group_max_lag", &lag);
    by_group(&mut text, "kafka_consumergroup_group_max_lag_seconds", &seconds);
    let mut latest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for reading in &readings {
        if let Some(count) = reading.lane.lag_changes {
            let known = latest.entry((reading.topic, reading.partition)).or_default();
            *known = (*known).max(reading.offset + count);
        }
    }
    let _ = writeln!(text, "# TYPE kafka_partition_latest_offset gauge");
    for ((topic, partition), offset) in latest {
        let labels = format!("cluster_name=\"{cluster}\",topic=\"{topic}\",partition=\"{partition}\"");
        let _ = writeln!(text, "kafka_partition_latest_offset{{{labels}}} {offset}");
    }
    text
}

/// Returns what a lane reads; nothing for a capture, whose position is no offset.
fn of_lane<'a>(lane: &'a LaneStatus, bus: &str) -> Vec<Reading<'a>> {
    let reading = |(key, position): (&'a String, &hutong_core::Position)| {
        let (topic, partition) = key.rsplit_once('/')?;
        let offset = position.as_offset()?;
        Some(Reading { group: format!("{bus}.{}", lane.pipeline), topic, partition, offset, lane })
    };
    lane.positions.iter().filter_map(reading).collect()
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, LaneId, PipelineId, Position};
    use hutong_engine::{Board, status::now_us};

    use super::*;

    #[test]
    fn has_the_names_and_labels_that_boards_ask_for() {
        let board = Board::new();
        board.add(LaneId::new(PipelineId::new(Kind::Capture, "gongan"), 0), 0, now_us());
        for partition in 0..2 {
            board.add(LaneId::new(PipelineId::new(Kind::Replicate, "names"), partition), 0, now_us());
        }
        let mut lanes = board.status(now_us());
        lanes[0].positions.insert("wal".into(), Position::wal(0, 7, 8, 1));
        for (at, lane) in lanes[1..].iter_mut().enumerate() {
            let offset = Position::offset(40 + at as u64);
            lane.positions.insert(format!("gongan.people.v1/{at}"), offset);
            (lane.lag_changes, lane.lag_seconds) = (Some(at as u64 * 3), at as f64 * 1.5);
        }
        let told = text(&lanes, "ci\"ty", "hutong");
        let of = |name: &str, partition: u32| {
            format!(
                "{name}{{cluster_name=\"ci\\\"ty\",group=\"hutong.replicate.names\",topic=\"gongan.people.v1\",\
                 partition=\"{partition}\",member_host=\"\",consumer_id=\"\",client_id=\"\"}}"
            )
        };
        let group = "cluster_name=\"ci\\\"ty\",group=\"hutong.replicate.names\",is_simple_consumer=\"true\"";
        for line in [
            format!("{} 0", of("kafka_consumergroup_group_lag", 0)),
            format!("{} 3", of("kafka_consumergroup_group_lag", 1)),
            format!("{} 1.5", of("kafka_consumergroup_group_lag_seconds", 1)),
            format!("{} 41", of("kafka_consumergroup_group_offset", 1)),
            format!("kafka_consumergroup_group_max_lag{{{group}}} 3"),
            format!("kafka_consumergroup_group_max_lag_seconds{{{group}}} 1.5"),
            "kafka_partition_latest_offset{cluster_name=\"ci\\\"ty\",topic=\"gongan.people.v1\",partition=\"1\"} 44"
                .into(),
        ] {
            assert!(told.contains(&format!("{line}\n")), "{line} in\n{told}");
        }
        assert!(!told.contains("wal"), "a capture reads no topic:\n{told}");
    }
}
