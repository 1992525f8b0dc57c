//! One run, drawn from a seed: who owns which lane and until when, when the department writes, when a grant changes.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use hutong_core::{Change, Kind, LaneId, Permit, PipelineId, Rejected, Result, Sink, Source, Step, Verdict};
use hutong_engine::status::now_us;
use hutong_engine::{Ahead, Board, Lane, Metrics, Settings};
use hutong_testkit::faulty::{Faults, Faulty};
use rand::Rng;
use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;

use crate::department::{Log, Reader};
use crate::expected::{Fate, Rules, sieve};
use crate::history::{End, Event, places};
use crate::planted::{Mistaken, Plant};
use crate::predicates::Run;
use crate::store::{Form, Store, Writer};
use crate::world::{CONTRACT, GRANTS, World};

/// What a run is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One lane of one to three partitions, from a department that forgets.
    Capture,
    /// A lane a partition, into one table.
    Replicate,
    /// A lane a partition, into one log.
    Topic,
    /// A lane a partition, by a grant that may change, into one table.
    Granted,
}

/// The longest that anything of a schedule takes, and more: who runs for longer is held for good.
const LONG: Duration = Duration::from_secs(3_600);

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new().unwrap());

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64, shape: Shape, plant: Option<Plant>) -> Run {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    clock.block_on(async {
        // The clock stands somewhere between two ticks when it is made, and from here on at a tick.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Stage::new(seed, shape, plant).play().await
    })
}

/// Drops and rejects by place.
struct Sieve;

impl Step for Sieve {
    fn name(&self) -> &'static str {
        "sieve"
    }

    fn apply(&mut self, change: Change) -> Verdict {
        match sieve(places(change.position) - 1) {
            Fate::Dropped(reason) => Verdict::Drop { reason },
            Fate::Aside => Verdict::Reject(Rejected {
                rule: "check",
                reason: "of the simulation".into(),
                position: change.position,
                stream: change.contract.stream.clone(),
                change: Some(Box::new(change)),
                record: None,
            }),
            Fate::Written | Fate::Spare(_) => Verdict::Pass(change),
        }
    }
}

/// One owner of a lane: a process, as far as the lane knows.
struct Owner {
    number: usize,
    lane: usize,
    run: Pin<Box<dyn Future<Output = Result<()>>>>,
    token: CancellationToken,
    /// It stands still, as a process does that the machine does not get round to.
    frozen: bool,
    /// After how many polls it is killed.
    doom: Option<u32>,
}

/// The schedule while it runs.
struct Stage {
    world: World,
    rules: Rules,
    lanes: Vec<Vec<usize>>,
    owners: Vec<Owner>,
    /// How many owners there were.
    count: usize,
    /// The grant by which new owners permit.
    grant: usize,
    /// How many places a batch covers at the most.
    limit: u64,
}

impl Stage {
    fn new(seed: u64, shape: Shape, plant: Option<Plant>) -> Self {
        let mut dice = World::dice(seed);
        let partitions = dice.random_range(1..=3);
        let form = if shape == Shape::Topic { Form::Log } else { Form::Table };
        let lanes: Vec<Vec<usize>> = match shape {
            Shape::Capture => vec![(0..partitions).collect()],
            _ => (0..partitions).map(|partition| vec![partition]).collect(),
        };
        let rules = match shape {
            Shape::Granted => Rules::Granted,
            _ if dice.random_bool(0.5) => Rules::Sieve,
            _ => Rules::All,
        };
        let forgets = match shape {
            Shape::Capture => true,
            Shape::Replicate | Shape::Topic => dice.random_bool(0.5),
            // Who is granted less begins anew at the topic's base.
            Shape::Granted => false,
        };
        let log = Log::new(partitions, forgets, dice.random_bool(0.4), dice.random_bool(0.5));
        let store = Store::new(form, lanes.clone());
        let rough = [0, 20, 60, 150][dice.random_range(0..4)];
        let limit = [1, 3, 10][dice.random_range(0..3)];
        let world = World::new(dice, log, store, rough, plant);
        Self { world, rules, lanes, owners: Vec::new(), count: 0, grant: 0, limit }
    }

    /// Returns a number below `sides`.
    fn dice(&self, sides: u64) -> u64 {
        self.world.lock().dice.random_range(0..sides)
    }

    async fn play(mut self) -> Run {
        for _ in 0..10 + self.dice(20) {
            match self.dice(16) {
                0..=4 => self.write(),
                5..=7 => {
                    let lane = self.dice(self.lanes.len() as u64) as usize;
                    self.start(lane);
                }
                8 => self.some_owner(|owner, _| owner.frozen = true),
                9 => self.some_owner(|owner, _| owner.frozen = false),
                10 => self.some_owner(|owner, _| owner.token.cancel()),
                11 => self.some_owner(|owner, dice| owner.doom = Some(dice as u32 % 40)),
                12 if self.rules == Rules::Granted => self.narrow(),
                _ => {}
            }
            let limit = match self.dice(4) {
                0 => 0,
                1 => self.dice(10),
                2 => self.dice(500),
                _ => self.dice(30_000),
            };
            self.go(Duration::from_millis(limit)).await;
        }
        self.end().await
    }

    /// The department commits a few transactions.
    fn write(&mut self) {
        for _ in 0..1 + self.dice(8) {
            let inner = &mut *self.world.lock();
            inner.log.write(&mut inner.dice);
        }
        self.world.written.notify_waiters();
    }

    /// Calls `act` with an owner and a number.
    fn some_owner(&mut self, act: impl FnOnce(&mut Owner, u64)) {
        let (which, dice) = (self.dice(8) as usize, self.dice(1_000));
        let count = self.owners.len().max(1);
        if let Some(owner) = self.owners.get_mut(which % count) {
            act(owner, dice);
        }
    }

    /// A person narrows the grant: in the store at once, and for owners that begin from now on.
    fn narrow(&mut self) {
        if self.grant + 1 == GRANTS.len() {
            return;
        }
        self.grant += 1;
        // Else the next owner of each lane brings it along.
        if self.dice(2) == 0 {
            let mut inner = self.world.lock();
            (0..self.lanes.len()).for_each(|lane| inner.grant(lane, self.grant));
        }
    }

    /// Another process begins to carry a lane. Nobody tells the one before.
    fn start(&mut self, lane: usize) {
        let (number, grant, world) = (self.count, self.grant, self.world.clone());
        self.count += 1;
        let given = self.lanes[lane].iter().map(|partition| (*partition, 0)).collect();
        let source: Box<dyn Source> =
            Box::new(Reader { world: world.clone(), owner: number, lane, given, limit: self.limit });
        let sink: Box<dyn Sink> = Box::new(Writer::new(world.clone(), number, lane, grant));
        let mistaken = world.has(Plant::KeyTakenForFull);
        let faults: Faults = Arc::new(move |call| world.fault(call));
        let steps: Vec<Box<dyn Step>> = match self.rules {
            Rules::All => Vec::new(),
            Rules::Sieve => vec![Box::new(Sieve)],
            Rules::Granted => {
                let permit = Box::new(Permit::new(Arc::clone(&CONTRACT), &GRANTS[grant]).unwrap());
                if mistaken { vec![Box::new(Mistaken(permit))] } else { vec![permit] }
            }
        };
        let id = LaneId::new(PipelineId::new(Kind::Replicate, "simulated"), lane as u32);
        let token = CancellationToken::new();
        let carried = Lane {
            source: Box::new(Faulty::new(source, Arc::clone(&faults))),
            steps,
            sink: Box::new(Faulty::new(sink, faults)),
            settings: Settings { quarantine_limit: u64::from(u32::MAX), ends_us: None },
            entry: Board::new().add(id.clone(), 1, now_us()),
            metrics: METRICS.clone(),
            ahead: Ahead::default(),
            id,
        };
        let run = Box::pin(carried.run(token.clone()));
        self.owners.push(Owner { number, lane, run, token, frozen: false, doom: None });
    }

    /// Lets the owners run for a while.
    async fn go(&mut self, limit: Duration) {
        self.owners.shuffle(&mut self.world.lock().dice);
        let (owners, world) = (&mut self.owners, &self.world);
        let mut over = Box::pin(tokio::time::sleep(limit));
        std::future::poll_fn(|cx| {
            let before = owners.len();
            owners.retain_mut(|owner| {
                if owner.frozen {
                    return true;
                }
                let how = match (owner.run.as_mut().poll(cx), owner.doom) {
                    (Poll::Ready(Err(halted)), _) => End::Halted(halted.kind),
                    (Poll::Ready(Ok(())), _) if owner.token.is_cancelled() => End::Drained,
                    (Poll::Ready(Ok(())), _) => End::Finished,
                    (Poll::Pending, Some(0)) => End::Killed,
                    (Poll::Pending, _) => {
                        owner.doom = owner.doom.map(|left| left - 1);
                        return true;
                    }
                };
                world.lock().record(Event::Ended { owner: owner.number, lane: owner.lane, how });
                false
            });
            let idle = owners.iter().all(|owner| owner.frozen);
            match over.as_mut().poll(cx) {
                Poll::Pending if before == owners.len() && !idle => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Nothing fails any more: whoever is left ends or is killed, and a last owner of each lane finishes its work.
    async fn end(mut self) -> Run {
        let calm;
        {
            let mut inner = self.world.lock();
            (calm, inner.rough, inner.log.finished) = (inner.rough == 0, 0, true);
        }
        self.world.written.notify_waiters();
        self.owners.iter_mut().for_each(|owner| (owner.frozen, owner.doom) = (false, None));
        self.rest().await;
        (0..self.lanes.len()).for_each(|lane| self.start(lane));
        self.rest().await;
        let inner = &mut *self.world.lock();
        Run {
            history: std::mem::take(&mut inner.history),
            log: std::mem::take(&mut inner.log.partitions),
            pruned: std::mem::take(&mut inner.log.pruned),
            forgets: inner.log.forgets,
            notes: inner.log.notes,
            calm,
            rules: self.rules,
            lanes: self.lanes,
        }
    }

    /// Lets everybody come to an end; who does not is killed.
    async fn rest(&mut self) {
        let over = tokio::time::Instant::now() + LONG;
        while !self.owners.is_empty() && tokio::time::Instant::now() < over {
            self.go(over - tokio::time::Instant::now()).await;
        }
        for owner in self.owners.drain(..) {
            let how = End::Held;
            self.world.lock().record(Event::Ended { owner: owner.number, lane: owner.lane, how });
        }
    }
}
