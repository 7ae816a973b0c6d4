//! The open slots that are ours, and between whom they were opened.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{NodeId, Slot, SlotSet};
use crate::migration::Pair;

/// Open slots that are ours. A slot stays here until both ends have been seen to be done with it.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnSlots {
    pairs: BTreeMap<Slot, Pair>,
}

impl OwnSlots {
    /// These slots are about to be opened, or were found open and are taken over.
    pub(super) fn insert(&mut self, slots: &SlotSet, pair: Pair) {
        self.pairs.extend(slots.iter().map(|slot| (slot, pair)));
    }

    /// These slots are closed.
    pub(super) fn remove(&mut self, slots: &SlotSet) {
        self.pairs.retain(|slot, _| !slots.contains(*slot));
    }

    /// Between whom a slot was opened.
    pub(super) fn pair(&self, slot: Slot) -> Option<Pair> {
        self.pairs.get(&slot).copied()
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.pairs.contains_key(&slot)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn slots(&self) -> SlotSet {
        self.pairs.keys().copied().collect()
    }

    /// Whether any slot between this pair lies open that is not among those of moves that go on.
    pub(super) fn lie_between(&self, pair: Pair, moving: &SlotSet) -> bool {
        self.iter().any(|(slot, between)| between == pair && !moving.contains(slot))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, Pair)> + '_ {
        self.pairs.iter().map(|(&slot, &pair)| (slot, pair))
    }

    /// Who they are on their way to.
    pub(super) fn targets(&self) -> BTreeSet<NodeId> {
        self.pairs.values().map(|pair| pair.target).collect()
    }

    /// Follows failovers: `successor` is who has a node's part now. Returns the slots of which an end has changed.
    pub(super) fn follow(&mut self, successor: impl Fn(NodeId) -> NodeId) -> SlotSet {
        let mut changed = SlotSet::new();
        for (&slot, pair) in &mut self.pairs {
            let now = Pair { source: successor(pair.source), target: successor(pair.target) };
            // Both ends in one shard: the slots have come home without us, and what is left is seen by whoever looks.
            if now != *pair && now.source != now.target {
                *pair = now;
                changed.insert(slot);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::id;

    #[test]
    fn slots_that_a_move_has_open_are_not_left_behind_by_another_one() {
        let pair = |source, target| Pair { source: id(source), target: id(target) };
        let slots = |text: &str| text.parse::<SlotSet>().unwrap();
        let mut own = OwnSlots::default();
        own.insert(&slots("5,6"), pair("a", "b"));
        assert!(own.lie_between(pair("a", "b"), &slots("5")));
        assert!(!own.lie_between(pair("a", "b"), &slots("5,6,7")), "both are being moved");
        assert!(!own.lie_between(pair("b", "a"), &slots("")));
        own.remove(&slots("6"));
        assert!(!own.lie_between(pair("a", "b"), &slots("5")));
    }
}
