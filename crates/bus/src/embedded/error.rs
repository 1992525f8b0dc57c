//! What SQLite's errors mean for the bus. Nothing else in the bus looks at them.

use hutong_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Returns the bus's error for one of SQLite's.
pub(super) fn of(doing: &str, source: &rusqlite::Error) -> Error {
    let (kind, hint) = match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Unavailable, "free space on the disk that holds the bus's folder")
        }
        Some(ErrorCode::SystemIoFailure) => {
            (ErrorKind::Unavailable, "look at the disk that holds the bus's folder")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Unavailable, "close other programs that write to the bus's file")
        }
        Some(ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted) => (ErrorKind::Unavailable, ""),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::Denied, "let the user that runs hutong write to the bus's folder")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorKind::Broken,
            "the bus's file is damaged: stop, keep a copy, restore a backup or start a new folder; after either, \
             `hutong subscription reload NAME` for each subscription",
        ),
        _ => (ErrorKind::Broken, ""),
    };
    let error = Error::new(kind, doing, source.to_string());
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// Returns an error that says the same once more, for another one who waited for the same thing.
pub(super) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind, error.doing.clone(), error.why());
    match &error.hint {
        Some(hint) => copy.hint(hint.clone()),
        None => copy,
    }
}

/// Wraps SQLite's errors where they appear.
pub(super) trait Wrap<T> {
    /// Says what was being done.
    fn doing(self, doing: &str) -> hutong_core::Result<T>;
}

impl<T> Wrap<T> for rusqlite::Result<T> {
    fn doing(self, doing: &str) -> hutong_core::Result<T> {
        self.map_err(|e| of(doing, &e))
    }
}
