//! The program's beginning and end: arguments, log, threads, exit code.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use crate::cmd::{Arguments, execute};
use crate::exit::Exit;
use crate::logging;

/// Does what the command line says.
///
/// Here and not in `main.rs`: the crate that polls it builds all of it, and in the library that is done once.
pub fn run() -> ExitCode {
    end_with_the_reader();
    let arguments = Arguments::parse();
    logging::begin(arguments.default_log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("hutong").build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            aside(format_args!("error: failed to start the runtime: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(Box::pin(execute(arguments)));
    #[cfg(feature = "otlp")]
    crate::otlp::end();
    // Reading threads may be waiting for a broker: the end does not wait for them.
    runtime.shutdown_background();
    code
}

/// Ends where what is printed is not taken: `println!` panics then, for a Rust program ignores SIGPIPE.
///
/// Without a word when the reader has gone, as in `hutong tap STREAM | head`; with one line when it cannot be written, as
/// on a disk that is full. What standard error does not take can be told nowhere.
fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let why = panic.payload_as_str().unwrap_or_default();
        if let Some(error) = why.strip_prefix("failed printing to stdout: ") {
            if error.contains("os error 32") {
                std::process::exit(Exit::Done.code().into());
            }
            aside(format_args!(
                "error: failed to print the answer: {error}; make room there, or print it elsewhere\n"
            ));
            std::process::exit(Exit::Broken.code().into());
        }
        if why.starts_with("failed printing to stderr: ") {
            std::process::exit(Exit::Broken.code().into());
        }
        usual(panic);
    }));
}

/// Says something on standard error. That nobody reads it is no reason to end, nor to end otherwise.
pub(crate) fn aside(said: impl Display) {
    let _ = write!(std::io::stderr(), "{said}");
}
