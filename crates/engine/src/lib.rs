//! The engine: lanes, the pipeline loop, retry, supervision, lag, metrics and status.
//!
//! Knows the ports of `core` and no adapter: it cannot tell a topic from a table.

pub mod ahead;
pub mod backoff;
mod board;
pub mod certificates;
mod glance;
mod journey;
pub mod lag;
pub mod lane;
pub mod latency;
pub mod ledgered;
pub mod metrics;
pub mod parts;
mod produced;
mod promise;
mod rate;
pub mod reason;
mod runtime;
mod stand;
pub mod status;
pub mod supervisor;
pub mod verdict;
pub mod verified;

pub use ahead::Ahead;
pub use board::Board;
pub use lane::{Lane, Settings};
pub use metrics::Metrics;
pub use parts::{PartStatus, Parts};
pub use status::{LaneStatus, State};
pub use supervisor::Supervisor;
pub use verdict::Verdict;
