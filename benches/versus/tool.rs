//! The programs that are compared.

use std::fmt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use evenkeel::cluster::{Address, NodeId};

use super::client::Felt;
use super::support::Flavour;

/// Seconds after which a run is a failure: several times what the slowest takes with the default loads.
const LIMIT: &str = "900";

/// A program that can level a cluster, and how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    /// With its defaults, but for how long a call may hold a node where that is said.
    Evenkeel { block_us: Option<u32> },
    /// With so many keys in one `MIGRATE`; everything else as it is by default.
    RedisCli { pipeline: u32 },
}

/// How long one run took, and what clients felt meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// From the start of the process to its end; of all passes together.
    pub(crate) whole: Duration,
    /// From the first mark to the last, by the tool's own word, where it says so.
    pub(crate) moving: Option<Duration>,
    /// What clients felt.
    pub(crate) felt: Felt,
}

impl Run {
    /// Adds another pass.
    pub(crate) fn add(&mut self, pass: Self, felt: Felt) {
        self.whole += pass.whole;
        self.moving = pass.moving.map(|moving| self.moving.unwrap_or_default() + moving);
        self.felt.add(felt);
    }
}

impl Tool {
    /// Levels the cluster that has a node at this address, one of its primaries by this weight. Panics, with what the tool
    /// wrote, when it fails.
    pub(crate) fn run(self, seed: &Address, node: NodeId, weight: f64) -> Run {
        let (seed, weight) = (seed.to_string(), format!("{node}={weight}"));
        match self {
            Self::Evenkeel { block_us } => {
                let program = Path::new(env!("CARGO_BIN_EXE_evenkeel"));
                let file = block_us.map(|block| {
                    let file = tempfile::NamedTempFile::new().expect("a file in the directory for temporary ones");
                    let text = format!("[cluster]\nseeds = [\"{seed}\"]\n[migration]\nblock_max = \"{block}us\"\n");
                    std::fs::write(file.path(), text).expect("our own file");
                    file
                });
                let file_name = file.as_ref().map(|file| file.path().display().to_string());
                let from = file_name.as_ref().map_or(["--seed", &seed], |file| ["--config", file]);
                let args = ["rebalance", "--json", "--weight", &weight];
                let (whole, output) = time(program, &[&args[..], &from[..]].concat());
                // Its log, where RUST_LOG asks for one.
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
                let moving = document["seconds"].as_f64().map(Duration::from_secs_f64);
                Run { whole, moving, felt: Felt::default() }
            }
            Self::RedisCli { pipeline } => {
                // The one redis-cli that is fetched serves all: it speaks to Valkey as valkey-cli does.
                let program = Flavour::Redis70.server().with_file_name("redis-cli");
                let pipeline = pipeline.to_string();
                let args =
                    ["--cluster", "rebalance", &seed, "--cluster-use-empty-masters", "--cluster-weight", &weight];
                let (whole, _) = time(&program, &[&args[..], &["--cluster-pipeline", &pipeline]].concat());
                Run { whole, ..Run::default() }
            }
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evenkeel { block_us: None } => f.write_str("evenkeel"),
            Self::Evenkeel { block_us: Some(block) } => {
                write!(f, "evenkeel, block_max {} ms", f64::from(*block) / 1_000.0)
            }
            Self::RedisCli { pipeline } => write!(f, "redis-cli, pipeline {pipeline}"),
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
