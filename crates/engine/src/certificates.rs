//! When the certificates end that the configuration names.

use prometheus::{GaugeVec, Opts, Registry};

/// The certificates of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificates(GaugeVec);

impl Certificates {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help = "When the first certificate of a file ends, since 1970: `certificate` is `authorities` (those that \
                    are trusted) or `own` (the one that is shown), `used_for` the bus or a store. Not there while the \
                    file cannot be read.";
        let opts = Opts::new("certificate_expires_timestamp_seconds", help);
        let family = GaugeVec::new(opts, &["used_for", "certificate"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self(family))
    }

    /// Notes when the first certificate of a file ends, seconds since 1970; `None`: it cannot be read.
    pub fn ends(&self, used_for: &str, certificate: &str, ends: Option<i64>) {
        let labels = [used_for, certificate];
        match ends {
            // One from before 1970 has ended like any other.
            Some(ends) => self.0.with_label_values(&labels).set(ends.max(0) as f64),
            // An error says that it was not shown before.
            None => drop(self.0.remove_label_values(&labels)),
        }
    }
}
