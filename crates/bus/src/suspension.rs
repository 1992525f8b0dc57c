//! The streams of a capture whose contract may not follow the one of their topic: their changes are dropped, and the
//! other streams go on, so that one bad contract neither stops a department nor fills its disk.
//!
//! [`crate::TopicSink`] says which, when it opens; the step drops by the named rule `suspended` (I3). When the contract
//! fits again the source reads the table anew, behind a truncate.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use hutong_core::{Change, Step, Verdict};

/// The suspended streams of one capture. Cheap to clone; the clones know the same streams.
#[derive(Debug, Clone, Default)]
pub struct Suspension(Arc<RwLock<BTreeSet<String>>>);

impl Suspension {
    /// Replaces the streams.
    pub(crate) fn set(&self, streams: BTreeSet<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = streams;
    }

    /// States whether a stream is suspended.
    pub fn holds(&self, stream: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(stream)
    }
}

impl Step for Suspension {
    fn name(&self) -> &'static str {
        "suspend"
    }

    fn apply(&mut self, change: Change) -> Verdict {
        match self.holds(&change.contract.stream) {
            true => Verdict::Drop { reason: "suspended" },
            false => Verdict::Pass(change),
        }
    }
}
