//! `hutong log`: what the running process logs, shown and changed.

use std::path::Path;

use clap::Args;
use hutong_core::{Error, ErrorKind, Result, ResultExt};

use super::arguments::Output;
use super::{check, status};
use crate::exit::Exit;
use crate::http::logging::{Now, Refusal};
use crate::logging::Changed;

/// What can be asked of it.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// A level (error, warn, info, debug, trace, off), a list such as `warn,hutong=debug`, or `default`: what the process
    /// began with. Shows the filter when none is named.
    filter: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(config: &Path, options: &Log) -> Result<Exit> {
    let plan = check::load(config)?;
    let doing = || "ask what is logged".to_owned();
    let answer = status::send(&plan, "/log", options.filter.clone()).await?;
    if !answer.status().is_success() {
        let code = answer.status();
        let doing = "change what is logged";
        return Err(match answer.json::<Refusal>().await {
            Ok(Refusal { error, hint }) if code == reqwest::StatusCode::BAD_REQUEST => {
                Error { hint, ..Error::new(ErrorKind::Config, doing, error) }
            }
            Ok(Refusal { error, hint }) => Error { hint, ..Error::new(ErrorKind::Unavailable, doing, error) },
            Err(_) => Error::new(ErrorKind::Unavailable, doing, format!("the process answered {code}"))
                .hint("it may be an older one: restart it with this program"),
        });
    }
    match (&options.filter, options.output) {
        (None, Output::Text) => {
            println!("{}", answer.json::<Now>().await.or_kind(ErrorKind::Unavailable, doing)?.filter);
        }
        (None, Output::Json) => {
            super::print_json(&answer.json::<Now>().await.or_kind(ErrorKind::Unavailable, doing)?)?;
        }
        (Some(_), output) => {
            let changed: Changed = answer.json().await.or_kind(ErrorKind::Unavailable, doing)?;
            match output {
                Output::Text => println!("was {}\nnow {}", changed.old, changed.new),
                Output::Json => super::print_json(&changed)?,
            }
        }
    }
    Ok(Exit::Done)
}
