//! What is promised of a lane.

use std::time::Duration;

/// What is promised of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promise {
    /// How fresh it is to be.
    pub freshness: Option<Duration>,
    /// How long its topic keeps what is older than the base, where Hutong trims it.
    pub history: Option<Duration>,
    /// Whether no capture says of its topic up to when it is complete: another program writes it, or another bus.
    pub unmarked: bool,
}
