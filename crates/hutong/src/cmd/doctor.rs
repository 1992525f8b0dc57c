//! `hutong doctor`: looks at everything once, from outside and from inside, and explains what it finds.

use std::path::Path;

use hutong_core::Result;
use hutong_engine::{LaneStatus, State, Verdict};
use serde::Serialize;

use super::arguments::Output;
use super::{check, looking, status, unwell};
use crate::exit::Exit;
use crate::http::status::Status;
use crate::wire::probe;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Diagnosis {
    ok: bool,
    what: String,
    /// What a person may do about it.
    hint: Option<String>,
    /// The code that `hutong explain` takes.
    code: Option<String>,
}

pub(super) async fn run(config: &Path, options: &looking::Doctor) -> Result<Exit> {
    let plan = check::load(config)?;
    let mut found = vec![good("the configuration has no problems".into())];
    found.extend(probe::all(&plan).await.into_iter().map(|finding| Diagnosis {
        ok: finding.ok,
        what: finding.what,
        hint: finding.hint.filter(|_| !finding.ok),
        code: None,
    }));
    let answered = status::ask(&plan).await;
    found.extend(match &answered {
        Ok(status) => of_lanes(status),
        Err(error) => vec![Diagnosis {
            ok: false,
            what: error.to_string(),
            hint: error.hint.clone(),
            code: Some("HutongGone".into()),
        }],
    });
    match options.output {
        Output::Json => super::print_json(&found)?,
        Output::Text => found.iter().for_each(print),
    }
    Ok(if found.iter().all(|one| one.ok) { Exit::Done } else { Exit::Broken })
}

fn of_lanes(status: &Status) -> Vec<Diagnosis> {
    let bad = |what, hint: Option<String>, code: Option<String>| Diagnosis { ok: false, what, hint, code };
    let mut found: Vec<Diagnosis> =
        unwell::paragraphs(status).into_iter().map(|what| bad(what, None, None)).collect();
    for lane in &status.lanes {
        if let Some(pause) = lane.pause.as_ref().filter(|_| lane.state == State::Paused) {
            let name = lane.pipeline.split_once('.').map_or(lane.pipeline.as_str(), |(_, name)| name);
            let hint = format!("`hutong subscription history {name}`");
            let what = format!("{} is paused, by {}, because: {}", lane.lane, pause.by, pause.reason);
            found.push(Diagnosis { ok: true, what, hint: Some(hint), code: None });
        }
        if let Some(error) = lane.error.as_ref().filter(|_| lane.state == State::Held) {
            let what = format!("{} is held: {error}", lane.lane);
            found.push(Diagnosis { ok: true, what, hint: lane.hint.clone(), code: None });
        } else if let Some(error) = &lane.error {
            let what = format!("{} is {}: {error}", lane.lane, lane.state.name());
            found.push(bad(what, lane.hint.clone(), lane.kind.clone().filter(|_| is_halted(lane))));
        }
        for table in &lane.suspended {
            let hint = "mend that, and start again; the table is then read anew".to_owned();
            let what = format!("{}: {} is suspended: {}", lane.lane, table.table, table.reason);
            found.push(bad(what, Some(hint), None));
        }
        if lane.quarantined > 0 {
            let own =
                ["replicate.", "deliver."].into_iter().find_map(|kind| lane.pipeline.strip_prefix(kind));
            let name = own.unwrap_or(&lane.pipeline);
            let what = format!("{} has set {} changes aside since it started", lane.lane, lane.quarantined);
            let hint = format!("`hutong quarantine list {name}`");
            found.push(bad(what, Some(hint), Some("HutongQuarantineGrew".into())));
        }
    }
    let well = status.lanes.iter().filter(|lane| lane.verdict == Verdict::Ok && lane.error.is_none()).count();
    found.push(good(format!("{well} of {} lanes are well", status.lanes.len())));
    found
}

fn is_halted(lane: &LaneStatus) -> bool {
    lane.state == State::Halted
}

fn good(what: String) -> Diagnosis {
    Diagnosis { ok: true, what, hint: None, code: None }
}

fn print(one: &Diagnosis) {
    println!("{} {}", if one.ok { "ok  " } else { "FAIL" }, one.what);
    if let Some(hint) = &one.hint {
        println!("       hint: {hint}");
    }
    if let Some(code) = &one.code {
        println!("       more: hutong explain {code}");
    }
}
