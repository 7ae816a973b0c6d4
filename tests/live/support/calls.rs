//! Calls of evenkeel for one cluster: its address, its password and its certificates, as a user would give them.

use std::collections::BTreeMap;

use evenkeel::cluster::SlotSet;
use serde_json::Value;

use super::cluster::Cluster;
use super::evenkeel::{Evenkeel, Output};
use super::node::Node;
use super::settings::settings;

impl Cluster {
    /// A call of evenkeel that is given the first node as the seed, and what else it takes to sign in.
    pub(crate) fn evenkeel(&self, args: &[&str]) -> Evenkeel {
        let seed = self.address(Node(0)).to_string();
        let mut args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        args.extend(["--seed".to_owned(), seed]);
        if let Some(files) = self.tls_files() {
            for (option, file) in [("--tls-ca", &files.ca), ("--tls-cert", &files.cert), ("--tls-key", &files.key)] {
                args.extend([option.to_owned(), file.display().to_string()]);
            }
        }
        self.signed_in(Evenkeel::new(&args.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// A call of evenkeel that is given a configuration file: `[cluster]` of this cluster, and this text after it.
    pub(crate) fn evenkeel_with_file(&self, args: &[&str], rest: &str) -> Evenkeel {
        self.signed_in(Evenkeel::new(args).config(&settings(self, rest)))
    }

    /// How many calls that move slots the primaries have carried out so far.
    ///
    /// Redis 6.2 counts all of `CLUSTER` as one: there, only `MIGRATE` is counted.
    pub(crate) fn moving_calls(&self) -> u64 {
        self.nodes().into_iter().map(|node| self.calls_of(node, &["migrate", "cluster|setslot"])).sum()
    }

    /// How often the node has carried out these commands so far, named as it counts them.
    pub(crate) fn calls_of(&self, node: Node, commands: &[&str]) -> u64 {
        self.command_stats(node)
            .into_iter()
            .filter(|(name, _)| commands.contains(&name.as_str()))
            .map(|(_, calls)| calls)
            .sum()
    }

    /// How many `PONG`s the node has sent to others so far, on its own or as an answer.
    pub(crate) fn pongs_sent(&self, node: Node) -> u64 {
        let info: String = self.cmd(node, &["CLUSTER", "INFO"]);
        let line = info.lines().find_map(|line| line.strip_prefix("cluster_stats_messages_pong_sent:"));
        line.map_or(0, |count| count.trim().parse().expect("a number"))
    }

    /// How often the node has carried out each command so far.
    fn command_stats(&self, node: Node) -> Vec<(String, u64)> {
        let stats: String = self.cmd(node, &["INFO", "commandstats"]);
        let calls = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(calls).collect()
    }

    /// How often each node has carried out each command that changes anything: data, slots, configuration or roles.
    ///
    /// All that it counts but those known to read, so that a command that nobody thought of is not missed.
    pub(crate) fn writes(&self) -> BTreeMap<(Node, String), u64> {
        const READ: [&str; 24] = [
            "acl|dryrun",
            "acl|whoami",
            "client|id",
            "client|list",
            "client|setinfo",
            "client|setname",
            "cluster|countkeysinslot",
            "cluster|info",
            "cluster|myid",
            "cluster|nodes",
            "command",
            "command|info",
            "config|get",
            "function|list",
            "get",
            "hello",
            "info",
            "memory|usage",
            "module|list",
            "ping",
            "pttl",
            "role",
            "select",
            "auth",
        ];
        // What a replica and its primary say to each other.
        const REPLICATION: [&str; 3] = ["replconf", "psync", "sync"];
        let writes = |name: &str| !READ.contains(&name) && !REPLICATION.contains(&name);
        let of_node = |node: Node| {
            let stats = self.command_stats(node).into_iter().filter(|(name, _)| writes(name));
            stats.map(|(name, calls)| ((node, name), calls)).collect::<Vec<_>>()
        };
        self.nodes().into_iter().flat_map(of_node).collect()
    }

    /// Asserts that every node says that this node owns exactly these slots.
    #[track_caller]
    pub(crate) fn assert_owns(&self, node: Node, slots: &SlotSet) {
        assert_eq!(self.slots_of(node).to_string(), slots.to_string(), "slots of {}", self.name(node));
    }

    fn signed_in(&self, call: Evenkeel) -> Evenkeel {
        match self.password() {
            Some(password) => call.env("EVENKEEL_PASSWORD", password),
            None => call,
        }
    }
}

impl Output {
    /// Asserts that it exited with this status, and returns what it wrote to its standard output.
    #[track_caller]
    pub(crate) fn exited(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "standard output:\n{}\nlog:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts that it exited with this status, and returns the one JSON document on its standard output.
    #[track_caller]
    pub(crate) fn exited_with_json(self, status: i32) -> Value {
        let text = self.exited(status);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not one JSON document: {error}\n{text}"))
    }
}
