//! Crash rounds: the program is killed, and what stands around it fails, in the midst of a workload.
//!
//! Each time the outage ends and the program goes on by itself (I7): the replicas equal the projection of the
//! source, each change stands once in the topic, and nothing is quarantined.

mod bus_away;
mod fleet;
pub(crate) mod full_disk;
mod kills;
mod outages;
mod register;
mod story;
mod take_over;
mod workload;

/// Returns how often each scenario is gone through: once, or as often as `make crash ROUNDS=n` says.
fn rounds() -> u64 {
    std::env::var("HUTONG_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}
