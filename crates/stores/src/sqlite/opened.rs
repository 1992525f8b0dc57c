//! Remembers which file was opened. A path may name another one later, or none, and SQLite goes on with the one that
//! it has open: what is written there nobody reads, and what is written into the other nobody captures.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hutong_core::{Error, ErrorKind, Result};
use rusqlite::Connection;

const DOING: &str = "use a SQLite file";

const GONE: &str = "put it back with its -wal beside it: it is opened again by itself; for another file, stop `hutong run` first";

const ANOTHER: &str = "put the one back that was opened, with its -wal; or stop `hutong run`, see that no -wal, -shm or \
                       -journal of the old one is left beside the new one, and start it again";

/// The files that lanes of this process have opened. One of these is never made anew: an empty one in its place would
/// hide that it is gone. Nor is another one opened in its place: SQLite would read the -wal that the old one has left
/// there into it, whose pages are none of its.
static OPENED: Mutex<BTreeMap<PathBuf, Identity>> = Mutex::new(BTreeMap::new());

/// Device and inode; outside Unix every file that is there is taken for the one that was opened.
type Identity = (u64, u64);

/// A file that a lane has opened. While it is open, no other file can be given its identity.
pub(super) struct Opened {
    path: PathBuf,
    identity: Identity,
}

impl Opened {
    /// Opens a file by `connect`, which is told whether a lane of this process has opened it before. Then a missing one
    /// is waited for, and so is that one where another stands (I2, I3).
    pub(super) fn open(
        path: &Path,
        connect: impl FnOnce(bool) -> Result<Connection>,
    ) -> Result<(Connection, Self)> {
        let known = opened().get(path).copied();
        let before = match (stands_at(path), known) {
            (Err(error), Some(_)) => return Err(error),
            (Ok(found), Some(known)) if found != known => return Err(another(path)),
            (found, _) => found.ok(),
        };
        let connection = connect(known.is_some()).map_err(|error| match stands_at(path) {
            // It went meanwhile.
            Err(gone) if known.is_some() => gone,
            _ => error,
        })?;
        let identity = stands_at(path)?;
        if before.is_some_and(|before| before != identity) {
            return Err(another(path));
        }
        opened().insert(path.to_owned(), identity);
        Ok((connection, Self { path: path.to_owned(), identity }))
    }

    /// Fails when the file is no longer what stands at its path.
    pub(super) fn stands(&self) -> Result<()> {
        if stands_at(&self.path)? == self.identity { Ok(()) } else { Err(another(&self.path)) }
    }
}

/// States whether a lane of this process has opened the file.
pub(super) fn was_opened(path: &Path) -> bool {
    opened().contains_key(path)
}

/// Returns the error of a file that is there no more.
pub(super) fn gone(path: &Path) -> Error {
    unavailable(format!("the file {} is gone", path.display()), GONE)
}

fn another(path: &Path) -> Error {
    unavailable(format!("another file stands at {} than the one that was opened", path.display()), ANOTHER)
}

fn unavailable(why: String, hint: &str) -> Error {
    Error::new(ErrorKind::Unavailable, DOING, why).hint(hint)
}

fn stands_at(path: &Path) -> Result<Identity> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(identity(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone(path)),
        Err(error) => {
            Err(Error::caused(ErrorKind::Unavailable, format!("look at {}", path.display()), error))
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

fn opened() -> MutexGuard<'static, BTreeMap<PathBuf, Identity>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}
