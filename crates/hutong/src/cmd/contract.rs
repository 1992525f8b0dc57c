//! `hutong contract`: drafts, checks and compares contracts.

use std::path::Path;

use hutong_bus::succession::{self, Reader};
use hutong_bus::{Checked, envelope};
use hutong_core::contract::{Difference, diff};
use hutong_core::{Contract, Error, ErrorKind, Kind, PipelineId, Result, ResultExt};

use super::{arguments, check};
use crate::config::plan::StreamPlan;
use crate::config::{self, Plan};
use crate::exit::Exit;
use crate::program::aside;
use crate::wire;

pub(super) async fn run(config_path: &Path, action: arguments::Contract) -> Result<Exit> {
    match action {
        arguments::Contract::Draft { store, table } => {
            let stores = config::stores(config_path).map_err(|report| {
                aside(&report);
                let doing = format!("read the stores of {}", config_path.display());
                Error::new(ErrorKind::Config, doing, "they have problems")
            })?;
            let store = stores.get(&store).ok_or_else(|| {
                let known: Vec<&str> = stores.keys().map(String::as_str).collect();
                Error::new(
                    ErrorKind::Config,
                    format!("find store {store}"),
                    "the configuration has no such store",
                )
                .hint(match known.is_empty() {
                    true => "it names none: add [store.NAME.postgres] with `url`, or [store.NAME.sqlite] with `path`".into(),
                    false => format!("the stores are: {}", known.join(", ")),
                })
            })?;
            print!("{}", wire::draft(store, &table).await?.to_avsc());
            Ok(Exit::Done)
        }
        arguments::Contract::Check { stream } => {
            against_world(&check::load(config_path)?, stream.as_deref()).await
        }
        arguments::Contract::Diff { old, new } => {
            let (old, new) = (read(&old)?, read(&new)?);
            let differences = diff(&old, &new);
            print(&differences);
            let breaking = differences.iter().any(|d| d.breaking);
            Ok(if breaking { Exit::SchemaConflict } else { Exit::Done })
        }
    }
}

fn read(path: &Path) -> Result<Contract> {
    let text =
        std::fs::read_to_string(path).or_kind(ErrorKind::Config, || format!("read {}", path.display()))?;
    Contract::parse(&text)
        .map_err(|e| Error::caused(ErrorKind::Config, format!("read {}", path.display()), e))
}

fn print(differences: &[Difference]) {
    if differences.is_empty() {
        println!("no difference");
    }
    for difference in differences {
        let mark = if difference.breaking { "BREAKS" } else { "ok    " };
        let field = difference.field.as_deref().unwrap_or("the stream");
        println!("{mark} {field}: {}", difference.what);
    }
}

/// Compares each stream's contract with its table and with what is registered, and names who would break.
async fn against_world(plan: &Plan, only: Option<&str>) -> Result<Exit> {
    if let Some(name) = only.filter(|name| !plan.streams.contains_key(*name)) {
        let known: Vec<&str> = plan.streams.keys().map(String::as_str).collect();
        return Err(Error::new(ErrorKind::Config, format!("check {name}"), "there is no such stream")
            .hint(format!("the streams are: {}", known.join(", "))));
    }
    let mut fit = true;
    for capture in &plan.captures {
        for (table, stream) in capture.tables.iter().filter(|(_, s)| only.is_none_or(|o| o == s.name)) {
            println!("{} and table {table} of store {}:", stream.name, capture.store.name);
            for finding in wire::compare(&capture.store, table, &stream.contract).await? {
                fit &= finding.ok;
                println!("  {} {}", if finding.ok { "ok  " } else { "FAIL" }, finding.what);
            }
        }
    }
    let bus = wire::Bus::look(&plan.bus);
    for stream in plan.streams.values().filter(|s| only.is_none_or(|o| o == s.name)) {
        let bus = match &bus {
            Ok(bus) => bus,
            Err(error) => {
                println!("registered versions: not asked, {error}");
                break;
            }
        };
        fit &= against_bus(plan, bus, stream).await?;
    }
    Ok(if fit { Exit::Done } else { Exit::SchemaConflict })
}

/// Compares a stream's contract with the one that its topic is written by, and with what is registered.
async fn against_bus(plan: &Plan, bus: &wire::Bus, stream: &StreamPlan) -> Result<bool> {
    let (topic, contract, level) = (stream.topic(), &stream.contract, stream.compatibility.name());
    let capture = stream.capture.as_ref().map(|name| PipelineId::new(Kind::Capture, name));
    let last = match capture {
        Some(capture) => hutong_bus::latest(bus.log().as_ref(), &plan.bus.name, &capture).await?,
        None => None,
    };
    let checkpoint = last.map(|last| last.checkpoint).unwrap_or_default();
    let readers = wire::readers::of(plan, stream);
    let mut fit = true;
    let schemas = envelope::schemas(contract, &topic);
    for (part, schema) in [("key", schemas.key), ("value", schemas.value)] {
        let subject = format!("{topic}-{part}");
        let checked = bus.registry().check(&subject, &schema).await?;
        // The row holds the key's fields too, so what changes of them is told there.
        let breaking = match (part, succession::noted(&checkpoint, &topic)) {
            ("value", Some(old)) => succession::breaking(&old, contract, level),
            ("value", None) => registered(&checked, contract),
            _ => Vec::new(),
        };
        if checked.reasons.is_empty() && breaking.is_empty() {
            println!("{subject}: fits what is registered");
            continue;
        }
        fit = false;
        println!("{subject}: would be refused");
        print_breaking(&breaking);
        if breaking.is_empty() {
            // The registry repeats the whole earlier schema among its reasons.
            let short = checked.reasons.iter().filter(|reason| !reason.starts_with("{oldSchema:"));
            short.for_each(|reason| println!("  {reason}"));
        }
        if part == "value" {
            print_broken(&readers, &breaking);
        }
    }
    if stream.generation > 1 && checkpoint.note(&format!("schema.{topic}")).is_none() {
        let before = StreamPlan { generation: stream.generation - 1, ..stream.clone() }.topic();
        let differences = match succession::noted(&checkpoint, &before) {
            Some(old) => diff(&old, contract),
            None => {
                let schema = envelope::schemas(contract, &before).value;
                registered(&bus.registry().check(&format!("{before}-value"), &schema).await?, contract)
            }
        };
        println!("{topic} has not begun; what it changes of {before}:");
        for difference in &differences {
            let mark = if difference.breaking { "BREAKS" } else { "ok    " };
            println!("  {mark} {}: {}", difference.field.as_deref().unwrap_or("the stream"), difference.what);
        }
        let breaking: Vec<Difference> = differences.into_iter().filter(|d| d.breaking).collect();
        if breaking.is_empty() {
            println!("  nothing that breaks");
        } else {
            print_broken(&readers, &breaking);
        }
    }
    Ok(fit)
}

fn registered(checked: &Checked, contract: &Contract) -> Vec<Difference> {
    let latest = checked.latest.as_deref();
    latest.map(|old| succession::breaking_of_schema(old, contract)).unwrap_or_default()
}

fn print_breaking(breaking: &[Difference]) {
    for difference in breaking {
        println!("  BREAKS {}: {}", difference.field.as_deref().unwrap_or("the stream"), difference.what);
    }
}

fn print_broken(readers: &[Reader], breaking: &[Difference]) {
    let broken = succession::broken(readers, breaking);
    let names = if broken.is_empty() { "none".to_owned() } else { broken.join(", ") };
    println!("  subscriptions that use it: {names}");
}
