//! `hutong policy test`: rows of a file against what each subscriber is to see of them.

use std::collections::BTreeMap;
use std::path::Path;

use hutong_core::{Contract, Error, ErrorKind, Result, ResultExt as _};
use hutong_stores::keep::written_value;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::Subscriptions;
use super::trial::{Seen, row, through};
use crate::cmd::arguments::Output;
use crate::cmd::print_json;
use crate::exit::Exit;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows.
    name: String,
    subscription: String,
    /// The row; what is not named is NULL.
    row: BTreeMap<String, toml::Value>,
    /// What the row was before, when it is one that changes.
    before: Option<BTreeMap<String, toml::Value>>,
    /// Every column that the subscriber sees, and its value.
    sees: Option<BTreeMap<String, toml::Value>>,
    /// The subscriber gets nothing of it.
    #[serde(default)]
    nothing: bool,
    /// The row leaves the replica.
    #[serde(default)]
    deleted: bool,
}

pub(super) fn run(subscriptions: &Subscriptions<'_>, path: &Path, output: Output) -> Result<Exit> {
    let doing = || format!("read the cases of {}", path.display());
    let text = std::fs::read_to_string(path).or_kind(ErrorKind::Config, doing)?;
    let file: File = toml::from_str(&text).or_kind(ErrorKind::Config, doing)?;
    let mut tried = Vec::new();
    for case in &file.case {
        tried.push(case.tried(subscriptions).map_err(|problem| Error {
            doing: format!("try the case `{}`: {}", case.name, problem.doing),
            ..problem
        })?);
    }
    let failed = tried.iter().filter(|tried| !tried.fits).count();
    match output {
        Output::Json => {
            let cases: Vec<Json> = tried.iter().map(Tried::json).collect();
            print_json(&json!({ "cases": cases, "failed": failed }))?;
        }
        Output::Text => {
            tried.iter().for_each(Tried::print);
            println!("{} cases, {failed} failed", tried.len());
        }
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Broken })
}

struct Tried<'a> {
    case: &'a Case,
    fits: bool,
    expected: Json,
    actual: Json,
}

impl Case {
    fn tried(&self, subscriptions: &Subscriptions<'_>) -> Result<Tried<'_>> {
        let subscription = subscriptions.find(&self.subscription)?;
        let contract = &subscription.stream.contract;
        let whole = |written: &BTreeMap<String, toml::Value>| row(contract, &json_of(written));
        let before = self.before.as_ref().map(whole).transpose()?;
        let seen = through(subscription, before, whole(&self.row)?)?;
        let expected = match (&self.sees, self.nothing, self.deleted) {
            (Some(sees), false, false) => Json::Object(json_of(sees).into_iter().collect()),
            (None, true, false) => json!("nothing"),
            (None, false, true) => json!("deleted"),
            _ => {
                let why = "it has to say one of `sees = { … }`, `nothing = true`, `deleted = true`";
                return Err(Error::new(ErrorKind::Config, "read what is expected", why));
            }
        };
        let fits = match (&seen, &expected) {
            (Seen::Row(row), Json::Object(sees)) => same(contract, row, sees),
            (Seen::Nothing(_), Json::String(word)) => word == "nothing",
            (Seen::Deleted, Json::String(word)) => word == "deleted",
            _ => false,
        };
        let actual = match seen {
            Seen::Row(row) => Json::Object(row),
            Seen::Deleted => json!("deleted"),
            Seen::Nothing(rule) => json!(format!("nothing, by the rule `{rule}`")),
            Seen::Aside(reason) => json!(format!("set aside: {reason}")),
        };
        Ok(Tried { case: self, fits, expected, actual })
    }
}

/// Compares values and not how they are written. What a mask has made of a value is a text.
fn same(contract: &Contract, row: &Map<String, Json>, sees: &Map<String, Json>) -> bool {
    let one = |(name, value): (&String, &Json)| {
        let Some(expected) = sees.get(name) else { return false };
        let typed = |json: &Json| contract.field(name).and_then(|field| written_value(&field.ty, json));
        value == expected || typed(value).is_some_and(|value| typed(expected).as_ref() == Some(&value))
    };
    row.len() == sees.len() && row.iter().all(one)
}

fn json_of(written: &BTreeMap<String, toml::Value>) -> BTreeMap<String, Json> {
    fn one(value: &toml::Value) -> Json {
        match value {
            toml::Value::String(text) => json!(text),
            toml::Value::Integer(number) => json!(number),
            toml::Value::Float(number) => json!(number.to_string()),
            toml::Value::Boolean(truth) => json!(truth),
            toml::Value::Datetime(at) => json!(at.to_string()),
            toml::Value::Array(items) => items.iter().map(one).collect(),
            // No type has tables: whoever reads the value says so.
            toml::Value::Table(_) => json!({}),
        }
    }
    // TOML has no NULL, so that an empty list stands for it nowhere: a column that is not named is NULL.
    written.iter().map(|(name, value)| (name.clone(), one(value))).collect()
}

impl Tried<'_> {
    fn print(&self) {
        let Case { name, subscription, .. } = self.case;
        println!("{} {subscription}: {name}", if self.fits { "ok  " } else { "FAIL" });
        if !self.fits {
            println!("       expected {}", self.expected);
            println!("       actual   {}", self.actual);
        }
    }

    fn json(&self) -> Json {
        json!({
            "name": self.case.name, "subscription": self.case.subscription, "ok": self.fits,
            "expected": self.expected, "actual": self.actual,
        })
    }
}
