//! The program.

use std::process::ExitCode;

/// Rows are many small pieces, made by one thread and dropped by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hutong::program::run()
}
