//! What all nodes say of the cluster together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Named, Slots};
use crate::cluster::{Failing, Finding, Member, NodeId, NodeInfo, OpenSlot, Shard, Standing, Topology, Unclear};

/// The cluster as all its primaries describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopologyDocument {
    /// The highest epoch that any primary has heard of.
    pub current_epoch: u64,
    /// In the order of their primaries' ids.
    pub shards: Vec<ShardDocument>,
    /// Every slot with a mark at a primary, in ascending order, also those that evenkeel moves itself.
    pub open_slots: Vec<OpenSlotDocument>,
    /// Why nothing new may be opened; empty when the picture is clear.
    pub unclear: Vec<Named>,
    /// What else is worth telling.
    pub findings: Vec<Named>,
}

/// A primary, its replicas and its slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShardDocument {
    /// The node that owns the slots.
    pub primary: TopologyNode,
    /// The nodes that copy it.
    pub replicas: Vec<TopologyNode>,
    /// The slots of which all primaries say that the primary owns them.
    pub slots: Slots,
    /// What can be expected of the primary: `sound`, `half_known`, `failing`, `not_serving`, `alone` or `silent`.
    pub standing: String,
}

/// A node of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopologyNode {
    /// Its id.
    pub id: String,
    /// Where it is announced.
    pub address: Option<String>,
    /// Its announced hostname.
    pub hostname: Option<String>,
    /// The worst that any primary thinks of it: `no`, `suspected` or `agreed`.
    pub failing: String,
    /// What it says of itself; `null` when it did not answer.
    pub server: Option<ServerDocument>,
}

/// The server of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerDocument {
    /// Product and version: `Valkey 8.1.8`.
    pub version: String,
    /// Whether it is reading its data set and serves nothing yet.
    pub loading: bool,
    /// Keys in all databases.
    pub keys: u64,
    /// Memory in use, data and overhead.
    pub used_memory_bytes: u64,
    /// The part of it that is data.
    pub dataset_bytes: u64,
    /// Its limit; `null` for none.
    pub max_memory_bytes: Option<u64>,
}

/// A slot with at least one mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenSlotDocument {
    /// The slot.
    pub slot: u16,
    /// Its agreed owner; `null` when there is none.
    pub owner: Option<String>,
    /// The migrating marks; `other` is the node that the slot goes to.
    pub migrating: Vec<SlotMark>,
    /// The importing marks; `other` is the node that the slot comes from.
    pub importing: Vec<SlotMark>,
    /// The same for people.
    pub text: String,
}

/// A mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotMark {
    /// The primary that holds it.
    pub at: String,
    /// The node that it names.
    pub other: String,
}

/// The topology as JSON, with what the servers said of themselves.
#[must_use]
pub fn topology_document(topology: &Topology, infos: &BTreeMap<NodeId, NodeInfo>) -> TopologyDocument {
    TopologyDocument {
        current_epoch: topology.current_epoch(),
        shards: topology.shards.values().map(|each| shard(each, infos)).collect(),
        open_slots: topology.open.values().map(open_slot).collect(),
        unclear: topology.unclear.iter().map(unclear).collect(),
        findings: topology.findings.iter().map(finding).collect(),
    }
}

fn shard(shard: &Shard, infos: &BTreeMap<NodeId, NodeInfo>) -> ShardDocument {
    let standing = match shard.standing {
        Standing::Sound => "sound",
        Standing::HalfKnown => "half_known",
        Standing::Failing => "failing",
        Standing::NotServing => "not_serving",
        Standing::Alone => "alone",
        Standing::Silent => "silent",
    };
    ShardDocument {
        primary: node(&shard.primary, infos),
        replicas: shard.replicas.iter().map(|replica| node(replica, infos)).collect(),
        slots: Slots::from(&shard.slots),
        standing: standing.to_owned(),
    }
}

fn node(member: &Member, infos: &BTreeMap<NodeId, NodeInfo>) -> TopologyNode {
    let failing = match member.failing {
        Failing::No => "no",
        Failing::Suspected => "suspected",
        Failing::Agreed => "agreed",
    };
    TopologyNode {
        id: member.id.to_string(),
        address: member.address.as_ref().map(ToString::to_string),
        hostname: member.hostname.clone(),
        failing: failing.to_owned(),
        server: infos.get(&member.id).map(server),
    }
}

fn server(info: &NodeInfo) -> ServerDocument {
    ServerDocument {
        version: info.version.to_string(),
        loading: info.loading,
        keys: info.keys.values().sum(),
        used_memory_bytes: info.memory.used,
        dataset_bytes: info.dataset_bytes,
        max_memory_bytes: Some(info.memory.max).filter(|&bytes| bytes > 0),
    }
}

fn open_slot(open: &OpenSlot) -> OpenSlotDocument {
    let marks = |marks: &[(NodeId, NodeId)]| {
        marks.iter().map(|(at, other)| SlotMark { at: at.to_string(), other: other.to_string() }).collect()
    };
    OpenSlotDocument {
        slot: open.slot.number(),
        owner: open.owner.map(|owner| owner.to_string()),
        migrating: marks(&open.migrating),
        importing: marks(&open.importing),
        text: open.to_string(),
    }
}

fn unclear(unclear: &Unclear) -> Named {
    Named { name: unclear.name().to_owned(), text: unclear.to_string() }
}

fn finding(finding: &Finding) -> Named {
    Named { name: finding.name().to_owned(), text: finding.to_string() }
}
