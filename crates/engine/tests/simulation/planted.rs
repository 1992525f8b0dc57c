//! Bugs that are planted into the ports and steps around the real engine: the predicates find each of them.

use hutong_core::{Before, Change, Op, Step, Value, Verdict};
use hutong_testkit::seed;

use crate::predicates::judge;
use crate::schedule::{Shape, run};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The source forgets what it gives.
    AckBeforeCommit,
    /// The sink answers a commit before it writes it.
    AnswerBeforeCommit,
    /// The sink writes the checkpoint in a transaction after that of the rows.
    CheckpointInSecondTransaction,
    /// The sink does not look whether a newer owner has opened the lane.
    SkippedFence,
    /// The sink takes the last checkpoint that it can see, although another lane's transaction hides later ones.
    CheckpointAtEof,
    /// The sink does not look whether another grant is in force.
    OlderGrant,
    /// The sink writes a value that nobody told as NULL.
    UnknownAsNull,
    /// The sink commits a batch without what is rejected in it.
    RejectNotKept,
    /// A deleted row of which the key is known is handed on as if all of it were, with NULL for the rest.
    KeyTakenForFull,
}

/// A step that mistakes an old image for a known one, before the real step.
pub(crate) struct Mistaken(pub(crate) Box<dyn Step>);

impl Step for Mistaken {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn apply(&mut self, mut change: Change) -> Verdict {
        if change.op == Op::Delete
            && let Before::Key(row) = change.before
        {
            let null = |value| if value == Value::Unknown { Value::Null } else { value };
            change.before = Before::Full(row.into_iter().map(null).collect());
        }
        self.0.apply(change)
    }
}

/// Plants a bug into schedules of a shape, and sees that one of the predicates finds it, and soon.
fn caught(plant: Plant, shape: Shape, by: &[&str]) {
    let mut found = Vec::new();
    let after = seed::first(200, |seed| {
        found = judge(&run(seed, shape, Some(plant)));
        found.iter().any(|(invariant, _)| by.contains(invariant))
    });
    println!("{plant:?}: schedule {after:?}, {found:?}");
    assert!(after.is_some(), "{plant:?} was planted, and {by:?} did not find it: {found:?}");
    let well = judge(&run(after.unwrap_or(0), shape, None));
    assert!(well.is_empty(), "without {plant:?}: {well:?}");
}

#[test]
fn i1_an_ack_before_the_commit_is_found() {
    caught(Plant::AckBeforeCommit, Shape::Capture, &["I1"]);
}

#[test]
fn i1_an_answer_before_the_commit_is_found() {
    caught(Plant::AnswerBeforeCommit, Shape::Capture, &["I1"]);
}

#[test]
fn i2_a_checkpoint_in_a_second_transaction_is_found() {
    caught(Plant::CheckpointInSecondTransaction, Shape::Capture, &["I2"]);
}

#[test]
fn i4_a_skipped_fence_is_found() {
    caught(Plant::SkippedFence, Shape::Replicate, &["I2", "I4"]);
}

#[test]
fn i7_a_checkpoint_read_at_the_end_while_another_transaction_is_open_is_found() {
    caught(Plant::CheckpointAtEof, Shape::Topic, &["I7"]);
}

#[test]
fn i4_a_checkpoint_read_too_early_writes_changes_twice() {
    caught(Plant::CheckpointAtEof, Shape::Topic, &["I4"]);
}

#[test]
fn i3_a_delete_that_is_dropped_since_its_old_image_was_taken_for_known_is_found() {
    caught(Plant::KeyTakenForFull, Shape::Granted, &["I3"]);
}

#[test]
fn i3_a_reject_that_is_not_kept_in_the_commit_is_found() {
    caught(Plant::RejectNotKept, Shape::Capture, &["I3"]);
}

#[test]
fn i5_a_batch_that_is_committed_under_an_older_grant_is_found() {
    caught(Plant::OlderGrant, Shape::Granted, &["I5"]);
}

#[test]
fn i6_an_unchanged_large_value_that_is_written_as_null_is_found() {
    caught(Plant::UnknownAsNull, Shape::Replicate, &["I6"]);
}
