//! How many changes a second pass, over the last seconds.

/// Counts of the last ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Window {
    buckets: [(i64, u64); 10],
}

impl Window {
    pub(crate) fn add(&mut self, now_us: i64, count: u64) {
        let second = now_us / 1_000_000;
        let bucket = &mut self.buckets[second.rem_euclid(10) as usize];
        if bucket.0 != second {
            *bucket = (second, 0);
        }
        bucket.1 += count;
    }

    pub(crate) fn rate(&self, now_us: i64) -> f64 {
        let second = now_us / 1_000_000;
        // The running second is not whole, so it does not count.
        let sum: u64 =
            self.buckets.iter().filter(|(s, _)| second - s >= 1 && second - s < 10).map(|(_, n)| n).sum();
        sum as f64 / 9.0
    }
}
