//! The command line: one file a command, and the words that they share.

mod arguments;
mod check;
mod contract;
mod correction;
mod demo;
mod doctor;
mod explain;
mod graph;
mod history;
mod lag;
mod ledger;
mod log;
mod looking;
mod metrics;
mod pace;
mod policy;
mod progress;
mod quarantine;
mod raw;
mod report;
mod run;
mod source;
mod status;
mod steer;
mod subscription;
mod table;
mod tap;
mod told;
mod top;
mod trace;
mod unwell;
mod verify;

pub use arguments::Arguments;

use std::process::ExitCode;

use arguments::Command;
use clap::CommandFactory;
use hutong_core::{ErrorKind, Result, ResultExt as _};

use crate::exit::Exit;
use crate::lang::Lang;
use crate::program::aside;

/// Runs the command, prints its error when it has one, and returns the process's exit code.
pub async fn execute(arguments: Arguments) -> ExitCode {
    match dispatch(arguments).await {
        Ok(exit) => exit.into(),
        Err(error) => {
            aside(format_args!("error: {error}\n"));
            if let Some(hint) = &error.hint {
                aside(format_args!("  hint: {hint}\n"));
            }
            Exit::from(error.kind).into()
        }
    }
}

/// Prints an answer as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).or_kind(ErrorKind::Broken, || "print JSON".into())?;
    println!("{text}");
    Ok(())
}

async fn dispatch(arguments: Arguments) -> Result<Exit> {
    let config = arguments.config;
    let lang = arguments.lang.unwrap_or_else(|| Lang::of_locale(|name| std::env::var(name).ok()));
    match arguments.command {
        Command::Demo(options) => demo::run(options).await,
        Command::Check(options) => check::run(&config, &options).await,
        Command::Run(options) => run::run(&config, &options).await,
        Command::Status(options) => status::run(&config, &options, lang).await,
        Command::Lag(options) => lag::run(&config, &options, lang).await,
        Command::Top(options) => top::run(&config, &options, lang).await,
        Command::Graph(options) => graph::run(&config, &options, lang).await,
        Command::Doctor(options) => doctor::run(&config, &options, lang).await,
        Command::Explain { code, output } => explain::run(code.as_deref(), output, lang),
        Command::Tap(options) => tap::run(&config, &options).await,
        Command::Policy { action } => policy::run(&config, action).await,
        Command::Report(options) => report::run(&config, &options).await,
        Command::Trace(options) => trace::run(&config, &options).await,
        Command::Quarantine { action } => quarantine::run(&config, action).await,
        Command::Contract { action } => contract::run(&config, action).await,
        Command::Source { action } => source::run(&config, action).await,
        Command::Subscription { action } => subscription::run(&config, action).await,
        Command::Correction { action } => correction::run(&config, action).await,
        Command::Ledger { action } => ledger::run(&config, action).await,
        Command::Verify(options) => verify::run(&config, &options).await,
        Command::Log(options) => log::run(&config, &options).await,
        Command::Metrics { action } => metrics::run(action),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "hutong", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
        Command::Version => {
            println!("hutong {}", env!("CARGO_PKG_VERSION"));
            Ok(Exit::Done)
        }
    }
}
