//! A source that is read as the engine reads it: batch by batch, each step checked.

use std::time::Instant;

use hutong_core::{Batch, Checkpoint, Rejected, Source};

use super::patience::{DEADLINE, at_most, in_time};
use super::site::SourceSite;
use super::workload::Step;

/// A source that is read as the engine reads it, with everything that it has handed out.
pub(super) struct Reading {
    pub(super) source: Box<dyn Source>,
    bounded: bool,
    /// How often a call of `next` is looked at before it is dropped; `None`: until it is done.
    pub(super) polls: Option<usize>,
    pub(super) at: Checkpoint,
    pub(super) steps: Vec<Step>,
    pub(super) rejected: Vec<Rejected>,
    /// Where a batch ended, and how many changes had come by then.
    pub(super) stops: Vec<(Checkpoint, usize)>,
    opened: Instant,
    /// The last batch was the last that there is for now, and no snapshot is under way.
    pub(super) settled: bool,
}

impl Reading {
    pub(super) async fn open<S: SourceSite>(site: &S, from: &Checkpoint) -> Self {
        let mut source = site.source();
        in_time("open a source", source.open(from)).await.expect("a source opens");
        Self {
            source,
            bounded: S::FEATURES.bounded,
            polls: None,
            at: from.clone(),
            steps: Vec::new(),
            rejected: Vec::new(),
            stops: vec![(from.clone(), 0)],
            opened: Instant::now(),
            settled: false,
        }
    }

    pub(super) async fn next(&mut self) {
        // An idle source says so again and again, so each call is in time though what is waited for never comes.
        assert!(self.opened.elapsed() < 2 * DEADLINE, "what should come does not: {:?}", self.steps.last());
        let batch = match &mut self.polls {
            None => Some(in_time("read a batch", self.source.next()).await),
            Some(polls) => {
                let batch = in_time("read a batch", at_most(*polls, self.source.next())).await;
                // More patience until something comes: a call that is always given up gets nowhere.
                *polls = if batch.is_some() { 1 } else { *polls + 1 };
                batch
            }
        };
        match batch {
            Some(batch) => match batch.expect("a source reads") {
                Some(batch) => self.take(batch),
                None => {
                    assert!(self.bounded, "a source that waits has no end");
                    self.settled = true;
                    tokio::task::yield_now().await;
                }
            },
            None => tokio::task::yield_now().await,
        }
    }

    fn take(&mut self, batch: Batch) {
        // It may step on the spot, to tell how fresh the lane is.
        let tells = batch.behind.complete_to_us.is_some() || batch.behind.count == Some(0);
        assert!(!batch.delta.is_empty() || tells, "a batch makes a step or tells something");
        for change in &batch.changes {
            let within = |(from, to): &(_, _)| (*from..=*to).contains(&change.position);
            assert!(batch.delta.ranges.values().any(within), "I4: {:?} is in the step", change.position);
        }
        let ordered = batch.changes.is_sorted_by_key(|change| change.position);
        assert!(ordered, "I4: positions go forward");
        self.at.advance(&batch.delta).expect("steps follow each other");
        self.settled = batch.behind.count == Some(0) || batch.behind.complete_to_us.is_some();
        self.steps.extend(batch.changes.iter().map(Step::of));
        self.rejected.extend(batch.rejected);
        self.stops.push((self.at.clone(), self.steps.len()));
    }

    /// Reads until so many changes have come.
    pub(super) async fn until(&mut self, count: usize) {
        while self.steps.len() < count {
            self.next().await;
        }
    }

    /// Reads until nothing is left and no snapshot is under way.
    pub(super) async fn settle(&mut self) {
        while !self.settled {
            self.next().await;
        }
    }
}
