//! What is known of one slot, by all primaries and their replicas: what a verdict is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cluster::{Failing, Marker, NodeId, NodeView, Observation, Role, Slot, SlotSet, Topology};
use crate::wording::plural;

/// Everything that a verdict about one slot may depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// The slot.
    pub slot: Slot,
    /// Every primary that answered, by its own word.
    pub primaries: BTreeMap<NodeId, Voice>,
    /// Primaries that did not answer. What they hold is not known, and is not nothing.
    pub silent: BTreeSet<NodeId>,
    /// Those of them that the others have marked as failed and that have no replica to take over.
    pub lost: BTreeSet<NodeId>,
    /// Nodes that are no primary (any more), and the primary of their shard: who a mark that names them means now.
    pub heads: BTreeMap<NodeId, NodeId>,
    /// Primaries with a replica that shows a mark which they do not (Valkey, where marks are replicated).
    pub stale_replicas: BTreeSet<NodeId>,
    /// A migration that runs inside the servers touches it.
    pub job: bool,
    /// Who should have it if nobody owns it and nobody holds a key of it.
    pub heir: Option<NodeId>,
}

/// What one primary says of the slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// Who owns it, as it sees it; itself if it claims the slot.
    pub owner: Option<NodeId>,
    /// Its mark that it gives the slot away: the node that the mark names.
    pub migrating: Option<NodeId>,
    /// Its mark that it takes the slot in: the node that the mark names.
    pub importing: Option<NodeId>,
    /// Keys of the slot that it holds, over all databases.
    pub keys: u64,
    /// The epoch of its claims.
    pub epoch: u64,
}

impl SlotFacts {
    /// The primaries that claim the slot themselves.
    pub(super) fn claimants(&self) -> Vec<NodeId> {
        self.primaries.iter().filter(|(node, voice)| voice.owner == Some(**node)).map(|(node, _)| *node).collect()
    }

    /// The primaries that hold keys, except one.
    pub(super) fn holders_but(&self, node: NodeId) -> Vec<NodeId> {
        let holders = self.primaries.iter().filter(|(at, voice)| **at != node && voice.keys > 0);
        holders.map(|(at, _)| *at).collect()
    }

    /// The primary that a mark means: the one it names, or the one that has taken that one's place.
    pub(super) fn meant_by(&self, named: NodeId) -> Option<NodeId> {
        let now = if self.primaries.contains_key(&named) { Some(&named) } else { self.heads.get(&named) };
        now.copied().filter(|node| self.primaries.contains_key(node))
    }
}

impl fmt::Display for SlotFacts {
    /// `10.0.0.1… owns it (epoch 3, 10 keys)`, for each primary that has anything to do with the slot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (node, voice) in &self.primaries {
            let mut says = Vec::new();
            match voice.owner {
                Some(owner) if owner == *node => says.push(format!("claims it at epoch {}", voice.epoch)),
                Some(owner) if self.claimants() != [owner] => {
                    says.push(format!("names {} as its owner", owner.short()));
                }
                None if !self.claimants().is_empty() => says.push("knows no owner".to_owned()),
                Some(_) | None => {}
            }
            says.extend(voice.migrating.map(|to| format!("is giving it to {}", to.short())));
            says.extend(voice.importing.map(|from| format!("is taking it from {}", from.short())));
            if voice.keys > 0 || !says.is_empty() {
                says.push(format!("holds {}", plural(voice.keys, "key")));
                write!(f, "{}{} {}", if first { "" } else { "; " }, node.short(), says.join(", "))?;
                first = false;
            }
        }
        for node in &self.silent {
            write!(f, "{}{} does not answer", if first { "" } else { "; " }, node.short())?;
            first = false;
        }
        if first { f.write_str("nobody owns it and nobody holds a key of it") } else { Ok(()) }
    }
}

/// One look at the cluster, laid out by slot.
#[derive(Debug)]
pub struct Witnesses<'a> {
    topology: &'a Topology,
    primaries: BTreeMap<NodeId, Primary<'a>>,
    silent: BTreeSet<NodeId>,
    lost: BTreeSet<NodeId>,
    heads: BTreeMap<NodeId, NodeId>,
    /// By slot: the primaries with a replica whose mark they do not have.
    stale_replicas: BTreeMap<Slot, BTreeSet<NodeId>>,
}

#[derive(Debug)]
struct Primary<'a> {
    view: &'a NodeView,
    /// Whom it gives each slot, by the slot's index.
    owners: Vec<Option<NodeId>>,
    migrating: BTreeMap<Slot, NodeId>,
    importing: BTreeMap<Slot, NodeId>,
}

impl<'a> Witnesses<'a> {
    /// What all nodes said in one look; `topology` is what it amounts to.
    #[must_use]
    pub fn new(observation: &'a Observation, topology: &'a Topology) -> Self {
        let views = observation.nodes.values().map(|observed| &observed.view);
        let primaries: BTreeMap<NodeId, Primary> = views
            .clone()
            .filter(|view| view.myself().role == Role::Primary)
            .map(|view| (view.myself().id, Primary::new(view)))
            .collect();
        let ids = views.clone().flat_map(|view| view.lines().map(|line| line.id));
        let heads = ids.filter(|id| !primaries.contains_key(id)).filter_map(|id| {
            let head = topology.shard_of(id)?.primary.id;
            (head != id).then_some((id, head))
        });
        // One that all others have marked as failed and that nobody gives a slot to any more has been replaced: its
        // successor has its keys.
        let silent = topology.shards.values().filter(|shard| {
            let replaced = shard.primary.failing == Failing::Agreed && shard.slots.is_empty();
            !shard.answered() && !replaced
        });
        let lost = silent.clone().filter(|shard| {
            let replica_answers = shard.replicas.iter().any(|replica| observation.nodes.contains_key(&replica.id));
            shard.primary.failing == Failing::Agreed && !replica_answers
        });
        let mut witnesses = Self {
            topology,
            heads: heads.collect(),
            silent: silent.map(|shard| shard.primary.id).collect(),
            lost: lost.map(|shard| shard.primary.id).collect(),
            primaries,
            stale_replicas: BTreeMap::new(),
        };
        for view in views.filter(|view| view.myself().role != Role::Primary) {
            witnesses.take_replica(view);
        }
        witnesses
    }

    fn take_replica(&mut self, view: &NodeView) {
        let myself = view.myself();
        let Some(head) = self.heads.get(&myself.id).copied() else { return };
        let Some(primary) = self.primaries.get(&head) else { return };
        for marker in &myself.markers {
            let slot = marker.slot();
            if !primary.migrating.contains_key(&slot) && !primary.importing.contains_key(&slot) {
                self.stale_replicas.entry(slot).or_default().insert(head);
            }
        }
    }

    /// The slots that the views alone call in question: open, without an owner that all agree on, marked by a replica
    /// only, or owned by a node that is lost. Keys that lie astray are not seen here.
    #[must_use]
    pub fn suspects(&self) -> SlotSet {
        let unowned = Slot::all().filter(|slot| self.topology.owner(*slot).is_none());
        let marked = self.topology.open.keys().chain(self.stale_replicas.keys()).copied();
        let lost = self.lost.iter().filter_map(|node| self.topology.shards.get(node)).flat_map(|shard| {
            let slots: Vec<Slot> = shard.slots.iter().collect();
            slots
        });
        unowned.chain(marked).chain(lost).collect()
    }

    /// The primaries that answered: whose keys are to be counted.
    pub fn primaries(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.primaries.keys().copied()
    }

    /// Primaries that did not answer.
    #[must_use]
    pub fn silent(&self) -> &BTreeSet<NodeId> {
        &self.silent
    }

    /// The facts of one slot. `keys` are the counts of every primary, those without a key may be absent.
    #[must_use]
    pub fn facts(&self, slot: Slot, keys: impl Fn(NodeId) -> u64, heir: Option<NodeId>) -> SlotFacts {
        let voice = |(&node, primary): (&NodeId, &Primary)| {
            let voice = Voice {
                owner: primary.owners[slot.index()],
                migrating: primary.migrating.get(&slot).copied(),
                importing: primary.importing.get(&slot).copied(),
                keys: keys(node),
                epoch: primary.view.myself().config_epoch,
            };
            (node, voice)
        };
        SlotFacts {
            slot,
            primaries: self.primaries.iter().map(voice).collect(),
            silent: self.silent.clone(),
            lost: self.lost.clone(),
            heads: self.heads.clone(),
            stale_replicas: self.stale_replicas.get(&slot).cloned().unwrap_or_default(),
            job: self.has_job(slot),
            heir,
        }
    }

    /// Whether the servers themselves move the slot, or one of the nodes that have anything to do with it takes part in
    /// such a migration: until that has ended it refuses every `SETSLOT` (Valkey 9).
    fn has_job(&self, slot: Slot) -> bool {
        let takes_part = |node: &NodeId, primary: &Primary| {
            primary.owners[slot.index()] == Some(*node)
                || primary.migrating.contains_key(&slot)
                || primary.importing.contains_key(&slot)
        };
        self.topology.jobs.iter().any(|job| {
            let busy = |(node, primary): (&NodeId, &Primary)| job.concerns(*node) && takes_part(node, primary);
            job.slots.contains(slot) || self.primaries.iter().any(busy)
        })
    }

    /// Who should have each of these slots, of which nobody holds a key: whole ranges to those who own the fewest.
    #[must_use]
    pub fn heirs(&self, slots: &SlotSet) -> BTreeMap<Slot, NodeId> {
        let mut counts: BTreeMap<NodeId, (usize, usize)> =
            self.primaries.iter().map(|(&node, primary)| (node, (primary.view.myself().slots.len(), 0))).collect();
        for _ in slots.iter() {
            if let Some((owned, share)) = counts.values_mut().min_by_key(|(owned, share)| owned + share) {
                (*owned, *share) = (*owned, *share + 1);
            }
        }
        let heirs = counts.into_iter().flat_map(|(node, (_, share))| std::iter::repeat_n(node, share));
        slots.iter().zip(heirs).collect()
    }
}

impl<'a> Primary<'a> {
    fn new(view: &'a NodeView) -> Self {
        let mut primary =
            Self { view, owners: vec![None; Slot::COUNT], migrating: BTreeMap::new(), importing: BTreeMap::new() };
        for line in view.lines() {
            for slot in line.slots.iter() {
                primary.owners[slot.index()] = Some(line.id);
            }
        }
        for marker in &view.myself().markers {
            match *marker {
                Marker::Migrating { slot, to } => primary.migrating.insert(slot, to),
                Marker::Importing { slot, from } => primary.importing.insert(slot, from),
            };
        }
        primary
    }
}
