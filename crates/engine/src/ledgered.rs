//! How a process stands to the ledger: how far it has read it, when it last found it whole, and whether it is broken.

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

/// The labels of a series that is there only where there is a ledger.
const NONE: [&str; 0] = [];

/// What one process has read of the ledger. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledgered {
    head: IntGaugeVec,
    skipped: IntGaugeVec,
    verified: GaugeVec,
    broken: IntGaugeVec,
}

impl Ledgered {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let family = IntGaugeVec::new(Opts::new(name, help), &NONE)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let head = gauge(
            "ledger_head",
            "The number of the last record of the ledger that was read and verified. Not there without a ledger.",
        )?;
        let skipped = gauge(
            "ledger_skipped_records",
            "Records of the ledger that count for nothing: not signed, contradicted, or without the right.",
        )?;
        let broken = gauge(
            "ledger_broken",
            "1 when the ledger was rewritten or cut, or contradicts what a department has seen: nothing that it \
             permits flows.",
        )?;
        let verified = GaugeVec::new(
            Opts::new(
                "ledger_verified_timestamp_seconds",
                "When the ledger was last read to its end and found whole, since 1970; 0 when it was not yet.",
            ),
            &NONE,
        )?;
        registry.register(Box::new(verified.clone()))?;
        Ok(Self { head, skipped, verified, broken })
    }

    /// Makes the series visible: there is a ledger.
    pub fn added(&self) {
        for gauge in [&self.head, &self.skipped, &self.broken] {
            gauge.with_label_values(&NONE);
        }
        self.verified.with_label_values(&NONE);
    }

    /// Notes that the ledger was read to its end, at a time (microseconds since 1970 UTC).
    pub fn read(&self, head: u64, skipped: u64, at_us: i64) {
        self.head.with_label_values(&NONE).set(i64::try_from(head).unwrap_or(i64::MAX));
        self.skipped.with_label_values(&NONE).set(i64::try_from(skipped).unwrap_or(i64::MAX));
        self.verified.with_label_values(&NONE).set(at_us as f64 / 1e6);
    }

    /// Notes whether it can be trusted.
    pub fn broken(&self, broken: bool) {
        self.broken.with_label_values(&NONE).set(i64::from(broken));
    }
}
