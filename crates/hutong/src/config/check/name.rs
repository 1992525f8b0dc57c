//! Names: what they may be made of, and which are taken (DESIGN section 9).

use std::collections::BTreeMap;

use super::Check;
use crate::config::document::{At, Document, Entry};

/// A replication slot's name has at most 63 characters, and it is `hutong_<capture>`.
const LONGEST: usize = 56;

/// Tells every name that cannot be a part of topics, slots and tables.
pub(super) fn check(check: &mut Check<'_>) {
    let document = check.document;
    each(check, "department", &document.departments, false);
    each(check, "stream", &document.streams, true);
    each(check, "store", &document.stores, true);
    each(check, "capture", &document.captures, true);
    each(check, "subscription", &document.subscriptions, true);
    let empty = document.captures.is_empty() && document.subscriptions.is_empty();
    if empty && document.files.iter().all(|file| file.text.trim().is_empty()) && !document.files.is_empty() {
        let hint = "name a [capture.NAME] and a [subscription.NAME]".to_owned();
        check.error(At { file: 0, offset: 0 }, "the configuration is empty", Some(hint));
    }
}

fn each<T>(check: &mut Check<'_>, kind: &str, entries: &BTreeMap<String, Entry<T>>, underscore: bool) {
    for entry in entries.values() {
        one(check, kind, &entry.name, entry.at, underscore);
    }
}

/// Tells what is wrong with one name.
pub(super) fn one(check: &mut Check<'_>, kind: &str, name: &str, at: At, underscore: bool) {
    let form = if underscore { "[a-z][a-z0-9_]*" } else { "[a-z][a-z0-9]*" };
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || (underscore && c == '_');
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(inner) {
        let near: String = name.to_ascii_lowercase().replace('-', "_");
        let near: String = near.chars().filter(|c| inner(*c)).collect();
        let near = near.trim_start_matches(|c: char| !c.is_ascii_lowercase());
        let hint = match near {
            "" | "hutong" => {
                "names stand in topics and tables; a `name` or `title` may be in any script".to_owned()
            }
            near => format!("`{near}` would do"),
        };
        check.error(at, format!("the name `{name}` of a {kind} is not of the form {form}"), Some(hint));
    } else if name.len() > LONGEST {
        check.error(at, format!("the name `{name}` of a {kind} is longer than {LONGEST} characters"), None);
    } else if name == "hutong" {
        let hint = "choose another: Hutong's own topics and tables have it".to_owned();
        check.error(at, "the name `hutong` is reserved", Some(hint));
    }
}

/// Returns the departments' names, by their short names.
pub(super) fn departments(document: &Document) -> BTreeMap<String, String> {
    let name = |entry: &Entry<_>| match &entry.body {
        crate::config::file::Department { name: Some(name), .. } => name.get_ref().clone(),
        crate::config::file::Department { name: None, .. } => entry.name.clone(),
    };
    document.departments.iter().map(|(short, entry)| (short.clone(), name(entry))).collect()
}
