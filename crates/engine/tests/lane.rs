//! The pipeline loop over ports in memory that fail in every way a store can.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{
    Batch, Change, Checkpoint, Contract, ErrorKind, Hold, Kind, LaneId, PipelineId, Position, Refused,
    Rejected, Result, Sink, Step, Verb, Verdict,
};
use hutong_engine::status::now_us;
use hutong_engine::supervisor::OnError;
use hutong_engine::{Ahead, Board, Lane, Metrics, Settings, State, Supervisor};
use hutong_testkit::memory::{Fault, PARTITION, Shared, change, contract};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

fn filled(count: u64, batch_limit: usize) -> Shared {
    let world = Shared::default();
    let contract = contract();
    let mut inner = world.lock();
    inner.batch_limit = batch_limit;
    for place in 0..count {
        let text = format!("v{place}");
        let text = (place % 5 != 4).then_some(text.as_str());
        inner.log.insert(place, change(&contract, place, place as i64 % 7, text));
    }
    drop(inner);
    world
}

fn lane(world: &Shared, board: &Board, steps: Vec<Box<dyn Step>>, quarantine_limit: u64) -> Lane {
    let id = LaneId::new(PipelineId::new(Kind::Capture, "memory"), 0);
    Lane {
        source: world.source(),
        sink: world.sink(),
        steps,
        settings: Settings { quarantine_limit, ends_us: None },
        entry: board.add(id.clone(), 1, now_us()),
        metrics: Metrics::new().unwrap(),
        ahead: Ahead::default(),
        id,
    }
}

fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(work)
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::Refuse),
        1 => Just(Fault::RefuseOpen),
        1 => Just(Fault::FailAfterWrite)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i1_i2_i7_every_change_is_applied_once_and_in_order_whatever_fails(
        count in 0u64..60, batch in 1usize..9, faults in proptest::collection::vec(fault(), 0..30)
    ) {
        let world = filled(count, batch);
        let wanted = in_paused_time(async {
            let calm = filled(count, batch);
            lane(&calm, &Board::new(), Vec::new(), 0).run(CancellationToken::new()).await.unwrap();
            calm.lock().rows.clone()
        });
        world.lock().faults = faults.into();
        in_paused_time(lane(&world, &Board::new(), Vec::new(), 0).run(CancellationToken::new())).unwrap();
        let world = world.lock();
        prop_assert_eq!(&world.applied, &(0..count).map(Position::offset).collect::<Vec<_>>());
        prop_assert_eq!(&world.rows, &wanted);
        prop_assert!(world.log.is_empty(), "what is durable was acked");
    }
}

struct EveryThird;

impl Step for EveryThird {
    fn name(&self) -> &'static str {
        "third"
    }

    fn apply(&mut self, change: Change) -> Verdict {
        match change.position.as_offset().unwrap_or(0) % 3 {
            0 => Verdict::Drop { reason: "filtered" },
            1 => Verdict::Reject(Rejected {
                rule: "check",
                reason: "of the test".into(),
                position: change.position,
                stream: change.contract.stream.clone(),
                change: None,
                record: None,
            }),
            _ => Verdict::Pass(change),
        }
    }
}

#[test]
fn i3_every_change_is_committed_counted_or_set_aside() {
    let (world, board) = (filled(30, 4), Board::new());
    in_paused_time(lane(&world, &board, vec![Box::new(EveryThird)], 100).run(CancellationToken::new()))
        .unwrap();
    let status = board.status(now_us()).remove(0);
    assert_eq!((status.committed, status.quarantined, status.dropped["filtered"]), (10, 10, 10));
    assert_eq!(world.lock().rejected, 10);
    assert_eq!(status.state, State::Stopped);
}

struct AllButTheLast;

impl Step for AllButTheLast {
    fn name(&self) -> &'static str {
        "all but the last"
    }

    fn apply(&mut self, change: Change) -> Verdict {
        match change.position.as_offset() {
            Some(98) => Verdict::Pass(change),
            _ => Verdict::Drop { reason: "filtered" },
        }
    }
}

#[test]
fn i2_i3_steps_that_write_no_rows_are_committed_with_the_next_that_does() {
    for (count, commits) in [(99, 1), (98, 1)] {
        let (world, board) = (filled(count, 4), Board::new());
        // The first commit that is tried is the only one.
        world.lock().faults = [Fault::FailAfterWrite].into();
        let lane = lane(&world, &board, vec![Box::new(AllButTheLast)], 0);
        in_paused_time(lane.run(CancellationToken::new())).unwrap();
        let world = world.lock();
        assert_eq!(
            world.opened,
            1 + commits,
            "{count}: the answer of one commit was lost, and there was no other"
        );
        assert_eq!(world.checkpoint.position(PARTITION), Position::offset(count - 1));
        assert_eq!(world.rows.len() as u64, count - 98);
        assert!(world.log.is_empty(), "I1: what is durable was acked");
    }
}

/// Takes its time for each commit, and remembers how many changes each had.
struct Slow {
    inner: Box<dyn Sink>,
    counts: Arc<Mutex<Vec<usize>>>,
}

#[async_trait]
impl Sink for Slow {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        self.inner.open(lane).await
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        self.inner.prepare(contract).await
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.counts.lock().unwrap().push(batch.changes.len());
        self.inner.commit(batch).await
    }
}

#[test]
fn what_comes_during_a_commit_goes_together_into_the_next_up_to_a_limit_of_changes_and_of_bytes() {
    let megabyte = "x".repeat(1 << 20);
    for (text, count, expected) in
        [("v", 4_500, vec![100, 2_000, 2_000, 400]), (&megabyte, 12, vec![1, 4, 4, 3])]
    {
        let (world, board) = (Shared::default(), Board::new());
        let contract = contract();
        world.lock().batch_limit = expected[0];
        for place in 0..count {
            world.lock().log.insert(place, change(&contract, place, place as i64, Some(text)));
        }
        let mut lane = lane(&world, &board, vec![], 0);
        let counts = Arc::<Mutex<Vec<usize>>>::default();
        lane.sink = Box::new(Slow { inner: lane.sink, counts: Arc::clone(&counts) });
        in_paused_time(lane.run(CancellationToken::new())).unwrap();
        assert_eq!(*counts.lock().unwrap(), expected);
        assert_eq!(world.lock().rows.len() as u64, count);
    }
}

#[test]
fn lanes_of_a_process_read_ahead_only_while_there_is_room_for_all() {
    let (ahead, contract, text) = (Ahead::default(), contract(), "x".repeat(1 << 20));
    let counts: Vec<_> = std::iter::repeat_with(Arc::<Mutex<Vec<usize>>>::default).take(20).collect();
    in_paused_time(async {
        let lanes = counts.iter().map(|counts| {
            let world = Shared::default();
            let changes = (0..12).map(|place| (place, change(&contract, place, place as i64, Some(&text))));
            world.lock().log.extend(changes);
            let mut lane = lane(&world, &Board::new(), vec![], 0);
            lane.ahead = ahead.clone();
            lane.sink = Box::new(Slow { inner: lane.sink, counts: Arc::clone(counts) });
            lane.run(CancellationToken::new())
        });
        futures_util::future::try_join_all(lanes).await.unwrap();
    });
    let counts: Vec<Vec<usize>> = counts.iter().map(|counts| counts.lock().unwrap().clone()).collect();
    assert!(counts.iter().all(|counts| counts.iter().sum::<usize>() == 12));
    // Each holds the megabyte that it commits; of 32 the rest is read ahead, where each alone would read four more.
    let second: usize = counts.iter().map(|counts| counts[1]).sum();
    assert!((20..=32).contains(&second), "{second} megabytes in the second commits");
}

#[test]
fn a_flood_of_rejects_halts_before_it_is_written() {
    let (world, board) = (filled(30, 30), Board::new());
    let error =
        in_paused_time(lane(&world, &board, vec![Box::new(EveryThird)], 9).run(CancellationToken::new()))
            .unwrap_err();
    assert!(error.to_string().contains("10 changes were quarantined, the limit is 9"), "{error}");
    for part in ["10 by check (of the test)", "from ", " to "] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    assert!(error.hint.as_ref().unwrap().contains("is not recorded"), "{error:?}");
    assert_eq!(world.lock().rejected, 0);
    assert_eq!(board.status(now_us())[0].state, State::Halted);
}

fn refused(lasting: u64, curable: u64) -> Refused {
    Refused { lasting, curable, waiting: Some(lasting + curable), ..Refused::default() }
}

#[test]
fn what_another_lane_may_cure_is_counted_and_is_no_flood() {
    let again = Refused { again: 2, ..refused(0, 0) };
    for (refused, limit, halts) in [(refused(0, 2), 1, false), (again, 1, false), (refused(2, 0), 3, true)] {
        let (world, board) = (filled(9, 3), Board::new());
        world.lock().faults = vec![Fault::SetAside(refused); 3].into();
        let done = in_paused_time(lane(&world, &board, Vec::new(), limit).run(CancellationToken::new()));
        assert_eq!(done.is_err(), halts, "{refused:?}");
        let status = board.status(now_us()).remove(0);
        let batches = if halts { 2 } else { 3 };
        assert_eq!((status.committed, status.quarantined), (batches, 2 * batches), "{refused:?}");
        assert_eq!(status.waiting, refused.waiting, "what the sink has counted last");
    }
}

#[test]
fn a_commit_that_is_tried_again_is_no_flood() {
    let (world, board) = (filled(30, 30), Board::new());
    world.lock().faults = vec![Fault::Refuse; 20].into();
    in_paused_time(lane(&world, &board, vec![Box::new(EveryThird)], 10).run(CancellationToken::new()))
        .unwrap();
    assert_eq!(world.lock().rejected, 10);
}

#[test]
fn i7_a_fenced_lane_halts_and_writes_nothing_more() {
    let (world, board) = (filled(9, 3), Board::new());
    world.lock().faults = [Fault::None, Fault::Fence].into();
    let error =
        in_paused_time(lane(&world, &board, Vec::new(), 0).run(CancellationToken::new())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert_eq!(world.lock().applied.len(), 3);
}

struct Clumsy;

impl Step for Clumsy {
    fn name(&self) -> &'static str {
        "clumsy"
    }

    fn apply(&mut self, change: Change) -> Verdict {
        assert!(change.position.as_offset() < Some(5), "oops");
        Verdict::Pass(change)
    }
}

#[tokio::test]
async fn a_lane_that_panics_is_shown_as_halted() {
    let (world, board) = (filled(9, 3), Board::new());
    let mut supervisor = Supervisor::new();
    let lane = lane(&world, &board, vec![Box::new(Clumsy)], 0);

    supervisor.spawn("memory", OnError::Continue, lane.run(supervisor.token()));
    supervisor.wait(Duration::from_secs(5)).await.unwrap();

    let status = board.status(now_us()).remove(0);
    assert_eq!((status.state, status.committed), (State::Halted, 3));
    assert!(status.error.unwrap().contains("panicked") && status.hint.is_some());
}

#[test]
fn i5_nothing_leaves_after_the_last_day_of_the_grant() {
    let (world, board) = (filled(9, 3), Board::new());
    let mut late = lane(&world, &board, Vec::new(), 0);
    late.settings.ends_us = Some(now_us());
    let error = in_paused_time(late.run(CancellationToken::new())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(world.lock().applied.is_empty());
}

#[test]
fn an_outage_is_waited_out_and_shown() {
    let (world, board) = (filled(3, 3), Board::new());
    world.lock().faults = vec![Fault::RefuseOpen; 50].into();
    let token = CancellationToken::new();
    in_paused_time(async {
        let run = lane(&world, &board, Vec::new(), 0).run(token.clone());
        tokio::pin!(run);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut run).await.is_err(), "it goes on trying");
        let status = board.status(now_us()).remove(0);
        assert_eq!(status.state, State::Retrying);
        assert!(status.error.unwrap().contains("refused"));
        token.cancel();
        run.await.unwrap();
    });
}

/// A person pauses the lane in the middle of its second commit.
struct Interrupted {
    inner: Box<dyn Sink>,
    world: Shared,
    commits: usize,
}

#[async_trait]
impl Sink for Interrupted {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        self.inner.open(lane).await
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        self.inner.prepare(contract).await
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        self.commits += 1;
        if self.commits == 2 {
            assert!(self.world.lock().act(Verb::Pause));
        }
        self.inner.commit(batch).await
    }

    async fn look(&mut self) -> Result<Hold> {
        self.inner.look().await
    }
}

#[test]
fn i7_a_paused_lane_stands_until_it_is_resumed_and_nothing_comes_twice() {
    for paused_before in [true, false] {
        let (world, board) = (filled(9, 3), Board::new());
        if paused_before {
            world.lock().act(Verb::Pause);
        }
        let mut lane = lane(&world, &board, Vec::new(), 0);
        let commits = if paused_before { 9 } else { 0 };
        lane.sink = Box::new(Interrupted { inner: lane.sink, world: world.clone(), commits });
        in_paused_time(async {
            let run = lane.run(CancellationToken::new());
            tokio::pin!(run);
            let hour = Duration::from_secs(3_600);
            assert!(tokio::time::timeout(hour, &mut run).await.is_err(), "it stands");
            let status = board.status(now_us()).remove(0);
            assert_eq!((status.state, status.error), (State::Paused, None));
            assert_eq!(status.pause.unwrap().by, "a person");
            let committed = world.lock().applied.len();
            assert_eq!(
                committed,
                if paused_before { 0 } else { 3 },
                "what was in the midst of it is not written"
            );
            // Another person, and one who is late: it is looked at, and stays paused.
            assert!(!world.lock().act(Verb::Pause) && world.lock().act(Verb::Reload));
            assert!(tokio::time::timeout(hour, &mut run).await.is_err(), "it stands");
            assert_eq!(board.status(now_us())[0].state, State::Paused);

            assert!(world.lock().act(Verb::Resume));
            tokio::time::timeout(Duration::from_secs(10), &mut run).await.expect("it goes on").unwrap();
        });
        let applied = world.lock().applied.clone();
        assert_eq!(applied, (0..9).map(Position::offset).collect::<Vec<_>>(), "I2: once, and in order");
    }
}

#[test]
fn i4_a_paused_lane_that_another_owner_has_taken_halts() {
    let (world, board) = (filled(9, 3), Board::new());
    world.lock().act(Verb::Pause);
    let lane = lane(&world, &board, Vec::new(), 0);
    let error = in_paused_time(async {
        let run = lane.run(CancellationToken::new());
        tokio::pin!(run);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut run).await.is_err());
        // Whoever opens it next finds the pause, too.
        let mut other = world.sink();
        let id = LaneId::new(PipelineId::new(Kind::Capture, "memory"), 0);
        assert!(other.open(&id).await.unwrap().pause().is_some());
        world.lock().act(Verb::Resume);
        run.await.unwrap_err()
    });
    assert_eq!(error.kind, ErrorKind::Fenced, "it is the other owner's to go on");
    assert!(world.lock().applied.is_empty());
}
