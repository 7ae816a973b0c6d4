//! The `evenkeel` program: the command line, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    evenkeel::app::main(evenkeel::cli::Cli::parse_or_exit())
}
