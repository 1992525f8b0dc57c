//! When a lane tries again what waits for a change of another lane.
//!
//! Knows the time; nothing of a store.

use std::time::Duration;

use tokio::time::Instant;

/// After so long what waits for another lane is tried again, and then after twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two tries.
const AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// The next try.
pub(crate) struct Again {
    at: Instant,
    /// How long after that it is tried once more.
    wait: Duration,
    /// The item after which it goes on; 0: at the first.
    pub(crate) after: i64,
}

/// What a round of tries came to.
pub(crate) struct Round {
    /// Whether something still waits for another lane.
    pub(crate) left: bool,
    /// The item after which the next round begins, so that nobody starves behind those that nothing cures; 0: at the first.
    pub(crate) after: i64,
}

impl Again {
    /// Plans a try at once.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wait: AGAIN, after: 0 }
    }

    /// Plans a try of what has just begun to wait.
    pub(crate) fn soon() -> Self {
        Self { at: Instant::now() + AGAIN, ..Self::now() }
    }

    /// States whether its time has come.
    pub(crate) fn due(&self) -> bool {
        self.at <= Instant::now()
    }

    /// Plans the try after a round; `None` when nothing waits any more.
    pub(crate) fn next(&self, round: &Round) -> Option<Self> {
        // In the middle of them it goes on at the same pace.
        let next = if round.after == 0 { AGAIN_AT_MOST.min(self.wait * 2) } else { self.wait };
        round.left.then(|| Self { at: Instant::now() + self.wait, wait: next, after: round.after })
    }
}
