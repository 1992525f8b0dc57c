//! Which of the configured lanes this process runs: all of them, or its share of what several processes carry.
//!
//! What is held, a group says (`hutong_bus::holding`); what a lane is, the wire knows. Here both meet.

mod carry;
mod held;
mod roster;
mod unlike;

pub use carry::carry;
pub use roster::{Place, Roster, Share, Work};
pub use unlike::Unlike;
