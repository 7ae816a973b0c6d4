//! A plan that waits for somebody's word, and is carried out exactly as it was when the word was given.

use std::collections::BTreeSet;

use crate::cluster::{NodeId, Slot, SlotSet, Topology};
use crate::plan::{Move, Plan, ShardInput};

/// Whether moves may be begun, as far as anybody was to be asked.
#[derive(Clone, Debug)]
pub(super) enum Consent {
    /// Nobody is: what the plan of the moment says.
    NotAsked,
    /// Nobody has given it.
    Awaited,
    /// These moves, whatever else the plan of the moment says.
    Given(Vec<Move>),
}

/// A plan that was approved.
#[derive(Clone, Debug)]
pub(super) struct Approved {
    hash: String,
    moves: Vec<Move>,
    /// The shards that it was made for, by their keys, which no failover changes.
    shards: BTreeSet<NodeId>,
}

impl Approved {
    pub(super) fn new(plan: &Plan, shards: &[ShardInput]) -> Self {
        Self { hash: plan.hash(), moves: plan.moves.clone(), shards: keys(shards) }
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn slots(&self) -> SlotSet {
        self.moves.iter().fold(SlotSet::new(), |all, planned| all.union(&planned.slots))
    }

    /// Whether other shards have joined or left since: it was made for others.
    pub(super) fn is_for(&self, shards: &[ShardInput]) -> bool {
        self.shards == keys(shards)
    }

    /// What is left of it, between the primaries of now: slots that are still where they were when it was made.
    pub(super) fn left(&self, topology: &Topology, successor: impl Fn(NodeId) -> NodeId) -> Vec<Move> {
        let left = self.moves.iter().filter_map(|planned| {
            let (source, target) = (successor(planned.source), successor(planned.target));
            let is_there = |slot: &Slot| topology.owner(*slot) == Some(source);
            let slots: SlotSet = planned.slots.iter().filter(is_there).collect();
            (!slots.is_empty()).then_some(Move { source, target, slots, why: planned.why })
        });
        left.collect()
    }
}

fn keys(shards: &[ShardInput]) -> BTreeSet<NodeId> {
    shards.iter().map(ShardInput::key).collect()
}
