//! What all nodes say of the cluster together: shards, owners, open slots, and whether the picture can be trusted.
//!
//! A judgement of one [`Observation`] and nothing else: no memory of the one before. What it means for a move (to wait,
//! to stop, to go on) is decided elsewhere.

mod merge;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{Address, Failing, Finding, NodeId, Observation, ServerJob, Slot, SlotSet, Unclear};
pub use names::NameError;
use names::Names;

/// The cluster as all its primaries describe it, and how far they agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The shards by their primary's id. Not all can be used: see [`Shard::standing`].
    pub shards: BTreeMap<NodeId, Shard>,
    /// Every slot with a mark at a primary, also those of our own moves.
    pub open: BTreeMap<Slot, OpenSlot>,
    /// The migrations that the servers carry out by themselves, each once, though both its ends tell of it.
    pub jobs: Vec<ServerJob>,
    /// Primaries of which it is not known whether they carry out any, and why.
    pub jobs_unread: BTreeMap<NodeId, String>,
    /// Why nothing new may be opened, in a fixed order; empty when the picture is clear.
    pub unclear: Vec<Unclear>,
    /// What else is worth telling, in a fixed order.
    pub findings: Vec<Finding>,
    /// By the slot's index.
    owners: Vec<Option<NodeId>>,
    /// The primary of each member's shard.
    shard_of: BTreeMap<NodeId, NodeId>,
    current_epoch: u64,
    names: Names,
}

/// A primary, its replicas and its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The node that owns the slots.
    pub primary: Member,
    /// The nodes that copy it, in the order of their ids.
    pub replicas: Vec<Member>,
    /// The slots of which all primaries say that the primary owns them; of our own moves' slots, its likely ones too.
    pub slots: SlotSet,
    /// What can be expected of the primary.
    pub standing: Standing,
}

impl Shard {
    /// Whether the primary answered in this pass.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.standing != Standing::Silent
    }

    /// Whether slots may be moved to or from the shard, as far as its primary is concerned.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.standing == Standing::Sound
    }
}

/// What can be expected of a shard's primary: the worst that applies, the best first.
///
/// Of a primary that owns slots, all but `Sound` and `HalfKnown` are also a reason in [`Topology::unclear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It answered, serves, and every primary knows it and thinks it sound.
    Sound,
    /// Some primary does not know it: what it claims would not spread.
    HalfKnown,
    /// Some primary thinks that it has failed.
    Failing,
    /// It is loading, or says that the cluster is down.
    NotServing,
    /// It knows no other node, and has neither slots nor keys.
    Alone,
    /// It did not answer, or was not asked.
    Silent,
}

/// A node of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Where it is announced, as most primaries have it; failing that, where it was dialled.
    pub address: Option<Address>,
    /// Its announced hostname.
    pub hostname: Option<String>,
    /// The worst that any primary thinks of it.
    pub failing: Failing,
}

/// A slot with at least one mark at a primary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenSlot {
    /// The slot.
    pub slot: Slot,
    /// Its agreed owner.
    pub owner: Option<NodeId>,
    /// The primaries that claim it themselves, agreed or not, in the order of their ids.
    pub claimants: Vec<NodeId>,
    /// The migrating marks: at which primary, to which node.
    pub migrating: Vec<(NodeId, NodeId)>,
    /// The importing marks: at which primary, from which node.
    pub importing: Vec<(NodeId, NodeId)>,
}

impl fmt::Display for OpenSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text_of(&SlotSet::from_iter([self.slot])))
    }
}

impl OpenSlot {
    /// What it says of all these slots, which have the same owner and the same marks as this one.
    #[must_use]
    pub fn text_of(&self, slots: &SlotSet) -> String {
        let owner = self.owner.map_or_else(|| "nobody for certain".to_owned(), |owner| owner.short());
        let (mut text, it) = match slots.len() {
            1 => (format!("slot {slots} is open and belongs to {owner}"), "it"),
            _ => (format!("slots {slots} are open and belong to {owner}"), "them"),
        };
        for (at, to) in &self.migrating {
            let _ = write!(text, "; {} is giving {it} to {}", at.short(), to.short());
        }
        for (at, from) in &self.importing {
            let _ = write!(text, "; {} is taking {it} from {}", at.short(), from.short());
        }
        text
    }

    /// Whether the two have the same owner and the same marks.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { slot: _, owner, claimants, migrating, importing } = self;
        (owner, claimants, migrating, importing) == (&other.owner, &other.claimants, &other.migrating, &other.importing)
    }
}

impl Topology {
    /// Puts together what the nodes said.
    ///
    /// `ours` are the slots that moves of ours touched since the observation began, or touch now. The views were not
    /// read at one instant, so about these slots they may differ without anything being wrong: they go to their
    /// likeliest owner (one that claims the slot itself, then the latest claim), and are left out of the judgement.
    /// While there are any, differing epochs are not judged either: our own finalises explain them.
    #[must_use]
    pub fn merge(observation: &Observation, ours: &SlotSet) -> Self {
        merge::merge(observation, ours)
    }

    /// The owner of a slot; `None` when it has none or the primaries do not agree.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<NodeId> {
        self.owners.get(slot.index()).copied().flatten()
    }

    /// Primaries without slots that did not answer, or know no other node: new nodes that are not set up yet, most likely, and
    /// nothing is planned for them.
    pub fn left_out(&self) -> impl Iterator<Item = &Finding> {
        let is_left_out =
            |found: &&Finding| matches!(found, Finding::EmptyPrimarySilent { .. } | Finding::NodeAlone { .. });
        self.findings.iter().filter(is_left_out)
    }

    /// The shard that a node belongs to, as primary or as replica.
    #[must_use]
    pub fn shard_of(&self, any_member: NodeId) -> Option<&Shard> {
        self.shards.get(self.shard_of.get(&any_member)?)
    }

    /// The highest epoch that any primary has heard of.
    #[must_use]
    pub const fn current_epoch(&self) -> u64 {
        self.current_epoch
    }

    /// The node of this name: its id, at least eight digits that its id begins with, an address (announced or dialled)
    /// as `host:port`, or its announced hostname.
    ///
    /// Of several nodes with one name, the one that answers has it: a node that lost its configuration comes back at
    /// its old address under a new id, and the old id lingers.
    pub fn resolve(&self, name: &str) -> Result<NodeId, NameError> {
        self.names.resolve(name)
    }
}
