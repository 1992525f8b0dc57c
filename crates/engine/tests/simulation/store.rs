//! The store that the lanes share, and the sink of one owner of a lane.
//!
//! It has two forms. A table keeps where each lane stands in a row that each commit changes last. A log keeps it in
//! records of one topic that all lanes write, as Kafka would with one partition for all of them: an open transaction of
//! one lane hides from a reader what others have committed behind it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use hutong_core::{
    Batch, Change, Checkpoint, Contract, Error, ErrorKind, LaneId, Op, Refused, Result, Row, Sink, Value,
};
use tokio::time::Instant;

use crate::history::{Event, Left, Places, Transaction, Write, places, reached};
use crate::planted::Plant;
use crate::world::{Inner, World};

/// How a store keeps where its lanes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In a row a lane.
    Table,
    /// In records of a topic.
    Log,
}

/// Where the lanes write.
#[derive(Debug)]
pub(crate) struct Store {
    /// How it keeps where they stand.
    pub(crate) form: Form,
    /// The lanes.
    pub(crate) lanes: Vec<Standing>,
    rows: BTreeMap<i64, (usize, Row)>,
    records: Vec<Record>,
}

/// Where a lane stands.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The partitions that it carries.
    pub(crate) partitions: Vec<usize>,
    epoch: u64,
    /// The number of the grant in force.
    pub(crate) grant: usize,
    /// What it has committed.
    pub(crate) checkpoint: Checkpoint,
}

/// After so long the log aborts a transaction by itself: its owner may be gone for good.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Record {
    lane: usize,
    since: Instant,
    state: Mark,
    checkpoint: Checkpoint,
}

/// What became of a record's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Aborted,
    Committed,
    /// The marker at a transaction's end.
    Marker,
}

impl Store {
    /// Makes an empty store of lanes that carry these partitions.
    pub(crate) fn new(form: Form, lanes: Vec<Vec<usize>>) -> Self {
        let lanes = lanes.into_iter().map(|partitions| Standing { partitions, ..Standing::default() });
        Self { form, lanes: lanes.collect(), rows: BTreeMap::new(), records: Vec::new() }
    }
}

impl Inner {
    /// Another grant is in force: what was written under the older one goes, and the lane starts anew (I5).
    pub(crate) fn grant(&mut self, lane: usize, grant: usize) {
        let standing = &mut self.store.lanes[lane];
        standing.grant = grant;
        standing.checkpoint = Checkpoint::default();
        self.store.rows.retain(|_, (partition, _)| !standing.partitions.contains(partition));
        self.record(Event::Anew { lane, grant });
    }
}

/// The sink of one owner.
pub(crate) struct Writer {
    world: World,
    owner: usize,
    lane: usize,
    grant: usize,
    epoch: u64,
    /// Where the lane stands, as far as this owner knows.
    checkpoint: Checkpoint,
    /// What was answered and not written, with that bug.
    answered: Option<Batch>,
}

impl Writer {
    /// Makes the sink of an owner, who permits by a grant.
    pub(crate) fn new(world: World, owner: usize, lane: usize, grant: usize) -> Self {
        let checkpoint = Checkpoint::default();
        Self { world, owner, lane, grant, epoch: 0, checkpoint, answered: None }
    }

    fn fenced<T>(why: &str) -> Result<T> {
        Err(Error::new(ErrorKind::Fenced, "commit", why))
    }

    /// I2: the fence. A newer owner has raised the epoch, or another grant is in force.
    fn check(&self, inner: &Inner) -> Result<()> {
        let standing = &inner.store.lanes[self.lane];
        if standing.epoch != self.epoch && inner.plant != Some(Plant::SkippedFence) {
            return Self::fenced("a newer owner has opened it");
        }
        if standing.grant != self.grant && inner.plant != Some(Plant::OlderGrant) {
            return Self::fenced("another grant is in force");
        }
        Ok(())
    }

    /// Reads where the lane stands from the log.
    async fn read_log(&self) -> Result<Checkpoint> {
        let end = self.world.lock().store.records.len();
        self.world.pause().await;
        let mut inner = self.world.lock();
        inner.store.expire();
        let records = &inner.store.records;
        // What a reader of committed records comes to.
        let stable = records.iter().position(|record| record.state == Mark::Open).unwrap_or(records.len());
        if stable < end && inner.plant != Some(Plant::CheckpointAtEof) {
            return Err(Error::new(ErrorKind::Unavailable, "read the checkpoint", "a transaction is open"));
        }
        let of_it = |record: &&Record| record.lane == self.lane && record.state == Mark::Committed;
        Ok(records[..stable].iter().rfind(of_it).map(|r| r.checkpoint.clone()).unwrap_or_default())
    }

    /// Opens a transaction in the log with where the lane will stand, and returns its place.
    fn begin(&self, batch: &Batch) -> Result<usize> {
        let mut inner = self.world.lock();
        self.check(&inner)?;
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.advance(&batch.delta)?;
        inner.store.records.push(Record {
            lane: self.lane,
            since: Instant::now(),
            state: Mark::Open,
            checkpoint,
        });
        Ok(inner.store.records.len() - 1)
    }

    /// Commits the transaction at a place.
    fn end(&mut self, at: usize, batch: &Batch) -> Result<Refused> {
        let state = {
            let mut inner = self.world.lock();
            inner.store.expire();
            inner.store.records[at].state
        };
        if state != Mark::Open {
            return Self::fenced("its transaction was aborted");
        }
        let refused = self.write(batch, true)?;
        let mut inner = self.world.lock();
        inner.store.records[at].state = Mark::Committed;
        let (lane, checkpoint) = (self.lane, Checkpoint::default());
        inner.store.records.push(Record { lane, since: Instant::now(), state: Mark::Marker, checkpoint });
        Ok(refused)
    }

    /// Writes everything of a batch in one transaction, but for the checkpoint when `moves` is false.
    fn write(&mut self, batch: &Batch, moves: bool) -> Result<Refused> {
        let mut inner = self.world.lock();
        self.check(&inner)?;
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.advance(&batch.delta)?;
        let nulls = inner.plant == Some(Plant::UnknownAsNull);
        let (mut writes, mut aside) = (Vec::new(), Vec::new());
        for change in &batch.changes {
            let at = place(change);
            match inner.store.apply(at.0, change, nulls) {
                Some(left) => writes.push(Write { at, left }),
                None => aside.push(at),
            }
        }
        let refused = Refused { lasting: aside.len() as u64, ..Refused::default() };
        // A reject tells its place by the change that it keeps.
        aside.extend(batch.rejected.iter().filter_map(|rejected| rejected.change.as_deref()).map(place));
        if inner.plant == Some(Plant::RejectNotKept) {
            aside.clear();
        }
        let (lane, dropped) = (self.lane, batch.dropped.clone());
        if moves {
            inner.store.lanes[lane].checkpoint = checkpoint.clone();
            self.checkpoint = checkpoint;
        }
        let standing = &inner.store.lanes[lane].checkpoint;
        let note = |(name, text): (&String, &String)| Some((name[1..].parse().ok()?, text.parse().ok()?));
        let noted: Places = standing.notes.iter().filter_map(note).collect();
        let (owner, grant, reached) = (self.owner, self.grant, reached(standing));
        let stored = Transaction { owner, lane, grant, writes, aside, dropped, reached, noted };
        inner.record(Event::Stored(stored));
        Ok(refused)
    }
}

/// Returns the partition and the offset of a change.
fn place(change: &Change) -> (usize, u64) {
    let partition = change.origin.place.table[1..].parse().expect("a partition of the simulation");
    (partition, places(change.position) - 1)
}

impl Store {
    /// Aborts the transactions of the log that are open for too long.
    fn expire(&mut self) {
        for record in self.records.iter_mut().filter(|record| record.since.elapsed() > TIMEOUT) {
            if record.state == Mark::Open {
                record.state = Mark::Aborted;
            }
        }
    }

    /// Applies one change; `None` when a value is not told that the store does not have either.
    fn apply(&mut self, partition: usize, change: &Change, nulls: bool) -> Option<Left> {
        let key = match change.key().as_deref() {
            Some([Value::Integer(key)]) => *key,
            _ => 0,
        };
        let Some(row) = &change.after else {
            if change.op == Op::Truncate {
                self.rows.retain(|_, (of, _)| *of != partition);
                return Some(Left::Empty);
            }
            self.rows.remove(&key);
            return Some(Left::Nothing(key));
        };
        let mut row = row.clone();
        for (at, value) in row.iter_mut().enumerate().filter(|(_, value)| value.is_unknown()) {
            *value = if nulls { Value::Null } else { self.rows.get(&key)?.1[at].clone() };
        }
        self.rows.insert(key, (partition, row.clone()));
        Some(Left::Row(key, row))
    }
}

#[async_trait]
impl Sink for Writer {
    async fn open(&mut self, _lane: &LaneId) -> Result<Checkpoint> {
        self.world.pause().await;
        let form = {
            let mut inner = self.world.lock();
            let standing = &mut inner.store.lanes[self.lane];
            if standing.grant > self.grant {
                return Self::fenced("a newer grant is in force");
            }
            // I7: earlier owners are shut out from here on, and what they have begun does not count.
            standing.epoch += 1;
            self.epoch = standing.epoch;
            inner.record(Event::Took { owner: self.owner, lane: self.lane });
            let standing = &inner.store.lanes[self.lane];
            if standing.grant < self.grant {
                inner.grant(self.lane, self.grant);
            }
            for record in inner.store.records.iter_mut().filter(|record| record.lane == self.lane) {
                if record.state == Mark::Open {
                    record.state = Mark::Aborted;
                }
            }
            self.checkpoint = inner.store.lanes[self.lane].checkpoint.clone();
            inner.store.form
        };
        if form == Form::Log {
            self.checkpoint = self.read_log().await?;
        }
        let told = reached(&self.checkpoint);
        self.world.lock().record(Event::Opened { owner: self.owner, lane: self.lane, told });
        self.world.pause().await;
        Ok(self.checkpoint.clone())
    }

    async fn prepare(&mut self, _contract: &Contract) -> Result<()> {
        self.world.pause().await;
        Ok(())
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        self.world.pause().await;
        if self.world.has(Plant::AnswerBeforeCommit) {
            if let Some(earlier) = self.answered.replace(batch.clone()) {
                self.write(&earlier, true)?;
            }
            return Ok(Refused::default());
        }
        if self.world.has(Plant::CheckpointInSecondTransaction) {
            self.write(batch, false)?;
            self.world.wait(50).await;
            let second = Batch { delta: batch.delta.clone(), ..Batch::default() };
            return self.write(&second, true);
        }
        if self.world.lock().store.form == Form::Table {
            self.world.pause().await;
            return self.write(batch, true);
        }
        let at = self.begin(batch)?;
        let slow = rand::Rng::random_bool(&mut self.world.lock().dice, 0.1);
        self.world.wait(if slow { 5_000 } else { 5 }).await;
        self.end(at, batch)
    }
}
