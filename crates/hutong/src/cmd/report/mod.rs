//! `hutong report`: what was offered, asked, granted, refused, answered in time, delivered and recalled in a time, for a
//! department or for an auditor.
//!
//! All of it from the ledger and the receipts: nothing that nobody has signed or rooted is in it but what says so.

mod gather;
mod sheet;

use std::fs::DirBuilder;
use std::io::Write as _;
use std::path::Path;

use hutong_core::{Error, ErrorKind, Result, ResultExt as _};
use jiff::civil::{Date, date};
use serde_json::{Value as Json, json};

use self::gather::Report;
use super::arguments::{self, Output};
use super::{check, ledger, print_json, table};
use crate::config::Plan;
use crate::exit::Exit;
use crate::wire::Bus;

/// The time that a report is about: both days are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: Date,
    to: Date,
}

impl Span {
    fn of(options: &arguments::Report) -> Result<Self> {
        let config = |why: &str| Error::new(ErrorKind::Config, "read the time of the report", why);
        let (from, to) = match (options.year, options.from, options.to) {
            (Some(year), None, None) => (date(year, 1, 1), date(year, 12, 31)),
            (None, Some(from), to) => (from, to.unwrap_or(Date::MAX)),
            _ => {
                return Err(config("it has neither a year nor a first day")
                    .hint("--year 2026, or --from DAY --to DAY"));
            }
        };
        if to < from { Err(config("its last day is before its first")) } else { Ok(Self { from, to }) }
    }

    fn holds(self, day: Date) -> bool {
        self.from <= day && day <= self.to
    }
}

pub(super) async fn run(config: &Path, options: &arguments::Report) -> Result<Exit> {
    let span = Span::of(options)?;
    let plan = check::load(config)?;
    let department = options.department.as_deref();
    let ledger = ledger::plan(&plan)?;
    let reading = ledger::look(&plan, true).await?;
    known(&plan, &reading.book, department)?;
    let bus = Bus::look(&plan.bus)?;
    let mut report = Report::new(department, span, &plan, ledger);
    report.entries(&reading);
    for owner in ledger::departments(&reading.book) {
        report.receipts(bus.log().as_ref(), &reading.book, &owner).await?;
    }
    let report = report.end(&reading.book);
    if let Some(folder) = &options.csv {
        return csv(&report, folder);
    }
    match options.output {
        Output::Json => print_json(&told(&report, department, span))?,
        Output::Text => print(&report, department, span),
    }
    Ok(Exit::Done)
}

fn known(plan: &Plan, book: &hutong_core::ledger::Book, department: Option<&str>) -> Result<()> {
    let Some(name) = department else { return Ok(()) };
    if plan.departments.contains_key(name) || book.members().contains_key(name) {
        return Ok(());
    }
    let known: Vec<&str> = book.members().keys().map(String::as_str).collect();
    Err(Error::new(ErrorKind::Config, format!("report on {name}"), "there is no such department")
        .hint(format!("the departments are: {}", known.join(", "))))
}

fn title(department: Option<&str>, span: Span) -> String {
    let to = if span.to == Date::MAX { "now".into() } else { span.to.to_string() };
    format!("{}, {} to {to}", department.unwrap_or("all departments"), span.from)
}

fn print(report: &gather::Done, department: Option<&str>, span: Span) {
    println!("{}", title(department, span));
    for (name, count) in &report.sums {
        println!("  {name:<22} {}", table::thousands(*count));
    }
    for sheet in &report.sheets {
        println!("\n{}", sheet.name);
        for line in table::lines(&sheet.text()) {
            println!("  {line}");
        }
    }
}

fn told(report: &gather::Done, department: Option<&str>, span: Span) -> Json {
    let mut told = json!({ "department": department, "from": span.from, "to": span.to });
    told["sums"] = report.sums.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
    for sheet in &report.sheets {
        told[sheet.name] = sheet.json();
    }
    told
}

fn csv(report: &gather::Done, folder: &Path) -> Result<Exit> {
    let doing = || format!("write the tables into {}", folder.display());
    DirBuilder::new().create(folder).or_kind(ErrorKind::Denied, doing)?;
    for sheet in &report.sheets {
        let path = folder.join(format!("{}.csv", sheet.name));
        let written =
            std::fs::File::create_new(&path).and_then(|mut file| file.write_all(sheet.csv().as_bytes()));
        written.or_kind(ErrorKind::Denied, || format!("write {}", path.display()))?;
    }
    let names: Vec<&str> = report.sheets.iter().map(|sheet| sheet.name).collect();
    println!("{} are in {}", names.join(", "), folder.display());
    Ok(Exit::Done)
}
