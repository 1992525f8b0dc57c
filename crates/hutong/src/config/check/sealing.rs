//! Sealed columns: whose keys act here, and which lanes must run elsewhere. Fails closed: what cannot be opened here, or
//! does not work with sealed columns yet, is no configuration.

use std::collections::BTreeMap;

use hutong_core::seal::PublicKey;

use super::stream::Streams;
use super::{Check, keys};
use crate::config::document::Entry;
use crate::config::file;
use crate::config::plan::{CapturePlan, SealingPlan, StreamPlan, SubscriptionPlan, Target};

/// Reads `[sealing]`, and tells what stands against the sealed columns of captures and subscriptions.
pub(super) fn sealing(
    check: &mut Check<'_>,
    streams: &Streams,
    captures: &[CapturePlan],
    subscriptions: &[SubscriptionPlan],
) -> SealingPlan {
    let document = check.document;
    let mut plan = SealingPlan::default();
    let told = document.sealing.as_ref().is_some_and(|entry| !entry.broken.is_empty());
    if let Some(entry) = &document.sealing {
        plan = SealingPlan {
            keys: keys::files(check, entry, entry.body.keys.as_ref(), "hutong-sealing-key"),
            public: public(check, entry),
        };
    }
    for stream in streams.values().filter(|stream| stream.contract.seals()) {
        let here =
            captures.iter().any(|capture| capture.tables.iter().any(|(_, fed)| fed.name == stream.name));
        let Some(entry) = document.streams.get(&stream.name) else { continue };
        let (name, owner) = (&stream.name, &stream.owner);
        if stream.capture.is_none() {
            let message = format!("stream `{name}` has sealed columns, and no capture that seals them");
            check.error(entry.at, message, Some("name the `capture` that feeds it".into()));
        }
        if here && !told && !plan.keys.contains_key(owner) {
            let message = format!(
                "stream `{name}` has sealed columns ({}), and the key of `{owner}`, by which they are sealed, is not here",
                names(stream)
            );
            check.error(entry.at, message, Some(make(owner)));
        }
    }
    for subscription in subscriptions.iter().filter(|subscription| subscription.stream.contract.seals()) {
        if !told {
            lanes(check, &plan, subscription);
        }
    }
    plan
}

/// Tells whether the lanes of a subscription can run here.
fn lanes(check: &mut Check<'_>, plan: &SealingPlan, subscription: &SubscriptionPlan) {
    let Some(entry) = check.document.subscriptions.get(&subscription.name) else { return };
    let (name, owner, department) =
        (&subscription.name, &subscription.stream.owner, &subscription.department);
    if subscription.verify.is_some() {
        let message = format!(
            "subscription `{name}` is to be verified, which does not work with sealed columns yet: the comparison names \
             keys in clear"
        );
        check.error(entry.at, message, Some("take `verify` out".into()));
    }
    if let Target::Topic = subscription.into {
        // I5: as a whole, so that nobody need look which columns would stand there.
        let message = format!(
            "subscription `{name}` delivers into a topic, where what is sealed in `{}` would stand in clear",
            subscription.stream.name
        );
        let hint = format!(
            "let it write into a store, in a process that has the key of `{owner}`, or that of `{department}` for columns that \
             it is granted in every row"
        );
        check.error(entry.at, message, Some(hint));
    }
    let needed = subscription.opened();
    if needed.is_empty() || plan.keys.contains_key(owner) {
        return;
    }
    let given = subscription.given();
    let lacking = needed.iter().find(|field| !given.contains(field));
    let own = plan.keys.contains_key(department);
    if own && plan.public.contains_key(owner) && lacking.is_none() {
        return;
    }
    let (message, hint) = match lacking {
        Some(field) => (
            format!(
                "column `{field}` of `{}` is sealed, and subscription `{name}` masks it, filters rows or keys them by it: \
                 its lanes must run where the key of `{owner}` is",
                subscription.stream.name
            ),
            make(owner),
        ),
        None => (
            format!(
                "column `{}` of `{}` is sealed: the lanes of subscription `{name}` must run where the key of `{owner}` or \
                 of `{department}` is",
                needed.first().map_or("", String::as_str),
                subscription.stream.name
            ),
            format!(
                "{}; or name the key of `{department}` there, and in `public` that of `{owner}`",
                make(owner)
            ),
        ),
    };
    check.error(entry.at, message, Some(hint));
}

fn names(stream: &StreamPlan) -> String {
    stream.contract.sealed().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn make(department: &str) -> String {
    format!(
        "`hutong ledger keygen --sealing {department}.seal` makes one; then keys = {{ {department} = \"{department}.seal\" }} \
         under [sealing]"
    )
}

/// Returns the public keys, by department.
fn public(check: &mut Check<'_>, entry: &Entry<file::Sealing>) -> BTreeMap<String, PublicKey> {
    let mut keys = BTreeMap::new();
    let Some(written) = &entry.body.public else { return keys };
    for (department, text) in written.get_ref() {
        let at = entry.at(department.span().start);
        check.known("department", &check.document.departments, at, department.get_ref());
        match PublicKey::parse(text.get_ref()) {
            Ok(key) => drop(keys.insert(department.get_ref().clone(), key)),
            Err(error) => {
                let hint = "`hutong ledger keygen --sealing FILE` prints one".to_owned();
                check.error(entry.at(text.span().start), format!("`public`: {}", error.why()), Some(hint));
            }
        }
    }
    keys
}
