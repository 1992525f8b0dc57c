//! The built program and the Python beside it, started as a person would start them.

use std::process::{Command, Stdio};

pub(crate) use hutong_tests::{hutong, root};

/// How a command ended.
pub(crate) struct Ended {
    /// Its exit code; -1 after a signal.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) out: String,
    /// What it complained of.
    pub(crate) err: String,
}

impl Ended {
    /// Returns what it printed, after asserting its exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> String {
        assert_eq!(self.code, code, "\n{}\n{}", self.out, self.err);
        self.out
    }
}

/// Returns a script of `tests/python` in the Python that `make test` sets up.
pub(crate) fn python(script: &str, arguments: &[&str]) -> Command {
    let python = root().join("target/venv/bin/python");
    assert!(python.is_file(), "no Python in {}: run `make test`, which makes it", python.display());
    let mut command = Command::new(python);
    command.arg(root().join("tests/python").join(script)).args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) fn ended(mut command: Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
