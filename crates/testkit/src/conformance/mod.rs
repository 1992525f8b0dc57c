//! The conformance suite: what every source and every sink must do, whatever system is behind it.
//!
//! An adapter's test says how its system is used ([`SourceSite`], [`SinkSite`]) and takes every check there is:
//!
//! ```ignore
//! hutong_testkit::sink_conformance!(Office);
//! ```
//!
//! Written against the ports of `core` alone; knows no system. A check that is added here is run by every adapter.

mod patience;
mod reading;
pub mod sink;
mod site;
pub mod source;
pub mod values;
mod workload;

pub use site::{Fate, Features, Seen, SinkSite, SourceSite};
pub use workload::{BATCH_LIMIT, CHUNK_LIMIT, Step, Table, Write, lane, people};

/// Makes a test of every check of a sink, for a [`SinkSite`].
#[macro_export]
macro_rules! sink_conformance {
    ($site:ty) => {
        $crate::conformance_tests!(
            sink,
            $site,
            [
                i2_a_batch_that_is_committed_again_changes_nothing,
                i2_a_gap_is_refused_and_changes_nothing,
                i2_after_a_lost_answer_the_sink_tells_where_it_stands,
                i2_a_step_without_rows_moves_the_checkpoint,
                i3_rejects_are_kept_with_the_rows_and_the_checkpoint,
                i4_changes_of_a_batch_leave_what_they_leave_one_by_one,
                i4_a_giant_batch_arrives_whole,
                i6_every_value_arrives_exactly_or_is_refused,
                i6_an_unknown_value_leaves_the_column_as_it_is,
                i7_a_commit_that_is_dropped_at_any_moment_is_whole_or_nothing,
                i7_an_earlier_owner_that_wakes_up_changes_nothing,
                i7_a_look_takes_nothing_and_is_never_a_persons_where_an_owner_has_taken_the_lane,
            ]
        );
    };
}

/// Makes a test of every check of a source, for a [`SourceSite`].
#[macro_export]
macro_rules! source_conformance {
    ($site:ty) => {
        $crate::conformance_tests!(
            source,
            $site,
            [
                i1_nothing_is_forgotten_that_was_not_acked,
                i1_acks_out_of_order_and_twice_do_no_harm,
                i1_a_place_that_the_origin_has_forgotten_is_said_to_be_lost,
                i3_a_read_that_nobody_waited_for_loses_nothing,
                i3_changes_beside_a_snapshot_leave_the_table_as_it_is,
                i3_an_empty_source_waits_and_then_delivers,
                i4_changes_come_once_and_in_the_order_of_their_commits,
                i4_a_giant_transaction_and_a_giant_row_come_whole,
                i6_every_value_is_carried_exactly_or_set_aside,
                i7_a_snapshot_goes_on_after_every_stop,
                i7_the_rest_follows_after_every_stop,
            ]
        );
    };
}

/// Makes a test of each named check.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($port:ident, $site:ty, [$($check:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                ::std::boxed::Box::pin($crate::conformance::$port::$check::<$site>()).await;
            }
        )*
    };
}
