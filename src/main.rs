//! The `standpipe` binary: arguments to a command, a command to an exit code.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    standpipe::cli::run(standpipe::cli::Arguments::parse(), &mut stdout(), &mut stderr())
}
