//! From target entries to demands: each entry is bound to the shard of the node that it names, and what the entries ask
//! is checked against one another and against the cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::board::Board;
use super::{Conflict, Infeasible, NodeName, NodeTarget, Part, Policy, ShardInput, TargetFault, count};
use crate::cluster::{NodeId, SlotSet};

/// A weight in millionths, so that shares are compared exactly: 0.1 + 0.2 is 0.3 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight(pub(super) u64);

/// What is asked of one shard. `min` is never above `max`; both are met by the number of slots that there are.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) part: Part,
    pub(super) weight: Weight,
    /// The fewest slots: the entry's minimum or its pinned slots, whichever is more. An ignored shard's own count.
    pub(super) min: u32,
    /// The most slots. Equal to `min` where the weight is 0.
    pub(super) max: u32,
    /// The slots that belong here and have an owner. One without an owner cannot be moved.
    pub(super) pinned: SlotSet,
}

/// The primary of the shard that a name means.
///
/// Fails with [`TargetFault::TargetUnmatched`] or [`TargetFault::TargetAmbiguous`].
pub fn resolve(shards: &[ShardInput], name: &NodeName) -> Result<NodeId, TargetFault> {
    find(&shards.iter().collect::<Vec<_>>(), name).map(|at| shards[at].primary)
}

/// The index of the shard that a name means.
fn find(shards: &[&ShardInput], name: &NodeName) -> Result<usize, TargetFault> {
    let mut found = BTreeSet::new();
    let mut candidates = BTreeSet::new();
    for (at, shard) in shards.iter().enumerate() {
        for member in shard.members.iter().filter(|member| name.names(member)) {
            found.insert(at);
            candidates.insert(member.id);
        }
        if *name == NodeName::Id(shard.primary) {
            found.insert(at);
        }
    }
    match (found.first(), found.len()) {
        (Some(&at), 1) => Ok(at),
        (None, _) => Err(TargetFault::TargetUnmatched { node: name.clone() }),
        (Some(_), _) => {
            Err(TargetFault::TargetAmbiguous { node: name.clone(), candidates: candidates.into_iter().collect() })
        }
    }
}

/// What is asked of each shard of the board, or everything that is wrong with the targets.
pub(super) fn demands(board: &Board<'_>, policy: &Policy) -> Result<Vec<Demand>, Vec<TargetFault>> {
    let mut faults = Vec::new();
    let holdings = board.holdings();
    let owned = board.owned();
    let entries = bind(board, policy, &mut faults);
    check_pins(board, &holdings, &entries, &mut faults);
    let default = weight(None, policy.default_weight, &mut faults);
    let demand_of = |(entry, held): (Option<&NodeTarget>, &SlotSet)| match entry {
        Some(entry) => demand(entry, held, &owned, default, &mut faults),
        None => Demand::sharing(default, 0, count(&owned), SlotSet::new()),
    };
    let demands: Vec<Demand> = entries.iter().copied().zip(&holdings).map(demand_of).collect();
    // The sums mean nothing while an entry is missing from them.
    if faults.is_empty() {
        faults.extend(sums(count(&owned), &demands).map(TargetFault::from));
    }
    if faults.is_empty() { Ok(demands) } else { Err(faults) }
}

/// The entry of each shard.
fn bind<'p>(board: &Board<'_>, policy: &'p Policy, faults: &mut Vec<TargetFault>) -> Vec<Option<&'p NodeTarget>> {
    let mut bound: Vec<Option<&NodeTarget>> = vec![None; board.shards.len()];
    for entry in &policy.nodes {
        let at = match find(&board.shards, &entry.node) {
            Ok(at) => at,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        match bound[at] {
            None => bound[at] = Some(entry),
            Some(first) if NodeTarget { node: first.node.clone(), ..entry.clone() } == *first => {}
            Some(first) => faults.push(TargetFault::from(Conflict::EntriesDiffer {
                first: first.node.clone(),
                second: entry.node.clone(),
                primary: board.shards[at].primary,
            })),
        }
    }
    bound
}

/// Finds slots that are wanted in two places, or that an ignored shard would have to give or take.
fn check_pins(board: &Board<'_>, holdings: &[SlotSet], entries: &[Option<&NodeTarget>], faults: &mut Vec<TargetFault>) {
    let mut wanted: BTreeMap<_, usize> = BTreeMap::new();
    let mut twice: BTreeMap<(usize, usize), SlotSet> = BTreeMap::new();
    let mut ignored: BTreeMap<(usize, usize), SlotSet> = BTreeMap::new();
    let bound = || entries.iter().enumerate().filter_map(|(at, entry)| entry.map(|entry| (at, entry)));
    let name = |at: usize| entries[at].map(|entry| entry.node.clone());
    for (at, entry) in bound() {
        for slot in entry.slots.iter() {
            if let Some(first) = wanted.insert(slot, at) {
                twice.entry((first, at)).or_default().insert(slot);
            }
            let Some(owner) = board.owner(slot).filter(|&owner| owner != at) else { continue };
            if entries[owner].is_some_and(|entry| entry.ignore) {
                ignored.entry((at, owner)).or_default().insert(slot);
            }
        }
        let lacks = entry.slots.difference(&holdings[at]);
        if entry.ignore && !lacks.is_empty() {
            faults.push(Conflict::IgnoredWants { node: entry.node.clone(), slots: lacks }.into());
        }
        if entry.ignore && entry.drain {
            faults.push(Conflict::DrainedAndIgnored { node: entry.node.clone() }.into());
        }
    }
    for ((first, second), slots) in twice {
        let (Some(first), Some(second)) = (name(first), name(second)) else { continue };
        faults.push(Conflict::SlotsWantedTwice { first, second, slots }.into());
    }
    for ((node, ignored), slots) in ignored {
        let (Some(node), Some(ignored)) = (name(node), name(ignored)) else { continue };
        faults.push(Conflict::SlotsAtIgnored { node, ignored, slots }.into());
    }
}

fn demand(
    entry: &NodeTarget,
    held: &SlotSet,
    owned: &SlotSet,
    default: Weight,
    faults: &mut Vec<TargetFault>,
) -> Demand {
    faults.extend(own_faults(entry).map(TargetFault::from));
    let weight = entry.weight.map_or(default, |given| weight(Some(&entry.node), given, faults));
    let pinned = entry.slots.intersection(owned);
    if entry.ignore {
        let held = count(held);
        return Demand { part: Part::Ignored, weight: Weight(0), min: held, max: held, pinned };
    }
    if entry.drain {
        return Demand { part: Part::Drained, weight: Weight(0), min: 0, max: 0, pinned: SlotSet::new() };
    }
    let min = entry.min_slots.unwrap_or(0).max(count(&pinned));
    let max = entry.max_slots.map_or(count(owned), |max| max.min(count(owned)));
    Demand::sharing(weight, min, max, pinned)
}

impl Demand {
    fn sharing(weight: Weight, min: u32, max: u32, pinned: SlotSet) -> Self {
        let max = if weight.0 == 0 { min } else { max };
        Self { part: Part::Shares { weight: weight.as_f64() }, weight, min, max, pinned }
    }
}

/// What an entry asks that cannot be, whatever the cluster looks like.
fn own_faults(entry: &NodeTarget) -> impl Iterator<Item = Infeasible> {
    let node = || entry.node.clone();
    let pinned = count(&entry.slots);
    let drained_wants =
        (entry.drain && pinned > 0).then(|| Infeasible::DrainedWants { node: node(), slots: entry.slots.clone() });
    let drained_minimum = entry
        .min_slots
        .filter(|&min| entry.drain && min > 0)
        .map(|min| Infeasible::DrainedMinimum { node: node(), min });
    let crossed = entry
        .min_slots
        .zip(entry.max_slots)
        .filter(|(min, max)| min > max)
        .map(|(min, max)| Infeasible::MinimumOverMaximum { node: node(), min, max });
    let pinned_over = entry.max_slots.filter(|&max| pinned > max).map(|max| Infeasible::PinnedOverMaximum {
        node: node(),
        pinned,
        max,
    });
    [drained_wants, drained_minimum, crossed, pinned_over].into_iter().flatten()
}

/// Whether the bounds leave room for exactly the slots that there are.
fn sums(available: u32, demands: &[Demand]) -> Option<Infeasible> {
    let needed: u64 = demands.iter().map(|demand| u64::from(demand.min)).sum();
    let allowed: u64 = demands.iter().map(|demand| u64::from(demand.max)).sum();
    if needed > u64::from(available) {
        return Some(Infeasible::Minimums { needed, available });
    }
    if allowed >= u64::from(available) {
        return None;
    }
    let slots = available - u32::try_from(allowed).unwrap_or(available);
    let mut shares = demands.iter().filter(|demand| matches!(demand.part, Part::Shares { .. })).peekable();
    Some(if shares.peek().is_none() {
        Infeasible::EverythingDrained { slots }
    } else if shares.all(|demand| demand.weight.0 == 0) {
        Infeasible::AllWeightsZero { slots }
    } else {
        Infeasible::Maximums { allowed, available }
    })
}

/// A weight that is greater than 0 counts as a millionth at least.
fn weight(node: Option<&NodeName>, given: f64, faults: &mut Vec<TargetFault>) -> Weight {
    if !(0.0..=Policy::MAX_WEIGHT).contains(&given) {
        faults.push(Infeasible::Weight { node: node.cloned(), weight: given }.into());
        return Weight(0);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10^12, just checked")]
    let millionths = (given * 1e6).round() as u64;
    Weight(millionths.max(u64::from(given > 0.0)))
}

impl Weight {
    fn as_f64(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 10^12, which a float holds exactly")]
        let millionths = self.0 as f64;
        millionths / 1e6
    }
}
