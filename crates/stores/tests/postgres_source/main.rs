//! The source of PostgreSQL, over real servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod capture;
mod changes;
mod lost;
mod mend;
mod publication;
mod pulse;
mod reload;
mod reread;
mod rights;
mod scan;
mod shape;
mod slot;
mod snapshot;
mod suspended;
mod values;
