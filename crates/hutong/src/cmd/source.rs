//! `hutong source`: prepares a store for capture, and takes the preparation back.

use std::path::Path;

use hutong_core::{Error, ErrorKind, Result};

use super::arguments::Source;
use super::check;
use crate::config::Plan;
use crate::config::plan::CapturePlan;
use crate::exit::Exit;
use crate::wire;

pub(super) async fn run(config: &Path, action: Source) -> Result<Exit> {
    let plan = check::load(config)?;
    let done = match &action {
        Source::Install { capture } => wire::install(find(&plan, capture)?).await?,
        Source::Remove { capture } => wire::remove(find(&plan, capture)?).await?,
    };
    println!("{done}");
    Ok(Exit::Done)
}

fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a CapturePlan> {
    plan.captures.iter().find(|c| c.name == name).ok_or_else(|| {
        let known: Vec<&str> = plan.captures.iter().map(|c| c.name.as_str()).collect();
        Error::new(ErrorKind::Config, format!("find capture {name}"), "the configuration has no such capture")
            .hint(format!("the captures are: {}", known.join(", ")))
    })
}
