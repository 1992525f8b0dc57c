//! Parse: from texts to entries, with every wrong key and every wrong type at once.
//!
//! Each entry (`[stream.x]`, `[bus]`, …) is read by itself. Where serde finds something wrong, the place is noted,
//! what stands there is taken out, and the rest is read again; so one wrong key hides neither another one nor what
//! `check` has to say about the rest.

use std::collections::BTreeMap;
use std::ops::Range;

use hutong_core::problem::nearest;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::document::{At, Document, Entry};
use super::explain;
use super::place::SourceText;
use super::problem::{Level, Problem};

/// The tables that a configuration may have.
const TABLES: [&str; 10] = [
    "bus",
    "department",
    "stream",
    "store",
    "capture",
    "subscription",
    "http",
    "limits",
    "ledger",
    "sealing",
];

/// How many things that are wrong with one entry are told: each is looked for in what the others have left.
const TOLD_LIMIT: usize = 100;

/// Reads all files into one document.
pub(super) fn read(files: Vec<SourceText>) -> (Document, Vec<Problem>) {
    read_only(files, None)
}

/// Reads only the stores of all files: what is wrong elsewhere is not told, but for what no TOML is and for tables
/// that nobody knows, which may be stores.
pub(super) fn stores(files: Vec<SourceText>) -> (Document, Vec<Problem>) {
    read_only(files, Some("store"))
}

fn read_only(files: Vec<SourceText>, only: Option<&'static str>) -> (Document, Vec<Problem>) {
    let mut reading = Reading { problems: Vec::new(), document: Document::default(), only };
    for (index, file) in files.iter().enumerate() {
        reading.file(index, file, &files);
    }
    reading.document.files = files;
    (reading.document, reading.problems)
}

struct Reading {
    problems: Vec<Problem>,
    document: Document,
    /// The one table that is read; `None`: all are.
    only: Option<&'static str>,
}

impl Reading {
    fn file(&mut self, index: usize, source: &SourceText, files: &[SourceText]) {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        if !errors.is_empty() {
            self.document.readable = false;
            for error in errors {
                let at = error.span().map_or(0, |span| span.start);
                let message = explain::syntax(error.message());
                self.problems.push(problem(source, at, message, None));
            }
            return;
        }
        let mut one = OneFile { index, source, files, problems: &mut self.problems, lost: Vec::new() };
        let document = &mut self.document;
        for (key, value) in table.into_inner() {
            let at = key.span();
            match key.get_ref().as_ref() {
                other if TABLES.contains(&other) && self.only.is_some_and(|only| only != other) => {}
                "bus" => one.single(&mut document.bus, "bus", at, value),
                "http" => one.single(&mut document.http, "http", at, value),
                "ledger" => one.single(&mut document.ledger, "ledger", at, value),
                "sealing" => one.single(&mut document.sealing, "sealing", at, value),
                "limits" => one.single(&mut document.limits, "limits", at, value),
                "department" => one.each(&mut document.departments, "department", value),
                "stream" => one.each(&mut document.streams, "stream", value),
                "store" => one.each(&mut document.stores, "store", value),
                "capture" => one.each(&mut document.captures, "capture", value),
                "subscription" => one.each(&mut document.subscriptions, "subscription", value),
                other => {
                    let hint = match nearest(other, TABLES) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("known tables: {}", TABLES.join(", ")),
                    };
                    one.say(at.start, format!("unknown table `{other}`"), Some(hint));
                }
            }
        }
        document.lost.append(&mut one.lost);
    }
}

/// One file on its way into the document.
struct OneFile<'a> {
    index: usize,
    source: &'a SourceText,
    files: &'a [SourceText],
    problems: &'a mut Vec<Problem>,
    lost: Vec<String>,
}

impl OneFile<'_> {
    fn say(&mut self, offset: usize, message: String, hint: Option<String>) {
        self.problems.push(problem(self.source, offset, message, hint));
    }

    /// Reads a table that stands once in a configuration.
    fn single<T: DeserializeOwned + Default>(
        &mut self,
        slot: &mut Option<Entry<T>>,
        kind: &str,
        key: Range<usize>,
        value: Spanned<DeValue<'_>>,
    ) {
        if let Some(first) = slot {
            let first = first.at;
            return self.twice(format!("[{kind}]"), key.start, first);
        }
        *slot = Some(self.entry(kind.to_owned(), key, value));
    }

    /// Reads a table of named entries.
    fn each<T: DeserializeOwned + Default>(
        &mut self,
        entries: &mut BTreeMap<String, Entry<T>>,
        kind: &str,
        value: Spanned<DeValue<'_>>,
    ) {
        let at = value.span().start;
        let DeValue::Table(table) = value.into_inner() else {
            let hint = format!("write [{kind}.NAME], one table for each");
            self.lost.push(kind.to_owned());
            return self.say(at, format!("`{kind}` is not a table of named entries"), Some(hint));
        };
        for (key, value) in table {
            let (place, name) = (key.span(), key.into_inner().into_owned());
            if let Some(first) = entries.get(&name) {
                self.twice(format!("[{kind}.{name}]"), place.start, first.at);
                continue;
            }
            let entry = self.entry(name.clone(), place, value);
            entries.insert(name, entry);
        }
    }

    fn twice(&mut self, what: String, offset: usize, first: At) {
        let file = &self.files[first.file];
        let (line, column) = file.place(first.offset);
        let hint = format!("the first stands at {}:{line}:{column}; keep one", file.path.display());
        self.say(offset, format!("{what} stands twice"), Some(hint));
    }

    /// Reads one entry, taking out what is wrong until the rest can be read.
    fn entry<T: DeserializeOwned + Default>(
        &mut self,
        name: String,
        key: Range<usize>,
        value: Spanned<DeValue<'_>>,
    ) -> Entry<T> {
        let at = At { file: self.index, offset: key.start };
        let mut entry = Entry { name, at, body: T::default(), broken: Vec::new() };
        if !value.get_ref().is_table() {
            self.say(value.span().start, format!("`{}` is not a table", entry.name), None);
            entry.broken.push(Vec::new());
            return entry;
        }
        let mut value = value;
        loop {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(body) => {
                    entry.body = body;
                    return entry;
                }
                Err(error) => error,
            };
            let span = error.span().unwrap_or_else(|| value.span());
            let mut path = Vec::new();
            let cut = cut(&mut value, &span, &mut path);
            let (message, hint) = explain::wrong(error.message(), &path);
            self.say(span.start, message, hint);
            // Each round takes something out, so the loop ends; without a place to cut, the entry is lost.
            entry.broken.push(if cut { path } else { Vec::new() });
            if !cut {
                return entry;
            }
            if entry.broken.len() == TOLD_LIMIT {
                let hint = "mend these first, and check it again".to_owned();
                self.say(
                    at.offset,
                    format!("more than {TOLD_LIMIT} things are wrong with `{}`", entry.name),
                    Some(hint),
                );
                entry.broken.push(Vec::new());
                return entry;
            }
        }
    }
}

/// Takes the key or value that stands at a place out of the tree, the deepest that fits, and with it every table that
/// is empty then. `path` becomes the way to it.
fn cut(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => {
            let keys: Vec<_> = table.keys().cloned().collect();
            for key in keys {
                let Some(inner) = table.get_mut(&key) else { continue };
                path.push(key.get_ref().to_string());
                let mut gone = key.span() == *span;
                if !gone && cut(inner, span, path) {
                    // An empty table would only be a second problem out of the first.
                    let empty = matches!(inner.get_ref(), DeValue::Table(left) if left.is_empty());
                    if empty {
                        table.remove(&key);
                    }
                    return true;
                }
                gone = gone || inner.span() == *span;
                if gone {
                    table.remove(&key);
                    return true;
                }
                path.pop();
            }
            false
        }
        DeValue::Array(items) => {
            let whole = items.len();
            let kept = std::mem::replace(items, DeArray::new()).into_iter().filter_map(|mut item| {
                let gone = item.span() == *span || cut(&mut item, span, path);
                (!gone).then_some(item)
            });
            *items = kept.collect();
            items.len() < whole
        }
        _ => false,
    }
}

fn problem(source: &SourceText, offset: usize, message: String, hint: Option<String>) -> Problem {
    let (line, column) = source.place(offset);
    Problem { file: source.path.display().to_string(), line, column, level: Level::Error, message, hint }
}
