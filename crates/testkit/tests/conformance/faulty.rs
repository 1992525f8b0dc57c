//! Ports with one fault each: a check that lets it pass checks nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use hutong_core::{Batch, Checkpoint, Contract, Hold, LaneId, Refused, Result, Sink, Source, Value};
use hutong_testkit::conformance::{Features, Seen, SinkSite, SourceSite, Write, lane, sink, source};

use super::Memory;

const FORGETS_REJECTS: u8 = 0;
const NULLS_THE_UNKNOWN: u8 = 1;
const TAKES_THE_LANE_BACK: u8 = 2;
const TELLS_THE_START: u8 = 3;
const COMMITS_ROW_BY_ROW: u8 = 4;

const DROPS_WHAT_NOBODY_WAITED_FOR: u8 = 5;
const FORGETS_WHAT_IT_HANDED_OUT: u8 = 6;
const TELLS_ONE_TWICE: u8 = 7;

const LOOKS_BY_TAKING: u8 = 8;
const TAKES_ANYBODY_FOR_A_PERSON: u8 = 9;

/// A site whose ports have a fault.
struct Faulty<const FAULT: u8>(Memory);

struct Port<const FAULT: u8, P: ?Sized>(Box<P>);

#[async_trait]
impl<const FAULT: u8> Sink for Port<FAULT, dyn Sink> {
    async fn open(&mut self, lane: &LaneId) -> Result<Checkpoint> {
        let stands = self.0.open(lane).await?;
        Ok(if FAULT == TELLS_THE_START { Checkpoint::default() } else { stands })
    }

    async fn prepare(&mut self, contract: &Contract) -> Result<()> {
        self.0.prepare(contract).await
    }

    async fn commit(&mut self, batch: &Batch) -> Result<Refused> {
        let mut batch = batch.clone();
        match FAULT {
            FORGETS_REJECTS => batch.rejected.clear(),
            NULLS_THE_UNKNOWN => {
                let rows = batch.changes.iter_mut().filter_map(|change| change.after.as_mut());
                rows.flatten().filter(|value| value.is_unknown()).for_each(|value| *value = Value::Null);
            }
            TAKES_THE_LANE_BACK => drop(self.0.open(&lane()).await?),
            COMMITS_ROW_BY_ROW => {
                for change in std::mem::take(&mut batch.changes) {
                    self.0.commit(&Batch { changes: vec![change], ..Batch::default() }).await?;
                }
            }
            _ => {}
        }
        self.0.commit(&batch).await
    }

    async fn look(&mut self) -> Result<Hold> {
        if FAULT == LOOKS_BY_TAKING {
            self.0.open(&lane()).await?;
        }
        let hold = self.0.look().await?;
        let taken = FAULT == TAKES_ANYBODY_FOR_A_PERSON && hold == Hold::Taken;
        Ok(if taken { Hold::Turned } else { hold })
    }
}

#[async_trait]
impl<const FAULT: u8> Source for Port<FAULT, dyn Source> {
    async fn open(&mut self, from: &Checkpoint) -> Result<()> {
        self.0.open(from).await
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        let mut batch = self.0.next().await?;
        match (FAULT, &mut batch) {
            (DROPS_WHAT_NOBODY_WAITED_FOR, _) => tokio::task::yield_now().await,
            (FORGETS_WHAT_IT_HANDED_OUT, Some(batch)) => {
                let positions = batch.delta.ranges.iter().map(|(name, (_, to))| (name.clone(), *to));
                let upto = Checkpoint { positions: positions.collect(), ..Checkpoint::default() };
                self.0.ack(&upto).await?;
            }
            (TELLS_ONE_TWICE, Some(batch)) if batch.changes.len() > 4 => {
                batch.changes.insert(2, batch.changes[2].clone());
            }
            _ => {}
        }
        Ok(batch)
    }

    async fn ack(&mut self, upto: &Checkpoint) -> Result<()> {
        self.0.ack(upto).await
    }
}

impl<const FAULT: u8> SinkSite for Faulty<FAULT> {
    async fn fresh(contract: &Arc<Contract>) -> Self {
        Self(Memory::new(contract))
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Port::<FAULT, dyn Sink>(self.0.sink()))
    }

    async fn seen(&self) -> Seen {
        self.0.seen().await
    }

    async fn commit_unheard(&self, sink: &mut dyn Sink, batch: &Batch) {
        self.0.commit_unheard(sink, batch).await;
    }
}

impl<const FAULT: u8> SourceSite for Faulty<FAULT> {
    const FEATURES: Features = Memory::FEATURES;

    async fn fresh(contract: &Arc<Contract>) -> Self {
        Self(Memory::new(contract))
    }

    fn source(&self) -> Box<dyn Source> {
        Box::new(Port::<FAULT, dyn Source>(self.0.source()))
    }

    async fn write(&self, writes: &[Write]) {
        self.0.write(writes).await;
    }
}

/// Runs a check that must fail.
fn finds(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(Box::pin(check))));
    assert!(outcome.is_err(), "the check does not see the fault");
}

#[test]
fn the_suite_finds_what_a_sink_does_wrong() {
    finds(sink::i3_rejects_are_kept_with_the_rows_and_the_checkpoint::<Faulty<FORGETS_REJECTS>>());
    finds(sink::i6_an_unknown_value_leaves_the_column_as_it_is::<Faulty<NULLS_THE_UNKNOWN>>());
    finds(sink::i7_an_earlier_owner_that_wakes_up_changes_nothing::<Faulty<TAKES_THE_LANE_BACK>>());
    finds(sink::i2_after_a_lost_answer_the_sink_tells_where_it_stands::<Faulty<TELLS_THE_START>>());
    finds(sink::i2_a_batch_that_is_committed_again_changes_nothing::<Faulty<COMMITS_ROW_BY_ROW>>());
    finds(sink::i7_a_look_takes_nothing_and_is_never_a_persons_where_an_owner_has_taken_the_lane::<
        Faulty<LOOKS_BY_TAKING>,
    >());
    finds(sink::i7_a_look_takes_nothing_and_is_never_a_persons_where_an_owner_has_taken_the_lane::<
        Faulty<TAKES_ANYBODY_FOR_A_PERSON>,
    >());
    finds(sink::i7_a_commit_that_is_dropped_at_any_moment_is_whole_or_nothing::<Faulty<COMMITS_ROW_BY_ROW>>());
}

#[test]
fn the_suite_finds_what_a_source_does_wrong() {
    finds(source::i3_a_read_that_nobody_waited_for_loses_nothing::<Faulty<DROPS_WHAT_NOBODY_WAITED_FOR>>());
    finds(source::i1_nothing_is_forgotten_that_was_not_acked::<Faulty<FORGETS_WHAT_IT_HANDED_OUT>>());
    finds(source::i4_changes_come_once_and_in_the_order_of_their_commits::<Faulty<TELLS_ONE_TWICE>>());
}
