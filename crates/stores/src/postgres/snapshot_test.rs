//! The rule of the chunks over a modelled server, whose visibility order is not its commit order: a transaction is in
//! the stream as soon as it is in the log, and others see it whenever a standby has answered.
//!
//! What is modelled is the server, its stream, the capture that forgets everything but its checkpoint, and the replica.
//! What is tested is the real thing: which snapshot is level, which rows give way, what fills what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hutong_core::{Change, Op, Origin, Place, Position, Row, Value};
use hutong_testkit::seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::chunk::Progress;
use super::super::column::PgType;
use super::super::fit::Plan;
use super::super::image::Maker;
use super::super::pgoutput::{Cell, Message, Old};
use super::super::visibility::Visibility;
use super::*;

/// Keys of each table.
const KEYS: std::ops::RangeInclusive<i64> = 1..=6;
const TABLES: usize = 2;

/// A row but for its key: a text, and a large value that an update need not tell.
type Cells = [String; 2];
/// The rows of both tables.
type Rows = BTreeMap<(usize, i64), Cells>;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The server's snapshot is taken to see whatever is committed.
    CommittedIsSeen,
    /// A chunk is read although its snapshot does not see what was streamed before.
    Behind,
    /// A chunk is read before everything has ended that ran at the opening.
    NoBarrier,
    /// No row gives way.
    NoWay,
}

/// One row message, with what it does to the rows.
#[derive(Debug, Clone)]
struct Said {
    table: usize,
    message: Message,
    /// The rows of the keys afterwards; of a truncate none.
    leaves: Vec<(i64, Option<Cells>)>,
}

#[derive(Debug)]
struct Running {
    xid: u64,
    said: Vec<Said>,
    keys: BTreeSet<(usize, i64)>,
    /// It holds a whole table.
    holds: Option<usize>,
    committed: bool,
}

#[derive(Debug, Clone)]
enum Logged {
    Transaction(u64, Vec<Said>),
    Mark(String),
}

/// The server.
struct Server {
    dice: StdRng,
    next_xid: u64,
    running: Vec<Running>,
    seen: Rows,
    log: Vec<Logged>,
}

/// Applies what messages leave.
fn apply(rows: &mut Rows, said: &Said) {
    if said.leaves.is_empty() {
        rows.retain(|(table, _), _| *table != said.table);
    }
    for (key, cells) in &said.leaves {
        match cells {
            Some(cells) => drop(rows.insert((said.table, *key), cells.clone())),
            None => drop(rows.remove(&(said.table, *key))),
        }
    }
}

fn cell(text: &str) -> Cell {
    Cell::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn cells(key: i64, [text, large]: &Cells) -> Vec<Cell> {
    vec![cell(&key.to_string()), cell(text), cell(large)]
}

fn key_cells(key: i64) -> Vec<Cell> {
    vec![cell(&key.to_string()), Cell::Null, Cell::Null]
}

impl Server {
    fn value(&mut self, letter: char) -> String {
        format!("{letter}{}", self.dice.random_range(0..10_000))
    }

    fn begin(&mut self) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let said = Vec::new();
        self.running.push(Running { xid, said, keys: BTreeSet::new(), holds: None, committed: false });
    }

    /// A transaction changes a row, or truncates a table that nobody else has touched.
    fn write(&mut self) {
        let open: Vec<usize> = (0..self.running.len()).filter(|at| !self.running[*at].committed).collect();
        if open.is_empty() {
            return self.begin();
        }
        let at = open[self.dice.random_range(0..open.len())];
        let (table, key) = (self.dice.random_range(0..TABLES), self.dice.random_range(KEYS));
        let free = |key: i64| {
            let others = self.running.iter().enumerate().filter(|(other, _)| *other != at);
            !others.into_iter().any(|(_, o)| o.holds == Some(table) || o.keys.contains(&(table, key)))
        };
        if self.running[at].holds.is_some() || !free(key) {
            return;
        }
        if KEYS.into_iter().all(free) && self.dice.random_bool(0.1) {
            let (message, leaves) = (Message::Truncate { relations: vec![] }, Vec::new());
            self.running[at].holds = Some(table);
            return self.running[at].said.push(Said { table, message, leaves });
        }
        let mut view = self.seen.clone();
        self.running[at].said.iter().for_each(|said| apply(&mut view, said));
        let (relation, there) = (0, view.get(&(table, key)).cloned());
        let other = KEYS.into_iter().find(|other| !view.contains_key(&(table, *other)) && free(*other));
        let fresh = [self.value('t'), self.value('l')];
        let kept = self.dice.random_bool(0.5);
        let (message, leaves) = match (there, self.dice.random_range(0..10), other) {
            (None, ..) => (Message::Insert { relation, new: cells(key, &fresh) }, vec![(key, Some(fresh))]),
            (Some(_), 0..=2, _) => {
                (Message::Delete { relation, old: Old::Key(key_cells(key)) }, vec![(key, None)])
            }
            (Some(there), what, other) => {
                let [text, large] = fresh;
                let now = [text, if kept { there[1].clone() } else { large }];
                let to = other.filter(|_| what == 3).unwrap_or(key);
                let mut new = cells(to, &now);
                if kept {
                    new[2] = Cell::Unchanged;
                }
                let old = if to == key { Old::None } else { Old::Key(key_cells(key)) };
                let mut leaves = vec![(to, Some(now))];
                if to != key {
                    leaves.insert(0, (key, None));
                }
                (Message::Update { relation, old, new }, leaves)
            }
        };
        let running = &mut self.running[at];
        running.keys.extend(leaves.iter().map(|(key, _)| (table, *key)));
        running.said.push(Said { table, message, leaves });
    }

    /// A transaction is in the log from here on; nobody sees it yet.
    fn commit(&mut self) {
        let at = self.dice.random_range(0..self.running.len().max(1));
        if let Some(running) = self.running.get_mut(at).filter(|running| !running.committed) {
            running.committed = true;
            self.log.push(Logged::Transaction(running.xid, running.said.clone()));
        }
    }

    /// Everybody sees a transaction from here on, and its locks are free.
    fn show(&mut self) {
        let at = self.dice.random_range(0..self.running.len().max(1));
        if self.running.get(at).is_some_and(|running| running.committed) {
            let running = self.running.remove(at);
            running.said.iter().for_each(|said| apply(&mut self.seen, said));
        }
    }

    fn step(&mut self) {
        match self.dice.random_range(0..8) {
            0 => self.begin(),
            1..=3 => self.write(),
            4..=5 => self.commit(),
            _ => self.show(),
        }
    }

    /// Returns `pg_current_snapshot()`.
    fn snapshot(&self, plant: Option<Plant>) -> Visibility {
        let hidden = |running: &&Running| plant != Some(Plant::CommittedIsSeen) || !running.committed;
        let xids: BTreeSet<u64> = self.running.iter().filter(hidden).map(|running| running.xid).collect();
        let least = xids.first().copied().unwrap_or(self.next_xid);
        let list: Vec<String> = xids.iter().map(u64::to_string).collect();
        Visibility::parse(&format!("{least}:{}:{}", self.next_xid, list.join(","))).unwrap()
    }
}

/// What a capture has committed downstream: all that outlives it.
#[derive(Debug, Clone)]
struct Committed {
    /// How much of the log.
    at: usize,
    progress: Vec<Progress>,
    replica: Rows,
}

/// The capture, from one opening to the next.
struct Capture {
    contract: Arc<Contract>,
    plan: Plan,
    snapshot: Snapshot,
    /// How much of the log was streamed; before `skip` it was handed out already.
    at: usize,
    skip: usize,
    progress: Vec<Progress>,
    replica: Rows,
    /// The rows as they are after what was streamed.
    wanted: Rows,
    plant: Option<Plant>,
}

impl Capture {
    /// Opens where the last one committed; the server sends again what lies a little before.
    fn open(server: &mut Server, committed: Committed, first: &Rows, plant: Option<Plant>) -> Self {
        let barrier = if plant == Some(Plant::NoBarrier) { 0 } else { server.next_xid };
        server.next_xid += 1;
        let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[
            {"name":"id","type":"long"},{"name":"text","type":["null","string"]},
            {"name":"large","type":["null","string"]}]}"#;
        let contract = Contract::parse(text).unwrap().shared();
        let ty = |name: &str| PgType::Base { name: name.into(), typmod: -1 };
        let columns = [("id", ty("int8")), ("text", ty("text")), ("large", ty("text"))];
        let plan = Plan::new(&contract, columns.iter().map(|(name, ty)| (*name, ty))).unwrap();
        let Committed { at: skip, progress, replica } = committed;
        let at = skip - server.dice.random_range(0..=skip.min(3));
        let mut wanted = first.clone();
        for logged in &server.log[..at] {
            if let Logged::Transaction(_, said) = logged {
                said.iter().for_each(|said| apply(&mut wanted, said));
            }
        }
        let snapshot = Snapshot::new(barrier);
        Self { contract, plan, snapshot, at, skip, progress, replica, wanted, plant }
    }

    /// Reads a chunk, or writes the mark of the one that was read, when the real loop would.
    fn read_chunk(&mut self, server: &mut Server) {
        if let Some(waiting) = &mut self.snapshot.waiting {
            if !std::mem::replace(&mut waiting.written, true) {
                server.log.push(Logged::Mark(waiting.token.clone()));
            }
            return;
        }
        let Some(table) = self.progress.iter().position(|progress| !progress.done) else { return };
        if server.running.iter().any(|running| running.holds == Some(table)) {
            return self.snapshot.busy();
        }
        let visibility = server.snapshot(self.plant);
        if !self.snapshot.is_level(table, &visibility) && self.plant != Some(Plant::Behind) {
            return self.snapshot.behind_stream();
        }
        let mut chunk = Chunk::new(visibility, 0, self.progress[table].clone(), self.plan.clone());
        let last = self.last(table);
        let limit = server.dice.random_range(1..=3);
        let rows = server.seen.iter().filter(|((of, key), _)| *of == table && *key > last).take(limit);
        let mut reached = last;
        for ((_, key), [text, large]) in rows {
            chunk.push(&self.contract, Bytes::from(format!("{key}\t{text}\t{large}")));
            reached = *key;
        }
        chunk.progress.done = chunk.rows.len() < limit;
        chunk.progress.last = vec![reached.to_string()];
        self.snapshot.accept(table, chunk);
    }

    /// Up to which key a table's rows were let in.
    fn last(&self, table: usize) -> i64 {
        self.progress[table].last.first().map_or(0, |key| key.parse().unwrap())
    }

    /// Streams what comes next.
    fn stream(&mut self, server: &Server) {
        let Some(logged) = server.log.get(self.at) else { return };
        self.at += 1;
        match logged {
            Logged::Transaction(xid, said) => said.iter().for_each(|said| self.message(*xid as u32, said)),
            Logged::Mark(token) => {
                let Some(waiting) = self.snapshot.passed(token.as_bytes()) else { return };
                for row in waiting.chunk.rows.into_iter().flatten() {
                    let item = self.made(|maker| maker.read(row));
                    self.put(waiting.table, item, &[]);
                }
                self.progress[waiting.table] = waiting.chunk.progress;
            }
        }
    }

    fn made<T>(&self, make: impl FnOnce(Maker<'_>) -> T) -> T {
        let origin = Origin {
            place: Arc::new(Place::default()),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: false,
        };
        let position = |part| Position::wal(0, self.at as u64, 0, part);
        make(Maker { contract: &self.contract, plan: &self.plan, origin: &origin, position: &position })
    }

    fn message(&mut self, xid: u32, said: &Said) {
        apply(&mut self.wanted, said);
        let new = self.at > self.skip;
        if said.leaves.is_empty() {
            self.snapshot.truncated(said.table, xid);
            if new {
                self.replica.retain(|(table, _), _| *table != said.table);
            }
            return;
        }
        let mut image = self.made(|maker| maker.image(said.message.clone()));
        if self.plant != Some(Plant::NoWay) {
            self.snapshot.streamed(said.table, xid, &self.contract, &mut image);
        }
        for item in image.items.into_iter().filter(|_| new) {
            self.put(said.table, item, &said.leaves);
        }
    }

    /// Applies an item to the replica. A value that nobody told stays as it is, or is read again where there is no row.
    fn put(&mut self, table: usize, item: Item, read_again: &[(i64, Option<Cells>)]) {
        let Item::Change(change) = item else { panic!("every value can be carried") };
        let key = number(&change.key().unwrap()[0]);
        let Change { op, after, .. } = change;
        let Some(row) = after else {
            assert_eq!(op, Op::Delete);
            self.replica.remove(&(table, key));
            return;
        };
        let told = |row: &Row, at: usize| row[at].as_text().map(str::to_owned);
        let held = self.replica.get(&(table, key)).map(|cells| cells[1].clone());
        let again = || read_again.iter().find(|(of, _)| *of == key).and_then(|(_, cells)| cells.clone());
        let large = told(&row, 2).or(held).or_else(|| again().map(|cells| cells[1].clone()));
        self.replica.insert((table, key), [told(&row, 1).unwrap(), large.unwrap()]);
    }

    /// What the replica has is as it should be, and of the keys that were read it has everything.
    fn check(&self) -> Result<(), String> {
        if self.at < self.skip {
            return Ok(());
        }
        let wrong = self.replica.iter().find(|(key, cells)| self.wanted.get(key) != Some(cells));
        if let Some((key, cells)) = wrong {
            let wanted = self.wanted.get(key);
            return Err(format!("{key:?} is {cells:?}, and should be {wanted:?} after {} steps", self.at));
        }
        let read = |(table, key): &&(usize, i64)| self.progress[*table].done || *key <= self.last(*table);
        match self.wanted.keys().filter(read).find(|key| !self.replica.contains_key(key)) {
            Some(key) => Err(format!("{key:?} was read, and is not there after {} steps", self.at)),
            None => Ok(()),
        }
    }
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("a key is a number, not {other:?}"),
    }
}

/// Runs the schedule of a seed.
fn run(seed: u64, plant: Option<Plant>) -> Result<(), String> {
    let dice = StdRng::seed_from_u64(seed);
    let (running, seen, log) = (Vec::new(), Rows::new(), Vec::new());
    // The stream tells 32 bits of a transaction's number.
    let mut server = Server { dice, next_xid: (1 << 32) - 15, running, seen, log };
    (0..60).for_each(|_| server.step());
    // What was committed before the slot was made is not streamed.
    let mut first = server.seen.clone();
    for logged in std::mem::take(&mut server.log) {
        if let Logged::Transaction(xid, said) = logged
            && server.running.iter().any(|running| running.xid == xid)
        {
            said.iter().for_each(|said| apply(&mut first, said));
        }
    }
    let mut committed =
        Committed { at: 0, progress: vec![Progress::default(); TABLES], replica: Rows::new() };
    let mut capture = Capture::open(&mut server, committed.clone(), &first, plant);
    for _ in 0..250 {
        match server.dice.random_range(0..40) {
            0 => capture = Capture::open(&mut server, committed.clone(), &first, plant),
            1..=3 if capture.at >= capture.skip => {
                let (progress, replica) = (capture.progress.clone(), capture.replica.clone());
                committed = Committed { at: capture.at, progress, replica };
            }
            4..=15 => capture.stream(&server),
            16..=22 => capture.read_chunk(&mut server),
            _ => server.step(),
        }
        capture.check()?;
    }
    while !server.running.is_empty() {
        server.commit();
        server.show();
    }
    let done = |capture: &Capture, server: &Server| {
        capture.progress.iter().all(|progress| progress.done) && capture.at == server.log.len()
    };
    let mut turns = 0;
    while !done(&capture, &server) && turns < 1_000 {
        turns += 1;
        capture.read_chunk(&mut server);
        capture.stream(&server);
        capture.check()?;
    }
    let done = done(&capture, &server);
    if !done || capture.replica != server.seen {
        return Err(format!("done: {done}; {:?} is not {:?}", capture.replica, server.seen));
    }
    Ok(())
}

#[test]
fn i3_i4_the_snapshot_and_the_stream_make_the_table_whatever_is_seen_when() {
    seed::sweep("i3_i4_the_snapshot_and_the_stream_make_the_table_whatever_is_seen_when", 3_000, |seed| {
        run(seed, None)
    });
}

#[test]
fn i4_a_chunk_that_overwrites_what_was_committed_before_and_seen_after_is_found() {
    for plant in [Plant::CommittedIsSeen, Plant::Behind, Plant::NoBarrier, Plant::NoWay] {
        let found = seed::first(500, |seed| run(seed, Some(plant)).is_err());
        println!("{plant:?}: schedule {found:?}");
        assert!(found.is_some(), "{plant:?} was planted and not found");
        run(found.unwrap(), None).unwrap();
    }
}
