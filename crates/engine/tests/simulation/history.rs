//! What is recorded of a run: what the source gave and pruned, what the store committed, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use hutong_core::{Checkpoint, ErrorKind, Position, Row};

/// How many places of each partition are behind a lane.
pub(crate) type Places = BTreeMap<usize, u64>;

/// Returns the name of a partition.
pub(crate) fn name(partition: usize) -> String {
    format!("p{partition}")
}

/// Returns how many places lie at or before a position.
pub(crate) fn places(position: Position) -> u64 {
    position.as_offset().map_or(0, |offset| offset + 1)
}

/// Returns the position behind so many places.
pub(crate) fn position(places: u64) -> Position {
    places.checked_sub(1).map_or(Position::START, Position::offset)
}

/// Returns how many places of each partition a checkpoint covers.
pub(crate) fn reached(checkpoint: &Checkpoint) -> Places {
    let number = |name: &String| name[1..].parse().expect("a partition of the simulation");
    checkpoint.positions.iter().map(|(name, at)| (number(name), places(*at))).collect()
}

/// One change that reached the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    /// Partition and offset.
    pub(crate) at: (usize, u64),
    /// What it left.
    pub(crate) left: Left,
}

/// What a change leaves of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Left {
    /// The row stands.
    Row(i64, Row),
    /// It is gone.
    Nothing(i64),
    /// Every row of the partition is gone.
    Empty,
}

/// One transaction of the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transaction {
    /// Who wrote it.
    pub(crate) owner: usize,
    /// The lane.
    pub(crate) lane: usize,
    /// Under which grant it was permitted.
    pub(crate) grant: usize,
    /// What was written, in order.
    pub(crate) writes: Vec<Write>,
    /// What was set aside.
    pub(crate) aside: Vec<(usize, u64)>,
    /// What was dropped, by rule.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// The checkpoint of the lane after it.
    pub(crate) reached: Places,
    /// The places that its notes name.
    pub(crate) noted: Places,
}

/// How an owner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its source was read to the end.
    Finished,
    /// It was asked to stop, and did.
    Drained,
    /// It was killed.
    Killed,
    /// It was killed since it came to no end.
    Held,
    /// It halted.
    Halted(ErrorKind),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// An owner has shut the earlier ones out.
    Took { owner: usize, lane: usize },
    /// An owner has opened the sink, and was told where the lane stands.
    Opened { owner: usize, lane: usize, told: Places },
    /// The source gave what lies between.
    Given { owner: usize, lane: usize, steps: BTreeMap<usize, (u64, u64)> },
    /// The store committed.
    Stored(Transaction),
    /// The lane's rows and its checkpoint went, since another grant is in force.
    Anew { lane: usize, grant: usize },
    /// The source may forget everything before.
    Acked { owner: usize, lane: usize, upto: Places },
    /// An owner has ended.
    Ended { owner: usize, lane: usize, how: End },
}

/// Everything that happened, in order, with the time since the beginning.
pub(crate) type History = Vec<(Duration, Event)>;
