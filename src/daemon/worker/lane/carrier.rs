//! How a lane takes the steps of its machine.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{LANES, Lane};
use crate::cluster::{MemoryUse, Shard, SlotSet, Topology};
use crate::daemon::PaceStatus;
use crate::daemon::drive::{Carrier, pause_length};
use crate::daemon::ends::Fault;
use crate::daemon::turns::Turn;
use crate::daemon::worker::FromWorker;
use crate::metrics::StepName;
use crate::migration::{Blocked, CallLimit, End, Mark, MigrateReply, Migration, Pair, Purpose, Reply, Step, Trouble};

/// How old the target's memory may be in the middle of a group, while it is below its limit.
const MEMORY_GOOD_FOR: Duration = Duration::from_millis(100);
/// How long replicas may be behind, or the finalise be somebody else's, before that is told; and how often it is logged again.
const PATIENCE: Duration = Duration::from_secs(2);
const REMIND: Duration = Duration::from_mins(1);
/// How long a target that refuses keys by itself, or has no limit, is taken to go on so.
const POLICY_GOOD_FOR: Duration = Duration::from_secs(1);
/// How often a paused lane that holds the finalise looks whether everybody names the target by now.
const RELEASE_CHECK: Duration = Duration::from_millis(500);

impl<'a> Lane<'a> {
    /// Ends when the slots are to be left, or an end has been replaced.
    pub(super) fn unwanted(&self) -> impl Future<Output = ()> + use<> {
        let (leave, failed_over) = (self.shared.leave.clone(), self.worker.failed_over.clone());
        async move {
            tokio::select! {
                () = leave.cancelled() => {}
                () = failed_over.cancelled() => {}
            }
        }
    }

    /// Waits until the target may be given keys and the source takes some from this lane, if this step is about keys. Says
    /// whether it may be taken now.
    async fn has_turn_for(&mut self, step: &Step) -> bool {
        let parts = if self.worker.pacer().has_clients() { LANES } else { 1 };
        // Clients may have come since it was taken; who has copies at both ends waits for nobody.
        let will_do = |turn: &SemaphorePermit<'_>| is_at_once(step) || turn.num_permits() >= parts as usize;
        if !is_about_keys(step) || self.turn.as_ref().is_some_and(will_do) {
            return true;
        }
        self.turn = None;
        // What a leaving lane still insists on is done.
        let leaving = self.shared.leave.is_cancelled();
        let turn = async {
            self.target_is_free().await;
            self.shared.turn.acquire_many(parts).await
        };
        tokio::select! {
            turn = turn => self.turn = turn.ok(),
            () = self.shared.leave.cancelled(), if !leaving => {}
            () = self.worker.failed_over.cancelled() => {}
        }
        self.turn.is_some()
    }

    /// Waits until a target that this one took over from has answered, if it may still have an order to take slots.
    async fn target_is_free(&self) {
        let (target, meter) = (self.worker.pair.target, &self.worker.meter);
        let mut held = self.worker.held_targets.clone();
        if held.borrow_and_update().clone().contains(&target) {
            meter.waits_for(
                self.number,
                &format!("the node that {target} took over from to answer, to end, or to be forgotten"),
            );
            // Without a supervisor nobody holds anything.
            let _ = held.wait_for(|held| !held.contains(&target)).await;
            meter.waits_for(self.number, "");
        }
    }

    /// Waits for the calls of other moves, where that is wanted for the sake of clients.
    pub(super) async fn courtesy(&self) -> Option<Turn<'a>> {
        let among = self.worker.pacer().takes_turns_among()?;
        Some(self.worker.turns.wait(among).await)
    }

    /// Why a target that would drop keys takes no more in the middle of a group.
    async fn last_limit_reached(&mut self) -> Result<Option<Blocked>, Fault> {
        if Instant::now() < self.memory_due {
            return Ok(None);
        }
        let memory = self.ends.target_memory().await?;
        let near = self.worker.room.no_room(self.worker.pair.target, memory, 1).is_some();
        self.memory_due = Instant::now() + if near { Duration::ZERO } else { MEMORY_GOOD_FOR };
        let Some(limit) = self.worker.room.last_limit(memory) else {
            self.memory_due = Instant::now() + POLICY_GOOD_FOR;
            return Ok(None);
        };
        let MemoryUse { used, max, .. } = memory;
        let text = format!("it uses {used} bytes; beyond {limit} of its maxmemory of {max} it might drop moved keys");
        Ok((used > limit).then_some(Blocked::TargetFull(text)))
    }

    /// Waits for the replicas of both ends, for as long as they follow; `None` when the slots are to be left instead.
    async fn await_replicas(&mut self) -> Option<Result<(), Fault>> {
        let (leave, failed_over) = (self.shared.leave.clone(), self.worker.failed_over.clone());
        let Pair { source, target } = self.worker.pair;
        let (meter, number) = (Arc::clone(&self.worker.meter), self.number);
        let mut in_step = self.ends.await_replicas().boxed();
        let mut patience = PATIENCE;
        let reached = loop {
            tokio::select! {
                reached = &mut in_step => break Some(reached),
                () = leave.cancelled() => break None,
                () = failed_over.cancelled() => break None,
                () = tokio::time::sleep(patience) => {
                    warn!(%source, %target, "the finalise waits for a replica of each end to have what its primary has");
                    meter.waits_for(number, "a replica of each end to have what its primary has");
                    patience = REMIND;
                }
            }
        };
        meter.waits_for(number, "");
        reached
    }

    /// Whether a look that began after `since` shows the source replaced and every primary naming the target.
    fn everyone_names_target(&self, slots: &SlotSet, since: Instant) -> bool {
        let look = self.worker.sights.borrow().look.clone();
        let Some(look) = look.filter(|look| look.began > since) else { return false };
        let topology = Topology::merge(&look.observation, &SlotSet::new());
        // A dead primary without slots is listed until it is forgotten or comes back.
        let is_nobody = |shard: &Shard| !shard.answered() && shard.slots.is_empty();
        let replaced = topology.shards.get(&self.worker.pair.source).is_none_or(is_nobody);
        replaced
            && topology.unclear.is_empty()
            && slots.iter().all(|slot| topology.owner(slot) == Some(self.worker.pair.target))
    }

    /// One step on the servers, timed.
    async fn perform_timed(&mut self, step: Step) -> Reply {
        let name = step_name(&step);
        let (keys, listed) = match &step {
            Step::MoveKeys(batch) => (batch.keys.len(), 0),
            Step::ListKeys { slots, .. } => (0, slots.len()),
            Step::ReadEnds { .. }
            | Step::SetSlots { .. }
            | Step::CompareKeys(_)
            | Step::DropCopies(_)
            | Step::TakeFinalise
            | Step::YieldFinalise
            | Step::Listen
            | Step::Pause(_)
            | Step::End(_) => (0, 0),
        };
        let expected = if let Step::MoveKeys(batch) = &step { self.ends.expected(batch) } else { Duration::ZERO };
        let marked = &self.shared.marked;
        marked.on_step(&step);
        let looked_at = if let Step::ReadEnds { slots, .. } = &step { slots.clone() } else { SlotSet::new() };
        let began = Instant::now();
        let reply = self.ends.perform(step).await.unwrap_or_else(Fault::into_reply);
        let took = began.elapsed();
        if let Reply::Ends(ends) = &reply {
            marked.on_look(self.worker.pair, &looked_at, ends);
        }
        self.worker.metrics.step_ended(name, took);
        if matches!(reply, Reply::Moved(MigrateReply::Moved | MigrateReply::MovedUnmarked)) {
            self.shared.proven.cancel();
            self.worker.metrics.migrate_call(keys, took);
            self.learn(keys, expected, took).await;
        }
        let PaceStatus { batch_keys, block, limit, .. } = self.worker.pacer().status();
        debug!(lane = self.number, step = ?name, keys, listed, took_us = took.as_micros(), batch_keys, ?block, %limit, "step");
        reply
    }

    /// Learns from a call how fast the next ones may be; `expected` is what its heavy keys were expected to take.
    async fn learn(&mut self, keys: usize, expected: Duration, took: Duration) {
        // The round trip was timed once, when the source may have been busy.
        let took = took.saturating_sub(self.ends.round_trip()).max(took / 10);
        self.worker.pacer().on_call(keys, expected, took, Instant::now());
        if self.worker.pacer().wants_count() {
            // A source that hangs by now is not waited for once it is replaced.
            tokio::select! {
                count = self.ends.migrate_count() => if let Some(count) = count { self.worker.pacer().on_count(count) },
                () = self.worker.failed_over.cancelled() => {}
            }
        }
        self.worker.meter.set_pace(self.worker.pacer().status());
    }
}

impl Carrier for Lane<'_> {
    fn limit(&self) -> CallLimit {
        self.worker.pacer().limit()
    }

    fn is_to_leave(&self) -> bool {
        self.shared.leave.is_cancelled()
    }

    fn may_send(&self, step: &Step) -> bool {
        self.worker.lease.permits(step)
    }

    fn has_failed_over(&self) -> bool {
        self.worker.failed_over.is_cancelled()
    }

    async fn heed_set_apart(&mut self, machine: &Migration) {
        self.tell_set_apart(machine.troubled()).await;
    }

    fn came_forward(&mut self, slots: usize, keys: u64) {
        self.worker.meter.add(slots, keys);
        self.moved(keys);
    }

    async fn yield_finalise(&mut self) {
        self.worker.tell(FromWorker::YieldsFinalise { id: self.worker.id }).await;
    }

    /// Connecting, and calls that only read, are not waited for after a failover: a node that hangs takes seconds to
    /// time out.
    async fn perform(&mut self, step: Step) -> Option<Reply> {
        let failed_over = self.worker.failed_over.clone();
        if !self.has_turn_for(&step).await {
            return None;
        }
        let ready = tokio::select! {
            ready = self.ends.ready(&step) => ready,
            () = failed_over.cancelled() => return None,
        };
        if let Err(fault) = ready {
            return Some(fault.into_reply());
        }
        let at_once = is_at_once(&step);
        if let Step::MoveKeys(batch) = &step {
            let wait = if at_once { Duration::ZERO } else { self.worker.pacer().wait_for(batch.keys.len()) };
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.unwanted() => {}
                }
            }
            let reached = tokio::select! {
                reached = self.last_limit_reached() => reached,
                () = failed_over.cancelled() => return None,
            };
            match reached {
                Ok(Some(full)) => return Some(Reply::Moved(MigrateReply::Blocked(full))),
                // It is said once only.
                Err(fault @ Fault::ProcessChanged { .. }) => return Some(fault.into_reply()),
                // What does not answer is noticed by the call itself. To say so here would count as a call without an
                // answer, after which copies at the target are overwritten.
                Ok(None) | Err(Fault::NoAnswer { .. }) => {}
            }
        }
        // To the end of the call. Slots that lie open are finished as fast as can be.
        let is_courteous = !at_once && (is_about_keys(&step) || self.worker.purpose == Purpose::Move);
        let began = Instant::now();
        let _courtesy = if is_courteous { self.courtesy().await } else { None };
        if matches!(step, Step::MoveKeys(_)) && self.worker.turns.has_others() {
            self.worker.pacer().on_turn(began.elapsed());
        }
        // Much may have happened while it rested, and asked: the machine is to be asked anew.
        if matches!(step, Step::MoveKeys(_)) && (self.worker.failed_over.is_cancelled() || !self.may_send(&step)) {
            return None;
        }
        let only_reads = matches!(step, Step::ReadEnds { .. } | Step::ListKeys { .. } | Step::CompareKeys(_));
        tokio::select! {
            reply = self.perform_timed(step) => Some(reply),
            () = failed_over.cancelled(), if only_reads => None,
        }
    }

    /// `None` when the slots are to be left instead.
    async fn take_finalise(&mut self) -> Option<Reply> {
        self.turn = None;
        if let Err(fault) = self.await_replicas().await? {
            return Some(fault.into_reply());
        }
        let began = Instant::now();
        let (grant, mut granted) = oneshot::channel();
        self.worker.tell(FromWorker::WantsFinalise { id: self.worker.id, grant }).await;
        let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
        let mut is_told = false;
        let permitted = loop {
            tokio::select! {
                permission = &mut granted => break permission.is_ok(),
                () = self.unwanted() => {
                    // It may have been granted at this very moment; then it is ours, and is used or given back.
                    granted.close();
                    break granted.try_recv().is_ok();
                }
                () = &mut patience, if !is_told => {
                    self.worker.meter.waits_for(self.number, "its turn to finish slots, which one move has at a time");
                    is_told = true;
                }
            }
        };
        self.worker.meter.waits_for(self.number, "");
        self.worker.metrics.step_ended(StepName::FinaliseWait, began.elapsed());
        if !permitted {
            // The supervisor is gone, or we are to leave: nothing may be assigned without its permission.
            self.shared.leave.cancel();
        }
        permitted.then_some(Reply::Go)
    }

    async fn pause(&mut self, machine: &Migration, why: &Trouble, pauses: u32) -> Option<Reply> {
        if !machine.has_suspect() {
            self.turn = None;
        }
        if pauses == 1 {
            let class = why.name();
            warn!(
                source = %self.worker.pair.source, target = %self.worker.pair.target, slots = %machine.slots(), class, %why,
                "move waits"
            );
        }
        self.worker.meter.waits_for(self.number, &why.to_string());
        let wait = pause_length(pauses);
        let until = Instant::now() + wait;
        let reply = loop {
            if machine.holds_finalise() && self.everyone_names_target(machine.slots(), until - wait) {
                break Reply::EveryoneNamesTarget;
            }
            let now = Instant::now();
            if now >= until {
                break Reply::Go;
            }
            tokio::select! {
                () = tokio::time::sleep((until - now).min(RELEASE_CHECK)) => {}
                () = self.shared.leave.cancelled(), if !machine.holds_finalise() => break Reply::Go,
                () = self.worker.failed_over.cancelled() => break Reply::Go,
            }
        };
        self.worker.meter.waits_for(self.number, "");
        Some(reply)
    }
}

/// Whether a step is no matter of pace: of keys with copies at both ends, a client may delete the one that it sees, and then
/// read the other.
const fn is_at_once(step: &Step) -> bool {
    matches!(step, Step::MoveKeys(batch) if batch.replace)
}

/// Whether a step needs the source's turn.
const fn is_about_keys(step: &Step) -> bool {
    matches!(step, Step::ListKeys { .. } | Step::MoveKeys(_) | Step::CompareKeys(_) | Step::DropCopies(_))
}

const fn step_name(step: &Step) -> StepName {
    match step {
        Step::ReadEnds { .. } => StepName::Look,
        Step::SetSlots { mark: Mark::Importing, .. } => StepName::MarkImporting,
        Step::SetSlots { mark: Mark::Migrating, .. } => StepName::MarkMigrating,
        Step::SetSlots { mark: Mark::Assigned, at: End::Target, .. } => StepName::AssignTarget,
        Step::SetSlots { mark: Mark::Assigned, at: End::Source, .. } => StepName::AssignSource,
        Step::SetSlots { mark: Mark::Stable, .. } => StepName::Unmark,
        Step::SetSlots { mark: Mark::Redirected, .. } => StepName::Redirect,
        Step::ListKeys { .. } => StepName::List,
        Step::MoveKeys(_) => StepName::Migrate,
        Step::CompareKeys(_) | Step::DropCopies(_) => StepName::Compare,
        Step::TakeFinalise | Step::YieldFinalise | Step::Listen | Step::Pause(_) | Step::End(_) => {
            StepName::FinaliseWait
        }
    }
}
