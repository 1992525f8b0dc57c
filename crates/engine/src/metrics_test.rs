//! What a scrape holds, and how many series it has.

use std::time::Instant;

use hutong_core::snapshot::Progress;
use hutong_core::{Position, Rejected};

use super::*;
use crate::Board;
use crate::parts::Retained;
use crate::status::{Promise, now_us};

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
fn what_a_grant_cannot_decide_is_told_apart_and_what_is_captured_by_operation() {
    let metrics = Metrics::new().unwrap();
    let lane = |kind| LaneId::new(PipelineId::new(kind, "a"), 0);
    [Kind::Capture, Kind::Replicate].into_iter().for_each(|kind| metrics.lane_added(&lane(kind)));
    metrics.stream_captured("people");
    let rejected = |rule| Rejected {
        rule,
        reason: String::new(),
        position: Position::offset(1),
        stream: "people".into(),
        change: None,
        record: None,
    };
    let rejected = [UNDECIDED, "decode", UNDECIDED].map(rejected).to_vec();
    let batch = Batch { rejected, ..Batch::default() };
    metrics.told(&lane(Kind::Replicate), &batch);
    metrics.policy_failed(&lane(Kind::Replicate));
    // What a capture has set aside is no policy.
    metrics.told(&lane(Kind::Capture), &batch);
    let text = metrics.scrape(&[]).unwrap();
    for line in [
        r#"hutong_policy_errors_total{pipeline="replicate.a"} 3"#,
        r#"hutong_changes_captured_total{operation="truncate",stream="people"} 0"#,
        r#"hutong_changes_dropped_total{pipeline="capture.a",rule="suspended"} 0"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains(r#"policy_errors_total{pipeline="capture.a"}"#), "{text}");
    // Only another program writes the same change twice, or what is no change.
    let duplicates = r#"hutong_changes_dropped_total{pipeline="replicate.a",rule="duplicate"} 0"#;
    assert!(!text.contains(duplicates), "{text}");
    metrics.foreign_added(&lane(Kind::Replicate));
    assert!(metrics.scrape(&[]).unwrap().contains(duplicates));
}

#[test]
fn the_oldest_item_grows_old_while_it_waits_and_a_schema_has_its_version() {
    let (board, metrics) = (Board::new(), Metrics::new().unwrap());
    for partition in 0..3 {
        let id = LaneId::new(PipelineId::new(Kind::Replicate, "a"), partition);
        metrics.lane_added(&id);
        board.add(id, 5_000_000, now_us());
    }
    let mut lanes = board.status(now_us());
    let told = |lanes: &[LaneStatus], name: &str| {
        let text = metrics.scrape(lanes).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()));
        value.map(|value| value.parse::<f64>().unwrap())
    };
    let oldest = r#"hutong_quarantine_oldest_seconds{pipeline="replicate.a"}"#;
    assert_eq!(told(&lanes, oldest), None, "no lane has opened, so nobody knows");
    (lanes[0].waiting, lanes[1].waiting) = (Some(0), Some(0));
    assert_eq!(told(&lanes, oldest), Some(0.0), "nothing waits");
    for (lane, seconds) in [(0, 70), (1, 900)] {
        (lanes[lane].waiting, lanes[lane].oldest_us) = (Some(1), Some(now_us() - seconds * 1_000_000));
    }
    let seconds = told(&lanes, oldest).unwrap();
    assert!((900.0..910.0).contains(&seconds), "{seconds} s");
    lanes[1].oldest_us = Some(now_us() + 60_000_000);
    lanes[0].oldest_us = None;
    assert_eq!(told(&lanes, oldest), Some(0.0), "a store's clock may be ahead");
    lanes[0].schemas.insert("gongan.people.v2".into(), 4);
    let version = r#"hutong_schema_version{topic="gongan.people.v2"}"#;
    assert_eq!(told(&lanes, version), Some(4.0));
    assert_eq!((told(&[], version), told(&[], oldest)), (None, None), "what went is told no more");
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
            // Only a subscription promises anything.
            let day = Some(Duration::from_secs(86_400)).filter(|_| pipeline.kind == Kind::Replicate);
            board.add(id, 5_000_000, now_us()).promise(Promise {
                freshness: day,
                history: day,
                unmarked: false,
            });
        }
        metrics.lanes_configured(&pipeline, lanes);
        if pipeline.kind == Kind::Replicate {
            metrics.verified().done(&pipeline.to_string(), 0, now_us());
        }
    }
    for n in 0..10 {
        metrics.latency().stream_added(&format!("stream{n}"));
        metrics.stream_captured(&format!("stream{n}"));
    }
    for n in 0..20 {
        let store = format!("store{n}");
        metrics.parts().store_added(&store, 0);
        metrics.parts().clock(&store, 0);
        ["authorities", "own"].iter().for_each(|one| metrics.certificates().ends(&store, one, Some(1)));
    }
    for n in 0..5 {
        let retained = Retained { bytes: 0, safe_bytes: Some(0), lost: false };
        metrics.parts().retained(&format!("n{n}"), retained);
    }
    metrics.parts().bus_free(0);
    metrics.ledgered().read(7, 0, now_us());
    metrics.ledgered().broken(false);
    let mut lanes = board.status(now_us());
    for (at, lane) in lanes.iter_mut().enumerate() {
        (lane.lag_changes, lane.waiting) = (Some(0), Some(0));
        if lane.pipeline.starts_with("capture.") {
            (lane.lag_changes, lane.lag_bytes) = (None, Some(0));
            let table = |n: usize| Progress { table: format!("t{n}"), rows: 1, estimate: None, done: true };
            lane.snapshots = [2 * at, 2 * at + 1].map(table).to_vec();
            lane.schemas = [2 * at, 2 * at + 1].map(|n| (format!("gongan.stream{n}.v1"), 1)).into();
        } else {
            lane.positions.insert(format!("gongan.stream{}.v1/{}", at % 10, at % 4), Position::offset(1));
        }
    }
    let began = Instant::now();
    let text = metrics.scrape(&lanes).unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!("{series} series of a hundred subscriptions, told in {:?}", began.elapsed());
    assert!((4_000..5_000).contains(&series), "{series} series");
    let values = text.lines().filter(|line| !line.starts_with('#'));
    let numbers = values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    assert!(numbers.into_iter().all(|n| n >= 0.0), "neither NaN nor negative");
}

#[test]
fn a_slot_that_is_gone_is_lost_and_one_that_was_never_there_is_not() {
    let metrics = Metrics::new().unwrap();
    let parts = metrics.parts();
    ["a", "b"].into_iter().for_each(|capture| parts.capture_added(capture));
    parts.retained("a", Retained { bytes: 12, safe_bytes: Some(5), lost: false });
    ["a", "b"].into_iter().for_each(|capture| parts.vanished(capture));
    let told = |line: &str| {
        let text = metrics.scrape(&[]).unwrap();
        assert!(text.contains(line), "{line} in\n{text}");
        text
    };
    told(r#"hutong_source_lost{capture="b"} 0"#);
    told(r#"hutong_source_lost{capture="a"} 1"#);
    let text = told(r#"hutong_source_retained_bytes{capture="a"} 0"#);
    assert!(!text.contains(r#"hutong_source_safe_bytes{capture="a"}"#), "{text}");
    // Made again, by whoever has accepted the loss.
    parts.retained("a", Retained { bytes: 1, safe_bytes: None, lost: false });
    told(r#"hutong_source_lost{capture="a"} 0"#);
}
