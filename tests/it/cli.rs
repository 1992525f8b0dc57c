//! The built program and the Python beside it, started as a person would start them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Another binary to test than the one that cargo builds.
const BINARY: &str = "HUTONG_BINARY";

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

/// Returns the workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns `hutong ARGUMENTS` in a folder, with nothing of the caller's own settings.
pub(crate) fn hutong(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.env_remove("HUTONG_CONFIG").env("HUTONG_LOG", "error");
    command
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

/// Returns the program, built: cargo builds no other package's program before a test.
fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(path) = std::env::var_os(BINARY) {
            return path.into();
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--package", "hutong"]).current_dir(root());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "hutong does not build");
        // …/debug/deps/it-… stands beside …/debug/hutong.
        let tests = std::env::current_exe().unwrap();
        tests.parent().unwrap().parent().unwrap().join("hutong")
    })
}
