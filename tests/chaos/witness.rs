//! When keys arrived at their targets, in the replication histories of these.
//!
//! `MONITOR` of a node shows every `RESTORE-ASKING` between numbered samples of the node's offset: so it is known how
//! long the history was, at the least and at the most, when a key came that a `MIGRATE` brought.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Cluster, Node};

/// Between two samples of one node.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(5);
/// How long `MONITOR` may lag behind.
const LAG: Duration = Duration::from_secs(1);

/// A key that came to a node by `MIGRATE`.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) key: String,
    /// The history that it became part of.
    pub(crate) history: String,
    /// How long that was before it came, at the least.
    pub(crate) at_least: u64,
    /// And at the most; `None` when the node ended first.
    pub(crate) at_most: Option<u64>,
}

/// Somebody who looks at every node.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    nodes: Vec<(JoinHandle<Samples>, JoinHandle<Vec<Event>>)>,
}

/// By number: the history, and its length.
type Samples = BTreeMap<u64, (String, u64)>;

/// In the order in which a node saw them.
enum Event {
    Sample(u64),
    Arrival(String),
}

impl Witness {
    /// Begins to look at every running node.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let nodes = cluster.running().into_iter().map(|node| {
            let monitored = monitor(cluster, node, Arc::clone(&stop));
            (sample(cluster, node, Arc::clone(&stop)), monitored)
        });
        Self { nodes: nodes.collect(), stop }
    }

    /// Ends, and tells which keys came.
    pub(crate) fn stop(self) -> Vec<Arrival> {
        self.stop.store(true, Ordering::Relaxed);
        let nodes = self.nodes.into_iter().flat_map(|(samples, events)| {
            let samples = samples.join().expect("a sampler does not panic");
            arrivals(&samples, events.join().expect("a monitor does not panic"))
        });
        nodes.collect()
    }
}

fn sample(cluster: &Cluster, node: Node, stop: Arc<AtomicBool>) -> JoinHandle<Samples> {
    let mut connection = cluster.connect(node, 0).expect("a running node can be reached");
    thread::spawn(move || {
        let mut samples = Samples::new();
        for number in 0.. {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ECHO").arg(format!("sample:{number}")).ignore().cmd("INFO").arg("replication");
            let Ok((info,)) = pipeline.query::<(String,)>(&mut connection) else { break };
            let (Some(history), Some(offset)) = (field(&info, "master_replid"), field(&info, "master_repl_offset"))
            else {
                break;
            };
            samples.insert(number, (history.to_owned(), offset.parse().expect("a number")));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(BETWEEN_SAMPLES);
        }
        samples
    })
}

fn monitor(cluster: &Cluster, node: Node, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Event>> {
    let address = cluster.address(node);
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).expect("a running node can be reached");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out can be set");
    stream.write_all(b"MONITOR\r\n").expect("a running node can be asked");
    thread::spawn(move || {
        let (mut reader, mut line) = (BufReader::new(stream), Vec::new());
        let (mut events, mut stopped) = (Vec::new(), None);
        loop {
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return events,
                Ok(_) if line.ends_with(b"\n") => {
                    events.extend(event(&String::from_utf8_lossy(&line)));
                    line.clear();
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return events,
            }
            if stop.load(Ordering::Relaxed) {
                let since: &mut Instant = stopped.get_or_insert_with(Instant::now);
                if since.elapsed() > LAG {
                    return events;
                }
            }
        }
    })
}

/// `+1700000000.123456 [0 127.0.0.1:5000] "RESTORE-ASKING" "a key" …`
fn event(line: &str) -> Option<Event> {
    let mut words = line.split('"').skip(1).step_by(2);
    match (words.next()?.to_ascii_uppercase().as_str(), words.next()?) {
        ("ECHO", number) => number.strip_prefix("sample:")?.parse().ok().map(Event::Sample),
        ("RESTORE-ASKING", key) => Some(Event::Arrival(key.to_owned())),
        _ => None,
    }
}

fn arrivals(samples: &Samples, events: Vec<Event>) -> Vec<Arrival> {
    let mut arrivals: Vec<Arrival> = Vec::new();
    let (mut last, mut unbounded) = (None, 0);
    for event in events {
        match event {
            Event::Sample(number) => {
                let Some((history, offset)) = samples.get(&number) else { continue };
                for arrival in &mut arrivals[unbounded..] {
                    arrival.at_most = Some(*offset);
                }
                unbounded = arrivals.len();
                last = Some((history, *offset));
            }
            Event::Arrival(key) => {
                let Some((history, at_least)) = last else { continue };
                arrivals.push(Arrival { key, history: history.clone(), at_least, at_most: None });
            }
        }
    }
    arrivals
}

/// The value of a line of `INFO`.
pub(crate) fn field<'t>(info: &'t str, name: &str) -> Option<&'t str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
