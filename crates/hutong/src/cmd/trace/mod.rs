//! `hutong trace`: which subscriptions hold or held one row, since when, under which approval, and how that is known.
//!
//! Reads the topic through every grant that ever was in force, as the lanes did: which stretch of it was delivered
//! under which grant the receipts say, and the stores where they stand now.

mod told;

use std::collections::BTreeSet;
use std::path::Path;

use hutong_bus::receipts::{topic as receipt_topic, walk};
use hutong_bus::watermark::partition_key;
use hutong_core::ledger::holding::{Held, Stretch, held};
use hutong_core::ledger::{Book, Proof, Receipt, State};
use hutong_core::{Contract, Error, ErrorKind, Kind, LaneId, Op, PipelineId, Result, Step as _, Verdict};
use hutong_stores::NOBODYS;
use hutong_stores::keep::{key_text, written_value};
use serde_json::Value as Json;

use self::told::{Subscriber, Told};
use super::arguments::{Output, Trace};
use super::ledger::moment;
use super::{check, ledger, print_json};
use crate::config::Plan;
use crate::config::plan::{StreamPlan, SubscriptionPlan};
use crate::exit::Exit;
use crate::ledger::{INTO_TOPIC, step, under};
use crate::wire::{self, Bus, Receipts, Stand, Versions};

/// How many receipts that are not published yet are read of one lane.
const UNPUBLISHED: usize = 10_000;

pub(super) async fn run(config: &Path, options: &Trace) -> Result<Exit> {
    let plan = check::load(config)?;
    let stream = stream(&plan, &options.stream)?;
    let key = key(&stream.contract, &options.key)?;
    let book = ledger::look(&plan, false).await?.book;
    let bus = Bus::look(&plan.bus)?;
    let unseal = wire::Seals::of(&plan).look(&bus, &plan.bus.name, stream).await?;
    let versions = wire::versions(&bus, stream, &key, unseal).await?;
    let published = published(&bus, &plan.bus.name, stream).await?;
    let begun = match versions.partition {
        Some(partition) => wire::begun(&plan, &bus, stream, partition).await?,
        None => Vec::new(),
    };
    let mut told = Told { ends: ends(stream, &versions, &published), subscriptions: Vec::new() };
    for (department, subscription) in subscribers(&book, stream) {
        let who = Who { department: &department, subscription: &subscription };
        if let Some(partition) = versions.partition {
            let one = one(&plan, &book, stream, &who, partition, (&versions, &begun), &published).await;
            told.subscriptions.push(one);
        }
    }
    match options.output {
        Output::Json => print_json(&told.json(&book, stream, &options.key, &versions))?,
        Output::Text => told.print(&book, stream, &options.key, &versions),
    }
    Ok(Exit::Done)
}

fn stream<'a>(plan: &'a Plan, name: &str) -> Result<&'a StreamPlan> {
    plan.streams.get(name).map(AsRef::as_ref).ok_or_else(|| {
        let known: Vec<&str> = plan.streams.keys().map(String::as_str).collect();
        Error::new(ErrorKind::Config, format!("trace {name}"), "there is no such stream")
            .hint(format!("the streams are: {}", known.join(", ")))
    })
}

/// Reads the key as it was typed, one word a column.
fn key(contract: &Contract, words: &[String]) -> Result<String> {
    let doing = || format!("read the key {}", words.join(" "));
    let fields: Vec<_> = contract.key_fields().collect();
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    if fields.len() != words.len() {
        let why =
            format!("the key of `{}` has {} columns: {}", contract.stream, fields.len(), names.join(", "));
        return Err(Error::new(ErrorKind::Config, doing(), why).hint("one word for each, in this order"));
    }
    let value = |(field, word): (&&hutong_core::Field, &String)| {
        written_value(&field.ty, &Json::String(word.clone())).ok_or_else(|| {
            let why =
                format!("`{word}` is no value of `{}`, which is of type {}", field.name, field.ty.name());
            Error::new(ErrorKind::Config, doing(), why)
        })
    };
    let values = fields.iter().zip(words).map(value).collect::<Result<Vec<_>>>()?;
    let text = key_text(contract, &contract.key_row(&values));
    text.ok_or_else(|| Error::new(ErrorKind::Config, doing(), "a key is not NULL"))
}

/// Returns every subscription that was ever granted something of a stream.
fn subscribers(book: &Book, stream: &StreamPlan) -> BTreeSet<(String, String)> {
    let of_stream = |number: &u64| {
        let asked = book.numbered(*number)?;
        let own = asked.request.owner == stream.owner && asked.request.stream == stream.name;
        own.then(|| (asked.department.clone(), asked.request.subscription.clone()))
    };
    book.numbers().keys().filter_map(of_stream).collect()
}

/// The published receipts of a stream, and whether the first ones are gone.
struct Published {
    receipts: Vec<Receipt>,
    first: Option<u64>,
}

async fn published(bus: &Bus, name: &str, stream: &StreamPlan) -> Result<Published> {
    let mut found = Published { receipts: Vec::new(), first: None };
    walk(bus.log().as_ref(), &receipt_topic(name, &stream.owner), |record| {
        // What cannot be read is `ledger verify`'s to tell.
        if let Some(Ok(receipt)) = record.value.as_deref().map(Receipt::read) {
            found.first.get_or_insert(receipt.number);
            if receipt.stream == stream.name {
                found.receipts.push(receipt);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(found)
}

/// Says where the knowledge of all subscriptions ends.
fn ends(stream: &StreamPlan, versions: &Versions, published: &Published) -> Vec<String> {
    let topic = stream.topic();
    let mut ends = Vec::new();
    let Some(partition) = versions.partition else {
        ends.push(format!("{topic} holds no version of this row: who held it before is not known from it"));
        return ends;
    };
    let (first, written_us) = versions.first;
    let since = written_us.map_or(String::new(), |us| format!(", written {}", moment(us)));
    ends.push(format!(
        "{topic} partition {partition} begins at offset {first}{since}: versions before it are not known"
    ));
    if stream.generation > 1 {
        ends.push(format!("the earlier generations of {topic} are not looked into"));
    }
    match published.first {
        Some(1) => {}
        Some(first) => ends.push(format!("the receipts before number {first} are gone")),
        None => ends.push("no receipt is published yet".into()),
    }
    if versions.unreadable > 0 {
        ends.push(format!(
            "{} records of the partition cannot be read; each may be a version",
            versions.unreadable
        ));
    }
    ends
}

struct Who<'a> {
    department: &'a str,
    subscription: &'a str,
}

async fn one(
    plan: &Plan,
    book: &Book,
    stream: &StreamPlan,
    who: &Who<'_>,
    partition: u32,
    (versions, begun): (&Versions, &[u64]),
    published: &Published,
) -> Subscriber {
    let own = plan.subscriptions.iter().find(|own| {
        own.name == who.subscription && own.department == who.department && own.stream.name == stream.name
    });
    let kind = if is_delivered(book, who) { Kind::Deliver } else { Kind::Replicate };
    let lane = LaneId::new(PipelineId::new(kind, who.subscription), partition).to_string();
    let place = partition_key(&stream.topic(), partition);
    let mut ends = Vec::new();
    let receipts = published.receipts.iter().filter(|r| r.lane == lane && r.department == who.department);
    let mut last = 0;
    let mut stretches = Vec::new();
    for receipt in receipts {
        last = receipt.proof.sequence;
        stretches.extend(stretch(&receipt.proof, &place, Some(receipt.number), receipt.at_us));
    }
    let mut stand = None;
    match own {
        _ if kind == Kind::Deliver => ends.push(format!(
            "it is delivered into a topic: who has read it may keep what it read; `hutong tap {} --delivered {} \
             --from-start` shows what stands there",
            stream.name, who.subscription
        )),
        None => ends.push(
            "its store is not of this configuration: what its receipts do not tell is not known".into(),
        ),
        Some(own) => match store(own, &lane, last).await {
            Ok((found, rest)) => {
                stand = Some(found);
                let unpublished =
                    rest.iter().filter_map(|kept| stretch(&kept.proof, &place, None, kept.at_us));
                stretches.extend(unpublished);
            }
            Err(problem) => ends.push(format!("its store was not asked: {problem}")),
        },
    }
    for stretch in &mut stretches {
        // The last base that it can have begun at: behind each stands a truncate, and what has a receipt has something.
        stretch.base = begun.iter().copied().filter(|base| *base < stretch.to).max().unwrap_or(0);
    }
    let permit = |number: u64| step(stream, who.subscription, &book.numbers().get(&number)?.terms).ok();
    let known = held(&versions.changes, &stretches, versions.first.0, permit);
    if known.before > 0 {
        let count = known.before;
        ends.push(format!("{count} receipts are of a stretch that the topic no longer holds whole"));
    }
    for number in &known.unread {
        ends.push(format!(
            "the terms of grant {number} do not fit the contract any more: what came under it is not known"
        ));
    }
    for offset in &known.aside {
        ends.push(format!(
            "offset {offset} was set aside without the row: it could not be decided whether it is granted"
        ));
    }
    let position = stand.as_ref().map(|stand| match stand {
        Some(stand) => stand.checkpoint.position(&place).as_offset().unwrap_or(0),
        None => 0,
    });
    let reached = position.or(known.reached).unwrap_or(0);
    let row = || versions.changes.iter().filter(|(_, change)| change.op != Op::Truncate);
    let waiting = row().map(|(offset, _)| *offset).filter(|offset| *offset >= reached).collect();
    let (holds, because) = now(book, stream, (who, own), &known, (stand.as_ref(), &place));
    if let Some(number) = current(book, stream, who)
        && holds != Some(true)
        && let Some(mut permit) = permit(number)
    {
        let covered = |offset: u64| stretches.iter().filter(|s| !s.recalled).any(|s| s.covers(offset));
        let bare = row().filter(|(offset, _)| *offset < reached && !covered(*offset));
        let passes = bare.filter(|(_, change)| {
            matches!(permit.apply(change.clone()), Verdict::Pass(passed) if passed.op != Op::Delete)
        });
        let count = passes.count();
        if count > 0 {
            ends.push(format!("{count} versions were passed before receipts were kept: it may hold them"));
        }
    }
    let (department, subscription) = (who.department.to_owned(), who.subscription.to_owned());
    Subscriber { department, subscription, known, holds, because, waiting, ends }
}

fn stretch(proof: &Proof, place: &str, receipt: Option<u64>, at_us: i64) -> Option<Stretch> {
    let grant = proof.grant;
    if proof.is_of_recall() {
        return Some(Stretch { grant, from: None, base: 0, to: 0, receipt, at_us, recalled: true });
    }
    let (from, to) = proof.ranges.get(place)?;
    let from = if from.is_start() { None } else { from.as_offset() };
    Some(Stretch { grant, from, base: 0, to: to.as_offset()?, receipt, at_us, recalled: false })
}

/// Asks a store where a lane stands, and for its receipts that are not published yet.
async fn store(
    own: &SubscriptionPlan,
    lane: &str,
    last: u64,
) -> Result<(Option<Stand>, Vec<hutong_core::ledger::Kept>)> {
    let (store, _) = own.replica("trace")?;
    let mut receipts = Receipts::of(store)?;
    let head = receipts.heads().await?.get(lane).copied();
    // Asked before the place: what is committed meanwhile is not missing.
    let rest = match head {
        Some(head) if head.sequence > last => receipts.since(lane, last + 1, UNPUBLISHED).await?,
        _ => Vec::new(),
    };
    Ok((wire::stands(store).await?.remove(lane), rest))
}

/// States whether a subscription was last granted into a delivery topic.
fn is_delivered(book: &Book, who: &Who<'_>) -> bool {
    let last =
        book.numbers().keys().rev().filter_map(|number| book.numbered(*number)).find(|asked| {
            asked.department == who.department && asked.request.subscription == who.subscription
        });
    last.is_some_and(|asked| asked.request.into == INTO_TOPIC)
}

/// Returns the number of the grant that stands.
fn current(book: &Book, stream: &StreamPlan, who: &Who<'_>) -> Option<u64> {
    Some(book.granted(who.department, who.subscription, &stream.owner, &stream.name)?.number)
}

/// Says whether the row is held now, and how that is known.
fn now(
    book: &Book,
    stream: &StreamPlan,
    (who, own): (&Who<'_>, Option<&SubscriptionPlan>),
    known: &Held,
    (stand, place): (Option<&Option<Stand>>, &str),
) -> (Option<bool>, String) {
    let Some(holding) = known.holdings.last().filter(|holding| holding.ended.is_none()) else {
        return (Some(false), "as its receipts tell".into());
    };
    let last = holding.grants.last().copied().unwrap_or_default();
    let terms = book.numbers().get(&last).map(|numbered| &numbered.terms);
    match (stand, own, terms) {
        (Some(None), ..) => {
            return (Some(false), "its store knows no such lane any more: its rows are removed".into());
        }
        (Some(Some(stand)), ..) if stand.mark == NOBODYS => {
            return (
                None,
                "a person has asked for a reload: its rows are read again when its lane opens".into(),
            );
        }
        (Some(Some(stand)), Some(own), Some(terms)) => {
            match under(own, terms).and_then(|plan| wire::mark(&plan)) {
                Ok(mark) if mark == stand.mark => {
                    // A lane that begins anew holds nothing; one that was set back holds what it held.
                    return match stand.checkpoint.position(place).as_offset() {
                        _ if stand.checkpoint.serves() => {
                            (Some(true), "its store serves it while its lane is filled anew".into())
                        }
                        None => (Some(false), "its replica is being filled anew".into()),
                        Some(reached) if reached > holding.last.offset => {
                            (Some(true), "its store stands under this grant".into())
                        }
                        Some(reached) => (None, format!("its lane reads again from offset {reached}")),
                    };
                }
                Ok(_) => {
                    return (Some(false), "its store has removed the rows of this grant since".into());
                }
                Err(problem) => return (None, problem.to_string()),
            }
        }
        _ => {}
    }
    let granted = book.granted(who.department, who.subscription, &stream.owner, &stream.name);
    match granted.map(|granted| (&granted.state, granted.number, granted.since)) {
        Some((State::Revoked { recall: true, .. }, _, since)) => (
            None,
            format!("record {since} recalls it, and whether its store has deleted it is not known here"),
        ),
        Some((_, number, _)) if number != last => (
            None,
            format!(
                "grant {number} has taken the place of {last}, and of what its store did then no receipt tells"
            ),
        ),
        Some((State::Active, ..)) => (Some(true), "as its receipts tell".into()),
        _ => (Some(true), "nothing flows, and the replica stays".into()),
    }
}
