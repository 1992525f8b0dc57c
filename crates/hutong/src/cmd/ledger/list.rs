//! Requests and grants as a list, with the clocks of what waits.

use hutong_core::Result;
use hutong_core::ledger::{Answer, Asked, Book, Digest, State};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value as Json, json};

use crate::cmd::arguments::Output;
use crate::cmd::table;
use crate::config::Plan;
use crate::config::plan::LedgerPlan;
use crate::exit::Exit;
use crate::moment::today;

/// Prints every request, with what became of it.
pub(super) fn print(plan: &Plan, ledger: &LedgerPlan, book: &Book, output: Output) -> Result<Exit> {
    let today = today(&plan.bus.zone);
    let rows: Vec<Row> = book
        .requests()
        .into_iter()
        .map(|(digest, asked)| row(plan, ledger, book, today, digest, asked))
        .collect();
    if output == Output::Json {
        let rows: Vec<&Json> = rows.iter().map(|row| &row.json).collect();
        println!("{}", json!(rows));
        return Ok(Exit::Done);
    }
    let head = ["SUBSCRIPTION", "DEPARTMENT", "STREAM", "STATE", "GRANT", "UNTIL", "DUE", "REQUEST"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.into_iter().map(|row| row.text));
    for line in table::lines(&lines) {
        println!("{line}");
    }
    Ok(Exit::Done)
}

struct Row {
    text: Vec<String>,
    json: Json,
}

/// Returns by when a request must be answered, and whether that day is over.
pub(super) fn due(
    (plan, ledger): (&Plan, &LedgerPlan),
    book: &Book,
    asked: &Asked,
    today: Date,
) -> Option<(Date, bool)> {
    if asked.answer.is_some() || book.is_asked_again(asked) {
        return None;
    }
    let from = Timestamp::from_microsecond(asked.at_us).ok()?.to_zoned_datetime(plan.bus.zone.clone()).date();
    let due = ledger.calendar.due(from, ledger.answer_days);
    Some((due, today > due))
}

fn row(plan: &Plan, ledger: &LedgerPlan, book: &Book, today: Date, digest: Digest, asked: &Asked) -> Row {
    let granted = book.grants().into_iter().find(|granted| granted.request == digest);
    let state = match (&asked.answer, granted.map(|granted| &granted.state)) {
        (None, _) if book.is_asked_again(asked) => "asked again".to_owned(),
        (None, _) => "waits".to_owned(),
        (Some(Answer::Rejected { .. }), _) => "rejected".to_owned(),
        (Some(Answer::Approved { .. }), state) => state.map_or("approved", word).to_owned(),
    };
    let due = due((plan, ledger), book, asked, today);
    let until = granted.map_or(asked.request.terms.until, |granted| granted.terms.until);
    let ended = until.is_some_and(|until| today > until) && state == "active";
    let state = if ended { "ended".to_owned() } else { state };
    let day = |day: Option<Date>| day.map_or("-".into(), |day| day.to_string());
    let clock = match due {
        None => "-".into(),
        Some((day, false)) => day.to_string(),
        Some((day, true)) => format!("{day} overdue"),
    };
    let request = &asked.request;
    let text = vec![
        request.subscription.clone(),
        asked.department.clone(),
        format!("{}.{}", request.owner, request.stream),
        state.clone(),
        granted.map_or("-".into(), |granted| granted.number.to_string()),
        day(until),
        clock,
        super::short(&digest),
    ];
    let json = json!({
        "subscription": request.subscription, "department": asked.department, "owner": request.owner,
        "stream": request.stream, "state": state, "grant": granted.map(|granted| granted.number),
        "until": until, "due": due.map(|(day, _)| day), "overdue": due.is_some_and(|(_, over)| over),
        "asked_us": asked.at_us, "request": digest,
        "terms": granted.map_or(&request.terms, |granted| &granted.terms),
    });
    Row { text, json }
}

fn word(state: &State) -> &'static str {
    match state {
        State::Active => "active",
        State::Suspended(_) => "suspended",
        State::Revoked { recall: false, .. } => "revoked",
        State::Revoked { .. } => "recalled",
        State::Expired => "expired",
        State::Replaced => "replaced",
    }
}
