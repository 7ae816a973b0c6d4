//! The keys of the open slots of a pair: which to list next, which to move next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::cluster::Slot;

/// A key's name: any bytes.
pub type Key = Bytes;

/// How many keys one listing asks of a slot. A slot that answers with fewer has none beyond them.
const LIST_PER_SLOT: u32 = 1_000;
/// How many keys the listings of one round trip may bring: about a millisecond of the source's time.
const LIST_AT_ONCE: u64 = 2_000;

/// Keys of one slot and database that are moved by one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The database, 0 wherever the cluster has only one.
    pub db: u32,
    /// The slot of every key.
    pub slot: Slot,
    /// The keys, as they were listed: some may have expired or been deleted since, and count as moved.
    pub keys: Vec<Key>,
    /// Whether a copy at the target is overwritten: only for keys that a call of our own may have left there, or
    /// whose copies were compared and are equal.
    pub replace: bool,
}

/// How the copies of keys at both ends compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Equal at both ends.
    pub same: Vec<Key>,
    /// At both ends, with different values.
    pub different: Vec<Key>,
    /// At the source only.
    pub only_source: Vec<Key>,
}

/// What is still to list and to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transfer {
    lists: VecDeque<(u32, Vec<Slot>)>,
    held: VecDeque<Batch>,
    /// Keys that share a call with no other, by database.
    alone: BTreeSet<(u32, Key)>,
}

impl Transfer {
    /// Everything that the source counted, in every database where it has keys.
    pub(super) fn new(keys: &BTreeMap<Slot, u64>, databases: &[u32]) -> Self {
        let mut lists = VecDeque::new();
        for &db in databases {
            let (mut slots, mut expected) = (Vec::new(), 0);
            for (&slot, &keys) in keys.iter().filter(|&(_, &keys)| keys > 0) {
                expected += keys.min(LIST_PER_SLOT.into());
                if expected > LIST_AT_ONCE && !slots.is_empty() {
                    lists.push_back((db, std::mem::take(&mut slots)));
                    expected = keys.min(LIST_PER_SLOT.into());
                }
                slots.push(slot);
            }
            if !slots.is_empty() {
                lists.push_back((db, slots));
            }
        }
        Self { lists, ..Self::default() }
    }

    /// Makes each of these keys a batch of its own.
    pub(super) fn keep_alone(mut self, alone: &BTreeSet<(u32, Key)>) -> Self {
        self.alone.clone_from(alone);
        self
    }

    /// The next keys to move, at most `limit` of them unless they replace copies.
    pub(super) fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        let front = self.held.front_mut()?;
        let limit = limit.max(1);
        // Keys with copies at both ends go out together, as they did in the call that left the copies.
        if front.replace || front.keys.len() <= limit {
            return self.held.pop_front();
        }
        let rest = front.keys.split_off(limit);
        let keys = std::mem::replace(&mut front.keys, rest);
        Some(Batch { keys, ..*front })
    }

    /// Whether the next keys to move have copies at both ends.
    pub(super) fn next_replaces(&self) -> bool {
        self.held.front().is_some_and(|batch| batch.replace)
    }

    /// The next listing: database, slots, how many keys of each.
    pub(super) fn next_list(&self) -> Option<(u32, &[Slot], u32)> {
        self.lists.front().map(|(db, slots)| (*db, slots.as_slice(), LIST_PER_SLOT))
    }

    /// The answer to the listing that [`Transfer::next_list`] named.
    pub(super) fn on_listed(&mut self, listed: Vec<(Slot, Vec<Key>)>) {
        let Some((db, _)) = self.lists.pop_front() else { return };
        for (slot, keys) in listed {
            if keys.len() >= LIST_PER_SLOT as usize {
                self.lists.push_back((db, vec![slot]));
            }
            let is_alone = |key: &Key| !self.alone.is_empty() && self.alone.contains(&(db, key.clone()));
            let (alone, keys): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(is_alone);
            if !keys.is_empty() {
                self.held.push_back(Batch { db, slot, keys, replace: false });
            }
            self.held.extend(alone.into_iter().map(|key| Batch { db, slot, keys: vec![key], replace: false }));
        }
    }

    /// Puts keys in front of all others.
    pub(super) fn first(&mut self, batch: Batch) {
        if !batch.keys.is_empty() {
            self.held.push_front(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|n| Key::from(format!("k{n}"))).collect()
    }

    #[test]
    fn listings_are_bounded_and_skip_slots_without_keys() {
        let counts = BTreeMap::from([(slot(1), 900), (slot(2), 0), (slot(3), 900), (slot(4), 5_000), (slot(5), 1)]);
        let mut transfer = Transfer::new(&counts, &[0, 3]);
        let mut seen = Vec::new();
        while let Some((db, slots, _)) = transfer.next_list() {
            seen.push((db, slots.iter().map(|slot| slot.number()).collect::<Vec<_>>()));
            transfer.on_listed(Vec::new());
        }
        assert_eq!(seen, [(0, vec![1, 3]), (0, vec![4, 5]), (3, vec![1, 3]), (3, vec![4, 5])]);
    }

    #[test]
    fn a_big_key_shares_a_call_with_no_other() {
        let transfer = Transfer::new(&BTreeMap::from([(slot(7), 5)]), &[0]);
        let mut transfer = transfer.keep_alone(&BTreeSet::from([(0, keys(5)[2].clone()), (3, keys(5)[0].clone())]));
        transfer.on_listed(vec![(slot(7), keys(5))]);
        let mut calls = Vec::new();
        while let Some(batch) = transfer.next_batch(100) {
            calls.push(batch.keys);
        }
        let [k0, k1, k2, k3, k4] = keys(5).try_into().unwrap();
        assert_eq!(calls, [vec![k0, k1, k3, k4], vec![k2]]);
    }

    #[test]
    fn a_full_answer_is_listed_again_and_batches_keep_to_the_limit() {
        let mut transfer = Transfer::new(&BTreeMap::from([(slot(7), 1_200)]), &[0]);
        transfer.on_listed(vec![(slot(7), keys(1_000))]);
        let mut moved = 0;
        while let Some(batch) = transfer.next_batch(300) {
            assert!(batch.keys.len() <= 300 && batch.slot == slot(7) && !batch.replace);
            moved += batch.keys.len();
        }
        assert_eq!(moved, 1_000);
        assert_eq!(transfer.next_list(), Some((0, [slot(7)].as_slice(), 1_000)));
        transfer.on_listed(vec![(slot(7), keys(200))]);
        assert_eq!(transfer.next_batch(300).map(|batch| batch.keys.len()), Some(200));
        assert_eq!((transfer.next_batch(300), transfer.next_list()), (None, None));
    }
}
