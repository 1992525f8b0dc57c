//! What tests share: launchers of real servers, the conformance suite of every port, ports in memory, faults around a
//! port, hostile input, seeds that repeat a run.
//!
//! A dev-dependency only; nothing that is shipped depends on it.

pub mod conformance;
pub mod faulty;
pub mod hostile;
pub mod launch;
pub mod memory;
pub mod moved;
pub mod proxy;
pub mod seed;
