//! Who took over from whom: a node's successor after a failover.
//!
//! `CLUSTER NODES` does not say it while the old primary is down: that one is listed as a failed primary without slots,
//! and the new one as a primary like any other. So the replicas of each primary are remembered.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{NodeId, Shard, Topology};

/// The replicas of each primary, as of the last look in which it answered and had slots that nobody disputed.
#[derive(Clone, Debug, Default)]
pub(super) struct Lineage {
    replicas: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Primaries and replicas of theirs, of now and before, while anybody knows both.
    kin: BTreeSet<(NodeId, NodeId)>,
}

impl Lineage {
    /// Takes a look in.
    pub(super) fn on_look(&mut self, topology: &Topology) {
        for (&primary, shard) in topology.shards.iter().filter(|(_, shard)| shard.answered()) {
            let mut replicas: BTreeSet<NodeId> = shard.replicas.iter().map(|replica| replica.id).collect();
            if shard.slots.is_empty() || !topology.unclear.is_empty() {
                // It may have been replaced a moment ago, and die before it follows its successor.
                replicas.extend(self.replicas_of(primary).filter(|node| topology.shards.contains_key(node)));
            }
            self.remember(primary, replicas);
        }
        let known = |node: &NodeId| topology.shard_of(*node).is_some();
        self.kin.retain(|(one, other)| known(one) && known(other));
    }

    /// What a record of an earlier process says of a primary.
    pub(super) fn remember(&mut self, primary: NodeId, replicas: BTreeSet<NodeId>) {
        self.kin.extend(replicas.iter().map(|&replica| (primary, replica)));
        self.replicas.insert(primary, replicas);
    }

    /// Whether one of the two has ever been seen as the other's replica.
    pub(super) fn were_one_shard(&self, one: NodeId, other: NodeId) -> bool {
        self.kin.contains(&(one, other)) || self.kin.contains(&(other, one))
    }

    /// The nodes that have ever been seen as this one's replica or primary.
    pub(super) fn kin_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.kin.iter().filter_map(move |&(one, other)| match node {
            _ if node == one => Some(other),
            _ if node == other => Some(one),
            _ => None,
        })
    }

    /// Whether this node was a primary that answered, in any look or on record.
    pub(super) fn has_seen(&self, primary: NodeId) -> bool {
        self.replicas.contains_key(&primary)
    }

    /// The replicas that a primary had when it was last seen to be one.
    pub(super) fn replicas_of(&self, primary: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.get(&primary).into_iter().flatten().copied()
    }

    /// The primaries that this node was a replica of when they were last seen to be such.
    pub(super) fn predecessors_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().filter(move |(_, replicas)| replicas.contains(&node)).map(|(&primary, _)| primary)
    }

    /// The primary that has this node's part now: itself while nobody has taken it over.
    ///
    /// A replica's part is its primary's. Of a primary that is gone, or that owns nothing any more and knows it, it is the one
    /// replica of it that has become a primary with slots since.
    pub(super) fn successor(&self, node: NodeId, topology: &Topology) -> NodeId {
        let mut at = node;
        // Each round goes on to another node; more rounds than nodes would be a circle.
        for _ in 0..=topology.shards.len() {
            let Some(next) = self.next(at, topology) else { break };
            at = next;
        }
        at
    }

    fn next(&self, node: NodeId, topology: &Topology) -> Option<NodeId> {
        let shard = topology.shard_of(node);
        if let Some(shard) = shard.filter(|shard| shard.primary.id != node) {
            return Some(shard.primary.id);
        }
        // One that answers may be cut off from the others, and claim its slots still.
        let may_claim = |shard: &Shard| shard.answered() && !topology.unclear.is_empty();
        if shard.is_some_and(|shard| !shard.slots.is_empty() || may_claim(shard)) {
            return None;
        }
        let took_over = |shard: &Shard| shard.answered() && !shard.slots.is_empty();
        let mut heirs = self.replicas_of(node).filter(|heir| topology.shards.get(heir).is_some_and(took_over));
        match (heirs.next(), heirs.next()) {
            (Some(heir), None) => Some(heir),
            (None | Some(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SlotSet;
    use crate::cluster::fixtures::{id, observation};

    /// Shows the clusters one after the other and says who has a node's part at the end.
    #[track_caller]
    fn check(stories: &[&str], of: &str, expect: &str) {
        let mut lineage = Lineage::default();
        let mut successor = id(of);
        for story in stories {
            let topology = Topology::merge(&observation(story), &SlotSet::new());
            lineage.on_look(&topology);
            successor = lineage.successor(id(of), &topology);
        }
        assert_eq!(successor, id(expect), "{stories:#?}");
    }

    const BEFORE: &str = "a 0-8191\na1 of a\nb 8192-16383\nb1 of b";

    #[test]
    fn a_primary_that_lives_is_its_own_successor() {
        check(&[BEFORE], "a", "a");
        check(&[BEFORE], "a1", "a");
    }

    #[test]
    fn a_dead_primary_is_followed_by_the_replica_that_has_its_slots() {
        check(&[BEFORE, "a silent refused\na1 0-8191\nb 8192-16383\nb1 of b"], "a", "a1");
        check(&[BEFORE, "a silent refused\na 0-8191\na1 of a\nb 8192-16383\nb1 of b"], "a", "a");
    }

    #[test]
    fn a_primary_that_lost_its_slots_in_a_failover_and_lives_on_as_one_has_a_successor() {
        // A Redis does so for ten seconds and more, where it gave slots away in the moment of a failover by hand.
        check(&[BEFORE, "a\na1 0-8191\nb 8192-16383\nb1 of b"], "a", "a1");
        check(&[BEFORE, "a\na1 of a\nb 0-16383\nb1 of b"], "a", "a");
        check(&[BEFORE, "a\na1 of a\nb 0-16383\nb1 of b", "a\na1 0-5\nb 6-16383\nb1 of b"], "a", "a1");
        check(&[BEFORE, "a\na1 of b\nb 0-16383\nb1 of b", "a\na1 0-16383\nb of a1\nb1 of a1"], "a", "a");
        let unaware = "a\na1 0-8191\nb 8192-16383\nb1 of b\na says a 0-8191\na says a1 of a";
        check(&[BEFORE, unaware], "a", "a");
    }

    #[test]
    fn a_primary_that_came_back_as_a_replica_has_a_successor_that_says_so() {
        check(&["a of a1\na1 0-8191\nb 8192-16383"], "a", "a1");
    }

    #[test]
    fn two_failovers_are_followed_to_the_end() {
        check(
            &[
                "a 0-8191\na1 of a\na2 of a\nb 8192-16383",
                "a silent refused\na1 0-8191\na2 of a1\nb 8192-16383",
                "a silent refused\na1 silent refused\na2 0-8191\nb 8192-16383",
            ],
            "a",
            "a2",
        );
    }

    #[test]
    fn a_primary_that_dies_before_it_follows_its_successor_has_one_all_the_same() {
        let after = "a silent refused\na1 0-8191\nb 8192-16383\nb1 of b";
        check(&[BEFORE, "a\na1 0-8191\nb 8192-16383\nb1 of b", after], "a", "a1");
        let unaware = "a\na1 0-8191\nb 8192-16383\nb1 of b\na says a 0-8191\na says a1 of a";
        check(&[BEFORE, unaware, after], "a", "a1");
        // One that got slots of its own since is replaced by none of its former replicas.
        let apart = "a 0-10\na1 11-8191\nb 8192-16383\nb1 of b";
        check(&[BEFORE, "a\na1 0-8191\nb 8192-16383\nb1 of b", apart, after], "a", "a");
    }

    #[test]
    fn a_replica_that_went_to_another_shard_before_is_nobodys_heir() {
        check(
            &[
                "a 0-8191\na1 of a\nb 8192-16383",
                "a 0-8191\na1 of b\nb 8192-16383",
                "a silent refused\na1 8192-16383\nb of a1",
            ],
            "a",
            "a",
        );
    }
}
