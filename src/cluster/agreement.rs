//! Who owns which slot, by the views of all primaries that answered, taken together.
//!
//! Slot by slot rather than view by view, so that a disagreement can be named. Replicas do not vote: theirs is the map
//! of the primary that they copy, late.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{NodeId, NodeView, Role, Slot, SlotSet};

/// The views of the nodes that answered, by what their speaker says of its own role.
pub(super) struct Voices<'a> {
    /// Of the primaries: they vote.
    pub(super) voters: BTreeMap<NodeId, &'a NodeView>,
    /// Of all others.
    pub(super) others: BTreeMap<NodeId, &'a NodeView>,
}

impl<'a> Voices<'a> {
    pub(super) fn new(views: impl Iterator<Item = &'a NodeView>) -> Self {
        let (mut voters, mut others) = (BTreeMap::new(), BTreeMap::new());
        for view in views {
            let myself = view.myself();
            match myself.role {
                Role::Primary => voters.insert(myself.id, view),
                Role::Replica { .. } | Role::Unknown => others.insert(myself.id, view),
            };
        }
        Self { voters, others }
    }
}

/// Who owns which slot, and about which slots the primaries do not agree.
#[derive(Default)]
pub(super) struct Agreement {
    /// The slots of each owner. No slot has two, and an owner that answered is a primary by its own word.
    pub(super) owned: BTreeMap<NodeId, SlotSet>,
    /// What any primary gives each node: at least what it owns.
    pub(super) given: BTreeMap<NodeId, SlotSet>,
    /// Slots that every primary says belong to nobody, apart from our own.
    pub(super) uncovered: SlotSet,
    /// Slots that all others give to a node which answered and does not claim them, apart from our own.
    pub(super) unclaimed: BTreeMap<NodeId, SlotSet>,
    /// Slots that the primaries disagree about in any other way, apart from our own.
    pub(super) disputed: SlotSet,
    /// Who gives a disputed slot to another node than the likeliest owner.
    pub(super) dissenters: BTreeSet<NodeId>,
}

impl Agreement {
    /// Counts the votes. A slot of `ours` on which they differ goes to its likeliest owner and is no disagreement.
    pub(super) fn reach(voices: &Voices, ours: &SlotSet) -> Self {
        let ballots = Ballots::collect(voices);
        let mut agreement = Self::default();
        let mut open = SlotSet::full();
        let mut unassigned = SlotSet::full();

        for (&node, ballot) in &ballots.by_node {
            unassigned = unassigned.difference(&ballot.any);
            if voices.others.contains_key(&node) {
                continue;
            }
            let agreed = ballot.all(voices.voters.len());
            open = open.difference(&agreed);
            agreement.give(node, &agreed);
        }
        agreement.uncovered = unassigned.difference(ours);

        let differing = open.difference(&unassigned);
        for slot in differing.intersection(ours).iter() {
            if let Some(owner) = ballots.likeliest_owner(slot, voices) {
                agreement.give(owner, &SlotSet::from_iter([slot]));
            }
        }
        agreement.explain(&ballots, voices, differing.difference(ours));
        agreement.given = ballots.by_node.into_iter().map(|(node, ballot)| (node, ballot.any)).collect();
        agreement
    }

    fn give(&mut self, node: NodeId, slots: &SlotSet) {
        if !slots.is_empty() {
            let owned = self.owned.entry(node).or_default();
            *owned = owned.union(slots);
        }
    }

    /// Sorts slots without an agreed owner into those that their owner does not claim and the truly disputed.
    fn explain(&mut self, ballots: &Ballots, voices: &Voices, differing: SlotSet) {
        self.disputed = differing.clone();
        for (&node, ballot) in &ballots.by_node {
            let is_voter = voices.voters.contains_key(&node);
            let answered = is_voter || voices.others.contains_key(&node);
            let other_voters = voices.voters.len() - usize::from(is_voter);
            if !answered || other_voters == 0 {
                continue;
            }
            let unclaimed = ballot.all_but(node, other_voters).intersection(&differing).difference(&ballot.own(node));
            if !unclaimed.is_empty() {
                self.disputed = self.disputed.difference(&unclaimed);
                self.unclaimed.insert(node, unclaimed);
            }
        }
        for slot in self.disputed.iter() {
            let ballot = ballots.likeliest_owner(slot, voices).and_then(|owner| ballots.by_node.get(&owner));
            let agrees = |voter: &NodeId| ballot.is_some_and(|ballot| ballot.has(*voter, slot));
            self.dissenters.extend(voices.voters.keys().filter(|voter| !agrees(voter)));
        }
    }
}

/// Every vote, by the node that it gives slots to.
struct Ballots<'a> {
    by_node: BTreeMap<NodeId, Ballot<'a>>,
    /// The highest config epoch that any primary knows of each node: the later claim has the higher one.
    epochs: BTreeMap<NodeId, u64>,
}

/// The votes for one node.
struct Ballot<'a> {
    /// The slots that each primary gives to the node, in the order of their ids; those that give it none are absent.
    by_voter: Vec<(NodeId, &'a SlotSet)>,
    /// The slots that any primary gives to it.
    any: SlotSet,
}

impl<'a> Ballots<'a> {
    fn collect(voices: &Voices<'a>) -> Self {
        let mut ballots = Self { by_node: BTreeMap::new(), epochs: BTreeMap::new() };
        for (&voter, view) in &voices.voters {
            for line in view.lines() {
                let epoch = ballots.epochs.entry(line.id).or_default();
                *epoch = line.config_epoch.max(*epoch);
                if !line.slots.is_empty() {
                    let empty = || Ballot { by_voter: Vec::new(), any: SlotSet::new() };
                    let ballot = ballots.by_node.entry(line.id).or_insert_with(empty);
                    ballot.any.insert_all(&line.slots);
                    ballot.by_voter.push((voter, &line.slots));
                }
            }
        }
        ballots
    }

    /// The owner of a slot that the primaries disagree about, never one that says it is no primary: a node that claims
    /// the slot itself, then the latest claim, then the most votes, then the lowest id.
    ///
    /// The epoch comes before the votes because it is how the servers themselves decide (the higher one wins), and
    /// because a view read before a finalise outvotes nothing: only the later one knows of the new epoch.
    fn likeliest_owner(&self, slot: Slot, voices: &Voices) -> Option<NodeId> {
        let candidates =
            self.by_node.iter().filter(|(node, ballot)| ballot.any.contains(slot) && !voices.others.contains_key(node));
        candidates
            .max_by_key(|(node, ballot)| {
                let votes = ballot.by_voter.iter().filter(|(_, slots)| slots.contains(slot)).count();
                (ballot.has(**node, slot), self.epochs.get(*node), votes, Reverse(**node))
            })
            .map(|(node, _)| *node)
    }
}

impl Ballot<'_> {
    fn has(&self, voter: NodeId, slot: Slot) -> bool {
        self.of(voter).is_some_and(|slots| slots.contains(slot))
    }

    /// The slots that this primary gives to the node.
    fn of(&self, voter: NodeId) -> Option<&SlotSet> {
        let at = self.by_voter.binary_search_by_key(&voter, |(voter, _)| *voter).ok()?;
        Some(self.by_voter[at].1)
    }

    /// The slots that the node claims itself.
    fn own(&self, node: NodeId) -> SlotSet {
        self.of(node).cloned().unwrap_or_default()
    }

    /// The slots that all of so many voters give.
    fn all(&self, voters: usize) -> SlotSet {
        common(self.by_voter.iter().map(|(_, slots)| *slots), voters)
    }

    /// The slots that all of so many voters give, not asking the node itself.
    fn all_but(&self, node: NodeId, voters: usize) -> SlotSet {
        common(self.by_voter.iter().filter(|(voter, _)| *voter != node).map(|(_, slots)| *slots), voters)
    }
}

/// The slots in every one of `sets`; none, when these are fewer than `voters`.
fn common<'a>(sets: impl Iterator<Item = &'a SlotSet> + Clone, voters: usize) -> SlotSet {
    if sets.clone().count() < voters {
        return SlotSet::new();
    }
    sets.fold(None, |all: Option<SlotSet>, slots| {
        Some(all.map_or_else(|| slots.clone(), |all| all.intersection(slots)))
    })
    .unwrap_or_default()
}
