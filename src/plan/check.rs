//! Looks a plan over before anybody acts on it.
//!
//! Nothing here is shared with the planner but the types of its input and output: entries are bound, counts counted and
//! shares compared anew, each by the most direct way there is. A violation is a bug in one of the two, and a reason to
//! move nothing.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{NodeTarget, Plan, Policy, ShardInput, Verdict};
use crate::cluster::{NodeId, Slot, SlotSet};

/// A property that a plan should have and has not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A move, line or layout names a primary that is not in the cluster, or leaves one out.
    #[error("the plan does not describe the primaries of the cluster: {0}")]
    Shards(NodeId),
    /// A move goes to where it comes from, or moves nothing.
    #[error("the move from {0} is none")]
    NoMove(NodeId),
    /// A slot is in two moves.
    #[error("slot {0} moves twice")]
    MovedTwice(Slot),
    /// A slot is moved from a node that does not own it.
    #[error("slot {slot} is moved from {source_node}, which does not own it")]
    NotTheOwner {
        /// The slot.
        slot: Slot,
        /// The source that the move names.
        source_node: NodeId,
    },
    /// The layout is not what the moves lead to.
    #[error("the layout of {0} is not what the moves lead to")]
    Layout(NodeId),
    /// A line's numbers are not those of the layout.
    #[error("the line of {0} does not count what it holds")]
    Line(NodeId),
    /// The targets do not add up to the slots that have an owner.
    #[error("the targets add up to {sum} slots, not {assigned}")]
    Sum {
        /// What they add up to.
        sum: u64,
        /// Slots that have an owner.
        assigned: u64,
    },
    /// A shard's target is outside its bounds.
    #[error("the target of {0} is outside its bounds")]
    Bounds(NodeId),
    /// An ignored shard gives or takes.
    #[error("{0} is ignored but changes")]
    Ignored(NodeId),
    /// A drained shard keeps slots.
    #[error("{0} is drained but keeps slots")]
    Drained(NodeId),
    /// A pinned slot ends in the wrong place.
    #[error("slot {slot} belongs to {node} but ends elsewhere")]
    Pinned {
        /// The slot.
        slot: Slot,
        /// Where it belongs.
        node: NodeId,
    },
    /// A slot at `from` belongs at `to` by weight.
    #[error("{to} is further below its weight than {from}, which has a slot to spare")]
    Unfair {
        /// Who has too many.
        from: NodeId,
        /// Who has too few.
        to: NodeId,
    },
    /// A target is too far from the proportional share.
    #[error("the target of {0} is too far from its proportional share")]
    Share(NodeId),
    /// A shard that should be level after the moves is not.
    #[error("{0} does not end at its target")]
    NotLevel(NodeId),
    /// More slots move than the targets make necessary, or fewer.
    #[error("{moved} slots move, but it takes {needed}")]
    Needless {
        /// How many move.
        moved: u64,
        /// How many have to.
        needed: u64,
    },
    /// Nothing moves although something is beyond the limit, or something moves although nothing is.
    #[error("the verdict is wrong: whether to act is decided by {0}")]
    Verdict(NodeId),
    /// A move takes a slot that nobody asked for, or not to where it was asked for.
    #[error("slot {0} is moved though nobody asked")]
    Unasked(Slot),
}

/// What is wrong with a plan that [`super::plan`] made for these shards and this policy: nothing, if all is well.
pub fn check(before: &[ShardInput], policy: &Policy, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let after = carried_out(before, plan, &mut found);
    described(before, &after, plan, &mut found);
    let shards = wishes(before, policy, plan, &after);
    bounds(&shards, &mut found);
    fairness(&shards, &mut found);
    amounts(&shards, policy, plan, &mut found);
    found
}

/// What is wrong with a plan that [`super::explicit`] made to bring these slots to `to`.
pub fn check_explicit(before: &[ShardInput], slots: &SlotSet, to: NodeId, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    let after = carried_out(before, plan, &mut found);
    described(before, &after, plan, &mut found);
    let Some(shard) = before.iter().find(|shard| shard.members.iter().any(|member| member.id == to)) else {
        return vec![Violation::Shards(to)];
    };
    for m in &plan.moves {
        let strays = if m.target == shard.primary { m.slots.difference(slots) } else { m.slots.clone() };
        found.extend(strays.iter().map(Violation::Unasked));
    }
    for other in before.iter().filter(|other| other.primary != shard.primary) {
        let left =
            after.get(&other.primary).into_iter().flat_map(|held| held.intersection(slots).iter().collect::<Vec<_>>());
        found.extend(left.map(|slot| Violation::Pinned { slot, node: shard.primary }));
    }
    found
}

type Holdings = BTreeMap<NodeId, SlotSet>;

/// Who holds what once the moves are done one after the other.
fn carried_out(before: &[ShardInput], plan: &Plan, found: &mut Vec<Violation>) -> Holdings {
    let mut holdings: Holdings = before.iter().map(|shard| (shard.primary, shard.slots.clone())).collect();
    let mut moved = SlotSet::new();
    for m in &plan.moves {
        if m.source == m.target || m.slots.is_empty() {
            found.push(Violation::NoMove(m.source));
        }
        for slot in m.slots.iter() {
            if !moved.insert(slot) {
                found.push(Violation::MovedTwice(slot));
            }
            if !holdings.get_mut(&m.source).is_some_and(|held| held.remove(slot)) {
                found.push(Violation::NotTheOwner { slot, source_node: m.source });
            }
            match holdings.get_mut(&m.target) {
                Some(held) => _ = held.insert(slot),
                None => found.push(Violation::Shards(m.target)),
            }
        }
    }
    holdings
}

/// Whether lines and layout say what the moves do.
fn described(before: &[ShardInput], after: &Holdings, plan: &Plan, found: &mut Vec<Violation>) {
    let mut named = BTreeSet::new();
    for (line, layout) in plan.lines.iter().zip(&plan.layout.shards) {
        let shard = before.iter().find(|shard| shard.primary == line.primary);
        let (Some(shard), Some(held)) = (shard, after.get(&line.primary)) else {
            found.push(Violation::Shards(line.primary));
            continue;
        };
        named.insert(line.primary);
        if layout.primary != line.primary || layout.slots != *held {
            found.push(Violation::Layout(line.primary));
        }
        let emptied = !shard.slots.is_empty() && held.is_empty();
        if line.now as usize != shard.slots.len()
            || line.after as usize != held.len()
            || line.target != layout.target
            || line.emptied != emptied
        {
            found.push(Violation::Line(line.primary));
        }
    }
    found.extend(after.keys().filter(|primary| !named.contains(primary)).map(|primary| Violation::Shards(*primary)));
}

/// One shard with what the policy asks of it and what the plan makes of it. All counts are slots.
struct Wish<'a> {
    primary: NodeId,
    before: &'a SlotSet,
    after: &'a SlotSet,
    target: u64,
    weight: f64,
    drain: bool,
    ignore: bool,
    min: u64,
    max: u64,
    pinned: SlotSet,
}

fn wishes<'a>(before: &'a [ShardInput], policy: &Policy, plan: &Plan, after: &'a Holdings) -> Vec<Wish<'a>> {
    let assigned = before.iter().fold(SlotSet::new(), |all, shard| all.union(&shard.slots));
    let targets: BTreeMap<NodeId, u32> = plan.lines.iter().map(|line| (line.primary, line.target)).collect();
    let entry_of = |shard: &ShardInput| -> Option<&NodeTarget> {
        policy.nodes.iter().find(|entry| shard.members.iter().any(|member| entry.node.names(member)))
    };
    before
        .iter()
        .filter_map(|shard| {
            let entry = entry_of(shard);
            Some(Wish {
                primary: shard.primary,
                before: &shard.slots,
                after: after.get(&shard.primary)?,
                target: u64::from(*targets.get(&shard.primary)?),
                weight: entry.and_then(|entry| entry.weight).unwrap_or(policy.default_weight),
                drain: entry.is_some_and(|entry| entry.drain),
                ignore: entry.is_some_and(|entry| entry.ignore),
                min: entry.and_then(|entry| entry.min_slots).map_or(0, u64::from),
                max: entry.and_then(|entry| entry.max_slots).map_or(Slot::COUNT as u64, u64::from),
                pinned: entry.map_or_else(SlotSet::new, |entry| entry.slots.intersection(&assigned)),
            })
        })
        .collect()
}

impl Wish<'_> {
    /// The shard takes part in the sharing out.
    fn shares(&self) -> bool {
        !self.drain && !self.ignore
    }

    /// It could do with one slot less, or one more, as far as its bounds go.
    fn can_give(&self) -> bool {
        self.shares() && self.target > self.min.max(self.pinned.len() as u64)
    }

    fn can_take(&self) -> bool {
        self.shares() && self.weight > 0.0 && self.target < self.max
    }
}

/// Targets and outcomes against drain, ignore, bounds and pinned slots.
fn bounds(shards: &[Wish<'_>], found: &mut Vec<Violation>) {
    let sum = shards.iter().map(|shard| shard.target).sum();
    let assigned = shards.iter().map(|shard| shard.before.len() as u64).sum();
    if sum != assigned {
        found.push(Violation::Sum { sum, assigned });
    }
    for shard in shards {
        let node = shard.primary;
        if shard.ignore && (shard.before != shard.after || shard.target != shard.before.len() as u64) {
            found.push(Violation::Ignored(node));
        }
        if shard.drain && (!shard.after.is_empty() || shard.target != 0) {
            found.push(Violation::Drained(node));
        }
        let least = shard.min.max(shard.pinned.len() as u64);
        if shard.shares() && !(least..=shard.max).contains(&shard.target) {
            found.push(Violation::Bounds(node));
        }
        let astray = shard.pinned.difference(shard.after);
        found.extend(astray.iter().map(|slot| Violation::Pinned { slot, node }));
    }
}

/// Whether the targets follow the weights.
///
/// No slot could change its target shard and be nearer to its weight there: for all shards `a` that could give and `b`
/// that could take, `a`'s weight over (2·target - 1) is at least `b`'s over (2·target + 1). That inequality is what
/// defines the division, bounds and all. Without bounds, each target is moreover within (1 + r)/2 slots of the
/// proportional share, r being the weight over the average weight: within one slot when all weights are equal.
#[expect(clippy::cast_precision_loss, reason = "counts of slots")]
fn fairness(shards: &[Wish<'_>], found: &mut Vec<Violation>) {
    // Weights count to the millionth in the plan; the slack covers that and the rounding of the floats here.
    let slack = 1.0 + 1e-9;
    let spare = |shard: &Wish<'_>| (shard.weight + 5e-7) / (2 * shard.target - 1) as f64;
    let claim = |shard: &Wish<'_>| (shard.weight - 5e-7) / (2 * shard.target + 1) as f64;
    let from = shards.iter().filter(|shard| shard.can_give()).min_by(|a, b| spare(a).total_cmp(&spare(b)));
    let to = shards.iter().filter(|shard| shard.can_take()).max_by(|a, b| claim(a).total_cmp(&claim(b)));
    if let (Some(from), Some(to)) = (from, to)
        && from.primary != to.primary
        && spare(from) * slack < claim(to)
    {
        found.push(Violation::Unfair { from: from.primary, to: to.primary });
    }
    let bounded = |shard: &Wish<'_>| shard.min > 0 || shard.max < Slot::COUNT as u64 || !shard.pinned.is_empty();
    let sharing: Vec<_> = shards.iter().filter(|shard| shard.shares()).collect();
    let weights: f64 = sharing.iter().map(|shard| shard.weight).sum();
    if sharing.iter().any(|shard| bounded(shard)) || weights <= 0.0 {
        return;
    }
    let slots: u64 = sharing.iter().map(|shard| shard.target).sum();
    for shard in &sharing {
        let share = slots as f64 * shard.weight / weights;
        let heavier = shard.weight * sharing.len() as f64 / weights;
        // A millionth of weight is worth little, but not nothing, among very small weights.
        let rounding = 1e-6 * slots as f64 * sharing.len() as f64 / weights;
        if (shard.target as f64 - share).abs() > f64::midpoint(1.0, heavier) + rounding + 1e-6 {
            found.push(Violation::Share(shard.primary));
        }
    }
}

/// Whether the plan acts when it has to, levels when it acts, and moves no more than it must.
#[expect(clippy::cast_precision_loss, reason = "counts of slots")]
fn amounts(shards: &[Wish<'_>], policy: &Policy, plan: &Plan, found: &mut Vec<Violation>) {
    let must_act = |shard: &&Wish<'_>| {
        let (now, off) = (shard.before.len() as u64, (shard.before.len() as u64).abs_diff(shard.target));
        let too_far = off > 0
            && off >= u64::from(policy.threshold_slots)
            && off as f64 * 100.0 > policy.threshold_percent * shard.target as f64;
        let settled = shard.shares() && (now < shard.min || now > shard.max || (shard.weight <= 0.0 && off > 0));
        let empty = now == 0 && shard.target > 0;
        let astray = !shard.pinned.difference(shard.before).is_empty();
        too_far || settled || empty || astray || (shard.drain && now > 0)
    };
    let acts = matches!(plan.verdict, Verdict::Moves { .. });
    match shards.iter().find(must_act) {
        Some(shard) if !acts => found.push(Violation::Verdict(shard.primary)),
        None if acts || !plan.moves.is_empty() => {
            found.extend(plan.lines.first().map(|line| Violation::Verdict(line.primary)));
        }
        Some(_) | None => {}
    }
    if !acts {
        return;
    }
    let off = shards.iter().filter(|shard| shard.after.len() as u64 != shard.target);
    found.extend(off.map(|shard| Violation::NotLevel(shard.primary)));
    // Every pinned slot that is astray has to come home; what a shard then has too many has to leave it.
    let pinned = shards.iter().fold(SlotSet::new(), |all, shard| all.union(&shard.pinned));
    let needed = shards.iter().map(|shard| {
        let home = shard.pinned.difference(shard.before).len() as u64;
        let lost = shard.before.intersection(&pinned).difference(&shard.pinned).len() as u64;
        home + (shard.before.len() as u64 + home - lost).saturating_sub(shard.target)
    });
    let needed = needed.sum();
    let moved = plan.moves.iter().map(|m| m.slots.len() as u64).sum();
    if moved != needed {
        found.push(Violation::Needless { moved, needed });
    }
}
