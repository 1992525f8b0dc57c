//! How much the lanes of a process hold together of what is read and not yet committed.
//!
//! One lane alone may hold a large batch while a commit runs; two hundred that all did would hold gigabytes. So they
//! read ahead of their commits only while there is room for all. A lane may always hold what it commits now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes all lanes together hold, roughly, before none reads ahead of a commit.
const ROOM_BYTES: usize = 32 << 20;

/// The room that lanes share. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub struct Ahead(Arc<AtomicUsize>);

impl Ahead {
    /// States whether a lane may read ahead of its commit.
    pub(crate) fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < ROOM_BYTES
    }

    /// Begins a share that holds nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share { ahead: self.clone(), bytes: 0 }
    }
}

/// What one lane holds; gives it back when it is dropped.
pub(crate) struct Share {
    ahead: Ahead,
    bytes: usize,
}

impl Share {
    /// Takes more; never refused.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.ahead.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ahead.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
