//! Folders that are costly to make and cheap to copy: made once, kept below `target/servers`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Doing, Error, Result};
use super::server::Program;

/// Returns the folder in which `make servers` puts the servers, and this crate its templates.
pub(crate) fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers")
}

/// Copies the template `name` to `into`, which must not exist, after making it if it is not there yet.
///
/// `make` returns a finished folder, which may be anywhere; it is copied. Two processes may make the
/// same template at once: the first one wins.
pub(crate) fn copy<F>(name: &str, into: &Path, make: impl FnOnce() -> Result<F>) -> Result<()>
where
    F: AsRef<Path>,
{
    let templates = servers().join("templates");
    let template = templates.join(name);
    if !template.is_dir() {
        fs::create_dir_all(&templates).doing(|| format!("make {}", templates.display()))?;
        let made = make()?;
        let scratch = templates.join(format!("{name}.{}", std::process::id()));
        copy_folder(made.as_ref(), &scratch)?;
        if fs::rename(&scratch, &template).is_err() {
            fs::remove_dir_all(&scratch).doing(|| format!("remove {}", scratch.display()))?;
            if !template.is_dir() {
                return Err(Error::new(format!("failed to make {}", template.display())));
            }
        }
    }
    copy_folder(&template, into)
}

/// Copies a folder to where none is.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    // Owner and mode matter to PostgreSQL, and the standard library copies neither folders nor owners.
    Program::new("cp").arg("-a").args([from.as_os_str(), to.as_os_str()] as [&OsStr; 2]).run().map(drop)
}
