//! Turns the drivers' errors into the workspace's error: the only place that looks at SQLSTATE.
//!
//! Never repeats a server's text that may quote a row's value (DETAIL, and the messages that `quotes` names).

use hutong_core::{Error, ErrorKind};
use pgwire_replication::PgWireError;
use tokio_postgres::error::{DbError, SqlState};

/// Wraps an error of the SQL driver; `doing` is verb and object.
pub fn of(error: tokio_postgres::Error, doing: impl FnOnce() -> String) -> Error {
    let hint = error.code().and_then(|state| hint_of_state(state.code()));
    hinted(Error::new(kind(&error), doing(), text(&error)), hint)
}

/// Wraps an error of the replication protocol.
pub(crate) fn of_stream(error: PgWireError, doing: impl FnOnce() -> String) -> Error {
    let kind = match &error {
        PgWireError::Server(text) => stream_state(text).map_or(ErrorKind::Unavailable, kind_of_state),
        PgWireError::Auth(_) => ErrorKind::Denied,
        PgWireError::Tls(_) => ErrorKind::Config,
        PgWireError::Protocol(_) | PgWireError::MessageTooLarge { .. } => ErrorKind::Broken,
        _ => ErrorKind::Unavailable,
    };
    let hint = match &error {
        PgWireError::Server(text) => stream_state(text).and_then(hint_of_state),
        _ => None,
    };
    hinted(Error::new(kind, doing(), error.to_string()), hint)
}

fn hinted(error: Error, hint: Option<&'static str>) -> Error {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Returns the SQLSTATE in the text of a server error of the replication protocol.
pub(crate) fn stream_state(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("SQLSTATE ")?;
    rest.get(..5)
}

/// Returns the kind of an error of the SQL driver.
pub fn kind(error: &tokio_postgres::Error) -> ErrorKind {
    match error.as_db_error() {
        Some(db) => kind_of_state(db.code().code()),
        // Not from the server: the connection is gone, or what came back was not understood.
        None if error.is_closed() => ErrorKind::Unavailable,
        None => match error.to_string() {
            text if text.starts_with("invalid configuration") => ErrorKind::Config,
            text if text.starts_with("error serializing") || text.starts_with("error deserializing") => {
                ErrorKind::Broken
            }
            _ => ErrorKind::Unavailable,
        },
    }
}

/// States whether somebody else held a lock for longer than the session waits.
pub(crate) fn is_locked(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// States whether the role may not do this.
pub(crate) fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// States whether a value is the matter: it cannot be converted to a type, or breaks a domain's rule.
pub(crate) fn is_of_values(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| matches!(state.code().get(..2), Some("22" | "23")))
}

/// Returns the error's text without what may be a row's value.
pub fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db_text(db),
        None => {
            let mut text = error.to_string();
            let mut next = std::error::Error::source(error);
            while let Some(cause) = next {
                let line = cause.to_string();
                if !text.ends_with(&line) {
                    text = format!("{text}: {line}");
                }
                next = cause.source();
            }
            text
        }
    }
}

fn db_text(db: &DbError) -> String {
    let state = db.code().code();
    let mut text =
        if quotes(db) { format!("SQLSTATE {state}") } else { format!("{} (SQLSTATE {state})", db.message()) };
    for (word, name) in [("table", db.table()), ("column", db.column()), ("constraint", db.constraint())] {
        if let Some(name) = name {
            text.push_str(&format!(", {word} {name}"));
        }
    }
    text
}

/// States whether the message may quote a row: `invalid input syntax for type integer: "…"`, or a trigger's own words.
fn quotes(db: &DbError) -> bool {
    let state = db.code().code();
    // Under whatever state a trigger speaks up, this is the routine of the server by which it does.
    db.routine() == Some("exec_stmt_raise")
        || is_own(state)
        || matches!(state.get(..2), Some("22" | "23" | "38" | "39" | "44" | "P0" | "XX"))
}

/// States whether a SQLSTATE is of no class of PostgreSQL's: a trigger or a function has chosen it.
pub fn is_own(state: &str) -> bool {
    !matches!(
        state.get(..2).unwrap_or_default(),
        "" | "00"
            | "01"
            | "02"
            | "03"
            | "08"
            | "09"
            | "0A"
            | "0B"
            | "0F"
            | "0L"
            | "0P"
            | "0Z"
            | "10"
            | "20"
            | "21"
            | "22"
            | "23"
            | "24"
            | "25"
            | "26"
            | "27"
            | "28"
            | "2B"
            | "2D"
            | "2F"
            | "34"
            | "38"
            | "39"
            | "3B"
            | "3D"
            | "3F"
            | "40"
            | "42"
            | "44"
            | "53"
            | "54"
            | "55"
            | "57"
            | "58"
            | "72"
            | "F0"
            | "HV"
            | "P0"
            | "XX"
    )
}

/// Returns what a SQLSTATE means for a lane. Source: PostgreSQL, Appendix A "Error Codes".
pub fn kind_of_state(state: &str) -> ErrorKind {
    match state {
        // Insufficient privilege; a standby that takes no writes is an outage, not a mistake.
        "42501" => ErrorKind::Denied,
        "25006" | "55P03" | "55006" => ErrorKind::Unavailable,
        // Unknown database; more ON CONFLICT rows of one key than one.
        "3D000" => ErrorKind::Config,
        "21000" => ErrorKind::Broken,
        _ => match state.get(..2).unwrap_or_default() {
            // Connection, transaction rollback, resources, operator intervention, system error, session timeouts.
            "08" | "40" | "53" | "57" | "58" | "25" => ErrorKind::Unavailable,
            "28" => ErrorKind::Denied,
            // Data, integrity, a view's check, routines and triggers, program limits: this row.
            "22" | "23" | "27" | "2F" | "38" | "39" | "44" | "54" | "P0" | "09" => ErrorKind::Refused,
            "42" | "3F" | "2B" => ErrorKind::SchemaConflict,
            "0A" | "55" | "F0" => ErrorKind::Config,
            // Chosen by a trigger, which speaks of this row.
            _ if is_own(state) => ErrorKind::Refused,
            _ => ErrorKind::Broken,
        },
    }
}

/// Returns what a person must do about a state that says only what is not there, or is there already. The same is true
/// of a table that is captured and of a replica's.
fn hint_of_state(state: &str) -> Option<&'static str> {
    match state {
        "42P01" => Some(
            "the table was dropped or renamed: give it back under this name, or write its new name in the configuration, \
             then restart; a replica whose rows went with it is filled again by `hutong subscription reload`",
        ),
        "42703" => Some(
            "the column was dropped or renamed: give it back, or let contract and grant name what is there (`hutong \
             contract check` compares), then restart",
        ),
        "42710" => Some(
            "something else has this name already: drop or rename it if nobody needs it, or name this otherwise in the \
             configuration, then restart",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_or_there_already_is_told_with_what_to_do() {
        for state in ["42P01", "42703", "42710"] {
            assert!(hint_of_state(state).is_some_and(|hint| hint.contains("then restart")), "{state}");
        }
        let problem = PgWireError::Server("relation does not exist (SQLSTATE 42P01)".into());
        let error = of_stream(problem, || "read".into());
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::SchemaConflict, true), "{error:?}");
    }

    #[test]
    fn a_state_decides_what_happens() {
        for (state, kind) in [
            ("57P01", ErrorKind::Unavailable),
            ("40P01", ErrorKind::Unavailable),
            ("23505", ErrorKind::Refused),
            ("22003", ErrorKind::Refused),
            ("42501", ErrorKind::Denied),
            ("28P01", ErrorKind::Denied),
            ("42703", ErrorKind::SchemaConflict),
            ("XX000", ErrorKind::Broken),
            ("24000", ErrorKind::Broken),
            ("45000", ErrorKind::Refused),
            ("ZZ999", ErrorKind::Refused),
        ] {
            assert_eq!(kind_of_state(state), kind, "{state}");
        }
    }
}
