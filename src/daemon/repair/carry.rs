//! Open slots carried to their end by the one machine, with a repair as the carrier of its steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::drive::{Carrier, drive, pause_length};
use super::super::ends::{Connections, Fault};
use super::super::pacer::{Pacer, Rates, budget};
use super::super::{Lease, RoomRules};
use super::obey::Failures;
use super::{Diagnosis, Doctor, Left, Prefer, Repair};
use crate::cluster::{NodeId, Product, Shard, Slot, SlotSet};
use crate::migration::{CallLimit, End, Ending, Migration, Pair, Purpose, Reply, Step, Trouble};
use crate::throttle::Pace;

/// How long a move may wait under the finalise, all pauses together, before the repair gives up altogether.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Carries out the steps of one pair's moves.
struct OnlyOne<'a> {
    doctor: &'a mut Doctor,
    ends: Connections,
    pair: Pair,
    pacer: Pacer,
    leave: CancellationToken,
    lease: Lease,
    waiting_since: Option<Instant>,
    /// A finalise could not be brought to its end.
    gave_up: bool,
}

impl Repair<'_> {
    /// Carries these slots from source to target, in groups; counts the keys that were moved.
    pub(super) async fn carry(&mut self, pair: Pair, slots: &SlotSet, now: &Diagnosis, failures: &mut Failures) -> u64 {
        let mut keys = 0;
        let all: Vec<Slot> = slots.iter().collect();
        for group in all.chunks(self.config.migration.group_slots.max(1)) {
            if self.leave.is_cancelled() || self.dead_end {
                failures.extend(group.iter().map(|slot| (*slot, Left::Failed("interrupted".to_owned()))));
                continue;
            }
            let group: SlotSet = group.iter().copied().collect();
            if let Some(node) = may_come_back(now, pair.target) {
                let why = format!(
                    "{} does not answer. If it was the primary before {}, it takes these slots when it comes back, and \
                     with them all that it ever owned. Start it again, or have every node forget it (CLUSTER FORGET)",
                    node.short(),
                    pair.target.short()
                );
                failures.extend(group.iter().map(|slot| (slot, Left::Failed(why.clone()))));
                continue;
            }
            keys += self.carry_group(pair, &group, now, failures).await;
        }
        keys
    }

    async fn carry_group(&mut self, pair: Pair, slots: &SlotSet, now: &Diagnosis, failures: &mut Failures) -> u64 {
        let (mut keys, troubled) = self.carry_once(pair, slots, now, failures).await;
        for (slot, trouble) in troubled {
            match trouble {
                Trouble::Conflict { keys: conflicting, .. } => match self.prefer_for(slot) {
                    Some(prefer) => keys += self.carry_conflicting(pair, slot, prefer, now, failures).await,
                    None => drop(failures.insert(slot, Left::Conflict { keys: conflicting })),
                },
                Trouble::Refused { .. }
                | Trouble::NoReplicas { .. }
                | Trouble::NotPrimary { .. }
                | Trouble::OwnerChanged { .. }
                | Trouble::ForeignMark { .. }
                | Trouble::EpochUnsettled { .. }
                | Trouble::BothClaim { .. }
                | Trouble::StrayKeys { .. }
                | Trouble::Blocked(_)
                | Trouble::NoAnswer { .. }
                | Trouble::ProcessChanged { .. }
                | Trouble::FailedOver
                | Trouble::Interrupted
                | Trouble::BigKey { .. }
                | Trouble::PayloadTooBig { .. }
                | Trouble::Functions { .. }
                | Trouble::Stuck => drop(failures.insert(slot, Left::Failed(trouble.to_string()))),
            }
        }
        keys
    }

    /// Which copy to keep of this slot's keys with two values, if a human said so.
    pub(super) fn prefer_for(&self, slot: Slot) -> Option<Prefer> {
        self.wishes.prefer.filter(|_| self.wishes.slots.as_ref().is_some_and(|named| named.contains(slot)))
    }

    /// Settles keys with two values and carries the slot on, in turns: the machine stops at the first of them.
    async fn carry_conflicting(
        &mut self,
        pair: Pair,
        slot: Slot,
        prefer: Prefer,
        now: &Diagnosis,
        failures: &mut Failures,
    ) -> u64 {
        let (alone, mut keys) = (SlotSet::from_iter([slot]), 0);
        loop {
            match self.settle_conflicts(pair, slot, prefer, now).await {
                Ok(settled) if settled > 0 => keys += settled,
                Ok(_) => break drop(failures.insert(slot, Left::Failed("its keys with two values stay".to_owned()))),
                Err(why) => break drop(failures.insert(slot, Left::Failed(why))),
            }
            let (moved, troubled) = self.carry_once(pair, &alone, now, failures).await;
            keys += moved;
            match troubled.into_iter().next() {
                None => break,
                Some((_, Trouble::Conflict { .. })) => {}
                Some((_, trouble)) => break drop(failures.insert(slot, Left::Failed(trouble.to_string()))),
            }
        }
        keys
    }

    /// One machine, driven to its end. Returns the keys that it moved, and the slots that it set apart.
    async fn carry_once(
        &mut self,
        pair: Pair,
        slots: &SlotSet,
        now: &Diagnosis,
        failures: &mut Failures,
    ) -> (u64, Vec<(Slot, Trouble)>) {
        let mut all_failed = |why: &str| {
            failures.extend(slots.iter().map(|slot| (slot, Left::Failed(why.to_owned()))));
            (0, Vec::new())
        };
        let mut ends = match self.connections(pair, now).await {
            Ok(ends) => ends,
            Err(why) => return all_failed(&why),
        };
        let migration = &self.config.migration;
        if let Some(full) = no_room(&mut ends, RoomRules::new(migration)).await {
            return all_failed(&full);
        }
        let mut carrier = OnlyOne {
            doctor: &mut self.doctor,
            ends,
            pair,
            // One thing after the other, and no longer than need be: what is broken is worse than what is slow.
            pacer: Pacer::new(Pace::new(budget(migration)), Arc::new(Rates::unlimited()), Vec::new(), 0.0),
            leave: self.leave.clone(),
            lease: self.lease.clone(),
            waiting_since: None,
            gave_up: false,
        };
        let mut machine = Migration::new(pair, slots.clone(), Purpose::Resume);
        let ending = drive(&mut machine, &mut carrier).await;
        carrier.ends.close();
        self.dead_end |= carrier.gave_up;
        match ending {
            Ending::Done => {}
            Ending::NotStarted(why) | Ending::Left(why) => {
                failures.extend(machine.slots().iter().map(|slot| (slot, Left::Failed(why.to_string()))));
            }
        }
        let troubled = machine.troubled().iter().map(|(&slot, trouble)| (slot, trouble.clone())).collect();
        (machine.progress().keys, troubled)
    }

    /// Open connections to both ends of a pair.
    pub(super) async fn connections(&self, pair: Pair, now: &Diagnosis) -> Result<Connections, String> {
        let (observation, topology) = (&now.look.observation, &now.topology);
        // Nobody else is at work, as was seen before anything was done: every mark there is, is a repair's.
        let (_, ours) = watch::channel(Arc::new(SlotSet::full()));
        let ends = Connections::between(pair, observation, topology, self.doctor.dialer(), self.config, ours);
        let unknown = || format!("{} and {} do not both know each other", pair.source.short(), pair.target.short());
        let mut ends = ends.map_err(|error| error.to_string())?.ok_or_else(unknown)?;
        ends.open().await.map_err(|fault| fault.to_string())?;
        Ok(ends)
    }
}

/// A node that this target may have taken over from and that may come back with importing marks, on Valkey: see
/// [`Supervisor::may_come_back`]. A repair does not know who took over from whom, so any that is dead and owns nothing.
///
/// [`Supervisor::may_come_back`]: super::super::Supervisor
fn may_come_back(now: &Diagnosis, target: NodeId) -> Option<NodeId> {
    let observed = now.look.observation.nodes.get(&target)?;
    if observed.info.version.product != Product::Valkey {
        return None;
    }
    let mut shards = now.topology.shards.iter();
    shards.find(|(_, shard)| !shard.answered() && shard.slots.is_empty()).map(|(node, _)| *node)
}

/// Why the target takes no keys, as far as its memory is concerned.
async fn no_room(ends: &mut Connections, room: RoomRules) -> Option<String> {
    match ends.target_memory().await {
        Ok(memory) => room.no_room(ends.pair.target, memory, 1).map(|reason| reason.to_string()),
        Err(fault) => Some(fault.to_string()),
    }
}

impl OnlyOne<'_> {
    /// Whether the source has been replaced and every primary names the target as the owner.
    async fn everyone_names_target(&mut self, slots: &SlotSet) -> bool {
        let Ok(now) = self.doctor.diagnose_slots(&SlotSet::new()).await else { return false };
        let topology = &now.topology;
        // A dead primary without slots is listed until it is forgotten or comes back.
        let is_nobody = |shard: &Shard| !shard.answered() && shard.slots.is_empty();
        topology.shards.get(&self.pair.source).is_none_or(is_nobody)
            && topology.unclear.is_empty()
            && slots.iter().all(|slot| topology.owner(slot) == Some(self.pair.target))
    }
}

impl Carrier for OnlyOne<'_> {
    fn limit(&self) -> CallLimit {
        self.pacer.limit()
    }

    fn is_to_leave(&self) -> bool {
        self.leave.is_cancelled()
    }

    fn may_send(&self, step: &Step) -> bool {
        self.lease.permits(step)
    }

    async fn perform(&mut self, step: Step) -> Option<Reply> {
        let keys = if let Step::MoveKeys(batch) = &step { batch.keys.len() } else { 0 };
        let began = Instant::now();
        let reply = self.ends.perform(step).await.unwrap_or_else(Fault::into_reply);
        if keys > 0 {
            let now = Instant::now();
            self.pacer.on_call(keys, Duration::ZERO, (now - began).saturating_sub(self.ends.round_trip()), now);
        }
        Some(reply)
    }

    /// A repair does one thing after the other, and no other evenkeel acts: the finalise is free.
    async fn take_finalise(&mut self) -> Option<Reply> {
        let leave = self.leave.clone();
        let behind = || {
            let why = "none of its replicas has what it has".to_owned();
            Err(Fault::NoAnswer { at: End::Target, why })
        };
        tokio::select! {
            in_step = tokio::time::timeout(LONGEST_WAIT, self.ends.await_replicas()) => {
                Some(in_step.unwrap_or_else(|_| behind()).map_or_else(Fault::into_reply, |()| Reply::Go))
            }
            () = leave.cancelled() => None,
        }
    }

    async fn yield_finalise(&mut self) {}

    async fn pause(&mut self, machine: &Migration, why: &Trouble, pauses: u32) -> Option<Reply> {
        let (source, target) = (self.pair.source, self.pair.target);
        warn!(slots = %machine.slots(), %source, %target, %why, "move waits");
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if since.elapsed() > LONGEST_WAIT {
            self.gave_up = machine.holds_finalise();
            return None;
        }
        tokio::time::sleep(pause_length(pauses)).await;
        if machine.holds_finalise() && self.everyone_names_target(machine.slots()).await {
            return Some(Reply::EveryoneNamesTarget);
        }
        Some(Reply::Go)
    }

    fn came_forward(&mut self, slots: usize, keys: u64) {
        if slots > 0 || keys > 0 {
            self.waiting_since = None;
        }
    }
}
