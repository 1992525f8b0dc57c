//! What a grant would mean, before anybody signs: columns by name and classification, rows, who else holds them.

use std::collections::BTreeSet;
use std::sync::Arc;

use hutong_core::ledger::{Book, Request, State, Terms};
use hutong_core::{Error, ErrorKind, Result};

use crate::cmd::{table, tap};
use crate::config::Plan;
use crate::config::plan::StreamPlan;
use crate::ledger::{configured, under};
use crate::wire;

/// How many rows are shown to their owner.
const SAMPLE: usize = 3;

/// Prints what these terms of a request let through.
pub(super) fn print(plan: &Plan, book: &Book, department: &str, request: &Request, terms: &Terms) {
    println!("{department} {}: {}.{}", request.subscription, request.owner, request.stream);
    println!("  purpose      {}", request.purpose);
    println!("  legal basis  {}", request.legal_basis);
    println!("  into         {}", request.into);
    println!("  rows         {}", if terms.rows.is_empty() { "all".into() } else { terms.rows_text() });
    println!("  until        {}", terms.until.map_or("no end".into(), |day| day.to_string()));
    let stream = stream(plan, request);
    let mut rows = vec![["COLUMN", "TITLE", "CLASSIFICATION", "MASK"].map(str::to_owned).to_vec()];
    for column in &terms.columns {
        let field = stream.and_then(|stream| stream.contract.field(column));
        let class = field.map_or("", |field| field.classification());
        rows.push(vec![
            column.clone(),
            field.map_or("", |field| field.title()).to_owned(),
            if class.is_empty() { "-".into() } else { class.to_owned() },
            terms.masks.get(column).cloned().unwrap_or_else(|| "-".into()),
        ]);
    }
    for line in table::lines(&rows) {
        println!("  {line}");
    }
    for other in book.grants() {
        let same = (&other.owner, &other.stream) == (&request.owner, &request.stream);
        let own = (other.department.as_str(), &other.subscription) == (department, &request.subscription);
        // What is not recalled stays in the replica.
        let until = match &other.state {
            State::Active | State::Suspended(_) => "",
            State::Revoked { recall: false, .. } | State::Expired => ", of a grant that is over",
            State::Revoked { recall: true, .. } | State::Replaced => continue,
        };
        if !same || own {
            continue;
        }
        let held: Vec<&str> =
            other.terms.columns.iter().filter(|c| terms.columns.contains(c)).map(String::as_str).collect();
        if !held.is_empty() {
            println!("  {} holds {} too ({}{until})", other.department, held.join(", "), other.subscription);
        }
    }
}

fn stream<'a>(plan: &'a Plan, request: &Request) -> Option<&'a Arc<StreamPlan>> {
    plan.streams.get(&request.stream).filter(|stream| stream.owner == request.owner)
}

/// Who looks, and at how much of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether the rows are counted and not only estimated.
    pub(super) count: bool,
    /// Whether a sample of them is shown: to their owner only.
    pub(super) sample: bool,
}

/// Prints about how many rows there are, or how many would arrive, and to their owner some as the subscriber would see
/// them.
pub(super) async fn rows(
    plan: &Plan,
    (department, request): (&str, &Request),
    terms: &Terms,
    look: Look,
) -> Result<()> {
    let doing = format!("count the rows of {}", request.subscription);
    let Some(own) = configured(plan, department, request) else {
        if look.count {
            let why = "the configuration has no such subscription, so nothing says which topic it reads";
            return Err(Error::new(ErrorKind::Config, doing, why));
        }
        return Ok(());
    };
    if look.count {
        let counted = wire::count(plan, &under(own, terms)?).await?;
        println!("  rows         {} of {} that the topic holds now", counted.permitted, counted.all);
    } else if let Some(about) = wire::about(plan, own).await {
        let rows = table::thousands(about.rows);
        println!(
            "  rows         {rows} before any condition ({}); --count counts what would arrive",
            about.by
        );
    }
    if look.sample {
        let sampled = match under(own, terms) {
            Ok(granted) => wire::sample(plan, &granted, SAMPLE).await,
            Err(problem) => Err(problem),
        };
        match sampled {
            Ok(found) if found.is_empty() => {
                println!("  sample       no row at the beginning of the topic passes");
            }
            Ok(found) => {
                println!("  sample       as the subscriber would see it:");
                found.iter().for_each(|row| println!("    {}", tap::line(row)));
            }
            // Whoever signs needs no sample for it.
            Err(problem) => println!("  sample       none: {problem}"),
        }
    }
    Ok(())
}

/// Says which columns differ, for people: `+added -taken`.
pub(super) fn difference(before: &Terms, after: &Terms) -> String {
    let columns = |terms: &Terms| terms.columns.iter().cloned().collect::<BTreeSet<_>>();
    let (old, new) = (columns(before), columns(after));
    let added = new.difference(&old).map(|column| format!("+{column}"));
    let taken = old.difference(&new).map(|column| format!("-{column}"));
    let mut words: Vec<String> = added.chain(taken).collect();
    words.extend(
        after.rows.iter().filter(|rows| !before.rows.contains(rows)).map(|rows| format!("and {rows}")),
    );
    words.extend(
        before.rows.iter().filter(|rows| !after.rows.contains(rows)).map(|rows| format!("without {rows}")),
    );
    for column in new.intersection(&old) {
        match (before.masks.get(column), after.masks.get(column)) {
            (a, b) if a == b => {}
            (_, Some(mask)) => words.push(format!("{column} masked by {mask}")),
            (_, None) => words.push(format!("{column} in clear")),
        }
    }
    if before.until != after.until {
        words.push(after.until.map_or("without an end".into(), |day| format!("until {day}")));
    }
    words.join(", ")
}
