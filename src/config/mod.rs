//! The configuration: a TOML file, checked whole before any of it is used.
//!
//! The file's text becomes a serde mirror (`raw`: which keys there are), that becomes a [`Config`] (`validate`: types,
//! ranges and what must fit together), and everything that is wrong on the way is reported at once ([`Fault`]). A
//! running daemon compares a new configuration with its own ([`Config::reload`]) and looks for a changed file with
//! [`FileStamp`].
//!
//! Passwords are not here: [`Secrets`] reads them when they are needed. Nor is anything that only the cluster can
//! tell, such as which node an entry of `targets.nodes` means.

mod diff;
mod fault;
mod lease;
mod raw;
mod secret;
mod source;
mod targets;
mod validate;
mod watch;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::Address;

pub use diff::{Change, RestartOnly};
pub use fault::{ConfigError, Fault, Problem};
pub use lease::{KubernetesLease, LeaseConfig};
pub use secret::{MAX_PASSWORD_BYTES, PASSWORD_VARIABLE, SecretError, Secrets, TOKEN_VARIABLE, TokenSource};
pub use targets::{MAX_WEIGHT, TargetEntry, Targets};
pub use watch::FileStamp;
pub use window::{Window, WindowError};

/// The whole configuration, every value within its range.
///
/// The fields are plain values: the command line overlays some of them, with values that it has checked itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[cluster]`: which cluster, and how it is reached.
    pub cluster: ClusterConfig,
    /// `[targets]`: what the layout should be.
    pub targets: Targets,
    /// `[migration]`: how slots are moved.
    pub migration: MigrationConfig,
    /// `[schedule]`: when.
    pub schedule: ScheduleConfig,
    /// `[state]`: what is kept on disk.
    pub state: StateConfig,
    /// `[lease]`: who of several instances may act.
    pub lease: LeaseConfig,
    /// `[http]`: metrics, status and the page.
    pub http: HttpConfig,
    /// `[log]`: what is logged, and how.
    pub log: LogConfig,
}

/// `[cluster]`: which cluster, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The label that every metric carries; 1 to 128 characters.
    pub name: String,
    /// Where the cluster's nodes are first looked for; at least one.
    pub seeds: Vec<Address>,
    /// The user to sign in as; `None` is the servers' default user.
    pub username: Option<String>,
    /// The file that holds the password. `EVENKEEL_PASSWORD` goes before it; [`Secrets`] knows the rule.
    pub password_file: Option<PathBuf>,
    /// The user as whom a source signs in at the target (`MIGRATE … AUTH2`); `None` is the same user as ours.
    pub migrate: Option<MigrateUser>,
    /// TLS, when it is to be used.
    pub tls: Option<TlsFiles>,
    /// Where to dial instead of an announced address. Applies to our own dialling only.
    pub address_map: BTreeMap<Address, Address>,
}

/// The user as whom a source signs in at the target, when that is not our own user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateUser {
    /// The user's name.
    pub username: String,
    /// The file that holds the user's password.
    pub password_file: PathBuf,
}

/// The files that TLS needs. They are read at each connect, so that a renewed certificate needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that sign the servers' certificates (PEM).
    pub ca_file: PathBuf,
    /// Our certificate and its key (PEM), for servers that ask for one.
    pub cert_key: Option<(PathBuf, PathBuf)>,
    /// The name that the servers' certificates must carry; `None` is the announced hostname, else the IP.
    pub server_name: Option<String>,
}

/// `[migration]`: how slots are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationConfig {
    /// How long one `MIGRATE` may hold a node, in the mean; nine in ten may take up to twice as long.
    pub block_max: Duration,
    /// How long another client of the source or the target may wait for an answer, the network not counted.
    pub latency_max: Duration,
    /// How many slots are opened a second at most, by all moves together; `None` is no limit.
    pub slots_per_second: Option<u64>,
    /// The same of keys moved.
    pub keys_per_second: Option<u64>,
    /// The same of bytes moved, as estimated from the source's mean.
    pub bytes_per_second: Option<u64>,
    /// `MIGRATE`'s own timeout, for each read and write.
    ///
    /// Must stay below half the cluster's node timeout, which only the cluster can tell: checked when it is known.
    pub migrate_timeout: Duration,
    /// How long a server may take to answer a call.
    pub call_timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How many pairs of source and target move slots at once.
    pub parallel: usize,
    /// How many of these pairs may have the same target.
    pub per_target: usize,
    /// How many slots of a pair are opened together.
    pub group_slots: usize,
    /// How many keys the open slots of a pair may hold; one slot is opened however many it holds.
    pub group_keys: u64,
    /// How many keys one `MIGRATE` takes at most.
    pub batch_keys_max: usize,
    /// How often a slot that cannot be started is tried before it is set aside.
    pub attempts: u32,
    /// The delay before the second attempt; it doubles with each further one.
    pub retry_delay: Duration,
    /// The longest delay between two attempts; never below `retry_delay`.
    pub retry_delay_max: Duration,
    /// The share of its `maxmemory`, in percent, above which a target takes no further slot.
    pub memory_limit_percent: u8,
    /// What becomes of a target that is a cache and has no room.
    pub full_target: FullTarget,
    /// What becomes of a target that lacks libraries of functions which its source has.
    pub functions: Functions,
    /// What becomes of a slot with a key that would hold its node for longer than `big_key_block_max`.
    pub big_keys: BigKeys,
    /// How long one key may hold its node.
    pub big_key_block_max: Duration,
    /// When such slots are moved under [`BigKeys::Window`], which needs it.
    pub big_key_window: Option<Window>,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        Self {
            // Long enough for many small keys a call, short beside the time-outs that clients have.
            block_max: Duration::from_millis(2),
            // Two calls and a half, one behind the other.
            latency_max: Duration::from_millis(5),
            slots_per_second: None,
            keys_per_second: None,
            bytes_per_second: None,
            // A target that hangs holds its source this long; 15 s is the servers' own default node timeout.
            migrate_timeout: Duration::from_secs(1),
            call_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            parallel: 8,
            per_target: 4,
            // On loopback as fast as 64 within a twentieth, and clients' p99 is half as long: all nodes hear of each group.
            group_slots: 16,
            group_keys: 10_000,
            batch_keys_max: 1_000,
            attempts: 10,
            retry_delay: Duration::from_secs(1),
            retry_delay_max: Duration::from_mins(5),
            memory_limit_percent: 80,
            full_target: FullTarget::Refuse,
            functions: Functions::Warn,
            big_keys: BigKeys::Refuse,
            // A hundred times `block_max`: about what clients' time-outs bear, and 160,000 fields of a hash on Redis.
            big_key_block_max: Duration::from_millis(200),
            big_key_window: None,
        }
    }
}

/// What becomes of a target that would come above its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullTarget {
    /// It takes no slot.
    Refuse,
    /// It takes slots all the same where it is a cache (`maxmemory-policy allkeys-*`), and drops other keys for them.
    Evict,
}

impl FullTarget {
    const ALL: [Self; 2] = [Self::Refuse, Self::Evict];
}

impl fmt::Display for FullTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Evict => "evict",
        })
    }
}

/// What becomes of a target that lacks libraries of functions which its source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Functions {
    /// It is warned of.
    Warn,
    /// Those that it has not are loaded there before it takes a slot; those that differ are warned of.
    Copy,
    /// Nobody asks.
    Ignore,
}

impl Functions {
    const ALL: [Self; 3] = [Self::Warn, Self::Copy, Self::Ignore];
}

impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warn => "warn",
            Self::Copy => "copy",
            Self::Ignore => "ignore",
        })
    }
}

/// What becomes of a slot with a big key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BigKeys {
    /// It is set aside.
    Refuse,
    /// It is moved in a window of time, and set aside outside of it.
    Window,
    /// It is moved.
    Move,
}

impl BigKeys {
    const ALL: [Self; 3] = [Self::Refuse, Self::Window, Self::Move];
}

impl fmt::Display for BigKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Window => "window",
            Self::Move => "move",
        })
    }
}

/// `[schedule]`: when the cluster is looked at, and when slots may be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Whether slots are moved at all.
    pub mode: Mode,
    /// How often the cluster is looked at.
    pub poll: Duration,
    /// For how many polls the set of primaries must have held before a new plan starts.
    pub settle: u32,
    /// How long a stopping daemon goes on to finish the slots that it has open.
    pub stop_grace: Duration,
    /// For how long an open slot that nobody works on is left to whoever opened it.
    pub adopt_after: Duration,
    /// For how long no slot is opened after the last sign that somebody else moves slots.
    pub foreign_quiet: Duration,
    /// When a daemon may begin to move slots; empty for always.
    pub windows: Vec<Window>,
    /// Whether a daemon waits with a plan until somebody approves it.
    pub approval: Approval,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Act,
            poll: Duration::from_secs(5),
            settle: 2,
            stop_grace: Duration::from_secs(20),
            adopt_after: Duration::from_mins(1),
            foreign_quiet: Duration::from_secs(30),
            windows: Vec::new(),
            approval: Approval::Automatic,
        }
    }
}

/// Whether a plan waits for somebody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// It is carried out as soon as it is made.
    Automatic,
    /// It is carried out once it has been approved by its hash, exactly as it was then.
    Manual,
}

impl Approval {
    const ALL: [Self; 2] = [Self::Automatic, Self::Manual];
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        })
    }
}

/// Whether the daemon moves slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Moves them.
    Act,
    /// Watches and plans, and sends no command that changes anything.
    Observe,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Act, Self::Observe];
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Act => "act",
            Self::Observe => "observe",
        })
    }
}

/// `[state]`: what is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateConfig {
    /// The directory of the journal; `None` keeps nothing beyond a restart.
    pub dir: Option<PathBuf>,
}

/// `[http]`: metrics, status and the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to listen. The default is reachable from this machine only.
    pub listen: SocketAddr,
    /// The file with the token that whoever tells the daemon something must show; see [`TokenSource`].
    pub token_file: Option<PathBuf>,
    /// Who may read what it tells.
    pub reads: Reads,
    /// TLS, when it is to be spoken, and then nothing else.
    pub tls: Option<ServerTlsFiles>,
}

/// Who may read metrics, status and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Whoever reaches the listener.
    Open,
    /// Whoever shows the token.
    Token,
}

impl Reads {
    const ALL: [Self; 2] = [Self::Open, Self::Token];
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Token => "token",
        })
    }
}

/// The files of our own listener's certificate (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The certificate, and after it those between it and its authority.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7380)), token_file: None, reads: Reads::Open, tls: None }
    }
}

/// `[log]`: what is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is still logged.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// The least important level that is still logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing at all.
    Off,
    /// What needs somebody's attention now.
    Error,
    /// What may need it later.
    Warn,
    /// One line a group of slots, and every change of what the daemon does or why it does nothing.
    Info,
    /// One line a slot.
    Debug,
    /// What only a developer wants to know.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const ALL: [Self; 2] = [Self::Text, Self::Json];
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl Config {
    /// Reads and checks a file. Paths in it are taken from the working directory, not from the file's.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|why| ConfigError::Unreadable { path: path.to_owned(), why })?;
        Self::parse(&text, &path.display().to_string())
            .map_err(|faults| ConfigError::Faults { path: path.to_owned(), faults })
    }

    /// Checks a file's text; `name` stands before each fault. Every fault is reported, in the order of the text.
    pub fn parse(text: &str, name: &str) -> Result<Self, Vec<Fault>> {
        validate::config(text, name)
    }

    /// Where a key is written in a file's text: line and column, both counted from 1; `None` where it is not.
    #[must_use]
    pub fn place_of(text: &str, key: &str) -> Option<(usize, usize)> {
        source::place_of(text, key)
    }

    /// The default configuration of a cluster that is found at these addresses, of which there must be one at least.
    #[must_use]
    pub fn from_seeds(seeds: Vec<Address>) -> Self {
        debug_assert!(!seeds.is_empty(), "a cluster cannot be found without an address");
        Self {
            cluster: ClusterConfig {
                name: "default".to_owned(),
                seeds,
                username: None,
                password_file: None,
                migrate: None,
                tls: None,
                address_map: BTreeMap::new(),
            },
            targets: Targets::default(),
            migration: MigrationConfig::default(),
            schedule: ScheduleConfig::default(),
            state: StateConfig::default(),
            lease: LeaseConfig::default(),
            http: HttpConfig::default(),
            log: LogConfig::default(),
        }
    }

    /// The annotated example: every key with what it does, its range and its default.
    #[must_use]
    pub fn example() -> &'static str {
        include_str!("../../config/evenkeel.toml")
    }
}
