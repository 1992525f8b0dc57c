//! The ledger: who governs it, whose keys act here, and how long patience and terms are.

use std::collections::BTreeSet;
use std::time::Duration;

use hutong_core::ledger::{Calendar, Charter, PublicKey};
use jiff::SpanRelativeTo;
use jiff::civil::Date;
use toml::Spanned;
use toml::value::Datetime;

use super::say::Part;
use super::{Check, keys};
use crate::config::document::Entry;
use crate::config::file;
use crate::config::plan::LedgerPlan;

/// How long lanes go on with verified grants while the ledger cannot be reached, unless configured.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Reads `[ledger]`; `None` without one, or when it is not whole.
pub(super) fn ledger(check: &mut Check<'_>, bus: &str) -> Option<LedgerPlan> {
    let document = check.document;
    let entry = document.ledger.as_ref()?;
    let body = &entry.body;
    let part = Part::whole(entry, "[ledger]");
    let governing = check.text(&part, "governing", body.governing.as_ref());
    if let (Some(name), Some(written)) = (governing, &body.governing) {
        check.known("department", &document.departments, entry.at(written.span().start), name);
    }
    let key = check.text(&part, "governing_key", body.governing_key.as_ref());
    let key = key.and_then(|text| match PublicKey::parse(text) {
        Ok(key) => Some(key),
        Err(error) => {
            let at = entry.at(body.governing_key.as_ref().map_or(0, |key| key.span().start));
            check.error(at, format!("`governing_key`: {}", error.why()), error.hint);
            None
        }
    });
    let id = match &body.id {
        None => Some(bus),
        id => check.text(&part, "id", id.as_ref()),
    };
    let keys = keys::files(check, entry, body.keys.as_ref(), "hutong-private-key");
    let patience = patience(check, entry);
    let answer_days = check.number(entry, "answer_days", body.answer_days.as_ref(), 1..=250, 10);
    let calendar = Calendar {
        holidays: days(check, entry, &body.holidays),
        workdays: days(check, entry, &body.workdays),
    };
    let charter = Charter { id: id?.to_owned(), governing: governing?.to_owned(), key: key? };
    Some(LedgerPlan { charter, keys, patience, answer_days, calendar })
}

fn patience(check: &mut Check<'_>, entry: &Entry<file::Ledger>) -> Duration {
    let Some(written) = &entry.body.patience else { return PATIENCE };
    let read = written.get_ref().parse::<jiff::Span>().ok();
    let read = read.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match read.and_then(|span| Duration::try_from(span).ok()) {
        Some(span) if (Duration::from_secs(5)..=24 * 30 * PATIENCE).contains(&span) => span,
        _ => {
            let message = format!("`patience` is `{}`, which is no time from 5 s to 30 d", written.get_ref());
            check.error(entry.at(written.span().start), message, Some("such as \"1h\" or \"30m\"".into()));
            PATIENCE
        }
    }
}

fn days(check: &mut Check<'_>, entry: &Entry<file::Ledger>, written: &[Spanned<Datetime>]) -> BTreeSet<Date> {
    let mut days = BTreeSet::new();
    for day in written {
        let date = day.get_ref().date.filter(|_| day.get_ref().time.is_none());
        let date = date.and_then(|date| {
            let (year, month, day) = (date.year.try_into(), date.month.try_into(), date.day.try_into());
            Date::new(year.ok()?, month.ok()?, day.ok()?).ok()
        });
        match date {
            Some(date) => drop(days.insert(date)),
            None => check.error(
                entry.at(day.span().start),
                "this is not a date",
                Some("such as 2026-10-01, without quotes".into()),
            ),
        }
    }
    days
}
