//! The command `keyrail`.

mod cli;

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// A message is allocated by one thread and freed by another: the C library's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
