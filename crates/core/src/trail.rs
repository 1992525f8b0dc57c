//! How a batch came to where it is: what is known of its way, and decides nothing.

/// The way of a batch. Whatever is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// When the first of its records was written to the topic that it was read from, microseconds since 1970 UTC, by
    /// the clock of who wrote it.
    pub written_us: Option<i64>,
}

impl Trail {
    /// Joins the way of the batch that follows.
    pub fn append(&mut self, next: Self) {
        self.written_us = match (self.written_us, next.written_us) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_tells_since_when_all_of_them_wait() {
        let of = |written_us| Trail { written_us };
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
}
