//! The command line: what can be typed, and the configuration that it amounts to.
//!
//! Nothing is carried out here. A password is never an argument: arguments are seen by everybody on the machine.

#![expect(clippy::doc_markdown, reason = "the docs of arguments are help texts, which know no backticks")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use thiserror::Error;

use crate::cluster::{Address, SlotSet};
use crate::config::{Config, ConfigError, MAX_WEIGHT, Mode, TargetEntry, TlsFiles};
use crate::daemon::PAUSE_MAX;

#[cfg(test)]
mod tests;

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

const STATUS_HELP: &str = "\
On a terminal, while slots are moved, it shows the progress until they are moved.

Exit status:
  0   nothing is left to do
  2   something is left: moves, open slots, slots set aside, or a human is needed
  1   no answer, or the daemon itself cannot tell
  64  bad usage";

const RETRY_HELP: &str = "\
Slots that are not set aside are named, and nothing is done about them.

Exit status:
  0   the daemon was told
  1   no answer; it says whether the daemon may have heard all the same
  64  bad usage";

const PAUSE_HELP: &str = "\
Open slots are finished; nothing new is begun, and no slot that somebody else opened is taken over. With a state
directory the pause survives a restart.

Exit status:
  0   the daemon was told
  1   no answer; it says whether the daemon may have heard all the same
  64  bad usage";

const TOLD_HELP: &str = "\
Exit status:
  0   the daemon was told
  1   refused, or no answer; it says why, and whether the daemon may have heard all the same
  64  bad usage";

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

/// `evenkeel status`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = STATUS_HELP)]
pub struct StatusArgs {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Print what is so now, on a terminal too, instead of following the work to its end first
    #[arg(long)]
    pub once: bool,
    /// Ask only whether the daemon itself is well, as an orchestrator does: one line, exit status 0 or 1
    #[arg(long, conflicts_with_all = ["json", "once"])]
    pub health: bool,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `evenkeel retry`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = RETRY_HELP)]
pub struct RetryArgs {
    /// The slots, as in 866,900-910; 0-16383 for all that are set aside
    #[arg(value_name = "SLOTS", value_parser = slots)]
    pub slots: SlotSet,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `evenkeel pause`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = PAUSE_HELP)]
pub struct PauseArgs {
    /// How long, as in 30m or "1h 30m", a year at the most [default: until evenkeel resume]
    #[arg(long = "for", value_name = "TIME", value_parser = pause_length)]
    pub length: Option<Duration>,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `evenkeel resume`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ResumeArgs {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `evenkeel drain` and `evenkeel undrain`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = TOLD_HELP)]
pub struct DrainArgs {
    /// Any member of the shard: node id, id prefix of 8 or more, host:port or announced hostname
    #[arg(value_name = "NODE", value_parser = NonEmptyStringValueParser::new())]
    pub node: String,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `evenkeel approve`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = TOLD_HELP)]
pub struct ApproveArgs {
    /// The plan's hash, as evenkeel status and the page show it
    #[arg(value_name = "HASH", value_parser = NonEmptyStringValueParser::new())]
    pub hash: String,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Which running daemon.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DaemonArgs {
    /// Where the daemon serves HTTP
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7380", value_parser = url)]
    #[arg(env = "EVENKEEL_URL", hide_env_values = true)]
    pub url: String,
    /// For https: the file with the authorities that sign the daemon's certificate
    #[arg(long, value_name = "FILE", env = "EVENKEEL_CA_FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,
    /// The file with the daemon's token; EVENKEEL_HTTP_TOKEN goes before it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
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

/// Which cluster, and how it is reached. Options go before what a file says.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Cluster", group = ArgGroup::new("cluster").args(["config", "seeds"]).required(true))]
pub struct ClusterArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any node of the cluster, instead of a file; repeatable
    #[arg(long = "seed", value_name = "HOST:PORT", value_parser = address)]
    pub seeds: Vec<Address>,
    /// The user to sign in as; the password comes from EVENKEEL_PASSWORD or a file
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub username: Option<String>,
    /// The file that holds the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Use TLS; the file with the authorities that sign the servers' certificates
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The key of our own certificate
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
    /// The name that the servers' certificates must carry
    #[arg(long, value_name = "NAME", requires = "tls_ca", value_parser = NonEmptyStringValueParser::new())]
    pub tls_server_name: Option<String>,
}

/// What the layout should be. Options go before what a file says.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(next_help_heading = "Targets")]
pub struct TargetArgs {
    /// Give the node's shard this weight, as in 10.0.0.7:6379=2; repeatable
    #[arg(long = "weight", value_name = "NODE=W", value_parser = weight)]
    pub weights: Vec<(String, f64)>,
    /// Move all slots away from the node's shard; repeatable
    #[arg(long = "drain", value_name = "NODE", value_parser = NonEmptyStringValueParser::new())]
    pub drains: Vec<String>,
    /// Act when a node is off its share by more than this
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub threshold: Option<f64>,
}

/// A command line that cannot be obeyed. The process exits with [`ExitStatus::Usage`].
#[derive(Debug, Error)]
pub enum UsageError {
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Two options speak of one node.
    #[error("--weight and --drain name `{node}` twice: give one of them for a node, once")]
    NamedTwice {
        /// The node, as it was written.
        node: String,
    },
    /// Nobody could be trusted.
    #[error(
        "{url}: https needs the file with the authorities that sign the daemon's certificate: --ca-file, or EVENKEEL_CA_FILE"
    )]
    NobodyToTrust {
        /// The daemon's address.
        url: String,
    },
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

impl RunArgs {
    /// The configuration that these options amount to. Reads the file anew at each call: a reload is another call.
    pub fn config(&self) -> Result<Config, UsageError> {
        let mut config = self.cluster.config()?;
        self.targets.overlay(&mut config)?;
        if self.observe {
            config.schedule.mode = Mode::Observe;
        }
        if let Some(listen) = self.listen {
            config.http.listen = listen;
        }
        Ok(config)
    }
}

impl PlanArgs {
    /// The configuration that these options amount to.
    pub fn config(&self) -> Result<Config, UsageError> {
        let mut config = self.cluster.config()?;
        self.targets.overlay(&mut config)?;
        Ok(config)
    }
}

impl ClusterArgs {
    /// The configuration of the file or of the seeds, with these options laid over it.
    pub fn config(&self) -> Result<Config, UsageError> {
        let mut config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::from_seeds(self.seeds.clone()),
        };
        let cluster = &mut config.cluster;
        if let Some(username) = &self.username {
            cluster.username = Some(username.clone());
        }
        if let Some(file) = &self.password_file {
            cluster.password_file = Some(file.clone());
        }
        if let Some(ca_file) = self.tls_ca.clone() {
            // Together they replace the file's table: half of one and half of the other is what nobody meant.
            let cert_key = self.tls_cert.clone().zip(self.tls_key.clone());
            cluster.tls = Some(TlsFiles { ca_file, cert_key, server_name: self.tls_server_name.clone() });
        }
        Ok(config)
    }
}

impl TargetArgs {
    /// Lays these options over the targets of a configuration.
    ///
    /// A node is compared by its text only. An entry of the file that names the same shard otherwise is found when the
    /// cluster is known.
    fn overlay(&self, config: &mut Config) -> Result<(), UsageError> {
        let named = self.weights.iter().map(|(node, _)| node).chain(&self.drains);
        for (at, node) in named.clone().enumerate() {
            if named.clone().skip(at + 1).any(|other| other == node) {
                return Err(UsageError::NamedTwice { node: node.clone() });
            }
        }
        let targets = &mut config.targets;
        if let Some(percent) = self.threshold {
            targets.threshold_percent = percent;
        }
        for (node, weight) in &self.weights {
            let entry = entry_of(&mut targets.nodes, node);
            *entry = TargetEntry { weight: Some(*weight), drain: false, ignore: false, ..entry.clone() };
        }
        for node in &self.drains {
            let entry = entry_of(&mut targets.nodes, node);
            *entry = TargetEntry { drain: true, ..TargetEntry::of(node) };
        }
        Ok(())
    }
}

/// The entry with this node text, which is made when there is none.
fn entry_of<'a>(entries: &'a mut Vec<TargetEntry>, node: &str) -> &'a mut TargetEntry {
    let at = entries.iter().position(|entry| entry.node == node).unwrap_or_else(|| {
        entries.push(TargetEntry::of(node));
        entries.len() - 1
    });
    &mut entries[at]
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| "an address is host:port, as in 10.0.0.1:6379".to_owned())
}

fn slots(text: &str) -> Result<SlotSet, String> {
    match text.parse::<SlotSet>() {
        Ok(slots) if slots.is_empty() => Err("no slot is named".to_owned()),
        Ok(slots) => Ok(slots),
        Err(error) => Err(error.to_string()),
    }
}

fn pause_length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let allowed = Duration::from_secs(1)..=PAUSE_MAX;
    if allowed.contains(&length) { Ok(length) } else { Err("a pause lasts from a second to a year".to_owned()) }
}

/// The address of a daemon, without a slash at its end.
fn url(text: &str) -> Result<String, String> {
    let parts = ["http://", "https://"].into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)));
    match parts.map(|(scheme, rest)| (scheme, rest.trim_end_matches('/'))) {
        Some((scheme, host)) if !host.is_empty() => Ok(format!("{scheme}{host}")),
        Some(_) | None => Err("a URL is http://host:port or https://host:port, as in http://127.0.0.1:7380".to_owned()),
    }
}

fn weight(text: &str) -> Result<(String, f64), String> {
    let (node, weight) = text.rsplit_once('=').ok_or("a weight is NODE=W, as in 10.0.0.7:6379=2")?;
    if node.trim().is_empty() {
        return Err("no node stands before the `=`".to_owned());
    }
    number(weight, MAX_WEIGHT).map(|weight| (node.to_owned(), weight))
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 100.0)
}

/// A number from 0 to `most`; NaN is none.
fn number(text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=most).contains(number));
    number.ok_or_else(|| format!("not a number from 0 to {most}"))
}
