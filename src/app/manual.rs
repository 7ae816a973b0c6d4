//! What the command line's own definition is good for besides: completions for shells, and the pages of the manual.

use std::path::Path;

use anyhow::Context;
use clap_complete::Shell;

use super::output::{out, outln};
use crate::cli::{Cli, ExitStatus};

/// `evenkeel completions`.
pub(super) fn print_completions(shell: Shell) -> ExitStatus {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), "evenkeel", &mut text);
    out!("{}", String::from_utf8_lossy(&text));
    ExitStatus::Done
}

/// `evenkeel man`.
pub(super) fn write_pages(directory: &Path) -> anyhow::Result<ExitStatus> {
    clap_mangen::generate_to(Cli::definition(), directory)
        .with_context(|| format!("the pages cannot be written to {}: it must be a directory", directory.display()))?;
    outln!("evenkeel.1 and a page for each command are in {}", directory.display());
    Ok(ExitStatus::Done)
}
