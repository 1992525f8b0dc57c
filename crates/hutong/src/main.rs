//! The program.

use std::process::ExitCode;

use clap::Parser;
use hutong::cmd::{Arguments, execute};
use hutong::logging;

/// Rows are many small pieces, made by one thread and dropped by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
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
