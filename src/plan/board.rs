//! The slots on a board: which shard owns each. The planner's own view, by index instead of by id.

use std::collections::BTreeMap;

use super::{Move, ShardInput, Why};
use crate::cluster::{Slot, SlotSet};

/// The shards in the order of their keys, and the owner of each slot as an index into them.
#[derive(Clone)]
pub(super) struct Board<'a> {
    pub(super) shards: Vec<&'a ShardInput>,
    owners: Vec<Option<usize>>,
}

impl<'a> Board<'a> {
    pub(super) fn new(shards: &'a [ShardInput]) -> Self {
        let mut shards: Vec<&ShardInput> = shards.iter().collect();
        shards.sort_by_cached_key(|shard| (shard.key(), shard.primary));
        let mut owners = vec![None; Slot::COUNT];
        for (at, shard) in shards.iter().enumerate().rev() {
            for slot in shard.slots.iter() {
                owners[slot.index()] = Some(at);
            }
        }
        Self { shards, owners }
    }

    pub(super) fn owner(&self, slot: Slot) -> Option<usize> {
        self.owners[slot.index()]
    }

    pub(super) fn give(&mut self, slot: Slot, to: usize) {
        self.owners[slot.index()] = Some(to);
    }

    /// The slots that anybody owns.
    pub(super) fn owned(&self) -> SlotSet {
        Slot::all().filter(|&slot| self.owner(slot).is_some()).collect()
    }

    /// The slots of each shard.
    pub(super) fn holdings(&self) -> Vec<SlotSet> {
        let mut holdings = vec![SlotSet::new(); self.shards.len()];
        for slot in Slot::all() {
            if let Some(owner) = self.owner(slot) {
                holdings[owner].insert(slot);
            }
        }
        holdings
    }

    /// How many slots each shard owns.
    pub(super) fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.shards.len()];
        for &owner in self.owners.iter().flatten() {
            counts[owner] += 1;
        }
        counts
    }

    /// How many slots anybody owns.
    pub(super) fn assigned(&self) -> u32 {
        self.counts().into_iter().sum()
    }

    /// How many runs of slots with the same owner there are; slots without an owner form none.
    pub(super) fn ranges(&self) -> u32 {
        let mut before = None;
        let mut runs = 0;
        for &owner in &self.owners {
            runs += u32::from(owner.is_some() && owner != before);
            before = owner;
        }
        runs
    }

    /// The moves that lead from this board to the other one; `why` gives the reason by slot, source and target.
    pub(super) fn moves_to(&self, after: &Self, why: impl Fn(Slot, usize, usize) -> Why) -> Vec<Move> {
        let mut moves: BTreeMap<(Why, usize, usize), SlotSet> = BTreeMap::new();
        for slot in Slot::all() {
            let (Some(source), Some(target)) = (self.owner(slot), after.owner(slot)) else { continue };
            if source != target {
                moves.entry((why(slot, source, target), source, target)).or_default().insert(slot);
            }
        }
        let primary = |at: usize| self.shards[at].primary;
        moves
            .into_iter()
            .map(|((why, source, target), slots)| Move { source: primary(source), target: primary(target), slots, why })
            .collect()
    }
}
