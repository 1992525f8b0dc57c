//! A change's form on the wire: Debezium's change event in Avro's binary form.
//!
//! [`schemas`] makes the schemas of a topic from its contract, [`Encoder`] writes changes, [`Plan`] reads them.
//! Knows nothing of topics, framing ids come from outside, and no registry is asked here.

mod convert;
mod decimal;
mod decode;
mod encode;
mod instant;
mod placeholder;
mod plan;
mod registered;
mod schema;
mod seal;
mod shape;
mod value;

pub use decode::Decoded;
pub use encode::{Encoded, Encoder};
pub use plan::Plan;
pub use registered::contract_of;
pub use schema::{Schemas, schemas};
pub use seal::Unseal;

#[cfg(test)]
mod tests;
