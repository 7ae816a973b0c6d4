//! When keys arrived at their targets, in the replication histories of these.
//!
//! `MONITOR` of a node shows every `RESTORE-ASKING` between numbered samples of the node's offset: so it is known how
//! long the history was, at the least and at the most, when a key came that a `MIGRATE` brought.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::monitor::{Asked, Monitor};
use crate::support::{Cluster, Node};

/// Between two samples of one node.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(5);

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
    nodes: Vec<(JoinHandle<Samples>, Monitor)>,
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
            let monitor = Monitor::start(cluster, node, &["ECHO", "RESTORE-ASKING"]);
            (sample(cluster, node, Arc::clone(&stop)), monitor)
        });
        Self { nodes: nodes.collect(), stop }
    }

    /// Ends, and tells which keys came.
    pub(crate) fn stop(self) -> Vec<Arrival> {
        self.stop.store(true, Ordering::Relaxed);
        let nodes = self.nodes.into_iter().flat_map(|(samples, monitor)| {
            let samples = samples.join().expect("a sampler does not panic");
            arrivals(&samples, monitor.stop().iter().filter_map(event))
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

fn event(asked: &Asked) -> Option<Event> {
    match asked.words.as_slice() {
        [name, number, ..] if name.eq_ignore_ascii_case("ECHO") => {
            number.strip_prefix("sample:")?.parse().ok().map(Event::Sample)
        }
        [_, key, ..] => Some(Event::Arrival(key.clone())),
        _ => None,
    }
}

fn arrivals(samples: &Samples, events: impl Iterator<Item = Event>) -> Vec<Arrival> {
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
