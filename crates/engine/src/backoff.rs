//! How long to wait before the next attempt.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use hutong_core::LaneId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The shortest step of the back-off.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Exponential back-off with jitter: doubles to a ceiling, and never lets many lanes knock at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    attempts: u32,
    jitter: StdRng,
}

impl Backoff {
    /// Returns the back-off of a lane. Its jitter is drawn from the lane's name: lanes differ, and a run that somebody
    /// has to look at again waits as it did before.
    pub fn of(lane: &LaneId) -> Self {
        let mut hasher = DefaultHasher::new();
        lane.hash(&mut hasher);
        Self { attempts: 0, jitter: StdRng::seed_from_u64(hasher.finish()) }
    }

    /// Returns the next wait: between half of and the whole current step.
    pub fn wait(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(self.jitter.random_range(0.5..=1.0))
    }

    /// Returns how often it has waited since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts anew after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, PipelineId};

    use super::*;

    fn of(partition: u32) -> Backoff {
        Backoff::of(&LaneId::new(PipelineId::new(Kind::Replicate, "renshe"), partition))
    }

    #[test]
    fn grows_to_its_ceiling_and_starts_anew() {
        let mut backoff = of(0);
        let waits: Vec<_> = (0..40).map(|_| backoff.wait()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits[39] <= LONGEST && waits[39] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn lanes_wait_apart_and_each_as_it_did_before() {
        let waits = |mut backoff: Backoff| (0..8).map(|_| backoff.wait()).collect::<Vec<_>>();
        assert_eq!(waits(of(0)), waits(of(0)));
        assert_ne!(waits(of(0)), waits(of(1)));
    }
}
