//! Which slots of a move are opened together.

use std::collections::BTreeMap;

use crate::cluster::{Slot, SlotSet};

/// So many times as many slots where none of them holds a key, for nothing is moved that could be caught half-moved; and so
/// many times as many again where there is nobody whom the news of so many new owners at once would keep waiting.
const MANY: usize = 4;

/// How much may be open at once between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Slots; at least one.
    pub slots: usize,
    /// Slots where all of them are empty; not less.
    pub empty_slots: usize,
    /// Keys, over all slots of the group; a slot with more makes a group of its own.
    pub keys: u64,
    /// Slots in any case; at least one.
    pub at_once: usize,
}

impl GroupLimits {
    /// So many slots and keys, four times as many slots where all are empty, but never more slots than `at_once`.
    #[must_use]
    pub fn new(slots: usize, keys: u64, at_once: usize) -> Self {
        let times = |many| slots.saturating_mul(many).min(at_once);
        Self { slots: times(1), empty_slots: times(MANY), keys, at_once }
    }

    /// The limits between nodes that no client uses: four times as many slots.
    #[must_use]
    pub fn without_clients(self) -> Self {
        Self::new(self.slots.saturating_mul(MANY), self.keys, self.at_once)
    }
}

/// The next slots to open, from the lowest on: as many as the limits allow, and at least one if any is left.
///
/// Short groups keep the time short in which a failover of the source would find slots open.
#[must_use]
pub fn next_group(counts: &BTreeMap<Slot, u64>, limits: GroupLimits) -> SlotSet {
    let mut group = SlotSet::new();
    let (mut slots, mut keys) = (0, 0u64);
    for (&slot, &count) in counts {
        keys = keys.saturating_add(count);
        let most = if keys == 0 { limits.empty_slots } else { limits.slots };
        if slots > 0 && (slots >= most || keys > limits.keys) {
            break;
        }
        group.insert(slot);
        slots += 1;
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_ends_at_the_limit_of_slots_or_keys() {
        let check = |counts: &[(u16, u64)], expect: &str| {
            let counts = counts.iter().map(|&(slot, keys)| (Slot::new(slot).unwrap(), keys)).collect();
            assert_eq!(next_group(&counts, GroupLimits::new(3, 100, 100)).to_string(), expect);
        };
        check(&[], "");
        check(&[(1, 0), (2, 1), (5, 0), (6, 0)], "1-2,5");
        check(&[(1, 60), (2, 60)], "1");
        check(&[(1, 60), (2, 40), (3, 1)], "1-2");
        check(&[(9, 1_000_000), (10, 0)], "9");
        let empty = (0..60).map(|slot| (slot, 0)).collect::<Vec<_>>();
        check(&empty, "0-11");
        check(&[&empty[..8], &[(8, 1)]].concat(), "0-7");
    }

    #[test]
    fn without_clients_it_is_four_times_as_many_slots() {
        let check = |keys_each: u64, limits: GroupLimits, expect: &str| {
            let counts = (0..60).map(|slot| (Slot::new(slot).unwrap(), keys_each)).collect();
            assert_eq!(next_group(&counts, limits.without_clients()).to_string(), expect);
        };
        check(0, GroupLimits::new(3, 100, 100), "0-47");
        check(0, GroupLimits::new(3, 100, 20), "0-19");
        check(1, GroupLimits::new(3, 100, 100), "0-11");
        check(1, GroupLimits::new(3, 100, 10), "0-9");
        check(1, GroupLimits::new(3, 10, 100), "0-9");
    }
}
