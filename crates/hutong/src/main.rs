//! The program.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use hutong::cmd::{Arguments, execute};
use tracing_subscriber::EnvFilter;

/// Rows are many small pieces, made by one thread and dropped by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    end_with_the_reader();
    let arguments = Arguments::parse();
    log_to_stderr(arguments.default_log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("hutong").build()
    {
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

/// Ends without a word when nobody reads any more what is printed, as in `hutong tap STREAM | head`.
///
/// Rust's `println!` panics then, for a Rust program ignores SIGPIPE.
fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let printing =
            |why: &str| why.starts_with("failed printing to stdout") && why.contains("os error 32");
        if panic.payload_as_str().is_some_and(printing) {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

/// Logs to standard error: for people on a terminal, as JSON elsewhere. `HUTONG_LOG` sets the level.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("HUTONG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // It calls every end of a connection an error, of which the lane tells what follows from it.
    let filter = filter.add_directive("pgwire_replication=off".parse().expect("a directive"));
    let terminal = std::io::stderr().is_terminal();
    // I7: what cannot be written, because its disk is full, is not told on the same disk either: that would panic.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(std::io::stderr);
    if terminal {
        log.with_target(false).compact().init();
    } else {
        log.json().flatten_event(true).init();
    }
}
