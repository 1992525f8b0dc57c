//! The one error of the workspace: what went wrong decides what happens next.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything fallible in the workspace.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Each kind exists because somebody acts differently on it, see [`ErrorKind::class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The other side does not answer, or refuses for now.
    Unavailable,
    /// The outcome of a commit is unknown; the sink must be opened again and asked where it stands.
    Unknown,
    /// A newer owner has taken the lane.
    Fenced,
    /// One item cannot be carried; `Error::doing` names it.
    Refused,
    /// Bytes from outside are not what they claim to be.
    Malformed,
    /// The contract and what is there do not fit together.
    SchemaConflict,
    /// The origin no longer holds the position that is asked for.
    PositionLost,
    /// A credential or privilege is missing.
    Denied,
    /// The configuration asks for something that cannot be.
    Config,
    /// A rule that cannot be broken is broken: a bug or a damaged file.
    Broken,
}

/// What the engine does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Back off, then open again.
    Retry,
    /// Set the item aside and commit again.
    Quarantine,
    /// Stop this lane and say what a person must do; the others go on.
    Halt,
}

impl ErrorKind {
    /// Every kind, for pages that must tell of each.
    pub const ALL: [Self; 10] = [
        Self::Unavailable,
        Self::Unknown,
        Self::Fenced,
        Self::Refused,
        Self::Malformed,
        Self::SchemaConflict,
        Self::PositionLost,
        Self::Denied,
        Self::Config,
        Self::Broken,
    ];

    /// Returns what the engine does about an error of this kind.
    pub fn class(self) -> Class {
        match self {
            Self::Unavailable | Self::Unknown => Class::Retry,
            Self::Refused | Self::Malformed => Class::Quarantine,
            Self::Fenced
            | Self::SchemaConflict
            | Self::PositionLost
            | Self::Denied
            | Self::Config
            | Self::Broken => Class::Halt,
        }
    }

    /// Returns the name used in metrics, status and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown_outcome",
            Self::Fenced => "fenced",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::SchemaConflict => "schema_conflict",
            Self::PositionLost => "position_lost",
            Self::Denied => "denied",
            Self::Config => "config",
            Self::Broken => "broken",
        }
    }
}

/// An error: its kind, what was being done, what a person may do about it, and its cause.
///
/// Prints as `failed to <doing>: <cause>`. `doing` is verb and object, lower case, without a period.
pub struct Error {
    /// What went wrong, which decides what happens.
    pub kind: ErrorKind,
    /// Verb and object: `read schema 42`.
    pub doing: String,
    /// What a person must do, when a person must do something.
    pub hint: Option<String>,
    /// The cause, when there is one below.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error without a cause below it; `why` is the reason in words.
    pub fn new(kind: ErrorKind, doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), hint: None, source: Some(why.into().into()) }
    }

    /// Makes an error that wraps `source`.
    pub fn caused(
        kind: ErrorKind,
        doing: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, doing: doing.into(), hint: None, source: Some(source.into()) }
    }

    /// Adds what a person must do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns what the engine does about this error.
    pub fn class(&self) -> Class {
        self.kind.class()
    }

    /// Returns the causes below, outermost first, as one text.
    pub fn why(&self) -> String {
        let mut text = String::new();
        let mut next = self.source.as_ref().map(|e| e.as_ref() as &(dyn StdError + 'static));
        while let Some(error) = next {
            let line = error.to_string();
            // Many libraries repeat their cause in their own text.
            if !text.ends_with(&line) {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&line);
            }
            next = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {}", self.doing)?;
        let why = self.why();
        if !why.is_empty() {
            write!(f, ": {why}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.kind.name())?;
        if let Some(hint) = &self.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

// `source` stays None: `Display` has told the causes already, and reports would print them twice.
impl StdError for Error {}

/// Turns foreign errors into [`Error`] at the edge where they appear.
pub trait ResultExt<T> {
    /// Wraps the error with a kind and what was being done.
    fn or_kind(self, kind: ErrorKind, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn or_kind(self, kind: ErrorKind, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::caused(kind, doing(), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_failed_and_why() {
        let io = std::io::Error::other("connection refused");
        let error =
            Err::<(), _>(io).or_kind(ErrorKind::Unavailable, || "fetch schema 42".into()).unwrap_err();
        assert_eq!(error.to_string(), "failed to fetch schema 42: connection refused");
        assert_eq!(error.class(), Class::Retry);
    }
}
