//! Whether a target has room for what it is to take. Pure.

use std::collections::BTreeMap;

use super::Reason;
use crate::cluster::{EvictionPolicy, MemoryUse, NodeId, NodeInfo, Observation, Topology};
use crate::config::{FullTarget, MigrationConfig};
use crate::plan::Plan;

/// Margin on the estimate of what a target will need: measured, a moved key costs up to a third more than at home
/// while tables grow.
const MARGIN: f64 = 1.3;

/// How near to its limit a target may come, and whether that counts at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRules {
    /// The share of its `maxmemory` that it may use, in percent.
    limit_percent: u8,
    full_target: FullTarget,
}

impl RoomRules {
    /// By the configuration.
    #[must_use]
    pub fn new(migration: &MigrationConfig) -> Self {
        Self { limit_percent: migration.memory_limit_percent, full_target: migration.full_target }
    }

    /// Whether the node is a cache that is to drop old keys for new ones.
    fn lets_evict(self, memory: MemoryUse) -> bool {
        self.full_target == FullTarget::Evict && memory.eviction == EvictionPolicy::AllKeys
    }

    /// How many bytes the node may use, with what it is to take; `None` for as many as it likes.
    fn limit(self, memory: MemoryUse) -> Option<u64> {
        (memory.max > 0 && !self.lets_evict(memory)).then(|| memory.max / 100 * u64::from(self.limit_percent))
    }

    /// Why this target is not to take so many bytes.
    pub(super) fn no_room(self, node: NodeId, memory: MemoryUse, incoming: u64) -> Option<Reason> {
        let limit = self.limit(memory).filter(|limit| incoming > 0 && memory.used.saturating_add(incoming) > *limit)?;
        Some(Reason::TargetFull { node, used: memory.used, incoming, limit })
    }

    /// How far a target that drops keys may be filled while slots are open at it: half of what the limit leaves. Beyond
    /// that it would drop some that it was just given. `None` where it drops none that matter, but refuses by itself.
    pub(super) fn last_limit(self, memory: MemoryUse) -> Option<u64> {
        let limit = self.limit(memory).filter(|_| memory.eviction != EvictionPolicy::NoEviction)?;
        Some(limit + (memory.max - limit) / 2)
    }

    /// How many bytes of its own or of moved keys a target may drop when it takes so many.
    fn evicted(self, memory: MemoryUse, incoming: u64) -> u64 {
        let lets = memory.max > 0 && self.lets_evict(memory);
        if lets { memory.used.saturating_add(incoming).saturating_sub(memory.max) } else { 0 }
    }
}

/// Bytes that so many keys need at a target.
pub(super) fn needed(keys: u64, bytes_per_key: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
    let bytes = (keys as f64 * bytes_per_key * MARGIN) as u64;
    bytes
}

/// Bytes that so many of the slots of a source need at a target, if they are like the others.
pub(super) fn incoming(source: &NodeInfo, owned: usize, slots: usize) -> u64 {
    if source.keys.values().sum::<u64>() == 0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
    let bytes = (source.dataset_bytes as f64 / owned.max(1) as f64 * slots as f64 * MARGIN) as u64;
    bytes
}

/// What a plan does to the memory of its targets.
#[derive(Debug, Default)]
pub struct PlannedRoom {
    /// The targets that have no room for it.
    pub full: Vec<Reason>,
    /// The targets that may drop keys to take it, and about how many bytes of them.
    pub evicted: BTreeMap<NodeId, u64>,
}

/// Looks at every target of a plan, with all that the plan gives it.
#[must_use]
pub fn planned_room(plan: &Plan, observation: &Observation, topology: &Topology, rules: RoomRules) -> PlannedRoom {
    let mut by_target: BTreeMap<NodeId, u64> = BTreeMap::new();
    for planned in &plan.moves {
        let owned = topology.shards.get(&planned.source).map_or(0, |shard| shard.slots.len());
        let source = observation.nodes.get(&planned.source);
        let bytes = source.map_or(0, |source| incoming(&source.info, owned, planned.slots.len()));
        *by_target.entry(planned.target).or_default() += bytes;
    }
    let mut room = PlannedRoom::default();
    for (target, bytes) in by_target {
        let Some(observed) = observation.nodes.get(&target) else { continue };
        let memory = observed.info.memory;
        room.full.extend(rules.no_room(target, memory, bytes));
        let evicted = rules.evicted(memory, bytes);
        if evicted > 0 {
            room.evicted.insert(target, evicted);
        }
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::id;

    fn rules(full_target: FullTarget) -> RoomRules {
        RoomRules { limit_percent: 80, full_target }
    }

    fn memory(used: u64, max: u64, eviction: EvictionPolicy) -> MemoryUse {
        MemoryUse { used, max, eviction }
    }

    #[test]
    fn a_target_takes_what_stays_below_its_limit_with_it() {
        use EvictionPolicy::{AllKeys, NoEviction, Volatile};
        use FullTarget::{Evict, Refuse};
        for (full_target, eviction, max, takes) in [
            (Refuse, NoEviction, 1_000, 300),
            (Refuse, AllKeys, 1_000, 300),
            (Refuse, Volatile, 1_000, 300),
            (Refuse, NoEviction, 0, u64::MAX),
            // Only a cache drops whatever it likes: a store would refuse, or drop the keys that have a time to live.
            (Evict, AllKeys, 1_000, u64::MAX),
            (Evict, NoEviction, 1_000, 300),
            (Evict, Volatile, 1_000, 300),
        ] {
            let no_room = |bytes| rules(full_target).no_room(id("d"), memory(500, max, eviction), bytes).is_some();
            assert!(!no_room(takes), "{full_target:?} {eviction:?} {max}");
            assert!(takes == u64::MAX || no_room(takes + 1), "{full_target:?} {eviction:?} {max}");
        }
    }

    #[test]
    fn what_holds_no_key_needs_no_room() {
        assert_eq!(rules(FullTarget::Refuse).no_room(id("d"), memory(900, 1_000, EvictionPolicy::AllKeys), 0), None);
    }

    #[test]
    fn only_a_target_that_drops_keys_is_watched_while_it_takes_them() {
        let last = |full_target, eviction| rules(full_target).last_limit(memory(0, 1_000, eviction));
        assert_eq!(last(FullTarget::Refuse, EvictionPolicy::NoEviction), None);
        assert_eq!(last(FullTarget::Refuse, EvictionPolicy::Volatile), Some(900));
        assert_eq!(last(FullTarget::Refuse, EvictionPolicy::AllKeys), Some(900));
        assert_eq!(last(FullTarget::Evict, EvictionPolicy::AllKeys), None);
    }

    #[test]
    fn what_a_cache_may_drop_is_what_does_not_fit() {
        let evicted = |full_target, used| rules(full_target).evicted(memory(used, 1_000, EvictionPolicy::AllKeys), 400);
        assert_eq!(evicted(FullTarget::Evict, 900), 300);
        assert_eq!(evicted(FullTarget::Evict, 500), 0);
        assert_eq!(evicted(FullTarget::Refuse, 900), 0);
    }
}
