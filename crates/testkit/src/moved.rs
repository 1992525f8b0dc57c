//! Files of SQLite that somebody moves while they are open.

use std::path::{Path, PathBuf};

/// Moves a file, with what SQLite keeps beside it.
///
/// # Panics
///
/// When one of them cannot be moved.
pub fn put(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let part = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        if part(from).exists() {
            std::fs::rename(part(from), part(to)).expect("a file of a test can be moved");
        }
    }
}
