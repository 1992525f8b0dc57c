//! One reader of a partition for many lanes, and the short memory of what it has read.
//!
//! No task of its own: the lane that wants the next records first reads them, for everybody. A lane that falls behind
//! holds the others up for a moment only ([`PATIENCE`]); then it is left behind and reads for itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hutong_core::Result;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::log::{Fetched, Incoming, Reader};

/// How much is read at once, for all.
const READ_RECORDS: usize = 5_000;
const READ_BYTES: usize = 4 << 20;
/// How many bytes are kept for a lane that comes a little later, beside others and beside one.
const KEPT_BYTES: usize = 1 << 20;
const KEPT_BESIDE_ONE_BYTES: usize = 64 << 10;
/// How many bytes are read ahead of the slowest lane, but for the last portion.
const AHEAD_BYTES: usize = 2 << 20;
/// How many records a lane may stand before its feed and wait for it.
const WAIT_RECORDS: u64 = 5_000;
/// How long a reader needs at the most to say what is new; both buses look more often.
const SURE: Duration = Duration::from_millis(250);
/// How long the others wait for the slowest lane when they are so far ahead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// A reader that lanes share.
pub(crate) struct Feed {
    /// Which of the feeds of its partition it is.
    id: u64,
    /// How many lanes of this process have still to say where in the partition they stand, and until when it waits for
    /// them before it reads.
    expected: (watch::Receiver<usize>, Instant),
    /// Whoever holds it reads for everybody.
    reader: tokio::sync::Mutex<Box<dyn Reader>>,
    memory: Mutex<Memory>,
    /// Wakes those who wait: something was read, or there is room again.
    changed: watch::Sender<()>,
}

/// A lane's share in a feed.
pub(crate) struct Member {
    feed: Arc<Feed>,
    id: u64,
    /// The portion to be read next, and the offset that everything before was handed out.
    number: u64,
    offset: u64,
    /// The first portion that was read after the lane has joined: what those before say of the end is of another time.
    joined: u64,
    /// From when on silence of the reader means that the lane stands at the end as it was when it joined.
    sure_at: Instant,
    /// Whether the lane knows that it stands at the end, if it does.
    told_end: bool,
}

/// Portions in the order in which they were read. They are numbered, because one that only says where the end is
/// moves no offset.
#[derive(Default)]
struct Memory {
    portions: VecDeque<Portion>,
    bytes: usize,
    /// The number behind the last portion, the offset that it reached, and the end that it saw.
    number: u64,
    next: u64,
    end: Option<u64>,
    failed: bool,
    /// Since when nothing may be read because of the slowest lane.
    full_since: Option<Instant>,
    /// The portion that each lane reads next.
    members: HashMap<u64, u64>,
    last_id: u64,
}

struct Portion {
    from: u64,
    bytes: usize,
    fetched: Arc<Fetched>,
}

/// What the memory has for a lane.
enum Found {
    Portion(Arc<Fetched>),
    /// The lane stands at the end.
    End(Fetched),
    /// Nothing yet: it must be read.
    Nothing,
    /// Nothing may be read before this time, unless the slowest lane goes on.
    Full(Instant),
    /// It is no longer there, or will never come.
    Forgotten,
}

impl Feed {
    /// Begins a feed with a reader that stands at an offset.
    ///
    /// It reads when the lanes that are expected have come, so that one that is quick to open does not leave the others
    /// of its process behind, or at a time.
    pub(crate) fn begin(
        id: u64,
        reader: Box<dyn Reader>,
        offset: u64,
        expected: (watch::Receiver<usize>, Instant),
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            expected,
            reader: tokio::sync::Mutex::new(reader),
            memory: Mutex::new(Memory { next: offset, ..Memory::default() }),
            changed: watch::Sender::new(()),
        })
    }

    /// Joins a lane that stands at an offset, if the feed reads there. `ahead_of`: and only if it has come further than
    /// that feed; of two at one place it is the newer one, so that lanes do not change places.
    pub(crate) fn join(self: &Arc<Self>, offset: u64, ahead_of: Option<(u64, u64)>) -> Option<Member> {
        let mut memory = self.memory();
        if memory.failed || ahead_of.is_some_and(|other| (memory.next, self.id) <= other) {
            return None;
        }
        let number = memory.holds(offset)?;
        memory.last_id += 1;
        let id = memory.last_id;
        memory.members.insert(id, number);
        let (feed, joined) = (Arc::clone(self), memory.number);
        Some(Member { feed, id, number, offset, joined, sure_at: Instant::now() + SURE, told_end: false })
    }

    /// Waits for the lanes that are expected.
    async fn gather(&self) {
        let (mut expected, until) = self.expected.clone();
        tokio::select! {
            biased;
            _ = expected.wait_for(|expected| *expected == 0) => {}
            () = sleep_until(until) => {}
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut memory = self.feed.memory();
        memory.members.remove(&self.id);
        if memory.trim() {
            self.feed.changed.send_replace(());
        }
    }
}

impl Member {
    /// Returns the offset that everything before was handed out.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns how far its feed has come, and which one that is.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.feed.memory().next, self.feed.id)
    }

    /// Waits for the next records, up to the limits; `None` when the feed has left this lane behind, or has failed for
    /// another one. Cancel safe: between what is read, or taken from the memory, and the return nothing waits.
    pub(crate) async fn next(&mut self, limit: usize, limit_bytes: usize) -> Result<Option<Fetched>> {
        let feed = Arc::clone(&self.feed);
        let mut changed = feed.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let found = feed.memory().find(self);
            match found {
                Found::Portion(fetched) => match self.take(&fetched, limit, limit_bytes) {
                    Some(fetched) => return Ok(Some(fetched)),
                    None => continue,
                },
                Found::End(fetched) => return Ok(Some(fetched)),
                Found::Forgotten => return Ok(None),
                Found::Full(until) => {
                    tokio::select! {
                        biased;
                        _ = changed.changed() => {}
                        () = sleep_until(until) => {
                            feed.memory().leave_behind();
                            feed.changed.send_replace(());
                        }
                    }
                    continue;
                }
                Found::Nothing => {}
            }
            feed.gather().await;
            let mut reader = tokio::select! {
                biased;
                _ = changed.changed() => continue,
                () = self.until_sure() => continue,
                reader = feed.reader.lock() => reader,
            };
            // Somebody may have read while this lane waited for its turn.
            if !matches!(feed.memory().find(self), Found::Nothing) {
                continue;
            }
            let read = tokio::select! {
                biased;
                read = reader.next(READ_RECORDS, READ_BYTES) => read,
                () = self.until_sure() => continue,
            };
            let failed = {
                let mut memory = feed.memory();
                match read {
                    Ok(fetched) => {
                        memory.push(fetched);
                        None
                    }
                    Err(error) => {
                        memory.failed = true;
                        Some(error)
                    }
                }
            };
            feed.changed.send_replace(());
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    /// Waits until silence means the end; for ever when that was so before.
    async fn until_sure(&self) {
        if self.told_end || self.sure_at <= Instant::now() {
            std::future::pending::<()>().await;
        }
        sleep_until(self.sure_at).await;
    }

    /// Takes the next records of a portion, at least one; `None` when the lane stands behind all of it.
    fn take(&mut self, fetched: &Fetched, limit: usize, limit_bytes: usize) -> Option<Fetched> {
        let old = self.number < self.joined;
        let first = fetched.records.partition_point(|record| record.offset < self.offset);
        let left = fetched.records.get(first..).unwrap_or_default();
        let (mut count, mut bytes) = (0, 0);
        while count < left.len().min(limit.max(1)) && (count == 0 || bytes < limit_bytes) {
            bytes += weight(&left[count]);
            count += 1;
        }
        let (records, rest) = left.split_at(count);
        let next = rest.first().map_or(fetched.next, |record| record.offset);
        if rest.is_empty() {
            self.pass();
        }
        if next < self.offset {
            return None;
        }
        self.offset = next;
        let end = if old { fetched.end.max(fetched.next + 1) } else { fetched.end };
        self.told_end = next >= end;
        Some(Fetched { records: records.to_vec(), next, end })
    }

    /// Moves behind a portion.
    fn pass(&mut self) {
        self.number += 1;
        let made_room = {
            let mut memory = self.feed.memory();
            if let Some(number) = memory.members.get_mut(&self.id) {
                *number = self.number;
            }
            memory.trim()
        };
        if made_room {
            self.feed.changed.send_replace(());
        }
    }
}

impl Memory {
    fn first(&self) -> u64 {
        self.number - self.portions.len() as u64
    }

    /// Returns the number of the portion that a lane at an offset reads next, if it may read here: the portion holds
    /// the offset, or the feed comes to it, and the offset is known to exist.
    fn holds(&self, offset: u64) -> Option<u64> {
        let comes = |end| offset <= self.next + WAIT_RECORDS && offset <= end;
        if offset == self.next || (offset > self.next && self.end.is_some_and(comes)) {
            return Some(self.number);
        }
        let found = self.portions.iter().position(|portion| portion.fetched.next > offset)?;
        (self.portions[found].from <= offset).then_some(self.first() + found as u64)
    }

    fn find(&mut self, member: &mut Member) -> Found {
        if !self.members.contains_key(&member.id) {
            return Found::Forgotten;
        }
        if let Some(at) = member.number.checked_sub(self.first())
            && let Some(portion) = self.portions.get(at as usize)
        {
            return Found::Portion(Arc::clone(&portion.fetched));
        }
        if self.failed {
            return Found::Forgotten;
        }
        // Who joins at the end must learn that it is the end, though the portion that said so is of an earlier time. It
        // may stand behind it, where there is nothing but markers.
        let at_end = self.end == Some(self.next) && member.offset >= self.next;
        if at_end && !member.told_end && member.sure_at <= Instant::now() {
            member.told_end = true;
            let (next, end) = (member.offset, member.offset);
            return Found::End(Fetched { records: Vec::new(), next, end });
        }
        if self.is_full() {
            let since = *self.full_since.get_or_insert_with(Instant::now);
            return Found::Full(since + PATIENCE);
        }
        Found::Nothing
    }

    fn push(&mut self, fetched: Fetched) {
        let bytes = fetched.records.iter().map(weight).sum::<usize>() + size_of::<Portion>();
        let from = std::mem::replace(&mut self.next, fetched.next);
        self.end = Some(fetched.end);
        self.number += 1;
        self.bytes += bytes;
        self.portions.push_back(Portion { from, bytes, fetched: Arc::new(fetched) });
    }

    /// Returns the portion that the slowest lane reads next.
    fn slowest(&self) -> u64 {
        self.members.values().copied().min().unwrap_or(self.number)
    }

    fn is_full(&self) -> bool {
        self.bytes > AHEAD_BYTES && self.slowest() <= self.first()
    }

    /// Forgets what no lane needs, but for a little. Returns whether somebody waited for that.
    fn trim(&mut self) -> bool {
        let kept = if self.members.len() > 1 { KEPT_BYTES } else { KEPT_BESIDE_ONE_BYTES };
        let slowest = self.slowest();
        while self.bytes > kept && self.first() < slowest {
            self.forget_first();
        }
        let waited = self.full_since.is_some();
        // Only when the slowest has really come near: one that takes a little at a time would hold the others to its pace.
        if self.bytes <= KEPT_BYTES {
            self.full_since = None;
        }
        waited && !self.is_full()
    }

    fn forget_first(&mut self) {
        if let Some(portion) = self.portions.pop_front() {
            self.bytes -= portion.bytes;
        }
    }

    /// Leaves the slowest lanes behind, when the others have waited long enough.
    fn leave_behind(&mut self) {
        if !self.is_full() || self.full_since.is_none_or(|since| since.elapsed() < PATIENCE) {
            return;
        }
        while self.bytes > KEPT_BYTES {
            self.forget_first();
        }
        let first = self.first();
        self.members.retain(|_, number| *number >= first);
        self.full_since = None;
    }
}

fn weight(record: &Incoming) -> usize {
    let headers =
        record.headers.iter().map(|(name, value)| name.len() + value.len() + size_of_val(&(name, value)));
    let bytes = [&record.key, &record.value].into_iter().flatten().map(bytes::Bytes::len);
    bytes.sum::<usize>() + headers.sum::<usize>() + size_of::<Incoming>()
}
