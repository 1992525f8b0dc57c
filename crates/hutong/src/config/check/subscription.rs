//! Subscriptions: who, what for, until when, and whether the stream may be had at all.

use std::sync::Arc;
use std::time::Duration;

use hutong_core::contract::Sharing;
use jiff::civil;
use jiff::tz::TimeZone;
use toml::Spanned;
use toml::value::Datetime;

use super::Check;
use super::grant;
use super::say::Part;
use super::store::{self, Stores};
use super::stream::Streams;
use crate::config::document::Entry;
use crate::config::file;
use crate::config::plan::{StreamPlan, SubscriptionPlan, Target};

/// Reads every `[subscription.X]`.
pub(super) fn subscriptions(
    check: &mut Check<'_>,
    stores: &Stores,
    streams: &Streams,
    zone: &TimeZone,
) -> Vec<SubscriptionPlan> {
    let document = check.document;
    let mut plans = Vec::new();
    for entry in document.subscriptions.values() {
        plans.extend(subscription(check, entry, stores, streams, zone));
    }
    grant::together(check, &plans);
    grant::apart(check, &plans);
    plans
}

fn subscription(
    check: &mut Check<'_>,
    entry: &Entry<file::Subscription>,
    stores: &Stores,
    streams: &Streams,
    zone: &TimeZone,
) -> Option<SubscriptionPlan> {
    let document = check.document;
    let body = &entry.body;
    let what = format!("subscription `{}`", entry.name);
    let part = Part::whole(entry, &what);
    let department = check.text(&part, "department", body.department.as_ref());
    if let (Some(name), Some(written)) = (department, &body.department) {
        check.known("department", &document.departments, entry.at(written.span().start), name);
    }
    let stream = check.text(&part, "stream", body.stream.as_ref());
    if let (Some(name), Some(written)) = (stream, &body.stream) {
        check.known("stream", &document.streams, entry.at(written.span().start), name);
    }
    let stream = stream.and_then(|name| streams.get(name));
    let purpose = check.text(&part, "purpose", body.purpose.as_ref());
    let open = stream.is_some_and(|stream| stream.sharing == Sharing::Unconditional);
    let legal_basis = match (&body.legal_basis, open) {
        (None, true) => Some(""),
        (basis, _) => check.text(&part, "legal_basis", basis.as_ref()),
    };
    let until = match (&body.until, open) {
        (None, true) => None,
        (until, _) => check.required(&part, "until", until.as_ref()),
    };
    let until = until.and_then(|until| self::until(check, entry, until, zone));
    let key = body.key.as_ref().and_then(|key| check.secret(entry, "key", key));
    let freshness = freshness(check, entry);
    let verify = verify(check, entry);
    check.required(&part, "columns", body.columns.as_ref());
    let into = into(check, entry, &what, stores);
    if let (Some(written), Some(Target::Topic)) = (&entry.body.verify, &into) {
        let message = format!("`verify` of {what} compares a replica, and it delivers into a topic");
        let hint = "leave it out: the department reads the topic itself".to_owned();
        check.error(entry.at(written.span().start), message, Some(hint));
    }
    let stream = stream?;
    may_be_had(check, entry, stream);
    let grant = grant::grant(check, entry, stream)?;
    Some(SubscriptionPlan {
        name: entry.name.clone(),
        department: department?.to_owned(),
        stream: Arc::clone(stream),
        purpose: purpose?.to_owned(),
        legal_basis: legal_basis?.to_owned(),
        until,
        columns: grant.columns,
        rows: grant.rows,
        masks: grant.masks,
        key,
        freshness,
        verify,
        into: into?,
        principal: super::principal::all(document).remove(department?),
    })
}

/// Returns how fresh the replica is promised to be.
fn freshness(check: &mut Check<'_>, entry: &Entry<file::Subscription>) -> Duration {
    let default = Duration::from_secs(60);
    let Some(written) = &entry.body.freshness else { return default };
    let read = written.get_ref().parse::<jiff::SignedDuration>().ok();
    let bounds = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
    match read.and_then(|span| Duration::try_from(span).ok()) {
        Some(span) if bounds.contains(&span) => span,
        _ => {
            let message =
                format!("`freshness` is `{}`, which is no time from 1 s to 720 h", written.get_ref());
            check.error(entry.at(written.span().start), message, Some("such as \"30s\" or \"5m\"".into()));
            default
        }
    }
}

/// Returns how often the replica is compared with its source.
fn verify(check: &mut Check<'_>, entry: &Entry<file::Subscription>) -> Option<Duration> {
    let written = entry.body.verify.as_ref()?;
    let read = written.get_ref().parse::<jiff::SignedDuration>().ok();
    // Whole tables are read for it, so not all the time.
    let bounds = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);
    let span = read.and_then(|span| Duration::try_from(span).ok()).filter(|span| bounds.contains(span));
    if span.is_none() {
        let message = format!("`verify` is `{}`, which is no time from 10 s to 720 h", written.get_ref());
        check.error(entry.at(written.span().start), message, Some("such as \"24h\" or \"30m\"".into()));
    }
    span
}

fn into(
    check: &mut Check<'_>,
    entry: &Entry<file::Subscription>,
    what: &str,
    stores: &Stores,
) -> Option<Target> {
    let whole = Part::whole(entry, what);
    let into = check.required(&whole, "into", entry.body.into.as_ref())?;
    let body = into.get_ref();
    if let Some(topic) = &body.topic {
        let (at, both) = (entry.at(topic.span().start), body.store.is_some() || body.table.is_some());
        let message = match (topic.get_ref(), both) {
            (true, false) => return Some(Target::Topic),
            (true, true) => format!("`into` of {what} names a topic and a table"),
            (false, _) => format!("`into` of {what} says that it is no topic, and not what it is"),
        };
        let hint = "either { topic = true } or { store = \"STORE\", table = \"SCHEMA.TABLE\" }".to_owned();
        check.error(at, message, Some(hint));
        return None;
    }
    let what = format!("`into` of {what}");
    let part = Part { entry, at: entry.at(into.span().start), what: &what, path: &["into"] };
    let store = check.text(&part, "store", body.store.as_ref());
    if let (Some(name), Some(written)) = (store, &body.store) {
        check.known("store", &check.document.stores, entry.at(written.span().start), name);
    }
    let table = check.text(&part, "table", body.table.as_ref());
    if let (Some(name), Some(written)) = (table, &body.table) {
        if let Some(store) = store {
            store::table_name(check, entry.at(written.span().start), store, name);
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if name.split('.').any(|part| part.trim_matches('"') == "hutong") || last.starts_with("hutong_") {
            let hint = "choose another: Hutong keeps its own tables there".to_owned();
            check.error(
                entry.at(written.span().start),
                format!("the table `{name}` has a reserved name"),
                Some(hint),
            );
        }
    }
    let store = store.and_then(|name| stores.get(name)).cloned();
    Some(Target::Table { store: store?, table: table?.to_owned() })
}

/// Returns the last day.
fn until(
    check: &mut Check<'_>,
    entry: &Entry<file::Subscription>,
    until: &Spanned<Datetime>,
    zone: &TimeZone,
) -> Option<civil::Date> {
    let at = entry.at(until.span().start);
    let (Some(date), None, None) = (until.get_ref().date, until.get_ref().time, until.get_ref().offset)
    else {
        check.error(at, "`until` is not a date", Some("the last day, such as 2027-12-31".into()));
        return None;
    };
    let (Ok(year), Ok(month), Ok(day)) = (date.year.try_into(), date.month.try_into(), date.day.try_into())
    else {
        return None;
    };
    let Ok(day) = civil::Date::new(year, month, day) else {
        check.error(at, "`until` is out of the calendar", None);
        return None;
    };
    if hutong_core::grant::expired(day, zone, check.now.as_microsecond()) {
        let message = format!("subscription `{}` has expired: nothing flows", entry.name);
        check.warn(at, message, Some("ask for a new term, or remove the subscription".into()));
    }
    Some(day)
}

/// I5: what is not shared cannot be subscribed to.
fn may_be_had(check: &mut Check<'_>, entry: &Entry<file::Subscription>, stream: &StreamPlan) {
    let Some(written) = &entry.body.stream else { return };
    let at = entry.at(written.span().start);
    if let Sharing::Denied(law) = &stream.sharing {
        let message = format!("stream `{}` is not shared: {law}", stream.name);
        check.error(at, message, Some("its catalogue entry would have to change first".into()));
    }
    if let Some(department) = &entry.body.department
        && *department.get_ref() == stream.owner
    {
        let message = format!("`{}` owns the stream `{}` that it subscribes to", stream.owner, stream.name);
        check.warn(entry.at(department.span().start), message, None);
    }
    let embedded =
        check.document.bus.as_ref().is_none_or(|bus| bus.body.kafka.is_none() && !bus.told(&["kafka"]));
    // A capture whose names are wrong may be the one that is missing.
    if embedded && check.errors() == 0 && stream.capture.is_none() {
        let message = format!("no capture feeds the stream `{}`, so nothing will arrive", stream.name);
        check.warn(at, message, Some("an embedded bus has no other process that could".into()));
    }
}
