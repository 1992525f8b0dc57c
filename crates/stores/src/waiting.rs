//! When a lane counts what waits in its quarantine.
//!
//! People settle items from outside, so the number is asked of the store; but not with every commit.

use std::time::Duration;

use tokio::time::Instant;

/// While something waits it is counted so often.
const OFTEN: Duration = Duration::from_secs(1);

/// What was found last, and when; nothing before the first count.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<(Instant, u64)>);

impl Waiting {
    /// States whether a commit is to count; `set_aside` says whether it sets something aside.
    pub(crate) fn is_due(&self, set_aside: bool) -> bool {
        set_aside || self.0.is_none_or(|(at, count)| count > 0 && at.elapsed() >= OFTEN)
    }

    /// Takes a count in.
    pub(crate) fn found(&mut self, count: u64) {
        self.0 = Some((Instant::now(), count));
    }
}
