//! What SQLite's errors mean to the engine. The only file that looks into them.

use hutong_core::{Error, ErrorKind, Result};
use rusqlite::ffi;

use crate::flood::WORDS;

/// Turns SQLite's errors into the workspace's.
pub(super) trait Context<T> {
    /// Wraps the error with what was being done.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for rusqlite::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error {
            // A table or a column is missing, or is something else. Its own text repeats the whole statement.
            rusqlite::Error::SqlInputError { msg, .. } => Error::new(ErrorKind::SchemaConflict, doing(), msg),
            error => Error::caused(kind(&error), doing(), error),
        })
    }
}

/// Why the store refused one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// SQLite's words: they name the constraint and no value; of a trigger, behind [`WORDS`], its own.
    pub(super) reason: String,
    /// Whether another row, perhaps of another lane, may cure it (unique, foreign key).
    pub(super) curable: bool,
}

/// Returns why the store refused the row, when it is the row that it refused; an outage is no refusal (I3).
pub(super) fn refusal(error: &rusqlite::Error) -> Option<Refusal> {
    let code = error.sqlite_error()?;
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    };
    let curable = matches!(
        code.extended_code,
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_FOREIGNKEY
    );
    match code.code {
        // What a trigger raises is put together by whoever made it, also of the row's values.
        ffi::ErrorCode::ConstraintViolation if code.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER => {
            let reason = format!("a trigger of the table refuses the row{WORDS}{message}");
            Some(Refusal { reason, curable })
        }
        ffi::ErrorCode::ConstraintViolation | ffi::ErrorCode::TypeMismatch | ffi::ErrorCode::TooBig => {
            Some(Refusal { reason: message, curable })
        }
        _ => None,
    }
}

fn kind(error: &rusqlite::Error) -> ErrorKind {
    use ffi::ErrorCode as Code;
    let Some(code) = error.sqlite_error_code() else { return ErrorKind::Broken };
    match code {
        Code::DatabaseBusy
        | Code::DatabaseLocked
        | Code::DiskFull
        | Code::SystemIoFailure
        | Code::OutOfMemory
        | Code::CannotOpen
        | Code::OperationInterrupted
        | Code::OperationAborted
        | Code::FileLockingProtocolFailed
        | Code::SchemaChanged => ErrorKind::Unavailable,
        Code::PermissionDenied | Code::ReadOnly | Code::AuthorizationForStatementDenied => ErrorKind::Denied,
        Code::ConstraintViolation | Code::TypeMismatch | Code::TooBig => ErrorKind::Refused,
        Code::DatabaseCorrupt | Code::NotADatabase => ErrorKind::Broken,
        // SQLite's plain "error": a table or a column that is not there.
        Code::Unknown => ErrorKind::SchemaConflict,
        _ => ErrorKind::Broken,
    }
}
