//! What a subscription may hold: columns, masks, rows, and what they tell together.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::filter::Filter;
use hutong_core::grant::{self, Grant, Halves, Permit};
use hutong_core::mask::Mask;
use hutong_core::problem::nearest;
use hutong_core::{Contract, Field, Secret};

use super::Check;
use crate::config::document::{At, Entry};
use crate::config::file::{self, Text};
use crate::config::place;
use crate::config::plan::{StreamPlan, SubscriptionPlan};

/// Makes the grant of a subscription, without its key, which is a secret and is read later.
pub(super) fn grant(
    check: &mut Check<'_>,
    entry: &Entry<file::Subscription>,
    stream: &StreamPlan,
) -> Option<Grant> {
    let body = &entry.body;
    let contract = &stream.contract;
    let what = format!("subscription `{}`", entry.name);
    let before = check.errors();
    filter(check, entry, contract);
    let written = body.columns.as_ref()?;
    let place = entry.at(written.span().start);
    let columns = columns(check, entry, contract, written.get_ref());
    if written.get_ref().is_empty() && !entry.told(&["columns"]) {
        let hint = "name what the purpose needs; there is no word for all columns".to_owned();
        check.error(place, format!("{what} names no column"), Some(hint));
    }
    let masks = masks(check, entry, contract, &columns);
    let grant = Grant {
        subscription: entry.name.clone(),
        stream: entry.body.stream.as_ref()?.get_ref().clone(),
        columns,
        rows: body.rows.as_ref().map(|rows| rows.get_ref().clone()),
        masks,
        until: None,
        key: Secret::new(""),
    };
    for problem in grant::linkage(contract, &grant) {
        check.error(place, problem.message, problem.hint);
    }
    key(check, entry, contract, &grant);
    // What the core refuses and no check above has told must not become a plan (I5).
    if check.errors() == before
        && !written.get_ref().is_empty()
        && let Err(problems) = Permit::new(Arc::clone(contract), &grant)
        && !matches!(stream.contract.sharing, hutong_core::contract::Sharing::Denied(_))
    {
        for problem in problems {
            check.error(entry.at, format!("{what}: {}", problem.message), problem.hint);
        }
    }
    Some(grant)
}

/// Returns the granted columns that exist and may be shared.
fn columns(
    check: &mut Check<'_>,
    entry: &Entry<file::Subscription>,
    contract: &Contract,
    written: &[Text],
) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for column in written {
        let (name, at) = (column.get_ref(), entry.at(column.span().start));
        let Some(field) = contract.field(name) else {
            unknown_column(check, contract, name, at);
            continue;
        };
        if let Some(law) = field.not_shared() {
            let message = format!("column `{name}` of `{}` is not shared: {law}", contract.stream);
            check.error(at, message, Some("leave it out".into()));
        } else if columns.contains(name) {
            check.error(at, format!("column `{name}` stands twice"), Some("keep one".into()));
        } else {
            columns.push(name.clone());
        }
    }
    columns
}

fn unknown_column(check: &mut Check<'_>, contract: &Contract, name: &str, at: At) {
    let hint = match contract.fields.iter().find(|field| field.column() == name || field.title() == name) {
        Some(field) => Some(format!("its wire name is `{}`", field.name)),
        None if name == "*" => {
            Some("name what the purpose needs; there is no word for all columns".to_owned())
        }
        None => {
            let names: Vec<&str> = contract.fields.iter().map(|field| field.name.as_str()).collect();
            Some(match nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", names.join(", ")),
            })
        }
    };
    check.error(at, format!("column `{name}` is not in the contract of {}", contract.stream), hint);
}

/// Returns the masks: the contract's, less what `clear` lifts, and what `mask` puts in their place.
fn masks(
    check: &mut Check<'_>,
    entry: &Entry<file::Subscription>,
    contract: &Contract,
    columns: &[String],
) -> BTreeMap<String, Mask> {
    // A contract's wrong mask is told with its stream.
    let mut masks = grant::default_masks(contract, columns).unwrap_or_default();
    for column in &entry.body.clear {
        let (name, at) = (column.get_ref(), entry.at(column.span().start));
        if !granted(check, contract, columns, name, at, "clear") {
            continue;
        }
        if entry.body.mask.keys().any(|masked| masked.get_ref() == name) {
            check.error(
                at,
                format!("column `{name}` is both in `clear` and in `mask`"),
                Some("keep one".into()),
            );
        } else if masks.remove(name).is_none() {
            check.warn(
                at,
                format!("column `{name}` has no mask to lift"),
                Some("take it out of `clear`".into()),
            );
        }
    }
    for (column, mask) in &entry.body.mask {
        let (name, at) = (column.get_ref(), entry.at(column.span().start));
        let known = granted(check, contract, columns, name, at, "mask");
        let at = entry.at(mask.span().start);
        let word = mask.get_ref();
        let Some(mask) = Mask::ALL.into_iter().find(|mask| mask.name() == word) else {
            let names = Mask::ALL.map(Mask::name);
            let hint = match nearest(word, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of {}", names.join(", ")),
            };
            check.error(at, format!("there is no mask `{word}`"), Some(hint));
            continue;
        };
        let Some(field) = contract.field(name).filter(|_| known) else { continue };
        if mask.accepts(&field.ty) {
            masks.insert(name.clone(), mask);
            continue;
        }
        let fit: Vec<_> =
            Mask::ALL.into_iter().filter(|mask| mask.accepts(&field.ty)).map(Mask::name).collect();
        let hint = match fit.is_empty() {
            true => "no mask fits this type; leave the column out".to_owned(),
            false => format!("masks that fit: {}", fit.join(", ")),
        };
        check.error(
            at,
            format!("the mask `{word}` does not fit `{name}`, which is {}", field.ty.name()),
            Some(hint),
        );
    }
    masks
}

/// States whether a column is granted, and tells when it is not.
fn granted(
    check: &mut Check<'_>,
    contract: &Contract,
    columns: &[String],
    name: &str,
    at: At,
    key: &str,
) -> bool {
    let Some(field) = contract.field(name) else {
        unknown_column(check, contract, name, at);
        return false;
    };
    let there = columns.iter().any(|column| column == name);
    if !there && field.not_shared().is_none() {
        let hint = format!("add it to `columns`, or take it out of `{key}`");
        check.error(at, format!("`{key}` names `{name}`, which is not in `columns`"), Some(hint));
    }
    there
}

/// Tells what is wrong with the row filter, each at its place inside the text.
fn filter(check: &mut Check<'_>, entry: &Entry<file::Subscription>, contract: &Contract) {
    let Some(written) = &entry.body.rows else { return };
    let start = written.span().start;
    match Filter::compile(written.get_ref(), contract) {
        Err(problems) => {
            let text = &check.document.files[entry.at.file].text;
            let at = |offset| entry.at(place::inside(text, written.span(), offset));
            let placed: Vec<_> = problems
                .into_iter()
                .map(|problem| {
                    (problem.span.as_ref().map_or(entry.at(start), |span| at(span.start)), problem)
                })
                .collect();
            for (at, problem) in placed {
                check.error(at, format!("row filter: {}", problem.message), problem.hint);
            }
        }
        // I5: which rows arrive would tell the value.
        Ok(filter) => {
            for field in filter.columns().iter().filter_map(|at| contract.fields.get(*at)) {
                if let Some(law) = field.not_shared() {
                    let message = format!("row filter: column `{}` is not shared: {law}", field.name);
                    check.error(
                        entry.at(start),
                        message,
                        Some("which rows arrive would tell its value".into()),
                    );
                }
            }
        }
    }
}

/// Tells a missing key, where a pseudonym or a hidden row key needs one.
fn key(check: &mut Check<'_>, entry: &Entry<file::Subscription>, contract: &Contract, grant: &Grant) {
    if entry.body.key.is_some() || entry.told(&["key"]) || entry.told(&["columns"]) {
        return;
    }
    let clear = |field: &Field| grant.columns.contains(&field.name) && !grant.masks.contains_key(&field.name);
    let pseudonym = grant.masks.iter().find(|(_, mask)| **mask == Mask::Pseudonym);
    let hidden = contract.key_fields().find(|field| !clear(field));
    let reason = match (pseudonym, hidden) {
        (Some((column, _)), _) => format!("`{column}` is masked by `pseudonym`"),
        (None, Some(field)) => format!("the row key `{}` is not granted in clear", field.name),
        (None, None) => return,
    };
    let name = &entry.name;
    let hint = format!("openssl rand -hex 32 > {name}.key, then key = {{ file = \"{name}.key\" }}");
    check.error(entry.at, format!("subscription `{name}` needs a `key`: {reason}"), Some(hint));
}

/// Tells of departments that share a key: they could join by their pseudonyms what they were given apart.
pub(super) fn apart(check: &mut Check<'_>, plans: &[SubscriptionPlan]) {
    for (at, own) in plans.iter().enumerate() {
        let shared = |other: &&SubscriptionPlan| other.key.is_some() && other.key == own.key;
        let other = plans[..at].iter().find(|other| other.department != own.department && shared(other));
        let Some((other, entry)) = other.zip(check.document.subscriptions.get(&own.name)) else { continue };
        let (name, others) = (&own.name, &other.department);
        let message = format!(
            "subscription `{name}` has the key of `{}`, which is of `{others}`: both could join by it what they were \
             given apart",
            other.name
        );
        let hint = format!("openssl rand -hex 32 > {name}.key, then key = {{ file = \"{name}.key\" }}");
        check.error(entry.at, message, Some(hint));
    }
}

/// Tells what two subscriptions of one department give away together, though neither does alone; whichever streams
/// they are of.
pub(super) fn together(check: &mut Check<'_>, plans: &[SubscriptionPlan]) {
    let halves =
        |plan: &SubscriptionPlan| Halves::of(Some(&plan.stream.contract), &plan.columns, &plan.masks);
    // What one gives away alone has been told.
    let alone = |plan: &&SubscriptionPlan| halves(plan).completed_by(&halves(plan)).is_empty();
    for number in plans.iter().filter(alone) {
        for birth in plans.iter().filter(alone) {
            if number.name == birth.name || number.department != birth.department {
                continue;
            }
            let same = number.stream.name == birth.stream.name;
            let clear = |column: &String| birth.columns.contains(column) && !birth.masks.contains_key(column);
            let mut numbers = halves(number);
            numbers.numbers.retain(|column| !same || !clear(column));
            let Some(entry) = check.document.subscriptions.get(&birth.name) else { continue };
            let Some(columns) = &entry.body.columns else { continue };
            let at = entry.at(columns.span().start);
            for (masked, date) in numbers.completed_by(&halves(birth)) {
                let of = if same { String::new() } else { format!(" of `{}`", number.stream.name) };
                let message = format!(
                    "together with subscription `{}` of the same department, `{masked}`{of} is masked by `id`, and \
                     beside it `{date}` gives the masked digits away",
                    number.name
                );
                let hint = format!("mask `{date}` by `year`, or `{masked}` by `id_short` or `pseudonym`");
                check.error(at, message, Some(hint));
            }
        }
    }
}
