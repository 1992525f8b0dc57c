//! `hutong verify`: compares a replica with its source while both change, and mends what differs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hutong_core::grant::HIDDEN_KEY;
use hutong_core::verify::{Difference, KeyDigest};
use hutong_core::{Contract, Error, ErrorKind, Result};
use hutong_engine::{State, Supervisor};
use hutong_stores::keep::key_shown;
use serde_json::{Value as Json, json};

use super::arguments::{self, Output, Verify};
use super::{check, status, subscription};
use crate::config::Plan;
use crate::config::plan::{CapturePlan, SubscriptionPlan};
use crate::exit::Exit;
use crate::ledger::granted;
use crate::verify::{Replica, Report, Settings, Source, Suspect, columns, exchange, source_half};
use crate::wire::Bus;

/// How many keys are printed for people; the JSON has all.
const SHOWN: usize = 50;

pub(super) async fn run(config: &Path, options: &Verify) -> Result<Exit> {
    let plan = check::load(config)?;
    let configured = subscription::find(&plan, &options.subscription)?;
    configured.replica("verify")?;
    if configured.stream.contract.seals() {
        // I5: the two halves tell each other keys and digests of values over the bus.
        let why = "columns of its stream are sealed, and a comparison would name keys on the bus";
        return Err(Error::new(ErrorKind::Config, format!("verify {}", configured.name), why)
            .hint("not built yet for sealed columns; `hutong subscription reload` fills the replica anew"));
    }
    let bus = Bus::look(&plan.bus)?;
    let subscription = granted(&plan, &bus, configured).await?;
    let patience = Duration::from_secs(options.patience);
    if options.half == Some(arguments::Half::Source) {
        return serve(&plan, &subscription, patience).await;
    }
    let apart = options.half == Some(arguments::Half::Replica);
    stands_still(&plan, &subscription).await?;
    let mut source = source_half(&plan, &bus, &subscription, apart, patience)?;
    let mut replica = Replica::new(&bus, &subscription, patience)?;
    let contract = Arc::clone(replica.projected());
    let settings = Settings { rounds: options.rounds, ..Settings::default() };
    let report = crate::verify::check(source.as_mut(), &mut replica, settings).await?;
    let told = Told { subscription: &subscription.name, contract: &contract, report: &report };
    if !options.repair || options.dry_run || report.differing().next().is_none() {
        told.print(options)?;
        return Ok(if report.is_equal() { Exit::Done } else { Exit::Differs });
    }
    if options.output == Output::Text {
        told.print(options)?;
    }
    let (wanted, hidden) = report.wanted(&contract);
    source.mend(&wanted).await?;
    let after = crate::verify::check(source.as_mut(), &mut replica, settings).await?;
    Mended { before: told, after: &after, hidden }.print(options)?;
    Ok(if after.is_equal() { Exit::Done } else { Exit::Differs })
}

/// `Err(Unavailable)` when the running process says that the stream's capture has halted: nothing comes past what is
/// read of the source until that is mended, and waiting for it tells nobody why.
async fn stands_still(plan: &Plan, subscription: &SubscriptionPlan) -> Result<()> {
    let Ok(status) = status::ask(plan).await else { return Ok(()) };
    let fills = |capture: &&CapturePlan| {
        capture.tables.iter().any(|(_, stream)| stream.name == subscription.stream.name)
    };
    let captures: Vec<String> =
        plan.captures.iter().filter(fills).map(|capture| format!("capture.{}", capture.name)).collect();
    let mut lanes = status.lanes.iter();
    match lanes.find(|lane| lane.state == State::Halted && captures.contains(&lane.pipeline)) {
        None => Ok(()),
        Some(lane) => {
            let why =
                format!("{} is halted: {}", lane.lane, lane.error.as_deref().unwrap_or("no reason is told"));
            let hint = lane.hint.clone().unwrap_or_else(|| "`hutong status` says what to do".into());
            Err(Error::new(ErrorKind::Unavailable, format!("verify {}", subscription.name), why).hint(hint))
        }
    }
}

/// Answers the other half until it is stopped.
async fn serve(plan: &Plan, subscription: &SubscriptionPlan, patience: Duration) -> Result<Exit> {
    let bus = Bus::look(&plan.bus)?;
    let mut source = Source::new(plan, &bus, subscription, patience)?;
    let exchange = exchange(plan, subscription)?;
    let mut supervisor = Supervisor::new();
    super::run::stop_on_signal(&mut supervisor)?;
    println!("answers for {} in {}, until it is stopped", subscription.name, exchange.topic);
    crate::verify::serve(&exchange, &mut source, &supervisor.token()).await?;
    Ok(Exit::Done)
}

#[derive(Clone, Copy)]
struct Told<'a> {
    subscription: &'a str,
    contract: &'a Contract,
    report: &'a Report,
}

impl Told<'_> {
    fn print(&self, options: &Verify) -> Result<()> {
        match options.output {
            Output::Json => super::print_json(&self.json()),
            Output::Text => {
                println!("{}", self.text(options));
                Ok(())
            }
        }
    }

    fn json(&self) -> Json {
        let report = self.report;
        let differing = report.differing().map(|(_, suspect, difference)| {
            json!({
                "key": key_shown(self.contract, &suspect.key),
                "difference": word(difference),
                "columns": columns(self.contract, difference),
            })
        });
        let moving = report
            .moving()
            .map(|(suspect, times)| json!({"key": key_shown(self.contract, &suspect.key), "times": times}));
        let waiting = report.waiting().into_iter().map(|(aside, count)| {
            let at = if aside.at_replica { "replica" } else { "source" };
            json!({"at": at, "rule": aside.rule, "count": count})
        });
        let uncertain = report.uncertain.iter().map(|(column, why)| json!({"column": column, "why": why}));
        json!({
            "subscription": self.subscription,
            "equal": report.is_equal(),
            "whole": report.is_whole(),
            "source_rows": report.source_rows,
            "replica_rows": report.replica_rows,
            "foreign_rows": report.foreign,
            "rounds": report.rounds,
            "differing": differing.collect::<Vec<_>>(),
            "changing": moving.collect::<Vec<_>>(),
            "waiting": waiting.collect::<Vec<_>>(),
            "not_compared": uncertain.collect::<Vec<_>>(),
            "waiting_without_key": report.unknown,
            "rows_left": report.left,
            "keys_left": report.left_keys,
            "words_passed_over": report.passed_over,
        })
    }

    fn text(&self, options: &Verify) -> String {
        let Report { source_rows, replica_rows, rounds, .. } = self.report;
        let name = self.subscription;
        let count = self.report.differing().count();
        let mut lines = Vec::new();
        lines.push(match count {
            0 if self.report.is_whole() => format!("subscription {name}: nothing differs"),
            0 => format!("subscription {name}: nothing differs in what could be compared, which is not all"),
            1 => format!("subscription {name}: 1 row differs"),
            count => format!("subscription {name}: {count} rows differ"),
        });
        lines[0].push_str(&format!(
            " ({source_rows} granted rows at the source, {replica_rows} in the replica, read {rounds} times)"
        ));
        for (_, suspect, difference) in self.report.differing().take(SHOWN) {
            lines.push(format!("  {}", self.line(suspect, difference)));
        }
        if count > SHOWN {
            lines.push(format!("  and {} more: -o json names them all", count - SHOWN));
        }
        for (suspect, times) in self.report.moving().take(SHOWN) {
            let key = key_shown(self.contract, &suspect.key);
            lines.push(match times {
                0 => format!("  {key} differed once and was not looked at again: --rounds looks more often"),
                times => format!("  {key} changed during the check {times} times, could not be compared"),
            });
        }
        for (aside, count) in self.report.waiting() {
            let (at, rule) = (if aside.at_replica { name } else { "its capture" }, &aside.rule);
            lines.push(format!("  {count} rows wait in the quarantine of {at} by the rule {rule}"));
        }
        if self.report.unknown > 0 {
            lines.push(format!("  {} items wait in a quarantine without a key", self.report.unknown));
        }
        if self.report.foreign > 0 {
            lines.push(format!(
                "  {} rows of the table are not Hutong's and were not compared: it is the department's own",
                self.report.foreign
            ));
        }
        for (column, why) in &self.report.uncertain {
            lines.push(format!("  column {column} was not compared: {why}"));
        }
        if self.report.left > 0 || self.report.left_keys > 0 {
            lines.push(format!(
                "  too much differs to look at all of it: {} rows stand in ranges that were not looked into, and {} \
                 keys were not looked at; mend what is named and verify again, or `hutong subscription reload {name}`",
                self.report.left, self.report.left_keys
            ));
        }
        if self.report.passed_over > 0 {
            lines.push(format!(
                "  {} records of the topic in which the halves speak could not be read and were passed over: the log \
                 names them",
                self.report.passed_over
            ));
        }
        if count > 0 && options.dry_run {
            lines.push(format!(
                "  --repair would mend {count} rows: their present state comes again from the source"
            ));
        } else if count > 0 && !options.repair {
            lines.push(format!(
                "  `hutong verify {name} --repair` mends them; add --dry-run to see what it would do"
            ));
        }
        lines.join("\n")
    }

    fn line(&self, suspect: &Suspect, difference: &Difference) -> String {
        let key = key_shown(self.contract, &suspect.key);
        match difference {
            Difference::Altered(_) => {
                format!("altered  {key} in {}", columns(self.contract, difference).join(", "))
            }
            other => format!("{:<8} {key}", word(other)),
        }
    }
}

fn word(difference: &Difference) -> &'static str {
    match difference {
        Difference::Missing => "missing",
        Difference::Surplus => "surplus",
        Difference::Altered(_) => "altered",
    }
}

/// What a repair has come to.
struct Mended<'a> {
    before: Told<'a>,
    after: &'a Report,
    /// How many rows could not be asked for.
    hidden: usize,
}

impl Mended<'_> {
    fn print(&self, options: &Verify) -> Result<()> {
        let still: BTreeMap<&KeyDigest, &Suspect> =
            self.after.differing().map(|(digest, suspect, _)| (digest, suspect)).collect();
        let mended =
            self.before.report.differing().filter(|(digest, ..)| !still.contains_key(digest)).count();
        let after = Told { report: self.after, ..self.before };
        if options.output == Output::Json {
            let mut json = self.before.json();
            json["mended"] = mended.into();
            json["not_mendable"] = self.hidden.into();
            json["after"] = after.json();
            return super::print_json(&json);
        }
        println!("mended {mended} rows through the capture of the stream; verified again:");
        println!("{}", after.text(options));
        if self.hidden > 0 {
            println!(
                "  {} rows that only the replica has cannot be named to the source, for {HIDDEN_KEY} hides their key: \
                 `hutong subscription reload {}` fills the replica anew",
                self.hidden, self.before.subscription
            );
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "verify_test.rs"]
mod tests;
