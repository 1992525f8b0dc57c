//! Whether a replica holds what it was granted: the two halves, what passes between them, and who asks them.
//!
//! The source half reads the table and projects it as the lanes do; the replica half reads the replica together with
//! where its lanes stand. Neither needs the other's database: they meet in [`Told`], which holds digests and places of
//! the topic. What differs is decided by `core/verify`.

mod check;
mod exchange;
mod halves;
mod replica;
mod schedule;
mod source;
mod window;
mod words;

pub use check::{Report, Settings, Suspect, check, columns};
pub use exchange::{Asked, Exchange, serve};
pub use halves::{exchange, source_half};
pub use replica::Replica;
pub use schedule::scheduled;
pub use source::{Half, Source, Told, Wanted};
