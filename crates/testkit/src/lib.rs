//! What tests share: launchers of real servers.
//!
//! A dev-dependency only; nothing that is shipped depends on it.

pub mod launch;
pub mod memory;
