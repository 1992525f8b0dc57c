//! The program.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use hutong::cmd::{Arguments, execute};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.default_log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("hutong").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(Box::pin(execute(arguments)));
    // Reading threads may be waiting for a broker: the end does not wait for them.
    runtime.shutdown_background();
    code
}

/// Logs to standard error: for people on a terminal, as JSON elsewhere. `HUTONG_LOG` sets the level.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("HUTONG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if terminal {
        log.with_target(false).compact().init();
    } else {
        log.json().flatten_event(true).init();
    }
}
