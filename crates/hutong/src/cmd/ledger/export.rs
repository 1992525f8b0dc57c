//! The ledger as a file, and what is wrong with one.
//!
//! The file is lines of text: the first says in JSON which ledger it is and where it ends, each other one is a record
//! in hexadecimal digits, or `-` for one without a value. Behind them stand the receipts of each department that has
//! some: a line `receipts DEPARTMENT`, and its records as they stand in its topic.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use hutong_core::ledger::{Audit, Charter, Digest, Head, PublicKey, Taken};
use hutong_core::{Error, ErrorKind, Result, ResultExt, hexadecimal};
use hutong_engine::status::now_us;
use serde::{Deserialize, Serialize};

use super::receipts;
use crate::cmd::check;
use crate::config::Plan;
use crate::exit::Exit;
use crate::ledger::{Reading, Remembered};
use crate::wire::Bus;

/// What stands before the name of a department whose receipts follow.
const RECEIPTS: &str = "receipts ";

/// The form of a file without receipts, and of one with.
const FORMS: [u32; 2] = [1, 2];

/// The first line of an exported ledger.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Title {
    hutong_ledger: u32,
    id: String,
    governing: String,
    governing_key: String,
    head: Head,
}

/// Writes the whole ledger into a new file.
pub(super) async fn write(plan: &Plan, path: &Path) -> Result<Exit> {
    let reading = super::read(plan, true).await?;
    let charter = reading.book.charter();
    let bus = Bus::look(&plan.bus)?;
    let (mut received, mut count) = (String::new(), 0);
    for department in receipts::departments(&reading.book) {
        let before = received.len();
        let title = format!("{RECEIPTS}{department}\n");
        receipts::audit(bus.log().as_ref(), &plan.bus.name, &reading.book, &department, |record| {
            if received.len() == before {
                received.push_str(&title);
            }
            line(record, &mut received);
            count += 1;
        })
        .await?;
    }
    let title = Title {
        hutong_ledger: FORMS[usize::from(count > 0)],
        id: charter.id.clone(),
        governing: charter.governing.clone(),
        governing_key: charter.key.to_string(),
        head: reading.book.head(),
    };
    let doing = || format!("write the ledger into {}", path.display());
    let mut text = serde_json::to_string(&title).or_kind(ErrorKind::Broken, doing)?;
    text.push('\n');
    for (record, _) in reading.kept.iter().flatten() {
        line(record.as_deref(), &mut text);
    }
    text.push_str(&received);
    let mut file = std::fs::File::create_new(path).or_kind(ErrorKind::Denied, doing)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).or_kind(ErrorKind::Denied, doing)?;
    println!("{} records are in {}; head {}", title.head.sequence, path.display(), title.head);
    if count > 0 {
        println!("with {count} receipts of what was delivered");
    }
    Ok(Exit::Done)
}

fn line(record: Option<&[u8]>, text: &mut String) {
    match record {
        Some(bytes) => text.push_str(&hexadecimal::text(bytes)),
        None => text.push('-'),
    }
    text.push('\n');
}

/// The records of a file.
struct Kept {
    title: Title,
    records: Vec<Option<Bytes>>,
    /// Departments and the records of their receipts.
    receipts: Vec<(String, Vec<Option<Bytes>>)>,
}

fn read(path: &Path) -> Result<Kept> {
    let doing = || format!("read the exported ledger {}", path.display());
    let malformed =
        |line: usize, why: &str| Error::new(ErrorKind::Malformed, doing(), format!("line {line}: {why}"));
    let text = std::fs::read_to_string(path).or_kind(ErrorKind::Denied, doing)?;
    let mut lines = text.lines().enumerate();
    let (_, title) = lines.next().ok_or_else(|| malformed(1, "it is empty"))?;
    let title: Title = serde_json::from_str(title).map_err(|e| malformed(1, &e.to_string()))?;
    if !FORMS.contains(&title.hutong_ledger) {
        return Err(malformed(1, "it was written by a newer Hutong"));
    }
    let record = |(at, line): (usize, &str)| {
        if line == "-" {
            return Ok(None);
        }
        let bytes = line.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.map(|bytes| Some(bytes.into())).ok_or_else(|| malformed(at + 1, "it is not a record"))
    };
    let mut kept = Kept { title, records: Vec::new(), receipts: Vec::new() };
    for (at, line) in lines {
        if let Some(department) = line.strip_prefix(RECEIPTS) {
            kept.receipts.push((department.to_owned(), Vec::new()));
            continue;
        }
        let record = record((at, line))?;
        match kept.receipts.last_mut() {
            None => kept.records.push(record),
            Some((_, records)) => records.push(record),
        }
    }
    Ok(kept)
}

/// Verifies a file, or the ledger of the bus.
pub(super) async fn verify(
    config: &Path,
    file: Option<&Path>,
    key: Option<PublicKey>,
    heads: &[Head],
) -> Result<Exit> {
    Ok(match file {
        None => {
            let plan = check::load(config)?;
            // A cut ledger looks whole by itself. First, for a lane that runs may learn of what is written meanwhile.
            let remembered = Remembered::of(&plan).await;
            let reading = super::read(&plan, true).await?;
            let heads = heads.iter().map(|head| ("--head".to_owned(), *head));
            let judged = judge(&reading, &heads.chain(remembered.heads.iter().cloned()).collect::<Vec<_>>());
            println!("compared with {} heads that lanes remember in their stores", remembered.heads.len());
            remembered.missed.iter().for_each(|missed| println!("note: {missed}"));
            let bus = Bus::look(&plan.bus)?;
            worse(judged, receipts::verify(bus.log().as_ref(), &plan.bus.name, &reading.book).await?)
        }
        Some(path) => {
            let Kept { title, records, receipts: received } = read(path)?;
            let charter = match key {
                // What the file says of itself is no proof: the key comes from elsewhere.
                Some(key) => Charter { id: title.id, governing: title.governing, key },
                None => super::plan(&check::load(config)?)?.charter.clone(),
            };
            let mut reading = Reading::new("", charter, true);
            reading.take(records)?;
            let own = ("the file's first line".to_owned(), title.head);
            let heads = heads.iter().map(|head| ("--head".to_owned(), *head));
            let judged = judge(&reading, &std::iter::once(own).chain(heads).collect::<Vec<_>>());
            // Also of a department whose receipts were left out.
            let departments = receipts::departments(&reading.book);
            departments.iter().fold(judged, |judged, department| {
                let mut audit = Audit::new(&reading.book, department);
                let own = received.iter().filter(|(name, _)| name == department);
                own.flat_map(|(_, records)| records).for_each(|record| drop(audit.take(record.as_deref())));
                worse(judged, receipts::print(department, &audit.end()))
            })
        }
    })
}

/// Returns the worse of two ends: a broken history, then what counts for nothing.
fn worse(one: Exit, other: Exit) -> Exit {
    if one == Exit::Broken || other == Exit::Done { one } else { other }
}

/// How far the clocks of two departments may be from each other before it is told, microseconds.
const SKEW_US: i64 = 3_600_000_000;

/// Says which entries are dated before what their signers had seen: a clock was wrong, or somebody dates back.
fn dated_back(reading: &Reading) {
    let ahead = now_us().saturating_add(SKEW_US);
    // Behind each record, the newest of those before it, and its time.
    let mut newest: Vec<(usize, i64)> = vec![(0, i64::MIN)];
    // What was seen, to the first that is dated before it, and how many are.
    let mut found: BTreeMap<usize, (String, u64)> = BTreeMap::new();
    for (at, (_, taken)) in reading.kept.iter().flatten().enumerate() {
        let mut last = newest[at];
        if let Taken::Entry { entry, .. } = taken {
            let (number, by, dated) = (at + 1, &entry.department, super::moment(entry.at_us));
            let seen = usize::try_from(entry.seen.sequence).unwrap_or(usize::MAX).min(at);
            let (record, at_us) = newest[seen];
            if entry.at_us > ahead {
                println!("note: record {number} of {by} is dated {dated}, which is still to come");
            } else if entry.at_us > last.1 {
                last = (number, entry.at_us);
            }
            if entry.at_us < at_us.saturating_sub(SKEW_US) {
                let than = super::moment(at_us);
                let one = || {
                    let seen = format!("its signer had seen record {record} of {than}");
                    (format!("record {number} of {by} is dated {dated}, and {seen}"), 0)
                };
                found.entry(record).or_insert_with(one).1 += 1;
            }
        }
        newest.push(last);
    }
    for (told, count) in found.values() {
        let more = if *count > 1 { format!("; so are {} more", count - 1) } else { String::new() };
        println!("note: {told}{more}");
    }
}

/// Prints what is wrong, the first bad record first; `heads`: who has verified them, and what.
fn judge(reading: &Reading, heads: &[(String, Head)]) -> Exit {
    let book = &reading.book;
    let pinned = heads.iter().filter_map(|(by, head)| book.check(by, *head).err());
    let wrong: Vec<String> = pinned.map(|contradiction| contradiction.to_string()).collect();
    let first = reading.kept.iter().flatten().find_map(|(record, taken)| match taken {
        Taken::Skipped(skipped) => Some((skipped, record.as_deref().map(Digest::of))),
        Taken::Entry { .. } => None,
    });
    if let Some((skipped, digest)) = first {
        println!("the first bad entry is {skipped}");
        if let Some(digest) = digest {
            println!("  its bytes have the digest {digest}");
        }
        let counts: Vec<String> =
            book.skipped_counts().iter().map(|(rule, count)| format!("{count} {rule}")).collect();
        println!("  records that count for nothing: {}", counts.join(", "));
    }
    for contradiction in book.contradictions() {
        println!("FAIL an entry's signer contradicts the history: {contradiction}");
    }
    for contradiction in &wrong {
        println!("FAIL {contradiction}");
    }
    dated_back(reading);
    let foreign = super::foreign(book);
    if let Some(why) = &foreign {
        println!("FAIL {why}");
    }
    let whole = foreign.is_none() && wrong.is_empty() && book.contradictions().is_empty();
    println!("{} records, head {}", book.head().sequence, book.head());
    match (whole, first.is_some()) {
        (true, false) => {
            println!("every record counts, and nothing contradicts them");
            Exit::Done
        }
        (true, true) => {
            println!("the history is whole; what counts for nothing stops nobody");
            Exit::Refused
        }
        (false, _) => Exit::Broken,
    }
}
