//! The built program, for the tests in `it/` and the benchmark in `bench/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Another program to test or to measure than the one that cargo builds.
const BINARY: &str = "HUTONG_BINARY";

/// Returns the workspace's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace")
}

/// Returns `hutong ARGUMENTS` in a folder, with nothing of the caller's own settings.
pub fn hutong(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.env_remove("HUTONG_CONFIG").env("HUTONG_LOG", "error");
    // The language is the locale's, which is not the same on every machine.
    command.env("LC_ALL", "C.UTF-8");
    command
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
        assert!(build.status().expect("cargo runs").success(), "hutong does not build");
        // …/debug/deps/it-… stands beside …/debug/hutong.
        let tests = std::env::current_exe().expect("a program has a path");
        tests.ancestors().nth(2).expect("it stands two folders deep").join("hutong")
    })
}
