//! Clients that write and read all the time and notice every error and every lost write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenkeel::cluster::{Slot, SlotSet};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue, RedisResult};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::cluster::Cluster;
use super::families::look_alike_slots;

/// How much the clients do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How many clients work side by side.
    pub(crate) tasks: usize,
    /// How many keys each has of its own.
    pub(crate) keys_per_task: usize,
    /// The time between one client's steps of a write and a read: bounded, because servers, evenkeel and the clients
    /// share two cores.
    pub(crate) pace: Duration,
    /// The slots that the keys are in; those of the look-alike names are left out.
    pub(crate) slots: SlotSet,
}

impl Default for Options {
    /// Four clients, 250 keys each all over the cluster, together some 2,000 commands a second.
    fn default() -> Self {
        Self { tasks: 4, keys_per_task: 250, pace: Duration::from_millis(4), slots: SlotSet::full() }
    }
}

/// Verifying clients at work.
///
/// Each key belongs to one client, which writes ever higher versions to it. Writing returns the version before
/// (`SET … GET`), so that there is no moment at which a loss could be overwritten unseen.
#[derive(Debug)]
pub(crate) struct Verifier {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

/// What verifying clients saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// How many reads were answered.
    pub(crate) reads: usize,
    /// How many writes were acknowledged.
    pub(crate) writes: usize,
    /// Every error that the client library gave its caller, after its own redirections and retries.
    pub(crate) errors: Vec<String>,
    /// Every acknowledged write that was found gone or replaced by an older one, once.
    pub(crate) lost: Vec<String>,
    /// How long the slowest command took, retries included.
    pub(crate) slowest: Duration,
}

impl Verifier {
    /// Starts the clients; returns once each key has been written for the first time.
    #[track_caller]
    pub(crate) fn start(cluster: &Cluster, options: Options) -> Self {
        let client = cluster.client().build().expect("the cluster's own addresses make a client");
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = options.tasks;
        let (ready, started) = mpsc::channel();
        let thread = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be made").block_on(run(client, options, stop, ready))
            })
        };
        // Fewer when a thread panicked: then the channel is closed.
        assert_eq!(started.iter().take(tasks).count(), tasks, "clients that could connect and write");
        Self { stop, thread: Some(thread) }
    }

    /// Ends the clients, after a last look at every key, and says what they saw.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the verifying clients do not panic")
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        // Not awaited: when a story fails, its servers may be gone already.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Report {
    /// Panics unless the clients were at work, saw no error and lost nothing.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert!(self.reads > 0 && self.writes > 0, "the verifying clients did nothing");
        assert!(
            self.errors.is_empty() && self.lost.is_empty(),
            "of {} writes {} lost:\n  {}\n{} errors:\n  {}",
            self.writes,
            self.lost.len(),
            self.lost.iter().take(20).cloned().collect::<Vec<_>>().join("\n  "),
            self.errors.len(),
            self.errors.iter().take(20).cloned().collect::<Vec<_>>().join("\n  "),
        );
    }

    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.errors.extend(other.errors);
        self.lost.extend(other.lost);
        self.slowest = self.slowest.max(other.slowest);
    }
}

async fn run(client: ClusterClient, options: Options, stop: Arc<AtomicBool>, ready: Sender<()>) -> Report {
    let slots = options.slots.difference(&look_alike_slots());
    assert!(!slots.is_empty(), "the verifying clients have slots to work in");
    let names = (0..).map(|number| format!("verifier:{number}"));
    let mut names = names.filter(|name| slots.contains(Slot::of_key(name.as_bytes())));
    let mut tasks = JoinSet::new();
    for _ in 0..options.tasks {
        let keys = names.by_ref().take(options.keys_per_task).map(Key::new).collect();
        // A connection each: the library sends ASKING and waits before it sends what that is for (redis-rs 1.8), and
        // another task's command in between would take its place.
        let connection = client.get_async_connection().await.expect("the cluster accepts a client");
        let task = Task { connection, keys, report: Report::default() };
        tasks.spawn(task.run(options.pace, Arc::clone(&stop), ready.clone()));
    }
    drop(ready);
    let mut report = Report::default();
    while let Some(done) = tasks.join_next().await {
        report.add(done.expect("a verifying client does not panic"));
    }
    report
}

/// One client and its keys.
struct Task {
    connection: ClusterConnection,
    keys: Vec<Key>,
    report: Report,
}

struct Key {
    name: String,
    /// The highest version that was sent, acknowledged or not.
    sent: u64,
    /// The version that a read must find, or a higher one; `None` when nothing is known to be there.
    acknowledged: Option<u64>,
}

impl Key {
    fn new(name: String) -> Self {
        Self { name, sent: 0, acknowledged: None }
    }

    /// What is wrong with finding this, if anything; from then on what was found is what must be found again.
    fn judge(&mut self, found: Option<String>) -> Option<String> {
        let version = found.as_deref().and_then(|text| text.strip_prefix(&self.name)?.strip_prefix('=')?.parse().ok());
        let expected = self.acknowledged;
        let wrong = match version {
            Some(version) => version > self.sent || Some(version) < expected,
            None => found.is_some() || expected.is_some(),
        };
        if wrong {
            self.acknowledged = version;
        }
        wrong.then(|| format!("{}: version {expected:?} was acknowledged, found {found:?}", self.name))
    }
}

impl Task {
    async fn run(mut self, pace: Duration, stop: Arc<AtomicBool>, ready: Sender<()>) -> Report {
        for at in 0..self.keys.len() {
            self.write(at).await;
        }
        let _ = ready.send(());
        let mut ticks = tokio::time::interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for at in (0..self.keys.len()).cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            ticks.tick().await;
            self.write(at).await;
            self.read(at).await;
        }
        for at in 0..self.keys.len() {
            self.read(at).await;
        }
        self.report
    }

    async fn write(&mut self, at: usize) {
        let version = self.keys[at].sent + 1;
        let name = self.keys[at].name.clone();
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(format!("{name}={version}")).arg("GET");
        // Sent, for all we know, even if no answer comes; and a library that tries twice finds its own first try.
        self.keys[at].sent = version;
        if let Some(before) = self.ask(&command).await {
            self.report.writes += 1;
            self.report.lost.extend(self.keys[at].judge(before));
            self.keys[at].acknowledged = Some(version);
        }
    }

    async fn read(&mut self, at: usize) {
        let mut command = redis::cmd("GET");
        command.arg(&self.keys[at].name);
        if let Some(found) = self.ask(&command).await {
            self.report.reads += 1;
            self.report.lost.extend(self.keys[at].judge(found));
        }
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Option<T> {
        let start = Instant::now();
        let reply: RedisResult<T> = command.query_async(&mut self.connection).await;
        self.report.slowest = self.report.slowest.max(start.elapsed());
        reply.map_err(|error| self.report.errors.push(error.to_string())).ok()
    }
}
