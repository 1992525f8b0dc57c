//! The receipts of what was delivered: verified, rooted, and taken along in an export.

use std::collections::BTreeSet;

use hutong_bus::log::Log;
use hutong_bus::receipts;
use hutong_core::ledger::{Act, Audit, Audited, Book};
use hutong_core::{Error, ErrorKind, Result};

use crate::config::Plan;
use crate::exit::Exit;
use crate::moment::today;

/// Returns the departments that may have receipts: who offers streams, and who has rooted some.
pub(in crate::cmd) fn departments(book: &Book) -> BTreeSet<String> {
    let owners = book.offers().keys().map(|(owner, _)| owner.clone());
    owners.chain(book.rooted().map(str::to_owned)).collect()
}

/// Audits the receipts of a department as its topic holds them; shows each record to `keep`.
pub(super) async fn audit(
    log: &dyn Log,
    bus: &str,
    book: &Book,
    department: &str,
    mut keep: impl FnMut(Option<&[u8]>) + Send,
) -> Result<Audited> {
    let mut audit = Audit::new(book, department);
    receipts::walk(log, &receipts::topic(bus, department), |record| {
        audit.take(record.value.as_deref());
        keep(record.value.as_deref());
        Ok(true)
    })
    .await?;
    Ok(audit.end())
}

/// Audits those of all departments on the bus and prints what it finds; how it ends is [`print`]'s.
pub(super) async fn verify(log: &dyn Log, bus: &str, book: &Book) -> Result<Exit> {
    let mut exit = Exit::Done;
    for department in departments(book) {
        let audited = audit(log, bus, book, &department, |_| ()).await?;
        if print(&department, &audited) == Exit::Broken {
            exit = Exit::Broken;
        }
    }
    Ok(exit)
}

/// Prints what the receipts of a department came to. Ends with 1 when they do not fit.
pub(super) fn print(department: &str, audited: &Audited) -> Exit {
    let Audited { receipts, roots, unrooted, wrong, wrong_count, told, .. } = audited;
    if *receipts == 0 && *wrong_count == 0 {
        return Exit::Done;
    }
    for what in told {
        println!("note: receipts of {department}: {what}");
    }
    for what in wrong {
        println!("FAIL receipts of {department}: {what}");
    }
    if *wrong_count > wrong.len() as u64 {
        println!("FAIL receipts of {department}: {} more do not fit", wrong_count - wrong.len() as u64);
    }
    println!(
        "receipts of {department}: {receipts}; roots that fit them: {roots}; not rooted yet: {unrooted}"
    );
    if *wrong_count == 0 { Exit::Done } else { Exit::Broken }
}

/// Signs the root of a department's receipts as they stand now.
pub(super) async fn root(plan: &Plan, department: &str) -> Result<Exit> {
    let doing = || format!("root the receipts of {department}");
    let (log, _, reading) = super::beside(plan).await?;
    let known = departments(&reading.book);
    if !known.contains(department) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let why = "it offers no stream, so it has no receipts";
        return Err(Error::new(ErrorKind::Config, doing(), why).hint(format!(
            "those that do: {}",
            if known.is_empty() { "none".into() } else { known.join(", ") }
        )));
    }
    let audited = audit(log.as_ref(), &plan.bus.name, &reading.book, department, |_| ()).await?;
    if let Some(wrong) = audited.wrong.first() {
        let hint = "`hutong ledger verify` tells all that does not fit: find out who changed the topic";
        return Err(Error::new(ErrorKind::Broken, doing(), wrong.clone()).hint(hint));
    }
    let Some(head) = audited.head.filter(|_| audited.unrooted > 0) else {
        println!("every receipt of {department} is rooted already");
        return Ok(Exit::Done);
    };
    let day = today(&plan.bus.zone);
    super::say(plan, department, Act::Rooted { day, receipts: head }).await?;
    println!("the first {} receipts of {department} are rooted", head.sequence);
    Ok(Exit::Done)
}
