//! Topics, envelopes and schemas: the only crate that knows Kafka, Avro's binary form and the registry.
//!
//! Two buses stand behind the same traits of [`log`]: Apache Kafka ([`kafka`]) and one folder ([`embedded`]).
//! [`TopicSink`] and [`TopicSource`] are the bus's two ends as the engine sees them; they encode and decode
//! envelopes and know nothing of which bus carries them.

mod base;
mod binary;
mod feed;
mod freshness;
mod history;
mod named;
#[cfg(test)]
mod oracle;
mod repeats;
mod tail;
mod trimmed;
mod unsealing;
mod watch;

pub mod decoder;
pub mod delivery;
pub mod embedded;
pub mod envelope;
pub mod framing;
pub mod holding;
pub mod kafka;
pub mod keys;
pub mod ledger;
pub mod log;
pub mod partition;
pub mod quarantine;
pub mod receipts;
pub mod registry;
pub mod reread;
pub mod reset;
pub mod shared;
pub mod succession;
pub mod suspension;
pub mod topic_sink;
pub mod topic_source;
pub mod verification;
pub mod watermark;

pub use decoder::{Decoder, Outcome};
pub use delivery::{Delivery, DeliveryConfig, DeliverySink, Generations, Proofs, Subscriber};
pub use registry::{Checked, HttpRegistry, RegistryConfig, SchemaRegistry};
pub use shared::Shared;
pub use suspension::Suspension;
pub use topic_sink::{Sealing, TopicSink, TopicSinkConfig, TopicStream};
pub use topic_source::{Limits, TopicSource, TopicSourceConfig};
pub use unsealing::Unsealing;
pub use watch::latest;

#[cfg(test)]
mod tests;
