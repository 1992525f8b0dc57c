//! PostgreSQL 14 and later: the adapters between a department's PostgreSQL database and the ports.

mod address;
mod advance;
mod anew;
mod arrival;
mod assembly;
mod captured;
mod catalog;
mod chunk;
mod column;
pub mod connect;
mod copied;
mod draft;
pub mod error;
mod fit;
pub mod ident;
mod image;
mod open;
mod pgoutput;
mod probe;
mod reader;
mod relay;
mod reload;
mod reread;
pub mod sink;
mod slot;
mod snapshot;
mod source;
mod stream;
mod text;
mod tls;
mod visibility;

pub use anew::anew;
pub use draft::draft;
pub use probe::{compare, probe, version};
pub use slot::remove;
pub use source::{Limit, Source, SourceConfig, Table};
