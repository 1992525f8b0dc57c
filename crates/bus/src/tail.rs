//! The record that a lane has read last: by it the lane finds out that what it is about to read is another history.
//!
//! A bus that was restored from a copy is shorter than what its lanes have read, and soon as long again. Offsets alone
//! do not tell the one from the other.

use hutong_core::checkpoint::TAIL;
use hutong_core::{Checkpoint, Error, ErrorKind};

use crate::log::{Fetched, Incoming};

/// A record by where it stands and when it was written. Not by its bytes: a subscriber's store keeps this, and could
/// try out values that it is not granted against a digest (I5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    written_us: i64,
}

/// Returns the name of the note that holds it.
pub(crate) fn note(key: &str) -> String {
    format!("{TAIL}{key}")
}

impl Tail {
    /// Returns the last of these records; `None` where the cluster does not tell when it was written.
    pub(crate) fn of(records: &[Incoming]) -> Option<Self> {
        let last = records.last().filter(|last| last.written_us > 0)?;
        Some(Self { offset: last.offset, written_us: last.written_us })
    }

    /// Returns what a lane remembers that stands at an offset; `None` when it was noted at another, and an older program,
    /// or a person, has moved the lane since.
    pub(crate) fn before(offset: u64, from: &Checkpoint, key: &str) -> Option<Self> {
        let mut parts = from.note(&note(key))?.splitn(3, ':').map(str::parse::<u64>);
        let (at, written_us, next) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        let tail = Self { offset: at, written_us: i64::try_from(written_us).ok()? };
        (next == offset && tail.offset < offset).then_some(tail)
    }

    /// Returns the text of the note of a lane that stands at `next` with it.
    pub(crate) fn text(&self, next: u64) -> String {
        format!("{}:{}:{next}", self.offset, self.written_us)
    }

    /// States whether what was read ends before the record: that proves nothing yet.
    pub(crate) fn is_behind(&self, fetched: &Fetched) -> bool {
        fetched.records.is_empty() && fetched.next <= self.offset
    }

    /// Takes the record itself out of what was read from its offset on, and everything else before `next`.
    ///
    /// I3: `Err(PositionLost)` when it is not there: what stands before the lane's place was never read. `thins`: records of
    /// the topic are removed from between others, so one that is gone proves nothing.
    pub(crate) fn proves(
        &self,
        mut fetched: Fetched,
        next: u64,
        thins: bool,
        (key, name): (&str, &str),
    ) -> Result<Fetched, Error> {
        let first = fetched.records.get(..1).unwrap_or_default();
        let gone = thins && first.iter().all(|record| record.offset > self.offset);
        if !gone && Self::of(first) != Some(*self) {
            let why = format!(
                "the record at offset {} is another one than this lane has read there: the bus was set back to an older \
                 state and written on",
                self.offset
            );
            return Err(Error::new(ErrorKind::PositionLost, format!("continue {key}"), why)
                .hint(format!("`hutong subscription reload {name}` fills the replica anew, from the base")));
        }
        fetched.records.retain(|record| record.offset >= next);
        fetched.next = fetched.next.max(next);
        Ok(fetched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64, written_us: i64) -> Incoming {
        Incoming { offset, written_us, key: None, value: None, headers: Vec::new() }
    }

    fn fetched(records: Vec<Incoming>) -> Fetched {
        let next = records.last().map_or(7, |last| last.offset + 1);
        Fetched { records, next, end: 9 }
    }

    #[test]
    fn i3_only_the_record_that_was_read_proves_that_what_follows_was_not() {
        let tail = Tail::of(&[record(3, 70), record(4, 80)]).unwrap();
        let mut from = Checkpoint::default();
        from.notes.insert(note("t/0"), tail.text(6));
        assert_eq!(Tail::before(6, &from, "t/0"), Some(tail));
        assert_eq!(Tail::before(4, &from, "t/0"), None, "a lane that was set back");
        assert_eq!(Tail::before(9, &from, "t/0"), None, "an older program has gone on");
        assert_eq!(Tail::before(6, &from, "t/1"), None);
        assert_eq!(Tail::of(&[record(3, 0)]), None);

        let proved = |records| tail.proves(fetched(records), 6, false, ("t/0", "pension"));
        let rest = proved(vec![record(4, 80), record(6, 90)]).unwrap();
        assert_eq!((rest.records.len(), rest.records[0].offset, rest.next), (1, 6, 7));
        // Only an end marker stands between.
        let rest = proved(vec![record(4, 80)]).unwrap();
        assert!(rest.records.is_empty() && rest.next == 6);
        for other in [vec![record(4, 81)], vec![record(5, 80)], vec![record(3, 80), record(4, 80)], vec![]] {
            let problem = proved(other).unwrap_err();
            assert_eq!(problem.kind, ErrorKind::PositionLost);
            assert!(problem.hint.unwrap().contains("reload pension"));
        }
        assert!(tail.is_behind(&Fetched { records: Vec::new(), next: 4, end: 9 }));
        assert!(!tail.is_behind(&Fetched { records: Vec::new(), next: 5, end: 9 }));
        // Another program's topic may be compacted.
        let thinned = |records| tail.proves(fetched(records), 6, true, ("t/0", "pension"));
        assert_eq!(thinned(vec![record(5, 80), record(7, 90)]).unwrap().records.len(), 1);
        assert!(thinned(vec![record(4, 81)]).is_err());
    }
}
