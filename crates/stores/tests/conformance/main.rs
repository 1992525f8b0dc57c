//! The conformance suite over every store: one file a system, and nothing but what the suite must know of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod postgres;
mod sqlite;
