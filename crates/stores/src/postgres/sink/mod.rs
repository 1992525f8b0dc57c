//! PostgreSQL as a sink: one lane of a replicate, written set-wise and exactly once.
//!
//! A commit is one SQL transaction with rows, quarantine, receipt and checkpoint (I2); the checkpoint's
//! UPDATE, its last statement, is the fence. Rows go by binary COPY into a staging table and from there in
//! one INSERT … ON CONFLICT and one DELETE. What the store refuses is found by bisecting and set aside (I3).

mod apply;
mod beside;
mod binary;
mod catalog;
mod column;
mod commit;
mod earlier;
mod gone;
mod held;
mod lane;
mod narrow;
mod pool;
mod probe;
mod quarantine;
mod receipts;
mod refusal;
mod replay;
mod room;
mod schema;
mod stage;
mod stand;
mod steer;
mod table;
mod writer;

pub use held::{held, uncertain};
pub use pool::Pool;
pub use probe::probe;
pub use quarantine::{Item, discard, list, show};
pub use receipts::Receipts;
pub use replay::replay;
pub use stand::{Stand, count, lanes, rows_of};
pub use steer::{note, steer};
pub use writer::{Sink, SinkConfig};
