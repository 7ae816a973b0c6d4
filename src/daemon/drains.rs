//! Which drains are done.
//!
//! A primary that has given its last slot away may turn itself into a replica of whoever took it
//! (`cluster-allow-replica-migration`, the servers' default). From then on the target entry that drained it names a
//! member of another shard, and that shard is not to be drained: one after the other they all would be.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::NodeId;
use crate::plan::{NodeName, NodeTarget, Policy, ShardInput};

/// The shards that `drain` entries have been bound to, as far as this process has seen.
#[derive(Debug, Default)]
pub struct Drains {
    by_name: BTreeMap<NodeName, Drain>,
}

#[derive(Debug)]
enum Drain {
    /// The shard, by every member that it was seen to have: a failover makes one of them the primary.
    Of(BTreeSet<NodeId>),
    /// The named node has gone over to another shard, and so may have others of these that were in one with it.
    Done(BTreeSet<NodeId>),
}

impl Drains {
    /// The policy without the entries whose drain is done.
    ///
    /// An entry that names a replica when it is first seen counts as done too: either the drain was finished by an
    /// earlier process, or a failover came between two processes. Of the two mistakes that can be made then, leaving
    /// slots where they are is the one that can be put right: the entry is to name the primary. What names no node, or
    /// several, is left for the planner to refuse.
    #[must_use]
    pub fn in_force(&mut self, policy: &Policy, shards: &[ShardInput]) -> Policy {
        let drained = |name: &NodeName| policy.nodes.iter().any(|entry| empties(entry) && entry.node == *name);
        self.by_name.retain(|name, _| drained(name));
        let mut in_force = policy.clone();
        in_force.nodes.retain(|entry| !empties(entry) || !self.is_done(&entry.node, shards));
        in_force
    }

    /// Forgets what was seen of a drain by this name.
    pub(super) fn forget(&mut self, name: &NodeName) {
        self.by_name.remove(name);
    }

    /// The same, with these nodes drained by an operator's word, which goes before whatever the policy says of their
    /// shards. One that is not in the cluster is passed over: it may be switched off for good.
    ///
    /// What the policy says of a node that was so drained does not go with it into the shard that it joins as a replica.
    #[must_use]
    pub fn with_told<'a>(
        &mut self,
        policy: &Policy,
        told: impl Iterator<Item = &'a NodeId>,
        shards: &[ShardInput],
    ) -> Policy {
        let is_member = |id: NodeId| shards.iter().any(|shard| shard.members.iter().any(|member| member.id == id));
        let told: Vec<NodeTarget> = told
            .filter(|id| is_member(**id))
            .map(|id| NodeTarget { drain: true, ..NodeTarget::new(NodeName::Id(*id)) })
            .collect();
        let both = Policy { nodes: policy.nodes.iter().chain(&told).cloned().collect(), ..policy.clone() };
        let mut in_force = self.in_force(&both, shards);
        for entry in &told {
            let shard = shards.iter().find(|shard| shard.members.iter().any(|member| entry.node.names(member)));
            if let Some(Drain::Done(gone)) = self.by_name.get(&entry.node) {
                let follows = |shard: &ShardInput, name: &NodeName| {
                    let mut replicas = shard.members.iter().filter(|member| member.id != shard.primary);
                    replicas.any(|member| gone.contains(&member.id) && name.names(member))
                };
                in_force.nodes.retain(|other| !shards.iter().any(|shard| follows(shard, &other.node)));
            } else if in_force.nodes.contains(entry) {
                let of_shard = |name: &NodeName| shard.is_some_and(|it| it.members.iter().any(|it| name.names(it)));
                in_force.nodes.retain(|other| other == entry || !of_shard(&other.node));
            }
        }
        in_force
    }

    fn is_done(&mut self, name: &NodeName, shards: &[ShardInput]) -> bool {
        let named = |shard: &&ShardInput| shard.members.iter().any(|member| name.names(member));
        let found: Vec<&ShardInput> = shards.iter().filter(named).collect();
        let [shard] = found[..] else { return matches!(self.by_name.get(name), Some(Drain::Done(_))) };
        let members = shard.members.iter().map(|member| member.id);
        let (drain, done) = match self.by_name.remove(name) {
            Some(Drain::Of(known)) if known.contains(&shard.primary) => {
                (Drain::Of(known.into_iter().chain(members).collect()), false)
            }
            None if names_primary(name, shard) => (Drain::Of(members.collect()), false),
            Some(Drain::Of(known) | Drain::Done(known)) => (Drain::Done(known), true),
            None => {
                let named = shard.members.iter().filter(|member| name.names(member)).map(|member| member.id);
                (Drain::Done(named.collect()), true)
            }
        };
        self.by_name.insert(name.clone(), drain);
        done
    }
}

/// Whether an entry leaves its shard nothing, in whichever words.
pub(super) fn empties(entry: &NodeTarget) -> bool {
    let nothing = entry.weight == Some(0.0) || entry.max_slots == Some(0);
    entry.drain || nothing && entry.slots.is_empty() && entry.min_slots.unwrap_or(0) == 0
}

fn names_primary(name: &NodeName, shard: &ShardInput) -> bool {
    shard.members.iter().any(|member| member.id == shard.primary && name.names(member))
}

#[cfg(test)]
mod tests {
    use super::super::shard_inputs;
    use super::*;
    use crate::cluster::fixtures::{id, observation};
    use crate::cluster::{SlotSet, Topology};

    /// Shows one entry that drains node `a` the clusters one after the other; `expect` tells when it is in force.
    fn check(stories: &[&str], expect: &[bool]) {
        check_entry(NodeTarget { drain: true, ..NodeTarget::new(NodeName::Id(id("a"))) }, stories, expect);
    }

    fn check_entry(entry: NodeTarget, stories: &[&str], expect: &[bool]) {
        let policy = Policy { nodes: vec![entry], ..Policy::default() };
        let mut drains = Drains::default();
        let in_force = stories.iter().map(|story| {
            let shards = shard_inputs(&Topology::merge(&observation(story), &SlotSet::new()));
            !drains.in_force(&policy, &shards).nodes.is_empty()
        });
        assert_eq!(in_force.collect::<Vec<_>>(), expect, "{stories:#?}");
    }

    #[test]
    fn an_operators_word_goes_before_the_policy_until_its_node_has_joined_another_shard() {
        let entry = |name: &str| NodeTarget { weight: Some(2.0), ..NodeTarget::new(NodeName::Id(id(name))) };
        let policy = Policy { nodes: vec![entry("a1"), entry("b")], ..Policy::default() };
        let mut drains = Drains::default();
        let mut nodes = |story: &str| {
            let shards = shard_inputs(&Topology::merge(&observation(story), &SlotSet::new()));
            drains.with_told(&policy, [id("a"), id("d")].iter(), &shards).nodes
        };
        let drained = NodeTarget { drain: true, ..NodeTarget::new(NodeName::Id(id("a"))) };
        assert_eq!(nodes(BEFORE), [entry("b"), drained.clone()]);
        assert_eq!(nodes(FAILED_OVER), [entry("b"), drained]);
        assert_eq!(nodes(DRAINED), [entry("b")]);
        assert_eq!(nodes("a1 0-8191\na of a1\nb 8192-16383"), [entry("a1"), entry("b")], "it has come back");
        // To the next process, too, what it was drained of is not what its new shard is to have.
        let policy = Policy { nodes: vec![entry("a")], ..Policy::default() };
        let shards = shard_inputs(&Topology::merge(&observation(DRAINED), &SlotSet::new()));
        assert_eq!(Drains::default().with_told(&policy, [id("a")].iter(), &shards).nodes, []);
        assert_eq!(Drains::default().with_told(&policy, [].iter(), &shards).nodes, policy.nodes);
    }

    const BEFORE: &str = "a 0-8191\na1 of a\nb 8192-16383";
    const FAILED_OVER: &str = "a1 0-8191\na of a1\nb 8192-16383";
    const DRAINED: &str = "b 0-16383\na of b\na1 of b";

    #[test]
    fn a_drained_primary_that_became_a_replica_does_not_drain_its_new_primary() {
        check(&[BEFORE, DRAINED, DRAINED], &[true, false, false]);
    }

    #[test]
    fn nothing_in_other_words_is_a_drain_too_and_a_share_is_not() {
        let entry = || NodeTarget::new(NodeName::Id(id("a")));
        let done = &[true, false];
        check_entry(NodeTarget { weight: Some(0.0), ..entry() }, &[BEFORE, DRAINED], done);
        check_entry(NodeTarget { max_slots: Some(0), ..entry() }, &[BEFORE, DRAINED], done);
        check_entry(NodeTarget { weight: Some(2.0), ..entry() }, &[BEFORE, DRAINED], &[true, true]);
    }

    #[test]
    fn a_drained_primary_that_stays_a_primary_is_to_stay_empty() {
        check(&[BEFORE, "a\nb 0-16383"], &[true, true]);
    }

    #[test]
    fn a_failover_does_not_end_a_drain() {
        check(&[BEFORE, FAILED_OVER, DRAINED], &[true, true, false]);
    }

    #[test]
    fn a_failover_does_not_begin_a_drain_that_was_done() {
        check(&[BEFORE, DRAINED, "a 0-16383\nb of a\na1 of a"], &[true, false, false]);
    }

    #[test]
    fn a_replica_at_first_sight_was_drained_before() {
        check(&[DRAINED, DRAINED], &[false, false]);
    }
}
