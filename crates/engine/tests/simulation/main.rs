//! The engine's lanes over ports that fail in every way, in thousands of schedules drawn from a seed: owners that are
//! killed at any await and begin again with nothing in memory, owners that stand still and wake up after others have
//! taken over, answers that are lost or come late. Each run is judged by what was recorded of it.
//!
//! A schedule that fails names its seed; `HUTONG_SEED=… cargo test -p hutong-engine --test simulation` repeats it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod department;
mod expected;
mod history;
mod planted;
mod predicates;
mod schedule;
mod store;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use hutong_testkit::seed;

use crate::history::{Event, Left};
use crate::predicates::judge;
use crate::schedule::{Shape, run};

fn holds(test: &str, shape: Shape, count: u64) {
    seed::sweep(test, count, |seed| {
        let done = run(seed, shape, None);
        let found = judge(&done);
        predicates::given(&done)?;
        predicates::drained(&done)?;
        if found.is_empty() {
            return Ok(());
        }
        let told: Vec<String> =
            done.history.iter().map(|(when, event)| format!("{when:?} {event:?}")).collect();
        Err(format!("{}\n{found:#?}", told.join("\n")))
    });
}

#[test]
fn i1_i2_i3_i4_i7_hold_for_one_lane_of_several_partitions() {
    holds("i1_i2_i3_i4_i7_hold_for_one_lane_of_several_partitions", Shape::Capture, 3_000);
}

#[test]
fn i1_i2_i3_i4_i7_hold_for_several_lanes_of_a_table() {
    holds("i1_i2_i3_i4_i7_hold_for_several_lanes_of_a_table", Shape::Replicate, 3_000);
}

#[test]
fn i1_i2_i3_i4_i7_hold_for_several_lanes_of_a_log() {
    holds("i1_i2_i3_i4_i7_hold_for_several_lanes_of_a_log", Shape::Topic, 3_000);
}

#[test]
fn i3_i5_i6_i7_hold_for_granted_rows_also_when_the_grant_changes() {
    holds("i3_i5_i6_i7_hold_for_granted_rows_also_when_the_grant_changes", Shape::Granted, 3_000);
}

#[test]
fn a_seed_repeats_its_run() {
    for shape in [Shape::Capture, Shape::Replicate, Shape::Topic, Shape::Granted] {
        for seed in 0..50 {
            assert_eq!(run(seed, shape, None).history, run(seed, shape, None).history, "{shape:?} {seed}");
        }
    }
}

/// A predicate over runs in which nothing happens holds, and says nothing.
#[test]
fn schedules_meet_what_they_are_made_for() {
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..200 {
        for shape in [Shape::Capture, Shape::Granted] {
            let run = run(seed, shape, None);
            let mut once = BTreeSet::new();
            for (_, event) in &run.history {
                match event {
                    Event::Ended { how, .. } => drop(once.insert(format!("{how:?}"))),
                    Event::Anew { .. } => drop(once.insert("another grant".into())),
                    Event::Stored(stored) => {
                        let several = stored.writes.iter().any(|write| write.at.0 != stored.writes[0].at.0);
                        let emptied = stored.writes.iter().any(|write| write.left == Left::Empty);
                        for (what, here) in [
                            ("set aside", !stored.aside.is_empty()),
                            ("dropped", !stored.dropped.is_empty()),
                            ("several partitions in one transaction", several),
                            ("truncate", emptied),
                        ] {
                            once.extend(here.then(|| what.to_owned()));
                        }
                    }
                    Event::Took { .. } | Event::Opened { .. } | Event::Given { .. } | Event::Acked { .. } => {
                    }
                }
            }
            // The answer of its last commit was lost: it has stored more than it acked, and opens again.
            let lost = run.history.windows(2).any(|pair| {
                matches!(pair, [(_, Event::Stored(stored)), (_, Event::Took { owner, .. })] if stored.owner == *owner)
            });
            once.extend(lost.then(|| "a lost answer".to_owned()));
            once.into_iter().for_each(|what| *met.entry(what).or_default() += 1);
        }
    }
    println!("{met:?}");
    let wanted = ["Finished", "Drained", "Killed", "Halted(Fenced)", "another grant", "set aside", "dropped"];
    for what in wanted.iter().chain(&["several partitions in one transaction", "truncate", "a lost answer"]) {
        assert!(met.get(*what).is_some_and(|runs| *runs >= 20), "{what}: {met:?}");
    }
}
