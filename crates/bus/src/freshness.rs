//! How fresh one partition's reader is, by the watermarks that it has passed.

use std::collections::VecDeque;

use crate::watermark::Watermark;

/// How many watermarks wait to be passed. A reader that is far behind needs only a few of them.
const WAITING_LIMIT: usize = 64;

/// What a reader knows of its freshness. Times are microseconds since 1970 UTC.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    /// Watermarks not known to be passed: the end in this partition, and the time.
    waiting: VecDeque<(u64, i64)>,
    told_us: Option<i64>,
}

impl Freshness {
    /// Notes a watermark of the capture.
    pub(crate) fn see(&mut self, watermark: &Watermark, partition_key: &str) {
        // A partition that the watermark does not name is not covered by it.
        let (Some(end), Some(us)) = (watermark.ends.get(partition_key), watermark.as_of_us) else { return };
        match self.waiting.back_mut() {
            // The same end at a later time says more.
            Some((last, at)) if *last == *end => *at = us.max(*at),
            _ => self.waiting.push_back((*end, us)),
        }
        if self.waiting.len() > WAITING_LIMIT {
            // Keep the oldest, which is passed first, and the newest; thin out between.
            let mut odd = false;
            self.waiting.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    /// States whether a reader that stands at `next` is fresher than it was told.
    pub(crate) fn has_news(&self, next: u64) -> bool {
        self.passed(next).any(|us| Some(us) > self.told_us)
    }

    /// Returns the time that a reader at `next` is fresh as of, and remembers that it was told.
    pub(crate) fn tell(&mut self, next: u64) -> Option<i64> {
        self.told_us = self.passed(next).max().max(self.told_us);
        self.waiting.retain(|(end, _)| *end > next);
        self.told_us
    }

    fn passed(&self, next: u64) -> impl Iterator<Item = i64> {
        self.waiting.iter().filter(move |(end, _)| *end <= next).map(|(_, us)| *us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(end: u64, us: i64) -> Watermark {
        Watermark { as_of_us: Some(us), ends: [("t/0".to_owned(), end)].into(), ..Watermark::default() }
    }

    #[test]
    fn is_as_fresh_as_the_last_watermark_passed() {
        let mut freshness = Freshness::default();
        freshness.see(&mark(10, 100), "t/0");
        freshness.see(&mark(20, 200), "t/0");
        freshness.see(&mark(20, 300), "t/0");
        freshness.see(&mark(0, 900), "t/1");
        assert!(!freshness.has_news(9));
        assert_eq!(freshness.tell(9), None);
        assert!(freshness.has_news(10));
        assert_eq!(freshness.tell(10), Some(100));
        assert!(!freshness.has_news(19));
        assert_eq!(freshness.tell(25), Some(300));
        assert_eq!(freshness.tell(25), Some(300));
    }

    #[test]
    fn keeps_a_bounded_number_and_the_oldest() {
        let mut freshness = Freshness::default();
        for n in 0..10_000 {
            freshness.see(&mark(n, n as i64), "t/0");
        }
        assert!(freshness.waiting.len() <= WAITING_LIMIT);
        assert!(freshness.has_news(0));
    }
}
