//! What the comparisons of a process found: how many keys differed, and when.

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

/// The comparisons of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verified {
    mismatches: IntGaugeVec,
    last_run: GaugeVec,
}

impl Verified {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let mismatches = IntGaugeVec::new(
            Opts::new(
                "verify_mismatches",
                "How many keys of the replica differed from the source at the last comparison: `verify` of the \
                 subscription. Not there before the first.",
            ),
            &["pipeline"],
        )?;
        let last_run = GaugeVec::new(
            Opts::new(
                "verify_last_run_timestamp_seconds",
                "When the replica was last compared with the source, since 1970; 0 when it has not been since the \
                 process started.",
            ),
            &["pipeline"],
        )?;
        registry.register(Box::new(mismatches.clone()))?;
        registry.register(Box::new(last_run.clone()))?;
        Ok(Self { mismatches, last_run })
    }

    /// Makes the series of a pipeline visible that is to be compared.
    pub fn added(&self, pipeline: &str) {
        self.last_run.with_label_values(&[pipeline]);
    }

    /// Notes that another process compares the pipeline from now on, and tells what it finds.
    pub fn elsewhere(&self, pipeline: &str) {
        // Not there when this process has found nothing yet.
        let _ = self.mismatches.remove_label_values(&[pipeline]);
    }

    /// Notes a comparison that has come to its end, at a time (microseconds since 1970 UTC).
    pub fn done(&self, pipeline: &str, mismatches: usize, at_us: i64) {
        self.mismatches.with_label_values(&[pipeline]).set(i64::try_from(mismatches).unwrap_or(i64::MAX));
        self.last_run.with_label_values(&[pipeline]).set(at_us as f64 / 1e6);
    }
}
