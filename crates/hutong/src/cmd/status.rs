//! `hutong status`: what is wrong, since when and what to do about it, then every lane.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use hutong_engine::{LaneStatus, State};
use jiff::tz::TimeZone;

use super::arguments::Output;
use super::{looking, pace, progress, table, unwell};
use crate::config::Plan;
use crate::exit::Exit;
use crate::http;
use crate::http::status::Status;
use crate::lang::Lang;

pub(super) async fn run(config: &Path, options: &looking::Status, lang: Lang) -> Result<Exit> {
    let plan = super::check::load(config)?;
    let status = ask(&plan).await?;
    match options.output {
        Output::Json => super::print_json(&status)?,
        Output::Text => print(&status, &plan.bus.zone, lang),
    }
    let halted = status.lanes.iter().any(|lane| lane.state == State::Halted);
    let away = status.parts.iter().any(|part| part.answers == Some(false));
    Ok(match (halted, away) {
        (true, _) => Exit::Broken,
        (false, true) => Exit::Unavailable,
        (false, false) => Exit::Done,
    })
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
    let answer = send(plan, "/status", None).await?;
    answer.json().await.map_err(|e| match e.is_timeout() {
        true => silent("read the status".into(), e),
        false => Error::caused(ErrorKind::Unavailable, "read the status", e).hint(
            "another program answers there, or another version of this one: set [http] address as the running one has it",
        ),
    })
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells a process that does not answer from none: nothing is won by starting a second one beside one that hangs.
fn silent(doing: String, error: reqwest::Error) -> Error {
    if error.is_timeout() && !error.is_connect() {
        let why = format!("no answer within {} s", PATIENCE.as_secs());
        return Error::new(ErrorKind::Unavailable, doing, why).hint(
            "something is there and does not answer: if it is `hutong run`, it hangs or is stopped; take a copy of its \
             log, then restart it",
        );
    }
    Error::caused(ErrorKind::Unavailable, doing, error)
        .hint("nothing runs there: start it with `hutong run`, or set [http] address")
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
        .timeout(PATIENCE)
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
    let answer = request.send().await.map_err(|e| silent(doing(), e))?;
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

fn print(status: &Status, zone: &TimeZone, lang: Lang) {
    // Who is woken reads the first lines.
    unwell::findings(status, zone, lang).iter().for_each(|found| println!("{}\n", found.paragraph(lang)));
    lanes(status, lang);
    share(status, lang).iter().for_each(|said| println!("\n{said}"));
    for lane in &status.lanes {
        progress::lines(lane).iter().for_each(|line| println!("\n{line}"));
    }
    unwell::paused(status, zone, lang).iter().for_each(|said| println!("\n{said}"));
    unwell::held(status, zone, lang).iter().for_each(|said| println!("\n{said}"));
}

fn lanes(status: &Status, lang: Lang) {
    let colours = std::io::stdout().is_terminal();
    let english = [
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
    let chinese = ["通道", "状态", "结论", "延迟", "落后", "每秒", "已写入", "未交付", "已隔离", "待处理"];
    let mut rows = vec![lang.pick(english, chinese).map(str::to_owned).to_vec()];
    for lane in &status.lanes {
        rows.push(vec![
            lane.lane.clone(),
            pace::state(lane.state, lang).to_owned(),
            pace::verdict(lane.verdict, lang).to_owned(),
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
}

/// Says of the lanes that are not run here where to look for them.
fn share(status: &Status, lang: Lang) -> Option<String> {
    let share = status.share.as_ref()?;
    if !share.joined {
        let why = share.problem.as_deref().unwrap_or("it has not answered yet");
        let groups = share.groups.join(", ");
        return Some(lang.pick(
            format!("this process does not know yet what to run: group {groups}: {why}"),
            format!("此进程尚不知道该运行什么：消费组 {groups}：{why}"),
        ));
    }
    let count = share.elsewhere.len();
    (count > 0).then(|| {
        let (groups, lanes) = (share.groups.join(", "), share.elsewhere.join(", "));
        lang.pick(
            format!(
                "{count} lanes are not run here: another process runs them, or their topic is not there yet (group \
                 {groups}): {lanes}"
            ),
            format!("{count} 条通道不在此处运行：由另一个进程运行，或其主题尚不存在（消费组 {groups}）：{lanes}"),
        )
    })
}
