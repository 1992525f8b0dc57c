//! Whether data of one schema can be read with another: schema resolution of Apache Avro 1.12
//! (specification, section "Schema Resolution"), and the levels that a registry builds of it.
//!
//! `apache_avro::schema_compatibility` is not used: it does not follow references to named types, ignores
//! the aliases of named types, and calls a union that fits only in part compatible.

mod excess;
mod level;
mod resolution;
mod shape;

pub(super) use excess::{TEXT_LIMIT_BYTES, excess};
pub(super) use level::messages;
pub use level::{Level, problems};
pub use resolution::Problem;

#[cfg(test)]
mod tests;
