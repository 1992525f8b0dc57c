//! Stores: one system each, and an address.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Check;
use super::say::Part;
use crate::config::document::Entry;
use crate::config::file;
use crate::config::plan::{StorePlan, StoreSystem};

/// The stores that are whole, by name.
pub(super) type Stores = BTreeMap<String, Arc<StorePlan>>;

/// Reads every `[store.X]`.
pub(super) fn stores(check: &mut Check<'_>) -> Stores {
    let document = check.document;
    let mut stores = Stores::new();
    for entry in document.stores.values() {
        if let Some(system) = system(check, entry) {
            stores.insert(entry.name.clone(), Arc::new(StorePlan { name: entry.name.clone(), system }));
        }
    }
    stores
}

fn system(check: &mut Check<'_>, entry: &Entry<file::Store>) -> Option<StoreSystem> {
    let what = format!("store `{}`", entry.name);
    match (&entry.body.postgres, &entry.body.sqlite) {
        (Some(postgres), None) => {
            let body = postgres.get_ref();
            let connections = check.number(entry, "connections", body.connections.as_ref(), 1..=1_000, 4);
            let what = format!("[store.{}.postgres]", entry.name);
            let part = Part { entry, at: entry.at(postgres.span().start), what: &what, path: &["postgres"] };
            let url = check.required(&part, "url", body.url.as_ref())?;
            Some(StoreSystem::Postgres { url: check.address(entry, "url", url)?, connections })
        }
        (None, Some(sqlite)) => {
            let what = format!("[store.{}.sqlite]", entry.name);
            let part = Part { entry, at: entry.at(sqlite.span().start), what: &what, path: &["sqlite"] };
            let path = check.text(&part, "path", sqlite.get_ref().path.as_ref())?;
            let folder = check.document.files[entry.at.file].folder();
            Some(StoreSystem::Sqlite { path: folder.join(path) })
        }
        (None, None) => {
            if !entry.told(&["postgres"]) && !entry.told(&["sqlite"]) && entry.broken.is_empty() {
                let hint =
                    format!("[store.{0}.postgres] with `url`, or [store.{0}.sqlite] with `path`", entry.name);
                check.error(entry.at, format!("{what} names no system"), Some(hint));
            }
            None
        }
        (Some(_), Some(_)) => {
            check.error(
                entry.at,
                format!("{what} names two systems"),
                Some("a store is one database".into()),
            );
            None
        }
    }
}
