//! Whether a replica holds what it was granted, told from digests: no row leaves a side for it.
//!
//! Both sides digest the rows of one projection and compare by ranges of the keys' digests, so that no collation and
//! no order of a store matters; then the keys of those ranges that differ; then those keys alone. Both sides change
//! meanwhile, so one look proves nothing: see [`Suspects`]. Knows no store and no topic.

mod digest;
mod suspects;
mod tally;

#[cfg(test)]
mod tests;

pub use digest::{KeyDigest, Range, RowDigest, field_digest};
pub use suspects::{Difference, Look, Outcome, Suspects};
pub use tally::{Answer, Aside, Ask, Detail, RangeSum, Sums, Tally, differing, differing_keys, seen};
