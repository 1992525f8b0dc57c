//! What the servers that run on a Java virtual machine share.

use std::env;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::server::Program;

/// Returns a Java virtual machine that starts quickly and takes at most `heap_mb` MiB of heap.
pub(crate) fn java(heap_mb: u32) -> Result<Program> {
    let path = env::var_os("JAVA_HOME")
        .map(|home| Path::new(&home).join("bin/java"))
        .filter(|java| java.is_file())
        .or_else(|| find("java"))
        .ok_or_else(|| Error::missing("no Java 17 or later in JAVA_HOME or PATH"))?;
    Ok(Program::new(path)
        .arg(format!("-Xmx{heap_mb}m"))
        // Two cores are shared with the tests: one collector thread and the quick compiler only.
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]))
}

/// Returns the first `name` in the search path.
fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
