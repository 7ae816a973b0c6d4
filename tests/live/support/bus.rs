//! The nodes' bus through proxies, so that it can be cut while clients and replication are not.

use std::time::{Duration, Instant};

use evenkeel::cluster::Address;

use super::cluster::Cluster;
use super::node::Node;
use super::proxy::{Proxy, connections_of};
use super::reserve::BUS_OFFSET;
use super::spec::Spec;
use super::wait::{SOON, eventually};

/// More than any test takes.
pub(crate) const A_LONG_TIME: Duration = Duration::from_hours(1);

/// How long a node may take to drop a link by itself.
const BY_ITSELF: Duration = Duration::from_secs(3);

/// The proxies of a cluster's bus ports, by node.
pub(crate) struct Bus(Vec<Proxy>);

impl Bus {
    /// A new cluster, with proxies in front of all bus ports.
    ///
    /// Redis 7.0 dies of being told to drop a link that it has just dropped by itself (7.0.15, in `freeClusterLink`): then another
    /// cluster is started.
    pub(crate) fn around(spec: &Spec) -> (Cluster, Self) {
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let cluster = Cluster::start(spec.clone());
            if let Some(bus) = Self::put_between(&cluster) {
                return (cluster, bus);
            }
            eprintln!("a server of {} died of a new bus port", spec.flavour.name());
        }
        panic!("servers died of a new bus port in each of {ATTEMPTS} clusters");
    }

    /// Puts proxies in front of all bus ports; `None` when a server died of it. A node drops its link to another one whose port
    /// it hears to have changed; where it knew the new one before (Redis 8.2 now and then) its link is dropped here.
    fn put_between(cluster: &Cluster) -> Option<Self> {
        let in_front = |node| {
            let Address { host, port } = cluster.address(node);
            let proxy = Proxy::start(Address::new(host, port + BUS_OFFSET));
            let announce = ["CONFIG", "SET", "cluster-announce-bus-port", &proxy.port().to_string()];
            cluster.try_cmd::<()>(node, &announce).ok().map(|()| proxy)
        };
        let bus = Self(cluster.nodes().into_iter().map(in_front).collect::<Option<_>>()?);
        let began = Instant::now();
        let all_live = eventually("every node uses the proxies", SOON, || {
            if cluster.running() != cluster.nodes() {
                return Ok(false);
            }
            for node in cluster.nodes() {
                let text = cluster.try_cmd::<String>(node, &["CLUSTER", "NODES"]).map_err(|error| error.to_string())?;
                // Redis 6.2 lists the port that it listens at for itself.
                let others = text.lines().filter(|line| !line.contains("myself")).count();
                let listed = bus.0.iter().filter(|proxy| text.contains(&format!("@{} ", proxy.port()))).count();
                if listed < others {
                    return Err(format!("{} lists {listed} of them: {text}", cluster.name(node)));
                }
                if text.contains("disconnected") {
                    return Err(format!("{} is not connected yet", cluster.name(node)));
                }
                let direct = cluster.nodes().into_iter().find(|&other| reaches_directly(cluster, node, other));
                if let Some(other) = direct {
                    // Redis 6.2 has no such command, and was never seen to need it.
                    if began.elapsed() >= BY_ITSELF {
                        let id = cluster.node_id(other).to_string();
                        let _ = cluster.try_cmd::<()>(node, &["DEBUG", "CLUSTERLINK", "KILL", "TO", &id]);
                    }
                    return Err(format!("{} reaches {} without a proxy", cluster.name(node), cluster.name(other)));
                }
            }
            Ok(true)
        });
        all_live.then_some(bus)
    }

    /// No node hears anything of another one from now on, and none takes another one for failed.
    pub(crate) fn cut(&self, cluster: &Cluster) {
        cluster.set_node_timeout(A_LONG_TIME);
        for proxy in &self.0 {
            cluster.nodes().into_iter().for_each(|node| proxy.cut(cluster.pid(node)));
        }
    }

    /// The same, of this node alone: it hears nobody and nobody hears it, while all others hear each other.
    pub(crate) fn isolate(&self, cluster: &Cluster, node: Node) {
        cluster.set_node_timeout(A_LONG_TIME);
        for (other, proxy) in cluster.nodes().into_iter().zip(&self.0) {
            if other == node {
                cluster.nodes().into_iter().for_each(|other| proxy.cut(cluster.pid(other)));
            } else {
                proxy.cut(cluster.pid(node));
            }
        }
    }

    pub(crate) fn mend(&self) {
        self.0.iter().for_each(Proxy::mend);
    }

    /// The node dies, and nobody ever hears what it said since the cut; all others hear each other again.
    pub(crate) fn kill_unheard(&self, cluster: &Cluster, node: Node, node_timeout: Duration) {
        // What a dead node had said would not be held back any more.
        cluster.sigstop(node);
        self.0.iter().for_each(Proxy::reset);
        cluster.kill9(node);
        // Valkey 9 tries a link that was lost only so often in a node timeout.
        cluster.set_node_timeout(node_timeout);
    }
}

/// Whether a node has a connection to another one's bus port itself.
fn reaches_directly(cluster: &Cluster, node: Node, other: Node) -> bool {
    let bus = cluster.address(other).port + BUS_OFFSET;
    connections_of(cluster.pid(node)).iter().any(|&(_, remote)| remote == bus)
}

impl Cluster {
    /// From now on, how long a node must be silent before another one takes it for failed.
    pub(crate) fn set_node_timeout(&self, timeout: Duration) {
        let ms = timeout.as_millis().to_string();
        self.running().into_iter().for_each(|node| self.cmd(node, &["CONFIG", "SET", "cluster-node-timeout", &ms]));
    }
}
