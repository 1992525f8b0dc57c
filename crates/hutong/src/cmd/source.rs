//! `hutong source`: prepares a store for capture, takes the preparation back, accepts a lost position.

use std::path::Path;

use hutong_core::{Error, ErrorKind, Loss, Result};

use super::arguments::{Output, Source};
use super::{check, status, table};
use crate::config::Plan;
use crate::config::plan::CapturePlan;
use crate::exit::Exit;
use crate::wire;

pub(super) async fn run(config: &Path, action: Source) -> Result<Exit> {
    let plan = check::load(config)?;
    let done = match &action {
        Source::Install { capture } => wire::install(find(&plan, capture)?).await?,
        Source::Remove { capture } => {
            let capture = find(&plan, capture)?;
            // The process would go on reading what is taken out under it, and lose its position.
            not_running(&plan, capture, "remove").await?;
            wire::remove(capture).await?
        }
        Source::Reload { capture, tables, reason, dry_run } => {
            let capture = find(&plan, capture)?;
            only_own(capture, tables)?;
            match dry_run {
                true => would_reload(&plan, capture, tables).await?,
                false => reload(&plan, capture, tables, reason).await?,
            }
        }
        Source::Reset { capture, dry_run: true, .. } => would_reset(&plan, find(&plan, capture)?).await?,
        Source::Reset { capture, reason, .. } => reset(&plan, find(&plan, capture)?, reason).await?,
        Source::Losses { capture, output } => {
            let losses = wire::losses(&plan, find(&plan, capture)?).await?;
            if *output == Output::Json {
                super::print_json(&losses)?;
                return Ok(Exit::Done);
            }
            told(&losses)
        }
    };
    println!("{done}");
    Ok(Exit::Done)
}

async fn reset(plan: &Plan, capture: &CapturePlan, reason: &str) -> Result<String> {
    not_running(plan, capture, "reset").await?;
    let done = wire::reset(plan, capture, reason).await?;
    let mut text = format!("capture {} begins anew, because: {reason}\n", capture.name);
    for (partition, position) in &done.before.positions {
        text.push_str(&format!("  its position {position} in {partition} is given up\n"));
    }
    for (partition, offset) in &done.bases {
        text.push_str(&format!("  {partition}: the new base begins at offset {offset}\n"));
    }
    text.push_str(
        "what follows: `hutong run` reads every table again, after a truncate in its topic. Replicas that\n",
    );
    text.push_str(
        "stand in the topic pass it and are equal again afterwards; new ones begin at the new base.",
    );
    Ok(text)
}

/// Says what a reset would give up; touches nothing.
async fn would_reset(plan: &Plan, capture: &CapturePlan) -> Result<String> {
    let standing = wire::standing(plan, capture, |_| true).await?;
    let mut lines = vec!["dry run: nothing is changed".to_owned()];
    lines.push(format!("capture {} would begin anew, and read every table again", capture.name));
    for (partition, position) in &standing.positions {
        lines.push(format!("  its position {position} in {partition} would be given up"));
    }
    for (partition, topic) in &standing.topics {
        let base = topic.base.map_or_else(|| "none yet".into(), |base| format!("at {base} now"));
        lines.push(format!(
            "  {partition}: the new base would begin at offset {}, the old one {base}",
            topic.end
        ));
    }
    lines.extend(first_stop(plan, capture).await);
    Ok(lines.join("\n"))
}

/// Says what a reload would read again; touches nothing.
async fn would_reload(plan: &Plan, capture: &CapturePlan, tables: &[String]) -> Result<String> {
    let standing = wire::standing(plan, capture, |name| tables.iter().any(|table| table == name)).await?;
    if !standing.begun {
        let doing = format!("read tables of {} again", capture.name);
        return Err(Error::new(ErrorKind::Config, doing, "it has not read any table yet")
            .hint("`hutong run` reads them"));
    }
    let mut lines = vec!["dry run: nothing is changed".to_owned()];
    lines.push(format!("{} would be read again, behind a truncate", tables.join(", ")));
    for (partition, topic) in &standing.topics {
        lines.push(format!("  {partition}: behind offset {}", topic.end));
    }
    for topic in &standing.retired {
        lines.push(format!("  {topic} would end: its replicas are filled anew from the new generation"));
    }
    lines.push("its other tables would go on where they stand".into());
    lines.extend(first_stop(plan, capture).await);
    Ok(lines.join("\n"))
}

/// Says that a process must be stopped first, where one runs the capture.
async fn first_stop(plan: &Plan, capture: &CapturePlan) -> Option<String> {
    match status::running(plan, &capture.pipeline().to_string()).await {
        Ok(running) => running.then(|| {
            format!("the process at {} runs it: it would have to be stopped first", plan.http.address)
        }),
        Err(error) => Some(format!("whether a process runs it is not known: {error}")),
    }
}

fn only_own(capture: &CapturePlan, tables: &[String]) -> Result<()> {
    let known: Vec<&str> = capture.tables.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(unknown) = tables.iter().find(|table| !known.contains(&table.as_str())) {
        let doing = format!("reload {unknown} of capture {}", capture.name);
        return Err(Error::new(ErrorKind::Config, doing, "the capture has no such table")
            .hint(format!("its tables are: {}", known.join(", "))));
    }
    Ok(())
}

async fn reload(plan: &Plan, capture: &CapturePlan, tables: &[String], reason: &str) -> Result<String> {
    not_running(plan, capture, "reload").await?;
    let retired = wire::reread(plan, capture, tables, reason).await?;
    let mut text = format!(
        "{} will be read again, because: {reason}\nwhat follows: `hutong run` truncates in the topic and reads; replicas \
         follow. Other tables go on where they stand.",
        tables.join(", ")
    );
    for topic in retired {
        text.push_str(&format!(
            "\n{topic} ends here: its replicas are filled anew from the new generation, and nothing removes it"
        ));
    }
    Ok(text)
}

/// Returns a table of losses: one line a partition of what was given up.
fn told(losses: &[Loss]) -> String {
    if losses.is_empty() {
        return "no loss was accepted".into();
    }
    let mut rows = vec![["at", "given up", "reason"].map(str::to_owned).to_vec()];
    for loss in losses {
        let positions = loss.positions.iter().map(|(partition, at)| format!("{partition} after {at}"));
        let topics = loss.bases.iter().map(|(topic, base)| match loss.begins.get(topic) {
            Some(begins) => format!("{topic} from {base} to {begins}"),
            None => format!("{topic} from {base}"),
        });
        let mut lines = positions.chain(topics);
        let first = lines.next().unwrap_or_else(|| "nothing was committed".into());
        rows.push(vec![loss.at.clone(), first, loss.reason.clone()]);
        rows.extend(lines.map(|line| vec![String::new(), line, String::new()]));
    }
    table::lines(&rows).join("\n")
}

/// Refuses what may not be done beside a process that runs the capture.
async fn not_running(plan: &Plan, capture: &CapturePlan, verb: &str) -> Result<()> {
    if !status::running(plan, &capture.pipeline().to_string()).await? {
        return Ok(());
    }
    let why = format!("the process at {} runs it", plan.http.address);
    Err(Error::new(ErrorKind::Fenced, format!("{verb} capture {}", capture.name), why)
        .hint(format!("stop that process, then {verb}")))
}

fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a CapturePlan> {
    plan.captures.iter().find(|c| c.name == name).ok_or_else(|| {
        let known: Vec<&str> = plan.captures.iter().map(|c| c.name.as_str()).collect();
        Error::new(ErrorKind::Config, format!("find capture {name}"), "the configuration has no such capture")
            .hint(format!("the captures are: {}", known.join(", ")))
    })
}
