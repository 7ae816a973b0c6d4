//! The commands that ask a running daemon or tell it something.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::slots;
use crate::cluster::SlotSet;
use crate::daemon::PAUSE_MAX;

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
Open slots are finished; nothing new is begun, and no slot that somebody else opened is taken over. With a state \
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
#[command(after_help = TOLD_HELP)]
pub struct ResumeArgs {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// `evenkeel drain` and `evenkeel undrain`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(after_help = TOLD_HELP)]
pub struct DrainArgs {
    /// The shard's primary; for undrain any of its members: node id, id prefix of 8 or more, host:port or announced hostname
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
