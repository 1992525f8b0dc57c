//! What the process answers over HTTP.

pub mod registry;
mod serve;
pub mod status;

pub use serve::serve;
