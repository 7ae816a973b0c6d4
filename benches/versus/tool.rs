//! The programs that are compared.

use std::fmt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::client::Felt;
use super::daemon;
use super::load::Item;
use super::network::Network;
use super::raw;
use super::spent::Spent;
use super::support::{Cluster, Flavour, Node};

/// Seconds after which a run is a failure: several times what the slowest takes with the default loads.
const LIMIT: &str = "900";

/// A program that can level a cluster, and how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    /// With its defaults, but for these settings of `[migration]`, separated by semicolons.
    Evenkeel { settings: &'static str },
    /// With its defaults, as a daemon: see [`daemon`].
    Daemon,
    /// With so many keys in one `MIGRATE`; everything else as it is by default.
    RedisCli { pipeline: u32 },
    /// Bare calls: see [`raw`].
    Raw,
}

/// How long one run took, and what clients felt meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// From the start of the process to its end, or a daemon's from its order to its rest; of all passes together.
    pub(crate) whole: Duration,
    /// From the first mark to the last, by the tool's own word, where it says so.
    pub(crate) moving: Option<Duration>,
    /// What clients felt.
    pub(crate) felt: Felt,
    /// Time of processors.
    pub(crate) spent: Spent,
}

impl Run {
    /// Adds another pass.
    pub(crate) fn add(&mut self, pass: Self, felt: Felt) {
        self.whole += pass.whole;
        self.moving = pass.moving.map(|moving| self.moving.unwrap_or_default() + moving);
        self.felt.add(felt);
        self.spent.add(&pass.spent);
    }
}

impl Tool {
    /// Levels the cluster, the node of this weight by it. Panics, with what the tool wrote, when it fails.
    pub(crate) fn run(self, cluster: &Cluster, network: &Network, items: &[Item], weight: Option<(Node, f64)>) -> Run {
        let seed = network.seed().to_string();
        let weight = weight.map(|(node, weight)| format!("{}={weight}", cluster.node_id(node)));
        match self {
            Self::Evenkeel { settings } => {
                let program = Path::new(env!("CARGO_BIN_EXE_evenkeel"));
                let file = tempfile::NamedTempFile::new().expect("a file in the directory for temporary ones");
                let settings = settings.replace(';', "\n");
                let text = format!("[cluster]\nseeds = [\"{seed}\"]\n[migration]\n{settings}\n");
                std::fs::write(file.path(), text).expect("our own file");
                let mut args = vec!["rebalance", "--json", "--config", file.path().to_str().expect("a plain name")];
                args.extend(weight.iter().flat_map(|weight| ["--weight", weight]));
                let (whole, output) = time(program, &args);
                // Its log, where RUST_LOG asks for one.
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
                let moving = document["seconds"].as_f64().map(Duration::from_secs_f64);
                Run { whole, moving, ..Run::default() }
            }
            Self::Daemon => Run { whole: daemon::level(cluster, network), ..Run::default() },
            Self::RedisCli { pipeline } => {
                // The one redis-cli that is fetched serves all: it speaks to Valkey as valkey-cli does.
                let program = Flavour::Redis70.server().with_file_name("redis-cli");
                let pipeline = pipeline.to_string();
                let mut args = vec!["--cluster", "rebalance", &seed, "--cluster-use-empty-masters"];
                args.extend(["--cluster-pipeline", &pipeline]);
                args.extend(weight.iter().flat_map(|weight| ["--cluster-weight", weight]));
                Run { whole: time(&program, &args).0, ..Run::default() }
            }
            Self::Raw => {
                let (whole, tool) = raw::level(cluster, network, items);
                Run { whole, spent: Spent::by(tool), ..Run::default() }
            }
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evenkeel { settings: "" } => f.write_str("evenkeel"),
            Self::Evenkeel { settings } => write!(f, "evenkeel, {settings}"),
            Self::Daemon => f.write_str("evenkeel, a daemon from its reload on"),
            Self::RedisCli { pipeline } => write!(f, "redis-cli, pipeline {pipeline}"),
            Self::Raw => f.write_str("bare MIGRATE calls"),
        }
    }
}

/// Runs a program to its end.
fn time(program: &Path, args: &[&str]) -> (Duration, Output) {
    let mut command = Command::new("timeout");
    command.arg(LIMIT).arg(program).args(args);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EVENKEEL_")) {
        command.env_remove(name);
    }
    let began = Instant::now();
    let output = command.output().expect("there is `timeout` (package coreutils)");
    let took = began.elapsed();
    assert!(
        output.status.success(),
        "{} ended with {}:\n{}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    (took, output)
}
