//! `hutong policy explain`: for one row and one department, which rule lets or keeps each column.

use std::collections::BTreeMap;

use hutong_core::{Error, ErrorKind, Field, Filter, Mask, Result, Row, Truth};
use serde_json::{Value as Json, json};

use super::trial::{Seen, row, through};
use crate::cmd::arguments::Output;
use crate::cmd::{print_json, table};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::exit::Exit;

pub(super) fn run(
    plan: &Plan,
    subscriptions: &[SubscriptionPlan],
    (stream, department): (&str, &str),
    words: &[(String, String)],
    output: Output,
) -> Result<Exit> {
    let doing = || format!("explain what {department} sees of {stream}");
    let config = |why: &str, known: Vec<&str>| {
        Error::new(ErrorKind::Config, doing(), why).hint(format!("there are: {}", known.join(", ")))
    };
    let Some(of) = plan.streams.get(stream) else {
        return Err(config("there is no such stream", plan.streams.keys().map(String::as_str).collect()));
    };
    if !plan.departments.contains_key(department) {
        return Err(config(
            "there is no such department",
            plan.departments.keys().map(String::as_str).collect(),
        ));
    }
    let written: BTreeMap<String, Json> =
        words.iter().map(|(name, word)| (name.clone(), json!(word))).collect();
    let row = row(&of.contract, &written)?;
    let own = subscriptions.iter().filter(|own| own.department == department && own.stream.name == stream);
    let explained = own.map(|own| Explained::of(own, &row)).collect::<Result<Vec<_>>>()?;
    match output {
        Output::Json => print_json(&explained.iter().map(Explained::json).collect::<Vec<_>>())?,
        Output::Text if explained.is_empty() => {
            println!("{department} has no subscription to {stream}: nothing of it moves to it");
        }
        Output::Text => explained.iter().for_each(Explained::print),
    }
    Ok(Exit::Done)
}

/// What one subscription sees of the row, and why.
struct Explained<'a> {
    subscription: &'a SubscriptionPlan,
    seen: Seen,
    /// The condition on rows, and what it comes to.
    condition: Option<(&'a str, &'static str)>,
    /// Column, whether it is let through, by which rule, and what is seen.
    columns: Vec<(&'a str, &'static str, String, Json)>,
}

impl<'a> Explained<'a> {
    fn of(subscription: &'a SubscriptionPlan, whole: &Row) -> Result<Self> {
        let contract = &subscription.stream.contract;
        let seen = through(subscription, None, whole.clone())?;
        let condition = subscription.rows.as_deref().map(|rows| {
            // It is compiled already: a plan is whole.
            let truth = Filter::compile(rows, contract).map(|filter| filter.matches(whole));
            let word = match truth {
                Ok(Truth::True) => "true",
                Ok(Truth::False) => "false",
                Ok(Truth::Null) => "NULL, which is not true",
                Ok(Truth::Unknown) | Err(_) => "not to be decided",
            };
            (rows, word)
        });
        let columns = contract.fields.iter().map(|field| {
            let (word, why) = rule(subscription, field);
            let value = match &seen {
                Seen::Row(row) => row.get(&field.name).cloned().unwrap_or(Json::Null),
                _ => Json::Null,
            };
            (field.name.as_str(), word, why, value)
        });
        let columns = columns.collect();
        Ok(Self { subscription, seen, condition, columns })
    }

    fn outcome(&self) -> String {
        match &self.seen {
            Seen::Row(_) => "the row is delivered".into(),
            Seen::Deleted => "the row is deleted from the replica".into(),
            Seen::Nothing("filtered") => {
                "nothing of the row is delivered: it is outside of the condition".into()
            }
            Seen::Nothing(rule) => format!("nothing of the row is delivered, by the rule `{rule}`"),
            Seen::Aside(reason) => format!("the row is set aside: {reason}"),
        }
    }

    fn print(&self) {
        println!("{} {}: {}", self.subscription.department, self.subscription.name, self.outcome());
        match self.condition {
            Some((rows, word)) => println!("  rows {rows}: {word}"),
            None => println!("  rows: every row is granted"),
        }
        let delivered = matches!(self.seen, Seen::Row(_));
        let mut lines = vec![["COLUMN", "RULE", "WHY", "SEEN"].map(str::to_owned).to_vec()];
        for (column, word, why, value) in &self.columns {
            let seen = match (delivered && *word != "withheld", value) {
                (false, _) => "-".into(),
                (true, Json::String(text)) => text.clone(),
                (true, Json::Null) => "NULL".into(),
                (true, other) => other.to_string(),
            };
            lines.push(vec![(*column).to_owned(), (*word).to_owned(), why.clone(), seen]);
        }
        for line in table::lines(&lines) {
            println!("  {line}");
        }
    }

    fn json(&self) -> Json {
        let columns: Vec<Json> = self
            .columns
            .iter()
            .map(|(column, word, why, value)| json!({ "column": column, "rule": word, "why": why, "seen": value }))
            .collect();
        json!({
            "department": self.subscription.department, "subscription": self.subscription.name,
            "delivered": matches!(self.seen, Seen::Row(_)), "outcome": self.outcome(),
            "rows": self.condition.map(|(rows, word)| json!({ "condition": rows, "is": word })),
            "columns": columns,
        })
    }
}

/// Says which rule lets a column through, or keeps it back.
fn rule(subscription: &SubscriptionPlan, field: &Field) -> (&'static str, String) {
    if !subscription.columns.contains(&field.name) {
        let why = match field.not_shared() {
            Some(law) => format!("the contract does not share it: {law}"),
            None => "the subscription does not name it".into(),
        };
        return ("withheld", why);
    }
    let own = field.mask.as_deref().and_then(|word| Mask::parse(word).ok());
    match (subscription.masks.get(&field.name), own) {
        (Some(mask), Some(own)) if *mask == own => ("masked", format!("by `{mask}`, as the contract says")),
        (Some(mask), _) => ("masked", format!("by `{mask}`, as the subscription says")),
        (None, Some(own)) => ("clear", format!("the subscription lifts the contract's mask `{own}`")),
        (None, None) => ("clear", "the subscription names it".into()),
    }
}
