//! One task a move: carries out the steps that the state machine names, on connections of its own.
//!
//! The machine decides; the worker asks the servers and the supervisor, and reports what they said. It ends between
//! steps only, and never drops a call that changes something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::big_keys::Rules;
use super::drive::{Carrier, drive, pause_length};
use super::ends::{Connections, Fault};
use super::meter::Meter;
use super::pacer::Pacer;
use super::{Lease, MoveId, PaceStatus, RoomRules, Sight, room};
use crate::cluster::{MemoryUse, Shard, Slot, SlotSet, Topology};
use crate::config::Functions;
use crate::metrics::{Metrics, StepName};
use crate::migration::{
    Blocked, CallLimit, End, Ending, Mark, MigrateReply, Migration, Pair, Predecessors, Purpose, Reply, Step, Trouble,
};
use crate::throttle::{GroupLimits, next_group};

/// Slots that are counted ahead of the group that is opened next.
const COUNT_AHEAD: usize = 1_024;
/// How old the target's memory may be in the middle of a group, while it is below its limit.
const MEMORY_GOOD_FOR: Duration = Duration::from_millis(100);
/// How long replicas may be behind before that is told, and how often it is told again.
const REPLICA_PATIENCE: Duration = Duration::from_secs(2);
const REMIND: Duration = Duration::from_mins(1);
/// How long a target that refuses keys by itself, or has no limit, is taken to go on so.
const POLICY_GOOD_FOR: Duration = Duration::from_secs(1);
/// How often a paused worker that holds the finalise looks whether everybody names the target by now.
const RELEASE_CHECK: Duration = Duration::from_millis(500);

/// What a worker tells the supervisor.
#[derive(Debug)]
pub(super) enum FromWorker {
    /// These slots are about to be opened; the answer comes when that is on record.
    Opening { id: MoveId, slots: SlotSet, recorded: oneshot::Sender<()> },
    /// These slots are finished on both ends.
    Finished { id: MoveId, slots: SlotSet },
    /// The finalise is wanted; the answer is the permission.
    WantsFinalise { id: MoveId, grant: oneshot::Sender<()> },
    /// The finalise is given back: the source no longer claims the slots, or nobody was told anything.
    YieldsFinalise { id: MoveId },
    /// The worker has ended.
    Ended { id: MoveId, report: Report },
}

/// How a worker ended.
#[derive(Debug)]
pub(super) struct Report {
    /// Slots that may be open, with whatever marks they have.
    pub(super) left_open: SlotSet,
    /// Slots that were not moved, and why.
    pub(super) troubled: BTreeMap<Slot, Trouble>,
    /// Slots that were not begun, for no fault of theirs.
    pub(super) not_begun: SlotSet,
}

/// What a worker works with.
pub(super) struct Worker {
    pub(super) id: MoveId,
    pub(super) pair: Pair,
    pub(super) slots: SlotSet,
    pub(super) purpose: Purpose,
    /// Of open slots: whom their ends have taken over from.
    pub(super) before: Predecessors,
    /// Of open slots: we opened them ourselves.
    pub(super) on_record: bool,
    pub(super) ends: Connections,
    pub(super) pacer: Pacer,
    pub(super) group: GroupLimits,
    /// Estimate for the count of bytes: the source's data per key.
    pub(super) bytes_per_key: f64,
    /// How near to its memory limit the target may come.
    pub(super) room: RoomRules,
    /// When the target's memory is to be read again, at the latest.
    pub(super) memory_due: Instant,
    /// What becomes of a target that lacks functions.
    pub(super) functions: Functions,
    /// What becomes of big keys.
    pub(super) big_keys: Rules,
    /// Bytes that the source holds.
    pub(super) dataset: u64,
    pub(super) metrics: Arc<Metrics>,
    pub(super) meter: Arc<Meter>,
    pub(super) supervisor: mpsc::Sender<FromWorker>,
    pub(super) sights: watch::Receiver<Sight>,
    /// Without it nothing may be changed.
    pub(super) lease: Lease,
    /// Begin no further group.
    pub(super) stop: CancellationToken,
    /// Leave what is open as it is, at the next step at which that is safe.
    pub(super) leave: CancellationToken,
    /// A failover has replaced an end: nothing that is done between these two ends leads anywhere.
    pub(super) failed_over: CancellationToken,
}

impl Worker {
    /// Runs to the end; the report goes to the caller, who passes it on even when this panics.
    pub(super) async fn run(mut self) -> Report {
        self.meter.set_pace(self.pacer.status());
        let report = match self.ends.open().await {
            Ok(()) if self.purpose == Purpose::Resume => self.resume().await,
            Ok(()) => Box::pin(self.move_all()).await,
            Err(fault) => self.unopened(&self.slots.clone(), fault.trouble(self.pair)),
        };
        self.ends.close();
        report
    }

    /// Finishes slots that are open already.
    async fn resume(&mut self) -> Report {
        let slots = self.slots.clone();
        let mut report = Report::empty();
        self.carry(slots, Purpose::Resume, &mut report).await;
        report
    }

    /// Moves group after group.
    async fn move_all(&mut self) -> Report {
        let mut report = Report::empty();
        let mut rest = self.slots.clone();
        // Loading some changes the target.
        let functions = if self.lease.may_act() { self.functions } else { Functions::Ignore };
        match self.ends.compare_functions(functions).await {
            Ok(None) => {}
            Ok(Some(trouble)) => return self.given_up(report, &rest, trouble),
            Err(fault) => return self.given_up(report, &rest, fault.trouble(self.pair)),
        }
        let mut counts = BTreeMap::new();
        while !rest.is_empty() && !self.is_to_end() {
            if counts.is_empty() {
                let ahead: SlotSet = rest.iter().take(COUNT_AHEAD).collect();
                counts = match self.ends.count_at_source(&ahead).await {
                    Ok(counts) => counts,
                    Err(fault) => return self.given_up(report, &rest, fault.trouble(self.pair)),
                };
            }
            let group = next_group(&counts, self.group);
            let counted: BTreeMap<Slot, u64> = counts.extract_if(.., |slot, _| group.contains(*slot)).collect();
            let needed = room::needed(counted.values().sum(), self.bytes_per_key);
            match self.no_room_for(needed).await {
                Ok(None) => {}
                Ok(Some(full)) => return self.given_up(report, &rest, full),
                Err(fault) => return self.given_up(report, &rest, fault.trouble(self.pair)),
            }
            let group = match self.without_big_keys(counted, &mut report).await {
                Ok(group) => group,
                Err(fault) => return self.given_up(report, &rest, fault.trouble(self.pair)),
            };
            rest = rest.difference(&group);
            for slot in report.troubled.keys() {
                rest.remove(*slot);
            }
            if group.is_empty() {
                continue;
            }
            if !self.may_begin(group.len()).await {
                rest = rest.union(&group);
                break;
            }
            let (recorded, on_record) = oneshot::channel();
            self.tell(FromWorker::Opening { id: self.id, slots: group.clone(), recorded }).await;
            if on_record.await.is_err() {
                break;
            }
            if !self.carry(group, Purpose::Move, &mut report).await {
                break;
            }
        }
        report.not_begun = rest;
        report
    }

    /// No further group is to be begun.
    fn is_to_end(&self) -> bool {
        self.stop.is_cancelled() || self.leave.is_cancelled() || self.failed_over.is_cancelled()
    }

    /// Waits until the slots are to be left, or an end has been replaced.
    async fn is_not_wanted(&self) {
        tokio::select! {
            () = self.leave.cancelled() => {}
            () = self.failed_over.cancelled() => {}
        }
    }

    /// Why the target is not to take so many bytes now: other clients may have filled it since the move was planned.
    async fn no_room_for(&mut self, bytes: u64) -> Result<Option<Trouble>, Fault> {
        if bytes == 0 {
            return Ok(None);
        }
        let memory = self.ends.target_memory().await?;
        let reason = self.room.no_room(self.pair.target, memory, bytes);
        Ok(reason.map(|reason| Trouble::Blocked(Blocked::TargetFull(reason.to_string()))))
    }

    /// Why a target that would drop keys takes no more in the middle of a group.
    async fn last_limit_reached(&mut self) -> Result<Option<Blocked>, Fault> {
        if Instant::now() < self.memory_due {
            return Ok(None);
        }
        let memory = self.ends.target_memory().await?;
        let near = self.room.no_room(self.pair.target, memory, 1).is_some();
        self.memory_due = Instant::now() + if near { Duration::ZERO } else { MEMORY_GOOD_FOR };
        let Some(limit) = self.room.last_limit(memory) else {
            self.memory_due = Instant::now() + POLICY_GOOD_FOR;
            return Ok(None);
        };
        let MemoryUse { used, max, .. } = memory;
        let text = format!("it uses {used} bytes; beyond {limit} of its maxmemory of {max} it might drop moved keys");
        Ok((used > limit).then_some(Blocked::TargetFull(text)))
    }

    /// Waits for the replicas of both ends, for as long as they follow; `None` when the slots are to be left instead.
    async fn await_replicas(&mut self) -> Option<Result<(), Fault>> {
        let (leave, failed_over) = (self.leave.clone(), self.failed_over.clone());
        let Pair { source, target } = self.pair;
        let meter = Arc::clone(&self.meter);
        let mut in_step = self.ends.await_replicas().boxed();
        let mut patience = REPLICA_PATIENCE;
        let reached = loop {
            tokio::select! {
                reached = &mut in_step => break Some(reached),
                () = leave.cancelled() => break None,
                () = failed_over.cancelled() => break None,
                () = tokio::time::sleep(patience) => {
                    warn!(%source, %target, "the finalise waits for a replica of each end to have what its primary has");
                    meter.waits_for("a replica of each end to have what its primary has");
                    patience = REMIND;
                }
            }
        };
        meter.waits_for("");
        reached
    }

    /// The slots of a group, without those that a big key keeps from being opened.
    async fn without_big_keys(&mut self, counts: BTreeMap<Slot, u64>, report: &mut Report) -> Result<SlotSet, Fault> {
        let mut group: SlotSet = counts.keys().copied().collect();
        let found = self.ends.big_keys(&self.big_keys, &counts, self.dataset).await?;
        let judged = self.big_keys.judge(&found, Timestamp::now());
        self.ends.heavy = judged.heavy;
        if let Some(node_timeout) = self.big_keys.node_timeout {
            self.ends.keep_below(node_timeout);
        }
        for big in found.iter().filter(|big| self.big_keys.is_big(big)) {
            debug!(slot = %big.slot, db = big.db, key = %big.key.escape_ascii(), size = ?big.size, "big key");
        }
        for (slot, trouble) in judged.refused {
            self.metrics.trouble(trouble.name());
            warn!(%slot, source = %self.pair.source, target = %self.pair.target, why = %trouble, "slot not opened");
            group.remove(slot);
            report.troubled.insert(slot, trouble);
        }
        Ok(group)
    }

    /// Drives one machine to its end. Says whether the next group may begin.
    async fn carry(&mut self, slots: SlotSet, purpose: Purpose, report: &mut Report) -> bool {
        let began = Instant::now();
        let mut machine = match purpose {
            Purpose::Move => Migration::new(self.pair, slots.clone(), purpose),
            Purpose::Resume => Migration::resume(self.pair, slots.clone(), self.before.clone(), self.on_record),
        }
        .with_heavy(self.ends.heavy.clone());
        let ending = drive(&mut machine, self).await;
        let unfinished = machine.slots().clone();
        let troubled: SlotSet = machine.troubled().keys().copied().collect();
        let finished = slots.difference(&unfinished).difference(&troubled);
        let took = began.elapsed();
        self.account(&machine, &finished, took).await;
        for (slot, trouble) in machine.troubled() {
            self.metrics.trouble(trouble.name());
            warn!(%slot, source = %self.pair.source, target = %self.pair.target, why = %trouble, "slot not moved");
            report.troubled.insert(*slot, trouble.clone());
            if trouble.may_leave_open() {
                report.left_open.insert(*slot);
            }
        }
        let (why, open) = match ending {
            Ending::Done => return true,
            Ending::NotStarted(why) => (why, false),
            Ending::Left(why) => (why, true),
        };
        if why != Trouble::Interrupted {
            self.metrics.trouble(why.name());
            let (source, target) = (self.pair.source, self.pair.target);
            warn!(slots = %unfinished, %source, %target, open, %why, "slots not finished");
        }
        report.troubled.extend(unfinished.iter().map(|slot| (slot, why.clone())));
        if open {
            report.left_open.extend(unfinished.iter());
        }
        // What is true of one group's servers is true of the next; a refused or stray slot is that slot's own affair.
        unfinished.is_empty()
    }

    async fn account(&self, machine: &Migration, finished: &SlotSet, took: Duration) {
        let keys = machine.progress().keys;
        if !finished.is_empty() {
            self.metrics.slots_moved(finished.len(), took);
            self.tell(FromWorker::Finished { id: self.id, slots: finished.clone() }).await;
            info!(
                source = %self.pair.source, target = %self.pair.target, slots = %finished, count = finished.len(), keys,
                took_ms = took.as_millis(), "slots moved"
            );
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        self.metrics.bytes_moved((keys as f64 * self.bytes_per_key) as u64);
    }

    /// Whether a look that began after `since` shows the source replaced and every primary naming the target.
    fn everyone_names_target(&self, slots: &SlotSet, since: Instant) -> bool {
        let look = self.sights.borrow().look.clone();
        let Some(look) = look.filter(|look| look.began > since) else { return false };
        let topology = Topology::merge(&look.observation, &SlotSet::new());
        // A dead primary without slots is listed until it is forgotten or comes back.
        let is_nobody = |shard: &Shard| !shard.answered() && shard.slots.is_empty();
        let replaced = topology.shards.get(&self.pair.source).is_none_or(is_nobody);
        replaced
            && topology.unclear.is_empty()
            && slots.iter().all(|slot| topology.owner(slot) == Some(self.pair.target))
    }

    async fn tell(&self, message: FromWorker) {
        // The supervisor outlives its workers; if it is gone the whole process is on its way out.
        let _ = self.supervisor.send(message).await;
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
            | Step::TakeFinalise
            | Step::YieldFinalise
            | Step::Listen
            | Step::Pause(_)
            | Step::End(_) => (0, 0),
        };
        let expected = if let Step::MoveKeys(batch) = &step { self.ends.expected(batch) } else { Duration::ZERO };
        let began = Instant::now();
        let reply = self.ends.perform(step).await.unwrap_or_else(Fault::into_reply);
        let took = began.elapsed();
        self.metrics.step_ended(name, took);
        if matches!(reply, Reply::Moved(MigrateReply::Moved | MigrateReply::MovedUnmarked)) {
            self.metrics.migrate_call(keys, took);
            self.learn(keys, expected, took).await;
        }
        let PaceStatus { batch_keys, block, limit, .. } = self.pacer.status();
        debug!(step = ?name, keys, listed, took_us = took.as_micros(), batch_keys, ?block, %limit, "step");
        reply
    }

    /// Learns from a call how fast the next ones may be; `expected` is what its heavy keys were expected to take.
    async fn learn(&mut self, keys: usize, expected: Duration, took: Duration) {
        // The round trip was timed once, when the source may have been busy.
        let took = took.saturating_sub(self.ends.round_trip()).max(took / 10);
        self.pacer.on_call(keys, expected, took);
        if self.pacer.wants_count() {
            // A source that hangs by now is not waited for once it is replaced.
            tokio::select! {
                count = self.ends.migrate_count() => if let Some(count) = count { self.pacer.on_count(count) },
                () = self.failed_over.cancelled() => {}
            }
        }
        self.meter.set_pace(self.pacer.status());
    }

    /// Waits until so many slots may be opened by the plain limit. Says whether they are wanted then.
    async fn may_begin(&mut self, slots: usize) -> bool {
        let wait = self.pacer.wait_for_slots(slots);
        self.meter.set_pace(self.pacer.status());
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
                () = self.is_not_wanted() => {}
            }
        }
        !self.is_to_end()
    }

    /// The report, with slots that cannot be begun because of this.
    fn given_up(&self, report: Report, slots: &SlotSet, why: Trouble) -> Report {
        let mut failed = self.unopened(slots, why);
        failed.troubled.extend(report.troubled);
        Report { left_open: report.left_open, ..failed }
    }

    fn unopened(&self, slots: &SlotSet, why: Trouble) -> Report {
        self.metrics.trouble(why.name());
        let (source, target) = (self.pair.source, self.pair.target);
        warn!(slots = %slots, %source, %target, %why, "move could not begin");
        let left_open = if self.purpose == Purpose::Resume { slots.clone() } else { SlotSet::new() };
        let troubled = slots.iter().map(|slot| (slot, why.clone())).collect();
        Report { left_open, troubled, not_begun: SlotSet::new() }
    }
}

impl Carrier for Worker {
    fn limit(&self) -> CallLimit {
        self.pacer.limit()
    }

    fn is_to_leave(&self) -> bool {
        self.leave.is_cancelled()
    }

    fn may_send(&self, step: &Step) -> bool {
        self.lease.permits(step)
    }

    fn has_failed_over(&self) -> bool {
        self.failed_over.is_cancelled()
    }

    fn came_forward(&mut self, slots: usize, keys: u64) {
        self.meter.add(slots, keys);
    }

    async fn yield_finalise(&mut self) {
        self.tell(FromWorker::YieldsFinalise { id: self.id }).await;
    }

    /// Connecting, and calls that only read, are not waited for after a failover: a node that hangs takes seconds to
    /// time out.
    async fn perform(&mut self, step: Step) -> Option<Reply> {
        let failed_over = self.failed_over.clone();
        let ready = tokio::select! {
            ready = self.ends.ready(&step) => ready,
            () = failed_over.cancelled() => return None,
        };
        if let Err(fault) = ready {
            return Some(fault.into_reply());
        }
        if let Step::MoveKeys(batch) = &step {
            let wait = self.pacer.wait_for(batch.keys.len());
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.is_not_wanted() => {}
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
        // Much may have happened while it rested, and asked: the machine is to be asked anew.
        if matches!(step, Step::MoveKeys(_)) && (self.failed_over.is_cancelled() || !self.may_send(&step)) {
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
        if let Err(fault) = self.await_replicas().await? {
            return Some(fault.into_reply());
        }
        let began = Instant::now();
        let (grant, mut granted) = oneshot::channel();
        self.tell(FromWorker::WantsFinalise { id: self.id, grant }).await;
        let permitted = tokio::select! {
            permission = &mut granted => permission.is_ok(),
            () = self.is_not_wanted() => {
                // It may have been granted at this very moment; then it is ours, and is used or given back.
                granted.close();
                granted.try_recv().is_ok()
            }
        };
        self.meter.waits_for("");
        self.metrics.step_ended(StepName::FinaliseWait, began.elapsed());
        if !permitted {
            // The supervisor is gone, or we are to leave: nothing may be assigned without its permission.
            self.leave.cancel();
        }
        permitted.then_some(Reply::Go)
    }

    async fn pause(&mut self, machine: &Migration, why: &Trouble, pauses: u32) -> Option<Reply> {
        if pauses == 1 {
            let class = why.name();
            warn!(
                source = %self.pair.source, target = %self.pair.target, slots = %machine.slots(), class, %why,
                "move waits"
            );
        }
        self.meter.waits_for(&why.to_string());
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
                () = self.leave.cancelled(), if !machine.holds_finalise() => break Reply::Go,
                () = self.failed_over.cancelled() => break Reply::Go,
            }
        };
        self.meter.waits_for("");
        Some(reply)
    }
}

impl Report {
    fn empty() -> Self {
        Self { left_open: SlotSet::new(), troubled: BTreeMap::new(), not_begun: SlotSet::new() }
    }
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
        Step::CompareKeys(_) => StepName::Compare,
        Step::TakeFinalise | Step::YieldFinalise | Step::Listen | Step::Pause(_) | Step::End(_) => {
            StepName::FinaliseWait
        }
    }
}
