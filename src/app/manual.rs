//! What the command line's own definition is good for besides: completions for shells, and the pages of the manual.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap_complete::Shell;

use crate::cli::{Cli, ExitStatus};

/// `evenkeel completions`.
pub(super) fn print_completions(shell: Shell) -> anyhow::Result<ExitStatus> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), "evenkeel", &mut text);
    match io::stdout().write_all(&text) {
        // A reader that has seen enough is nothing wrong.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("the text cannot be written"),
        Ok(()) | Err(_) => Ok(ExitStatus::Done),
    }
}

/// `evenkeel man`.
pub(super) fn write_pages(directory: &Path) -> anyhow::Result<ExitStatus> {
    clap_mangen::generate_to(Cli::definition(), directory)
        .with_context(|| format!("the pages cannot be written to {}: it must be a directory", directory.display()))?;
    println!("evenkeel.1 and a page for each command are in {}", directory.display());
    Ok(ExitStatus::Done)
}
