//! What an adapter's test tells the suite of its system. Adding a store means writing one of each.

use std::sync::Arc;

use hutong_core::{Batch, Checkpoint, Contract, Row, Sink, Source, Type, Value};

use super::Write;

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives exactly.
    Carried,
    /// It is refused by name and set aside, because it cannot arrive exactly (I6).
    Refused,
    /// The origin itself cannot hold it, so there is nothing to carry.
    Impossible,
}

/// What a sink has written, as the department sees it: not as the sink remembers it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The rows, in any order.
    pub rows: Vec<Row>,
    /// How many changes the place has ever taken.
    pub taken: u64,
    /// How many items were ever set aside.
    pub quarantined: u64,
}

/// A fresh place that sinks write.
pub trait SinkSite: Sized {
    /// Makes an empty place for the rows of one contract.
    fn fresh(contract: &Arc<Contract>) -> impl Future<Output = Self>;

    /// Returns another sink of the same lane, which is not open.
    fn sink(&self) -> Box<dyn Sink>;

    /// Looks, past every sink, what the place holds.
    fn seen(&self) -> impl Future<Output = Seen>;

    /// Has an open sink commit a batch so that it is durable and the sink does not hear of it.
    fn commit_unheard(&self, sink: &mut dyn Sink, batch: &Batch) -> impl Future<Output = ()>;

    /// Returns what becomes of a value.
    fn fate(ty: &Type, value: &Value) -> Fate {
        let _ = (ty, value);
        Fate::Carried
    }
}

/// What a system's sources can do, where they differ.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// The origin forgets what was acked.
    pub prunes: bool,
    /// The department can remove all rows at once, and that is one change.
    pub truncates: bool,
    /// `next` returns `None` at the end of what there is, instead of waiting.
    pub bounded: bool,
    /// A batch holds about as many changes as it is told; else the system decides.
    pub limited: bool,
}

/// A fresh origin that sources read.
pub trait SourceSite: Sized {
    /// What its sources can do.
    const FEATURES: Features;

    /// Makes an origin with an empty table of one contract.
    fn fresh(contract: &Arc<Contract>) -> impl Future<Output = Self>;

    /// Returns another source of the same capture, which is not open. Its batches hold about
    /// [`super::BATCH_LIMIT`] changes and the chunks of its snapshot [`super::CHUNK_LIMIT`] rows.
    fn source(&self) -> Box<dyn Source>;

    /// Makes the changes in one transaction, as the department does.
    fn write(&self, writes: &[Write]) -> impl Future<Output = ()>;

    /// Waits until the origin has forgotten what was acked up to a place. Only of a site that prunes.
    fn forgotten(&self, upto: &Checkpoint) -> impl Future<Output = ()> {
        let _ = upto;
        async {}
    }

    /// Returns what becomes of a value.
    fn fate(ty: &Type, value: &Value) -> Fate {
        let _ = (ty, value);
        Fate::Carried
    }
}
