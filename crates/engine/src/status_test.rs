//! What the board tells of a lane.

use std::time::Duration;

use hutong_core::{Delta, ErrorKind, Kind, PipelineId};

use super::*;
use crate::Board;
use crate::verdict::WINDOW;

const SECOND: i64 = 1_000_000;

fn entry(board: &Board, now_us: i64) -> Entry {
    board.add(LaneId::new(PipelineId::new(Kind::Replicate, "a"), 0), SECOND, now_us)
}

fn at(offset: u64, complete_to_us: Option<i64>) -> (Checkpoint, Behind) {
    let mut checkpoint = Checkpoint::default();
    checkpoint.advance(&Delta::range("t/0", Position::START, Position::offset(offset))).unwrap();
    (checkpoint, Behind { count: Some(0), bytes: None, complete_to_us })
}

fn pass(entry: &Entry, offset: u64, now_us: i64) {
    let (checkpoint, behind) = at(offset, Some(now_us));
    let dropped = BTreeMap::new();
    let newest_us = Some(now_us);
    let passed = Passed {
        committed: 1,
        quarantined: 0,
        dropped: &dropped,
        newest_us,
        behind,
        waiting: None,
        oldest_us: None,
        checkpoint: &checkpoint,
    };
    entry.passed(&passed, now_us);
}

#[test]
fn a_capture_that_starts_again_is_as_far_behind_as_it_was() {
    let (board, now) = (Board::new(), 1_000 * SECOND);
    let entry = entry(&board, now);
    let (mut checkpoint, _) = at(7, None);
    checkpoint.notes.insert("complete_to_us".into(), (400 * SECOND).to_string());

    entry.opened(&checkpoint, now);

    assert_eq!(entry.status(now).lag_seconds, 600.0, "its database may be dead: it told nothing since");
}

#[test]
fn a_lane_that_goes_back_forgets_how_fresh_it_was() {
    let (board, now) = (Board::new(), 1_000 * SECOND);
    let entry = entry(&board, now - 50 * SECOND);
    entry.opened(&at(5, None).0, now - 50 * SECOND);
    pass(&entry, 9, now);
    assert_eq!((entry.status(now).lag_seconds, entry.status(now).verdict), (0.0, Verdict::Ok));

    // Somebody reloads the replica: it fills from the base.
    entry.opened(&Checkpoint::default(), now);

    let later = entry.status(now + 3 * SECOND);
    assert_eq!((later.lag_seconds, later.verdict), (3.0, Verdict::Rewound));
    pass(&entry, 3, now + 60 * SECOND);
    entry.opened(&at(3, None).0, now + 61 * SECOND);
    assert_eq!(
        entry.status(now + 61 * SECOND).verdict,
        Verdict::Ok,
        "opening where it stands is no way back"
    );
}

#[test]
fn a_store_that_is_away_shows_as_lag_and_as_a_verdict_and_eats_headroom() {
    let (board, start) = (Board::new(), 1_000 * SECOND);
    let entry = entry(&board, start);
    entry.promise(Promise { history: Some(Duration::from_secs(100)), ..Promise::default() });
    pass(&entry, 9, start);
    assert_eq!(entry.status(start).headroom_seconds, Some(100.0));
    let away = Error::new(ErrorKind::Unavailable, "commit", "refused");
    entry.failed(&away, 1, start + SECOND);
    for n in 0..=2 * WINDOW as i64 {
        board.look(start + n * SECOND);
    }
    let now = start + 2 * WINDOW as i64 * SECOND;

    let status = entry.status(now);

    assert_eq!((status.lag_seconds, status.headroom_seconds), (24.0, Some(76.0)));
    assert_eq!((status.verdict, status.reason.as_str()), (Verdict::Stopped, "it could not open for 12 s"));
    assert_eq!(status.kind.as_deref(), Some("unavailable"));
    pass(&entry, 12, now);
    let status = entry.status(now);
    assert_eq!((status.lag_seconds, status.verdict, status.kind), (0.0, Verdict::Ok, None));
    assert_eq!(status.applied_us, Some(now));
}

#[test]
fn a_held_lane_says_since_when_and_a_clock_ahead_is_not_believed() {
    let (board, now) = (Board::new(), 1_000 * SECOND);
    let entry = entry(&board, now);
    let why = Error::new(ErrorKind::Denied, "deliver to a", "it is suspended");
    for (told, shown) in [(Some(5), 5), (Some(now + 1), now), (Some(0), now), (None, now)] {
        entry.held(&why, told, now);
        let status = entry.status(now);
        assert_eq!((status.state, status.verdict, status.since_us), (State::Held, Verdict::Paused, shown));
        assert!(status.error.is_some_and(|error| error.contains("it is suspended")));
    }
}

#[test]
fn the_lag_of_a_paused_lane_grows_and_eats_headroom_and_it_is_not_stalled() {
    let (board, start) = (Board::new(), 1_000 * SECOND);
    let pause = Pause { since_us: start, by: "李".into(), reason: "维护".into() };
    for restarted in [false, true] {
        let now = start + 60 * SECOND;
        let entry = entry(&board, if restarted { now } else { start });
        entry.promise(Promise { history: Some(Duration::from_secs(100)), ..Promise::default() });
        if !restarted {
            pass(&entry, 9, start);
        }
        entry.paused(&pause, if restarted { now } else { start });
        (0..60).for_each(|n| board.look(start + n * SECOND));

        let status = entry.status(now);

        assert_eq!((status.lag_seconds, status.headroom_seconds), (60.0, Some(40.0)), "{restarted}");
        assert_eq!((status.state, status.verdict), (State::Paused, Verdict::Paused));
        assert_eq!((status.since_us, status.lag_changes), (start, None));
    }
}

#[test]
fn a_stream_without_watermarks_is_fresh_when_it_is_read_to_its_end() {
    let (board, now) = (Board::new(), 1_000 * SECOND);
    let entry = entry(&board, now);
    entry.promise(Promise { unmarked: true, ..Promise::default() });
    entry.opened(&at(5, None).0, now);
    pass(&entry, 9, now);
    let quiet = entry.status(now + 600 * SECOND);
    assert_eq!((quiet.lag_seconds, quiet.verdict), (0.0, Verdict::Ok), "nobody says that it is complete");
    entry.reading(Some(now + 600 * SECOND), now + 600 * SECOND);
    assert_eq!(entry.status(now + 607 * SECOND).lag_seconds, 7.0, "what is read and not committed waits");
    pass(&entry, 10, now + 608 * SECOND);
    entry.failed(&Error::new(ErrorKind::Unavailable, "commit", "refused"), 1, now + 609 * SECOND);
    assert_eq!(entry.status(now + 618 * SECOND).lag_seconds, 10.0, "its store is away");
}

#[test]
fn what_waits_for_a_lane_that_does_not_read_is_told_by_who_looks() {
    for (markers, told) in [(false, 3), (true, 2)] {
        let (board, now) = (Board::new(), 1_000 * SECOND);
        let entry = entry(&board, now);
        let id = entry.id();
        assert!(!board.rests(&id), "nobody knows where it stands");
        entry.opened(&at(5, None).0, now);
        pass(&entry, 9, now);
        let partition = entry.status(now).positions.keys().next().unwrap().clone();
        board.ends(&id, &partition, 12, markers);
        assert_eq!(entry.status(now).lag_changes, Some(0), "a lane that runs knows it itself");
        entry.failed(&Error::new(ErrorKind::Unavailable, "commit", "refused"), 1, now);
        assert!(board.rests(&id));
        board.ends(&id, &partition, 12, markers);
        assert_eq!(entry.status(now).lag_changes, Some(told));
        entry.state(State::Running, now);
        assert_eq!(entry.status(now).lag_changes, Some(0), "and it counts again by itself");
    }
}

#[test]
fn a_source_whose_clock_is_ahead_hides_no_lag() {
    let (board, now) = (Board::new(), 1_000 * SECOND);
    let entry = entry(&board, now);
    entry.opened(&at(5, None).0, now);
    pass(&entry, 9, now);
    entry.reading(Some(now + 90 * SECOND), now);
    assert_eq!(entry.status(now + 60 * SECOND).lag_seconds, 60.0);
}

#[test]
fn a_lane_whose_store_is_away_is_as_old_as_it_was_before_the_process() {
    let now = 1_000 * SECOND;
    let id = LaneId::new(PipelineId::new(Kind::Replicate, "pension"), 0);
    let first = Board::new();
    let lane = first.add(id.clone(), 2 * SECOND, now - 100 * SECOND);
    pass(&lane, 9, now - 70 * SECOND);
    let mut known = first.passed();
    known.insert("replicate.other.0".into(), 7);

    let board = Board::after(known);
    let lane = board.add(id, 2 * SECOND, now);
    lane.promise(Promise { history: Some(Duration::from_secs(100)), ..Promise::default() });
    let away = Error::new(ErrorKind::Unavailable, "open", "refused");
    lane.failed(&away, 1, now);
    let told = lane.status(now);
    assert_eq!((told.lag_seconds, told.headroom_seconds), (70.0, Some(30.0)));
    // And so again, with what this process knows nothing of.
    let passed = board.passed();
    assert_eq!((passed["replicate.pension.0"], passed["replicate.other.0"]), (now - 70 * SECOND, 7));
    pass(&lane, 10, now);
    assert_eq!(lane.status(now).lag_seconds, 0.0);

    // A lane that is added again, for it was held meanwhile, is as old as it was here.
    let lane = board.add(LaneId::new(PipelineId::new(Kind::Replicate, "pension"), 0), 2 * SECOND, now);
    lane.failed(&away, 1, now);
    assert_eq!(lane.status(now + 5 * SECOND).lag_seconds, 5.0);

    // One that begins at the base has nothing behind it.
    let lane = board.add(LaneId::new(PipelineId::new(Kind::Replicate, "other"), 0), 2 * SECOND, now);
    lane.opened(&Checkpoint::default(), now);
    assert_eq!(lane.status(now).lag_seconds, 0.0);
}
