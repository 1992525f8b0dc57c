//! What a lane reads again after a person has set it back: up to the furthest place that it had come to before.
//!
//! On the way a replica that is ahead refuses what is no loss: a partial change of a row that is gone by now finds no row,
//! and what makes it so comes by again. So the lane remembers how far it had come, in the notes of its checkpoint, until
//! it is there.

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, Position};

/// Not one of the notes that outlive a lane's rows: who begins anew reads nothing twice.
const NOTE: &str = "reread";

/// What a lane reads again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reread {
    /// In which partition.
    pub partition: String,
    /// From where it was set back to.
    pub from: Position,
    /// Up to the furthest place that it had reached.
    pub to: Position,
}

impl Reread {
    /// States whether a change at this place comes again.
    pub fn holds(&self, at: Position) -> bool {
        self.from <= at && at < self.to
    }
}

impl Checkpoint {
    /// Returns what the lane still reads again; `None` when it was not set back, or is where it was. A note that cannot be
    /// read tells nothing: then everything counts.
    pub fn reread(&self) -> Option<Reread> {
        self.note(NOTE).and_then(|text| serde_json::from_str(text).ok())
    }

    /// Sets the lane back, and remembers the furthest place that it had reached, also over several times.
    pub(crate) fn set_back(&mut self, partition: &str, to: Position) {
        let here = self.position(partition);
        let before = self.reread().filter(|before| before.partition == partition);
        let reread = match before {
            Some(before) => Reread { from: before.from.min(to), to: before.to.max(here), ..before },
            None => Reread { partition: partition.to_owned(), from: to, to: here },
        };
        self.notes.insert(NOTE.into(), serde_json::json!(reread).to_string());
        self.positions.insert(partition.to_owned(), to);
        self.stands_beside();
    }

    /// Forgets that the lane was set back, once it is where it was.
    pub(crate) fn caught_up(&mut self) {
        if self.reread().is_some_and(|reread| self.position(&reread.partition) >= reread.to) {
            self.notes.remove(NOTE);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Delta;

    use super::*;

    fn at(offset: u64) -> Position {
        Position::offset(offset)
    }

    #[test]
    fn i3_a_lane_remembers_the_furthest_place_until_it_is_there_and_not_longer() {
        let mut lane = Checkpoint { positions: [("t/0".into(), at(9))].into(), ..Checkpoint::default() };
        assert_eq!(lane.reread(), None);
        lane.set_back("t/0", at(4));
        let said = |lane: &Checkpoint| lane.reread().map(|r| (r.from.as_offset(), r.to.as_offset()));
        assert_eq!((lane.position("t/0"), said(&lane)), (at(4), Some((Some(4), Some(9)))));
        lane.advance(&Delta::range("t/0", at(4), at(7))).unwrap();
        // Back once more, further: the furthest place stays.
        lane.set_back("t/0", at(2));
        assert_eq!(said(&lane), Some((Some(2), Some(9))));
        let reread = lane.reread().unwrap();
        assert_eq!([1, 2, 8, 9].map(|offset| reread.holds(at(offset))), [false, true, true, false]);
        lane.advance(&Delta::range("t/0", at(2), at(8))).unwrap();
        assert!(lane.reread().is_some());
        lane.advance(&Delta::range("t/0", at(8), at(11))).unwrap();
        assert_eq!(lane.reread(), None);
        // I5: under another grant the rows are gone, so nothing that is not there may be taken for what comes again.
        lane.set_back("t/0", at(2));
        assert_eq!(lane.anew().reread(), None);
    }

    #[test]
    fn a_note_that_cannot_be_read_hides_nothing() {
        let mut lane = Checkpoint::default();
        lane.notes.insert(NOTE.into(), "of a later form".into());
        lane.caught_up();
        assert_eq!(lane.reread(), None);
    }
}
