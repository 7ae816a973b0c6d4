//! Links that can be cut: between two servers, or between a server and the daemon, and no other.
//!
//! In front of each node stands a proxy, which the node announces as its own address: daemon, clients and `MIGRATE` go
//! through it. The nodes' bus has no proxy.

use evenkeel::cluster::Address;

use crate::support::proxy::Proxy;
use crate::support::reserve::BUS_OFFSET;
use crate::support::{Cluster, Node, SOON, eventually};

/// The proxies of a cluster, by node.
pub(crate) struct Wires(Vec<Proxy>);

impl Wires {
    /// Puts proxies in front of all nodes; they end with the test.
    pub(crate) fn put_between(cluster: &Cluster) -> Self {
        let wires = Self(cluster.nodes().into_iter().map(|node| announce(cluster, node)).collect());
        eventually("every node lists the proxies", SOON, || {
            for node in cluster.nodes() {
                let text = cluster.cluster_nodes_text(node);
                if let Some(unknown) = wires.0.iter().find(|proxy| !text.contains(&format!(":{}@", proxy.port()))) {
                    return Err(format!("{} does not list {}", cluster.name(node), unknown.port()));
                }
            }
            Ok(())
        });
        wires
    }

    /// Where the node is reached through its proxy.
    pub(crate) fn address(&self, node: usize) -> Address {
        Address::new("127.0.0.1", self.0[node].port())
    }

    /// Cuts what this process has to say to this node, and the answers.
    pub(crate) fn cut(&self, node: usize, pid: u32) {
        self.0[node].cut(pid);
    }

    /// Mends everything.
    pub(crate) fn mend(&self) {
        self.0.iter().for_each(Proxy::mend);
    }
}

/// A proxy that the node announces in its place.
fn announce(cluster: &Cluster, node: Node) -> Proxy {
    let to = cluster.address(node);
    let bus = to.port + BUS_OFFSET;
    let proxy = Proxy::start(to);
    // The bus first: left to itself it would be looked for beside the new data port.
    for (name, port) in [("cluster-announce-bus-port", bus), ("cluster-announce-port", proxy.port())] {
        cluster.cmd::<()>(node, &["CONFIG", "SET", name, &port.to_string()]);
    }
    proxy
}
