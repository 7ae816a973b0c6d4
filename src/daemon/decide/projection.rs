//! The plan on the projected layout: the cluster as it will be once everything that is under way has arrived.

use super::{Goal, Situation};
use crate::cluster::{Failing, NodeId, Shard, SlotSet, Topology};
use crate::daemon::Reason;
use crate::daemon::drains::empties;
use crate::daemon::failpoints;
use crate::plan::{self, Member, NodeName, NodeTarget, Plan, ShardInput};

/// The plan for the cluster as it will be once the running moves are done, looked over by a checker that shares no code
/// with the planner. What its lines say of now is what the nodes own now.
pub(super) fn make_plan(situation: &Situation<'_>) -> Result<Option<Plan>, Vec<Reason>> {
    if !situation.topology.unclear.is_empty() {
        return Ok(None);
    }
    let under_way = under_way(situation);
    let shards = shards(situation, &under_way);
    let (mut plan, violations) = if let Goal::Move { slots, to } = situation.goal {
        let refuse = |fault| vec![Reason::Targets(fault)];
        let to = plan::resolve(&shards, to).map_err(refuse)?;
        let mut plan = plan::explicit(&shards, slots, to).map_err(refuse)?;
        failpoints::spoil(&mut plan);
        let violations = plan::check::check_explicit(&shards, slots, to, &plan);
        (plan, violations)
    } else {
        let mut policy = situation.policy.clone();
        policy.nodes = policy.nodes.into_iter().filter_map(|entry| in_force(situation, entry)).collect();
        if situation.at_work {
            // Trigger wide, fix tight: what has begun is brought to an exact end.
            (policy.threshold_percent, policy.threshold_slots) = (0.0, 1);
        }
        let refuse = |faults: Vec<plan::TargetFault>| faults.into_iter().map(Reason::Targets).collect::<Vec<_>>();
        let mut plan = plan::plan(&shards, &policy).map_err(refuse)?;
        failpoints::spoil(&mut plan);
        let violations = plan::check::check(&shards, &policy, &plan);
        (plan, violations)
    };
    if violations.is_empty() {
        for line in &mut plan.lines {
            let owned = situation.topology.shards.get(&line.primary).map_or(0, |shard| shard.slots.len());
            line.now = u32::try_from(owned).unwrap_or(u32::MAX);
        }
        plan.under_way = under_way.into_iter().fold(SlotSet::new(), |all, (slots, _)| all.union(&slots));
        return Ok(Some(plan));
    }
    let why = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(vec![Reason::PlanUnsound { why }])
}

/// Slots that are carried by a running move, or that are ours and open, each with the primary that is to have it.
fn under_way(situation: &Situation<'_>) -> Vec<(SlotSet, NodeId)> {
    let running = situation.running.iter().map(|running| (running.slots.clone(), running.pair.target));
    running.chain(situation.own.iter().map(|(slot, pair)| (SlotSet::from_iter([slot]), pair.target))).collect()
}

/// The shards that take part, with everything that is under way where it is going.
fn shards(situation: &Situation<'_>, under_way: &[(SlotSet, NodeId)]) -> Vec<ShardInput> {
    let mut shards = shard_inputs(situation.topology);
    for (slots, target) in under_way {
        put(&mut shards, slots, *target);
    }
    shards
}

/// Counts slots to this primary, and to nobody else: while they move their source may have been replaced. Where it is a
/// primary no more itself, they are counted to whoever has them.
fn put(shards: &mut [ShardInput], slots: &SlotSet, target: NodeId) {
    if shards.iter().any(|shard| shard.primary == target) {
        for shard in shards {
            let here = shard.primary == target;
            shard.slots = if here { shard.slots.union(slots) } else { shard.slots.difference(slots) };
        }
    }
}

/// The shards that take part in a plan: all that own slots, and the empty ones that can be used.
#[must_use]
pub fn shard_inputs(topology: &Topology) -> Vec<ShardInput> {
    let part = topology.shards.values().filter(|shard| shard.usable() || !shard.slots.is_empty());
    part.map(|shard| ShardInput { primary: shard.primary.id, members: members(shard), slots: shard.slots.clone() })
        .collect()
}

/// The members of a shard as the planner knows them.
fn members(shard: &Shard) -> Vec<Member> {
    std::iter::once(&shard.primary)
        .chain(&shard.replicas)
        .filter_map(|member| {
            let (id, hostname) = (member.id, member.hostname.clone());
            Some(Member { id, address: member.address.clone()?, hostname })
        })
        .collect()
}

/// A target entry as it holds now, if it does.
///
/// One that names a primary without slots that cannot be used now is for whoever took its part over. Where nobody has, it
/// has no say: the node may be switched off for good. Where that is not known, because the node has not answered since we
/// look, it stays as it is, and the planner refuses it: else what belongs to a shard that has failed over would be given
/// away. One that leaves its shard nothing is not handed on, see [`super::super::Drains`].
fn in_force(situation: &Situation<'_>, entry: NodeTarget) -> Option<NodeTarget> {
    let unusable = situation.topology.shards.values().filter(|shard| !shard.usable() && shard.slots.is_empty());
    let named = |shard: &&Shard| members(shard).iter().any(|member| entry.node.names(member));
    let Some(shard) = unusable.into_iter().find(named) else { return Some(entry) };
    let (node, lineage) = (shard.primary.id, situation.memory.lineage());
    let successor = lineage.successor(node, situation.topology);
    match () {
        () if empties(&entry) => None,
        () if successor != node => Some(NodeTarget { node: NodeName::Id(successor), ..entry }),
        () if lineage.has_seen(node) || shard.primary.failing != Failing::Agreed => None,
        () => Some(entry),
    }
}
