//! What both ends of a pair say of a set of slots, and where that leaves each slot.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pair, Predecessors, Trouble};
use crate::cluster::{NodeId, Slot, SlotSet};

/// What one end says of itself: its own `myself` line and its key counts, read in this order on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndFacts {
    /// The node calls itself a primary.
    pub primary: bool,
    /// The slots it claims.
    pub owned: SlotSet,
    /// Its slots with a mark, and the node that they migrate to.
    pub migrating: BTreeMap<Slot, NodeId>,
    /// The slots it imports, and the node that they come from.
    pub importing: BTreeMap<Slot, NodeId>,
    /// Who owns each slot asked for that it does not claim itself, as far as it knows.
    pub names_owner: BTreeMap<Slot, NodeId>,
    /// The slots asked for that nobody owns, as far as it knows.
    pub ownerless: SlotSet,
    /// Keys it holds of each slot asked for, over all databases; slots without a key may be absent, and all are where nothing
    /// was to be counted.
    pub keys: BTreeMap<Slot, u64>,
    /// Whether it counts no keys of slots that it neither owns nor imports, whatever it holds.
    pub hides_keys: bool,
    /// The databases in which it holds any key, where keys were counted.
    pub databases: Vec<u32>,
    /// The config epoch of every primary that it does not take for failed, itself included, as far as it knows.
    pub epochs: BTreeMap<NodeId, u64>,
}

impl EndFacts {
    /// Keys that it holds of a slot.
    #[must_use]
    pub fn keys_of(&self, slot: Slot) -> u64 {
        self.keys.get(&slot).copied().unwrap_or_default()
    }
}

/// What both ends say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The source's words.
    pub source: EndFacts,
    /// The target's words.
    pub target: EndFacts,
    /// A mark at either end, on whichever slot, that is of no move of ours.
    pub foreign: Option<ForeignMark>,
}

/// A mark that somebody else set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignMark {
    /// The slot.
    pub slot: Slot,
    /// The node that holds the mark.
    pub at: NodeId,
    /// The node that the mark names.
    pub other: NodeId,
}

impl Ends {
    /// What both ends say; `ours` are the open slots of all our moves.
    #[must_use]
    pub fn new(pair: Pair, source: EndFacts, target: EndFacts, ours: &SlotSet) -> Self {
        let marks = |at, end: &EndFacts| {
            let all: Vec<_> = end.migrating.iter().chain(&end.importing).map(|(&slot, &other)| (slot, other)).collect();
            all.into_iter().map(move |(slot, other)| ForeignMark { slot, at, other })
        };
        let foreign =
            marks(pair.source, &source).chain(marks(pair.target, &target)).find(|mark| !ours.contains(mark.slot));
        Self { source, target, foreign }
    }
}

/// How far one slot has come, by what both ends confirm.
///
/// The rows are those of the repair table of Redis Cluster's slot states: owner, marks and keys on both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The source owns it and neither end has a mark.
    Untouched,
    /// The source owns it; `importing` at the target, `migrating` at the source, or both.
    Open {
        /// The target's mark.
        importing: Marked,
        /// The source's mark.
        migrating: Marked,
    },
    /// The target claims it, and the source still claims it or still has its mark.
    HalfAssigned,
    /// The target claims it and the source has neither claim nor mark.
    Moved,
}

/// Whether an end has its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It has none.
    No,
    /// It has one that names a predecessor of the other end.
    Stale,
    /// It has one that names the other end.
    Yes,
}

impl Ends {
    /// Where one slot stands, or why it is not this pair's to move.
    pub fn standing(&self, pair: Pair, before: &Predecessors, slot: Slot) -> Result<Standing, Trouble> {
        let (source, target) = (&self.source, &self.target);
        let marked = |at, other: Option<&NodeId>, expected, before: &BTreeSet<NodeId>| match other {
            None => Ok(Marked::No),
            Some(&other) if other == expected => Ok(Marked::Yes),
            Some(other) if before.contains(other) => Ok(Marked::Stale),
            Some(&other) => Err(Trouble::ForeignMark { slot, at, other }),
        };
        let migrating = marked(pair.source, source.migrating.get(&slot), pair.target, &before.target)?;
        let importing = marked(pair.target, target.importing.get(&slot), pair.source, &before.source)?;
        if let Some(&other) = source.importing.get(&slot) {
            return Err(Trouble::ForeignMark { slot, at: pair.source, other });
        }
        if let Some(&other) = target.migrating.get(&slot) {
            return Err(Trouble::ForeignMark { slot, at: pair.target, other });
        }
        match (source.owned.contains(slot), target.owned.contains(slot)) {
            (false, true) if migrating == Marked::No => Ok(Standing::Moved),
            // The target's claim makes the source drop its keys of the slot: a source that holds some must be looked
            // at by a human before anything is told to anybody.
            (true, true) if source.keys_of(slot) > 0 => {
                Err(Trouble::BothClaim { slot, keys_at_source: source.keys_of(slot) })
            }
            (_, true) => Ok(Standing::HalfAssigned),
            (true, false) if importing == Marked::No && migrating == Marked::No => Ok(Standing::Untouched),
            (true, false) => Ok(Standing::Open { importing, migrating }),
            (false, false) => Err(Trouble::OwnerChanged { slot }),
        }
    }

    /// Whether the target's claim would surely win over the source's: the source's config epoch is nobody else's, and the
    /// target knows it.
    ///
    /// A claim gets a new epoch that is above all that the target has *heard of*, and none at all while the target's own is
    /// among the highest of these. Two primaries that took over at once have the same one, until the one with the lower
    /// id raises its own, which it tells nobody before its next ping: a target that had not heard of it claimed a slot
    /// below its source's epoch, was corrected, and deleted every key (Redis 7.0: 1 of 10 double takeovers).
    pub(super) fn epochs_are_settled(&self, pair: Pair) -> bool {
        let (source, target) = (&self.source.epochs, &self.target.epochs);
        let own = source.get(&pair.source);
        let is_shared = |epochs: &BTreeMap<NodeId, u64>| {
            epochs.iter().any(|(&node, epoch)| node != pair.source && Some(epoch) == own)
        };
        own == target.get(&pair.source) && !is_shared(source) && !is_shared(target)
    }

    /// Of these slots, those that the target still takes for a replaced node's, or for nobody's.
    ///
    /// Redis unbinds the slots of a primary that has become a replica, and binds none that is being imported: a target
    /// whose source was replaced while both lived knows of no owner, and calls the cluster down like one whose source
    /// died.
    pub(super) fn misled_target(&self, before: &Predecessors, slots: &SlotSet) -> SlotSet {
        let target = &self.target;
        let names_dead = |slot| target.names_owner.get(&slot).is_some_and(|node| before.source.contains(node));
        let names_nobody = |slot| target.ownerless.contains(slot) && target.importing.contains_key(&slot);
        slots.iter().filter(|&slot| names_dead(slot) || names_nobody(slot)).collect()
    }
}

/// Slots of a pair by what both ends say of them.
#[derive(Default)]
pub(super) struct Sorted {
    /// [`Standing::Moved`].
    pub(super) moved: SlotSet,
    /// [`Standing::HalfAssigned`].
    pub(super) half: SlotSet,
    /// Owned by the source, which does not show `migrating`.
    pub(super) without_source_mark: SlotSet,
    /// Owned by the source, while the target does not show `importing`.
    pub(super) without_target_mark: SlotSet,
    /// Owned by the source, with a mark of before a failover.
    pub(super) stale: SlotSet,
}

impl Sorted {
    pub(super) fn put(&mut self, slot: Slot, standing: Standing) {
        let (importing, migrating) = match standing {
            Standing::Moved => return self.moved.extend([slot]),
            Standing::HalfAssigned => return self.half.extend([slot]),
            Standing::Untouched => (Marked::No, Marked::No),
            Standing::Open { importing, migrating } => (importing, migrating),
        };
        if importing != Marked::Yes {
            self.without_target_mark.insert(slot);
        }
        if migrating != Marked::Yes {
            self.without_source_mark.insert(slot);
        }
        if importing == Marked::Stale || migrating == Marked::Stale {
            self.stale.insert(slot);
        }
    }
}
