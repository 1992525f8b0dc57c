//! SQLite files as sources and as stores.
//!
//! A *source* is a department's own file: triggers write a change log, which is read and pruned. A *store* is
//! written by one thread a file, which commits all waiting lanes together. Knows nothing of topics or grants.

mod anew;
mod apply;
mod beside;
mod calendar;
mod connect;
mod cursor;
mod draft;
mod error;
mod estimate;
mod gone;
mod held;
mod install;
mod json;
mod lane;
mod mend;
mod narrow;
mod opened;
mod orphan;
mod plain;
mod probe;
mod prune;
pub mod quarantine;
mod reader;
pub mod receipts;
mod recent;
mod replay;
mod room;
mod row;
mod scan;
mod sink;
mod source;
mod steer;
mod store;
mod table;
mod target;
mod trigger;
mod values;

pub use anew::{anew, reread};
pub use draft::{compare, draft};
pub use estimate::estimate;
pub use held::held;
pub use install::{Installed, install, remove};
pub use lane::{LaneState, lanes, rows_of};
pub use mend::mend;
pub use plain::Plain;
pub use probe::{answers, probe, probe_target};
pub use scan::{Scan, reached};
pub use sink::{Sink, SinkConfig};
pub use source::{Captured, Limits, PARTITION, Source, SourceConfig};
pub use steer::{note, steer};
pub use store::Store;
