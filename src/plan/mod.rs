//! From policy and shards to the fewest moves.
//!
//! [`plan`] binds each target entry to a shard, works out how many slots every shard should hold, decides whether the
//! cluster is far enough from that to act, and if so names the moves. [`explicit`] plans for slots that somebody named,
//! whatever the targets say. [`check`] looks a plan over without sharing any code with the planner, and [`report`] tells
//! a person about it.
//!
//! What holds for every plan (and is checked): a slot moves once at most; moves are as few as the targets allow; a plan
//! for a cluster that a plan has just been carried out on is empty; adding or draining a shard in a level cluster moves
//! nothing between the others, except where a `slots` entry wants it; a failover by itself changes nothing but the ids
//! that the moves name; the same input gives the same plan.
//!
//! Not here: whether a plan may be carried out now, how slots are carried, and clusters with slots that nobody owns
//! (those slots are left alone and reported in [`Plan::unassigned`]).

mod bind;
mod board;
pub mod check;
mod fault;
mod input;
mod outcome;
#[cfg(test)]
mod properties;
mod quota;
mod ranges;
pub mod report;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use bind::resolve;
pub use fault::{Conflict, Infeasible, TargetFault};
pub use input::{IdPrefix, Member, NodeName, NodeNameError, NodeTarget, Policy, ShardInput};
pub use outcome::{Deviation, Layout, Limit, Line, Move, Part, Plan, ShardLayout, Trigger, Verdict, Why};

use bind::Demand;
use board::Board;

use crate::cluster::{NodeId, SlotSet};

/// The fewest moves that bring the shards to what the policy asks, or every fault in its targets.
///
/// "Trigger wide, fix tight": nothing moves while every shard is within the thresholds; once one is not, all are
/// levelled exactly. Drained slots, pinned slots in the wrong place, a shard with a target but no slots, and a shard
/// outside its bounds are put right whatever the thresholds.
pub fn plan(shards: &[ShardInput], policy: &Policy) -> Result<Plan, Vec<TargetFault>> {
    let before = Board::new(shards);
    let demands = bind::demands(&before, policy)?;
    let mut after = before.clone();
    place_pinned(&mut after, &demands);
    let targets = quota::targets(&demands, &after.counts(), after.assigned());
    let verdict = verdict(&before, &demands, &targets, policy);
    match verdict {
        Verdict::Moves { .. } => level(&mut after, &demands, &targets),
        Verdict::Balanced { .. } | Verdict::AlreadyThere | Verdict::Asked => after = before.clone(),
    }
    let wanted_at: Vec<&SlotSet> = demands.iter().map(|demand| &demand.pinned).collect();
    let moves = before.moves_to(&after, |slot, source, target| {
        if wanted_at[target].contains(slot) {
            Why::Pinned
        } else if demands[source].part == Part::Drained {
            Why::Drain
        } else {
            Why::Level
        }
    });
    let parts = demands.iter().map(|demand| (demand.part, count(&demand.pinned)));
    Ok(describe(&before, &after, &targets, parts, moves, verdict))
}

/// Moves exactly the slots that are named, from whoever owns them to the shard of node `to`; everything else stays.
///
/// Slots that are there already, or that nobody owns, are left alone. Fails when no shard has a node of that id.
pub fn explicit(shards: &[ShardInput], slots: &SlotSet, to: NodeId) -> Result<Plan, TargetFault> {
    let primary = resolve(shards, &NodeName::Id(to))?;
    let before = Board::new(shards);
    let mut after = before.clone();
    if let Some(target) = before.shards.iter().position(|shard| shard.primary == primary) {
        for slot in slots.intersection(&before.owned()).iter() {
            after.give(slot, target);
        }
    }
    let moves = before.moves_to(&after, |_, _, _| Why::Asked);
    let verdict = if moves.is_empty() { Verdict::AlreadyThere } else { Verdict::Asked };
    let parts = before.shards.iter().map(|_| (Part::Unasked, 0));
    Ok(describe(&before, &after, &after.counts(), parts, moves, verdict))
}

/// Puts every pinned slot where it belongs.
fn place_pinned(board: &mut Board<'_>, demands: &[Demand]) {
    for (at, demand) in demands.iter().enumerate() {
        for slot in demand.pinned.iter() {
            board.give(slot, at);
        }
    }
}

/// Whether anything is off by enough to act.
fn verdict(before: &Board<'_>, demands: &[Demand], targets: &[u32], policy: &Policy) -> Verdict {
    let limit = Limit { percent: policy.threshold_percent, slots: policy.threshold_slots };
    let holdings = before.holdings();
    let mut triggers = Vec::new();
    let mut deviations = Vec::new();
    let mut unexplained = Vec::new();
    for (at, shard) in before.shards.iter().enumerate() {
        let (demand, node, now, target) = (&demands[at], shard.primary, count(&holdings[at]), targets[at]);
        let misplaced = demand.pinned.difference(&holdings[at]);
        let others = triggers.len();
        if demand.part == Part::Drained && now > 0 {
            triggers.push(Trigger::Drained { node, now });
        } else if now == 0 && target > 0 {
            triggers.push(Trigger::Empty { node, target });
        } else if misplaced.is_empty() && (now < demand.min || now > demand.max) {
            let bound = if now < demand.min { demand.min } else { demand.max };
            triggers.push(Trigger::OutOfBounds { node, now, bound });
        }
        if !misplaced.is_empty() {
            triggers.push(Trigger::Misplaced { node, slots: misplaced });
        }
        if now != target {
            let deviation = Deviation { node, now, target };
            deviations.push(deviation);
            // A shard that is named for a better reason is not called too far off as well.
            if triggers.len() == others && deviation.exceeds(limit) {
                unexplained.push(deviation);
            }
        }
    }
    triggers.extend(worst(unexplained).map(|worst| Trigger::TooFar { worst, limit }));
    if triggers.is_empty() {
        Verdict::Balanced { worst: worst(deviations), limit }
    } else {
        Verdict::Moves { triggers }
    }
}

/// The one furthest off; of equals the first, which has the least key (`max_by` would give the last).
fn worst(deviations: Vec<Deviation>) -> Option<Deviation> {
    deviations.into_iter().reduce(|worst, other| if other.compare(&worst).is_gt() { other } else { worst })
}

/// Brings every shard to its target, once the pinned slots are in place.
fn level(board: &mut Board<'_>, demands: &[Demand], targets: &[u32]) {
    let held = board.counts();
    let surplus = held.iter().zip(targets).map(|(held, target)| held.saturating_sub(*target)).collect();
    let deficit = held.iter().zip(targets).map(|(held, target)| target.saturating_sub(*held)).collect();
    let mut pinned = SlotSet::new();
    for demand in demands {
        pinned = pinned.union(&demand.pinned);
    }
    ranges::level(board, &pinned, surplus, deficit);
}

fn describe(
    before: &Board<'_>,
    after: &Board<'_>,
    targets: &[u32],
    parts: impl Iterator<Item = (Part, u32)>,
    moves: Vec<Move>,
    verdict: Verdict,
) -> Plan {
    let holdings = after.holdings();
    let counts = before.counts();
    let mut lines = Vec::with_capacity(counts.len());
    let mut layout = Vec::with_capacity(counts.len());
    for (at, ((shard, slots), (part, pinned))) in before.shards.iter().zip(holdings).zip(parts).enumerate() {
        let (now, after) = (counts[at], count(&slots));
        lines.push(Line {
            primary: shard.primary,
            address: shard.address().cloned(),
            now,
            target: targets[at],
            after,
            pinned,
            part,
            emptied: now > 0 && after == 0,
        });
        layout.push(ShardLayout { primary: shard.primary, target: targets[at], slots });
    }
    Plan {
        moves,
        layout: Layout { shards: layout },
        lines,
        verdict,
        unassigned: SlotSet::full().difference(&before.owned()),
        under_way: SlotSet::new(),
        ranges_now: before.ranges(),
        ranges_after: after.ranges(),
    }
}

/// How many slots are in the set, in the width that plans count in.
fn count(slots: &SlotSet) -> u32 {
    u32::try_from(slots.len()).expect("a set holds at most 16,384 slots")
}
