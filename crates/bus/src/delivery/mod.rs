//! Delivery topics: what one subscription is granted, in a topic of its own.
//!
//! A topic cannot be emptied and filled again under its readers' feet, as a replica can. So whatever makes a replica
//! begin anew (another grant, another generation of the stream, a person's word) opens the next generation of the
//! delivery topic from the base, and the topics before it are deleted: what is no longer granted may not be read (I5).

mod generations;
pub(crate) mod proofs;
mod sink;
mod subscriber;

pub use generations::Generations;
pub use proofs::Proofs;
pub use sink::{Delivery, DeliveryConfig, DeliverySink};
pub use subscriber::Subscriber;
