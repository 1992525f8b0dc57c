//! `hutong graph`: what flows where, as a text, as a picture, and for programs.

mod flow;
mod letters;
mod outline;
mod picture;

use std::path::Path;

use hutong_core::problem::nearest;
use hutong_core::{Error, ErrorKind, Result};

use super::looking::{self, Drawing};
use super::{check, status};
use crate::config::Plan;
use crate::exit::Exit;
use crate::lang::Lang;

/// Draws the configuration, and how it goes when a process answers. That none answers is shown and is no error.
pub(super) async fn run(config: &Path, options: &looking::Graph, lang: Lang) -> Result<Exit> {
    let plan = check::load(config)?;
    only_known(&plan, options)?;
    let asked = status::ask(&plan).await;
    let answer = match &asked {
        Ok(status) => Ok(status),
        // Who answers and refuses has something to say; that nothing runs is drawn.
        Err(error) if error.kind == ErrorKind::Denied => return asked.map(|_| Exit::Done),
        Err(error) => Err(error.to_string()),
    };
    let flow = flow::Flow::of(&plan, answer, options);
    match options.output {
        Drawing::Text => print!("{}", outline::text(&flow, lang)),
        Drawing::Svg => print!("{}", picture::svg(&flow, lang)),
        Drawing::Json => super::print_json(&flow)?,
    }
    Ok(Exit::Done)
}

/// Refuses names that the configuration does not have.
fn only_known(plan: &Plan, options: &looking::Graph) -> Result<()> {
    let look = |kind: &str, name: &Option<String>, known: Vec<&str>| match name {
        Some(name) if !known.contains(&name.as_str()) => {
            let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let hint = near.unwrap_or_else(|| format!("the {kind}s are {}", known.join(", ")));
            let doing = format!("draw the {kind} {name}");
            Err(Error::new(ErrorKind::Config, doing, format!("there is no such {kind}")).hint(hint))
        }
        _ => Ok(()),
    };
    look("department", &options.department, plan.departments.keys().map(String::as_str).collect())?;
    look("stream", &options.stream, plan.streams.keys().map(String::as_str).collect())
}
