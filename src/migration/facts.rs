//! What both ends of a pair say of a set of slots, and where that leaves each slot.

use std::collections::BTreeMap;

use super::{Pair, Trouble};
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
    /// Keys it holds of each slot asked for, over all databases; slots without a key may be absent.
    pub keys: BTreeMap<Slot, u64>,
    /// The databases in which it holds any key.
    pub databases: Vec<u32>,
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
        /// The target has its mark.
        importing: bool,
        /// The source has its mark.
        migrating: bool,
    },
    /// The target claims it, and the source still claims it or still has its mark.
    HalfAssigned,
    /// The target claims it and the source has neither claim nor mark.
    Moved,
}

impl Ends {
    /// Where one slot stands, or why it is not this pair's to move.
    pub fn standing(&self, pair: Pair, slot: Slot) -> Result<Standing, Trouble> {
        let (source, target) = (&self.source, &self.target);
        let foreign = |at, other: Option<&NodeId>, expected| match other {
            Some(&other) if other != expected => Err(Trouble::ForeignMark { slot, at, other }),
            Some(_) | None => Ok(()),
        };
        foreign(pair.source, source.migrating.get(&slot), pair.target)?;
        foreign(pair.target, target.importing.get(&slot), pair.source)?;
        if let Some(&other) = source.importing.get(&slot) {
            return Err(Trouble::ForeignMark { slot, at: pair.source, other });
        }
        if let Some(&other) = target.migrating.get(&slot) {
            return Err(Trouble::ForeignMark { slot, at: pair.target, other });
        }
        let migrating = source.migrating.contains_key(&slot);
        let importing = target.importing.contains_key(&slot);
        match (source.owned.contains(slot), target.owned.contains(slot)) {
            (false, true) if !migrating => Ok(Standing::Moved),
            // The target's claim makes the source drop its keys of the slot: a source that holds some must be looked
            // at by a human before anything is told to anybody.
            (true, true) if source.keys_of(slot) > 0 => {
                Err(Trouble::BothClaim { slot, keys_at_source: source.keys_of(slot) })
            }
            (_, true) => Ok(Standing::HalfAssigned),
            (true, false) if !importing && !migrating => Ok(Standing::Untouched),
            (true, false) => Ok(Standing::Open { importing, migrating }),
            (false, false) => Err(Trouble::OwnerChanged { slot }),
        }
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
}

impl Sorted {
    pub(super) fn put(&mut self, slot: Slot, standing: Standing) {
        let (importing, migrating) = match standing {
            Standing::Moved => return self.moved.extend([slot]),
            Standing::HalfAssigned => return self.half.extend([slot]),
            Standing::Untouched => (false, false),
            Standing::Open { importing, migrating } => (importing, migrating),
        };
        if !importing {
            self.without_target_mark.insert(slot);
        }
        if !migrating {
            self.without_source_mark.insert(slot);
        }
    }
}
