//! Whether a capture may go on in a topic: its base, and what it wrote since, must be there.
//!
//! A topic that was deleted and made again looks like the old one to everybody who knows only its name. So a capture
//! never begins a topic a second time in silence, and notes a random incarnation by which readers know it again.

use std::collections::BTreeMap;

use hutong_core::{Checkpoint, Error, ErrorKind, Result};

use crate::log::Extent;
use crate::quarantine::stem;
use crate::succession;
use crate::watermark::incarnation_note;

/// Refuses a topic that has not what the checkpoint says of it; `capture` is named in what a person must do.
///
/// To be called before the topic is made: `found` is `None` when there is none. I3: `Err(PositionLost)` when the
/// topic, or its base, has gone; `Err(Config)` when another generation of it has the base and this one has none, for
/// its tables would not be read again, unless `anew` says that this one's is.
pub(crate) fn check(
    checkpoint: &Checkpoint,
    topic: &str,
    found: Option<&Extent>,
    capture: &str,
    anew: bool,
) -> Result<()> {
    let doing = || format!("continue topic {topic}");
    let mut begun = false;
    for (partition, base) in bases(checkpoint, topic) {
        begun = true;
        let Some(found) = found else {
            return Err(lost(doing(), "it was deleted since the capture began it".into(), capture));
        };
        // Another number of partitions is another error.
        let Some((_, end)) = found.get(&partition) else { continue };
        if *end < base {
            let why = format!("partition {partition} ends at {end}, and its base began at {base}");
            return Err(lost(doing(), why, capture));
        }
    }
    if begun || anew {
        return Ok(());
    }
    match others(checkpoint, topic).next() {
        Some(other) => Err(Error::new(
            ErrorKind::Config,
            format!("begin topic {topic}"),
            format!("its rows were read into {other}, and nothing would read them again"),
        )
        .hint(format!(
            "stop the capture and run `hutong source reload {capture} TABLE --reason …`, which reads the stream's \
             table into it, or keep the generation"
        ))),
        None => Ok(()),
    }
}

/// Makes the error of a topic that lacks what the capture wrote.
pub(crate) fn lost(doing: String, why: String, capture: &str) -> Error {
    Error::new(ErrorKind::PositionLost, doing, why).hint(format!(
        "what it held is gone: stop `hutong run`, then `hutong source reset {capture} --reason …` accepts it and takes a \
         new base, then `hutong subscription reload NAME` for each of its subscriptions, then start it again"
    ))
}

/// Returns the notes of a topic that go on when a capture's checkpoint is made anew: its incarnation, and the contract
/// that it is written by; none when the topic has not what the checkpoint says of it.
pub(crate) fn kept(checkpoint: &Checkpoint, topic: &str, found: Option<&Extent>) -> Vec<(String, String)> {
    if check(checkpoint, topic, found, "", false).is_err() {
        return Vec::new();
    }
    let names = [incarnation_note(topic), succession::note_name(topic)];
    names.into_iter().filter_map(|name| Some((name.clone(), checkpoint.note(&name)?.to_owned()))).collect()
}

/// Returns every base that is noted, by `<topic>/<partition>`.
pub(crate) fn all(checkpoint: &Checkpoint) -> BTreeMap<String, u64> {
    let noted = checkpoint.notes.iter();
    noted
        .filter_map(|(name, base)| Some((name.strip_prefix("base.")?.to_owned(), base.parse().ok()?)))
        .collect()
}

/// Returns the other generations of a topic that have a base, once for each partition.
pub(crate) fn others<'a>(checkpoint: &'a Checkpoint, topic: &'a str) -> impl Iterator<Item = &'a str> {
    let partitions = checkpoint.notes.keys().filter_map(|name| name.strip_prefix("base.")?.rsplit_once('/'));
    partitions.map(|(known, _)| known).filter(move |known| *known != topic && stem(known) == stem(topic))
}

/// Returns the bases of a topic by partition, as they are noted: a capture's of all partitions, a delivery's of one.
pub(crate) fn bases(checkpoint: &Checkpoint, topic: &str) -> impl Iterator<Item = (u32, u64)> {
    let noted = checkpoint.notes.iter();
    noted.filter_map(move |(name, base)| {
        let partition = name.strip_prefix("base.")?.strip_prefix(topic)?.strip_prefix('/')?;
        Some((partition.parse().ok()?, base.parse().ok()?))
    })
}
