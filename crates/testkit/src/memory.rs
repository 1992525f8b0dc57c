//! Ports in memory, for tests of the engine: a source that prunes on ack, and a sink that can be told to fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hutong_core::{
    Act, Batch, Before, Behind, Change, Checkpoint, Contract, Delta, Error, ErrorKind, Hold, LaneId, Op,
    Order, Origin, Place, Position, Refused, Result, Row, Sink, Source, Value, Verb,
};

/// The partition that the memory source speaks of.
pub const PARTITION: &str = "memory";

/// Returns a contract with a key `id` and a text `v`.
pub fn contract() -> Arc<Contract> {
    let text = r#"{"type":"record","name":"memory","sharing":"unconditional","key":["id"],
        "fields":[{"name":"id","type":"long"},{"name":"v","type":["null","string"]}]}"#;
    Arc::new(Contract::parse(text).expect("the contract of the tests reads"))
}

/// Returns a change of that contract at a place of the log; `None` deletes.
pub fn change(contract: &Arc<Contract>, place: u64, id: i64, text: Option<&str>) -> Change {
    let position = Position::offset(place);
    let row = |v: Value| vec![Value::Integer(id), v];
    Change {
        contract: Arc::clone(contract),
        op: if text.is_some() { Op::Update } else { Op::Delete },
        before: Before::Key(row(Value::Unknown)),
        after: text.map(|t| row(Value::text(t.to_owned()))),
        position,
        source_position: position,
        origin: Origin {
            place: Arc::new(Place::default()),
            committed_us: place as i64,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    }
}

/// What a sink is told to do at its next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Works.
    None,
    /// Refuses to open.
    RefuseOpen,
    /// Refuses the commit and writes nothing.
    Refuse,
    /// Commits, and loses the answer.
    FailAfterWrite,
    /// Another owner has taken the lane.
    Fence,
    /// Commits, and says that the store refused so many changes.
    SetAside(Refused),
}

/// What source and sink share with the test that watches them.
#[derive(Debug, Default)]
pub struct World {
    /// The origin's log: what was acked is pruned from its front.
    pub log: BTreeMap<u64, Change>,
    /// The first place that was not pruned.
    pub first: u64,
    /// Changes a batch holds at the most; 0 is one.
    pub batch_limit: usize,
    /// What the sink does at its next calls; works when the list is empty.
    pub faults: VecDeque<Fault>,
    /// The rows at the sink.
    pub rows: BTreeMap<i64, Row>,
    /// Every change that the sink has ever applied, by place: twice the same is a broken invariant.
    pub applied: Vec<Position>,
    /// What the sink has set aside.
    pub rejected: usize,
    /// The sink's checkpoint.
    pub checkpoint: Checkpoint,
    /// How often the sink was opened.
    pub opened: u64,
    /// The lane's epoch: whoever opens it and whoever acts on it raises it.
    pub epoch: i64,
}

impl World {
    /// Does to the lane what a person would; states whether there was anything to do.
    pub fn act(&mut self, verb: Verb) -> bool {
        let act = Act { verb, at_us: 1, by: "a person".into(), reason: "a test".into(), to_us: None };
        let order = Order { act, back: BTreeMap::new() };
        let Some(mut after) = order.apply("memory", &self.checkpoint) else { return false };
        self.epoch = after.turn(self.epoch);
        self.checkpoint = after;
        true
    }
}

/// A world shared by its two ports. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    /// Returns the world, locked.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the source. It is bounded: it ends when the log is read.
    pub fn source(&self) -> Box<dyn Source> {
        Box::new(MemorySource { world: self.clone(), at: Position::START })
    }

    /// Returns the sink.
    pub fn sink(&self) -> Box<dyn Sink> {
        Box::new(MemorySink { world: self.clone(), epoch: 0 })
    }
}

struct MemorySource {
    world: Shared,
    at: Position,
}

#[async_trait]
impl Source for MemorySource {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        self.at = from.position(PARTITION);
        let next = self.at.as_offset().map_or(0, |o| o + 1);
        // I1: what was pruned before it was durable downstream is lost, and that must be seen.
        if self.world.lock().first > next {
            return Err(Error::new(ErrorKind::PositionLost, "open the log", "it was pruned too far"));
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        tokio::task::yield_now().await;
        let world = self.world.lock();
        let next = self.at.as_offset().map_or(0, |o| o + 1);
        let changes: Vec<_> =
            world.log.range(next..).take(world.batch_limit.max(1)).map(|(_, c)| c.clone()).collect();
        let Some(last) = changes.last().map(|c| c.position) else { return Ok(None) };
        let delta = Delta::range(PARTITION, self.at, last);
        self.at = last;
        let count = world.log.range(last.as_offset().unwrap_or(0) + 1..).count() as u64;
        Ok(Some(Batch {
            changes,
            delta,
            behind: Behind { count: Some(count), ..Behind::default() },
            ..Batch::default()
        }))
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        if let Some(offset) = upto.position(PARTITION).as_offset() {
            let mut world = self.world.lock();
            world.log = world.log.split_off(&(offset + 1));
            world.first = world.first.max(offset + 1);
        }
        Ok(())
    }
}

struct MemorySink {
    world: Shared,
    epoch: i64,
}

#[async_trait]
impl Sink for MemorySink {
    async fn open(&mut self, _lane: &LaneId) -> Result<Checkpoint> {
        let mut world = self.world.lock();
        if world.faults.front() == Some(&Fault::RefuseOpen) {
            world.faults.pop_front();
            return Err(Error::new(ErrorKind::Unavailable, "open the store", "refused"));
        }
        world.opened += 1;
        world.epoch += 1;
        self.epoch = world.epoch;
        Ok(world.checkpoint.clone())
    }

    async fn prepare(&mut self, _contract: &Contract) -> Result<()> {
        Ok(())
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        tokio::task::yield_now().await;
        let mut world = self.world.lock();
        let fault = world.faults.pop_front().unwrap_or(Fault::None);
        let refused = |kind, why: &str| Err(Error::new(kind, "commit", why));
        match fault {
            Fault::Refuse | Fault::RefuseOpen => return refused(ErrorKind::Unavailable, "refused"),
            Fault::Fence => return refused(ErrorKind::Fenced, "another owner"),
            Fault::None | Fault::FailAfterWrite | Fault::SetAside(_) => {}
        }
        if self.epoch != world.epoch {
            return refused(ErrorKind::Fenced, "an older epoch");
        }
        world.checkpoint.advance(&batch.delta)?;
        world.rejected += batch.rejected.len();
        for change in &batch.changes {
            world.applied.push(change.position);
            if change.op == Op::Truncate {
                world.rows.clear();
            }
            let Some(Value::Integer(id)) = change.key().and_then(|k| k.into_iter().next()) else { continue };
            let Some(mut row) = change.after.clone() else {
                world.rows.remove(&id);
                continue;
            };
            for (value, old) in row.iter_mut().zip(world.rows.get(&id).into_iter().flatten()) {
                if value.is_unknown() {
                    *value = old.clone();
                }
            }
            world.rows.insert(id, row);
        }
        if fault == Fault::FailAfterWrite {
            return refused(ErrorKind::Unknown, "the answer was lost");
        }
        Ok(if let Fault::SetAside(refused) = fault { refused } else { Refused::default() })
    }

    async fn look(&mut self) -> Result<Hold> {
        let world = self.world.lock();
        Ok(world.checkpoint.hold(world.epoch, self.epoch))
    }
}
