//! What a look at a table or a server has found, for a person to read.

use hutong_core::Error;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What a person may do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// Says that something is as it must be.
    pub fn good(what: impl Into<String>) -> Self {
        Self { ok: true, what: what.into(), hint: None }
    }

    /// Says that something is not as it must be, and what a person may do about it.
    pub fn bad(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { ok: false, what: what.into(), hint: Some(hint.into()) }
    }
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        Self { ok: false, what: error.to_string(), hint: error.hint }
    }
}
