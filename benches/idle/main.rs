//! What a daemon costs that has nothing to do: its share of a core and its memory, beside clusters of many nodes at rest.
//!
//! `cargo bench --bench idle -- --write docs/benchmarks.md` measures 100 and 1,000 nodes and puts the figures into the page.
//!
//! The nodes are endpoints of another process that answer as servers do (see [`endpoints`]); the daemon is the real one,
//! built for release, with its defaults. Once it has settled, its processor time is counted for a minute.

mod endpoints;
#[path = "../versus/page.rs"]
mod page;
mod process;
#[path = "../../tests/live/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the stories of the live tests need more of it than a bench does")]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use process::Usage;
use support::{Daemon, Evenkeel, SOON};

/// Measures what the daemon costs beside clusters at rest
#[derive(Debug, Parser)]
struct Options {
    /// Nodes of the clusters
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    nodes: Vec<usize>,
    /// Replicas of each primary
    #[arg(long, default_value_t = 1)]
    replicas: usize,
    /// The daemon's `schedule.mode`
    #[arg(long, value_delimiter = ',', default_value = "observe,act")]
    modes: Vec<String>,
    /// For how long the processor time is counted
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A page in Markdown that the table is written into, where it replaces the one of the same title
    #[arg(long)]
    write: Option<PathBuf>,
    /// Answer for so many nodes instead of measuring: how this program starts its endpoints
    #[arg(long, hide = true)]
    endpoints: Option<usize>,
    /// Cargo says so when it is asked for a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(nodes) = options.endpoints {
        endpoints::serve(nodes, options.replicas);
        return ExitCode::SUCCESS;
    }
    if !options.bench {
        // `cargo test --all-targets` starts benchmarks too, and means only to see that they start.
        println!("to be run by `cargo bench --bench idle`");
        return ExitCode::SUCCESS;
    }
    let circumstances = page::circumstances(1);
    let title = "a daemon beside a cluster at rest";
    let mut table = format!(
        "### {title}\n\n\
         | nodes | mode | share of a core | memory at the end | … at its highest | calls a poll | … of that `CLUSTER NODES` |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for &nodes in &options.nodes {
        for mode in &options.modes {
            let row = measure(&options, nodes, mode);
            eprintln!("{row}");
            table.push_str(&row);
            table.push('\n');
        }
    }
    println!("{table}\n{circumstances}");
    if let Some(page) = &options.write {
        page::put(page, title, &format!("{table}\n{circumstances}\n"));
    }
    ExitCode::SUCCESS
}

/// One daemon beside one cluster, as a row of the table.
fn measure(options: &Options, nodes: usize, mode: &str) -> String {
    let endpoints = Endpoints::start(nodes, options.replicas);
    let config = format!(
        "[cluster]\nseeds = [\"127.0.0.1:{}\"]\n[schedule]\nmode = \"{mode}\"\n[log]\nlevel = \"warn\"\n",
        endpoints.port
    );
    let mut daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    // Past the looks in which it settles, and what they leave behind.
    let settled = polls(&daemon, 0) + 4;
    let before_polls = polls(&daemon, settled);
    let (before_calls, before, began) = (endpoints.calls(), Usage::of(daemon.pid()), Instant::now());
    thread::sleep(Duration::from_secs(options.seconds));
    let (took, after, after_calls) = (began.elapsed(), Usage::of(daemon.pid()), endpoints.calls());
    let polls = polls(&daemon, 0) - before_polls;
    let asked = |command: Option<&str>| {
        let of = |calls: &BTreeMap<String, u64>| -> u64 {
            calls
                .iter()
                .filter(|(name, _)| command.is_none_or(|command| command == *name))
                .map(|(_, count)| count)
                .sum()
        };
        (of(&after_calls) - of(&before_calls)) as f64 / polls.max(1) as f64
    };
    let row = format!(
        "| {nodes} | {mode} | {:.2} % | {:.0} MiB | {:.0} MiB | {:.0} | {:.0} |",
        after.processor.saturating_sub(before.processor).as_secs_f64() / took.as_secs_f64() * 100.0,
        after.resident_mib,
        after.resident_highest_mib,
        asked(None),
        asked(Some("cluster nodes")),
    );
    daemon.sigterm();
    daemon.wait(SOON);
    row
}

/// How many polls of the cluster the daemon has ended; waits until there are so many.
fn polls(daemon: &Daemon, at_least: u64) -> u64 {
    let count = |metrics: &str| -> Option<u64> {
        let line = |line: &str| line.starts_with("evenkeel_polls_total") && line.contains("result=\"ok\"");
        let of_outcome = metrics.lines().find(|text| line(text))?;
        of_outcome.rsplit(' ').next()?.parse().ok()
    };
    let metrics = daemon.await_http("/metrics", SOON, |metrics| count(metrics).is_some_and(|polls| polls >= at_least));
    count(&metrics).expect("it was there just now")
}

/// The process that answers for the nodes; it ends when this is dropped, or when we end.
struct Endpoints {
    process: Child,
    port: u16,
}

impl Endpoints {
    fn start(nodes: usize, replicas: usize) -> Self {
        let program = std::env::current_exe().expect("our own program");
        let mut command = Command::new(program);
        command.args(["--endpoints", &nodes.to_string(), "--replicas", &replicas.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("our own program starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it writes its first port");
        let port = line.trim().parse().expect("a port: is the limit of open files (`ulimit -n`) above the nodes?");
        Self { process, port }
    }

    /// How often each command was answered so far.
    fn calls(&self) -> BTreeMap<String, u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        write!(stream, "{}\r\n", endpoints::CALLS).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        let call = |line: &str| {
            let (name, count) = line.split_once('=')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        text.lines().filter_map(call).collect()
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
