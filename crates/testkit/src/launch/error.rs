//! Why a server could not be started.

use std::fmt;

/// What went wrong with a server, in words for the person who runs the tests.
///
/// Not `hutong_core::Error`: nobody retries or quarantines here, a test just ends.
/// `Debug` prints the text as it stands, since tests unwrap and a server's log has many lines.
pub struct Error(String);

/// Shorthand for the outcome of a launcher's call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Says that a server's files are not there and how to get them.
    pub(crate) fn missing(what: &str) -> Self {
        Self(format!("{what}: run `make servers`"))
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds what was being done to an error of another library.
pub(crate) trait Doing<T> {
    /// Turns the error into "failed to `doing`: cause".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let mut text = format!("failed to {}: {error}", doing());
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            Error(text)
        })
    }
}
