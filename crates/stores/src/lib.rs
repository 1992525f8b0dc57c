//! Departments' databases as sources and sinks: the only crate that names database drivers.
//!
//! One folder a system. Knows nothing of topics, registries or the engine.

mod again;
mod finding;
mod flood;
pub mod fold;
mod gone;
pub mod holding;
pub mod keep;
pub mod postgres;
mod receipt;
mod reread;
pub mod sqlite;
mod steered;
mod waiting;

pub use finding::Finding;
pub use steered::{NOBODYS, RECALLED, Steered};
