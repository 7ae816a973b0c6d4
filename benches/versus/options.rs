//! The command line.

use std::path::PathBuf;

use clap::Parser;

use super::load::Load;
use super::support::Flavour;
use super::tool::Tool;

/// Measures `evenkeel rebalance` beside `redis-cli --cluster rebalance --cluster-use-empty-masters`
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Options {
    /// Runs of each tool with each load and server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Keys of the load `small`; other loads have as many or a part of them
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: usize,
    /// What the slots hold
    #[arg(long, value_enum, value_delimiter = ',', default_value = "empty,small")]
    pub(crate) loads: Vec<Load>,
    /// The servers
    #[arg(long, value_parser = flavour, value_delimiter = ',', default_value = "redis-7.0,valkey-9.1")]
    pub(crate) flavours: Vec<Flavour>,
    /// `--cluster-pipeline` of redis-cli, whose own default is 10: one more tool for each number
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    pub(crate) pipelines: Vec<u32>,
    /// `migration.block_max` of evenkeel in milliseconds: one more tool for each number beside the one with the default
    #[arg(long, value_delimiter = ',')]
    pub(crate) blocks_ms: Vec<f64>,
    /// Lines of evenkeel's section `[migration]`, separated by semicolons: one more tool each time that it is given
    #[arg(long)]
    pub(crate) settings: Vec<String>,
    /// evenkeel as a daemon too, which watches the cluster and is told of other targets then
    #[arg(long, conflicts_with_all = ["rate", "passes"])]
    pub(crate) daemon: bool,
    /// The raw limit too: bare `MIGRATE` calls of keys whose names are known
    #[arg(long, conflicts_with_all = ["rate", "passes"])]
    pub(crate) raw: bool,
    /// Two primaries that have all slots and two empty ones, instead of three and one: two disjoint pairs
    #[arg(long, conflicts_with = "passes")]
    pub(crate) pairs: bool,
    /// Requests a second of verifying clients beside; 0 is none
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,
    /// How often slots are moved in one run: to the empty primary, then most of them back, and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) passes: u32,
    /// A round trip between any two processes, in milliseconds; 0 is the bare loopback
    #[arg(long, default_value_t = 0.0, value_parser = round_trip)]
    pub(crate) rtt_ms: f64,
    /// A page in Markdown that each table is written into, where it replaces the one of the same title; pictures go beside it
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
    /// Cargo says so when it is asked for a benchmark
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Options {
    /// The tools, in the order in which they take turns.
    ///
    /// Where there are no keys `--cluster-pipeline` means nothing, and one number is as good as all.
    pub(crate) fn tools(&self, load: Load) -> Vec<Tool> {
        let differing = match load {
            Load::Empty => 1,
            Load::Small | Load::Dense | Load::Kilobyte | Load::Mixed | Load::Collections => self.pipelines.len(),
        };
        let others = self.pipelines.iter().take(differing).map(|&pipeline| Tool::RedisCli { pipeline });
        let blocks = self.blocks_ms.iter().map(|ms| format!("block_max = \"{ms}ms\""));
        let settings = blocks.chain(self.settings.iter().cloned());
        // Read once, and needed to the end.
        let ours = settings.map(|settings| Tool::Evenkeel { settings: settings.leak() });
        let raw = self.raw.then_some(Tool::Raw).filter(|_| load != Load::Empty);
        let daemon = self.daemon.then_some(Tool::Daemon);
        std::iter::once(Tool::Evenkeel { settings: "" }).chain(daemon).chain(ours).chain(others).chain(raw).collect()
    }
}

fn flavour(name: &str) -> Result<Flavour, String> {
    let known = [Flavour::Redis62, Flavour::Redis70, Flavour::Redis82, Flavour::Valkey81, Flavour::Valkey91];
    let names = || known.map(Flavour::name).join(", ");
    known.into_iter().find(|flavour| flavour.name() == name).ok_or_else(|| format!("one of {}", names()))
}

fn round_trip(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ms) if (0.0..=1_000.0).contains(&ms) => Ok(ms),
        Ok(_) | Err(_) => Err("milliseconds from 0 to 1000".to_owned()),
    }
}
