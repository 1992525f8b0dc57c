//! Captures: one store, many tables, one order.

use std::sync::Arc;
use std::time::Duration;

use super::Check;
use super::say::Part;
use super::store::{self, Stores};
use super::stream::Streams;
use crate::config::document::Entry;
use crate::config::file;
use crate::config::plan::CapturePlan;

/// Reads every `[capture.X]`.
pub(super) fn captures(check: &mut Check<'_>, stores: &Stores, streams: &Streams) -> Vec<CapturePlan> {
    let document = check.document;
    document.captures.values().filter_map(|entry| capture(check, entry, stores, streams)).collect()
}

fn capture(
    check: &mut Check<'_>,
    entry: &Entry<file::Capture>,
    stores: &Stores,
    streams: &Streams,
) -> Option<CapturePlan> {
    let document = check.document;
    let body = &entry.body;
    let what = format!("capture `{}`", entry.name);
    let part = Part::whole(entry, &what);
    let chunk_rows = check.number(entry, "chunk_rows", body.chunk_rows.as_ref(), 1..=1_000_000, 10_000);
    let watermark_interval = interval(check, entry);
    let from = check.text(&part, "from", body.from.as_ref());
    if let (Some(name), Some(written)) = (from, &body.from) {
        check.known("store", &document.stores, entry.at(written.span().start), name);
    }
    let written = check.required(&part, "tables", body.tables.as_ref())?;
    if written.get_ref().is_empty() {
        let hint = "tables = { \"public.TABLE\" = \"STREAM\" }".to_owned();
        check.error(entry.at(written.span().start), format!("{what} names no table"), Some(hint));
    }
    let mut tables = Vec::new();
    for (table, stream) in written.get_ref() {
        if table.get_ref().trim().is_empty() {
            check.error(entry.at(table.span().start), "the table's name is empty", None);
        } else if let Some(store) = from {
            store::table_name(check, entry.at(table.span().start), store, table.get_ref());
        }
        let at = entry.at(stream.span().start);
        if check.known("stream", &document.streams, at, stream.get_ref())
            && let Some(plan) = streams.get(stream.get_ref())
        {
            tables.push((table.get_ref().clone(), Arc::clone(plan)));
        }
    }
    let store = Arc::clone(stores.get(from?)?);
    Some(CapturePlan { name: entry.name.clone(), store, tables, chunk_rows, watermark_interval })
}

fn interval(check: &mut Check<'_>, entry: &Entry<file::Capture>) -> Duration {
    let default = Duration::from_secs(5);
    let Some(written) = &entry.body.watermark_interval else { return default };
    let read = written.get_ref().parse::<jiff::SignedDuration>().ok();
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3_600);
    match read.and_then(|span| Duration::try_from(span).ok()) {
        Some(span) if bounds.contains(&span) => span,
        _ => {
            let message = format!(
                "`watermark_interval` is `{}`, which is no time from 100 ms to 1 h",
                written.get_ref()
            );
            check.error(entry.at(written.span().start), message, Some("such as \"5s\" or \"500ms\"".into()));
            default
        }
    }
}
