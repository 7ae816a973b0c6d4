//! The composition root: each command put together from the modules that do the work.

mod approve;
mod cases;
mod check;
mod config;
mod drain;
mod engine;
mod glimpse;
mod legend;
mod logging;
mod manual;
mod output;
mod pause;
mod plan;
mod progress;
mod rebalance;
mod reload;
mod remote;
mod repair;
mod retry;
mod run;
mod status;
mod systemd;

use std::process::ExitCode;

use crate::cli::{Cli, Command, ConfigCommand, ExitStatus, UsageError};
use crate::config::Config;
use output::out;

/// Runs the command line and says how the process ends.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    // Also where nothing needs TLS: a second provider somewhere in the tree would make the choice ambiguous.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if matches!(cli.command, Command::Run(_) | Command::Rebalance(_) | Command::Move(_) | Command::Repair(_)) {
        give_way();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("evenkeel: cannot start: {error}");
            return ExitStatus::Failed.into();
        }
    };
    let status = runtime.block_on(dispatch(cli));
    // What still runs are connections on their way down; nothing waits for them.
    runtime.shutdown_background();
    status.into()
}

/// Servers and clients on the same machine go first: with two processors, four servers and 2,000 requests a second the p99
/// of clients beside a move was a sixth shorter by it, and the move took as long (`docs/benchmarks.md`).
///
/// Threads have what the one had that started them, so before there is any. Whoever starts this one may have given it more.
fn give_way() {
    const NICE: i32 = 10;
    // What is not granted costs a little patience of others.
    let _ = rustix::process::nice(NICE);
}

async fn dispatch(cli: Cli) -> ExitStatus {
    let status = match cli.command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Plan(args) => Box::pin(plan::plan(&args)).await,
        Command::Rebalance(args) => Box::pin(rebalance::rebalance(&args)).await,
        Command::Move(args) => Box::pin(rebalance::move_slots(&args)).await,
        Command::Check(args) => Box::pin(check::check(&args)).await,
        Command::Repair(args) => Box::pin(repair::repair(&args)).await,
        Command::Status(args) => Box::pin(status::status(&args)).await,
        Command::Retry(args) => Box::pin(retry::retry(&args)).await,
        Command::Pause(args) => Box::pin(pause::pause(&args)).await,
        Command::Resume(args) => Box::pin(pause::resume(&args)).await,
        Command::Drain(args) => Box::pin(drain::drain(&args)).await,
        Command::Undrain(args) => Box::pin(drain::undrain(&args)).await,
        Command::Approve(args) => Box::pin(approve::approve(&args)).await,
        Command::Config(ConfigCommand::Check(args)) => Ok(config::check(&args)),
        Command::Config(ConfigCommand::Example) => {
            out!("{}", Config::example());
            Ok(ExitStatus::Done)
        }
        Command::Completions { shell } => Ok(manual::print_completions(shell)),
        Command::Man { directory } => manual::write_pages(&directory),
        Command::Demo(args) => Box::pin(crate::demo::demo(&args)).await,
    };
    status.unwrap_or_else(|error| {
        eprintln!("evenkeel: {error:#}");
        if error.is::<UsageError>() { ExitStatus::Usage } else { ExitStatus::Failed }
    })
}

/// What this process calls itself in the names of its connections: the time of its start, its machine, its number.
///
/// The time comes first, so that of two instances the older can be told.
fn instance() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let host = gethostname::gethostname().to_string_lossy().replace(|c: char| !c.is_ascii_graphic(), "_");
    format!("{}-{host}-{}", since_epoch.as_millis(), std::process::id())
}
