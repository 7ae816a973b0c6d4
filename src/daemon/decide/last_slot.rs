//! The last slot of a primary.
//!
//! A primary that loses it may turn itself into a replica of whoever took it, and its replicas with it, each with a full
//! synchronisation (`cluster-allow-replica-migration`, the servers' default). So one that is to own other slots keeps its
//! last one until they have come, and of those that are emptied one after the other gives its last one away.

use super::{Situation, Start};
use crate::cluster::{Finding, NodeId, Shard, SlotSet};
use crate::daemon::Reason;
use crate::plan::Plan;

/// What becomes of a move that may take its source's last slot.
pub(super) enum Parting {
    /// It may start, perhaps with the last slot kept back.
    Start(Start),
    /// Nothing of it may start before other moves have ended.
    Later,
    /// Nothing of it may start before this has passed.
    Waits(Reason),
}

/// Keeps the last slot of the move's source back where it may not go yet. `others` says whether a move of this very
/// decision takes the last slot of another primary.
pub(super) fn part(situation: &Situation<'_>, plan: &Plan, start: Start, others: bool) -> Parting {
    let source = start.pair.source;
    if !left_by(situation, source, &start.slots).is_empty() {
        return Parting::Start(start);
    }
    let is_emptied = !plan.layout.shards.iter().any(|shard| shard.primary == source && !shard.slots.is_empty());
    let goes_alone = start.slots.len() == 1 && !situation.running.iter().any(|running| running.pair.source == source);
    if is_emptied && goes_alone {
        return if others || takes_a_last_slot(situation) {
            Parting::Later
        } else {
            still_synchronising(situation, &start).map_or(Parting::Start(start), Parting::Waits)
        };
    }
    let last: SlotSet = start.slots.iter().last().into_iter().collect();
    let slots = start.slots.difference(&last);
    if slots.is_empty() { Parting::Later } else { Parting::Start(Start { slots, ..start }) }
}

/// Whether these slots, with what is running, are all that the source has.
pub(super) fn empties(situation: &Situation<'_>, start: &Start) -> bool {
    left_by(situation, start.pair.source, &start.slots).is_empty()
}

/// What a primary keeps when these slots, and those of its running moves, have gone.
fn left_by(situation: &Situation<'_>, source: NodeId, slots: &SlotSet) -> SlotSet {
    let held = situation.topology.shards.get(&source).map(|shard| shard.slots.clone()).unwrap_or_default();
    let running = situation.running.iter().filter(|running| running.pair.source == source);
    running.fold(held.difference(slots), |left, running| left.difference(&running.slots))
}

fn takes_a_last_slot(situation: &Situation<'_>) -> bool {
    situation.running.iter().any(|running| left_by(situation, running.pair.source, &running.slots).is_empty())
}

/// A replica of either shard that has not caught up: most likely the primary that gave its last slot away before.
fn still_synchronising(situation: &Situation<'_>, start: &Start) -> Option<Reason> {
    let shards = [start.pair.source, start.pair.target].map(|node| situation.topology.shards.get(&node));
    let has = |shard: &Shard, node: NodeId| shard.replicas.iter().any(|replica| replica.id == node);
    let concerned = |node: NodeId| shards.iter().flatten().any(|shard| has(shard, node));
    let unlinked = situation.topology.findings.iter().find_map(|finding| {
        let Finding::ReplicaUnlinked { replica } = finding else { return None };
        concerned(*replica).then_some(*replica)
    })?;
    let why = format!("its last slot waits until replica {} has synchronised", unlinked.short());
    Some(Reason::NodeNotUsable { node: start.pair.source, why })
}
