//! Lanes that share what they read: each sees every record once and in order, and few readers do the work.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hutong_core::{Error, ErrorKind, LaneId, PipelineId, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::feed::PATIENCE;
use crate::log::{Extent, Fetched, Incoming, Log, Reader, TopicSpec, Trim, Writer};
use crate::shared::{GATHERING, Shared};

/// How long a reader takes to begin.
const SEEK: Duration = Duration::from_millis(50);

/// A partition that grows, with readers that hand out a few records at a time.
struct Tape {
    end: watch::Sender<u64>,
    readers: AtomicUsize,
    /// How many records each of them has read, in all.
    read: AtomicU64,
    /// Makes the next read fail.
    fails: Mutex<bool>,
    /// How many bytes a record has.
    size: AtomicUsize,
}

impl Tape {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            end: watch::Sender::new(0),
            readers: AtomicUsize::new(0),
            read: AtomicU64::new(0),
            fails: Mutex::new(false),
            size: AtomicUsize::new(8),
        })
    }
}

/// Returns a tape, and a log over it whose readers share what they read.
fn shared() -> (Arc<Tape>, Arc<Shared>) {
    let tape = Tape::new();
    let log = Shared::new(Arc::new(Tapes(Arc::clone(&tape))));
    (tape, log)
}

/// The tape as a log.
struct Tapes(Arc<Tape>);

struct Head {
    tape: Arc<Tape>,
    next: u64,
    told_end: bool,
    random: StdRng,
}

#[async_trait]
impl Trim for Tapes {
    async fn since(&self, _: &str, _: u32, _: i64) -> Result<u64> {
        Ok(0)
    }

    async fn trim(&self, _: &str, _: u32, base: u64, _: i64) -> Result<u64> {
        Ok(base)
    }

    async fn delete(&self, _: &str) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl Log for Tapes {
    async fn ensure(&self, _: &TopicSpec) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn extent(&self, _: &str) -> Result<Option<Extent>> {
        Ok(None)
    }

    async fn writer(&self, _: &LaneId) -> Result<Box<dyn Writer>> {
        Err(Error::new(ErrorKind::Broken, "write", "nobody writes here"))
    }

    async fn reader(&self, _: &str, _: u32, _: Option<&PipelineId>) -> Result<Box<dyn Reader>> {
        let tape = Arc::clone(&self.0);
        Ok(Box::new(Head { tape, next: 0, told_end: false, random: StdRng::seed_from_u64(7) }))
    }
}

#[async_trait]
impl Reader for Head {
    async fn seek(&mut self, offset: u64) -> Result<()> {
        tokio::time::sleep(SEEK).await;
        self.tape.readers.fetch_add(1, Ordering::Relaxed);
        (self.next, self.told_end) = (offset, false);
        Ok(())
    }

    async fn next(&mut self, _: usize, _: usize) -> Result<Fetched> {
        let mut grown = self.tape.end.subscribe();
        loop {
            if std::mem::take(&mut *self.tape.fails.lock().unwrap()) {
                return Err(Error::new(ErrorKind::Unavailable, "read", "the test says so"));
            }
            let end = *grown.borrow_and_update();
            let size = self.tape.size.load(Ordering::Relaxed);
            if self.next < end {
                let to = end.min(self.next + self.random.random_range(1..5));
                let records: Vec<Incoming> = (self.next..to).map(|offset| record(offset, size)).collect();
                self.tape.read.fetch_add(records.len() as u64, Ordering::Relaxed);
                (self.next, self.told_end) = (to, false);
                // As on Kafka: that it was the end comes by itself.
                return Ok(Fetched { records, next: to, end: end.max(to + 1) });
            }
            if !std::mem::replace(&mut self.told_end, true) {
                return Ok(Fetched { records: Vec::new(), next: self.next, end: self.next });
            }
            grown.changed().await.unwrap();
        }
    }
}

fn record(offset: u64, size: usize) -> Incoming {
    let value = Some(Bytes::from(vec![0; size]));
    Incoming { offset, written_us: 0, key: None, value, headers: Vec::new() }
}

/// Reads up to a place; returns the offsets that came.
async fn read(reader: &mut dyn Reader, to: u64) -> Result<Vec<u64>> {
    let mut offsets = Vec::new();
    loop {
        // Fewer than a portion may have: it is handed out in parts.
        let fetched = reader.next(2, 1 << 20).await?;
        assert!(fetched.records.len() <= 2);
        offsets.extend(fetched.records.iter().map(|record| record.offset));
        if fetched.next >= to {
            return Ok(offsets);
        }
    }
}

async fn lanes(log: &Shared, from: u64, count: usize) -> Vec<Box<dyn Reader>> {
    let mut lanes = Vec::new();
    for _ in 0..count {
        let mut lane = log.reader("t", 0, None).await.unwrap();
        lane.seek(from).await.unwrap();
        lanes.push(lane);
    }
    lanes
}

#[tokio::test(start_paused = true)]
async fn i3_i4_lanes_at_one_place_share_one_reader_and_miss_nothing() {
    let (tape, log) = shared();
    let mut all = lanes(&log, 0, 20).await;
    for to in [1, 40, 41, 200] {
        tape.end.send_replace(to);
        let from = tape.read.load(Ordering::Relaxed);
        let reads = all.iter_mut().map(|lane| read(lane.as_mut(), to));
        for offsets in futures_util::future::join_all(reads).await {
            assert_eq!(offsets.unwrap(), (from..to).collect::<Vec<_>>());
        }
        assert_eq!(tape.read.load(Ordering::Relaxed), to, "each record is read once");
    }
    assert_eq!(tape.readers.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn i3_i4_a_slow_lane_reads_for_itself_until_it_stands_with_the_others() {
    let (tape, log) = shared();
    let mut all = lanes(&log, 0, 2).await;
    let mut slow = all.pop().unwrap();
    let mut fast = all.pop().unwrap();
    // Far more than the memory holds.
    tape.end.send_replace(100_000);
    let began = Instant::now();
    assert_eq!(read(fast.as_mut(), 100_000).await.unwrap().len(), 100_000);
    assert_eq!(began.elapsed(), PATIENCE, "the fast one has waited once");
    assert_eq!(read(slow.as_mut(), 100_000).await.unwrap(), (0..100_000).collect::<Vec<_>>());
    let alone = tape.read.load(Ordering::Relaxed);
    assert!(alone > 190_000, "it has read most of it by itself: {alone}");
    tape.end.send_replace(100_100);
    let (slow, fast) = tokio::join!(read(slow.as_mut(), 100_100), read(fast.as_mut(), 100_100));
    assert_eq!(fast.unwrap(), slow.unwrap());
    assert_eq!(tape.read.load(Ordering::Relaxed) - alone, 100, "together again");
}

#[tokio::test(start_paused = true)]
async fn i3_i4_a_lane_that_comes_later_or_starts_elsewhere_misses_nothing() {
    let (tape, log) = shared();
    tape.end.send_replace(100);
    let mut first = lanes(&log, 50, 1).await.remove(0);
    assert_eq!(read(first.as_mut(), 100).await.unwrap(), (50..100).collect::<Vec<_>>());
    for from in [0, 3, 50, 77, 99, 100] {
        let mut later = lanes(&log, from, 1).await.remove(0);
        tape.end.send_modify(|end| *end += 10);
        let end = *tape.end.borrow();
        let (_, offsets) = tokio::join!(read(first.as_mut(), end), read(later.as_mut(), end));
        assert_eq!(offsets.unwrap(), (from..end).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_joins_at_the_end_is_told_that_it_is_the_end() {
    let (tape, log) = shared();
    tape.end.send_replace(100);
    let mut first = lanes(&log, 0, 1).await.remove(0);
    let mut told = first.next(100, 1 << 20).await.unwrap();
    while told.next < told.end {
        told = first.next(100, 1 << 20).await.unwrap();
    }
    for _ in 0..3 {
        let mut later = lanes(&log, 100, 1).await.remove(0);
        let fetched = later.next(100, 1 << 20).await.unwrap();
        assert_eq!((fetched.records.len(), fetched.next, fetched.end), (0, 100, 100));
        let more = tokio::time::timeout(SEEK, later.next(100, 1 << 20)).await;
        assert!(more.is_err(), "it is told once");
    }
    assert_eq!(tape.readers.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn i4_a_lane_that_stands_a_little_ahead_waits_for_the_others() {
    let (tape, log) = shared();
    tape.end.send_replace(200);
    let mut first = lanes(&log, 0, 1).await.remove(0);
    first.next(100, 1 << 20).await.unwrap();
    let mut ahead = lanes(&log, 150, 1).await.remove(0);
    assert_eq!(read(ahead.as_mut(), 200).await.unwrap(), (150..200).collect::<Vec<_>>());
    assert_eq!(tape.readers.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn lanes_that_are_expected_are_waited_for_but_not_for_ever() {
    let (tape, log) = shared();
    tape.end.send_replace(100_000);
    for _ in 0..3 {
        log.expect("t", 0);
    }
    let mut quick = lanes(&log, 0, 1).await.remove(0);
    let (began, log) = (Instant::now(), &log);
    let late = async {
        tokio::time::sleep(GATHERING / 4).await;
        lanes(log, 0, 1).await.remove(0)
    };
    let (first, mut late) = tokio::join!(quick.next(100, 1 << 20), late);
    assert_eq!(began.elapsed(), GATHERING, "the third never comes");
    let second = late.next(100, 1 << 20).await.unwrap();
    assert_eq!(first.unwrap().next, second.next);
    assert_eq!(tape.readers.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn i3_i4_lanes_that_are_behind_share_a_reader_until_they_stand_with_the_others() {
    let (tape, log) = shared();
    tape.end.send_replace(50_000);
    let mut head = lanes(&log, 50_000, 1).await.remove(0);
    head.next(100, 1 << 20).await.unwrap();
    let mut behind = lanes(&log, 10_000, 10).await;
    let reads = futures_util::future::join_all(behind.iter_mut().map(|lane| read(lane.as_mut(), 50_000)));
    for offsets in reads.await {
        assert_eq!(offsets.unwrap(), (10_000..50_000).collect::<Vec<_>>());
    }
    assert_eq!(tape.read.load(Ordering::Relaxed), 40_000, "once for all of them");
    tape.end.send_replace(50_100);
    behind.push(head);
    let reads = futures_util::future::join_all(behind.iter_mut().map(|lane| read(lane.as_mut(), 50_100)));
    for offsets in reads.await {
        assert_eq!(offsets.unwrap(), (50_000..50_100).collect::<Vec<_>>());
    }
    assert_eq!(tape.read.load(Ordering::Relaxed), 40_100, "and now they stand with the first");
    assert_eq!(tape.readers.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn i7_a_lane_that_takes_nothing_more_holds_nobody_up_however_large_the_records_are() {
    let (tape, log) = shared();
    tape.size.store(3 << 20, Ordering::Relaxed);
    let mut all = lanes(&log, 0, 2).await;
    tape.end.send_replace(20);
    let began = Instant::now();
    assert_eq!(read(all[0].as_mut(), 20).await.unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(began.elapsed(), PATIENCE);
    assert_eq!(read(all[1].as_mut(), 20).await.unwrap(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn i7_a_lane_that_goes_on_slowly_holds_the_others_up_once() {
    let (tape, log) = shared();
    tape.size.store(1 << 20, Ordering::Relaxed);
    let mut all = lanes(&log, 0, 2).await;
    tape.end.send_replace(100);
    let (mut slow, mut fast) = (all.pop().unwrap(), all.pop().unwrap());
    let slowly = async {
        loop {
            slow.next(100, 1 << 20).await.unwrap();
            tokio::time::sleep(PATIENCE * 9 / 10).await;
        }
    };
    let began = Instant::now();
    let offsets = tokio::select! {
        offsets = read(fast.as_mut(), 100) => offsets.unwrap(),
        () = slowly => unreachable!("it never ends"),
    };
    assert_eq!(offsets, (0..100).collect::<Vec<_>>());
    assert!(began.elapsed() < PATIENCE * 3, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn i7_a_lane_that_is_not_polled_while_a_reader_begins_holds_nobody_up() {
    let (tape, log) = shared();
    let mut all = lanes(&log, 0, 3).await;
    *tape.fails.lock().unwrap() = true;
    tape.end.send_replace(30);
    assert!(all[0].next(100, 1 << 20).await.is_err());
    let mut other = all.pop().unwrap();
    let mut parked = all.pop().unwrap();
    // It has begun to open a reader, and its store hangs now.
    assert!(tokio::time::timeout(SEEK / 5, parked.next(100, 1 << 20)).await.is_err());
    assert_eq!(read(other.as_mut(), 30).await.unwrap(), (0..30).collect::<Vec<_>>());
    assert_eq!(read(parked.as_mut(), 30).await.unwrap(), (0..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_was_the_end_before_a_lane_joined_is_not_told_as_its_end() {
    let (tape, log) = shared();
    tape.end.send_replace(100);
    let mut parked = lanes(&log, 0, 1).await.remove(0);
    while parked.next(100, 1 << 20).await.is_ok_and(|fetched| fetched.next < fetched.end) {}
    tape.end.send_replace(140);
    for from in [99, 100] {
        let mut joiner = lanes(&log, from, 1).await.remove(0);
        loop {
            let fetched = joiner.next(100, 1 << 20).await.unwrap();
            assert!(fetched.next == 140 || fetched.end > fetched.next, "{fetched:?} is not the end");
            if fetched.next == fetched.end {
                break;
            }
        }
    }
    assert_eq!(tape.readers.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn i7_a_lane_whose_calls_are_dropped_faster_than_a_reader_begins_arrives_all_the_same() {
    let (tape, log) = shared();
    let mut lane = lanes(&log, 0, 1).await.remove(0);
    *tape.fails.lock().unwrap() = true;
    tape.end.send_replace(30);
    let mut other = lanes(&log, 0, 1).await.remove(0);
    assert!(other.next(100, 1 << 20).await.is_err());
    let (mut offsets, mut dropped) = (Vec::new(), 0);
    while offsets.len() < 30 {
        match tokio::time::timeout(SEEK / 5, lane.next(100, 1 << 20)).await {
            Ok(fetched) => offsets.extend(fetched.unwrap().records.iter().map(|record| record.offset)),
            Err(_) => dropped += 1,
        }
        assert!(dropped < 100, "it never arrives");
    }
    assert_eq!(offsets, (0..30).collect::<Vec<_>>());
    assert!(dropped > 0);
}

#[tokio::test(start_paused = true)]
async fn i3_a_reader_that_fails_tells_one_lane_and_the_others_go_on() {
    let (tape, log) = shared();
    let mut all = lanes(&log, 0, 5).await;
    *tape.fails.lock().unwrap() = true;
    tape.end.send_replace(30);
    let reads = futures_util::future::join_all(all.iter_mut().map(|lane| read(lane.as_mut(), 30))).await;
    let whole =
        |offsets: &Result<Vec<u64>>| offsets.as_ref().is_ok_and(|o| *o == (0..30).collect::<Vec<_>>());
    assert_eq!(reads.iter().filter(|read| whole(read)).count(), 4);
    assert_eq!(reads.iter().filter(|read| read.is_err()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn i3_i4_calls_that_are_dropped_lose_nothing() {
    let (tape, log) = shared();
    let mut all = lanes(&log, 0, 3).await;
    let mut random = StdRng::seed_from_u64(3);
    let mut seen = vec![Vec::new(); 3];
    while seen.iter().any(|seen| seen.len() < 500) {
        if *tape.end.borrow() < 500 {
            tape.end.send_modify(|end| *end += 1);
        }
        let at = random.random_range(0..3);
        let other = (at + 1) % 3;
        let [a, b] = all.get_disjoint_mut([at, other]).unwrap();
        // Whichever is ready first; the other call is dropped.
        let (lane, fetched) = tokio::select! {
            fetched = a.next(100, 1 << 20) => (at, fetched),
            fetched = b.next(100, 1 << 20) => (other, fetched),
            () = tokio::task::yield_now() => continue,
        };
        seen[lane].extend(fetched.unwrap().records.iter().map(|record| record.offset));
    }
    for seen in seen {
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
    }
}
