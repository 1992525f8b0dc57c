//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng;

/// The shortest step of the back-off.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Exponential back-off with jitter: doubles to a ceiling, and never lets many lanes knock at once.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Returns the next wait: between half of and the whole current step.
    pub fn wait(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
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
    use super::*;

    #[test]
    fn grows_to_its_ceiling_and_starts_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.wait()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits[39] <= LONGEST && waits[39] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }
}
