//! The ledger in a process: read from the bus, written with a department's key, and asked before a row moves.
//!
//! What an entry means is the core's; how a topic is read is the bus's. Here both meet the configuration.

mod custody;
mod entrusted;
mod follow;
mod govern;
mod pinned;
mod publish;
mod reading;
mod remembered;
mod terms;
#[cfg(test)]
mod tests;

pub use custody::{generate, generate_sealing, private_key, sealing_key};
pub(crate) use entrusted::{Asked, Entrusted};
pub use follow::Ledger;
pub(crate) use govern::in_time;
pub use govern::{govern, granted, permitted};
pub(crate) use pinned::{Permitted, Remembering};
pub use publish::{Ends, Publisher};
pub use reading::Reading;
pub use remembered::Remembered;
pub use terms::{Contracts, INTO_TOPIC, asked, compiled, configured, contracts, linked, step, under};
