//! From a path to a plan: reads the files and the contracts that they name, nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hutong_core::Contract;
use hutong_core::problem::Problem as Unreadable;
use jiff::Timestamp;

use super::check::{self, Contracts};
use super::document::Document;
use super::place::SourceText;
use super::plan::{Plan, StorePlan};
use super::problem::{Level, Problem, Report};
use super::read;

/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "hutong.toml";

/// The largest file of a configuration that is read, in bytes. A city's thousand subscriptions take half of it.
pub(super) const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// A configuration that can run, and what a person should look at all the same.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it means.
    pub plan: Plan,
    /// Warnings only.
    pub warnings: Report,
}

/// Reads a file, or all `*.toml` of a folder, and checks it as of now, without touching the network.
///
/// `Err` holds every problem at once, warnings included.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    load_at(path, Timestamp::now())
}

/// Does the same as [`load`] as of another time.
pub fn load_at(path: &Path, now: Timestamp) -> Result<Loaded, Report> {
    let (files, mut problems) = files(path);
    // A file that cannot be read has one problem, of the whole file.
    let count = files.len() + problems.len();
    let (document, wrong) = read::read(files);
    problems.extend(wrong);
    let mut plan = None;
    // Half a file would only seem to lack what its other half names.
    if document.readable && problems.iter().all(|p| p.line > 0) {
        let contracts = contracts(&document);
        let (checked, wrong) = check::check(&document, &contracts, now);
        problems.extend(wrong);
        plan = checked;
    }
    let report = Report::new(problems, count);
    match plan {
        Some(plan) if !report.stops() => Ok(Loaded { plan, warnings: report }),
        _ => Err(report),
    }
}

/// Reads only the stores of a configuration, whatever the rest of it is: a contract is drafted before the streams
/// that name it can be whole.
pub fn stores(path: &Path) -> Result<BTreeMap<String, Arc<StorePlan>>, Report> {
    let (files, mut problems) = files(path);
    let count = files.len() + problems.len();
    let (document, wrong) = read::stores(files);
    problems.extend(wrong);
    let (stores, wrong) = check::stores(&document);
    problems.extend(wrong);
    if problems.is_empty() { Ok(stores) } else { Err(Report::new(problems, count)) }
}

fn files(path: &Path) -> (Vec<SourceText>, Vec<Problem>) {
    let mut problems = Vec::new();
    let whole = |path: &Path, message: String, hint: Option<String>| {
        let file = path.display().to_string();
        Problem { file, line: 0, column: 0, level: Level::Error, message, hint }
    };
    let paths = if path.is_dir() { tomls(path) } else { Ok(vec![path.to_owned()]) };
    let paths = paths.unwrap_or_else(|error| {
        problems.push(whole(path, format!("the folder cannot be read: {error}"), None));
        Vec::new()
    });
    if paths.is_empty() && problems.is_empty() {
        let hint = Some("a configuration is a file, or all *.toml of a folder".to_owned());
        problems.push(whole(path, "there is no *.toml in the folder".into(), hint));
    }
    let mut files = Vec::new();
    for path in paths {
        if let Ok(size) = std::fs::metadata(&path).map(|file| file.len())
            && size > FILE_LIMIT_BYTES
        {
            let hint =
                Some("divide it: `-c FOLDER` reads all *.toml of a folder as one configuration".to_owned());
            let message = format!("the file has {size} bytes, at most {FILE_LIMIT_BYTES} are read");
            problems.push(whole(&path, message, hint));
            continue;
        }
        match std::fs::read(&path).map(String::from_utf8) {
            Ok(Ok(text)) => files.push(SourceText::new(path, text)),
            Ok(Err(_)) => problems.push(whole(&path, "the file is not UTF-8".into(), None)),
            Err(error) => problems.push(whole(&path, format!("the file cannot be read: {error}"), None)),
        }
    }
    (files, problems)
}

/// Returns the folder's files in the order of their names.
fn tomls(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn contracts(document: &Document) -> Contracts {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint = "`hutong contract draft` writes a first version from a table";
            Unreadable::new(error.to_string()).hint(hint)
        })?;
        Contract::parse(&text).map_err(|error| Unreadable::new(error.why()))
    };
    let mut contracts = Contracts::new();
    for entry in document.streams.values() {
        if let Some(path) = &entry.body.contract
            && let Some(file) = document.files.get(entry.at.file)
        {
            contracts.insert(entry.name.clone(), read(file.folder().join(path.get_ref())));
        }
    }
    contracts
}
