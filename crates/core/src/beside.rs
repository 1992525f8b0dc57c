//! A lane that is filled anew beside the rows that it serves: which it replaces when it has come as far as they are.
//!
//! Behind a topic that was begun anew no place says how far that is, so it replaces them at once, and shows a part until it
//! has read the rest. Kept as notes of its checkpoint, in the subscriber's store, so that whoever opens the lane next goes
//! on with it (I7).

use std::collections::BTreeMap;

use crate::checkpoint::INCARNATION;
use crate::{Checkpoint, Position};

/// What the names of these notes begin with: a lane that has such a note and no place stands at its start.
pub(crate) const NAMES: &str = "beside.";

/// How far the rows are that are served.
const UNTIL: &str = "beside.until";

/// The incarnations of the topics that they were read from.
const OF: &str = "beside.of";

/// Where it stood when it was last written beside.
const AT: &str = "beside.at";

impl Checkpoint {
    /// Returns the checkpoint of a lane that begins anew while the rows that it has written are served on.
    ///
    /// One that was doing so already has to come as far as it had to before, and one that a person has set back as far as
    /// it was then, so that no row goes back in time.
    #[must_use]
    pub fn anew_beside(self) -> Self {
        let mut until: BTreeMap<String, Position> = self.noted(UNTIL);
        let reread = self.reread().map(|reread| (reread.partition, reread.to));
        for (partition, at) in self.positions.clone().into_iter().chain(reread) {
            let far = until.entry(partition).or_insert(at);
            *far = (*far).max(at);
        }
        let mut of: BTreeMap<String, String> = self.noted(OF);
        for (name, text) in self.notes.iter().filter(|(name, _)| name.starts_with(INCARNATION)) {
            of.entry(name.clone()).or_insert_with(|| text.clone());
        }
        let mut anew = self.anew();
        anew.notes.insert(UNTIL.into(), serde_json::json!(until).to_string());
        anew.notes.insert(OF.into(), serde_json::json!(of).to_string());
        anew.stands_beside();
        anew
    }

    /// Reads a note of these. One that cannot be read was written by a newer program, and says nothing.
    fn noted<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> T {
        self.note(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// States whether other rows are served while the lane is filled anew.
    pub fn serves(&self) -> bool {
        self.note(UNTIL).is_some()
    }

    /// States whether a program that knows nothing of this has written the lane since: into the rows that are served, so
    /// what was filled beside lacks that (I2).
    pub fn strayed(&self) -> bool {
        self.serves() && self.note(AT) != Some(&self.places())
    }

    /// Notes where the lane stands, after a step that is written beside.
    ///
    /// Returns whether it ends with this step: what was filled anew is served from this commit on.
    pub fn overtakes(&mut self) -> bool {
        if !self.serves() {
            return false;
        }
        let until: BTreeMap<String, Position> = self.noted(UNTIL);
        let of: BTreeMap<String, String> = self.noted(OF);
        let as_far = || until.iter().all(|(partition, at)| self.position(partition) >= *at);
        let another = of.iter().any(|(name, before)| self.note(name).is_some_and(|now| now != before));
        if another || !self.positions.is_empty() && as_far() {
            self.notes.retain(|name, _| !name.starts_with(NAMES));
            return true;
        }
        self.stands_beside();
        false
    }

    /// Notes where a lane stands that is filled beside.
    pub(crate) fn stands_beside(&mut self) {
        if self.serves() {
            self.notes.insert(AT.into(), self.places());
        }
    }

    fn places(&self) -> String {
        serde_json::json!(self.positions).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Delta;

    fn at(offset: u64) -> Checkpoint {
        Checkpoint {
            positions: [("t/0".to_owned(), Position::offset(offset))].into(),
            ..Checkpoint::default()
        }
    }

    fn step(checkpoint: &mut Checkpoint, from: Position, to: u64) -> bool {
        checkpoint.advance(&Delta::range("t/0", from, Position::offset(to))).unwrap();
        checkpoint.overtakes()
    }

    #[test]
    fn i7_it_begins_at_the_start_and_ends_where_the_served_rows_are() {
        let mut lane = at(9).anew_beside();
        assert!(lane.is_empty(), "it asks for the base");
        assert!(!lane.overtakes(), "nothing was read yet");
        assert!(!step(&mut lane, Position::START, 8) && lane.serves());
        assert!(step(&mut lane, Position::offset(8), 9));
        assert!(!lane.serves() && !lane.overtakes() && lane.notes.is_empty(), "once only");
    }

    #[test]
    fn no_row_goes_back_in_time() {
        let mut lane = at(9).anew_beside();
        step(&mut lane, Position::START, 3);
        let mut again = lane.anew_beside();
        assert!(!step(&mut again, Position::START, 8) && step(&mut again, Position::offset(8), 9));
        let mut back = at(9);
        back.set_back("t/0", Position::offset(2));
        let mut lane = back.anew_beside();
        assert!(!step(&mut lane, Position::START, 8) && step(&mut lane, Position::offset(8), 9));
    }

    #[test]
    fn i7_where_the_lane_stood_says_nothing_of_a_topic_that_was_begun_anew() {
        for (now, ends) in [("b", true), ("a", false)] {
            let mut lane = at(1_000_000);
            lane.notes.insert(format!("{INCARNATION}t"), "a".into());
            // Also when it is asked for twice.
            let mut lane = lane.anew_beside().anew_beside();
            let mut delta = Delta::range("t/0", Position::START, Position::offset(30));
            delta.set_note(format!("{INCARNATION}t"), now);
            lane.advance(&delta).unwrap();
            assert_eq!((lane.overtakes(), lane.serves()), (ends, !ends), "{now}");
        }
    }

    #[test]
    fn i2_a_step_of_a_program_that_does_not_know_of_it_is_noticed() {
        let mut lane = at(9).anew_beside();
        assert!(!lane.strayed());
        assert!(!step(&mut lane, Position::START, 3) && !lane.strayed());
        let mut set_back = lane.clone();
        set_back.set_back("t/0", Position::offset(1));
        assert!(!set_back.strayed(), "a person's order is none");
        lane.advance(&Delta::range("t/0", Position::offset(3), Position::offset(4))).unwrap();
        assert!(lane.strayed() && !at(4).strayed());
        assert_eq!(at(3).anew_beside().anew(), Checkpoint::default(), "what starts anew serves nothing");
    }
}
