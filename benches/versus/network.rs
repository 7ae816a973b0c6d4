//! A network between the processes that takes its time.
//!
//! In front of each node stands a proxy that hands every byte on half a round trip later, and each node announces its
//! proxy as its own address: tools, and nodes that send keys to each other, go through it. The nodes' bus does not, and
//! bandwidth is not limited.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::cluster::Address;

use super::support::{Cluster, Node, eventually};

/// How long the nodes may take to hear of each other's new addresses: they speak several times a second.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// The bus port of a node is its data port plus this.
const BUS_OFFSET: u16 = 10_000;
/// The most that is handed on at once.
const CHUNK: usize = 64 * 1024;

/// How tools reach the nodes of one cluster.
#[derive(Debug)]
pub(crate) struct Network(BTreeMap<Node, Address>);

impl Network {
    /// The bare loopback where `round_trip` is zero. Otherwise proxies, which end when their nodes do.
    pub(crate) fn of(cluster: &Cluster, round_trip: Duration) -> Self {
        let nodes = cluster.nodes().into_iter();
        if round_trip.is_zero() {
            return Self(nodes.map(|node| (node, cluster.address(node))).collect());
        }
        let proxies: BTreeMap<Node, Address> =
            nodes.map(|node| (node, announce_proxy(cluster, node, round_trip / 2))).collect();
        eventually("every node lists the proxies", HEARD_WITHIN, || {
            for node in cluster.nodes() {
                let text = cluster.cluster_nodes_text(node);
                if let Some(unknown) = proxies.values().find(|proxy| !text.contains(&format!("{proxy}@"))) {
                    return Err(format!("{} does not list {unknown}", cluster.name(node)));
                }
            }
            Ok(())
        });
        Self(proxies)
    }

    /// Where a tool begins.
    pub(crate) fn seed(&self) -> &Address {
        self.0.values().next().expect("a cluster has nodes")
    }

    /// Where all nodes are reached.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.0.values().cloned().collect()
    }

    /// Where a node is reached.
    pub(crate) fn address(&self, node: Node) -> &Address {
        &self.0[&node]
    }
}

/// Starts a proxy in front of the node, and has the node announce it.
fn announce_proxy(cluster: &Cluster, node: Node, delay: Duration) -> Address {
    let to = cluster.address(node);
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let bus = to.port + BUS_OFFSET;
    // The bus first: left to itself it would be looked for beside the new data port.
    for (name, port) in [("cluster-announce-bus-port", bus), ("cluster-announce-port", port)] {
        cluster.cmd::<()>(node, &["CONFIG", "SET", name, &port.to_string()]);
    }
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A node that is gone: the client sees its connection end.
            if let Ok(server) = TcpStream::connect((to.host.as_str(), to.port)) {
                let _ = join(client, server, delay);
            }
        }
    });
    Address::new("127.0.0.1", port)
}

/// Hands on in both directions what either end sends, until one of them ends.
fn join(client: TcpStream, server: TcpStream, delay: Duration) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    hand_on(client.try_clone()?, server.try_clone()?, delay);
    hand_on(server, client, delay);
    Ok(())
}

/// One direction: a thread that reads, and one that writes when the time has come. Threads, because a runtime's timer
/// counts whole milliseconds.
fn hand_on(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (arrived, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            if arrived.send((Instant::now() + delay, chunk[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (at, bytes) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
