//! The keys of the open slots of a pair: which to list next, which to move next.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::Slot;

/// A key's name: any bytes.
pub type Key = Bytes;

/// How many keys one listing asks of a slot. A slot that answers with fewer has none beyond them.
const LIST_PER_SLOT: u32 = 1_000;
/// How many keys the listings of one round trip may bring, unless the machine is told otherwise: about a millisecond of a
/// slow source's time.
pub(super) const LIST_AT_ONCE: u64 = 1_000;

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

/// How much one call may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimit {
    /// The most keys; at least one.
    pub keys: usize,
    /// The most keys of a call that leaves none behind.
    pub last: usize,
    /// For how long the keys may hold the source together, as far as that is known of them; a single key may take longer.
    pub block: Duration,
}

/// Keys that take long, by database and name, with how long each is expected to hold the source.
pub type HeavyKeys = BTreeMap<(u32, Key), Duration>;

/// Names of keys, by database and slot, as they were listed before the slots were opened.
pub type ListedKeys = BTreeMap<(u32, Slot), Vec<Key>>;

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
    heavy: HeavyKeys,
}

impl Transfer {
    /// Everything that the source counted, in every database where it has keys; one listing brings so many keys at the most,
    /// or those of one slot.
    ///
    /// What is listed already is moved first, and a slot of which that is as many keys as it was counted to have is not listed
    /// again. If one of them has gone since, and another come, the count at the end finds that one, at the cost of a finalise
    /// that is given back.
    pub(super) fn new(counts: &BTreeMap<Slot, u64>, databases: &[u32], at_once: u64, listed: ListedKeys) -> Self {
        let mut known: BTreeMap<Slot, u64> = BTreeMap::new();
        for ((_, slot), keys) in &listed {
            *known.entry(*slot).or_default() += keys.len() as u64;
        }
        let is_unknown = |slot: Slot, count: u64| count > 0 && known.get(&slot) != Some(&count);
        let mut lists = VecDeque::new();
        for &db in databases {
            let (mut slots, mut expected) = (Vec::new(), 0);
            for (&slot, &count) in counts.iter().filter(|&(&slot, &count)| is_unknown(slot, count)) {
                expected += count.min(LIST_PER_SLOT.into());
                if expected > at_once && !slots.is_empty() {
                    lists.push_back((db, std::mem::take(&mut slots)));
                    expected = count.min(LIST_PER_SLOT.into());
                }
                slots.push(slot);
            }
            if !slots.is_empty() {
                lists.push_back((db, slots));
            }
        }
        let held = listed.into_iter().filter(|((_, slot), names)| !names.is_empty() && counts.contains_key(slot));
        let held = held.map(|((db, slot), keys)| Batch { db, slot, keys, replace: false }).collect();
        Self { lists, held, ..Self::default() }
    }

    /// Takes of these keys no more into one call than its limit allows.
    pub(super) fn with_heavy(mut self, heavy: &HeavyKeys) -> Self {
        self.heavy.clone_from(heavy);
        self
    }

    /// The next keys to move, as many as fit into one call unless they replace copies.
    pub(super) fn next_batch(&mut self, limit: CallLimit) -> Option<Batch> {
        let front = self.held.front_mut()?;
        let fitting = if self.heavy.is_empty() {
            limit.keys.max(1)
        } else {
            how_many_fit(front.db, &front.keys, &self.heavy, limit)
        };
        // Keys with copies at both ends go out together, as they did in the call that left the copies.
        // So do the last ones of a slot, rather than that a few of them make a call of their own.
        if front.replace || front.keys.len() <= fitting || (self.heavy.is_empty() && front.keys.len() <= limit.last) {
            return self.held.pop_front();
        }
        let rest = front.keys.split_off(fitting);
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
            if !keys.is_empty() {
                self.held.push_back(Batch { db, slot, keys, replace: false });
            }
        }
    }

    /// Puts keys in front of all others.
    pub(super) fn first(&mut self, batch: Batch) {
        if !batch.keys.is_empty() {
            self.held.push_front(batch);
        }
    }
}

/// How many keys, from the first on, fit into one call; at least one. A key takes its share of the call's keys, or, if it is
/// a heavy one, of the call's time.
fn how_many_fit(db: u32, keys: &[Key], heavy: &HeavyKeys, limit: CallLimit) -> usize {
    let light = 1.0 / limit.keys.max(1) as f64;
    let mut free = 1.0;
    let fits = |key: &&Key| {
        let share = heavy.get(&(db, (*key).clone())).map(|block| block.as_secs_f64() / limit.block.as_secs_f64());
        free -= share.map_or(light, |share| share.max(light));
        // A billionth more or less is a matter of how computers count.
        free > -1e-9
    };
    keys.iter().take_while(fits).count().max(1)
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
        let counts = BTreeMap::from([(slot(1), 500), (slot(2), 0), (slot(3), 500), (slot(4), 5_000), (slot(5), 1)]);
        let mut transfer = Transfer::new(&counts, &[0, 3], LIST_AT_ONCE, ListedKeys::new());
        let mut seen = Vec::new();
        while let Some((db, slots, _)) = transfer.next_list() {
            seen.push((db, slots.iter().map(|slot| slot.number()).collect::<Vec<_>>()));
            transfer.on_listed(Vec::new());
        }
        let of = |db| [(db, vec![1, 3]), (db, vec![4]), (db, vec![5])];
        assert_eq!(seen, [of(0), of(3)].concat());
    }

    #[test]
    fn what_was_listed_before_is_moved_first_and_listed_again_only_where_the_count_is_another() {
        let check =
            |listed: &[(u32, u16, usize)], counts: &[(u16, u64)], moved: &[(u32, u16, usize)], lists: &[(u32, u16)]| {
                let listed = listed.iter().map(|&(db, number, count)| ((db, slot(number)), keys(count))).collect();
                let counts = counts.iter().map(|&(number, keys)| (slot(number), keys)).collect();
                let mut transfer = Transfer::new(&counts, &[0, 3], LIST_AT_ONCE, listed);
                let next = || transfer.next_batch(limit(1_000));
                let batches: Vec<_> = std::iter::from_fn(next).map(|b| (b.db, b.slot.number(), b.keys.len())).collect();
                let mut again = Vec::new();
                while let Some((db, slots, _)) = transfer.next_list() {
                    again.extend(slots.iter().map(|slot| (db, slot.number())));
                    transfer.on_listed(Vec::new());
                }
                assert_eq!((batches.as_slice(), again.as_slice()), (moved, lists));
            };
        check(&[(0, 1, 5), (0, 2, 7)], &[(1, 5), (2, 7)], &[(0, 1, 5), (0, 2, 7)], &[]);
        check(&[(0, 1, 5), (3, 1, 2)], &[(1, 7)], &[(0, 1, 5), (3, 1, 2)], &[]);
        check(&[(0, 1, 5)], &[(1, 6)], &[(0, 1, 5)], &[(0, 1), (3, 1)]);
        check(&[(0, 1, 5)], &[(1, 4)], &[(0, 1, 5)], &[(0, 1), (3, 1)]);
        // Not of this move.
        check(&[(0, 9, 5)], &[(1, 1), (2, 0)], &[], &[(0, 1), (3, 1)]);
    }

    fn limit(keys: usize) -> CallLimit {
        CallLimit { keys, last: keys, block: Duration::from_millis(2) }
    }

    #[test]
    fn a_few_last_keys_make_no_call_of_their_own() {
        let check = |count: usize, expect: &[usize]| {
            let mut transfer =
                Transfer::new(&BTreeMap::from([(slot(7), count as u64)]), &[0], LIST_AT_ONCE, ListedKeys::new());
            transfer.on_listed(vec![(slot(7), keys(count))]);
            let next = || transfer.next_batch(CallLimit { last: 125, ..limit(100) });
            let calls: Vec<usize> = std::iter::from_fn(next).map(|batch| batch.keys.len()).collect();
            assert_eq!(calls, expect);
        };
        check(125, &[125]);
        check(126, &[100, 26]);
        check(225, &[100, 125]);
    }

    #[test]
    fn a_heavy_key_takes_its_time_of_a_call_and_one_beyond_it_goes_alone() {
        let check = |heavy: &[(u32, usize, u64)], most: usize, expect: &[&[usize]]| {
            let all = keys(5);
            let heavy =
                heavy.iter().map(|&(db, key, us)| ((db, all[key].clone()), Duration::from_micros(us))).collect();
            let mut transfer = Transfer::new(&BTreeMap::from([(slot(7), 5)]), &[0], LIST_AT_ONCE, ListedKeys::new())
                .with_heavy(&heavy);
            transfer.on_listed(vec![(slot(7), all.clone())]);
            let mut calls = Vec::new();
            while let Some(batch) = transfer.next_batch(limit(most)) {
                calls.push(batch.keys);
            }
            let expect: Vec<Vec<Key>> =
                expect.iter().map(|call| call.iter().map(|&key| all[key].clone()).collect()).collect();
            assert_eq!(calls, expect);
        };
        check(&[(3, 0, 99_000)], 100, &[&[0, 1, 2, 3, 4]]);
        check(&[(0, 2, 99_000)], 100, &[&[0, 1], &[2], &[3, 4]]);
        check(&[(0, 1, 1_000), (0, 2, 900), (0, 3, 500)], 100, &[&[0, 1, 2], &[3, 4]]);
        check(&[(0, 1, 1_000), (0, 3, 1)], 4, &[&[0, 1, 2], &[3, 4]]);
        check(&[(0, 0, 2_000), (0, 1, 2_000)], 100, &[&[0], &[1], &[2, 3, 4]]);
    }

    #[test]
    fn a_full_answer_is_listed_again_and_batches_keep_to_the_limit() {
        let mut transfer = Transfer::new(&BTreeMap::from([(slot(7), 1_200)]), &[0], LIST_AT_ONCE, ListedKeys::new());
        transfer.on_listed(vec![(slot(7), keys(1_000))]);
        let mut moved = 0;
        while let Some(batch) = transfer.next_batch(limit(300)) {
            assert!(batch.keys.len() <= 300 && batch.slot == slot(7) && !batch.replace);
            moved += batch.keys.len();
        }
        assert_eq!(moved, 1_000);
        assert_eq!(transfer.next_list(), Some((0, [slot(7)].as_slice(), 1_000)));
        transfer.on_listed(vec![(slot(7), keys(200))]);
        assert_eq!(transfer.next_batch(limit(300)).map(|batch| batch.keys.len()), Some(200));
        assert_eq!((transfer.next_batch(limit(300)), transfer.next_list()), (None, None));
    }
}
