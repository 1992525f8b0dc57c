//! Where rows go round: tables with two writers, streams with two feeds, circles, and data that is passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use hutong_stores::postgres::ident::TableName;

use super::Check;
use crate::config::document::{At, Document};
use crate::config::file::{self, Sourced};

/// A table that feeds a stream.
struct Feed<'a> {
    at: At,
    capture: &'a str,
    table: Table,
    stream: &'a str,
}

/// A stream that fills a table.
struct Fill<'a> {
    at: At,
    subscription: &'a str,
    stream: &'a str,
    table: Table,
}

/// A table: what it is, however it is written.
#[derive(Debug, Clone)]
struct Table {
    system: Sourced,
    name: Vec<String>,
    written: String,
}

impl Table {
    fn same(&self, other: &Self) -> bool {
        (&self.system, &self.name) == (&other.system, &other.name)
    }
}

/// Tells what is wrong with the graph of captures and subscriptions.
pub(super) fn check(check: &mut Check<'_>) {
    let document = check.document;
    let mut feeds = feeds(document);
    let mut fills = fills(document);
    feeds.sort_by_key(|feed| (feed.at.file, feed.at.offset));
    fills.sort_by_key(|fill| (fill.at.file, fill.at.offset));
    doubles(check, &feeds, &fills);
    let round = circles(check, &feeds, &fills);
    for feed in &feeds {
        if let Some(fill) =
            fills.iter().find(|fill| fill.table.same(&feed.table) && !round.contains(fill.subscription))
        {
            let message = format!(
                "capture `{}` passes on in stream `{}` what subscription `{}` receives of stream `{}`",
                feed.capture, feed.stream, fill.subscription, fill.stream
            );
            let hint =
                "a receiver may not pass data on; the next department subscribes to the owner's stream"
                    .to_owned();
            check.warn(feed.at, message, Some(hint));
        }
    }
    two_departments(check);
}

fn feeds(document: &Document) -> Vec<Feed<'_>> {
    let mut feeds = Vec::new();
    for entry in document.captures.values() {
        let (Some(from), Some(tables)) = (&entry.body.from, &entry.body.tables) else { continue };
        for (table, stream) in tables.get_ref() {
            if let Some(found) = self::table(document, from.get_ref(), table.get_ref()) {
                let at = entry.at(table.span().start);
                feeds.push(Feed { at, capture: &entry.name, table: found, stream: stream.get_ref() });
            }
        }
    }
    feeds
}

fn fills(document: &Document) -> Vec<Fill<'_>> {
    let fill = |entry: &'_ crate::config::document::Entry<file::Subscription>| {
        let into = entry.body.into.as_ref()?;
        let (store, written) = (into.get_ref().store.as_ref()?, into.get_ref().table.as_ref()?);
        let table = self::table(document, store.get_ref(), written.get_ref())?;
        Some((entry.at(written.span().start), table))
    };
    let mut fills = Vec::new();
    for entry in document.subscriptions.values() {
        if let (Some((at, table)), Some(stream)) = (fill(entry), &entry.body.stream) {
            fills.push(Fill { at, subscription: &entry.name, stream: stream.get_ref(), table });
        }
    }
    fills
}

/// Returns which table a name means in a store; `None` when the store is not whole.
fn table(document: &Document, store: &str, written: &str) -> Option<Table> {
    let entry = document.stores.get(store)?;
    let (system, name) = match (&entry.body.postgres, &entry.body.sqlite) {
        (Some(postgres), None) => {
            // One that cannot be read is told where it stands.
            let name = TableName::parse(written).ok()?;
            (postgres.get_ref().url.as_ref()?.get_ref().clone(), vec![name.schema, name.table])
        }
        (None, Some(sqlite)) => {
            let folder = document.files.get(entry.at.file)?.folder();
            let path = plain(&folder.join(sqlite.get_ref().path.as_ref()?.get_ref()));
            (Sourced::File(path), vec![written.to_ascii_lowercase()])
        }
        _ => return None,
    };
    Some(Table { system, name, written: format!("{written} of store `{store}`") })
}

/// Returns a path without `.` and `..`, so that two ways to write it are one.
fn plain(path: &Path) -> String {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain.display().to_string()
}

fn doubles(check: &mut Check<'_>, feeds: &[Feed<'_>], fills: &[Fill<'_>]) {
    for (index, feed) in feeds.iter().enumerate() {
        if let Some(first) = feeds[..index].iter().find(|first| first.table.same(&feed.table)) {
            let message = format!("table {} is captured twice", feed.table.written);
            let hint = format!("by capture `{}` at {} already", first.capture, check.name_of(first.at));
            check.error(feed.at, message, Some(hint));
        }
        if let Some(first) = feeds[..index].iter().find(|first| first.stream == feed.stream) {
            let message = format!("stream `{}` is fed by two tables", feed.stream);
            let place = check.name_of(first.at);
            let hint = format!(
                "by capture `{}` at {place} already; a stream has one table of one capture",
                first.capture
            );
            check.error(feed.at, message, Some(hint));
        }
    }
    for (index, fill) in fills.iter().enumerate() {
        if let Some(first) = fills[..index].iter().find(|first| first.table.same(&fill.table)) {
            let message = format!("table {} is written by two subscriptions", fill.table.written);
            let place = check.name_of(first.at);
            let hint =
                format!("`{}` at {place} writes it already; give each its own table", first.subscription);
            check.error(fill.at, message, Some(hint));
        }
    }
}

/// Tells each circle once and returns the subscriptions that are on one.
fn circles<'a>(check: &mut Check<'_>, feeds: &[Feed<'_>], fills: &[Fill<'a>]) -> BTreeSet<&'a str> {
    let mut told = BTreeSet::new();
    for start in 0..fills.len() {
        let Some(way) = way_back(start, feeds, fills) else { continue };
        if way.iter().any(|(fill, _)| told.contains(fills[*fill].subscription)) {
            continue;
        }
        let mut words = format!("stream `{}`", fills[start].stream);
        for (fill, feed) in &way {
            let (fill, feed) = (&fills[*fill], &feeds[*feed]);
            told.insert(fill.subscription);
            words.push_str(&format!(
                " -> subscription `{}` -> table {} -> capture `{}` -> stream `{}`",
                fill.subscription, fill.table.written, feed.capture, feed.stream
            ));
        }
        let hint = "a row would come back to where it began; take one of them out".to_owned();
        check.error(
            fills[start].at,
            format!("captures and subscriptions form a circle: {words}"),
            Some(hint),
        );
    }
    told
}

/// Returns the shortest way from a fill back to its own stream, as pairs of fill and feed.
fn way_back(start: usize, feeds: &[Feed<'_>], fills: &[Fill<'_>]) -> Option<Vec<(usize, usize)>> {
    let mut seen = BTreeSet::from([start]);
    let mut ways = vec![(start, Vec::new())];
    while !ways.is_empty() {
        let mut next = Vec::new();
        for (fill, way) in ways {
            for (index, feed) in
                feeds.iter().enumerate().filter(|(_, feed)| feed.table.same(&fills[fill].table))
            {
                let mut way: Vec<(usize, usize)> = way.clone();
                way.push((fill, index));
                if feed.stream == fills[start].stream {
                    return Some(way);
                }
                for (further, _) in
                    fills.iter().enumerate().filter(|(_, further)| further.stream == feed.stream)
                {
                    if seen.insert(further) {
                        next.push((further, way.clone()));
                    }
                }
            }
        }
        ways = next;
    }
    None
}

/// Tells a store that holds the rows of two departments: whoever may read it sees both.
fn two_departments(check: &mut Check<'_>) {
    let document = check.document;
    let mut uses: Vec<(At, &str, &str)> = Vec::new();
    for entry in document.captures.values() {
        let (Some(from), Some(tables)) = (&entry.body.from, &entry.body.tables) else { continue };
        for stream in tables.get_ref().values() {
            let owner = document.streams.get(stream.get_ref()).and_then(|stream| stream.body.owner.as_ref());
            if let Some(owner) = owner {
                uses.push((entry.at(from.span().start), from.get_ref(), owner.get_ref()));
            }
        }
    }
    for entry in document.subscriptions.values() {
        let store = entry.body.into.as_ref().and_then(|into| into.get_ref().store.as_ref());
        if let (Some(store), Some(department)) = (store, &entry.body.department) {
            uses.push((entry.at(store.span().start), store.get_ref(), department.get_ref()));
        }
    }
    uses.retain(|(_, store, _)| document.stores.contains_key(*store));
    uses.sort_by_key(|(at, _, _)| (at.file, at.offset));
    let mut first: BTreeMap<&str, (&str, At)> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (at, store, department) in uses {
        let (other, place) = *first.entry(store).or_insert((department, at));
        if other != department && told.insert((store, department)) {
            let message = format!("store `{store}` is used by two departments, `{other}` and `{department}`");
            let hint =
                format!("whoever may read it sees both; `{other}` uses it at {}", check.name_of(place));
            check.warn(at, message, Some(hint));
        }
    }
}
