//! Stores: one system each, and an address.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_stores::postgres;
use hutong_stores::postgres::ident::TableName;

use super::Check;
use super::say::Part;
use crate::config::document::{At, Entry};
use crate::config::file;
use crate::config::plan::{SecretSource, StorePlan, StoreSystem};

/// The stores that are whole, by name.
pub(super) type Stores = BTreeMap<String, Arc<StorePlan>>;

/// Tells when a table's name cannot be one in the store.
pub(super) fn table_name(check: &mut Check<'_>, at: At, store: &str, written: &str) {
    let postgres = check.document.stores.get(store).is_some_and(|entry| entry.body.postgres.is_some());
    if postgres && let Err(error) = TableName::parse(written) {
        let hint = "write schema.table; a part with a dot or capitals stands in double quotes".to_owned();
        check.error(at, format!("the table's name `{written}` cannot be read: {}", error.why()), Some(hint));
    }
}

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
            let at = entry.at(url.span().start);
            let url = check.address(entry, "url", url)?;
            if let SecretSource::Text(text) = &url
                && let Err(error) = postgres::check_address(text)
            {
                check.error(at, format!("`url` cannot be read: {}", error.why()), error.hint.clone());
                return None;
            }
            Some(StoreSystem::Postgres { url, connections })
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
