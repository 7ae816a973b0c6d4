//! What was read from each node in one pass over the cluster: its view, and its `INFO` and `CLUSTER INFO`.
//!
//! Holds what each node said, side by side. What it amounts to is the affair of [`super::Topology`].

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Address, NodeId, NodeView, Role, ServerJob};

/// One pass over the cluster. No node is in two of the first three maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The nodes that answered, each under the id that it gave itself.
    pub nodes: BTreeMap<NodeId, Observed>,
    /// The nodes that were asked and did not answer. A node in none of these maps was not asked.
    pub silent: BTreeMap<NodeId, Silent>,
    /// The nodes that answered and are in no cluster, and where they were reached: see [`Self::set_alone_apart`].
    pub alone: BTreeMap<NodeId, Address>,
    /// The migrations that primaries carry out by themselves, or why they could not be read. Primaries that have no
    /// such migrations are not in it.
    pub jobs: BTreeMap<NodeId, Result<Vec<ServerJob>, String>>,
}

impl Observation {
    /// Sets primaries apart that know no other node, have neither slots nor marks nor keys, and are given a slot by
    /// nobody: after a `CLUSTER RESET`, say, or before a `CLUSTER MEET`.
    ///
    /// What such a node says of slots, that nobody has them, is nothing about the cluster. Where all nodes are of that kind
    /// none is set apart: then there is no other cluster than theirs.
    pub fn set_alone_apart(&mut self) {
        let is_alone = |observed: &Observed| {
            let (view, myself) = (&observed.view, observed.view.myself());
            let has_nothing = myself.slots.is_empty() && myself.markers.is_empty() && observed.info.keys.is_empty();
            myself.role == Role::Primary && has_nothing && view.lines().all(|line| line.myself)
        };
        let has_slots = |node| {
            self.nodes.values().filter_map(|observed| observed.view.line(node)).any(|line| !line.slots.is_empty())
        };
        let alone = self.nodes.iter().filter(|(node, observed)| is_alone(observed) && !has_slots(**node));
        let alone: BTreeMap<NodeId, Address> =
            alone.map(|(&node, observed)| (node, observed.dialled.clone())).collect();
        if alone.len() < self.nodes.len() {
            self.nodes.retain(|node, _| !alone.contains_key(node));
            self.alone = alone;
        }
    }
}

/// What one node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Where it was reached: perhaps not what it announces.
    pub dialled: Address,
    /// Its `CLUSTER NODES`.
    pub view: NodeView,
    /// Its `INFO` and `CLUSTER INFO`, read just before or after the view, not at the same instant.
    pub info: NodeInfo,
}

/// A node that did not answer. Nothing follows about its keys or its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Where it was dialled; `None` when no address is known.
    pub address: Option<Address>,
    /// What went wrong, for people.
    pub why: String,
}

/// A replica's connection to its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryLink {
    /// It takes in what its primary writes.
    Up,
    /// It reads its primary's whole data set first.
    Synchronising,
    /// There is none.
    Down,
}

/// The part of `INFO` and `CLUSTER INFO` that evenkeel uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the servers print them")]
pub struct NodeInfo {
    /// Random at each start of the process: another one means a restart.
    pub run_id: String,
    /// What is running.
    pub version: ServerVersion,
    /// Whether it is reading its data set from disk and serves nothing yet.
    pub loading: bool,
    /// What it uses, and what it may.
    pub memory: MemoryUse,
    /// Bytes of the memory in use that are data.
    pub dataset_bytes: u64,
    /// Whether the last background save failed, after which a server may refuse writes.
    pub save_failed: bool,
    /// Whether the last write to the append-only file failed, after which a server refuses writes.
    pub append_failed: bool,
    /// Its replication stream.
    pub replication: Replication,
    /// Of a replica: its connection to its primary. `None` of a primary.
    pub primary_link: Option<PrimaryLink>,
    /// Keys by database, only of databases that hold any. Includes keys of slots that the node does not own.
    pub keys: BTreeMap<u32, u64>,
    /// `cluster_state:ok`. Proves nothing about the nodes' agreement.
    pub cluster_ok: bool,
    /// The highest epoch that the node has heard of.
    pub current_epoch: u64,
}

/// Which program a server is. Valkey forked from Redis 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// A server's version. For people and for comparing; what a server can do is asked of it, not guessed from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// Whose version numbers these are.
    pub product: Product,
    /// First number; 255 on builds without a release.
    pub major: u32,
    /// Second number, 0 when absent.
    pub minor: u32,
    /// Third number, 0 when absent.
    pub patch: u32,
}

impl ServerVersion {
    /// Whether the server shows no keys of slots that it neither owns nor takes in. Builds without a release say 255.
    #[must_use]
    pub fn hides_keys(&self) -> bool {
        self.product == Product::Redis && (self.major, self.minor) >= (8, 4)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}.{}", self.product, self.major, self.minor, self.patch)
    }
}

/// The memory that a server uses, and what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes in use, data and overhead.
    pub used: u64,
    /// The limit in bytes; 0 for none.
    pub max: u64,
    /// What it does when the limit is reached.
    pub eviction: EvictionPolicy,
}

impl MemoryUse {
    /// Reads the section memory of `INFO`; a number that is absent counts as 0.
    pub fn parse(info: &str) -> Result<Self, InfoError> {
        Self::of(&Fields::parse("INFO", info))
    }

    fn of(info: &Fields) -> Result<Self, InfoError> {
        Ok(Self {
            used: info.number("used_memory")?,
            max: info.number("maxmemory")?,
            eviction: match info.get("maxmemory_policy") {
                Some("noeviction") => EvictionPolicy::NoEviction,
                Some(policy) if policy.starts_with("volatile-") => EvictionPolicy::Volatile,
                Some(_) | None => EvictionPolicy::AllKeys,
            },
        })
    }
}

/// What a server does when its memory limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvictionPolicy {
    /// It refuses writes.
    NoEviction,
    /// It drops any key. Also what a policy counts as that is absent or not known: the most harmful one.
    AllKeys,
    /// It drops keys that have a time to live.
    Volatile,
}

/// A node's replication stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// The node's role as `INFO` has it, which may be newer or older than that of its view.
    pub is_primary: bool,
    /// Which stream it is: a node that was promoted begins another one.
    pub id: String,
    /// How far the stream has come, in bytes; of a replica, how far it has carried it out.
    pub offset: u64,
    /// The replicas connected to it.
    pub replicas: Vec<ReplicaLink>,
    /// How many replicas are in step, where the server counts them because it wants some (`min-replicas-to-write`).
    pub good_replicas: Option<u64>,
}

impl Replication {
    /// Reads the section replication of `INFO`; a number that is absent counts as 0.
    pub fn parse(info: &str) -> Result<Self, InfoError> {
        Self::of(&Fields::parse("INFO", info))
    }

    fn of(info: &Fields) -> Result<Self, InfoError> {
        const GOOD: &str = "min_slaves_good_slaves";
        let is_primary = match info.required("role")? {
            "master" => true,
            "slave" => false,
            other => return Err(info.fault("role", other, "master or slave")),
        };
        Ok(Self {
            is_primary,
            id: info.get("master_replid").unwrap_or_default().to_owned(),
            offset: info.number("master_repl_offset")?,
            replicas: parse_replicas(info)?,
            good_replicas: info.get(GOOD).map(|count| info.value(GOOD, count)).transpose()?,
        })
    }
}

/// A replica connected to the node, as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLink {
    /// Where the replica says that it listens.
    pub address: Address,
    /// Whether it has finished its synchronisation and follows the stream.
    pub online: bool,
    /// How far it has acknowledged the stream, in bytes.
    pub offset: u64,
    /// Seconds since its last acknowledgement.
    pub lag_s: Option<u64>,
}

/// Text of `INFO` or `CLUSTER INFO` from which evenkeel cannot tell what it must know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InfoError {
    /// A field without which nothing can be decided.
    #[error("{command} has no field `{field}`")]
    Missing {
        /// `INFO` or `CLUSTER INFO`.
        command: &'static str,
        /// The field's name.
        field: &'static str,
    },
    /// A field whose value is not of its kind.
    #[error("{command} has `{field}:{value}`, which is not {expected}")]
    Value {
        /// `INFO` or `CLUSTER INFO`.
        command: &'static str,
        /// The field's name.
        field: String,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
}

impl NodeInfo {
    /// Reads the replies of `INFO` (the sections server, memory, persistence, replication and keyspace, or more) and
    /// of `CLUSTER INFO`.
    ///
    /// The run id, the version, the role, the cluster's state and its epoch must be there; a number that is absent
    /// counts as 0, a fault that is absent as not there.
    pub fn parse(info: &str, cluster_info: &str) -> Result<Self, InfoError> {
        const EPOCH: &str = "cluster_current_epoch";
        let info = Fields::parse("INFO", info);
        let cluster = Fields::parse("CLUSTER INFO", cluster_info);
        let replication = Replication::of(&info)?;
        Ok(Self {
            run_id: parse_run_id(&info)?,
            version: parse_version(&info)?,
            loading: info.number("loading")? != 0,
            memory: MemoryUse::of(&info)?,
            dataset_bytes: info.number("used_memory_dataset")?,
            save_failed: info.get("rdb_last_bgsave_status").is_some_and(|status| status != "ok"),
            append_failed: info.get("aof_last_write_status").is_some_and(|status| status != "ok"),
            primary_link: match info.get("master_link_status") {
                Some("up") if !replication.is_primary => Some(PrimaryLink::Up),
                Some(_) if !replication.is_primary => match info.number("master_sync_in_progress")? {
                    0 => Some(PrimaryLink::Down),
                    _ => Some(PrimaryLink::Synchronising),
                },
                Some(_) | None => None,
            },
            replication,
            keys: parse_keys(&info)?,
            cluster_ok: cluster.required("cluster_state")? == "ok",
            current_epoch: cluster.value(EPOCH, cluster.required(EPOCH)?)?,
        })
    }
}

fn parse_run_id(info: &Fields) -> Result<String, InfoError> {
    let run_id = info.required("run_id")?;
    if run_id.is_empty() {
        return Err(info.fault("run_id", run_id, "a run id"));
    }
    Ok(run_id.to_owned())
}

/// Valkey reports `redis_version:7.2.4` for old clients' sake and its own version beside it.
fn parse_version(info: &Fields) -> Result<ServerVersion, InfoError> {
    let (product, field, text) = match info.get("valkey_version") {
        Some(text) => (Product::Valkey, "valkey_version", text),
        None => (Product::Redis, "redis_version", info.required("redis_version")?),
    };
    // A release candidate may write `8.0-rc1`: only the digits that a part begins with count.
    let mut parts = text.split('.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse::<u32>().ok()
    });
    let major = parts.next().flatten().ok_or_else(|| info.fault(field, text, "a version"))?;
    let mut next = || parts.next().flatten().unwrap_or(0);
    Ok(ServerVersion { product, major, minor: next(), patch: next() })
}

/// Reads `slave0:ip=10.0.0.4,port=6379,state=online,offset=14,lag=1`.
fn parse_replicas(info: &Fields) -> Result<Vec<ReplicaLink>, InfoError> {
    let mut replicas = Vec::new();
    for (name, _, text) in info.numbered("slave") {
        let entries = entries(text);
        let port: u64 = info.value(name, entries.get("port").copied().unwrap_or("0"))?;
        let host = entries.get("ip").copied().unwrap_or_default();
        // No port: a client that reads the stream (as `redis-cli --replica` does), not a member of the cluster.
        let (Ok(port @ 1..), false) = (u16::try_from(port), host.is_empty()) else { continue };
        replicas.push(ReplicaLink {
            address: Address::new(host, port),
            online: entries.get("state") == Some(&"online"),
            offset: info.value(name, entries.get("offset").copied().unwrap_or("0"))?,
            lag_s: entries.get("lag").map(|lag| info.value(name, lag)).transpose()?,
        });
    }
    Ok(replicas)
}

/// Reads `db0:keys=5,expires=0,avg_ttl=0`.
fn parse_keys(info: &Fields) -> Result<BTreeMap<u32, u64>, InfoError> {
    let mut keys = BTreeMap::new();
    for (name, database, text) in info.numbered("db") {
        let count = entries(text).get("keys").copied();
        let count = count.ok_or_else(|| info.fault(name, text, "a number of keys"))?;
        keys.insert(database, info.value(name, count)?);
    }
    keys.retain(|_, count| *count > 0);
    Ok(keys)
}

/// `a=1,b=2` by name.
fn entries(text: &str) -> BTreeMap<&str, &str> {
    text.split(',').filter_map(|entry| entry.split_once('=')).collect()
}

/// The lines `field:value` of a reply.
struct Fields<'a> {
    command: &'static str,
    fields: BTreeMap<&'a str, &'a str>,
}

impl<'a> Fields<'a> {
    fn parse(command: &'static str, text: &'a str) -> Self {
        let fields = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.trim().split_once(':'));
        Self { command, fields: fields.collect() }
    }

    fn get(&self, field: &str) -> Option<&'a str> {
        self.fields.get(field).copied()
    }

    fn required(&self, field: &'static str) -> Result<&'a str, InfoError> {
        self.get(field).ok_or(InfoError::Missing { command: self.command, field })
    }

    fn number(&self, field: &str) -> Result<u64, InfoError> {
        self.get(field).map_or(Ok(0), |text| self.value(field, text))
    }

    fn value<T: FromStr>(&self, field: &str, text: &str) -> Result<T, InfoError> {
        text.parse().map_err(|_| self.fault(field, text, "a number"))
    }

    fn fault(&self, field: &str, value: &str, expected: &'static str) -> InfoError {
        InfoError::Value { command: self.command, field: field.to_owned(), value: value.to_owned(), expected }
    }

    /// The fields named `prefix` and a number, in the order of the number.
    fn numbered(&self, prefix: &str) -> Vec<(&'a str, u32, &'a str)> {
        let number = |name: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<u32>().ok());
        let mut found: Vec<_> =
            self.fields.iter().filter_map(|(name, text)| Some((*name, number(name)?, *text))).collect();
        found.sort_by_key(|(_, number, _)| *number);
        found
    }
}
