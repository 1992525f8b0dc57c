//! The files of private keys that a table names, of the ledger and of sealed columns alike.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;

use super::Check;
use crate::config::document::Entry;
use crate::config::file::Text;

/// Returns the files, by department. `mark` begins the text of such a key: one that is written out is refused.
pub(super) fn files<T>(
    check: &mut Check<'_>,
    entry: &Entry<T>,
    written: Option<&Spanned<BTreeMap<Text, Text>>>,
    mark: &str,
) -> BTreeMap<String, PathBuf> {
    let mut keys = BTreeMap::new();
    let Some(written) = written else { return keys };
    for (department, path) in written.get_ref() {
        let at = entry.at(department.span().start);
        check.known("department", &check.document.departments, at, department.get_ref());
        let at = entry.at(path.span().start);
        if path.get_ref().starts_with(mark) {
            let hint = "keep the key in a file of mode 600, and name the file".to_owned();
            check.error(at, "a private key may not be written out", Some(hint));
        } else if path.get_ref().trim().is_empty() {
            check.error(at, "the file of a key has no name", None);
        } else {
            let folder = check.document.files[at.file].folder();
            keys.insert(department.get_ref().clone(), folder.join(path.get_ref()));
        }
    }
    keys
}
