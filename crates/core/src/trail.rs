//! How a batch came to where it is: what is known of its way, and decides nothing.

use crate::traceparent::Traceparent;

/// The target of the spans that tell it, for who filters them.
pub const TARGET: &str = "hutong_trail";

/// How many batches a trail remembers that it follows.
const FOLLOWED_LIMIT: usize = 16;

/// The way of a batch. Whatever is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// When the first of its records was written to the topic that it was read from, microseconds since 1970 UTC, by
    /// the clock of who wrote it.
    pub written_us: Option<i64>,
    /// The batches that its records were written in, in their order: the first is its parent, the others are linked. As
    /// many as are remembered.
    pub followed: Vec<Traceparent>,
    /// Its own span, once it is about to be committed: what its records name.
    pub own: Option<Traceparent>,
}

impl Trail {
    /// Notes that a record was written in a batch.
    pub fn follow(&mut self, batch: Traceparent) {
        if self.followed.last() != Some(&batch) && self.followed.len() < FOLLOWED_LIMIT {
            self.followed.push(batch);
        }
    }

    /// Joins the way of the batch that follows.
    pub fn append(&mut self, next: Self) {
        self.written_us = match (self.written_us, next.written_us) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        next.followed.into_iter().for_each(|batch| self.follow(batch));
    }

    /// Gives it a span of its own, of two numbers drawn at random: in the trace of the first batch that it follows, else
    /// in one that begins here.
    pub fn begin(&mut self, trace: u128, span: u64) -> Traceparent {
        let own = match self.followed.first() {
            Some(parent) => parent.child(span),
            None => Traceparent::root(trace, span),
        };
        *self.own.insert(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_tells_since_when_all_of_them_wait() {
        let of = |written_us| Trail { written_us, ..Trail::default() };
        for (own, next, joined) in [
            (Some(5), Some(7), Some(5)),
            (None, Some(7), Some(7)),
            (Some(5), None, Some(5)),
            (None, None, None),
        ] {
            let mut trail = of(own);
            trail.append(of(next));
            assert_eq!(trail, of(joined), "{own:?} and {next:?}");
        }
    }

    #[test]
    fn it_goes_on_in_the_trace_of_the_first_batch_and_remembers_a_bounded_number() {
        let batch = |n| Traceparent::root(n, 7);
        let mut trail = Trail::default();
        assert_eq!(trail.begin(5, 6), Traceparent::root(5, 6), "a trace begins here");
        let mut next = Trail::default();
        [1, 1, 2].map(batch).into_iter().for_each(|of| next.follow(of));
        assert_eq!(next.followed, [batch(1), batch(2)]);
        let mut joined = Trail::default();
        joined.append(next);
        (2..100).for_each(|n| joined.append(Trail { followed: vec![batch(n)], ..Trail::default() }));
        assert_eq!(joined.followed.len(), FOLLOWED_LIMIT);
        assert_eq!(joined.followed[..3], [batch(1), batch(2), batch(3)]);
        let own = joined.begin(5, 6);
        assert_eq!((own.trace, own.span, joined.own), (1, 6, Some(own)));
    }
}
