//! `hutong contract`: drafts, checks and compares contracts.

use std::path::Path;

use hutong_bus::{Checked, envelope};
use hutong_core::contract::{Difference, diff};
use hutong_core::{Contract, Error, ErrorKind, Filter, Result, ResultExt};

use super::{arguments, check};
use crate::config::plan::{StreamPlan, SubscriptionPlan};
use crate::config::{self, Plan};
use crate::exit::Exit;
use crate::wire;

pub(super) async fn run(config_path: &Path, action: arguments::Contract) -> Result<Exit> {
    match action {
        arguments::Contract::Draft { store, table } => {
            let stores = config::stores(config_path).map_err(|report| {
                eprint!("{report}");
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
        let schemas = envelope::schemas(&stream.contract, &stream.topic());
        for (part, schema) in [("key", schemas.key), ("value", schemas.value)] {
            let subject = format!("{}-{part}", stream.topic());
            let checked = bus.registry().check(&subject, &schema).await?;
            if checked.reasons.is_empty() {
                println!("{subject}: fits what is registered");
                continue;
            }
            fit = false;
            println!("{subject}: would be refused");
            let breaking = match part {
                "value" => breaking(&schema, &checked, &stream.name),
                // The row holds the key's fields too, so what changes of them is told there.
                _ => Vec::new(),
            };
            for difference in &breaking {
                let field = difference.field.as_deref().unwrap_or("the stream");
                println!("  BREAKS {field}: {}", difference.what);
            }
            if breaking.is_empty() {
                // The registry repeats the whole earlier schema among its reasons.
                let short = checked.reasons.iter().filter(|reason| !reason.starts_with("{oldSchema:"));
                short.for_each(|reason| println!("  {reason}"));
            }
            if part == "value" {
                let broken = broken(plan, stream, &breaking);
                let names = if broken.is_empty() { "none".to_owned() } else { broken.join(", ") };
                println!("  subscriptions that use it: {names}");
            }
        }
    }
    Ok(if fit { Exit::Done } else { Exit::SchemaConflict })
}

/// Returns what breaks between the latest registered schema and a new one; empty when only the registry knows.
fn breaking(schema: &str, checked: &Checked, stream: &str) -> Vec<Difference> {
    // As schemas, for the registered one knows no lengths and no NOT NULL.
    let old = checked.latest.as_deref().map(|text| envelope::contract_of(text, stream));
    let (Some(Ok(old)), Ok(new)) = (old, envelope::contract_of(schema, stream)) else { return Vec::new() };
    diff(&old, &new).into_iter().filter(|difference| difference.breaking).collect()
}

/// Returns the subscriptions whose columns or rows use a field that breaks; all of the stream's where it is told
/// of the whole stream, or where nobody can tell.
fn broken<'a>(plan: &'a Plan, stream: &StreamPlan, breaking: &[Difference]) -> Vec<&'a str> {
    let uses = |subscription: &SubscriptionPlan, field: &str| {
        let filter = subscription.rows.as_deref().and_then(|sql| Filter::compile(sql, &stream.contract).ok());
        let in_rows =
            |filter: &Filter| filter.columns().iter().any(|i| stream.contract.fields[*i].name == field);
        subscription.columns.iter().any(|column| column == field) || filter.as_ref().is_some_and(in_rows)
    };
    let broken = |subscription: &&SubscriptionPlan| {
        breaking.is_empty()
            || breaking.iter().any(|d| d.field.as_deref().is_none_or(|field| uses(subscription, field)))
    };
    let of_stream = plan.subscriptions.iter().filter(|s| s.stream.name == stream.name);
    of_stream.filter(broken).map(|s| s.name.as_str()).collect()
}
