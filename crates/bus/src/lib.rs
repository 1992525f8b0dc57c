//! Topics, envelopes and schemas: the only crate that knows Kafka, Avro's binary form and the registry.
//!
//! Two buses stand behind the same traits of [`log`]: Apache Kafka ([`kafka`]) and one folder ([`embedded`]).
//! [`TopicSink`] and [`TopicSource`] are the bus's two ends as the engine sees them; they encode and decode
//! envelopes and know nothing of which bus carries them.

pub mod kafka;
pub mod log;

