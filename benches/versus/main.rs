//! `evenkeel rebalance` beside `redis-cli --cluster rebalance`: the same data, the same servers, turn and turn about.
//!
//! `cargo bench --bench versus -- --help` names the options, `docs/benchmarks.md` says how to read the figures. Every
//! run has a fresh cluster of three primaries and an empty one, which is to take a quarter of the slots. What a run
//! leaves is checked; a run that moved wrongly is no figure but a failure.

mod load;
mod network;
mod options;
mod report;
#[path = "../../tests/live/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the stories of the live tests need more of it than a comparison does")]
mod support;
mod tool;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use load::Load;
use network::Network;
use options::Options;
use report::Table;
use support::{Cluster, Flavour, Spec};
use tool::{Run, Tool};

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` starts benchmarks too, and means only to see that they start.
        println!("to be run by `cargo bench --bench versus`");
        return ExitCode::SUCCESS;
    }
    for &flavour in &options.flavours {
        for &load in &options.loads {
            println!("{}", compare(&options, flavour, load));
        }
    }
    ExitCode::SUCCESS
}

/// All rounds with one kind of server and one load.
fn compare(options: &Options, flavour: Flavour, load: Load) -> Table {
    let tools = options.tools(load);
    let mut table = Table::new(flavour, load, options, &tools);
    for round in 1..=options.rounds {
        for &tool in &tools {
            let run = run(options, flavour, load, tool);
            eprintln!("{} {load}, round {round}: {tool} {:.2} s", flavour.name(), run.whole.as_secs_f64());
            table.add(tool, run);
        }
    }
    table
}

/// One run of one tool on a fresh cluster.
fn run(options: &Options, flavour: Flavour, load: Load, tool: Tool) -> Run {
    let cluster = Cluster::start(Spec::new(flavour).empty_primaries(1));
    let keys = load.fill(&cluster, options.keys);
    let network = Network::of(&cluster, Duration::from_secs_f64(options.rtt_ms / 1_000.0));
    let run = tool.run(network.seed());
    check(&cluster, keys);
    run
}

/// Panics unless the slots are level, none is open and every key is there.
fn check(cluster: &Cluster, keys: usize) {
    let nodes = cluster.nodes();
    let level = evenkeel::cluster::Slot::COUNT / nodes.len();
    let expected: Vec<_> = nodes.iter().map(|&node| (node, level)).collect();
    cluster.assert_settled(&expected);
    let held: usize = nodes.iter().map(|&node| cluster.cmd::<usize>(node, &["DBSIZE"])).sum();
    assert_eq!(held, keys, "keys after the move");
}
