//! A lane that is filled anew beside the rows that it serves: which it replaces when it has come as far as they are.
//!
//! Kept as a note of its checkpoint, in the subscriber's store, so that whoever opens the lane next goes on with it (I7).

use std::collections::BTreeMap;

use crate::{Checkpoint, Position};

/// What the names of these notes begin with: a lane that has such a note and no place stands at its start.
pub(crate) const NAMES: &str = "beside.";

const UNTIL: &str = "beside.until";

impl Checkpoint {
    /// Returns the checkpoint of a lane that begins anew while the rows that it has written are served on.
    ///
    /// One that was doing so already has to come as far as it had to before, so that no row goes back in time.
    #[must_use]
    pub fn anew_beside(self) -> Self {
        let mut until = self.serves_until().unwrap_or_default();
        for (partition, at) in &self.positions {
            let far = until.entry(partition.clone()).or_insert(*at);
            *far = (*far).max(*at);
        }
        let mut anew = self.anew();
        anew.notes.insert(UNTIL.into(), serde_json::json!(until).to_string());
        anew
    }

    /// Returns how far the rows are that are served while the lane is filled anew; `None` when it writes them itself.
    pub fn serves_until(&self) -> Option<BTreeMap<String, Position>> {
        // A note that cannot be read was written by a newer program, which serves all the same.
        self.note(UNTIL).map(|text| serde_json::from_str(text).unwrap_or_default())
    }

    /// Ends it when the lane has come as far as what is served: from this commit on, what was filled anew is served.
    ///
    /// Returns whether it ends.
    pub fn overtakes(&mut self) -> bool {
        let here = self.serves_until().is_some_and(|until| {
            !self.positions.is_empty() && until.iter().all(|(partition, at)| self.position(partition) >= *at)
        });
        if here {
            self.notes.remove(UNTIL);
        }
        here
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
        assert!(!step(&mut lane, Position::START, 8));
        assert!(lane.serves_until().is_some());
        assert!(step(&mut lane, Position::offset(8), 9));
        assert_eq!((lane.serves_until(), lane.overtakes()), (None, false), "once only");
    }

    #[test]
    fn one_that_begins_again_half_way_goes_as_far_as_before() {
        let mut lane = at(9).anew_beside();
        step(&mut lane, Position::START, 3);
        let again = lane.anew_beside();
        assert_eq!(again.serves_until().unwrap()["t/0"], Position::offset(9));
        assert_eq!(at(3).anew_beside().anew(), Checkpoint::default(), "what starts anew serves nothing");
    }
}
