//! One commit of a lane as a span of a trace: from its source to its sink.
//!
//! Names and fields are stable: `capture`, `replicate` or `deliver`, in it `commit`, and where topics are written in that
//! `encode` and `write`. They tell places, counts and times, and never a row value. They are of the target
//! [`TARGET`] at the level DEBUG: who does not ask for them pays for two random numbers a commit.

use std::time::Duration;

use hutong_core::trail::TARGET;
use hutong_core::{Batch, Kind, LaneId};
use tracing::{Span, debug_span};

/// Gives a batch its place in a trace, and begins its span. `read` is how long ago the first of it was read, `decided` how
/// long the steps took. A batch that only tells how far the lane is has none.
pub(crate) fn begin(lane: &LaneId, batch: &mut Batch, read: Duration, decided: Duration) -> Span {
    if batch.is_silent() {
        return Span::none();
    }
    let own = batch.trail.begin(rand::random(), rand::random());
    let (changes, rejected) = (batch.changes.len(), batch.rejected.len());
    let (first, last) = (batch.changes.first(), batch.changes.last());
    let stream = first.map_or("", |change| change.contract.stream.as_str());
    let place = |change: &hutong_core::Change| change.position.to_string();
    macro_rules! span {
        ($name:literal) => {
            debug_span!(
                target: TARGET,
                $name,
                %lane,
                stream,
                trace = format!("{:032x}", own.trace),
                span = format!("{:016x}", own.span),
                parent = batch.trail.followed.first().map(|parent| format!("{:016x}", parent.span)),
                followed = batch.trail.followed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                first = first.map(place),
                last = last.map(place),
                changes,
                rejected,
                committed_us = batch.changes.iter().map(|change| change.origin.committed_us).min(),
                read_us = read.as_micros() as u64,
                decided_us = decided.as_micros() as u64,
            )
        };
    }
    match lane.pipeline.kind {
        Kind::Capture => span!("capture"),
        Kind::Replicate => span!("replicate"),
        Kind::Deliver => span!("deliver"),
        Kind::Receipt => Span::none(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Write as _};
    use std::sync::{Arc, Mutex};

    use hutong_core::{PipelineId, Traceparent};
    use hutong_testkit::memory::{change, contract};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    /// What spans were begun, each with its fields.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let _ = write!(self.0, " {field}={value:?}");
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Told {
        fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            let mut fields = Fields(span.metadata().name().to_owned());
            span.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }

    fn batch() -> Batch {
        let contract = contract();
        let changes = (7..9).map(|place| change(&contract, place, 3, Some("planted"))).collect();
        Batch { changes, ..Batch::default() }
    }

    fn begun(kind: Kind, batch: &mut Batch) -> Vec<String> {
        let told = Told::default();
        let lane = LaneId::new(PipelineId::new(kind, "a"), 2);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(told.clone()), || {
            begin(&lane, batch, Duration::from_millis(5), Duration::from_micros(7));
        });
        let told = told.0.lock().unwrap();
        told.clone()
    }

    #[test]
    fn a_span_tells_lane_stream_places_and_counts_and_no_value_of_a_row() {
        let mut captured = batch();
        let told = begun(Kind::Capture, &mut captured);
        let own = captured.trail.own.unwrap();
        let stream = &captured.changes[0].contract.stream;
        assert_eq!(told.len(), 1);
        for part in [
            "capture lane=capture.a.2".to_owned(),
            format!(" stream={stream:?}"),
            format!(" trace=\"{:032x}\" span=\"{:016x}\"", own.trace, own.span),
            format!(" first={:?}", captured.changes[0].position.to_string()),
            format!(" last={:?}", captured.changes[1].position.to_string()),
            " changes=2 rejected=0".to_owned(),
            " read_us=5000 decided_us=7".to_owned(),
        ] {
            assert!(told[0].contains(&part), "{part} in {told:?}");
        }
        assert!(!told[0].contains("planted") && !told[0].contains("parent="), "{told:?}");
    }

    #[test]
    fn a_replica_goes_on_in_the_trace_of_the_first_batch_that_it_holds_and_names_the_others() {
        let mut replicated = batch();
        let (first, second) = (Traceparent::root(71, 72), Traceparent::root(73, 74));
        [first, second].into_iter().for_each(|of| replicated.trail.follow(of));
        let told = begun(Kind::Replicate, &mut replicated);
        let own = replicated.trail.own.unwrap();
        assert!(own.trace == first.trace && own.span != first.span);
        assert!(
            told[0].starts_with("replicate ") && told[0].contains(" parent=\"0000000000000048\""),
            "{told:?}"
        );
        assert!(told[0].contains(&format!("followed=\"{first} {second}\"")), "{told:?}");
        // What only tells how far the lane is has no place in a trace.
        let mut silent = Batch::default();
        assert_eq!((begun(Kind::Replicate, &mut silent), silent.trail.own), (Vec::new(), None));
    }
}
