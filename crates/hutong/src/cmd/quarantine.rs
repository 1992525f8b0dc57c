//! `hutong quarantine`: looks after what could not go on.

use std::path::Path;

use clap::Subcommand;
use hutong_core::{Error, ErrorKind, Result, Verb};
use serde::Serialize;

use super::arguments::Output;
use super::{check, status, steer, table};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, StorePlan, SubscriptionPlan};
use crate::exit::Exit;
use crate::ledger::permitted;
use crate::program::aside;
use crate::wire::{self, items, items::Item};

#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    /// Lists what waits, with its reason.
    List {
        /// A subscription or a capture; all of them when none is named.
        pipeline: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Shows one item whole.
    Show {
        /// A subscription or a capture.
        pipeline: String,
        /// The item, as the list names it: ID, or of a capture STREAM/ID.
        id: String,
    },
    /// Applies an item again, after its cause is mended.
    Replay {
        /// A subscription.
        pipeline: String,
        /// The items; all that wait when none is named.
        ids: Vec<i64>,
        /// Says what it would do, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Gives an item up. It stays recorded.
    Discard {
        /// A subscription.
        pipeline: String,
        /// The items.
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Says what it would do, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whose quarantine is meant.
enum Pipeline<'a> {
    Capture(&'a CapturePlan),
    Subscription(&'a SubscriptionPlan),
}

impl<'a> Pipeline<'a> {
    /// Returns the store in which its items wait; `None` where that is a topic of the bus.
    fn store(&self) -> Option<&'a str> {
        match self {
            Self::Capture(_) => None,
            Self::Subscription(subscription) => subscription.into.store().map(|store| store.name.as_str()),
        }
    }
}

/// An item that waits, and the name by which `show`, `replay` and `discard` take its pipeline.
#[derive(Debug, Serialize)]
struct Waiting {
    pipeline: String,
    #[serde(flatten)]
    item: Item,
}

pub(super) async fn run(config: &Path, action: Quarantine) -> Result<Exit> {
    let plan = check::load(config)?;
    match action {
        Quarantine::List { pipeline: None, output } => list_all(&plan, output).await,
        Quarantine::List { pipeline: Some(pipeline), output } => {
            let items = items_of(&plan, find(&plan, &pipeline)?).await?;
            match output {
                Output::Json => super::print_json(&items)?,
                Output::Text => print_list(&items, &pipeline),
            }
            Ok(Exit::Done)
        }
        Quarantine::Show { pipeline, id } => {
            let items = items_of(&plan, find(&plan, &pipeline)?).await?;
            super::print_json(one(&items, &id, &pipeline)?)?;
            Ok(Exit::Done)
        }
        Quarantine::Replay { pipeline, ids, dry_run } => replay(&plan, &pipeline, ids, dry_run).await,
        Quarantine::Discard { pipeline, ids, dry_run } => {
            let (subscription, store) = replica(&plan, &pipeline)?;
            only_own(&ids, &waiting(subscription, store).await?, &pipeline)?;
            for id in ids {
                if dry_run {
                    println!("{id}: would be discarded, and kept on record");
                    continue;
                }
                if !items::discard(store, id).await? {
                    return Err(no_item(id, &pipeline));
                }
                println!("{id}: discarded, and kept on record");
            }
            Ok(Exit::Done)
        }
    }
}

/// Lists what waits in every pipeline. What cannot be read is told beside it, and hides nothing of the others.
async fn list_all(plan: &Plan, output: Output) -> Result<Exit> {
    let captures = plan.captures.iter().map(|c| (c.pipeline().to_string(), Pipeline::Capture(c)));
    let subscriptions = plan.subscriptions.iter().map(|s| (s.name.clone(), Pipeline::Subscription(s)));
    let (mut found, mut away, mut exit) = (Vec::new(), Vec::new(), Exit::Done);
    for (pipeline, whose) in captures.chain(subscriptions) {
        let store = whose.store();
        // Who does not answer is waited for once.
        if away.contains(&store) {
            aside(format_args!("error: {pipeline}: not listed either, for the same reason\n"));
            continue;
        }
        match items_of(plan, whose).await {
            Ok(items) => {
                let waiting = items.into_iter().filter(|item| item.state == "waiting");
                found.extend(waiting.map(|item| Waiting { pipeline: pipeline.clone(), item }));
            }
            Err(error) => {
                aside(format_args!("error: {pipeline}: {error}\n"));
                error.hint.iter().for_each(|hint| aside(format_args!("  hint: {hint}\n")));
                if error.kind == ErrorKind::Unavailable {
                    away.push(store);
                }
                if exit == Exit::Done {
                    exit = error.kind.into();
                }
            }
        }
    }
    match output {
        Output::Json => super::print_json(&found)?,
        Output::Text if found.is_empty() && exit == Exit::Done => println!("nothing waits in any quarantine"),
        Output::Text if found.is_empty() => println!("nothing waits in what could be read"),
        Output::Text => print_all(&found),
    }
    Ok(exit)
}

/// Applies what waits again: a change as it was kept; of a record that could not be read, the lane goes back to it.
async fn replay(plan: &Plan, pipeline: &str, ids: Vec<i64>, dry_run: bool) -> Result<Exit> {
    let (subscription, store) = replica(plan, pipeline)?;
    let waiting = waiting(subscription, store).await?;
    only_own(&ids, &waiting, &subscription.name)?;
    let granted = permitted(plan, subscription).await?;
    let mark = wire::mark(&granted)?;
    let stands = wire::stands(store).await?;
    // I5: what was set aside under another grant is not let in under this one.
    let other = |item: &Item| stands.get(&item.lane).is_none_or(|stand| stand.mark != mark);
    let named = |item: &&Item| ids.is_empty() || ids.contains(&item.id);
    let (changes, mut records): (Vec<&Item>, Vec<&Item>) =
        waiting.iter().filter(named).partition(|item| item.record.is_none());
    let mut refused = 0;
    let mut told = |id: i64, done: Result<String>| match done {
        Ok(text) => println!("{id}: {text}"),
        Err(error) => {
            refused += 1;
            println!("{id}: {error}");
            error.hint.iter().for_each(|hint| println!("  hint: {hint}"));
        }
    };
    // The changes first: when a lane goes back, what it has set aside from there on comes again.
    for item in changes {
        if dry_run {
            let would = "would be applied again, where the store takes it now".into();
            told(item.id, if other(item) { Err(under_another(item.id)) } else { Ok(would) });
            continue;
        }
        let done = match other(item) {
            true => Err(under_another(item.id)),
            false => items::replay(store, item.id).await,
        };
        told(item.id, done.map(|()| "applied".to_owned()));
    }
    records.sort_by(|a, b| a.position.cmp(&b.position));
    let bus = if records.is_empty() { None } else { Some(wire::Bus::look(&plan.bus)?) };
    let mut settled = Vec::new();
    for item in records {
        if settled.contains(&item.id) {
            continue;
        }
        let Some(bus) = &bus else { break };
        let act = steer::act(Verb::Replay, None, None);
        let done = if dry_run {
            let again = |at: &&Item| at.lane == item.lane && at.position >= item.position;
            let ids: Vec<i64> = waiting.iter().filter(again).map(|at| at.id).collect();
            wire::order(bus, subscription, item, act).await.map(|_| ids)
        } else {
            wire::rewind(bus, subscription, item, act).await
        };
        let goes = if dry_run { "would go" } else { "goes" };
        told(
            item.id,
            done.map(|ids| {
                settled.extend(&ids);
                format!(
                    "{} {goes} back to its record, which settles what it set aside from there on ({})",
                    item.lane,
                    ids.len()
                )
            }),
        );
    }
    if !settled.is_empty() && !dry_run {
        let running = status::running(plan, &subscription.pipeline().to_string()).await.unwrap_or(false);
        println!(
            "{}",
            match running {
                true =>
                    format!("the process at {} runs it, and reads it again within seconds", plan.http.address),
                false =>
                    "`hutong run` reads it again; a process elsewhere that runs it does so within seconds"
                        .into(),
            }
        );
    }
    Ok(if refused > 0 { Exit::Refused } else { Exit::Done })
}

fn under_another(id: i64) -> Error {
    let why = "it was set aside under another grant than the one that stands now";
    Error::new(ErrorKind::Denied, format!("replay item {id}"), why)
        .hint("`hutong run` opens its lane under the grant that stands, and settles it")
}

/// Finds a pipeline by its own name or by its kind and name: `gongan`, `capture.gongan`.
fn find<'a>(plan: &'a Plan, name: &str) -> Result<Pipeline<'a>> {
    let named = |pipeline: String, own: &str| own == name || pipeline == name;
    if let Some(s) = plan.subscriptions.iter().find(|s| named(s.pipeline().to_string(), &s.name)) {
        return Ok(Pipeline::Subscription(s));
    }
    if let Some(c) = plan.captures.iter().find(|c| named(c.pipeline().to_string(), &c.name)) {
        return Ok(Pipeline::Capture(c));
    }
    let known: Vec<String> = plan
        .subscriptions
        .iter()
        .map(|s| s.name.clone())
        .chain(plan.captures.iter().map(|c| c.pipeline().to_string()))
        .collect();
    Err(Error::new(ErrorKind::Config, format!("find {name}"), "there is no such subscription or capture")
        .hint(format!("there are: {}", known.join(", "))))
}

/// Finds a subscription whose items wait in its store.
fn replica<'a>(plan: &'a Plan, name: &str) -> Result<(&'a SubscriptionPlan, &'a StorePlan)> {
    let (whose, hint) = match find(plan, name)? {
        Pipeline::Subscription(subscription) => match subscription.into.store() {
            Some(store) => return Ok((subscription, store)),
            None => (
                "delivery",
                format!("mend its cause, then `hutong subscription reload {}`", subscription.name),
            ),
        },
        Pipeline::Capture(_) => (
            "capture",
            "correct the row in the department's own store: the correction is captured like any change"
                .into(),
        ),
    };
    let why = format!(
        "a {whose}'s quarantine is a topic: it keeps what was refused, and nothing is applied from it"
    );
    Err(Error::new(ErrorKind::Config, format!("change the quarantine of {name}"), why).hint(hint))
}

async fn items_of(plan: &Plan, pipeline: Pipeline<'_>) -> Result<Vec<Item>> {
    let bus = || wire::Bus::look(&plan.bus);
    match pipeline {
        Pipeline::Subscription(subscription) => {
            let mut items = match subscription.into.store() {
                Some(store) => items::of_replica(subscription, store).await?,
                None => items::of_delivery(&bus()?, &plan.bus.name, subscription).await?,
            };
            wire::bytes::locate(plan, subscription, &mut items).await;
            Ok(items)
        }
        Pipeline::Capture(capture) => items::of_capture(plan, &bus()?, capture).await,
    }
}

async fn waiting(subscription: &SubscriptionPlan, store: &StorePlan) -> Result<Vec<Item>> {
    let items = items::of_replica(subscription, store).await?;
    Ok(items.into_iter().filter(|item| item.state == "waiting").collect())
}

/// A store holds the items of several subscriptions: only those of the one that was named may be touched.
fn only_own(ids: &[i64], known: &[Item], pipeline: &str) -> Result<()> {
    match ids.iter().find(|id| known.iter().all(|item| item.id != **id)) {
        Some(id) => Err(no_item(*id, pipeline)),
        None => Ok(()),
    }
}

/// Finds the item of a name; a number alone will do where it is one item's.
fn one<'a>(items: &'a [Item], id: &str, pipeline: &str) -> Result<&'a Item> {
    let number = id.parse().ok();
    let mut found = items.iter().filter(|item| item.name() == id || Some(item.id) == number);
    let item = found.next().ok_or_else(|| no_item(id, pipeline))?;
    let others: Vec<String> = found.map(Item::name).collect();
    if others.is_empty() {
        return Ok(item);
    }
    let why = format!("it is the number of {} and {}", item.name(), others.join(" and "));
    Err(Error::new(ErrorKind::Config, format!("find item {id} of {pipeline}"), why)
        .hint("write STREAM/ID, as the list does"))
}

fn no_item(id: impl std::fmt::Display, pipeline: &str) -> Error {
    Error::new(ErrorKind::Config, format!("find item {id} of {pipeline}"), "no such item waits there")
        .hint(format!("hutong quarantine list {pipeline}"))
}

fn print_all(found: &[Waiting]) {
    let head = ["pipeline", "id", "rule", "since", "lane", "reason"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Waiting { pipeline, item } in found {
        rows.push(vec![
            pipeline.clone(),
            item.name(),
            item.rule.clone(),
            item.first_seen.clone(),
            item.lane.clone(),
            item.reason.clone(),
        ]);
    }
    table::lines(&rows).iter().for_each(|line| println!("{line}"));
}

/// How many places of bytes a list names.
const PLACES: usize = 10;

fn print_list(items: &[Item], pipeline: &str) {
    if items.is_empty() {
        println!("nothing is quarantined");
        return;
    }
    let head = ["id", "state", "rule", "since", "lane", "reason"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for item in items {
        rows.push(vec![
            item.name(),
            item.state.clone(),
            item.rule.clone(),
            item.first_seen.clone(),
            item.lane.clone(),
            item.reason.clone(),
        ]);
    }
    table::lines(&rows).iter().for_each(|line| println!("{line}"));
    let waiting = items.iter().filter(|item| item.state == "waiting");
    let mut places = waiting.filter_map(|item| Some((item.name(), item.bytes.as_ref()?)));
    for (name, bytes) in places.by_ref().take(PLACES) {
        println!("bytes of {name}: {}", bytes.command.as_ref().unwrap_or(&bytes.said));
    }
    let more = places.count();
    if more > 0 {
        println!("bytes of {more} more: `hutong quarantine show {pipeline} ID` says where they are");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(stream: Option<&str>, id: i64) -> Item {
        Item {
            id,
            stream: stream.map(str::to_owned),
            lane: "capture.gongan.0".into(),
            rule: "check".into(),
            reason: String::new(),
            position: String::new(),
            state: "waiting".into(),
            first_seen: String::new(),
            change: None,
            record: None,
            bytes: None,
        }
    }

    #[test]
    fn a_number_that_two_streams_have_is_asked_for_by_name() {
        let items = [item(Some("births"), 0), item(Some("people"), 0), item(Some("people"), 1)];
        let name = |id| one(&items, id, "gongan").map(Item::name).map_err(|error| error.why());
        assert_eq!(name("people/0").unwrap(), "people/0");
        assert_eq!(name("1").unwrap(), "people/1");
        assert_eq!(name("0").unwrap_err(), "it is the number of births/0 and people/0");
        for id in ["2", "births/1", "births", ""] {
            assert!(name(id).is_err(), "{id}");
        }
        assert_eq!(one(&[item(None, 7)], "7", "renshe").unwrap().name(), "7");
    }
}
