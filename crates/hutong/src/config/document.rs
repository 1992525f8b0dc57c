//! What was read: every entry of every file, each with its place, whole or not.

use std::collections::BTreeMap;

use hutong_core::problem::nearest;

use super::file;
use super::place::SourceText;

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// Which file.
    pub(super) file: usize,
    /// Which byte of it.
    pub(super) offset: usize,
}

/// One table of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Entry<T> {
    /// Its name: `renshe` of `[store.renshe]`.
    pub(super) name: String,
    /// Where the name stands.
    pub(super) at: At,
    /// What could be read of it.
    pub(super) body: T,
    /// The ways to what was taken out because it could not be read; an empty way: all of it.
    pub(super) broken: Vec<Vec<String>>,
}

impl<T> Entry<T> {
    /// Returns the place of a byte in this entry's file.
    pub(super) fn at(&self, offset: usize) -> At {
        At { file: self.at.file, offset }
    }

    /// States whether a key is missing because it was wrong or mistyped, which has been told already.
    pub(super) fn told(&self, path: &[&str]) -> bool {
        let same = |broken: &String, key: &str| broken == key || nearest(broken, [key]).is_some();
        self.broken.iter().any(|broken| broken.iter().zip(path).all(|(broken, key)| same(broken, key)))
    }
}

/// All files of a configuration.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) files: Vec<SourceText>,
    /// The kinds of entries of which a whole table cannot be read.
    pub(super) lost: Vec<String>,
    /// Whether every file is TOML at all.
    pub(super) readable: bool,
    pub(super) bus: Option<Entry<file::Bus>>,
    pub(super) http: Option<Entry<file::Http>>,
    pub(super) limits: Option<Entry<file::Limits>>,
    pub(super) ledger: Option<Entry<file::Ledger>>,
    pub(super) sealing: Option<Entry<file::Sealing>>,
    pub(super) departments: BTreeMap<String, Entry<file::Department>>,
    pub(super) streams: BTreeMap<String, Entry<file::Stream>>,
    pub(super) stores: BTreeMap<String, Entry<file::Store>>,
    pub(super) captures: BTreeMap<String, Entry<file::Capture>>,
    pub(super) subscriptions: BTreeMap<String, Entry<file::Subscription>>,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            lost: Vec::new(),
            readable: true,
            bus: None,
            http: None,
            limits: None,
            ledger: None,
            sealing: None,
            departments: BTreeMap::new(),
            streams: BTreeMap::new(),
            stores: BTreeMap::new(),
            captures: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        }
    }
}
