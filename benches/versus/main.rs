//! `evenkeel rebalance` beside `redis-cli --cluster rebalance`: the same data, the same servers, turn and turn about.
//!
//! `cargo bench --bench versus -- --help` names the options, `docs/benchmarks.md` says how to read the figures. Every
//! run has a fresh cluster of three primaries and an empty one, which is to take a quarter of the slots. What a run
//! leaves is checked; a run that moved wrongly is no figure but a failure.

mod client;
mod daemon;
mod load;
mod network;
mod options;
mod page;
mod plot;
mod raw;
mod report;
mod spent;
#[path = "../../tests/live/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the stories of the live tests need more of it than a comparison does")]
mod support;
mod tool;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use client::Clients;
use load::{Item, Load, fill};
use network::Network;
use options::Options;
use report::Table;
use spent::Meter;
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
            let circumstances = page::circumstances(options.rounds);
            let table = compare(&options, flavour, load);
            println!("{table}\n{circumstances}\n");
            if let Some(page) = &options.write {
                write(page, &table, &circumstances);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Puts a table into the page, and its picture beside it. Panics when it cannot be written.
fn write(page: &Path, table: &Table, circumstances: &str) {
    let mut section = format!("{table}\n{circumstances}\n");
    let points = table.points();
    if !points.is_empty() {
        let pictures = page.with_extension("");
        fs::create_dir_all(&pictures).expect("a directory beside the page");
        let name = format!("{}.svg", table.file_name());
        plot::draw(&pictures.join(&name), table.title(), &points);
        let directory = pictures.file_name().unwrap_or_default().display();
        section = format!("{section}\n![Time against the clients' p99]({directory}/{name})\n");
    }
    page::put(page, table.title(), &section);
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
    let spec = Spec::new(flavour);
    let cluster =
        Cluster::start(if options.pairs { spec.primaries(2).empty_primaries(2) } else { spec.empty_primaries(1) });
    let items = load.items(options.keys);
    fill(&cluster, &items);
    let network = Network::of(&cluster, Duration::from_secs_f64(options.rtt_ms / 1_000.0));
    let mut run = Run::default();
    let meter = Meter::start(&cluster);
    for pass in 0..options.passes {
        let back = pass % 2 == 1;
        let clients = Clients::start(&network.addresses(), options.rate, &items);
        let weight = (options.passes > 1).then(|| (cluster.empty_primaries()[0], if back { BACK } else { 1.0 }));
        let once = tool.run(&cluster, &network, &items, weight);
        let felt = clients.stop();
        assert!(felt.errors.is_empty(), "{tool}: {} errors, as {:?}", felt.errors.len(), felt.errors[0]);
        run.add(once, felt);
        check(&cluster, &items, back);
    }
    run.spent.add(&meter.stop(&cluster));
    run
}

/// The weight of the fourth primary when it is to give most of its slots back. Not zero: it would become a replica.
const BACK: f64 = 0.1;

/// Panics unless the slots are level, none is open and every key is there.
fn check(cluster: &Cluster, items: &[Item], back: bool) {
    let nodes = cluster.nodes();
    // Tools round weights in their own ways: on the way back they are taken at their word.
    if !back {
        let level = evenkeel::cluster::Slot::COUNT / nodes.len();
        cluster.assert_settled(&nodes.iter().map(|&node| (node, level)).collect::<Vec<_>>());
    }
    let held: usize = nodes.iter().map(|&node| cluster.cmd::<usize>(node, &["DBSIZE"])).sum();
    assert_eq!(held, items.len(), "keys after the move");
}
