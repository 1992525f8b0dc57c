//! `hutong doctor`: looks at everything once, from outside and from inside, and explains what it finds.

use std::path::Path;

use hutong_core::{ErrorKind, Result};
use hutong_engine::{State, Verdict};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::arguments::Output;
use super::unwell::{self, Finding};
use super::{check, looking, status};
use crate::exit::Exit;
use crate::http::status::Status;
use crate::lang::Lang;
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

pub(super) async fn run(config: &Path, options: &looking::Doctor, lang: Lang) -> Result<Exit> {
    let plan = check::load(config)?;
    // What programs read is the same everywhere.
    let said = if options.output == Output::Json { Lang::En } else { lang };
    let mut found = vec![good(said.pick("the configuration has no problems", "配置没有问题").into())];
    found.extend(probe::all(&plan).await.into_iter().map(|finding| Diagnosis {
        ok: finding.ok,
        what: finding.what,
        hint: finding.hint.filter(|_| !finding.ok),
        code: None,
    }));
    let answered = status::ask(&plan).await;
    found.extend(match &answered {
        Ok(status) => of_lanes(status, &plan.bus.zone, said),
        Err(error) => vec![Diagnosis {
            ok: false,
            what: error.to_string(),
            hint: error.hint.clone(),
            // Who refuses to answer is there.
            code: Some(match error.kind {
                ErrorKind::Unavailable => "HutongGone".into(),
                kind => kind.name().into(),
            }),
        }],
    });
    match options.output {
        Output::Json => super::print_json(&found)?,
        Output::Text => found.iter().for_each(|one| print(one, lang)),
    }
    Ok(if found.iter().all(|one| one.ok) { Exit::Done } else { Exit::Broken })
}

fn of_lanes(status: &Status, zone: &TimeZone, lang: Lang) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = unwell::findings(status, zone, lang)
        .into_iter()
        .map(|Finding { what, hint, code }| Diagnosis { ok: false, what, hint, code })
        .collect();
    for lane in &status.lanes {
        if let Some(pause) = lane.pause.as_ref().filter(|_| lane.state == State::Paused) {
            let name = lane.pipeline.split_once('.').map_or(lane.pipeline.as_str(), |(_, name)| name);
            let hint = format!("`hutong subscription history {name}`");
            let what = lang.pick(
                format!("{} is paused, by {}, because: {}", lane.lane, pause.by, pause.reason),
                format!("{} 已由 {} 暂停，原因：{}", lane.lane, pause.by, pause.reason),
            );
            found.push(Diagnosis { ok: true, what, hint: Some(hint), code: None });
        }
        if let Some(error) = lane.error.as_ref().filter(|_| lane.state == State::Held) {
            let what = lang.pick(
                format!("{} is held: {error}", lane.lane),
                format!("{} 未获准流动：{error}", lane.lane),
            );
            found.push(Diagnosis { ok: true, what, hint: lane.hint.clone(), code: None });
        }
    }
    let well = status.lanes.iter().filter(|lane| lane.verdict == Verdict::Ok && lane.error.is_none()).count();
    let all = status.lanes.len();
    found.push(good(
        lang.pick(format!("{well} of {all} lanes are well"), format!("{all} 条通道中 {well} 条正常")),
    ));
    found
}

fn good(what: String) -> Diagnosis {
    Diagnosis { ok: true, what, hint: None, code: None }
}

fn print(one: &Diagnosis, lang: Lang) {
    let word = if one.ok { lang.pick("ok  ", "正常") } else { lang.pick("FAIL", "异常") };
    println!("{word} {}", one.what);
    if let Some(hint) = &one.hint {
        println!("       {}: {hint}", lang.pick("hint", "提示"));
    }
    if let Some(code) = &one.code {
        println!("       {}: hutong explain {code}", lang.pick("more", "详见"));
    }
}
