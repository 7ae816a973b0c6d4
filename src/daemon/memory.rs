//! What can only be judged from several looks: whether the cluster has settled, whether somebody else moves slots, and
//! how long an open slot has been left alone.
//!
//! Pure: the time comes in with each look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lineage::Lineage;
use crate::cluster::{NodeId, OpenSlot, Slot, SlotSet, Topology};

/// Looks closer together than this count as one: an epoch that moves is seen to move only after a while. A little less
/// than the second that is meant, because a look begins when the one before it has ended.
const APART: Duration = Duration::from_millis(950);

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Memory {
    settled: u32,
    /// When the last look was that counted towards `settled`.
    counted: Option<Instant>,
    primaries: BTreeSet<NodeId>,
    epoch: u64,
    last: Option<Arc<Topology>>,
    last_foreign_sign: Option<Instant>,
    foreign: BTreeMap<Slot, Foreign>,
    lineage: Lineage,
}

/// An open slot that is not ours.
#[derive(Debug)]
struct Foreign {
    marks: OpenSlot,
    /// Moving commands of both ends so far.
    calls: u64,
    /// When it was first seen like this.
    since: Instant,
}

/// One look, judged.
pub(super) struct Seen<'a> {
    pub(super) at: Instant,
    pub(super) topology: &'a Arc<Topology>,
    pub(super) mover_calls: &'a BTreeMap<NodeId, u64>,
    /// Slots that moves of ours touched since the look before began.
    pub(super) touched: &'a SlotSet,
    /// Open slots that are ours.
    pub(super) ours: &'a SlotSet,
}

impl Memory {
    /// Takes a look in.
    pub(super) fn on_look(&mut self, seen: &Seen<'_>) {
        let primaries: BTreeSet<NodeId> = seen.topology.shards.keys().copied().collect();
        // Our own finalises bump epochs.
        let same_epoch = self.epoch == seen.topology.current_epoch() || !seen.touched.is_empty();
        let same = self.last.is_some() && same_epoch && self.primaries == primaries;
        let apart = self.counted.is_none_or(|counted| seen.at.saturating_duration_since(counted) >= APART);
        if !same || apart {
            self.settled = if same { self.settled.saturating_add(1) } else { 1 };
            self.counted = Some(seen.at);
        }
        (self.primaries, self.epoch) = (primaries, seen.topology.current_epoch());
        if self.last.as_ref().is_some_and(|last| moved_by_others(last, seen)) {
            self.last_foreign_sign = Some(seen.at);
        }
        self.watch_foreign(seen);
        self.lineage.on_look(seen.topology);
        self.last = Some(Arc::clone(seen.topology));
    }

    fn watch_foreign(&mut self, seen: &Seen<'_>) {
        let mut before = std::mem::take(&mut self.foreign);
        for (&slot, marks) in &seen.topology.open {
            if seen.ours.contains(slot) || seen.touched.contains(slot) {
                continue;
            }
            let holders = marks.migrating.iter().chain(&marks.importing).flat_map(|&(at, other)| [at, other]);
            let holders: BTreeSet<NodeId> = holders.collect();
            let calls = holders.iter().filter_map(|node| seen.mover_calls.get(node)).sum();
            let foreign = match before.remove(&slot) {
                Some(known) if known.marks == *marks && known.calls == calls => known,
                Some(_) => {
                    self.last_foreign_sign = Some(seen.at);
                    Foreign { marks: marks.clone(), calls, since: seen.at }
                }
                // Seen for the first time: it may have been there for days.
                None => Foreign { marks: marks.clone(), calls, since: seen.at },
            };
            self.foreign.insert(slot, foreign);
        }
        // One that was open and is closed now was somebody's work.
        if before.keys().any(|slot| !seen.topology.open.contains_key(slot) && !seen.touched.contains(*slot)) {
            self.last_foreign_sign = Some(seen.at);
        }
    }

    /// Who took over from whom.
    pub(super) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// What a record of an earlier process says of a primary's replicas.
    pub(super) fn remember_replicas(&mut self, primary: NodeId, replicas: &[NodeId]) {
        self.lineage.remember(primary, replicas.iter().copied().collect());
    }

    /// Takes in who has which replicas now, before anything is judged.
    pub(super) fn look_back(&mut self, topology: &Topology) {
        self.lineage.on_look(topology);
    }

    /// Looks in a row, a second or more apart, that saw the same primaries at the same epoch.
    pub(super) fn settled(&self) -> u32 {
        self.settled
    }

    /// How long it still is until the last sign of somebody else's moves is `quiet` ago.
    pub(super) fn quiet_in(&self, now: Instant, quiet: Duration) -> Option<Duration> {
        let left = quiet.saturating_sub(now.saturating_duration_since(self.last_foreign_sign?));
        (!left.is_zero()).then_some(left)
    }

    /// The open slots that are not ours, and how long nobody has touched them.
    pub(super) fn foreign(&self, now: Instant) -> impl Iterator<Item = (Slot, Duration)> + '_ {
        self.foreign.iter().map(move |(&slot, foreign)| (slot, now.saturating_duration_since(foreign.since)))
    }
}

/// An owner changed without a move of ours and without a failover.
fn moved_by_others(last: &Topology, seen: &Seen<'_>) -> bool {
    Slot::all().filter(|slot| !seen.touched.contains(*slot)).any(|slot| {
        match (last.owner(slot), seen.topology.owner(slot)) {
            (Some(before), Some(now)) if before != now => !same_shard(last, seen.topology, before, now),
            (Some(_) | None, Some(_) | None) => false,
        }
    })
}

fn same_shard(last: &Topology, now: &Topology, before: NodeId, after: NodeId) -> bool {
    let joined = |topology: &Topology| {
        topology.shard_of(after).is_some_and(|shard| {
            shard.primary.id == before || shard.replicas.iter().any(|replica| replica.id == before)
        })
    };
    joined(last) || joined(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{id, observation};

    const QUIET: Duration = Duration::from_secs(30);

    /// Looks one after the other, a second apart; whether the last one shows somebody else's hand.
    fn foreign_hand(stories: &[&str], touched: &str) -> bool {
        let mut memory = Memory::default();
        let began = Instant::now();
        let mut at = began;
        for story in stories {
            at += Duration::from_secs(1);
            look(&mut memory, at, story, touched, 0);
        }
        memory.quiet_in(at, QUIET).is_some()
    }

    fn look(memory: &mut Memory, at: Instant, story: &str, touched: &str, calls: u64) {
        let touched = touched.parse().unwrap();
        let topology = Arc::new(Topology::merge(&observation(story), &touched));
        let mover_calls = BTreeMap::from([(id("a"), calls)]);
        let ours = SlotSet::new();
        memory.on_look(&Seen { at, topology: &topology, mover_calls: &mover_calls, touched: &touched, ours: &ours });
    }

    #[test]
    fn an_owner_that_changes_without_us_is_somebody_elses_hand() {
        let (before, after) = ("a 0-8191\nb 8192-16383", "a 0-8190\nb 8191-16383");
        assert!(foreign_hand(&[before, after], ""));
        assert!(!foreign_hand(&[before, after], "8191"), "our own move");
        assert!(!foreign_hand(&[before, before], ""));
    }

    #[test]
    fn a_failover_is_nobodys_move() {
        assert!(!foreign_hand(&["a 0-8191\na1 of a\nb 8192-16383", "a of a1\na1 0-8191\nb 8192-16383"], ""));
    }

    #[test]
    fn a_slot_that_opens_and_closes_without_us_is_somebody_elses_hand() {
        let open = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]";
        assert!(foreign_hand(&[open, "a 0-8191\nb 8192-16383"], ""));
        assert!(!foreign_hand(&[open, open], ""), "it may have been open for days");
    }

    #[test]
    fn an_open_slot_is_left_alone_from_the_last_change_of_its_marks_or_its_ends_counters() {
        let story = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]";
        let began = Instant::now();
        let seconds = Duration::from_secs;
        let mut memory = Memory::default();
        let untouched = |memory: &Memory, at| memory.foreign(at).map(|(_, untouched)| untouched).collect::<Vec<_>>();
        look(&mut memory, began, story, "", 7);
        look(&mut memory, began + seconds(9), story, "", 7);
        assert_eq!(untouched(&memory, began + seconds(9)), [seconds(9)]);
        look(&mut memory, began + seconds(10), story, "", 8);
        assert_eq!(untouched(&memory, began + seconds(12)), [seconds(2)]);
        assert!(memory.quiet_in(began + seconds(12), QUIET).is_some());
    }

    #[test]
    fn the_cluster_settles_with_looks_that_see_the_same_primaries_at_the_same_epoch() {
        let mut memory = Memory::default();
        let mut at = Instant::now();
        for (story, settled) in [
            ("a 0-16383", 1),
            ("a 0-16383", 2),
            ("a 0-16383\nb", 1),
            ("a 0-16383\nb", 2),
            ("a 0-16383 epoch=10\nb\na info cluster_current_epoch:10\nb info cluster_current_epoch:10", 1),
        ] {
            look(&mut memory, at, story, "", 0);
            look(&mut memory, at + Duration::from_millis(100), story, "", 0);
            assert_eq!(memory.settled(), settled, "{story}");
            at += Duration::from_secs(1);
        }
    }
}
