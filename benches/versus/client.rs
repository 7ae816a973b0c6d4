//! What an application feels while slots move: clients that ask at fixed times, whatever became of the request before.
//!
//! Threads and blocking sockets, one connection a node, redirections followed by hand: so little of its own that what is
//! measured is the servers'. They share what they know of the slots' owners, as the connections of an application do: read when
//! they start, and corrected by every `MOVED`. A request that could not be sent in time because the one before took long counts from the
//! time at which it was due.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenkeel::cluster::{Address, Slot};
use redis::{Client, Cmd, Connection, ConnectionLike, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use super::load::Item;

/// Clients that ask side by side: enough that none is late because it still waits for the answer before, short of an outage.
const CLIENTS: usize = 32;
/// One request in so many writes.
const WRITES: usize = 5;
/// How often one request is sent on.
const REDIRECTIONS: usize = 16;

/// What clients felt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Felt {
    /// How long each request took.
    pub(crate) took: Vec<Duration>,
    /// Requests that brought an error, or a value that was not the last one written.
    pub(crate) errors: Vec<String>,
}

impl Felt {
    /// Adds what others felt.
    pub(crate) fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.errors.extend(other.errors);
    }

    /// What this part of the requests took at the most; zero where there were none.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        let at = (sorted.len() as f64 * part) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Felt>>,
}

impl Clients {
    /// So many requests a second by all of them together, to the nodes at these addresses; none where that is zero.
    pub(crate) fn start(nodes: &[Address], rate: u32, items: &[Item]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = if rate == 0 { 0 } else { CLIENTS };
        let owners = Arc::new(RwLock::new(if rate == 0 { BTreeMap::new() } else { owners(&nodes[0]) }));
        let threads = (0..clients).map(|number| {
            let every = Duration::from_secs(CLIENTS as u64) / rate;
            let items = items.iter().skip(number).step_by(CLIENTS).copied().collect();
            let mut client = One::new(nodes[0].clone(), number, items, Arc::clone(&owners));
            // Before slots move, as those of an application that has been running for a while.
            for node in nodes {
                client.connection(node).expect("every node answers");
            }
            let stop = Arc::clone(&stop);
            thread::spawn(move || client.run(every, &stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Ends them.
    pub(crate) fn stop(self) -> Felt {
        self.stop.store(true, Ordering::Relaxed);
        let mut felt = Felt::default();
        for thread in self.threads {
            felt.add(thread.join().expect("a client does not panic"));
        }
        felt
    }
}

/// Who owns which slot, as one node says.
fn owners(seed: &Address) -> BTreeMap<Slot, Address> {
    type Range = (u16, u16, (String, u16));
    let client = Client::open((seed.host.as_str(), seed.port)).expect("a plain address");
    let mut connection = client.get_connection().expect("the seed answers");
    let answer: Vec<Vec<Value>> =
        redis::cmd("CLUSTER").arg("SLOTS").query(&mut connection).expect("it knows the slots");
    let mut owners = BTreeMap::new();
    for range in answer {
        // Beside the owner there may be replicas, and of each node more than its address.
        let [first, last, Value::Array(owner), ..] = &range[..] else { panic!("no range of slots: {range:?}") };
        let owner = Value::Array(owner.iter().take(2).cloned().collect());
        let range = Value::Array(vec![first.clone(), last.clone(), owner]);
        let (first, last, (host, port)): Range = redis::from_redis_value(range).expect("numbers and an address");
        owners.extend((first..=last).filter_map(Slot::new).map(|slot| (slot, Address::new(host.clone(), port))));
    }
    owners
}

/// One client.
struct One {
    seed: Address,
    number: usize,
    items: Vec<Item>,
    owners: Arc<RwLock<BTreeMap<Slot, Address>>>,
    connections: BTreeMap<Address, Connection>,
    /// What each key of its own was last set to.
    written: Vec<usize>,
}

impl One {
    /// A client that reads these, and writes to keys of its own.
    fn new(seed: Address, number: usize, items: Vec<Item>, owners: Arc<RwLock<BTreeMap<Slot, Address>>>) -> Self {
        Self { seed, number, items, owners, connections: BTreeMap::new(), written: vec![0; 1_000] }
    }

    fn run(mut self, every: Duration, stop: &AtomicBool) -> Felt {
        let mut felt = Felt::default();
        let mut due = Instant::now();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            due += every;
            let early = due.saturating_duration_since(Instant::now());
            thread::sleep(early);
            // Woken late is the machine's affair; still at the request before is the servers'.
            let began = if early.is_zero() { due } else { Instant::now() };
            let asked = if number % WRITES == 0 {
                self.write(number / WRITES)
            } else {
                self.read(number - number / WRITES - 1)
            };
            felt.took.push(began.elapsed());
            felt.errors.extend(asked.err());
        }
        // What is counted afterwards is what the slots hold.
        for at in 0..self.written.len().min(felt.took.len()) {
            let key = self.own_key(at);
            let mut command = redis::cmd("DEL");
            command.arg(&key);
            felt.errors.extend(self.ask(&key, &command).err().map(|error| error.to_string()));
        }
        felt
    }

    fn own_key(&self, at: usize) -> String {
        format!("client:{}:{at}", self.number)
    }

    fn read(&mut self, number: usize) -> Result<(), String> {
        // A prime stride visits all of them, and ever other slots.
        let Some(item) = self.items.get(number.wrapping_mul(7_919) % self.items.len().max(1)).copied() else {
            return self.write(number);
        };
        let key = item.key();
        let mut command = redis::cmd(item.read());
        command.arg(&key);
        let found = self.ask(&key, &command).map_err(|error| format!("{key}: {error}"))?;
        if item.is(&found) {
            Ok(())
        } else {
            Err(format!("{key} holds something else: {found:?}").chars().take(200).collect())
        }
    }

    fn write(&mut self, number: usize) -> Result<(), String> {
        let at = number % self.written.len();
        let key = self.own_key(at);
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(number + 1).arg("GET");
        let found = self.ask(&key, &command).map_err(|error| format!("{key}: {error}"))?;
        let before = std::mem::replace(&mut self.written[at], number + 1);
        let expected = (before > 0).then(|| before.to_string());
        let found: Option<String> = redis::from_redis_value(found).map_err(|error| error.to_string())?;
        if before == 0 || found == expected { Ok(()) } else { Err(format!("{key} held {found:?}, not {expected:?}")) }
    }

    /// Sends a command to where its key is.
    fn ask(&mut self, key: &str, command: &Cmd) -> RedisResult<Value> {
        let slot = Slot::of_key(key.as_bytes());
        let known = self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&slot).cloned();
        let mut to = known.unwrap_or_else(|| self.seed.clone());
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let connection = self.connection(&to)?;
            let mut packed = if asking { redis::cmd("ASKING").get_packed_command() } else { Vec::new() };
            packed.extend(command.get_packed_command());
            // The answer to `ASKING` is left out.
            let answers = connection.req_packed_commands(&packed, usize::from(asking), 1)?;
            let answer = answers.into_iter().next().unwrap_or(Value::Nil);
            let error = match answer.extract_error() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some((address, _)) = error.redirect_node() else { return Err(error) };
            let node: Address = address.parse().map_err(|_| RedisError::from((ErrorKind::Client, "no address")))?;
            asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            if !asking {
                self.owners.write().unwrap_or_else(PoisonError::into_inner).insert(slot, node.clone());
            }
            to = node;
        }
        Err(RedisError::from((ErrorKind::Client, "sent round and round")))
    }

    fn connection(&mut self, to: &Address) -> RedisResult<&mut Connection> {
        if !self.connections.contains_key(to) {
            let connection = Client::open((to.host.as_str(), to.port))?.get_connection()?;
            connection.set_read_timeout(Some(Duration::from_mins(1)))?;
            self.connections.insert(to.clone(), connection);
        }
        Ok(self.connections.get_mut(to).expect("it was put there"))
    }
}
