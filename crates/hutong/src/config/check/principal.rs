//! Who departments are for the cluster: one name each, in Kafka's form, where there is a cluster that asks.

use std::collections::BTreeMap;

use super::Check;
use crate::config::document::Document;

/// Tells what is wrong with the principals.
pub(super) fn check(check: &mut Check<'_>) {
    let document = check.document;
    let embedded = document.bus.as_ref().is_none_or(|bus| bus.body.kafka.is_none() && !bus.told(&["kafka"]));
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in document.departments.values() {
        let Some(written) = &entry.body.principal else { continue };
        let (at, name) = (entry.at(written.span().start), written.get_ref().as_str());
        let user = name.strip_prefix("User:").unwrap_or_default();
        if user.is_empty() || user.trim() != user || user == "*" || user == "ANONYMOUS" {
            let message =
                format!("`principal` is `{name}`, which is no one of whom the cluster could be told");
            check.error(at, message, Some("principal = \"User:NAME\", as the brokers know it".into()));
            continue;
        }
        // I5: whoever is two departments would read what is granted to either.
        if let Some(other) = known.insert(name, &entry.name) {
            let message = format!("`{name}` is the principal of `{other}` as well");
            check.error(at, message, Some("each department reads under a name of its own".into()));
        }
        if embedded {
            let hint = "an embedded bus is one process's own folder".to_owned();
            check.warn(at, "`principal` says nothing without Kafka", Some(hint));
        }
    }
}

/// Returns the principals, by the departments' short names.
pub(super) fn all(document: &Document) -> BTreeMap<String, String> {
    let named = document.departments.iter();
    named
        .filter_map(|(short, entry)| Some((short.clone(), entry.body.principal.as_ref()?.get_ref().clone())))
        .collect()
}
