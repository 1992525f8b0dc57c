//! The program's beginning and end: arguments, log, threads, exit code.

use std::process::ExitCode;

use clap::Parser;

use crate::cmd::{Arguments, execute};
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
            eprintln!("error: failed to start the runtime: {error}");
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
