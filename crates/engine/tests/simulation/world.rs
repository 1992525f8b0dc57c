//! What the parts of a run share: the department, the store, what has happened, and the dice.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hutong_core::{Contract, Grant, Secret};
use hutong_testkit::faulty::{Call, Fault};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::department::Log;
use crate::history::{Event, History};
use crate::planted::Plant;
use crate::store::Store;

/// The stream's contract: a key, a text that decides, a text that is not granted to everybody, a large value.
pub(crate) static CONTRACT: LazyLock<Arc<Contract>> = LazyLock::new(|| {
    let text = r#"{"type":"record","name":"person","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"long"},{"name":"state","type":["null","string"]},
        {"name":"phone","type":["null","string"]},{"name":"portrait","type":["null","string"]}]}"#;
    Contract::parse(text).expect("the contract of the simulation reads").shared()
});

/// What may leave, by the number of the grant; the second is narrower.
pub(crate) static GRANTS: LazyLock<[Grant; 2]> = LazyLock::new(|| {
    let grant = |columns: &[&str], rows: &str| Grant {
        subscription: "renshe".into(),
        stream: "person".into(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        rows: Some(rows.into()),
        masks: Default::default(),
        until: None,
        key: Secret::new("of the simulation"),
    };
    [grant(&["id", "state", "portrait"], "state <> 'gone'"), grant(&["id", "state"], "state = 'here'")]
});

/// Everything that outlives an owner of a lane.
pub(crate) struct Inner {
    /// The dice.
    pub(crate) dice: StdRng,
    /// The origin.
    pub(crate) log: Log,
    /// Where the lanes write.
    pub(crate) store: Store,
    /// What has happened.
    pub(crate) history: History,
    /// How many calls of a thousand fail.
    pub(crate) rough: u32,
    /// The planted bug.
    pub(crate) plant: Option<Plant>,
    began: Instant,
}

impl Inner {
    /// Records what has happened.
    pub(crate) fn record(&mut self, event: Event) {
        self.history.push((self.began.elapsed(), event));
    }
}

/// The world, shared. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    /// The department has written, or will write no more.
    pub(crate) written: Arc<Notify>,
}

impl World {
    /// Makes the world of a seed.
    pub(crate) fn new(dice: StdRng, log: Log, store: Store, rough: u32, plant: Option<Plant>) -> Self {
        let began = Instant::now();
        let inner = Inner { dice, log, store, history: Vec::new(), rough, plant, began };
        Self { inner: Arc::new(Mutex::new(inner)), written: Arc::default() }
    }

    /// Returns the dice of a seed.
    pub(crate) fn dice(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    /// Returns the world, locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// States whether a bug is planted.
    pub(crate) fn has(&self, plant: Plant) -> bool {
        self.lock().plant == Some(plant)
    }

    /// Takes as long as a call takes: mostly nothing, sometimes a while, so that a call can be dropped in its middle.
    pub(crate) async fn pause(&self) {
        let dice = self.lock().dice.random_range(0..8);
        match dice {
            0..=2 => {}
            3..=6 => tokio::task::yield_now().await,
            _ => self.wait(20).await,
        }
    }

    /// Takes up to so many milliseconds.
    pub(crate) async fn wait(&self, most_ms: u64) {
        let wait = self.lock().dice.random_range(0..=most_ms);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// Says what happens to a call.
    pub(crate) fn fault(&self, call: Call) -> Fault {
        let mut inner = self.lock();
        let rough = inner.rough;
        if inner.dice.random_range(0..1_000) >= rough {
            return Fault::None;
        }
        // The engine reads all the time; it would do nothing else than open again.
        if call == Call::Next && inner.dice.random_range(0..4) > 0 {
            return Fault::None;
        }
        let dice = inner.dice.random_range(0..16);
        let mut wait = |most_ms| Duration::from_millis(inner.dice.random_range(1..=most_ms));
        match dice {
            0..=4 => Fault::Refuse,
            5..=8 => Fault::Lose,
            9 => Fault::Slow(wait(600)),
            10 => Fault::SlowAnswer(wait(600)),
            11 => Fault::Slow(wait(200_000)),
            12 => Fault::SlowAnswer(wait(200_000)),
            13 => Fault::Hold,
            14 => Fault::HoldAnswer,
            _ if call == Call::Commit => Fault::Fence,
            _ => Fault::Refuse,
        }
    }
}
