//! The command line: what can be typed, and the configuration that it amounts to.
//!
//! Nothing is carried out here. A password is never an argument: arguments are seen by everybody on the machine.

#![expect(clippy::doc_markdown, reason = "the docs of arguments are help texts, which know no backticks")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;

use crate::cluster::SlotSet;

mod layers;
mod remote;
#[cfg(test)]
mod tests;

pub use layers::{ClusterArgs, TargetArgs, UsageError};
pub use remote::{ApproveArgs, DaemonArgs, DrainArgs, PauseArgs, ResumeArgs, RetryArgs, StatusArgs};

const EXIT_HELP: &str = "\
Exit status:
  0   nothing is left to do
  2   something is left: moves in a plan, findings, slots set aside, or a human is needed
  1   could not tell or could not do: no connection, or the picture is unclear
  64  bad usage or bad configuration";

const ENVIRONMENT_HELP: &str = "\
Environment:
  EVENKEEL_PASSWORD  the cluster's password; goes before a password file. It is never an argument";

const DEMO_HELP: &str = "\
Exit status:
  0    all slots and keys are where they should be, and the clients saw no error and no loss
  1    something went wrong; it says what
  64   bad usage
  130  interrupted; nothing is left behind";

/// How a command ended, for whoever called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Nothing is left to do.
    Done,
    /// Something is left: moves in a plan, findings, slots set aside, open slots, or a human is needed.
    Left,
    /// Could not tell or could not do.
    Failed,
    /// Bad usage or bad configuration (`EX_USAGE` of `sysexits.h`).
    Usage,
    /// The demonstration was interrupted before its end, and cleaned up (what a shell says of Ctrl-C).
    Interrupted,
}

impl ExitStatus {
    /// The number that the process exits with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Left => 2,
            Self::Usage => 64,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Keeps a Redis or Valkey Cluster on an even keel: moves hash slots between primaries under live traffic until each
/// holds its share.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(
    name = "evenkeel",
    version,
    after_help = format!("{ENVIRONMENT_HELP}\n\n{EXIT_HELP}"),
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Watch the cluster and keep it balanced, until stopped
    Run(RunArgs),
    /// Print what would move and why; changes nothing
    Plan(PlanArgs),
    /// Balance the cluster now, then exit
    Rebalance(PlanArgs),
    /// Move just these slots, whatever the targets say
    Move(MoveArgs),
    /// Look for open slots, slots without an owner, nodes that disagree and stray keys; changes nothing
    Check(CheckArgs),
    /// Put right what check finds, slot by slot, as far as no human must decide
    Repair(RepairArgs),
    /// Ask a running daemon what it does, how far it has come, and why it does nothing (more)
    Status(StatusArgs),
    /// Tell a running daemon to try slots again that it has set aside
    Retry(RetryArgs),
    /// Tell a running daemon to begin nothing new, for a time or until told to go on
    Pause(PauseArgs),
    /// Tell a paused daemon to go on
    Resume(ResumeArgs),
    /// Tell a running daemon to leave a node's shard nothing, whatever the targets say
    Drain(DrainArgs),
    /// Tell a running daemon to give it its share again
    Undrain(DrainArgs),
    /// Have a running daemon carry a plan out that waits for approval
    Approve(ApproveArgs),
    /// Check a configuration file, or print an annotated one
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what a shell needs to complete this command line
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual's pages into a directory
    Man {
        /// The directory: evenkeel.1 and a page for each command are put there
        directory: PathBuf,
    },
    /// Start a throw-away local cluster with traffic and watch it being balanced
    Demo(DemoArgs),
}

/// `evenkeel run`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(after_help = EXIT_HELP)]
pub struct RunArgs {
    /// Watch and plan, and move nothing, whatever the configuration says
    #[arg(long)]
    pub observe: bool,
    /// Where to serve metrics, status and the page [default: http.listen, which is 127.0.0.1:7380]
    #[arg(long, value_name = "IP:PORT", env = "EVENKEEL_LISTEN", hide_env_values = true)]
    pub listen: Option<SocketAddr>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What the layout should be.
    #[command(flatten)]
    pub targets: TargetArgs,
}

/// `evenkeel plan` and `evenkeel rebalance`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(after_help = EXIT_HELP)]
pub struct PlanArgs {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What the layout should be.
    #[command(flatten)]
    pub targets: TargetArgs,
}

/// `evenkeel move`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(after_help = EXIT_HELP)]
pub struct MoveArgs {
    /// The slots to move, as in 866,900-910
    #[arg(long, value_name = "SLOTS", value_parser = slots)]
    pub slots: SlotSet,
    /// Where to: node id, id prefix of 8 or more, host:port or announced hostname
    #[arg(long, value_name = "NODE", value_parser = NonEmptyStringValueParser::new())]
    pub to: String,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `evenkeel check`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(after_help = EXIT_HELP)]
pub struct CheckArgs {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `evenkeel repair`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(after_help = EXIT_HELP)]
pub struct RepairArgs {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only these slots, as in 866,900-910; stray keys are brought home only in slots that are named
    #[arg(long, value_name = "SLOTS", value_parser = slots)]
    pub slots: Option<SlotSet>,
    /// Which copy to keep of keys with two values in the named slots: the one that clients see now at the slot's owner
    /// (source), or the other one (target)
    #[arg(long, value_name = "source|target", requires = "slots", hide_possible_values = true)]
    pub prefer: Option<Keep>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which of two copies of a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keep {
    /// The one at the slot's owner.
    Source,
    /// The other one.
    Target,
}

/// `evenkeel config`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Report everything that is wrong with a file, and with the files that it names
    Check(ConfigCheckArgs),
    /// Print a file with every key, its range and its default
    Example,
}

/// `evenkeel config check`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ConfigCheckArgs {
    /// The file to check [default: evenkeel.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, as every other command takes it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Open none of the files that it names: on another machine than the daemon's
    #[arg(long)]
    pub no_files: bool,
}

impl ConfigCheckArgs {
    /// The file to check.
    #[must_use]
    pub fn file(&self) -> &Path {
        self.file.as_deref().or(self.config.as_deref()).unwrap_or(Path::new("evenkeel.toml"))
    }
}

/// `evenkeel demo`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = DEMO_HELP)]
pub struct DemoArgs {
    /// How many keys to fill the cluster with
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub keys: u64,
    /// Where to serve metrics, status and the page; another port when this one is in use [default: 127.0.0.1:7380]
    #[arg(long, value_name = "IP:PORT", env = "EVENKEEL_LISTEN", hide_env_values = true)]
    pub listen: Option<SocketAddr>,
    /// Keep everything running after the end, until Ctrl-C
    #[arg(long)]
    pub hold: bool,
    /// The redis-server or valkey-server to start [default: the first of the two that is found in PATH]
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
}

impl Cli {
    /// The process's own command line. Prints help or what is wrong with it and exits, with 0 or 64.
    #[must_use]
    pub fn parse_or_exit() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            // Nothing better can be done with an error of the terminal while leaving.
            let _ = error.print();
            std::process::exit(i32::from(exit_status(&error).code()))
        })
    }

    /// The definition of the command line, for help texts and completions.
    #[must_use]
    pub fn definition() -> clap::Command {
        Self::command()
    }
}

/// How the process ends after clap's own word: help and version were asked for, everything else is bad usage.
fn exit_status(error: &clap::Error) -> ExitStatus {
    if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done }
}

fn slots(text: &str) -> Result<SlotSet, String> {
    match text.parse::<SlotSet>() {
        Ok(slots) if slots.is_empty() => Err("no slot is named".to_owned()),
        Ok(slots) => Ok(slots),
        Err(error) => Err(error.to_string()),
    }
}
