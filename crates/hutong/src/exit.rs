//! How the program ends: the one list of exit codes.

use hutong_core::ErrorKind;

/// Why the program ended, as the shell sees it. Documented in the README; a number is never given to another reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done; also after SIGTERM or Ctrl-C, when the pipelines have drained.
    Done = 0,
    /// A rule that cannot be broken is broken: a bug, a damaged file, or a proof that failed.
    Broken = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Another side does not answer; the same command may succeed later.
    Unavailable = 3,
    /// The configuration has problems.
    Config = 4,
    /// A credential or privilege is missing.
    Denied = 5,
    /// A contract and a table, or two versions of a contract, do not fit together.
    SchemaConflict = 6,
    /// The origin no longer holds the position that is asked for.
    PositionLost = 7,
    /// A newer owner has taken the lane: another process runs the same pipeline.
    Fenced = 8,
    /// An item cannot be carried, or bytes from outside are not what they claim to be.
    Refused = 9,
    /// A replica does not hold what its source says.
    Differs = 10,
}

impl Exit {
    /// Every way to end, in the order of the numbers.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Broken,
        Self::Usage,
        Self::Unavailable,
        Self::Config,
        Self::Denied,
        Self::SchemaConflict,
        Self::PositionLost,
        Self::Fenced,
        Self::Refused,
        Self::Differs,
    ];

    /// Returns the number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Returns the reason in a few words, for `--help` and the README.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken => "unexpected: a bug, a damaged file, or a proof that failed",
            Self::Usage => "wrong command line",
            Self::Unavailable => "another side does not answer; try again",
            Self::Config => "the configuration has problems",
            Self::Denied => "a credential or privilege is missing",
            Self::SchemaConflict => "a contract does not fit",
            Self::PositionLost => "the origin no longer holds the position",
            Self::Fenced => "another process has taken over",
            Self::Refused => "an item cannot be carried",
            Self::Differs => "a replica differs from its source",
        }
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unavailable | ErrorKind::Unknown => Self::Unavailable,
            ErrorKind::Fenced => Self::Fenced,
            ErrorKind::Refused | ErrorKind::Malformed => Self::Refused,
            ErrorKind::SchemaConflict => Self::SchemaConflict,
            ErrorKind::PositionLost => Self::PositionLost,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Config => Self::Config,
            ErrorKind::Broken => Self::Broken,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl std::process::Termination for Exit {
    fn report(self) -> std::process::ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_them() {
        let readme = include_str!("../../../README.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn the_numbers_stand_in_their_order() {
        for (at, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), at, "{}", exit.meaning());
        }
        assert_eq!(Exit::from(ErrorKind::Config).code(), 4);
        assert_eq!(Exit::from(ErrorKind::Unknown).code(), 3);
    }
}
