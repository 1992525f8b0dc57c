//! `hutong ledger`: keys, members, offers; shown, verified, exported.

mod export;
mod grants;
mod list;
mod preview;
mod receipts;
pub(super) mod words;

use std::path::Path;
use std::sync::Arc;

use hutong_bus::ledger::Append;
use hutong_bus::log::Log;
use hutong_core::ledger::{Act, Book, Charter, Contradiction, Digest, Offer, PublicKey, Taken};
use hutong_core::{Error, ErrorKind, Result};
use serde_json::json;

use self::words::Ledger;
use super::arguments::Output;
use super::check;
use crate::config::Plan;
use crate::config::plan::LedgerPlan;
use crate::exit::Exit;
use crate::ledger::{self, Reading, Remembered};
use crate::program::aside;
use crate::wire::Bus;

pub(super) use grants::{is_suspended, run as permission};
pub(super) use receipts::departments;

pub(super) async fn run(config: &Path, action: Ledger) -> Result<Exit> {
    match action {
        Ledger::Keygen { file, sealing } => {
            let public = match sealing {
                true => ledger::generate_sealing(&file)?.to_string(),
                false => ledger::generate(&file)?.to_string(),
            };
            println!("{public}");
            eprintln!(
                "the private key is in {}: only its owner may read it, and nobody can make it again",
                file.display()
            );
            Ok(Exit::Done)
        }
        Ledger::Join { department, key, again } => {
            let plan = check::load(config)?;
            let governing = self::plan(&plan)?.charter.governing.clone();
            member(&plan, &department, &key, again).await?;
            let key = key.to_string();
            let act = match again {
                false => Act::Joined { department: department.clone(), key },
                true => Act::Rekeyed { department: department.clone(), key },
            };
            say(&plan, &governing, act).await?;
            println!("{department} {}", if again { "has another key from now on" } else { "has joined" });
            Ok(Exit::Done)
        }
        Ledger::Offer { stream, withdraw } => offer(&check::load(config)?, &stream, withdraw).await,
        Ledger::Show { output } => show(&check::load(config)?, output).await,
        Ledger::Root { department } => receipts::root(&check::load(config)?, &department).await,
        Ledger::Export { file } => export::write(&check::load(config)?, &file).await,
        Ledger::Verify { file, key, head } => export::verify(config, file.as_deref(), key, &head).await,
    }
}

/// Returns the configuration's ledger.
pub(super) fn plan(plan: &Plan) -> Result<&LedgerPlan> {
    plan.ledger.as_ref().ok_or_else(|| {
        let why = "the configuration has no [ledger], so what it says is what is granted";
        Error::new(ErrorKind::Config, "use the ledger", why)
            .hint("[ledger] names `governing` and `governing_key`")
    })
}

/// Reads the whole ledger.
pub(super) async fn read(plan: &Plan, keep: bool) -> Result<Reading> {
    let ledger = self::plan(plan)?;
    let bus = Bus::look(&plan.bus)?;
    let mut reading = Reading::new(&plan.bus.name, ledger.charter.clone(), keep);
    reading.catch_up(bus.log().as_ref()).await?;
    Ok(reading)
}

/// Reads the whole ledger for somebody who writes into it: who has never done so finds no folder to look into.
async fn beside(plan: &Plan) -> Result<(Arc<dyn Log>, Arc<dyn Append>, Reading)> {
    let (log, append) = Bus::beside(&plan.bus)?;
    let mut reading = Reading::new(&plan.bus.name, self::plan(plan)?.charter.clone(), false);
    reading.catch_up(log.as_ref()).await?;
    Ok((log, append, reading))
}

/// Reads the whole ledger for somebody who looks at it, and says what speaks against it.
pub(super) async fn look(plan: &Plan, keep: bool) -> Result<Reading> {
    // First, for a lane that runs may learn of what is written meanwhile.
    let remembered = Remembered::of(plan).await;
    let reading = read(plan, keep).await?;
    if let Some(why) = foreign(&reading.book) {
        aside(format_args!("warning: {why}\n"));
    }
    for contradiction in remembered.contradictions(&reading.book) {
        warned(&contradiction);
    }
    Ok(reading)
}

/// Says that nothing in a ledger counts, which is how another ledger's records look.
fn foreign(book: &Book) -> Option<String> {
    let (all, skipped) = (book.head().sequence, book.skipped_counts().values().sum::<u64>());
    (all > 0 && all == skipped).then(|| {
        let Charter { id, governing, .. } = book.charter();
        format!(
            "none of the {all} records of the ledger counts: nobody has joined yet, or `id` ({id}), `governing` \
             ({governing}) and `governing_key` of [ledger] are not what it was begun with"
        )
    })
}

fn warned(contradiction: &Contradiction) {
    aside(format_args!("warning: {contradiction}; `hutong ledger verify` tells more\n"));
}

/// Refuses a history that lanes know otherwise. I5: what is signed pins the history before it, and a cut one must not
/// become the true one.
///
/// What only takes away is signed all the same, if it says no terms: a store is its department's, whose word must not keep a
/// right alive. Terms that are narrower than those of a cut history may be wider than the true ones.
pub(super) fn trusted(remembered: &Remembered, book: &Book, doing: &str, takes: bool) -> Result<()> {
    match remembered.contradictions(book).into_iter().next() {
        None => Ok(()),
        Some(contradiction) if takes => {
            warned(&contradiction);
            Ok(())
        }
        Some(contradiction) => {
            let hint =
                "`hutong ledger verify` tells more; find out who changed the topic before anybody signs";
            Err(Error::new(ErrorKind::Broken, doing, contradiction.to_string()).hint(hint))
        }
    }
}

/// Refuses a member that the ledger would hold for good and nobody means.
async fn member(plan: &Plan, department: &str, key: &PublicKey, again: bool) -> Result<()> {
    let doing = || format!("let {department} take part");
    if !plan.departments.contains_key(department) {
        let known: Vec<&str> = plan.departments.keys().map(String::as_str).collect();
        return Err(Error::new(ErrorKind::Config, doing(), "the configuration knows no such department")
            .hint(format!("[department.{department}] makes it known; there are: {}", known.join(", "))));
    }
    let reading = beside(plan).await?.2;
    let members = reading.book.members();
    if members.contains_key(department) && !again {
        return Err(Error::new(ErrorKind::Denied, doing(), "it has joined already")
            .hint("--again gives it another key"));
    }
    match members.iter().find(|(_, member)| member.key == *key) {
        Some((other, _)) => Err(Error::new(ErrorKind::Denied, doing(), format!("`{other}` has this key"))
            .hint("each department makes one of its own: `hutong ledger keygen FILE`")),
        None => Ok(()),
    }
}

/// Signs for a department and writes it down.
pub(super) async fn say(plan: &Plan, department: &str, act: Act) -> Result<Digest> {
    let ledger = self::plan(plan)?;
    let key = ledger::private_key(ledger, department)?;
    let takes = matches!(
        act,
        Act::Suspended { .. }
            | Act::Revoked { .. }
            | Act::Rejected { .. }
            | Act::Withdrawn { .. }
            | Act::Expired { .. }
    );
    let remembered = Remembered::of(plan).await;
    let (log, append, mut reading) = beside(plan).await?;
    trusted(&remembered, &reading.book, &format!("sign for {department}"), takes)?;
    reading.append((log.as_ref(), append.as_ref()), department, &key, act).await
}

async fn offer(plan: &Plan, name: &str, withdraw: bool) -> Result<Exit> {
    let Some(stream) = plan.streams.get(name) else {
        let known: Vec<&str> = plan.streams.keys().map(String::as_str).collect();
        let why = "the configuration has no such stream";
        return Err(Error::new(ErrorKind::Config, format!("offer {name}"), why)
            .hint(format!("the streams are: {}", known.join(", "))));
    };
    let owner = stream.owner.as_str();
    if withdraw {
        say(plan, owner, Act::Withdrawn { stream: name.to_owned() }).await?;
        println!("{owner} offers {name} no more: nothing of it flows");
        return Ok(Exit::Done);
    }
    let shared = |field: &&hutong_core::Field| {
        field.catalogue.get("sharing").and_then(serde_json::Value::as_str) != Some("none")
    };
    let columns: Vec<String> =
        stream.contract.fields.iter().filter(shared).map(|field| field.name.clone()).collect();
    let count = columns.len();
    let offer = Offer { stream: name.to_owned(), sharing: (&stream.sharing).into(), columns };
    let reading = beside(plan).await?.2;
    let stands = reading.book.offers().get(&(owner.to_owned(), name.to_owned()));
    let again = stands.is_some_and(|offered| !offered.withdrawn);
    say(plan, owner, if again { Act::Changed(offer) } else { Act::Offered(offer) }).await?;
    println!("{owner} offers {name}: {count} columns");
    Ok(Exit::Done)
}

async fn show(plan: &Plan, output: Output) -> Result<Exit> {
    let reading = look(plan, true).await?;
    for (at, (_, taken)) in reading.kept.iter().flatten().enumerate() {
        let number = at + 1;
        match (taken, output) {
            (Taken::Entry { entry, digest }, Output::Text) => {
                let act = serde_json::to_string(&entry.act).unwrap_or_default();
                println!(
                    "{number:>5}  {}  {}  {}  {act}",
                    moment(entry.at_us),
                    entry.department,
                    short(digest)
                );
            }
            (Taken::Skipped(skipped), Output::Text) => {
                println!("{number:>5}  counts for nothing: {}: {}", skipped.rule, skipped.why);
            }
            (Taken::Entry { entry, digest }, Output::Json) => {
                let line = json!({ "sequence": number, "department": entry.department, "at_us": entry.at_us,
                    "digest": digest, "seen": entry.seen, "act": entry.act });
                println!("{line}");
            }
            (Taken::Skipped(skipped), Output::Json) => {
                println!("{}", json!({ "sequence": number, "skipped": skipped.rule, "why": skipped.why }));
            }
        }
    }
    if output == Output::Text {
        println!("head {}", reading.book.head());
    }
    Ok(Exit::Done)
}

/// Returns as much of a digest as people compare.
pub(super) fn short(digest: &Digest) -> String {
    digest.to_string().chars().take(12).collect()
}

/// Returns a time to the second.
pub(super) fn moment(at_us: i64) -> String {
    let second = jiff::Timestamp::from_second(at_us.div_euclid(1_000_000));
    second.map(|second| second.to_string()).unwrap_or_default()
}
