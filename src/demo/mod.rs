//! `evenkeel demo`: a throw-away cluster on this machine, clients that check every value, and the daemon at work.
//!
//! Everything is real: server processes, a configuration file, and `evenkeel run` as a child process, watched over its
//! own HTTP. All processes are children of this one and all files are in one temporary directory; both go when the
//! value that owns them is dropped, however the demonstration ends.

mod clients;
mod cluster;
mod daemon;
mod data;
mod process;
mod server;
mod show;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{BinaryBytes, HumanCount};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::clients::{Clients, Counts};
use self::cluster::{Layout, LocalCluster};
use self::daemon::Daemon;
use self::data::Data;
use self::server::Program;
use self::show::{Progress, say, step};
use crate::cli::{DemoArgs, ExitStatus};
use crate::http::json::WorkDocument;

/// How many primaries there are before one more joins.
const PRIMARIES: usize = 3;
/// How long the cluster may stand still while it is being balanced. A large `--keys` takes long, but never rests.
const STALLED_AFTER: Duration = Duration::from_mins(1);
/// How often the daemon is asked how far it is: often enough for a bar that moves, seldom enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Lines of each log that are printed when something went wrong.
const LOG_LINES: usize = 12;

/// Runs the demonstration. Whatever it returns, no process and no file is left.
///
/// Must be awaited on a thread that lives until the end of the process: the kernel ends the servers with the thread
/// that started them.
pub async fn demo(args: &DemoArgs) -> anyhow::Result<ExitStatus> {
    let mut signals = Signals::heed()?;
    let directory = tempfile::Builder::new().prefix("evenkeel-demo-").tempdir()?;
    // Dropping the story at any await drops the processes that it owns.
    let told = tokio::select! {
        told = Box::pin(tell(args, directory.path())) => told,
        () = signals.next() => {
            say("\nInterrupted: everything is stopped and removed.");
            return remove(directory).map(|()| ExitStatus::Interrupted);
        }
    };
    let ended = match told {
        Ok(mut told) if args.hold => {
            say(format!("\nEverything goes on, files in {}. Ctrl-C ends and removes it.", directory.path().display()));
            signals.next().await;
            let counts = told.clients.stop().await;
            say(format!("\nclients until now: {counts}"));
            if told.faults.is_empty() {
                told.faults.extend(counts.fault());
            }
            Ok(told.faults)
        }
        Ok(told) => Ok(told.faults),
        Err(error) => Err(error),
    };
    let faults = ended.unwrap_or_else(|error| vec![format!("{error:#}")]);
    let status = if faults.is_empty() {
        say("\nEverything is stopped and removed.");
        ExitStatus::Done
    } else {
        eprintln!("\nThe demonstration failed:");
        for fault in &faults {
            eprintln!("  {fault}");
        }
        process::print_logs(directory.path(), LOG_LINES);
        ExitStatus::Failed
    };
    remove(directory).map(|()| status)
}

/// What is left at the end of the story, still running.
///
/// Fields are dropped in their order: whoever talks before whoever is talked to.
struct Told {
    clients: Clients,
    _daemon: Daemon,
    _cluster: LocalCluster,
    /// What is not as it should be; empty when all is well.
    faults: Vec<String>,
}

/// The whole story: from nothing to a balanced cluster whose keys have been verified.
async fn tell(args: &DemoArgs, directory: &Path) -> anyhow::Result<Told> {
    let listener = daemon::listen(args.listen)?;
    let program = Program::find(args.server.as_deref())?;
    let began = Instant::now();
    // The one that joins later is started with the others: it may not serve for two seconds after its start.
    let mut cluster = LocalCluster::start(&program, directory, PRIMARIES, 1).await?;
    say(format!("A throw-away {} cluster on this machine, files in {}\n", cluster.version(), directory.display()));
    step(
        &format!("{PRIMARIES} primaries"),
        format!("{}; up after {:.1} s", cluster.addresses(), began.elapsed().as_secs_f64()),
    );

    let began = Instant::now();
    let data = Data::fill(&cluster, args.keys).await.context("cannot fill the cluster")?;
    let took = began.elapsed().as_secs_f64();
    step(
        "data",
        format!("{} keys of {} written in {took:.1} s", HumanCount(args.keys), BinaryBytes(data::VALUE_BYTES)),
    );

    let mut clients = Clients::start(&cluster.seed(), data).await.context("the clients cannot connect")?;
    step(
        "clients",
        format!("{} of them read and write from now on, and check every value that they read", clients::COUNT),
    );

    let daemon = Daemon::start(directory, listener, &cluster.seeds())?;
    daemon.answers().await?;
    step("evenkeel", format!("run --config {}", daemon.config_file().display()));
    step("", format!("{}/metrics", daemon.url()));
    step("", format!("{}/  (a page for the browser)", daemon.url()));

    let before = cluster.layout().await?;
    cluster.join_waiting().await?;
    step("1 more primary", format!("{} joins the cluster, empty\n", cluster.joined()));
    let work = watch(&daemon, &cluster, &clients).await?;
    let after = cluster.layout().await?;

    let found = data.verify(&cluster).await.context("cannot read the keys back")?;
    let counts = if args.hold { clients.counts() } else { clients.stop().await };
    conclude(&work, &before, &after, &counts, &found);
    let faults = [counts.fault(), found.fault(), after.fault(), after.miscounted(data.keys() + clients::KEYS)];
    Ok(Told { clients, _daemon: daemon, _cluster: cluster, faults: faults.into_iter().flatten().collect() })
}

/// Shows the daemon's progress until the cluster is level and the daemon at rest.
async fn watch(daemon: &Daemon, cluster: &LocalCluster, clients: &Clients) -> anyhow::Result<WorkDocument> {
    let progress = Progress::begin();
    let (mut moved, mut since) = ((0, 0), Instant::now());
    loop {
        let status = daemon.status().await?;
        let work = &status.work;
        let counts = clients.counts();
        if work.slots_moved > 0 || work.active {
            progress.show(work, &counts);
        } else if let Some(reason) = status.reasons.first() {
            progress.wait(&reason.text, &counts);
        }
        let at_rest = !work.active && status.moves.is_empty() && status.moves_waiting == 0;
        if at_rest && work.slots_moved > 0 && cluster.layout().await.is_ok_and(|layout| layout.fault().is_none()) {
            return Ok(status.work);
        }
        if moved != (work.slots_moved, work.keys_moved) {
            (moved, since) = ((work.slots_moved, work.keys_moved), Instant::now());
        }
        let reasons: Vec<_> = status.reasons.iter().map(|reason| reason.text.as_str()).collect();
        anyhow::ensure!(
            since.elapsed() < STALLED_AFTER,
            "nothing moved for {STALLED_AFTER:?}; the daemon's reasons: {}",
            if reasons.is_empty() { "none".to_owned() } else { reasons.join("; ") }
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The closing summary.
fn conclude(work: &WorkDocument, before: &Layout, after: &Layout, counts: &Counts, found: &data::Found) {
    let (slots, keys) = (HumanCount(work.slots_moved as u64), HumanCount(work.keys_moved));
    say(format!("Level again: {slots} slots with {keys} keys moved in {:.1} s.\n", work.elapsed_s));
    say(show::table(before, after));
    say(format!("\nclients meanwhile: {counts}"));
    say(format!("verified at the end: {found}"));
}

/// Removes the temporary directory; that it cannot be removed is worth an error.
fn remove(directory: TempDir) -> anyhow::Result<()> {
    let path = directory.path().display().to_string();
    directory.close().with_context(|| format!("cannot remove {path}"))
}

/// Ctrl-C, `kill`, and the closing of the terminal.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    fn heed() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("signals cannot be heeded");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Waits for any of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
