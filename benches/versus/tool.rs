//! The programs that are compared.

use std::fmt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use evenkeel::cluster::Address;

use super::support::Flavour;

/// Seconds after which a run is a failure: several times what the slowest takes with the default loads.
const LIMIT: &str = "900";

/// A program that can level a cluster, and how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    /// With its defaults.
    Evenkeel,
    /// With so many keys in one `MIGRATE`; everything else as it is by default.
    RedisCli { pipeline: u32 },
}

/// How long one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From the start of the process to its end.
    pub(crate) whole: Duration,
    /// From the first mark to the last, by the tool's own word, where it says so.
    pub(crate) moving: Option<Duration>,
}

impl Tool {
    /// Levels the cluster that has a node at this address. Panics, with what the tool wrote, when it fails.
    pub(crate) fn run(self, seed: &Address) -> Run {
        let seed = seed.to_string();
        match self {
            Self::Evenkeel => {
                let program = Path::new(env!("CARGO_BIN_EXE_evenkeel"));
                let (whole, output) = time(program, &["rebalance", "--json", "--seed", &seed]);
                // Its log, where RUST_LOG asks for one.
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
                Run { whole, moving: document["seconds"].as_f64().map(Duration::from_secs_f64) }
            }
            Self::RedisCli { pipeline } => {
                // The one redis-cli that is fetched serves all: it speaks to Valkey as valkey-cli does.
                let program = Flavour::Redis70.server().with_file_name("redis-cli");
                let pipeline = pipeline.to_string();
                let args = ["--cluster", "rebalance", &seed, "--cluster-use-empty-masters", "--cluster-pipeline"];
                let (whole, _) = time(&program, &[&args[..], &[&pipeline]].concat());
                Run { whole, moving: None }
            }
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evenkeel => f.write_str("evenkeel"),
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
