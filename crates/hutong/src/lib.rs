//! The program `hutong`.

pub mod cmd;
pub mod config;
pub mod exit;
pub mod http;
pub mod lang;
pub mod ledger;
pub mod logging;
pub mod moment;
#[cfg(feature = "otlp")]
mod otlp;
pub mod program;
pub mod share;
pub mod verify;
pub mod wire;
