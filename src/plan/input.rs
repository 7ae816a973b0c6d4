//! What the planner is given: the shards as they are, and what the operator wants of them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::cluster::{Address, NodeId, SlotSet};

/// One shard as the planner sees it: a primary, its replicas, and the slots that the primary owns.
///
/// A slot that two shards claim counts for the one that comes first (see [`ShardInput::key`]); callers do not plan on
/// such a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInput {
    /// The node that owns the slots now; moves name this id.
    pub primary: NodeId,
    /// Every node of the shard, the primary included.
    pub members: Vec<Member>,
    /// The slots that the primary owns.
    pub slots: SlotSet,
}

impl ShardInput {
    /// What stands for the shard wherever equals must be told apart: the least id among its members.
    ///
    /// Not the primary's id: a failover would change it, and with it which of two equal shards gets the odd slot.
    #[must_use]
    pub fn key(&self) -> NodeId {
        self.members.iter().map(|member| member.id).fold(self.primary, NodeId::min)
    }

    /// The primary's address, if the primary is among the members.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.members.iter().find(|member| member.id == self.primary).map(|member| &member.address)
    }
}

/// One node of a shard, by everything that a target entry may call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's id.
    pub id: NodeId,
    /// The address that the cluster announces for it.
    pub address: Address,
    /// The hostname that the node announces, if any.
    pub hostname: Option<String>,
}

/// What the operator wants: how far off is too far, and what each shard should hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Act when a shard is off by more than this share of its target, in percent; finite, not negative …
    pub threshold_percent: f64,
    /// … and by at least this many slots.
    pub threshold_slots: u32,
    /// The weight of a shard that no entry gives one; 0 to [`Policy::MAX_WEIGHT`].
    pub default_weight: f64,
    /// The target entries, each bound to the shard of the node that it names.
    pub nodes: Vec<NodeTarget>,
}

impl Policy {
    /// The largest weight. Weights count to the millionth; beyond this range a ratio says nothing about 16,384 slots.
    pub const MAX_WEIGHT: f64 = 1_000_000.0;
}

impl Default for Policy {
    fn default() -> Self {
        Self { threshold_percent: 2.0, threshold_slots: 2, default_weight: 1.0, nodes: Vec::new() }
    }
}

/// One target entry: what the shard of this node should hold.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeTarget {
    /// Any node of the shard, primary or replica.
    pub node: NodeName,
    /// The shard's weight, or `None` for the policy's default. A shard of weight 0 holds its pinned slots, or its
    /// minimum if that is more, and nothing else; a slot too many there is put right whatever the thresholds.
    pub weight: Option<f64>,
    /// The shard is to hold nothing; its weight then counts for nothing.
    pub drain: bool,
    /// The shard keeps exactly what it has: it gives nothing and takes nothing.
    pub ignore: bool,
    /// The fewest slots that the shard may hold.
    pub min_slots: Option<u32>,
    /// The most slots that the shard may hold.
    pub max_slots: Option<u32>,
    /// The pinned slots: those that belong to this shard and no other.
    pub slots: SlotSet,
}

impl NodeTarget {
    /// An entry that names a node and asks nothing of it.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            weight: None,
            drain: false,
            ignore: false,
            min_slots: None,
            max_slots: None,
            slots: SlotSet::new(),
        }
    }
}

/// How an operator names a node: by id, by the start of its id, by address or by hostname.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeName {
    /// The whole id.
    Id(NodeId),
    /// The start of an id. A hostname may look the same and is found too.
    Prefix(IdPrefix),
    /// The announced address; the host may be the announced hostname.
    Address(Address),
    /// The announced hostname, upper and lower case alike.
    Hostname(String),
}

impl NodeName {
    /// Whether this name means that node. A prefix may mean several nodes.
    #[must_use]
    pub fn names(&self, member: &Member) -> bool {
        let called = |host: &str| member.hostname.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(host));
        match self {
            Self::Id(id) => *id == member.id,
            Self::Prefix(prefix) => prefix.starts(member.id) || called(&prefix.digits),
            Self::Address(address) => {
                *address == member.address || (address.port == member.address.port && called(&address.host))
            }
            Self::Hostname(host) => called(host),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Prefix(prefix) => f.write_str(&prefix.digits),
            Self::Hostname(host) => f.write_str(host),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The first 8 to 39 digits of an id, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdPrefix {
    digits: String,
    /// The least and the greatest id that start so: ids are ordered as their text is.
    ids: Box<(NodeId, NodeId)>,
}

impl IdPrefix {
    /// These digits as a prefix, or `None` when they are too few, too many or no digits.
    #[must_use]
    pub fn new(digits: &str) -> Option<Self> {
        let filled = |with: &str| digits.chars().chain(with.repeat(40).chars()).take(40).collect::<String>().parse();
        let ids = Box::new((filled("0").ok()?, filled("f").ok()?));
        (8..40).contains(&digits.len()).then(|| Self { digits: digits.to_owned(), ids })
    }

    /// Whether the id starts so.
    #[must_use]
    pub fn starts(&self, id: NodeId) -> bool {
        (self.ids.0..=self.ids.1).contains(&id)
    }
}

/// Text that cannot name a node.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` does not name a node: give its id, the first 8 or more digits of its id, its host:port or its hostname")]
pub struct NodeNameError(String);

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NodeNameError(text.to_owned());
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        if text.contains(':') {
            return text.parse().map(Self::Address).map_err(|_| error());
        }
        if let Some(prefix) = IdPrefix::new(text) {
            return Ok(Self::Prefix(prefix));
        }
        let host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if text.is_empty() || !text.bytes().all(host) {
            return Err(error());
        }
        Ok(Self::Hostname(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_id_prefix_address_or_hostname() {
        let id = "07c37dfeb235213a872192d90877d0cd55635b91";
        let check = |text: &str, expect: Option<NodeName>| {
            let got = text.parse::<NodeName>().ok();
            assert_eq!(got, expect, "{text:?}");
            assert!(got.is_none_or(|name| name.to_string() == text), "{text:?} is written as it is read");
        };
        check(id, Some(NodeName::Id(id.parse().unwrap())));
        check(&id[..39], IdPrefix::new(&id[..39]).map(NodeName::Prefix));
        check("07c37dfe", IdPrefix::new("07c37dfe").map(NodeName::Prefix));
        check("07c37df", Some(NodeName::Hostname("07c37df".to_owned())));
        check("07C37DFE", Some(NodeName::Hostname("07C37DFE".to_owned())));
        check("10.0.0.1:6379", Some(NodeName::Address(Address::new("10.0.0.1", 6379))));
        check("[::1]:7000", Some(NodeName::Address(Address::new("::1", 7000))));
        check("cache-0.svc", Some(NodeName::Hostname("cache-0.svc".to_owned())));
        for wrong in ["", "a b", "host:0", "redis://host:1", "ä"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_name_means_every_node_that_it_fits() {
        let member = Member {
            id: "07c37dfeb235213a872192d90877d0cd55635b91".parse().unwrap(),
            address: Address::new("10.0.0.1", 6379),
            hostname: Some("cache-0.svc".to_owned()),
        };
        let check = |text: &str, expect: bool| {
            assert_eq!(text.parse::<NodeName>().unwrap().names(&member), expect, "{text:?}");
        };
        check("07c37dfeb235213a872192d90877d0cd55635b91", true);
        check("07c37dfeb235213a872192d90877d0cd55635b92", false);
        check("07c37dfe", true);
        check("07c37dff", false);
        check("7c37dfeb", false);
        check("10.0.0.1:6379", true);
        check("10.0.0.1:6380", false);
        check("Cache-0.SVC", true);
        check("cache-0.svc:6379", true);
        check("cache-0.svc:6380", false);
        check("cache-0", false);
    }
}
