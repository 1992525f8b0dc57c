//! Streams: owner, contract, and who may have them at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use hutong_core::Contract;
use hutong_core::contract::Sharing;
use hutong_core::mask::Mask;
use hutong_core::problem::nearest;

use super::say::Part;
use super::{Check, name};
use crate::config::document::Entry;
use crate::config::file;
use crate::config::plan::{Compatibility, StreamPlan};

/// The streams whose contract can be read, by name.
pub(super) type Streams = BTreeMap<String, Arc<StreamPlan>>;

/// Reads every `[stream.X]`.
pub(super) fn streams(check: &mut Check<'_>, partitions: u32) -> Streams {
    let document = check.document;
    let mut streams = Streams::new();
    for entry in document.streams.values() {
        if let Some(stream) = stream(check, entry, partitions) {
            streams.insert(entry.name.clone(), Arc::new(stream));
        }
    }
    streams
}

fn stream(check: &mut Check<'_>, entry: &Entry<file::Stream>, partitions: u32) -> Option<StreamPlan> {
    let body = &entry.body;
    let what = format!("stream `{}`", entry.name);
    let part = Part::whole(entry, &what);
    let owner = check.text(&part, "owner", body.owner.as_ref());
    if let (Some(name), Some(written)) = (owner, &body.owner) {
        check.known("department", &check.document.departments, entry.at(written.span().start), name);
    }
    let generation = check.number(entry, "generation", body.generation.as_ref(), 1..=1_000_000, 1);
    let partitions = check.number(entry, "partitions", body.partitions.as_ref(), 1..=1_000, partitions);
    let compatibility = compatibility(check, entry);
    let contract = contract(check, entry)?;
    let sharing = sharing(check, entry, &contract);
    let capture = capture(check, entry);
    let delivered = delivered(check, entry, capture.as_deref());
    Some(StreamPlan {
        name: entry.name.clone(),
        // A stream whose owner has a problem still has columns to check subscriptions against; it never becomes a plan.
        owner: owner.unwrap_or_default().to_owned(),
        contract: contract.shared(),
        sharing,
        generation,
        partitions,
        compatibility,
        capture,
        delivered,
    })
}

/// Returns the capture that feeds the stream: the one of this configuration, or else the one that it names.
fn capture(check: &mut Check<'_>, entry: &Entry<file::Stream>) -> Option<String> {
    let document = check.document;
    let here = document.captures.values().find(|capture| {
        let tables = capture.body.tables.as_ref();
        tables.is_some_and(|tables| tables.get_ref().values().any(|stream| stream.get_ref() == &entry.name))
    });
    let here = here.map(|capture| capture.name.clone());
    let Some(written) = &entry.body.capture else { return here };
    let (at, named) = (entry.at(written.span().start), written.get_ref());
    match &here {
        Some(here) if here == named => return Some(here.clone()),
        Some(here) => {
            let message = format!("capture `{here}` feeds the stream, and `capture` names `{named}`");
            check.error(at, message, Some("leave it out where the capture is".into()));
            return Some(here.clone());
        }
        None => {}
    }
    name::one(check, "capture", named, at, true);
    if document.captures.contains_key(named) {
        let message =
            format!("capture `{named}` is here, and none of its tables is the stream `{}`", entry.name);
        check.error(at, message, Some(format!("add it: tables = {{ \"TABLE\" = \"{}\" }}", entry.name)));
    } else if document.bus.as_ref().is_none_or(|bus| bus.body.kafka.is_none() && !bus.told(&["kafka"])) {
        let message = format!("capture `{named}` is not here, and nothing else writes an embedded bus");
        check.error(at, message, Some("add the capture, or leave `capture` out".into()));
    }
    Some(named.clone())
}

/// Returns the subscription whose delivery topic is read: by a department that runs its own half.
fn delivered(check: &mut Check<'_>, entry: &Entry<file::Stream>, capture: Option<&str>) -> Option<String> {
    let written = entry.body.delivered.as_ref()?;
    let (at, named) = (entry.at(written.span().start), written.get_ref());
    name::one(check, "subscription", named, at, true);
    if let Some(capture) = capture {
        let message =
            format!("the stream is read as delivered to `{named}`, and capture `{capture}` feeds it");
        let hint =
            "a delivery topic is written by who captures the stream: leave `delivered` out there".to_owned();
        check.error(at, message, Some(hint));
    }
    Some(named.clone())
}

fn compatibility(check: &mut Check<'_>, entry: &Entry<file::Stream>) -> Compatibility {
    let Some(written) = &entry.body.compatibility else { return Compatibility::default() };
    let text = written.get_ref();
    if let Some(found) = Compatibility::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(text)) {
        return found;
    }
    let known: Vec<String> = Compatibility::ALL.iter().map(|c| c.name().to_ascii_lowercase()).collect();
    let hint = match nearest(text, known.iter().map(String::as_str)) {
        _ if text.eq_ignore_ascii_case("none") => {
            "readers would break without a word; open a new `generation`".into()
        }
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of {}", known.join(", ")),
    };
    let at = entry.at(written.span().start);
    check.error(at, format!("`compatibility` cannot be `{text}`"), Some(hint));
    Compatibility::default()
}

fn contract(check: &mut Check<'_>, entry: &Entry<file::Stream>) -> Option<Contract> {
    let what = format!("stream `{}`", entry.name);
    let part = Part::whole(entry, &what);
    let path = check.text(&part, "contract", entry.body.contract.as_ref())?;
    let at = entry.at(entry.body.contract.as_ref()?.span().start);
    let contract = match check.contracts.get(&entry.name)? {
        Ok(contract) => contract.clone(),
        Err(why) => {
            let message = format!("the contract {path} cannot be read: {}", why.message);
            check.error(at, message, why.hint.clone());
            return None;
        }
    };
    if contract.stream != entry.name {
        let message =
            format!("the contract {path} is of stream `{}`, not of `{}`", contract.stream, entry.name);
        check.error(at, message, Some("a contract's `name` is its stream's".into()));
    }
    for field in &contract.fields {
        let Some(name) = &field.mask else { continue };
        let reason = match Mask::parse(name) {
            Err(_) => "which nobody knows".to_owned(),
            Ok(mask) if !mask.accepts(&field.ty) => format!("which does not fit {}", field.ty.name()),
            Ok(_) => continue,
        };
        let message = format!("the contract {path} gives `{}` the mask `{name}`, {reason}", field.name);
        check.error(at, message, None);
    }
    Some(contract)
}

/// The configuration may narrow what the contract says, never widen it (I5).
fn sharing(check: &mut Check<'_>, entry: &Entry<file::Stream>, contract: &Contract) -> Sharing {
    let Some(written) = &entry.body.sharing else { return contract.sharing.clone() };
    let at = entry.at(written.span().start);
    let wanted = match written.get_ref() {
        file::Sharing::Unconditional => Sharing::Unconditional,
        file::Sharing::Conditional(condition) => Sharing::Conditional(condition.clone()),
        file::Sharing::None(law) => Sharing::Denied(law.clone()),
    };
    if let Sharing::Conditional(words) | Sharing::Denied(words) = &wanted
        && words.trim().is_empty()
    {
        check.error(at, "`sharing` needs its reason in words: the condition, or the law", None);
    }
    if rank(&wanted) < rank(&contract.sharing) {
        let message = format!(
            "`sharing` is {} here and {} in the contract: a configuration may only narrow it",
            word(&wanted),
            word(&contract.sharing)
        );
        check.error(at, message, Some("change the contract, with the owner's review".into()));
        return contract.sharing.clone();
    }
    wanted
}

fn rank(sharing: &Sharing) -> u8 {
    match sharing {
        Sharing::Unconditional => 0,
        Sharing::Conditional(_) => 1,
        Sharing::Denied(_) => 2,
    }
}

fn word(sharing: &Sharing) -> &'static str {
    match sharing {
        Sharing::Unconditional => "unconditional",
        Sharing::Conditional(_) => "conditional",
        Sharing::Denied(_) => "none",
    }
}
