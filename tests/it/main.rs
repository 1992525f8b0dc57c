//! Black-box tests over the built program and real servers, one file a scenario.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cli;
mod demo;
mod registries;
mod tidy;
