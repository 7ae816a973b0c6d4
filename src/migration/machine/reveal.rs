//! What a target holds of a slot and shows only while it takes the slot in, as Redis does from 8.4 on.

use std::collections::BTreeMap;

use super::{Migration, State};
use crate::cluster::{Slot, SlotSet};
use crate::migration::facts::Sorted;
use crate::migration::{End, Ends, Purpose};

/// What was seen of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Revealed {
    /// How many keys the target held of slots that it had marked and the source had not.
    keys: BTreeMap<Slot, u64>,
    /// The target gets its marks, and is looked at before the source gets its own.
    pub(super) is_due: bool,
}

impl Revealed {
    pub(super) fn keys_of(&self, slot: Slot) -> u64 {
        self.keys.get(&slot).copied().unwrap_or_default()
    }
}

impl Migration {
    /// Of these slots, those of which the target has not shown yet what it holds.
    pub(super) fn unseen_at_target(&self, ends: &Ends, slots: &SlotSet) -> SlotSet {
        let unseen = |slot: &_| ends.target.hides_keys && !self.revealed.keys.contains_key(slot);
        slots.iter().filter(unseen).collect()
    }

    /// Whether the target held keys of a slot that nobody had opened. They are not ours to bring back to clients.
    pub(super) fn is_stray(&self, slot: Slot) -> bool {
        let may_be = self.purpose == Purpose::Move && self.copies.is_none() && !self.seen_open.contains(slot);
        may_be && self.revealed.keys_of(slot) > 0
    }

    /// Learns what the target shows of slots that it has marked and the source has not, and has those closed again of which it
    /// holds stray keys.
    pub(super) fn reveal(&mut self, ends: &Ends, sorted: &Sorted) -> Option<State> {
        let shown = sorted.without_source_mark.difference(&sorted.without_target_mark).intersection(&self.slots);
        for slot in self.unseen_at_target(ends, &shown).iter() {
            let keys = ends.target.keys_of(slot);
            self.revealed.keys.insert(slot, keys);
            if let Some(copies) = self.copies.as_mut().filter(|_| keys > 0 && self.purpose == Purpose::Move) {
                copies.insert(slot);
            }
        }
        let strays: SlotSet = shown.iter().filter(|&slot| self.is_stray(slot)).collect();
        // The others get their source's mark before anybody may leave.
        self.revealed.is_due = !strays.is_empty();
        self.revealed.is_due.then_some(State::Unmarking { at: End::Target, slots: strays })
    }
}
