//! All lanes of a process, for whoever shows them or knows something of them that they do not know themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hutong_core::LaneId;

use crate::reason::Left;
use crate::status::{Entry, LaneStatus};

/// All lanes of the process.
#[derive(Debug, Clone, Default)]
pub struct Board {
    entries: Arc<Mutex<Vec<Entry>>>,
    /// Lanes by name to the time, microseconds since 1970 UTC, up to which an earlier process had passed everything.
    before: Arc<BTreeMap<String, i64>>,
}

impl Board {
    /// Makes an empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty board of lanes that had passed everything up to these times before, microseconds since 1970 UTC: a
    /// lane whose store is away is as old as it was, whoever starts it again.
    pub fn after(before: BTreeMap<String, i64>) -> Self {
        Self { before: Arc::new(before), ..Self::default() }
    }

    /// Returns up to when each lane has passed everything, with what is known of the others from before.
    pub fn passed(&self) -> BTreeMap<String, i64> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut passed = self.before.as_ref().clone();
        passed.extend(entries.iter().map(|entry| (entry.id().to_string(), entry.passed_to_us())));
        passed
    }

    /// Adds a lane, in the place of one of the same name. Its freshness is judged by `interval_us`, how often its capture
    /// says that it is complete.
    pub fn add(&self, id: LaneId, interval_us: i64, now_us: i64) -> Entry {
        let entry = Entry::new(id.clone(), interval_us, now_us);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that it replaces knows it better than the process before.
        let replaced = entries.iter().find(|other| other.id() == id).map(Entry::passed_to_us);
        let known = replaced.or_else(|| self.before.get(&id.to_string()).copied());
        known.into_iter().for_each(|us| entry.began_before(us));
        entries.retain(|other| other.id() != id);
        entries.push(entry.clone());
        entry
    }

    /// Removes a lane that another process runs from now on.
    pub fn remove(&self, id: &LaneId) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.id() != *id);
    }

    /// States whether a lane runs here and is behind by more than its watermarks are apart.
    pub fn is_behind(&self, id: &LaneId, now_us: i64) -> bool {
        self.entry(id).is_some_and(|entry| entry.is_behind(now_us))
    }

    /// Notes the transaction that stands open on the topic of a lane that runs here, or that there is none.
    pub fn left(&self, id: &LaneId, left: Option<Left>) {
        if let Some(entry) = self.entry(id) {
            entry.left(left);
        }
    }

    /// States whether a lane stands here that has opened and does not read now.
    pub fn rests(&self, id: &LaneId) -> bool {
        self.entry(id).is_some_and(|entry| entry.rests())
    }

    /// States whether a lane does not read now, and something of it waits in the quarantine.
    pub fn sets_aside(&self, id: &LaneId) -> bool {
        self.entry(id).is_some_and(|entry| entry.sets_aside())
    }

    /// Notes how many items wait in the quarantine of a lane that does not read now.
    pub fn waits(&self, id: &LaneId, waiting: u64) {
        if let Some(entry) = self.entry(id) {
            entry.waits(waiting);
        }
    }

    /// Notes where a partition ends that a lane does not read now; `markers`: each transaction has one more record there
    /// that nobody sees.
    pub fn ends(&self, id: &LaneId, partition: &str, end: u64, markers: bool) {
        if let Some(entry) = self.entry(id) {
            entry.ends(partition, end, markers);
        }
    }

    fn entry(&self, id: &LaneId) -> Option<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find(|entry| entry.id() == *id).cloned()
    }

    /// Takes a look at every lane for its verdict: once a second, or as often as watermarks come.
    pub fn look(&self, now_us: i64) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.iter().for_each(|entry| entry.look(now_us));
    }

    /// Returns every lane as it is shown, by name.
    pub fn status(&self, now_us: i64) -> Vec<LaneStatus> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut lanes: Vec<_> = entries.iter().map(|e| e.status(now_us)).collect();
        lanes.sort_by(|a, b| a.lane.cmp(&b.lane));
        lanes
    }
}
