//! The PostgreSQL sink over a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod again;
mod beside;
mod carried;
mod equal;
mod fence;
mod given;
mod gone;
mod grant;
mod held;
mod narrow;
mod own_table;
mod probe;
mod receipts;
mod refuse;
mod regrant;

mod reread;
mod room;
mod rows;
mod steer;
mod trigger;
