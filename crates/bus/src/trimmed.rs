//! What is said when a topic no longer holds a lane's place: from where to where, how much, and what to do (I3).

use hutong_core::{Error, ErrorKind};

/// Says that a lane's place has gone. `kept` is the half-open range of offsets that the partition holds; `name` the
/// subscription.
///
/// Offsets count end markers of transactions too, so of changes it is "at most".
pub(crate) fn place(key: &str, place: u64, kept: (u64, u64), name: &str) -> Error {
    let (first, end) = kept;
    let why = match first.checked_sub(place) {
        Some(lost) if lost > 0 => format!(
            "offsets {place} to {} were removed before this lane has read them: at most {lost} changes; the topic \
             holds {first} to {end}",
            first - 1
        ),
        _ => format!(
            "the topic ends at {end}, {} before it: it is another one than the lane has read, or has lost its end",
            place.saturating_sub(end)
        ),
    };
    Error::new(ErrorKind::PositionLost, format!("read {key} from {place}"), why)
        .hint(format!("`hutong subscription reload {name}` fills the replica anew, from the base"))
}

/// Says that a part of the base has gone, so that no replica can be filled. `capture` took it.
pub(crate) fn base(key: &str, base: u64, first: u64, capture: &str) -> Error {
    let why = format!(
        "the snapshot that every new replica starts from began at {base}, and offsets {base} to {} of it were removed: \
         at most {} rows",
        first - 1,
        first - base
    );
    Error::new(ErrorKind::PositionLost, format!("begin {key} at its base"), why).hint(format!(
        "look for the retention that somebody has set on the topic; stop `hutong run`, then \
         `hutong source reset {capture} --reason …` takes a new base, then start it again"
    ))
}
