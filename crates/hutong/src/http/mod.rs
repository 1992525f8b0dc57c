//! What the process answers over HTTP.

mod group_lag;
pub mod health;
pub mod logging;
pub mod registry;
mod serve;
pub mod status;
pub mod token;

pub use serve::serve;

#[cfg(test)]
mod hostile;
