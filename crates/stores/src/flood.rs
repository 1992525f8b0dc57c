//! What a lane says that halts because the store refuses more than its limit allows: a flood is not an exception.
//!
//! Nothing of its batch is written, so no quarantine shows it: the error itself says what was refused. It is logged,
//! so it holds nothing that may quote a row.

use hutong_core::{Error, ErrorKind};

use crate::keep::subscription_of;

/// Stands in a reason before what a trigger says itself, which may quote a row and stays in the department's store.
pub(crate) const WORDS: &str = ", in its own words: ";

/// How many changes were set aside for good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    /// How many may be.
    pub(crate) limit: u64,
    /// How many stood in the quarantine before this batch.
    pub(crate) earlier: u64,
    /// How many of this batch were, when it was given up.
    pub(crate) batch: u64,
}

/// Says that a batch is a flood; the rule and the reason are those of the last change that was set aside.
pub(crate) fn flood(lane: &str, count: Count, rule: &str, reason: &str) -> Error {
    let Count { limit, earlier, batch } = count;
    let reason = reason.split_once(WORDS).map_or(reason, |(told, _)| told);
    let why = format!(
        "more changes are set aside than the limit of {limit} allows ({earlier} before this batch, {batch} of it or more), \
         the last one by the rule {rule}: {reason}"
    );
    let mut hint = "mend the cause, then start it again; or raise [limits] quarantine, which lets them wait; nothing of \
                    this batch is written"
        .to_owned();
    if earlier > 0 {
        let name = subscription_of(lane);
        hint.push_str(&format!(": `hutong quarantine list {name}` shows the {earlier} earlier ones only"));
    }
    Error::new(ErrorKind::Broken, format!("commit a batch of {lane}"), why).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_says_what_was_refused_and_nothing_that_a_trigger_quotes() {
        let reason = format!("SQLSTATE P0001{WORDS}not this name{WORDS}禁");
        let error = flood("replicate.pension.3", Count { limit: 3, earlier: 2, batch: 2 }, "store", &reason);
        assert!(error.why().ends_with("the last one by the rule store: SQLSTATE P0001"), "{error}");
        assert!(error.why().contains("limit of 3 allows (2 before this batch, 2 of it or more)"), "{error}");
        let hint = error.hint.unwrap();
        assert!(
            hint.contains("[limits] quarantine") && hint.contains("`hutong quarantine list pension`"),
            "{hint}"
        );

        let error = flood("replicate.pension.3", Count { limit: 0, earlier: 0, batch: 1 }, "store", "why");
        assert!(!error.hint.unwrap().contains("quarantine list"), "there is nothing to be listed");
    }
}
