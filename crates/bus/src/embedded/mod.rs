//! The embedded bus: the same topics and the same registry in one folder, for one process (DESIGN section 8).
//!
//! One SQLite file in WAL mode with `synchronous=FULL` holds topics, records, lanes and schemas. One OS
//! thread (`writer`) owns the only writing connection and commits everything that waits in one
//! transaction; readers have connections of their own and are never in its way. Knows bytes and
//! schema texts, not changes.

mod canonical;
mod compatibility;
mod error;
mod folder;
mod lane;
mod log;
mod reader;
mod topic;
mod writer;

pub mod api;
pub mod registry;

pub use compatibility::{Level, Problem, problems};
pub use folder::Options;
pub use log::Bus;
pub use registry::Registry;

#[cfg(test)]
mod tests;
