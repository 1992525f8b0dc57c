//! What a person has done to the lanes of a subscription: paused, resumed, set back, filled anew.
//!
//! Kept in the notes of each lane's checkpoint, so that it stands in the subscriber's store, in the lane's row, for
//! whichever process opens the lane next. Whoever acts raises the lane's epoch, and notes whose it was: so the owner
//! that is shut out can tell a person from another owner, and opens again instead of halting.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Checkpoint, Position};

/// What the names of these notes begin with: they outlive the rows, as the ledger's do.
pub(crate) const NAMES: &str = "steer.";

const PAUSE: &str = "steer.pause";
const TURN: &str = "steer.turn";
const ACTS: &str = "steer.acts";

/// How many acts a lane remembers: a checkpoint is written with every commit, so it may not grow for good.
const KEPT: usize = 10;

/// What can be done to a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It stops where it stands, until it is resumed.
    Pause,
    /// It goes on where it stood.
    Resume,
    /// It goes back to an earlier place of its topic.
    Rewind,
    /// Its rows are read again from the base.
    Reload,
    /// It goes back to a record that can be read at last.
    Replay,
}

impl Verb {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rewind => "rewind",
            Self::Reload => "reload",
            Self::Replay => "replay",
        }
    }
}

/// What a person did, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What.
    pub verb: Verb,
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Who, as the command was told or the system says.
    pub by: String,
    /// Why, in the person's words; empty when nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Of a rewind the time that was asked for, microseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_us: Option<i64>,
}

/// Since when a lane is paused, by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What is to be done to the lanes of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What, by whom and why.
    pub act: Act,
    /// Of a rewind or a replay: lane to the partition in which it is set back, and the place. Other lanes stay.
    pub back: BTreeMap<String, (String, Position)>,
}

/// How a lane's row stands to the owner that opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// As the owner left it.
    Held,
    /// A person has acted on it since: the owner opens it again.
    Turned,
    /// Another owner has it.
    Taken,
}

impl Order {
    /// Returns the checkpoint of a lane after the order; `None` when nothing is to be done to it: it is paused already,
    /// is not paused, or stands before the place.
    pub fn apply(&self, lane: &str, before: &Checkpoint) -> Option<Checkpoint> {
        let mut after = before.clone();
        match self.act.verb {
            Verb::Pause if before.pause().is_some() => return None,
            Verb::Pause => {
                let Act { at_us, by, reason, .. } = self.act.clone();
                let pause = Pause { since_us: at_us, by, reason };
                after.notes.insert(PAUSE.into(), serde_json::json!(pause).to_string());
            }
            Verb::Resume => {
                after.notes.remove(PAUSE)?;
            }
            Verb::Rewind | Verb::Replay => {
                let (partition, to) = self.back.get(lane)?;
                if before.position(partition) <= *to {
                    return None;
                }
                after.set_back(partition, *to);
            }
            Verb::Reload => {}
        }
        let mut acts = before.acts();
        acts.push(self.act.clone());
        acts.drain(..acts.len().saturating_sub(KEPT));
        after.notes.insert(ACTS.into(), serde_json::json!(acts).to_string());
        Some(after)
    }
}

/// How many changes were set aside since a lane was started, or since a person last acted on it: who sets it back has
/// looked at them, and they come again.
#[derive(Debug, Clone, Default)]
pub struct Aside {
    /// How many.
    pub count: u64,
    act: Option<Act>,
}

impl Aside {
    /// Begins anew if a person has acted on the lane since it was opened last, or if it begins at the base, where nothing
    /// is set aside yet. `checkpoint`: where it stands now.
    pub fn opened(&mut self, checkpoint: &Checkpoint) {
        let act = checkpoint.acts().pop();
        if act != self.act || checkpoint.is_empty() {
            *self = Self { count: 0, act };
        }
    }
}

impl Checkpoint {
    /// Returns since when the lane is paused; `None` when it is not.
    pub fn pause(&self) -> Option<Pause> {
        // A note that cannot be read was written by a newer program: it is a pause all the same.
        let unknown = || Pause { since_us: 0, by: "?".into(), reason: "?".into() };
        self.note(PAUSE).map(|text| serde_json::from_str(text).unwrap_or_else(|_| unknown()))
    }

    /// Returns what people have done to the lane, oldest first, as far as it remembers. A note that cannot be read tells
    /// none.
    pub fn acts(&self) -> Vec<Act> {
        self.note(ACTS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Notes that a person turns the lane, whose row has this epoch; returns the epoch that the row gets.
    pub fn turn(&mut self, epoch: i64) -> i64 {
        let (owner, next) = (self.owner(epoch), epoch.saturating_add(1));
        self.notes.insert(TURN.into(), format!("{owner} {next}"));
        next
    }

    /// Says how a row with this epoch and this checkpoint stands to an owner that opened it under `own`.
    pub fn hold(&self, epoch: i64, own: i64) -> Hold {
        match epoch {
            _ if epoch == own => Hold::Held,
            _ if self.owner(epoch) == own => Hold::Turned,
            _ => Hold::Taken,
        }
    }

    /// Returns the epoch under which the lane was last opened, of a row with this epoch: people raise it too.
    fn owner(&self, epoch: i64) -> i64 {
        let turn = self.note(TURN).and_then(|text| text.split_once(' '));
        let turn = turn.and_then(|(owner, at)| Some((owner.parse().ok()?, at.parse().ok()?)));
        turn.filter(|(_, at): &(i64, i64)| *at == epoch).map_or(epoch, |(owner, _)| owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(verb: Verb, at_us: i64) -> Order {
        let act = Act { verb, at_us, by: "李".into(), reason: "维护".into(), to_us: None };
        Order { act, back: BTreeMap::new() }
    }

    #[test]
    fn a_pause_lasts_until_it_is_taken_back_and_both_once_only() {
        let fresh = Checkpoint::default();
        assert_eq!(order(Verb::Resume, 1).apply("l", &fresh), None, "nothing is paused");
        let paused = order(Verb::Pause, 7).apply("l", &fresh).unwrap();
        assert_eq!(paused.pause(), Some(Pause { since_us: 7, by: "李".into(), reason: "维护".into() }));
        assert_eq!(order(Verb::Pause, 8).apply("l", &paused), None, "the first one stands");
        // I7: also under another grant, which forgets what the lane has read.
        assert!(paused.clone().anew().pause().is_some() && paused.is_empty());
        let resumed = order(Verb::Resume, 9).apply("l", &paused).unwrap();
        assert_eq!(resumed.pause(), None);
        let verbs: Vec<Verb> = resumed.acts().iter().map(|act| act.verb).collect();
        assert_eq!(verbs, [Verb::Pause, Verb::Resume]);
    }

    #[test]
    fn a_pause_that_cannot_be_read_is_one_all_the_same() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.notes.insert(PAUSE.into(), "of a later form".into());
        assert!(checkpoint.pause().is_some() && checkpoint.acts().is_empty());
    }

    #[test]
    fn i4_a_lane_is_only_set_back_and_only_where_it_is_named() {
        let mut order = order(Verb::Rewind, 1);
        let at = |offset| Checkpoint {
            positions: [("t/0".to_owned(), Position::offset(offset))].into(),
            ..Checkpoint::default()
        };
        order.back.insert("replicate.a.0".into(), ("t/0".into(), Position::offset(5)));
        let back = order.apply("replicate.a.0", &at(9)).unwrap();
        assert_eq!((back.position("t/0"), back.acts()[0].verb), (Position::offset(5), Verb::Rewind));
        assert_eq!(order.apply("replicate.a.0", &at(5)), None, "it stands there");
        assert_eq!(order.apply("replicate.a.0", &at(2)), None, "it has not come so far");
        assert_eq!(order.apply("replicate.a.1", &at(9)), None, "nobody named it");
    }

    #[test]
    fn the_last_acts_are_kept() {
        let mut checkpoint = Checkpoint::default();
        for at_us in 0..30 {
            checkpoint = order(Verb::Reload, at_us).apply("l", &checkpoint).unwrap();
        }
        let kept: Vec<i64> = checkpoint.acts().iter().map(|act| act.at_us).collect();
        assert_eq!(kept, (20..30).collect::<Vec<_>>());
    }

    #[test]
    fn i4_an_owner_tells_a_person_from_another_owner() {
        let mut row = Checkpoint::default();
        assert_eq!(row.hold(5, 5), Hold::Held);
        assert_eq!(row.hold(6, 5), Hold::Taken, "another owner has opened it");
        // Two people one after the other, and the owner opens again.
        let once = row.turn(5);
        assert_eq!((once, row.hold(once, 5), row.hold(once, 4)), (6, Hold::Turned, Hold::Taken));
        let twice = row.turn(once);
        assert_eq!((twice, row.hold(twice, 5), row.hold(twice, 6)), (7, Hold::Turned, Hold::Taken));
        assert_eq!((row.hold(8, 8), row.hold(8, 5)), (Hold::Held, Hold::Taken));
        // Another owner, and then a person: who was shut out before stays so.
        let after = row.turn(8);
        assert_eq!((row.hold(after, 8), row.hold(after, 5)), (Hold::Turned, Hold::Taken));
    }
}
