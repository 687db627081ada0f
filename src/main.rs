//! The `standpipe` binary: arguments to a command, a command to an exit code.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;

/// Small pieces that one thread takes and gives back many times a call cost half of what they cost with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    standpipe::cli::run(standpipe::cli::Arguments::parse(), &mut stdout(), &mut stderr())
}
