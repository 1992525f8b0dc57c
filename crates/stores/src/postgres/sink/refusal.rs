//! A row that the store refuses, told apart from an outage.
//!
//! Knows errors and their SQLSTATE; nothing of what is done about them.

use hutong_core::{Error, ErrorKind};

use crate::flood::WORDS;
use crate::fold::{CONFLICT, STORE};
use crate::postgres::error;

/// Why the store refuses a row.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// In words, without a value; of a trigger, behind [`WORDS`], its own, which stay in the department's store.
    pub(super) reason: String,
    /// Whether a change of another lane may cure it: a unique value that moves, a row that is referred to.
    pub(super) curable: bool,
}

impl Refusal {
    /// Returns the rule under which the change is set aside.
    pub(super) fn rule(&self) -> &'static str {
        if self.curable { CONFLICT } else { STORE }
    }
}

/// What can go wrong while rows are applied.
#[derive(Debug)]
pub(super) enum Fault {
    /// The store refuses one of the rows.
    Refused(Refusal),
    /// Nothing is said about any row: an outage, a missing privilege, a table that has changed.
    Stop(Error),
}

impl Fault {
    /// Judges an error of the driver. An outage is never a refusal, so it never fills the quarantine.
    pub(super) fn of(problem: tokio_postgres::Error, doing: impl FnOnce() -> String) -> Self {
        let state = problem.code().map(|code| code.code().to_owned()).unwrap_or_default();
        // 21000: two keys of the batch are one to the table's collation; one by one they follow each other.
        if error::kind(&problem) != ErrorKind::Refused && state != "21000" {
            return Self::Stop(error::of(problem, doing));
        }
        let mut reason = format!("the store refuses the row: {}", error::text(&problem));
        let own = error::is_own(&state) || matches!(state.get(..2), Some("38" | "39" | "P0"));
        if let Some(db) = problem.as_db_error().filter(|_| own) {
            reason.push_str(WORDS);
            reason.push_str(db.message());
        }
        Self::Refused(Refusal { reason, curable: matches!(state.as_str(), "23505" | "23503") })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}
