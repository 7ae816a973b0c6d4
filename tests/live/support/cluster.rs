//! A real cluster on this machine, for one story.

use std::collections::BTreeMap;
use std::thread;

use evenkeel::cluster::{Address, NodeId, SlotSet};
use tempfile::TempDir;

use super::node::{Life, Node, Server};
use super::process::last_lines;
use super::reserve;
use super::spec::Spec;
use super::tls::TlsFiles;
use super::wait::{SOON, eventually};

/// A cluster of real servers. Its processes are killed and its directories removed when it is dropped; when that is
/// because the story failed, their logs and views are printed first.
pub(crate) struct Cluster {
    spec: Spec,
    tls: Option<(TempDir, TlsFiles)>,
    servers: Vec<Server>,
    /// Every replica at the start, and its primary.
    replicas: BTreeMap<Node, Node>,
}

impl Cluster {
    /// Starts the servers, makes them one cluster, and waits until every node says that it is whole.
    #[track_caller]
    pub(crate) fn start(spec: Spec) -> Self {
        let tls = spec.tls.then(|| {
            let directory = reserve::directory("tls");
            let names = ["127.0.0.1".to_owned(), "localhost".to_owned()].into_iter().chain(spec.announced.clone());
            let files = TlsFiles::create(directory.path(), names.collect());
            (directory, files)
        });
        let mut cluster = Self { spec, tls, servers: Vec::new(), replicas: BTreeMap::new() };
        for _ in 0..cluster.spec.node_count() {
            cluster.start_server();
        }
        cluster.join();
        cluster
    }

    /// All nodes: primaries with slots, then empty ones, then replicas, then those added later.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        (0..self.servers.len()).map(Node).collect()
    }

    /// The primaries that were started with slots.
    pub(crate) fn primaries(&self) -> Vec<Node> {
        self.nodes()[..self.spec.slots.len()].to_vec()
    }

    /// The primaries that were started without slots.
    pub(crate) fn empty_primaries(&self) -> Vec<Node> {
        let with_slots = self.spec.slots.len();
        self.nodes()[with_slots..with_slots + self.spec.empty_primaries].to_vec()
    }

    /// The nodes that were started as replicas of this one.
    pub(crate) fn replicas_of(&self, primary: Node) -> Vec<Node> {
        self.replicas.iter().filter(|&(_, of)| *of == primary).map(|(&replica, _)| replica).collect()
    }

    /// Where clients reach the node.
    pub(crate) fn address(&self, node: Node) -> Address {
        self.server(node).address()
    }

    /// Where the node says that it is reached; the same as [`Self::address`] unless the spec says otherwise.
    pub(crate) fn announced(&self, node: Node) -> Address {
        let server = self.server(node);
        let address = server.address();
        Address { host: server.announced.clone().unwrap_or(address.host), ..address }
    }

    /// The node's id.
    pub(crate) fn node_id(&self, node: Node) -> NodeId {
        self.server(node).id.expect("a node is asked for its id when it is started")
    }

    /// The password of every node, if any.
    pub(crate) fn password(&self) -> Option<&str> {
        self.spec.password.as_deref()
    }

    /// The certificate files, where the cluster speaks TLS.
    pub(crate) fn tls_files(&self) -> Option<&TlsFiles> {
        self.tls.as_ref().map(|(_, files)| files)
    }

    /// The pid of the node's server.
    pub(crate) fn pid(&self, node: Node) -> u32 {
        self.server(node).pid()
    }

    /// Kills the node's server: it gets no chance to say good-bye.
    pub(crate) fn kill9(&self, node: Node) {
        self.server(node).kill9();
    }

    /// Asks the node's server to end, and waits until it has.
    pub(crate) fn sigterm(&self, node: Node) {
        self.server(node).sigterm();
    }

    /// Stops the node's server: connections stay open, nothing is answered.
    pub(crate) fn sigstop(&self, node: Node) {
        self.server(node).sigstop();
    }

    /// Lets a stopped server go on.
    pub(crate) fn sigcont(&self, node: Node) {
        self.server(node).sigcont();
    }

    /// Starts the node's server again, in its directory and on its port (killing it first where it runs), and waits
    /// until it accepts connections. Its keys are gone unless the spec made it save them.
    pub(crate) fn restart(&self, node: Node) {
        self.server(node).restart();
    }

    /// Waits until every replica has read all that its primary has written, with nobody writing meanwhile.
    #[track_caller]
    pub(crate) fn await_replicas_in_step(&self) {
        let offset = |node| -> Result<u64, String> {
            let info: String = self.try_cmd(node, &["INFO", "replication"]).map_err(|error| error.to_string())?;
            let field = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:"));
            field.and_then(|text| text.trim().parse().ok()).ok_or_else(|| format!("no offset in {info}"))
        };
        eventually("the replicas are in step", SOON, || {
            for (&replica, &primary) in &self.replicas {
                let [behind, ahead] = [offset(replica)?, offset(primary)?];
                if behind != ahead {
                    return Err(format!("{} is at {behind}, its primary at {ahead}", self.name(replica)));
                }
            }
            Ok(())
        });
    }

    /// Adds a primary without slots, and waits until every running node knows it.
    #[track_caller]
    pub(crate) fn add_empty_primary(&mut self) -> Node {
        let node = self.start_server();
        self.meet(node);
        eventually("the new primary is known to all", SOON, || self.formed());
        node
    }

    /// What every node wrote since it was last started, its last `lines` lines each.
    pub(crate) fn logs(&self, lines: usize) -> String {
        let log = |node| format!("--- log of {}\n{}\n", self.name(node), last_lines(&self.server(node).log(), lines));
        self.nodes().into_iter().map(log).collect()
    }

    /// A name for messages: `node 2 (127.0.0.1:12003, 07c37dfe)`.
    pub(crate) fn name(&self, node: Node) -> String {
        let server = self.server(node);
        let id = server.id.map_or_else(|| "no id yet".to_owned(), |id| id.short());
        format!("node {} ({}, {id})", node.0, server.address())
    }

    pub(super) fn server(&self, node: Node) -> &Server {
        &self.servers[node.0]
    }

    fn start_server(&mut self) -> Node {
        let node = Node(self.servers.len());
        let announced = self.spec.announced.get(node.0).cloned();
        let args = |port| self.server_args(node, port, announced.as_deref());
        self.servers.push(Server::start(self.spec.flavour_of(node.0).server(), announced.clone(), args));
        let id: String = self.cmd(node, &["CLUSTER", "MYID"]);
        self.servers[node.0].id = Some(id.parse().expect("a node's id"));
        // As `redis-cli` does it: nodes that differ from the start need not settle who gives way.
        let epoch = (node.0 + 1).to_string();
        self.cmd::<()>(node, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        node
    }

    fn server_args(&self, node: Node, port: u16, announced: Option<&str>) -> Vec<String> {
        let node_timeout = self.spec.node_timeout.as_millis().to_string();
        let mut args: Vec<String> = match self.tls_files() {
            Some(files) => files.server_args(port),
            None => vec!["--port".to_owned(), port.to_string()],
        };
        let mut add = |words: &[&str]| args.extend(words.iter().map(|&word| word.to_owned()));
        add(&["--cluster-enabled", "yes", "--cluster-node-timeout", &node_timeout]);
        add(&["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        add(announced.as_slice());
        // Replicas are in step at once: by default a primary waits five seconds for more of them to come.
        add(&["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        if let Some(ip) = announced {
            add(&["--cluster-announce-ip", ip]);
        }
        if self.spec.flavour_of(node.0).guards_debug() {
            add(&["--enable-debug-command", "yes"]);
        }
        if let Some(password) = self.password() {
            add(&["--requirepass", password, "--masterauth", password]);
        }
        let own = self.spec.node_config.iter().filter(|(of, _)| *of == node.0).flat_map(|(_, args)| args);
        args.extend(self.spec.config.iter().chain(own).cloned());
        args
    }

    fn join(&mut self) {
        for (node, slots) in self.nodes().into_iter().zip(&self.spec.slots) {
            let slots: Vec<String> = slots.iter().map(|slot| slot.to_string()).collect();
            let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            self.cmd::<()>(node, &words.collect::<Vec<_>>());
        }
        for node in self.nodes().into_iter().skip(1) {
            self.meet(node);
        }
        eventually("every node knows every other", SOON, || self.acquainted());
        let first_replica = self.spec.slots.len() + self.spec.empty_primaries;
        for (replica, number) in self.nodes().into_iter().skip(first_replica).zip(0..) {
            let primary = Node(number / self.spec.replicas);
            self.replicas.insert(replica, primary);
            self.cmd::<()>(replica, &["CLUSTER", "REPLICATE", &self.node_id(primary).to_string()]);
        }
        eventually("the cluster forms", SOON, || self.formed());
    }

    fn meet(&self, node: Node) {
        let address = self.announced(node);
        self.cmd::<()>(Node(0), &["CLUSTER", "MEET", &address.host, &address.port.to_string()]);
    }

    /// Whether every running node knows all nodes, and has a link to them.
    fn acquainted(&self) -> Result<(), String> {
        for node in self.running() {
            let members = self.view(node)?.members;
            let known = members.iter().filter(|member| member.connected && !member.is("handshake")).count();
            if known != self.servers.len() || members.len() != known {
                return Err(format!("{} knows {known} of {} nodes", self.name(node), self.servers.len()));
            }
        }
        Ok(())
    }

    /// Whether every running node calls the cluster ok, knows all nodes in their roles, and replicas are in step.
    fn formed(&self) -> Result<(), String> {
        self.acquainted()?;
        let owners = self.agreed_owners()?;
        let with_slots = self.spec.slots.iter().filter(|slots: &&SlotSet| !slots.is_empty()).count();
        if owners.len() < with_slots {
            return Err(format!("{} nodes own slots, not {with_slots}", owners.len()));
        }
        for node in self.running() {
            let ask = |args: &[&str]| -> Result<String, String> {
                self.try_cmd(node, args).map_err(|error| format!("{}: {error}", self.name(node)))
            };
            let info = ask(&["CLUSTER", "INFO"])?;
            if !info.contains("cluster_state:ok") {
                return Err(format!("{} says {}", self.name(node), info.lines().next().unwrap_or_default()));
            }
            let view = self.view(node)?;
            for (&replica, &primary) in &self.replicas {
                let replicates = Some(self.node_id(primary));
                let id = self.node_id(replica);
                if !view.members.iter().any(|member| member.id == id && member.primary == replicates) {
                    return Err(format!("{} does not know the role of {}", self.name(node), self.name(replica)));
                }
            }
            let replication = ask(&["INFO", "replication"])?;
            let online = replication.matches("state=online").count();
            let in_step = match self.replicas.get(&node) {
                Some(_) => replication.contains("master_link_status:up"),
                None => online == self.replicas_of(node).len(),
            };
            if !in_step {
                return Err(format!("replication of {} is not in step: {replication}", self.name(node)));
            }
        }
        Ok(())
    }

    /// Prints what a human needs to understand why a story failed.
    fn print(&self) {
        for node in self.nodes() {
            // A server that does not run, or is stopped, would only cost a time-out.
            let view = match self.server(node).life() {
                Life::Running => self.try_cmd(node, &["CLUSTER", "NODES"]).unwrap_or_else(|error| error.to_string()),
                life @ (Life::Stopped | Life::Ended) => format!("{life:?}\n"),
            };
            eprintln!("--- CLUSTER NODES of {}\n{view}", self.name(node));
        }
        eprintln!("{}", self.logs(25));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print();
        }
    }
}
