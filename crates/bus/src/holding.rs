//! What of the work this process holds: pairs of a topic and a partition, given and taken by a group of processes.
//!
//! Knows pairs and who works on them; nothing of Kafka or of lanes. Whoever works on a pair has a [`Hold`] of it, so that
//! a pair that is taken away is passed on when its work has ended, or after a bounded time: the fence makes a slow loser
//! harmless.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hutong_core::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often a process looks whether it runs, and how old the last look is at the most while it does.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
const SEEN: Duration = Duration::from_secs(1);

/// How long a process may stand still before others may have been given what it holds: less than the group waits for it.
const STOOD_STILL: Duration = Duration::from_secs(3);

/// How long the group takes at the most to tell a process that stood still what it still holds.
const DOUBT: Duration = Duration::from_secs(3);

/// One partition of a topic: what is handed out to processes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
}

impl Pair {
    /// Names a partition of a topic.
    pub fn new(topic: impl Into<String>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// What a process holds. Cheap to clone; clones share.
#[derive(Debug, Clone)]
pub struct Holding(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Wakes who waits, on a thread, for work to end.
    freed: Condvar,
    /// Wakes after every change.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    /// Nobody shares: all of it is held, for good.
    everything: bool,
    held: BTreeSet<Pair>,
    /// How many work on a pair.
    used: HashMap<Pair, usize>,
    joined: bool,
    problem: Option<String>,
    /// The topics that nobody under this name may read, and why: their pairs are given to nobody.
    denied: BTreeMap<String, Arc<Error>>,
    /// Who of the group takes its lanes for something else.
    others: Option<Others>,
    looked: Looked,
    doubted_until: Option<Instant>,
}

/// When the process last saw that it runs, by two clocks: one of them goes on while the machine sleeps.
#[derive(Debug)]
struct Looked(Instant, SystemTime);

impl Looked {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

/// The members of a group that take its lanes for something else than this process does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// Their addresses, as the brokers see them.
    pub hosts: Vec<String>,
    /// How many they are.
    pub count: usize,
    /// Whether what flows differs, or the tables that it goes to.
    pub flows: bool,
    /// Whether the addresses of stores differ.
    pub stores: bool,
}

/// States that somebody works on a pair, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    holding: Holding,
    pair: Pair,
}

impl Holding {
    /// Holds nothing until a group gives something.
    pub fn nothing() -> Self {
        Self::new(false)
    }

    /// Holds everything: there is no other process.
    pub fn everything() -> Self {
        Self::new(true)
    }

    fn new(everything: bool) -> Self {
        let state = State {
            everything,
            held: BTreeSet::new(),
            used: HashMap::new(),
            joined: everything,
            problem: None,
            denied: BTreeMap::new(),
            others: None,
            looked: Looked::now(),
            doubted_until: None,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            freed: Condvar::new(),
            changed: watch::Sender::new(()),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// States whether the process holds a pair.
    pub fn holds(&self, pair: &Pair) -> bool {
        self.lock().holds(pair)
    }

    /// States whether others may hold what this process does not.
    pub fn is_shared(&self) -> bool {
        !self.lock().everything
    }

    /// States whether the group has said what is held here, which may be nothing.
    pub fn is_joined(&self) -> bool {
        self.lock().joined
    }

    /// Returns why the group has not answered, where that is known.
    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Returns who of the group takes its lanes for something else than this process does.
    pub fn others(&self) -> Option<Others> {
        self.lock().others.clone()
    }

    /// Notes who of the group takes its lanes for something else.
    pub(crate) fn compared(&self, others: Option<Others>) {
        self.lock().others = others;
    }

    /// Waits until the process holds a pair, and takes it to work on. Cancel safe.
    pub async fn take(&self, pair: &Pair) -> Hold {
        let mut changed = self.0.changed.subscribe();
        loop {
            if let Some(hold) = self.try_take(pair) {
                return hold;
            }
            // The sender is in `self`.
            let _ = changed.changed().await;
        }
    }

    fn try_take(&self, pair: &Pair) -> Option<Hold> {
        let mut state = self.lock();
        if !state.holds(pair) {
            return None;
        }
        *state.used.entry(pair.clone()).or_default() += 1;
        Some(Hold { holding: self.clone(), pair: pair.clone() })
    }

    /// Waits until the process does not hold a pair any more. Cancel safe.
    pub async fn lost(&self, pair: &Pair) {
        self.until(|state| !state.holds(pair)).await;
    }

    /// Returns why a topic's pairs are given to nobody, where that is known.
    pub fn why_denied(&self, topic: &str) -> Option<Arc<Error>> {
        self.lock().denied.get(topic).cloned()
    }

    /// Waits until a topic may not be read, and returns why. Cancel safe.
    pub async fn denied(&self, topic: &str) -> Arc<Error> {
        let mut changed = self.0.changed.subscribe();
        loop {
            if let Some(problem) = self.why_denied(topic) {
                return problem;
            }
            // The sender is in `self`.
            let _ = changed.changed().await;
        }
    }

    /// Waits until nobody works on anything. Cancel safe.
    pub async fn idle(&self) {
        self.until(|state| state.used.is_empty()).await;
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut changed = self.0.changed.subscribe();
        while !condition(&self.lock()) {
            let _ = changed.changed().await;
        }
    }

    /// Waits until what the process believes to hold is no belief of before it stood still: whoever opens a lane by such
    /// a belief would shut its present owner out. Cancel safe.
    pub async fn sure(&self) {
        loop {
            let doubt = self.lock().doubt();
            match doubt {
                None => return,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Notes that the process runs; called every [`LOOK`] by the task that attends the group.
    pub(crate) fn look(&self) {
        let mut state = self.lock();
        if state.looked.elapsed() > STOOD_STILL {
            tracing::warn!("this process stood still: it asks what it still holds before it opens anything");
            state.doubted_until = Some(Instant::now() + DOUBT);
        }
        state.looked = Looked::now();
    }

    /// Adds what the group gives.
    pub(crate) fn gain(&self, pairs: impl IntoIterator<Item = Pair>) {
        let mut state = self.lock();
        for pair in pairs {
            state.denied.remove(&pair.topic);
            state.held.insert(pair);
        }
        state.joined = true;
        state.problem = None;
        drop(state);
        self.0.changed.send_replace(());
    }

    /// Gives pairs back, and waits on this thread until nobody works on them, or until patience ends. Returns whether
    /// somebody still does.
    pub(crate) fn lose(&self, pairs: &[Pair], patience: Duration) -> bool {
        let mut state = self.lock();
        state.held.retain(|pair| !pairs.contains(pair));
        // First: who works must hear of it.
        self.0.changed.send_replace(());
        let busy = |state: &mut State| pairs.iter().any(|pair| state.used.contains_key(pair));
        let waited = self.0.freed.wait_timeout_while(state, patience, busy);
        let (_state, ended) = waited.unwrap_or_else(PoisonError::into_inner);
        ended.timed_out()
    }

    /// Notes that the group does not know this process any more.
    pub(crate) fn parted(&self) {
        self.lock().joined = false;
    }

    /// Notes that a topic may not be read, until one of its pairs is given again.
    pub(crate) fn deny(&self, topic: &str, problem: Error) {
        self.lock().denied.insert(topic.to_owned(), Arc::new(problem));
        self.0.changed.send_replace(());
    }

    /// Notes why the group does not answer.
    pub(crate) fn failed(&self, problem: String) {
        self.lock().problem = Some(problem);
    }
}

impl State {
    fn holds(&self, pair: &Pair) -> bool {
        self.everything || self.held.contains(pair)
    }

    /// Returns for how long to wait before it is asked again; `None`: there is no doubt.
    fn doubt(&self) -> Option<Duration> {
        if self.everything {
            return None;
        }
        let doubted = self.doubted_until.map(|until| until.saturating_duration_since(Instant::now()));
        match doubted.filter(|left| !left.is_zero()) {
            Some(left) => Some(left),
            None => (self.looked.elapsed() > SEEN).then_some(LOOK),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holding.lock();
        if let Some(count) = state.used.get_mut(&self.pair) {
            *count -= 1;
            if *count == 0 {
                state.used.remove(&self.pair);
            }
        }
        drop(state);
        self.holding.0.freed.notify_all();
        self.holding.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use hutong_core::ErrorKind;

    use super::*;

    fn pair(partition: u32) -> Pair {
        Pair::new("gongan.people.v1", partition)
    }

    #[tokio::test]
    async fn a_pair_that_is_taken_away_is_passed_on_when_its_work_has_ended() {
        let holding = Holding::nothing();
        assert!(holding.take(&pair(0)).now_or_never().is_none(), "nobody has given it");
        holding.gain([pair(0), pair(1)]);
        let hold = holding.take(&pair(0)).await;
        let other = holding.clone();
        let losing = tokio::task::spawn_blocking(move || other.lose(&[pair(0)], Duration::from_secs(60)));
        holding.lost(&pair(0)).await;
        assert!(holding.take(&pair(0)).now_or_never().is_none(), "nobody begins with it any more");
        assert!(!losing.is_finished(), "its work has not ended");
        drop(hold);
        assert!(!losing.await.unwrap(), "it was passed on in time");
        holding.idle().await;
        assert!(holding.holds(&pair(1)));
    }

    #[tokio::test]
    async fn a_topic_that_may_not_be_read_is_told_until_it_is_given_again() {
        let holding = Holding::nothing();
        holding.gain([pair(0), Pair::new("gongan.homes.v1", 0)]);
        assert!(holding.denied(&pair(0).topic).now_or_never().is_none());
        holding.deny(&pair(0).topic, Error::new(ErrorKind::Denied, "take part", "no right on the topic"));
        holding.lose(&[pair(0)], Duration::ZERO);
        assert_eq!(holding.denied(&pair(0).topic).await.kind, ErrorKind::Denied);
        assert!(holding.why_denied("gongan.homes.v1").is_none(), "of another topic nothing is said");
        holding.gain([pair(0)]);
        assert!(holding.denied(&pair(0).topic).now_or_never().is_none());
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_not_waited_for_without_end() {
        let holding = Holding::nothing();
        holding.gain([pair(0)]);
        let _hold = holding.take(&pair(0)).await;
        assert!(holding.lose(&[pair(0)], Duration::from_millis(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stood_still_is_not_sure_before_the_group_has_had_time_to_say_so() {
        let holding = Holding::nothing();
        holding.gain([pair(0)]);
        holding.look();
        assert!(holding.sure().now_or_never().is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        // It wakes up here: a lane may be quicker than the look.
        assert!(holding.sure().now_or_never().is_none());
        holding.look();
        assert!(holding.sure().now_or_never().is_none());
        for _ in 0..20 {
            tokio::time::advance(LOOK).await;
            holding.look();
        }
        assert!(holding.sure().now_or_never().is_some());
        assert!(Holding::everything().sure().now_or_never().is_some(), "who is alone need not ask");
    }
}
