//! `hutong status`: every lane, and what to do about those that are not well.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use hutong_engine::{LaneStatus, State};
use jiff::tz::TimeZone;

use super::arguments::Output;
use super::{looking, progress, table, unwell};
use crate::config::Plan;
use crate::exit::Exit;
use crate::http;
use crate::http::status::Status;

pub(super) async fn run(config: &Path, options: &looking::Status) -> Result<Exit> {
    let plan = super::check::load(config)?;
    let status = ask(&plan).await?;
    match options.output {
        Output::Json => super::print_json(&status)?,
        Output::Text => print(&status, &plan.bus.zone),
    }
    let halted = status.lanes.iter().any(|lane| lane.state == State::Halted);
    Ok(if halted { Exit::Broken } else { Exit::Done })
}

/// States whether a process answers where the configuration says, and runs a pipeline that has not halted.
///
/// `Err(Denied)` when a process is there and does not tell it without its token: that is no reason to believe that it
/// does not.
pub(super) async fn running(plan: &Plan, pipeline: &str) -> Result<bool> {
    let ended = |state| matches!(state, State::Held | State::Halted | State::Stopped);
    match ask(plan).await {
        Ok(status) => Ok(status.lanes.iter().any(|lane| lane.pipeline == pipeline && !ended(lane.state))),
        Err(error) if error.kind == ErrorKind::Denied => Err(error),
        Err(_) => Ok(false),
    }
}

/// Asks the running process how everything is.
pub(super) async fn ask(plan: &Plan) -> Result<Status> {
    send(plan, "/status", None)
        .await?
        .json()
        .await
        .or_kind(ErrorKind::Unavailable, || "read the status".into())
}

/// Asks the running process for a path, or puts a text there.
pub(super) async fn send(plan: &Plan, path: &str, text: Option<String>) -> Result<reqwest::Response> {
    let mut address = plan.http.address;
    if address.ip().is_unspecified() {
        // Served on every address of the machine, this one among them.
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let url = format!("http://{address}{path}");
    let doing = || format!("ask {url}");
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        // The process is this machine's own: a proxy in the environment is not for it.
        .no_proxy()
        .build()
        .or_kind(ErrorKind::Broken, || "make an HTTP client".into())?;
    let mut request = match text {
        Some(text) => client.put(&url).body(text),
        None => client.get(&url),
    };
    if let Some(token) = http::token::read(&plan.http)? {
        request = request.bearer_auth(token.reveal());
    }
    let answer = request.send().await.map_err(|e| {
        Error::caused(ErrorKind::Unavailable, doing(), e)
            .hint("nothing runs there: start it with `hutong run`, or set [http] address")
    })?;
    if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
        let (why, hint) = match &plan.http.token_file {
            Some(path) => (
                "the process there has another token",
                format!(
                    "it reads {} when it starts: restart it, or ask with its configuration",
                    path.display()
                ),
            ),
            None => (
                "the process there answers only who shows its token",
                "set token_file of [http] as in the configuration that it runs with".to_owned(),
            ),
        };
        return Err(Error::new(ErrorKind::Denied, doing(), why).hint(hint));
    }
    Ok(answer)
}

/// Returns how far behind a lane is, in what its source can tell.
fn behind(lane: &LaneStatus) -> String {
    match (lane.lag_changes, lane.lag_bytes) {
        (Some(changes), _) => table::thousands(changes),
        (None, Some(bytes)) => format!("{} KiB", table::thousands(bytes.div_ceil(1024))),
        (None, None) => "?".into(),
    }
}

fn print(status: &Status, zone: &TimeZone) {
    let colours = std::io::stdout().is_terminal();
    let head = [
        "lane",
        "state",
        "verdict",
        "lag",
        "behind",
        "per second",
        "applied",
        "kept back",
        "quarantined",
        "waiting",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for lane in &status.lanes {
        rows.push(vec![
            lane.lane.clone(),
            lane.state.name().to_owned(),
            lane.verdict.name().to_owned(),
            table::seconds(lane.lag_seconds),
            behind(lane),
            format!("{:.0}", lane.rate),
            table::thousands(lane.committed),
            table::thousands(lane.dropped.values().sum()),
            lane.quarantined.to_string(),
            // A capture's quarantine is a topic, which keeps what was refused for good.
            lane.waiting.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        ]);
    }
    let states = std::iter::once(None).chain(status.lanes.iter().map(|lane| Some(lane.state)));
    for (line, state) in table::lines(&rows).into_iter().zip(states) {
        match (colours, state) {
            (true, Some(State::Halted)) => println!("\x1b[31m{line}\x1b[0m"),
            (true, Some(State::Retrying | State::Paused | State::Held)) => println!("\x1b[33m{line}\x1b[0m"),
            _ => println!("{line}"),
        }
    }
    share(status).iter().for_each(|said| println!("\n{said}"));
    for lane in &status.lanes {
        progress::lines(lane).iter().for_each(|line| println!("\n{line}"));
    }
    for lane in &status.lanes {
        for table in &lane.suspended {
            println!("\n{}: {} is suspended: {}", lane.lane, table.table, table.reason);
            println!("  what to do: mend that, and start again; the table is then read anew");
        }
    }
    unwell::paused(status, zone).iter().for_each(|said| println!("\n{said}"));
    unwell::held(status, zone).iter().for_each(|said| println!("\n{said}"));
    unwell::paragraphs(status).iter().for_each(|said| println!("\n{said}"));
    let unwell = status.lanes.iter().filter(|lane| lane.error.is_some() && lane.state != State::Held);
    for lane in unwell {
        println!("\n{} is {}: {}", lane.lane, lane.state.name(), lane.error.as_deref().unwrap_or_default());
        if let Some(hint) = &lane.hint {
            println!("  what to do: {hint}");
        }
        if let (State::Halted, Some(kind)) = (lane.state, &lane.kind) {
            println!("  more: hutong explain {kind}");
        }
    }
}

/// Says of the lanes that are not run here where to look for them.
fn share(status: &Status) -> Option<String> {
    let share = status.share.as_ref()?;
    if !share.joined {
        let why = share.problem.as_deref().unwrap_or("it has not answered yet");
        return Some(format!(
            "this process does not know yet what to run: group {}: {why}",
            share.groups.join(", ")
        ));
    }
    let count = share.elsewhere.len();
    (count > 0).then(|| {
        format!(
            "{count} lanes are not run here: another process runs them, or their topic is not there yet (group {}): {}",
            share.groups.join(", "),
            share.elsewhere.join(", ")
        )
    })
}
