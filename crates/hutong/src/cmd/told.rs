//! How a person is told what an order did to the lanes of a subscription, or would do.

use hutong_core::Verb;
use jiff::tz::TimeZone;

use super::steer::{Answer, Lane};
use super::table;
use crate::config::Plan;
use crate::moment;

/// Returns the lines.
pub(super) fn lines(answer: &Answer, plan: &Plan) -> Vec<String> {
    let Answer { subscription: name, act, .. } = answer;
    let mut lines = Vec::new();
    if answer.dry_run {
        lines.push("dry run: nothing is changed".into());
    }
    if answer.lanes.is_empty() {
        lines.push(match act.verb {
            Verb::Reload | Verb::Rewind | Verb::Replay => {
                format!("subscription {name} has written nothing yet: it begins at the base anyway")
            }
            Verb::Pause | Verb::Resume => {
                format!("subscription {name} has written nothing yet, and is not paused")
            }
        });
        return lines;
    }
    let done: Vec<&Lane> = answer.lanes.iter().filter(|lane| lane.done).collect();
    if done.is_empty() {
        lines.push(nothing(answer, &plan.bus.zone));
        return lines;
    }
    lines.push(head(answer, done.len(), &plan.bus.zone));
    lines.extend(table::lines(&rows(answer)).into_iter().map(|line| format!("  {line}")));
    lines.extend(what_follows(answer, plan));
    lines.extend(who_runs(answer));
    lines
}

/// Says why there is nothing to do.
fn nothing(answer: &Answer, zone: &TimeZone) -> String {
    let name = &answer.subscription;
    match answer.act.verb {
        Verb::Pause => {
            let pause = answer.lanes.iter().find_map(|lane| lane.pause.as_ref());
            let since = pause.map(|pause| self::pause(pause, zone)).unwrap_or_default();
            format!("subscription {name} is paused already, {since}: nothing is done")
        }
        Verb::Resume => format!(
            "subscription {name} is not paused: nothing is done; `hutong status` says why it does not move, if it does not"
        ),
        Verb::Rewind | Verb::Reload | Verb::Replay => {
            format!("subscription {name} has read nothing since then: its lanes stay where they are")
        }
    }
}

/// Returns since when, by whom and why: `since 2026-11-26 08:00:00 +08:00, by li, because: …`.
pub(super) fn pause(pause: &hutong_core::Pause, zone: &TimeZone) -> String {
    let since = moment::text(pause.since_us, zone);
    format!("since {since}, by {}, because: {}", pause.by, pause.reason)
}

fn head(answer: &Answer, lanes: usize, zone: &TimeZone) -> String {
    let Answer { subscription: name, act, dry_run, .. } = answer;
    let (is, of) = if *dry_run { ("would be", "would ") } else { ("is", "") };
    let begin = if *dry_run { "would begin" } else { "begin" };
    match act.verb {
        Verb::Pause => format!("subscription {name} {is} paused: {lanes} lanes stand where they are"),
        Verb::Resume => format!("subscription {name} {is} resumed: {lanes} lanes {of}go on where they stood"),
        Verb::Rewind | Verb::Replay => {
            let to = act.to_us.map(|us| format!(" to {}", moment::text(us, zone))).unwrap_or_default();
            format!("subscription {name} {is} set back{to}: {lanes} lanes {of}read again")
        }
        Verb::Reload => format!("subscription {name}: {lanes} lanes {begin} at the base when they open next"),
    }
}

fn rows(answer: &Answer) -> Vec<Vec<String>> {
    let number = |count: Option<u64>| count.map_or_else(|| "-".into(), table::thousands);
    let mut head = vec!["lane", "at offset"];
    match answer.act.verb {
        Verb::Pause | Verb::Resume => {}
        Verb::Rewind | Verb::Replay => head.extend(["back to", "records", "items settled"]),
        Verb::Reload if answer.dry_run => head.extend(["base", "records", "rows replaced"]),
        Verb::Reload => {}
    }
    let mut rows = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    for lane in &answer.lanes {
        let mut row = vec![lane.lane.clone(), number(lane.from)];
        match answer.act.verb {
            _ if !lane.done => row.push("stays".into()),
            Verb::Rewind | Verb::Replay => {
                row.extend([number(lane.to), number(lane.records), lane.settled.len().to_string()]);
            }
            Verb::Reload if answer.dry_run => {
                row.extend([number(lane.to), number(lane.records), number(lane.rows)]);
            }
            Verb::Pause | Verb::Resume | Verb::Reload => {}
        }
        rows.push(row);
    }
    rows
}

fn what_follows(answer: &Answer, plan: &Plan) -> Vec<String> {
    let Answer { subscription: name, table, .. } = answer;
    let about = |count: Option<u64>| count.map_or_else(|| "?".into(), table::thousands);
    let mut lines = match answer.act.verb {
        Verb::Pause => {
            let kept = table::seconds(plan.bus.history.as_secs_f64());
            vec![
                format!(
                    "nothing more is written into {table}, also after a restart, until `hutong subscription resume {name}`"
                ),
                format!(
                    "its lag grows meanwhile; the topic keeps what it has not read for {kept} at the least, then it must be reloaded"
                ),
            ]
        }
        Verb::Resume => {
            vec!["each goes on behind what it has committed: nothing is lost, nothing comes twice".into()]
        }
        Verb::Rewind | Verb::Replay => vec![
            format!(
                "about {} records are read again, from a minute before that time on",
                about(answer.records)
            ),
            format!(
                "until its lanes are where they were, {table} shows older states of the rows that changed since then"
            ),
        ],
        Verb::Reload => {
            let mut lines = vec![if answer.topic {
                format!(
                    "they write the next generation of {table} and delete the present one: its readers read on in the \
                     new one, from its first record"
                )
            } else {
                format!(
                    "each reads everything again; {table} serves the rows that it has until then, what it has quarantined goes at once"
                )
            }];
            if answer.dry_run && answer.topic {
                lines.push(format!("about {} records are read", about(answer.records)));
            } else if answer.dry_run {
                lines.push(format!(
                    "{} rows are replaced, about {} records are read; a table that Hutong did not make shows a replica that is filling until then",
                    about(answer.rows),
                    about(answer.records)
                ));
            }
            lines
        }
    };
    let paused = answer.lanes.iter().any(|lane| lane.pause.is_some());
    if paused && !matches!(answer.act.verb, Verb::Pause | Verb::Resume) {
        let rows =
            if answer.act.verb == Verb::Reload { "its lanes begin when they open next, and " } else { "" };
        lines.push(format!("it is paused: {rows}nothing is read before `hutong subscription resume {name}`"));
    }
    if !answer.beside.is_empty() {
        let beside = answer.beside.join(", ");
        lines.push(format!("{beside} write into {table}, too: nothing happens to their rows"));
    }
    lines
}

fn who_runs(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    match &answer.runs_at {
        _ if answer.dry_run => {}
        Some(address) => {
            lines.push(format!("the process at {address} runs it: its lanes notice within seconds, without a restart"));
        }
        None if answer.halted.is_empty() => lines.push(
            "no process of this configuration runs it: `hutong run` goes by it, and a process elsewhere within seconds"
                .into(),
        ),
        None => {}
    }
    if !answer.halted.is_empty() {
        let halted = answer.halted.join(", ");
        lines.push(format!("{halted}: halted, and so until the process is started again"));
    }
    lines
}
