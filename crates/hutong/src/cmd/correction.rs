//! `hutong correction`: what a department doubts of what it was given, and what the owner has found.

use std::path::Path;

use clap::Subcommand;
use hutong_core::ledger::{Act, Book, Correction as Asked, Digest, Doubt, Granted, State};
use hutong_core::{Error, ErrorKind, Result};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::arguments::Output;
use super::ledger::words::reason;
use super::{check, ledger, table};
use crate::config::Plan;
use crate::exit::Exit;
use crate::moment::today;

#[derive(Debug, Subcommand)]
pub(super) enum Correction {
    /// Asks the owner of a stream to correct what was delivered. Signed by the subscribing department.
    Request {
        /// The subscription.
        name: String,
        /// A column that is doubted. May stand several times.
        #[arg(long = "column", value_name = "COLUMN", required = true)]
        columns: Vec<String>,
        /// The record of the row, as `hutong_lane` and `hutong_offset` in the replica tell it.
        #[arg(long, value_name = "PARTITION/OFFSET", value_parser = place)]
        at: Option<String>,
        /// Why, without a value of the row: the ledger is for everybody to read, and for good.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
        /// Whose it is, where two departments have one of that name.
        #[arg(long)]
        department: Option<String>,
    },
    /// Answers: corrected at the source, from where it flows, or not wrong. Signed by the stream's owner.
    Answer {
        /// The correction, as the list names it.
        id: String,
        /// It was wrong, and is corrected at the source.
        #[arg(long, required_unless_present = "refuse", conflicts_with = "refuse")]
        accept: bool,
        /// It is right as it is.
        #[arg(long)]
        refuse: bool,
        /// What was found, without a value of the row.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Lists what was asked and answered, and what is due or overdue.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

fn place(text: &str) -> Result<String, String> {
    let parts =
        text.split_once('/').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u64>().ok()?)));
    parts.map(|(partition, offset)| format!("{partition}/{offset}")).ok_or_else(|| "such as 0/17".into())
}

pub(super) async fn run(config: &Path, action: Correction) -> Result<Exit> {
    let plan = check::load(config)?;
    let book = ledger::look(&plan, false).await?.book;
    match action {
        Correction::Request { name, columns, at, reason, department } => {
            let granted = held(&book, &name, department.as_deref())?;
            let (by, owner) = (granted.department.clone(), granted.owner.clone());
            let doubt = Doubt { grant: granted.request, columns, at, reason };
            let id = ledger::say(&plan, &by, Act::Doubted(doubt)).await?;
            println!("correction {} is asked for: `{owner}` answers it", ledger::short(&id));
            Ok(Exit::Done)
        }
        Correction::Answer { id, accept, refuse: _, reason } => {
            let (doubt, asked) = one(&book, &id)?;
            let act = Act::Corrected { doubt, accepted: accept, reason };
            ledger::say(&plan, &asked.owner, act).await?;
            let word =
                if accept { "is accepted: the correction flows from the source" } else { "is refused" };
            println!("correction {} {word}", ledger::short(&doubt));
            Ok(Exit::Done)
        }
        Correction::List { output } => list(&plan, &book, output),
    }
}

/// Finds the grant of a subscription under which something was delivered: the last one.
fn held<'a>(book: &'a Book, name: &str, department: Option<&str>) -> Result<&'a Granted> {
    let of_name = |granted: &&Granted| {
        granted.subscription == name
            && granted.state != State::Replaced
            && department.is_none_or(|department| granted.department == department)
    };
    let found: Vec<&Granted> = book.grants().into_iter().filter(of_name).collect();
    let nothing = |why: &str| {
        Err(Error::new(ErrorKind::Config, format!("find the subscription {name}"), why)
            .hint("`hutong subscription list` lists what is granted; --department names one of two"))
    };
    match &found[..] {
        [] => nothing("nothing of that name was granted"),
        [first, rest @ ..] if rest.iter().any(|other| other.department != first.department) => {
            nothing("two departments have one of that name")
        }
        [.., last] => Ok(last),
    }
}

/// Finds the correction that an id, or the beginning of one, names.
fn one<'a>(book: &'a Book, id: &str) -> Result<(Digest, &'a Asked)> {
    let all = book.corrections();
    let mut found = all.into_iter().filter(|(digest, _)| digest.to_string().starts_with(id));
    match (found.next(), found.next()) {
        (Some(one), None) if id.len() >= 8 => Ok(one),
        (None, _) => Err(unknown(id, "no correction of that name was asked for")),
        _ => Err(unknown(id, "more of it is needed to tell which")),
    }
}

fn unknown(id: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("find the correction {id}"), why).hint("hutong correction list")
}

fn list(plan: &Plan, book: &Book, output: Output) -> Result<Exit> {
    let calendar = ledger::plan(plan)?;
    let day = |us: i64| {
        let at = Timestamp::from_microsecond(us).unwrap_or_default();
        at.to_zoned_datetime(plan.bus.zone.clone()).date()
    };
    let today = today(&plan.bus.zone);
    let mut all = Vec::new();
    let head =
        ["CORRECTION", "SUBSCRIPTION", "DEPARTMENT", "STREAM", "COLUMNS", "AT", "STATE", "DUE", "REASON"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (digest, asked) in book.corrections() {
        let due = calendar.calendar.due(day(asked.at_us), calendar.answer_days);
        let due = Some(due).filter(|_| asked.answer.is_none());
        let overdue = due.is_some_and(|due| today > due);
        let (state, answer) = match &asked.answer {
            None => ("waits", None),
            Some(answer) if answer.accepted => ("corrected", Some(answer)),
            Some(answer) => ("refused", Some(answer)),
        };
        let stream = format!("{}.{}", asked.owner, asked.stream);
        let reason = answer.map_or(&asked.doubt.reason, |answer| &answer.reason);
        let clock = due.map_or("-".into(), |due| format!("{due}{}", if overdue { " overdue" } else { "" }));
        let at = asked.doubt.at.clone();
        lines.push(vec![
            ledger::short(&digest),
            asked.subscription.clone(),
            asked.department.clone(),
            stream,
            asked.doubt.columns.join(" "),
            at.clone().unwrap_or_else(|| "-".into()),
            state.to_owned(),
            clock,
            reason.clone(),
        ]);
        all.push(json!({
            "correction": digest, "subscription": asked.subscription, "department": asked.department,
            "owner": asked.owner, "stream": asked.stream, "columns": asked.doubt.columns, "at": at,
            "reason": asked.doubt.reason, "asked_us": asked.at_us, "state": state, "due": due,
            "overdue": overdue, "answer": answer.map(|answer| &answer.reason),
            "answered_us": answer.map(|answer| answer.at_us),
        }));
    }
    match output {
        Output::Json => println!("{}", Json::from(all)),
        Output::Text => table::lines(&lines).iter().for_each(|line| println!("{line}")),
    }
    Ok(Exit::Done)
}
