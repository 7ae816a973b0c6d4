//! Clients that write and read all the time, and keep a book of every answer: which write was acknowledged last, and
//! where the server's replication stood just before it.

use std::fmt;
use std::sync::mpsc as channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenkeel::cluster::{Slot, SlotSet};
use redis::RedisResult;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::MissedTickBehavior;

use crate::support::Cluster;

/// Clients side by side.
const TASKS: usize = 4;
/// Between one client's steps of a write and a read.
const PACE: Duration = Duration::from_millis(4);
/// Short, because servers are frozen.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Every other key is written once and then only read: what is lost of it was moved, not written, a moment ago.
const WRITTEN_ONCE_OF: usize = 2;
/// Reads of one sweep that are refused, after which it is given up: the cluster is not whole.
const ERRORS_ENOUGH: usize = 5;
/// Writes, and tells what was there, of which history the server is, and how long that was before the write. A server
/// hands a script's writes on when the script has ended, so a replica with no more than that does not have them.
const WRITE: &str = "local before = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
local info = redis.call('INFO', 'replication')
return {before, info:match('master_replid:(%x+)'), info:match('master_repl_offset:(%d+)')}";

/// An acknowledged write.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub(crate) version: u64,
    /// The replication history of the server that acknowledged it.
    pub(crate) history: String,
    /// How long that history was before the write.
    pub(crate) offset: u64,
    pub(crate) at: Instant,
}

/// An acknowledged write that was found gone, or replaced by an older one; told once.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) key: String,
    pub(crate) ack: Ack,
    pub(crate) found: Option<String>,
}

impl Loss {
    /// The slot of the key.
    pub(crate) fn slot(&self) -> Slot {
        Slot::of_key(self.key.as_bytes())
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, ack: Ack { version, history, offset, at }, found } = self;
        let (slot, age, history) = (self.slot(), at.elapsed(), &history[..8.min(history.len())]);
        write!(f, "{key} of slot {slot}: version {version} was acknowledged {age:?} ago at {history}:{offset}, ")?;
        write!(f, "found {found:?}")
    }
}

/// What the clients saw since they were last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    /// Errors that the client library gave its caller, after its own redirections and retries.
    pub(crate) errors: Vec<String>,
    pub(crate) lost: Vec<Loss>,
    /// Acknowledged writes that were not found for a time, and were there in the end.
    pub(crate) missed: Vec<Loss>,
    pub(crate) slowest: Duration,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.errors.extend(other.errors);
        self.lost.extend(other.lost);
        self.missed.extend(other.missed);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// What a client is told.
enum Order {
    /// Do nothing from now on; answered when the last call has been answered.
    Rest(channel::Sender<Seen>),
    /// Go on.
    Work,
    /// Read every key, write anew what is lost, and tell what was seen since this was last asked.
    Sweep(channel::Sender<Seen>),
}

/// The clients at work. They end when this is dropped.
pub(crate) struct Clients {
    orders: Vec<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    /// Starts clients on so many keys in these slots; returns once each key has been written.
    pub(crate) fn start(cluster: &Cluster, slots: &SlotSet, keys: usize) -> Self {
        let client = cluster
            .client()
            .connection_timeout(ANSWER_WITHIN)
            .response_timeout(ANSWER_WITHIN)
            .build()
            .expect("the cluster's own addresses make a client");
        let mut names: Vec<Vec<String>> = vec![Vec::new(); TASKS];
        let all = (0..).map(|number: usize| format!("chaos:{number}"));
        for (name, number) in all.filter(|name| slots.contains(Slot::of_key(name.as_bytes()))).take(keys).zip(0..) {
            names[number % TASKS].push(name);
        }
        let (orders, receivers): (Vec<_>, Vec<_>) = (0..TASKS).map(|_| mpsc::unbounded_channel()).unzip();
        let work = names.into_iter().zip(receivers).collect();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(run(client, work));
        });
        let clients = Self { orders, thread: Some(thread) };
        let seen = clients.sweep();
        assert!(seen.errors.is_empty() && seen.writes == keys, "the clients could not begin: {seen:?}");
        clients
    }

    /// Lets no client send anything, from when this returns.
    pub(crate) fn rest(&self) {
        let _ = self.ask(Order::Rest);
    }

    /// Lets them go on.
    pub(crate) fn work(&self) {
        for orders in &self.orders {
            let _ = orders.send(Order::Work);
        }
    }

    /// Has every key read, and says what was seen since this was last asked. What is lost is written anew.
    pub(crate) fn sweep(&self) -> Seen {
        self.ask(Order::Sweep)
    }

    fn ask(&self, order: impl Fn(channel::Sender<Seen>) -> Order) -> Seen {
        let (answer, answers) = channel::channel();
        for orders in &self.orders {
            let _ = orders.send(order(answer.clone()));
        }
        drop(answer);
        let mut all = Seen::default();
        let mut count = 0;
        for seen in answers {
            all.add(seen);
            count += 1;
        }
        assert_eq!(count, TASKS, "clients that are still there");
        all
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.orders.clear();
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            let _ = thread.join();
        }
    }
}

async fn run(client: ClusterClient, work: Vec<(Vec<String>, UnboundedReceiver<Order>)>) {
    let mut tasks = tokio::task::JoinSet::new();
    for (names, orders) in work {
        // Not shared: the library sends ASKING apart from the call that it is for, and others' calls come between.
        let connection = client.get_async_connection().await.expect("the cluster accepts a client");
        let keys = names
            .into_iter()
            .map(|name| Key { name, sent: 0, ack: None, suspected: None, suspected_before: None })
            .collect();
        tasks.spawn(Task { connection, keys, seen: Seen::default() }.run(orders));
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a client does not panic");
    }
}

struct Key {
    name: String,
    /// The highest version that was sent, acknowledged or not.
    sent: u64,
    /// The write that a read must find, or a later one; `None` when nothing is known to be there.
    ack: Option<Ack>,
    /// The first write since the last sweep that was not found.
    suspected: Option<Loss>,
    suspected_before: Option<Loss>,
}

/// One client and its keys.
struct Task {
    connection: ClusterConnection,
    keys: Vec<Key>,
    seen: Seen,
}

impl Task {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        for at in 0..self.keys.len() {
            self.write(at).await;
        }
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut at, mut working) = (0, true);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Rest(done)) => {
                        working = false;
                        let _ = done.send(Seen::default());
                    }
                    Some(Order::Work) => working = true,
                    Some(Order::Sweep(done)) => {
                        let errors = self.seen.errors.len();
                        for at in 0..self.keys.len() {
                            // Of a cluster that is down each key would cost the library's whole patience.
                            if self.seen.errors.len() < errors + ERRORS_ENOUGH {
                                self.settle(at).await;
                            }
                        }
                        let _ = done.send(std::mem::take(&mut self.seen));
                    }
                },
                _ = ticks.tick(), if working => {
                    at = (at + 1) % self.keys.len();
                    if at % WRITTEN_ONCE_OF == 0 {
                        self.write(at).await;
                    }
                    self.read(at).await;
                }
            }
        }
    }

    async fn write(&mut self, at: usize) {
        let version = self.keys[at].sent + 1;
        let name = self.keys[at].name.clone();
        // Sent, for all we know, even if no answer comes; and a library that tries twice finds its own first try.
        self.keys[at].sent = version;
        let mut command = redis::cmd("EVAL");
        command.arg(WRITE).arg(1).arg(&name).arg(format!("{name}={version}"));
        let began = Instant::now();
        let reply: RedisResult<(Option<String>, String, u64)> = command.query_async(&mut self.connection).await;
        self.seen.slowest = self.seen.slowest.max(began.elapsed());
        match reply {
            Ok((before, history, offset)) => {
                self.seen.writes += 1;
                self.judge(at, before);
                self.keys[at].ack = Some(Ack { version, history, offset, at: Instant::now() });
            }
            Err(error) => self.seen.errors.push(format!("writing {name}: {error}")),
        }
    }

    async fn read(&mut self, at: usize) {
        let mut command = redis::cmd("GET");
        command.arg(&self.keys[at].name);
        let began = Instant::now();
        let reply: RedisResult<Option<String>> = command.query_async(&mut self.connection).await;
        self.seen.slowest = self.seen.slowest.max(began.elapsed());
        match reply {
            Ok(found) => {
                self.seen.reads += 1;
                self.judge(at, found);
            }
            Err(error) => self.seen.errors.push(format!("reading {}: {error}", self.keys[at].name)),
        }
    }

    /// Compares what was found with what must be there.
    fn judge(&mut self, at: usize, found: Option<String>) {
        let key = &mut self.keys[at];
        if key.suspected.is_none() && !key.is_sound(found.as_deref()) {
            // What is there although nothing is known to be there is told as a loss of that: it is as wrong.
            let nothing = || Ack { version: 0, history: String::new(), offset: 0, at: Instant::now() };
            let ack = key.ack.clone().unwrap_or_else(nothing);
            key.suspected = Some(Loss { key: key.name.clone(), ack, found });
        }
    }

    /// Reads a key for the last time, and closes the account of it.
    async fn settle(&mut self, at: usize) {
        let errors = self.seen.errors.len();
        self.keys[at].suspected_before = self.keys[at].suspected.take();
        self.read(at).await;
        let unread = self.seen.errors.len() > errors;
        let key = &mut self.keys[at];
        let (before, now) = (key.suspected_before.take(), key.suspected.take());
        let same = |loss: &Loss| key.ack.as_ref().is_some_and(|ack| ack.version == loss.ack.version);
        match before {
            // It is there, and it is what was missed, not a later write.
            Some(loss) if now.is_none() && !unread && same(&loss) => self.seen.missed.push(loss),
            Some(loss) => self.seen.lost.push(loss),
            None => self.seen.lost.extend(now.clone()),
        }
        if now.is_some() {
            key.ack = None;
            self.write(at).await;
            self.keys[at].suspected = None;
        }
    }
}

impl Key {
    /// Whether this is what must be found, or what was sent and not acknowledged.
    fn is_sound(&self, found: Option<&str>) -> bool {
        let version = found.and_then(|text| text.strip_prefix(&self.name)?.strip_prefix('=')?.parse().ok());
        let expected = self.ack.as_ref().map(|ack| ack.version);
        match version {
            Some(version) => version <= self.sent && Some(version) >= expected,
            None => found.is_none() && expected.is_none(),
        }
    }
}
