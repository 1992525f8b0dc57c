//! The configuration: TOML in, a plan out, or every problem at once.
//!
//! Three phases: parse (`read`: unknown keys and wrong types), check (`check`: what the keys mean together), and
//! connect, which is not here: nothing in this module touches a network or needs a secret.

mod check;
mod document;
mod explain;
mod file;
mod load;
mod place;
pub mod plan;
mod problem;
mod read;
mod secret;

pub use load::{DEFAULT_PATH, Loaded, load, load_at, stores};
pub use plan::Plan;
pub use problem::{Level, Problem, Report};
pub use secret::SecretSource;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
