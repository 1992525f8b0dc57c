//! Looks once whether a file could be captured or written: every finding, not the first one. Changes nothing.

use std::fs::OpenOptions;
use std::path::Path;

use hutong_core::{Contract, Result};
use rusqlite::{Connection, OpenFlags};

use super::error::Context;
use super::source::Captured;
use super::table::Table;
use super::target::{LANE, OFFSET};
use super::{connect, draft, install, opened, target};
use crate::Finding;

/// Looks at the file, the tables and the triggers of a capture.
pub fn probe(path: &Path, capture: &str, tables: &[Captured]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(path, capture, tables, &mut findings) {
        findings.push(error.into());
    }
    findings.iter_mut().for_each(|finding| finding.what = format!("capture {capture}: {}", finding.what));
    findings
}

fn look(path: &Path, capture: &str, tables: &[Captured], findings: &mut Vec<Finding>) -> Result<()> {
    let connection = connect::existing(path)?;
    findings.push(writable(path));
    for table in tables {
        findings.extend(draft::compare(path, &table.name, &table.contract)?);
    }
    for (table, standing) in tables.iter().zip(install::verify(&connection, capture, tables)?) {
        findings.push(match standing {
            Ok(_) => Finding::good(format!("the triggers of table {} are in place", table.name)),
            Err(error) => error.into(),
        });
    }
    Ok(())
}

/// Opens a store's file and reads a page of it; one that no lane of this process has opened yet may be missing.
pub fn answers(path: &Path) -> Result<()> {
    if !path.exists() && path.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir()) {
        return if opened::was_opened(path) { Err(opened::gone(path)) } else { Ok(()) };
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let doing = || format!("read SQLite file {}", path.display());
    let connection = Connection::open_with_flags(path, flags).doing(doing)?;
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).doing(doing)
}

/// Looks at the file of a store and the table of a subscription, which takes rows of `contract`.
pub fn probe_target(path: &Path, table: &str, contract: &Contract) -> Vec<Finding> {
    let mut findings = vec![writable(path)];
    if path.exists() {
        match fitting(path, table, contract) {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(error.into()),
        }
    } else {
        findings
            .push(Finding::good(format!("the table {table} is not there yet; it is made for the contract")));
    }
    findings
}

fn fitting(path: &Path, table: &str, contract: &Contract) -> Result<Vec<Finding>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).doing(|| format!("open SQLite file {}", path.display()))?;
    let Some(shape) = Table::read(&connection, table)? else {
        let what = format!("the table {table} is not there yet; it is made for the contract");
        return Ok(vec![Finding::good(what)]);
    };
    let mut faults = target::faults(&shape, contract);
    if shape.column(LANE).is_some() && shape.column(OFFSET).is_some() {
        // A table that Hutong made grows by what is no key.
        let grown: Vec<String> = contract
            .fields
            .iter()
            .filter(|f| {
                shape.column(f.column()).is_none() && !contract.key_fields().any(|k| k.name == f.name)
            })
            .map(|f| target::lacks(f.column()))
            .collect();
        faults.retain(|fault| !grown.contains(fault));
    }
    if faults.is_empty() {
        return Ok(vec![Finding::good(format!("the table {table} fits what is granted"))]);
    }
    let hint = "change the table, or name another one in the subscription's `into`";
    Ok(faults.into_iter().map(|fault| Finding::bad(format!("table {table}: {fault}"), hint)).collect())
}

/// Says whether the file may be written, or made when it is not there, with its journal beside it.
fn writable(path: &Path) -> Finding {
    let shown = path.display();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Finding::bad(
            format!("{} is no folder", folder.display()),
            "make it, or correct the store's `path`",
        );
    }
    let hint = "let the user that runs hutong write to the file and its folder";
    let denied =
        |metadata: std::io::Result<std::fs::Metadata>| metadata.is_ok_and(|m| m.permissions().readonly());
    if path.exists() {
        // Opened and not touched: only the system knows what this user may do.
        return match OpenOptions::new().append(true).open(path) {
            Ok(_) if denied(folder.metadata()) => {
                Finding::bad(format!("the folder of {shown} is read only"), hint)
            }
            Ok(_) => Finding::good(format!("the file {shown} is there and writable")),
            Err(error) => Finding::bad(format!("the file {shown} cannot be written: {error}"), hint),
        };
    }
    if denied(folder.metadata()) {
        return Finding::bad(format!("the folder of {shown} is read only"), hint);
    }
    Finding::good(format!("the file {shown} is not there yet; it is made when the first lane opens"))
}
