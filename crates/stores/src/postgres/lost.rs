//! What a person is told when the server no longer holds what a checkpoint needs: from where, to where, how much.

use hutong_core::{Checkpoint, Error, ErrorKind};
use pgwire_replication::Lsn;

use super::assembly::PARTITION;

/// Where a capture stands, to be told when its place is lost.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    /// The slot.
    pub(crate) slot: String,
    /// The place in the log up to which everything is committed downstream; 0 before there is one.
    pub(crate) lsn: u64,
    /// The time up to which everything is committed downstream, where it is known.
    pub(crate) complete_to_us: Option<i64>,
}

impl Stand {
    /// Returns where a checkpoint stands.
    pub(crate) fn of(slot: &str, from: &Checkpoint) -> Self {
        Self {
            slot: slot.to_owned(),
            lsn: from.position(PARTITION).as_wal().map_or(0, |(_, lsn, ..)| lsn),
            complete_to_us: from.note("complete_to_us").and_then(|us| us.parse().ok()),
        }
    }

    /// Makes the error of a place that the server, whose log ends at `end`, no longer holds.
    pub(crate) fn lost(&self, why: impl Into<String>, end: u64) -> Error {
        let mut why = why.into();
        if self.lsn > 0 {
            why.push_str(&format!("; the checkpoint stands at {}", text(self.lsn)));
            if end > 0 {
                why.push_str(&format!(", the server's log ends at {}, {}", text(end), apart(self.lsn, end)));
            }
        }
        self.told(why)
    }

    /// Makes the error of a place in another server's log: how far the two are apart says nothing.
    pub(crate) fn elsewhere(&self, why: impl Into<String>, end: u64) -> Error {
        let (lsn, end) = (text(self.lsn), text(end));
        let why = why.into();
        self.told(format!("{why}; the checkpoint stands at {lsn}, the log of this server ends at {end}"))
    }

    fn told(&self, mut why: String) -> Error {
        if let Some(time) = self.complete_to_us.and_then(|us| jiff::Timestamp::from_microsecond(us).ok()) {
            why.push_str(&format!("; changes committed after {time} are not known"));
        }
        let capture = self.slot.strip_prefix("hutong_").unwrap_or(&self.slot);
        let doing = format!("go on reading the replication slot {}", self.slot);
        Error::new(ErrorKind::PositionLost, doing, why).hint(format!(
            "changes since the last committed position are gone from the log: stop `hutong run`, then \
             `hutong source reset {capture} --reason …` accepts it, then start it again: the tables are truncated \
             downstream and read again"
        ))
    }
}

/// Returns how far `to` lies from `from`: in MiB for people, in bytes for whoever counts.
pub(crate) fn apart(from: u64, to: u64) -> String {
    let bytes = from.abs_diff(to);
    let which = if to >= from { "after" } else { "before" };
    format!("{:.1} MiB ({bytes} bytes) {which} it", bytes as f64 / 1_048_576.0)
}

/// Returns why a slot is of no use any more, from what the server says: the reason exists from PostgreSQL 17 on.
pub(crate) fn invalidated(reason: Option<&str>) -> String {
    let cause = match reason {
        None => "max_slot_wal_keep_size",
        Some("wal_removed") => "wal_removed: max_slot_wal_keep_size",
        Some("idle_timeout") => "idle_timeout: idle_replication_slot_timeout",
        Some("wal_level_insufficient") => "wal_level_insufficient: wal_level is not logical",
        Some(reason) => reason,
    };
    format!("the server has invalidated the slot ({cause})")
}

/// Returns a place of the log as the server writes it.
pub(crate) fn text(lsn: u64) -> String {
    Lsn(lsn).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_place_is_told_with_its_extent() {
        let mut stand = Stand { slot: "hutong_gongan".into(), lsn: 0x200_0000, complete_to_us: None };
        for (end, says) in [
            (
                0x280_0000,
                "stands at 0/2000000, the server's log ends at 0/2800000, 8.0 MiB (8388608 bytes) after it",
            ),
            (0x180_0000, "0/1800000, 8.0 MiB (8388608 bytes) before it"),
        ] {
            let error = stand.lost("the slot is gone", end);
            assert!(error.why().contains(says), "{error}");
            assert!(!error.why().contains("not known"), "{error}");
        }
        stand.complete_to_us = Some(1_767_225_600_000_000);
        let error = stand.elsewhere("another system", 9);
        assert!(
            error.why().ends_with("changes committed after 2026-01-01T00:00:00Z are not known"),
            "{error}"
        );
        assert!(!error.why().contains("MiB"), "{error}");
        // No command opens the bus beside the process that runs the capture.
        let hint = error.hint.unwrap();
        assert!(hint.contains("stop `hutong run`, then `hutong source reset gongan --reason …`"), "{hint}");
        assert!(hint.contains("then start it again"), "{hint}");
        stand.lsn = 0;
        assert!(stand.lost("the slot is gone", 9).why().starts_with("the slot is gone; changes"));
    }

    #[test]
    fn a_slot_says_why_it_is_of_no_use_as_far_as_the_server_tells() {
        for (reason, says) in [
            (None, "(max_slot_wal_keep_size)"),
            (Some("wal_removed"), "(wal_removed: max_slot_wal_keep_size)"),
            (Some("idle_timeout"), "(idle_timeout: idle_replication_slot_timeout)"),
            (Some("rows_removed"), "(rows_removed)"),
        ] {
            assert!(invalidated(reason).ends_with(says), "{reason:?}");
        }
    }
}
