//! What a lane that a person has set back may set aside without a flood, and what of it counts in the end.
//!
//! A partial change of a row that was deleted since finds no row when it is read again, and the delete comes by again: so
//! it waits in the quarantine, and does not count against the limit. I3: what still waits when the lane is where it was
//! was really lost, by somebody else's hand, and counts then, all at once.

use hutong_core::{Checkpoint, Error, ErrorKind, Refused, Rejected, Reread};

use crate::fold::{CONFLICT, UNKNOWN_VALUE};
use crate::keep::subscription_of;

/// Why a partial change is set aside that finds no row.
pub(crate) const NOT_THERE: &str = "a value is not told and the row is not there";

/// Why a partial change waits behind another of its row.
pub(crate) const BEHIND: &str =
    "an earlier change of the row waits in the quarantine, and this one is partial";

/// The rule under which some stores let a partial change wait behind another of its row.
pub(crate) const BEHIND_RULE: &str = "behind";

/// States whether a change lacks its row: refused by the steps of a lane are others, also under the same rule.
fn lacks_row(item: &Rejected) -> bool {
    item.rule == BEHIND_RULE || item.rule == UNKNOWN_VALUE && [NOT_THERE, BEHIND].contains(&&*item.reason)
}

/// Returns the condition by which SQL finds what lacks its row.
pub(crate) fn lacking() -> String {
    format!(
        "(rule = '{BEHIND_RULE}' OR (rule = '{UNKNOWN_VALUE}' AND reason IN ('{NOT_THERE}', '{BEHIND}')))"
    )
}

/// States whether a change is one that the lane reads again.
fn comes_again(reread: Option<&Reread>, item: &Rejected) -> bool {
    reread.is_some_and(|reread| reread.holds(item.position))
}

/// States whether what comes by later, before the lane is where it was, settles a change that lacks its row.
fn again(reread: Option<&Reread>, item: &Rejected) -> bool {
    comes_again(reread, item) && lacks_row(item)
}

/// How many changes of a batch were set aside, by what can be done about them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// All of them.
    pub(crate) all: u64,
    /// Those that a change of another lane may cure.
    pub(crate) curable: u64,
    /// How many of those are no matter of a lane that was set back: older states of rows stand in the way of newer ones,
    /// until each is where it was.
    pub(crate) pressing: u64,
    /// Those that lack a row that is gone by now, since the lane was set back.
    pub(crate) again: u64,
}

impl Tally {
    /// Counts one.
    pub(crate) fn count(&mut self, reread: Option<&Reread>, item: &Rejected) {
        let conflicts = item.rule == CONFLICT;
        self.all += 1;
        self.curable += u64::from(conflicts);
        self.pressing += u64::from(conflicts && !comes_again(reread, item));
        self.again += u64::from(again(reread, item));
    }

    /// Returns how many only a person can cure.
    pub(crate) fn lasting(&self) -> u64 {
        self.all - self.curable - self.again
    }

    /// Returns what a sink tells of it.
    pub(crate) fn refused(&self) -> Refused {
        Refused { lasting: self.lasting(), curable: self.curable, again: self.again, ..Refused::default() }
    }
}

/// Returns what a commit has read again to its end; `None` for every other commit.
pub(crate) fn ended(from: &Checkpoint, to: &Checkpoint) -> Option<Reread> {
    from.reread().filter(|_| to.reread().is_none())
}

/// Says that rows are gone which nothing that the lane has read again took away.
pub(crate) fn lost(lane: &str, count: u64, limit: u64) -> Error {
    let why = format!(
        "it is where it was before it was set back, and {count} changes still wait whose rows are not there, more than \
         the limit of {limit}: the replica lacks rows that the stream has"
    );
    let name = subscription_of(lane);
    Error::new(ErrorKind::Broken, format!("go on with {lane}"), why).hint(format!(
        "hutong quarantine list {name} shows them; `hutong subscription reload {name}` fills the replica anew, then start \
         this process again; or raise [limits] quarantine, which lets them wait"
    ))
}

#[cfg(test)]
mod tests {
    use hutong_core::Position;

    use super::*;

    #[test]
    fn i3_only_what_lacks_its_row_and_comes_again_is_no_flood() {
        let reread = Reread { partition: "t/0".into(), from: Position::offset(3), to: Position::offset(6) };
        let item = |rule, reason: &str, at| Rejected {
            rule,
            reason: reason.into(),
            position: Position::offset(at),
            stream: "s".into(),
            change: None,
            record: None,
        };
        for (rule, reason, at, expected) in [
            (UNKNOWN_VALUE, NOT_THERE, 3, true),
            (UNKNOWN_VALUE, BEHIND, 5, true),
            (BEHIND_RULE, "", 5, true),
            (UNKNOWN_VALUE, NOT_THERE, 6, false),
            (UNKNOWN_VALUE, NOT_THERE, 2, false),
            // The grant's filter could not be decided: no later change of the row takes that back.
            (UNKNOWN_VALUE, "its old row is not told", 4, false),
            ("store", NOT_THERE, 4, false),
        ] {
            assert_eq!(again(Some(&reread), &item(rule, reason, at)), expected, "{rule} {reason} {at}");
            assert!(!again(None, &item(rule, reason, at)));
        }
    }

    #[test]
    fn who_lacks_rows_is_told_the_command_that_fills_them() {
        let error = lost("replicate.renshe_people.3", 1_200, 1_000);
        assert!(error.to_string().contains("1200 changes still wait"), "{error}");
        assert!(error.hint.unwrap().contains("hutong subscription reload renshe_people`"));
    }
}
