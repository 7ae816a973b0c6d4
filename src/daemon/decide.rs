//! What to do about the picture as it is now. A pure function: the supervisor carries the decision out.

mod last_slot;
mod projection;
mod replicas;
mod rest;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use last_slot::{Parting, empties};
use projection::make_plan;
pub use projection::shard_inputs;
use replicas::stale_replica;
pub(super) use replicas::unreplicated;
pub(super) use rest::is_at_rest;

use super::approval::Consent;
use super::fit::{Fit, SettingsByNode};
use super::memory::Memory;
use super::own::OwnSlots;
use super::whose::{Whose, unmarked, whose};
use super::{Fate, Look, Reason, RoomRules, SetAside, room};
use crate::cluster::{NodeId, NodeInfo, OpenSlot, Shard, Slot, SlotSet, Topology, Unclear};
use crate::journal::Pause;
use crate::migration::{Pair, Predecessors};
use crate::plan::{Move, NodeName, Plan, Policy, Why};
use crate::throttle::{Limits, Order, admit};

/// What evenkeel is run for.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// Keep the cluster level, for ever.
    Keep,
    /// Level it once.
    Level,
    /// Move just these slots, whatever the targets say.
    Move {
        /// The slots.
        slots: SlotSet,
        /// Any member of the shard that is to have them.
        to: NodeName,
    },
}

/// A move that runs.
#[derive(Clone, Debug)]
pub(super) struct RunningMove {
    pub(super) pair: Pair,
    /// Slots that it has not finished, as far as the look shows it.
    pub(super) slots: SlotSet,
}

/// Everything that the decision depends on.
pub(super) struct Situation<'a> {
    pub(super) now: Instant,
    pub(super) look: &'a Look,
    pub(super) topology: &'a Topology,
    pub(super) memory: &'a Memory,
    pub(super) goal: &'a Goal,
    pub(super) policy: &'a Policy,
    pub(super) observing: bool,
    /// Why the lease forbids to act, if it does.
    pub(super) lease: Option<Reason>,
    /// What an operator told us.
    pub(super) paused: Option<Pause>,
    /// Why it is not the time to move slots, if it is not.
    pub(super) outside: Option<Reason>,
    /// Whether somebody is to approve the plan first, and has.
    pub(super) consent: &'a Consent,
    pub(super) stopping: bool,
    pub(super) settle: u32,
    pub(super) adopt_after: Duration,
    pub(super) foreign_quiet: Duration,
    pub(super) limits: Limits,
    pub(super) room: RoomRules,
    pub(super) running: &'a [RunningMove],
    /// Whether work has begun that is not finished: then it is levelled exactly, whatever the thresholds.
    pub(super) at_work: bool,
    /// Open slots that are ours.
    pub(super) own: &'a OwnSlots,
    /// Between whom a move died with the finalise in its hands, and nobody has it since. Whoever finishes its slots needs its
    /// source.
    pub(super) orphan: Option<Pair>,
    pub(super) set_aside: &'a BTreeMap<Slot, SetAside>,
    /// What the checks before the first move found; `None` while they have not been made.
    pub(super) checks: Option<&'a [Reason]>,
    /// What the checks read of the servers' configuration.
    pub(super) settings: &'a SettingsByNode,
}

/// A move to start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Start {
    pub(super) pair: Pair,
    pub(super) slots: SlotSet,
    /// What the plan moves them for; `None` of open slots, which are finished whatever the plan is.
    pub(super) why: Option<Why>,
    /// Of open slots: whom their ends have taken over from.
    pub(super) before: Predecessors,
    /// Of open slots: we opened them ourselves.
    pub(super) on_record: bool,
}

impl Start {
    fn planned(pair: Pair, slots: SlotSet, why: Why) -> Self {
        Self { pair, slots, why: Some(why), before: Predecessors::default(), on_record: false }
    }
}

/// What to do now.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Open slots to finish: ours, or adopted.
    pub(super) resume: Vec<Start>,
    /// Moves to start.
    pub(super) start: Vec<Start>,
    /// Moves to start if the next look shows the same.
    pub(super) ahead: Vec<Start>,
    /// Moves of the plan that wait for their turn.
    pub(super) waiting: usize,
    /// Moves that may be begun, now or in their turn: none while an operator is waited for.
    pub(super) permitted: Vec<Move>,
    /// The plan, if the picture allows one.
    pub(super) plan: Option<Plan>,
    /// Slots that are to move: those of what was approved, whatever the plan of the moment says, else those of the plan.
    pub(super) wanted: SlotSet,
    /// Why nothing (more) is started.
    pub(super) reasons: Vec<Reason>,
    /// The checks before the first move are wanted.
    pub(super) wants_checks: bool,
    /// An operator has it begin nothing now, by a pause or by its hours: when it begins again, that is new work.
    pub(super) held: bool,
    /// Nothing is left to do: the plan is empty, nothing runs, and no slot of ours is open.
    pub(super) settled: bool,
}

/// Decides.
pub(super) fn decide(situation: &Situation<'_>) -> Decision {
    let held = situation.paused.is_some() || situation.outside.is_some();
    let mut decision = Decision { reasons: reasons(situation), held, ..Decision::default() };
    match make_plan(situation) {
        Ok(plan) => {
            decision.wanted = plan.as_ref().map(|plan| wanted(situation, plan)).unwrap_or_default();
            decision.plan = plan;
        }
        Err(reasons) => decision.reasons.extend(reasons),
    }
    if situation.observing || situation.stopping || situation.lease.is_some() {
        return decision;
    }
    decision.resume = resumable(situation);
    let Some(plan) = &decision.plan else {
        // While slots of ours move, nodes are of different minds because of us.
        if situation.running.is_empty() && !situation.at_work && !tell_of_others(situation, &mut decision.reasons) {
            decision.wants_checks = situation.checks.is_none() && decision.reasons.iter().any(is_of_others);
        }
        return decision;
    };
    let moves = match situation.consent {
        Consent::NotAsked => plan.moves.as_slice(),
        Consent::Given(moves) => moves,
        Consent::Awaited => &[],
    };
    if !held {
        decision.permitted = moves.iter().map(|planned| not_begun(situation, planned)).collect();
    }
    if awaits_approval(situation, plan, &decision.wanted) {
        decision.reasons.push(Reason::AwaitingApproval { hash: plan.hash(), slots: plan.slots_moved() });
    }
    let startable: Vec<Start> = moves
        .iter()
        .map(|planned| {
            let slots = planned.slots.iter().filter(|slot| is_free(situation, *slot)).collect();
            Start::planned(Pair { source: planned.source, target: planned.target }, slots, planned.why)
        })
        .filter(|start| !start.slots.is_empty() && !meets_open_slots(situation, start.pair))
        // It would wait for the finalise, and keep those slots from being finished that the finalise waits for.
        .filter(|start| situation.orphan.is_none_or(|orphan| orphan.source != start.pair.source))
        .collect();
    let idle = situation.running.is_empty() && decision.resume.is_empty() && situation.own.is_empty();
    decision.settled = idle && plan.moves.is_empty() && moves.is_empty() && decision.reasons.is_empty();
    decision.waiting = startable.len();
    if let Some(waiting) = set_aside(situation, &decision.wanted) {
        decision.reasons.push(waiting);
    }
    // Half-done work first: nothing new is opened while slots of ours wait to be finished.
    if !decision.resume.is_empty() {
        return decision;
    }
    if tell_of_others(situation, &mut decision.reasons) {
        return decision;
    }
    let strange = decision.reasons.iter().any(is_of_others);
    if startable.is_empty() && !strange {
        return decision;
    }
    let blocking = blocking(&decision.reasons);
    // The checks take their time while the cluster settles.
    let passes = |reason: &&Reason| matches!(reason, Reason::Settling { .. }) || is_of_others(reason);
    decision.wants_checks = situation.checks.is_none() && blocking.iter().all(passes);
    let is_last_wait = |reason: &&Reason| matches!(reason, Reason::Settling { have, want } if have + 1 >= *want);
    let looks_ahead = !blocking.is_empty() && blocking.iter().all(is_last_wait);
    if startable.is_empty() || !(blocking.is_empty() || looks_ahead) || situation.checks.is_none() {
        return decision;
    }
    let found = situation.checks.unwrap_or_default();
    let (starts, reasons) =
        if found.is_empty() { choose(situation, plan, startable) } else { (Vec::new(), found.to_vec()) };
    if looks_ahead {
        // What keeps a move from being begun is told when it would be begun.
        decision.ahead = starts;
    } else {
        decision.waiting -= starts.len();
        decision.start = starts;
        decision.reasons.extend(reasons);
    }
    decision
}

/// Which of these moves may be begun side by side, and what keeps others from it.
fn choose(situation: &Situation<'_>, plan: &Plan, startable: Vec<Start>) -> (Vec<Start>, Vec<Reason>) {
    let (mut possible, mut reasons): (Vec<Start>, Vec<Reason>) = Default::default();
    for start in startable {
        if is_in_a_servers_hands(situation, start.pair) {
            continue;
        }
        match obstacle(situation, &start) {
            None => {
                match last_slot::part(situation, plan, start, possible.iter().any(|start| empties(situation, start))) {
                    Parting::Start(start) => possible.push(start),
                    Parting::Later => {}
                    Parting::Waits(reason) => reasons.push(reason),
                }
            }
            Some(reason) => reasons.push(reason),
        }
    }
    let running: Vec<Pair> = situation.running.iter().map(|running| running.pair).collect();
    let orders: Vec<Order> =
        possible.iter().map(|start| Order { pair: start.pair, weight: weight(situation, start) }).collect();
    let admitted = admit(&running, &orders, situation.limits);
    (admitted.into_iter().map(|at| possible[at].clone()).collect(), reasons)
}

/// Reasons that concern everything; those that concern one move or one slot stop nothing else.
fn blocking(reasons: &[Reason]) -> Vec<&Reason> {
    let of_some = |reason: &&Reason| matches!(reason, Reason::SetAside { .. } | Reason::ServerSideJob { .. });
    reasons.iter().filter(|reason| !of_some(reason)).collect()
}

/// Whether it is about slots that somebody else moves, has open, or may have just given to another node.
fn is_of_others(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::ForeignOpenSlots { .. } | Reason::ForeignMove { .. } | Reason::Unclear(Unclear::ViewsDisagree { .. })
    )
}

/// Tells of another evenkeel, where the checks found one, in place of what it seems to be at. Says whether it did.
fn tell_of_others(situation: &Situation<'_>, reasons: &mut Vec<Reason>) -> bool {
    let found = situation.checks.into_iter().flatten();
    let mut others = found.filter(|found| matches!(found, Reason::OtherInstance { .. })).cloned().peekable();
    let tells = others.peek().is_some() && reasons.iter().any(is_of_others);
    if tells {
        reasons.retain(|reason| !is_of_others(reason));
        reasons.extend(others);
    }
    tells
}

/// Whether an end of the pair moves slots by itself: while it does, it refuses every mark, of whatever slot.
fn is_in_a_servers_hands(situation: &Situation<'_>, pair: Pair) -> bool {
    situation.topology.jobs.iter().any(|job| job.concerns(pair.source) || job.concerns(pair.target))
}

fn reasons(situation: &Situation<'_>) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = situation.topology.unclear.iter().cloned().map(Reason::Unclear).collect();
    if situation.stopping {
        reasons.push(Reason::Stopping);
    }
    if situation.observing {
        reasons.push(Reason::Observing);
    } else {
        reasons.extend(situation.lease.clone());
    }
    reasons.extend(situation.paused.map(Reason::Paused));
    reasons.extend(situation.outside.clone());
    // Before the first move only: while moves of ours run, epochs and owners change because of them.
    if situation.running.is_empty() && !situation.at_work && situation.memory.settled() < situation.settle {
        reasons.push(Reason::Settling { have: situation.memory.settled(), want: situation.settle });
    }
    reasons.extend(foreign_slots(situation));
    if let Some(quiet_in) = situation.memory.quiet_in(situation.now, situation.foreign_quiet) {
        reasons.push(Reason::ForeignMove { quiet_in });
    }
    let jobs = &situation.topology.jobs;
    reasons.extend(jobs.first().map(|job| Reason::ServerSideJob { job: job.clone(), more: jobs.len() - 1 }));
    reasons
}

/// Open slots that are not ours and not adopted.
fn foreign_slots(situation: &Situation<'_>) -> Vec<Reason> {
    let (mut waiting, mut for_humans) = (SlotSet::new(), SlotSet::new());
    let (mut longest, mut waits_since, mut stands_since) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let left_alone = left_alone(situation);
    // What is only half told in a first look, in the midst of somebody's finalise, is no matter for humans yet.
    let at_work = situation.at_work || !situation.running.is_empty();
    let is_clear = situation.topology.unclear.is_empty();
    let is_steady = at_work || (is_clear && situation.memory.settled() >= situation.settle);
    for (slot, untouched) in situation.memory.foreign(situation.now) {
        let known = situation.topology.open.get(&slot).and_then(|open| story(situation, open));
        if known.is_none() && is_steady {
            for_humans.insert(slot);
            stands_since = stands_since.max(untouched);
        } else if untouched < situation.adopt_after || left_alone.is_some() {
            waiting.insert(slot);
            waits_since = waits_since.max(untouched);
            longest = longest.max(situation.adopt_after.saturating_sub(untouched));
        }
    }
    let runs = |slot| situation.running.iter().any(|running| running.slots.contains(slot));
    let own = open_slots(situation).into_iter().filter(|open| situation.own.contains(open.slot) && !runs(open.slot));
    for_humans.extend(own.filter(|open| story(situation, open).is_none()).map(|open| open.slot));
    let fate = left_alone.map_or(Fate::AdoptedIn(longest), |because| Fate::LeftAlone { because });
    let waiting = Reason::ForeignOpenSlots { slots: waiting, untouched: waits_since, fate };
    let for_humans = Reason::ForeignOpenSlots { slots: for_humans, untouched: stands_since, fate: Fate::ForHuman };
    [waiting, for_humans]
        .into_iter()
        .filter(|reason| matches!(reason, Reason::ForeignOpenSlots { slots, .. } if !slots.is_empty()))
        .collect()
}

/// What an operator told us that has slots of others stay as they are.
fn left_alone(situation: &Situation<'_>) -> Option<&'static str> {
    // Who pauses us may be about to work with his own hands, and who gave us hours has others for himself.
    if situation.observing {
        Some("this evenkeel only observes")
    } else if situation.paused.is_some() {
        Some("this evenkeel is paused; when it goes on it finishes what nobody has touched for schedule.adopt_after")
    } else if situation.outside.is_some() {
        Some(
            "it is outside of schedule.windows; within them it finishes what nobody has touched for schedule.adopt_after",
        )
    } else {
        None
    }
}

/// Open slots that may be finished now, by pair; slots of ours that have lost their marks are among them.
fn resumable(situation: &Situation<'_>) -> Vec<Start> {
    let adopted: SlotSet = situation
        .memory
        .foreign(situation.now)
        .filter(|(_, untouched)| *untouched >= situation.adopt_after)
        .filter(|_| left_alone(situation).is_none())
        .map(|(slot, _)| slot)
        .collect();
    let mut by_pair: BTreeMap<(Pair, bool), (SlotSet, Predecessors)> = BTreeMap::new();
    for open in open_slots(situation) {
        let slot = open.slot;
        let on_record = situation.own.contains(slot);
        let runs = situation.running.iter().any(|running| running.slots.contains(slot));
        if !(on_record || adopted.contains(slot)) || runs || !due(situation, slot) {
            continue;
        }
        if let Some(Whose { pair, before }) = story(situation, &open) {
            let (slots, all) = by_pair.entry((pair, on_record)).or_default();
            slots.insert(slot);
            all.source.extend(before.source);
            all.target.extend(before.target);
        }
    }
    // One task a source; and a pair at an end that cannot answer would only wait.
    let mut sources: Vec<NodeId> = situation.running.iter().map(|running| running.pair.source).collect();
    let mut resume = Vec::new();
    for ((pair, on_record), (slots, before)) in by_pair {
        let answers = |node| situation.topology.shards.get(&node).is_some_and(Shard::answered);
        let free = answers(pair.source) && answers(pair.target) && !is_in_a_servers_hands(situation, pair);
        if !sources.contains(&pair.source) && free {
            sources.push(pair.source);
            resume.push(Start { pair, slots, why: None, before, on_record });
        }
    }
    resume
}

/// The slots with marks, and those of our own that have none any more.
fn open_slots(situation: &Situation<'_>) -> Vec<OpenSlot> {
    let topology = situation.topology;
    let lost = situation.own.iter().filter(|(slot, _)| !topology.open.contains_key(slot));
    topology.open.values().cloned().chain(lost.map(|(slot, _)| unmarked(slot, topology))).collect()
}

fn story(situation: &Situation<'_>, open: &OpenSlot) -> Option<Whose> {
    whose(open, situation.own.pair(open.slot), situation.topology, situation.memory.lineage())
}

/// Whether slots of ours lie open at an end of the pair and wait to be gone on with. On Redis a target whose source has
/// failed over serves nobody until then, and what is begun there meanwhile would only wait with it. Slots that are set
/// aside, or whose ends move slots by themselves, are not waited for.
fn meets_open_slots(situation: &Situation<'_>, pair: Pair) -> bool {
    let waits = |slot| due(situation, slot) && !situation.running.iter().any(|running| running.slots.contains(slot));
    let meets = |open: Pair| [open.source, open.target].iter().any(|node| *node == pair.source || *node == pair.target);
    situation.own.iter().any(|(slot, open)| meets(open) && waits(slot) && !is_in_a_servers_hands(situation, open))
}

/// Whether a planned move of this slot may start: nobody of ours works on it, or has it open.
///
/// The plan has such slots where they are going, but between the nodes that they were opened between: in the moment of a
/// failover these are not the ones of the plan.
fn is_free(situation: &Situation<'_>, slot: Slot) -> bool {
    due(situation, slot) && !is_begun(situation, slot)
}

/// Whether a slot is under way, or open and ours.
fn is_begun(situation: &Situation<'_>, slot: Slot) -> bool {
    situation.own.contains(slot) || situation.running.iter().any(|running| running.slots.contains(slot))
}

/// What of a planned move is neither under way nor open.
fn not_begun(situation: &Situation<'_>, planned: &Move) -> Move {
    let slots = planned.slots.iter().filter(|&slot| !is_begun(situation, slot)).collect();
    Move { slots, ..planned.clone() }
}

/// Whether a slot that was set aside may be tried again.
fn due(situation: &Situation<'_>, slot: Slot) -> bool {
    situation.set_aside.get(&slot).is_none_or(|aside| aside.next_try.is_some_and(|next_try| next_try <= situation.now))
}

/// What is to move, as far as it is not on its way.
fn wanted(situation: &Situation<'_>, plan: &Plan) -> SlotSet {
    let moves = match situation.consent {
        Consent::Given(moves) => moves,
        Consent::NotAsked | Consent::Awaited => &plan.moves,
    };
    moves.iter().fold(SlotSet::new(), |all, planned| all.union(&planned.slots))
}

/// Whether somebody is to approve the plan of the moment: nothing was approved, or nothing of that is tried again by
/// itself, and the plan has come to move other slots.
fn awaits_approval(situation: &Situation<'_>, plan: &Plan, wanted: &SlotSet) -> bool {
    let is_given_up = |slot: Slot| situation.set_aside.get(&slot).is_some_and(|aside| aside.next_try.is_none());
    match situation.consent {
        Consent::NotAsked => false,
        Consent::Awaited => !plan.moves.is_empty(),
        Consent::Given(_) => {
            let comes_to_nothing = situation.running.is_empty() && wanted.iter().all(is_given_up);
            comes_to_nothing
                && plan.moves.iter().flat_map(|planned| planned.slots.iter()).any(|slot| !is_given_up(slot))
        }
    }
}

fn set_aside(situation: &Situation<'_>, wanted: &SlotSet) -> Option<Reason> {
    let runs = |slot: &Slot| situation.running.iter().any(|running| running.slots.contains(*slot));
    let wanted = |slot: &Slot| situation.topology.open.contains_key(slot) || wanted.contains(*slot) || runs(slot);
    let waiting: Vec<_> =
        situation.set_aside.iter().filter(|(slot, _)| !due(situation, **slot) && wanted(slot)).collect();
    let (_, first) = waiting.first()?;
    let given_up = waiting.iter().all(|(_, aside)| aside.next_try.is_none());
    let slots = waiting.iter().map(|(slot, _)| **slot).collect();
    Some(Reason::SetAside { slots, why: first.why.clone(), given_up })
}

/// What stands in the way of one move.
fn obstacle(situation: &Situation<'_>, start: &Start) -> Option<Reason> {
    for node in [start.pair.source, start.pair.target] {
        let why = match situation.topology.shards.get(&node) {
            None => Some("it is not a primary".to_owned()),
            Some(shard) if !shard.usable() => Some(format!("{:?}", shard.standing).to_lowercase()),
            Some(_) if situation.topology.jobs_unread.contains_key(&node) => {
                let why = &situation.topology.jobs_unread[&node];
                Some(format!("it is not known whether it moves slots by itself: {why}"))
            }
            Some(shard) => stale_replica(situation.topology, shard).or_else(|| {
                if node == start.pair.target { unreplicated(&situation.look.observation, shard) } else { None }
            }),
        };
        if let Some(why) = why {
            return Some(Reason::NodeNotUsable { node, why });
        }
    }
    let misfit = Fit::of(start.pair, &situation.look.observation, situation.settings).and_then(|fit| fit.misfit());
    if misfit.is_some() {
        return misfit;
    }
    let infos = &situation.look.observation.nodes;
    let (source, target) = (&infos.get(&start.pair.source)?.info, &infos.get(&start.pair.target)?.info);
    no_room(situation, start, source, target)
}

/// A target that would come too near to its limit: it would refuse keys, or throw some away to make room.
fn no_room(situation: &Situation<'_>, start: &Start, source: &NodeInfo, target: &NodeInfo) -> Option<Reason> {
    let owned = situation.topology.shards.get(&start.pair.source).map_or(0, |shard| shard.slots.len());
    let others: usize = situation
        .running
        .iter()
        .filter(|running| running.pair.target == start.pair.target)
        .map(|running| running.slots.len())
        .sum();
    let incoming = room::incoming(source, owned, start.slots.len() + others);
    situation.room.no_room(start.pair.target, target.memory, incoming)
}

/// Keys that the move is likely to carry, and its slots, which cost something even when they are empty.
fn weight(situation: &Situation<'_>, start: &Start) -> u64 {
    let keys = situation.look.observation.nodes.get(&start.pair.source).map_or(0, |node| node.info.keys.values().sum());
    let owned = situation.topology.shards.get(&start.pair.source).map_or(1, |shard| shard.slots.len().max(1)) as u64;
    keys * start.slots.len() as u64 / owned + start.slots.len() as u64
}

#[cfg(test)]
mod tests;
