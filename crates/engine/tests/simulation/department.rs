//! The department: a log of row changes in several partitions that forgets what it may forget, and its source.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hutong_core::{
    Batch, Before, Change, Checkpoint, Delta, Error, ErrorKind, Op, Origin, Place, Result, Row, Source, Value,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::history::{Event, name, places, position, reached};
use crate::planted::Plant;
use crate::world::{CONTRACT, World};

/// The large value's place in a row.
pub(crate) const PORTRAIT: usize = 3;

/// One change, with everything that the department knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What happened.
    pub(crate) op: Op,
    /// The row's key; 0 of a truncate.
    pub(crate) key: i64,
    /// The whole old row.
    pub(crate) before: Option<Row>,
    /// The whole new row.
    pub(crate) after: Option<Row>,
    /// Whether the large value did not change, and is not told.
    pub(crate) untold: bool,
    /// Whether the next place belongs to it, as the two parts of a key change do.
    pub(crate) paired: bool,
}

/// The origin's log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// What each place of each partition holds; `None` is a place that says nothing.
    pub(crate) partitions: Vec<Vec<Option<Entry>>>,
    /// How many places of each partition are forgotten.
    pub(crate) pruned: Vec<u64>,
    /// Whether it forgets what is acked: a department does, a topic does not.
    pub(crate) forgets: bool,
    /// Whether a change tells the whole old row.
    pub(crate) full: bool,
    /// Whether each batch says in a note how far it goes.
    pub(crate) notes: bool,
    /// Whether nothing more will be written.
    pub(crate) finished: bool,
    rows: BTreeMap<i64, Row>,
}

impl Log {
    /// Makes an empty log.
    pub(crate) fn new(partitions: usize, forgets: bool, full: bool, notes: bool) -> Self {
        let (places, pruned) = (vec![Vec::new(); partitions], vec![0; partitions]);
        Self { partitions: places, pruned, forgets, full, notes, ..Self::default() }
    }

    /// Commits one transaction of the department.
    pub(crate) fn write(&mut self, dice: &mut StdRng) {
        let key = dice.random_range(1..=6);
        let old = self.rows.get(&key).cloned();
        match (dice.random_range(0..20), old) {
            (0, _) => {
                self.rows.clear();
                let entry = Entry {
                    op: Op::Truncate,
                    key: 0,
                    before: None,
                    after: None,
                    untold: false,
                    paired: false,
                };
                self.partitions.iter_mut().for_each(|partition| partition.push(Some(entry.clone())));
            }
            (1..=2, _) => {
                let partition = dice.random_range(0..self.partitions.len());
                self.partitions[partition].push(None);
            }
            (_, None) => {
                let row = Self::row(key, dice);
                self.push(Op::Insert, key, None, Some(row), false, false);
            }
            (3..=6, old) => self.push(Op::Delete, key, old, None, false, false),
            (7..=8, Some(old)) => {
                let new = (1..=6).find(|new| !self.rows.contains_key(new));
                let Some(new) = new else { return };
                let beside = self.partition_of(key) == self.partition_of(new);
                self.push(Op::Delete, key, Some(old), None, false, beside);
                let row = Self::row(new, dice);
                self.push(Op::Insert, new, None, Some(row), false, false);
            }
            (_, Some(old)) => {
                let mut row = Self::row(key, dice);
                let kept = dice.random_bool(0.6);
                if kept {
                    row[PORTRAIT] = old[PORTRAIT].clone();
                }
                if dice.random_bool(0.3) {
                    row[1] = old[1].clone();
                }
                let untold = kept && !self.full;
                self.push(Op::Update, key, Some(old), Some(row), untold, false);
            }
        }
    }

    fn row(key: i64, dice: &mut StdRng) -> Row {
        let state = match dice.random_range(0..7) {
            0..=2 => Value::text("here"),
            3 => Value::text("away"),
            4..=5 => Value::text("gone"),
            _ => Value::Null,
        };
        let mut text = |letter: char| Value::text(format!("{letter}{}", dice.random_range(0..1_000)));
        vec![Value::Integer(key), state, text('t'), text('b')]
    }

    fn partition_of(&self, key: i64) -> usize {
        key as usize % self.partitions.len()
    }

    fn push(
        &mut self,
        op: Op,
        key: i64,
        before: Option<Row>,
        after: Option<Row>,
        untold: bool,
        paired: bool,
    ) {
        match &after {
            Some(row) => self.rows.insert(key, row.clone()),
            None => self.rows.remove(&key),
        };
        let partition = self.partition_of(key);
        self.partitions[partition].push(Some(Entry { op, key, before, after, untold, paired }));
    }

    /// Returns the change of a place as a source tells it.
    fn change(&self, partition: usize, offset: u64, entry: &Entry) -> Change {
        let mut after = entry.after.clone();
        if let Some(row) = after.as_mut().filter(|_| entry.untold) {
            row[PORTRAIT] = Value::Unknown;
        }
        let before = match &entry.before {
            None => Before::None,
            Some(row) if self.full => Before::Full(row.clone()),
            Some(row) => Before::Key(CONTRACT.key_row(&CONTRACT.key_of(row))),
        };
        let position = position(offset + 1);
        Change {
            contract: Arc::clone(&CONTRACT),
            op: entry.op,
            before,
            after,
            position,
            source_position: position,
            origin: Origin {
                place: Arc::new(Place { table: name(partition), ..Place::default() }),
                committed_us: offset as i64,
                xid: None,
                lsn: None,
                transaction: None,
                last: true,
            },
        }
    }
}

/// The source of one owner of a lane.
pub(crate) struct Reader {
    /// The world.
    pub(crate) world: World,
    /// Whose it is.
    pub(crate) owner: usize,
    /// Of which lane.
    pub(crate) lane: usize,
    /// The partitions of the lane, and how many places of each were given.
    pub(crate) given: BTreeMap<usize, u64>,
    /// How many places of a partition a batch covers at the most.
    pub(crate) limit: u64,
}

impl Reader {
    /// Takes the next batch, when there is one.
    fn take(&mut self) -> Option<Batch> {
        let mut inner = self.world.lock();
        let inner = &mut *inner;
        let (log, mut batch, mut steps) = (&inner.log, Batch::default(), BTreeMap::new());
        for (partition, given) in &mut self.given {
            let places = &log.partitions[*partition];
            let left = places.len() as u64 - *given;
            // Not every partition has something in every batch.
            if left == 0 || inner.dice.random_bool(0.3) && steps.is_empty() && self.limit > 1 {
                continue;
            }
            let mut upto = *given + inner.dice.random_range(1..=self.limit).min(left);
            while places[upto as usize - 1].as_ref().is_some_and(|entry| entry.paired) {
                upto += 1;
            }
            for offset in *given..upto {
                if let Some(entry) = &places[offset as usize] {
                    batch.changes.push(log.change(*partition, offset, entry));
                }
            }
            let step = Delta::range(name(*partition), position(*given), position(upto));
            batch.delta.append(step).expect("each partition has one step");
            if log.notes {
                batch.delta.set_note(name(*partition), upto.to_string());
            }
            steps.insert(*partition, (*given, upto));
            *given = upto;
        }
        if steps.is_empty() {
            return None;
        }
        if inner.plant == Some(Plant::AckBeforeCommit) {
            let upto = steps.iter().map(|(partition, (_, upto))| (*partition, *upto)).collect();
            inner.forget(self.owner, self.lane, upto);
        }
        inner.record(Event::Given { owner: self.owner, lane: self.lane, steps });
        Some(batch)
    }

    /// Returns how many places are left to give; `None` when there are none yet.
    fn left(&self) -> Option<u64> {
        let log = &self.world.lock().log;
        let left = self.given.iter().map(|(p, given)| log.partitions[*p].len() as u64 - *given).sum();
        (left > 0 || log.finished).then_some(left)
    }
}

#[async_trait]
impl Source for Reader {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        self.world.pause().await;
        let log = &self.world.lock().log;
        for (partition, given) in &mut self.given {
            *given = places(from.position(&name(*partition)));
            // I1: what was forgotten before it was durable downstream is lost.
            if *given < log.pruned[*partition] {
                return Err(Error::new(ErrorKind::PositionLost, "open the log", "it was pruned too far"));
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        self.world.pause().await;
        loop {
            if let Some(batch) = self.take() {
                return Ok(Some(batch));
            }
            match self.left() {
                Some(0) => return Ok(None),
                // A partition that had nothing this time has something the next.
                Some(_) => tokio::task::yield_now().await,
                None => self.world.written.notified().await,
            }
        }
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        self.world.pause().await;
        self.world.lock().forget(self.owner, self.lane, reached(upto));
        Ok(())
    }
}

impl crate::world::Inner {
    /// Forgets what lies before, unless it is a topic.
    fn forget(&mut self, owner: usize, lane: usize, upto: crate::history::Places) {
        for (partition, upto) in upto.iter().filter(|_| self.log.forgets) {
            let pruned = &mut self.log.pruned[*partition];
            *pruned = (*pruned).max(*upto);
        }
        self.record(Event::Acked { owner, lane, upto });
    }
}
