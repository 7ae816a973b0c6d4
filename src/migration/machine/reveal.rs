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
    /// Of these slots, which the target is about to mark, those of which it is not known yet what it holds.
    pub(super) fn hidden(&self, ends: &Ends, slots: &SlotSet) -> SlotSet {
        let hidden = |slot: &_| ends.target.hides_keys && !self.revealed.keys.contains_key(slot);
        slots.iter().filter(hidden).collect()
    }

    /// Learns what the target shows of slots that it has marked and the source has not. Keys of a slot that nobody has opened
    /// before are not ours to bring back to clients: such a slot is closed again.
    pub(super) fn reveal(&mut self, ends: &Ends, sorted: &Sorted) -> Option<State> {
        self.revealed.is_due = false;
        let shown = sorted.without_source_mark.difference(&sorted.without_target_mark);
        let mut strays = SlotSet::new();
        for slot in self.hidden(ends, &shown.intersection(&self.slots)).iter() {
            let keys = ends.target.keys_of(slot);
            self.revealed.keys.insert(slot, keys);
            if keys > 0 && self.purpose == Purpose::Move && !self.seen_open.contains(slot) {
                match &mut self.copies {
                    Some(copies) => copies.insert(slot),
                    None => strays.insert(slot),
                };
            }
        }
        self.opened = self.opened.difference(&strays);
        (!strays.is_empty()).then_some(State::Unmarking { at: End::Target, slots: strays })
    }
}
