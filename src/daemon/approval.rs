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
    /// Every member of the shards that it was made for: after a failover one of them is the primary.
    members: BTreeSet<NodeId>,
}

impl Approved {
    pub(super) fn new(plan: &Plan, shards: &[ShardInput]) -> Self {
        Self { hash: plan.hash(), moves: plan.moves.clone(), members: members(shards).collect() }
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn slots(&self) -> SlotSet {
        self.moves.iter().fold(SlotSet::new(), |all, planned| all.union(&planned.slots))
    }

    /// Whether it was made for these shards: none has joined since, and what is `left` of it lies between some of them. One
    /// that the plan has emptied may be gone.
    pub(super) fn is_for(&self, shards: &[ShardInput], left: &[Move]) -> bool {
        let is_known = |shard: &ShardInput| members(std::slice::from_ref(shard)).any(|id| self.members.contains(&id));
        let is_primary = |node: NodeId| shards.iter().any(|shard| shard.primary == node);
        shards.iter().all(is_known) && left.iter().all(|it| is_primary(it.source) && is_primary(it.target))
    }

    /// What is left of it, between the primaries of now: slots that are still where they were when it was made.
    pub(super) fn left(&self, topology: &Topology, successor: impl Fn(NodeId) -> NodeId) -> Vec<Move> {
        let left = self.moves.iter().filter_map(|planned| {
            let (source, target) = (successor(planned.source), successor(planned.target));
            let is_there = |slot: &Slot| topology.owner(*slot) == Some(source);
            let slots: SlotSet = planned.slots.iter().filter(is_there).collect();
            // A source that has given away its last slot may be a replica of the target by now: these have arrived.
            (!slots.is_empty() && source != target).then_some(Move { source, target, slots, why: planned.why })
        });
        left.collect()
    }
}

fn members(shards: &[ShardInput]) -> impl Iterator<Item = NodeId> + '_ {
    shards.iter().flat_map(|shard| shard.members.iter().map(|member| member.id).chain([shard.primary]))
}

#[cfg(test)]
mod tests {
    use super::super::shard_inputs;
    use super::*;
    use crate::cluster::fixtures::{id, observation};
    use crate::plan::{Policy, Why, plan};

    fn topology(story: &str) -> Topology {
        Topology::merge(&observation(story), &SlotSet::new())
    }

    /// What is left of a plan that was approved at `then`, `a` having failed over to `a1` or not; `None` when it is not for
    /// the cluster of `now`.
    fn left(then: &str, now: &str, failed_over: bool) -> Option<usize> {
        let shards = shard_inputs(&topology(then));
        let approved = Approved::new(&plan(&shards, &Policy::default()).unwrap(), &shards);
        let now = topology(now);
        let successor = |node| if failed_over && node == id("a") { id("a1") } else { node };
        let left = approved.left(&now, successor);
        approved.is_for(&shard_inputs(&now), &left).then(|| left.iter().map(|it| it.slots.len()).sum())
    }

    #[test]
    fn of_a_source_that_was_emptied_and_became_the_targets_replica_nothing_is_left() {
        let shards = shard_inputs(&topology("a 0-8191\nb 8192-16383"));
        let mut plan = plan(&shards, &Policy::default()).unwrap();
        plan.moves = vec![Move { source: id("a"), target: id("b"), slots: "0-8191".parse().unwrap(), why: Why::Drain }];
        let approved = Approved::new(&plan, &shards);
        let now = topology("a of b\nb 0-16383");
        let successor = |node| if node == id("a") { id("b") } else { node };
        assert_eq!(approved.left(&now, successor), []);
    }

    #[test]
    fn an_approval_outlasts_failovers_and_replicas_and_no_shard_that_joins() {
        let then = "a 0-8191\na1 of a\nb 8192-16383\nd";
        assert_eq!(left(then, then, false), Some(5461));
        assert_eq!(left(then, "a1 0-8191\na of a1\nb 8192-16383\nd", true), Some(5461));
        assert_eq!(left(then, "a 0-8191\nb 8192-16383\nb1 of b\nd", false), Some(5461));
        assert_eq!(left(then, "a 0-8191\na1 of a\nb 8192-16383\nd\ne", false), None);
        assert_eq!(left(then, "a 0-8191\na1 of a\nb 8192-16383\nd of b", false), None);
    }
}
