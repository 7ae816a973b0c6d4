//! Which slots of a move are opened together.

use std::collections::BTreeMap;

use crate::cluster::Slot;

/// So many times as many slots, empty ones included, of which nothing is moved that could be caught half-moved; and so
/// many times as many again where there is nobody whom the news of so many new owners at once would keep waiting.
const MANY: usize = 4;

/// How much may be open at once between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Slots that hold a key; at least one.
    pub slots: usize,
    /// Slots, those that hold none included; not less.
    pub all_slots: usize,
    /// Keys, over all slots of the group; a slot with more makes a group of its own.
    pub keys: u64,
    /// Slots in any case; at least one.
    pub at_once: usize,
    /// Keys in any case, but for those of one slot.
    pub keys_at_once: u64,
}

impl GroupLimits {
    /// So many slots with keys, and keys; four times as many slots with the empty ones, but never more than `at_once` and
    /// `keys_at_once`, which are what plain limits make of them.
    #[must_use]
    pub fn new(slots: usize, keys: u64, at_once: usize, keys_at_once: u64) -> Self {
        let times = |many| slots.saturating_mul(many).min(at_once);
        Self { slots: times(1), all_slots: times(MANY), keys: keys.min(keys_at_once), at_once, keys_at_once }
    }

    /// The limits between nodes that no client uses: four times as many slots, and keys.
    #[must_use]
    pub fn without_clients(self) -> Self {
        let keys = self.keys.saturating_mul(MANY as u64);
        Self::new(self.slots.saturating_mul(MANY), keys, self.at_once, self.keys_at_once)
    }
}

/// Takes the next slots to open out of these, with how many keys each of them holds, from the lowest on: as many as the limits
/// allow, and at least one if any is left.
///
/// Short groups keep the time short in which a failover of the source would find slots open.
pub fn next_group(counts: &mut BTreeMap<Slot, u64>, limits: GroupLimits) -> BTreeMap<Slot, u64> {
    let (mut slots, mut with_keys, mut keys) = (0, 0, 0u64);
    let beyond = counts.iter().find_map(|(&slot, &count)| {
        keys = keys.saturating_add(count);
        with_keys += usize::from(count > 0);
        slots += 1;
        let is_beyond = slots > limits.all_slots || with_keys > limits.slots || keys > limits.keys;
        (slots > 1 && is_beyond).then_some(slot)
    });
    let rest = beyond.map(|slot| counts.split_off(&slot)).unwrap_or_default();
    std::mem::replace(counts, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SlotSet;

    /// The next group of slots with so many keys, of which all others stay.
    fn check_group(counts: &[(u16, u64)], limits: GroupLimits, expect: &str) {
        let counts: BTreeMap<Slot, u64> = counts.iter().map(|&(slot, keys)| (Slot::new(slot).unwrap(), keys)).collect();
        let mut rest = counts.clone();
        let mut group = next_group(&mut rest, limits);
        assert_eq!(group.keys().copied().collect::<SlotSet>().to_string(), expect);
        group.append(&mut rest);
        assert_eq!(group, counts);
    }

    #[test]
    fn a_group_ends_at_the_limit_of_slots_or_keys() {
        let check =
            |counts: &[(u16, u64)], expect: &str| check_group(counts, GroupLimits::new(3, 100, 100, u64::MAX), expect);
        check(&[], "");
        check(&[(1, 0), (2, 1), (5, 0), (6, 0)], "1-2,5-6");
        check(&[(1, 1), (2, 0), (3, 1), (4, 1), (5, 0), (6, 1)], "1-5");
        check(&[(1, 60), (2, 60)], "1");
        check(&[(1, 60), (2, 40), (3, 1)], "1-2");
        check(&[(9, 1_000_000), (10, 0)], "9");
        let empty = (0..60).map(|slot| (slot, 0)).collect::<Vec<_>>();
        check(&empty, "0-11");
        check(&[&empty[..8], &[(8, 1), (9, 0)]].concat(), "0-9");
        check(&[&empty[..8], &[(8, 101)]].concat(), "0-7");
    }

    #[test]
    fn without_clients_it_is_four_times_as_many_slots_and_keys() {
        let check = |keys_each: u64, limits: GroupLimits, expect: &str| {
            let counts: Vec<(u16, u64)> = (0..60).map(|slot| (slot, keys_each)).collect();
            check_group(&counts, limits.without_clients(), expect);
        };
        check(0, GroupLimits::new(3, 100, 100, u64::MAX), "0-47");
        check(0, GroupLimits::new(3, 100, 20, u64::MAX), "0-19");
        check(1, GroupLimits::new(3, 100, 100, u64::MAX), "0-11");
        check(1, GroupLimits::new(3, 100, 10, u64::MAX), "0-9");
        check(1, GroupLimits::new(3, 2, 100, u64::MAX), "0-7");
        check(1, GroupLimits::new(3, 2, 100, 5), "0-4");
    }
}
