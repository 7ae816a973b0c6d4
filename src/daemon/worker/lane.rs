//! One lane of a move: carries one group of slots after the other from its first mark to its last.

mod carrier;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{FromWorker, Report, Worker};
use crate::cluster::{Slot, SlotSet};
use crate::config::Functions;
use crate::daemon::big_keys::GroupLook;
use crate::daemon::drive::drive;
use crate::daemon::ends::{Connections, Fault};
use crate::daemon::heirs::MarkedAtSource;
use crate::daemon::room;
use crate::migration::{Blocked, Ending, ListedKeys, Migration, Pair, Purpose, Trouble};
use crate::throttle::next_group;

/// Lanes of a move, each of which needs a part of the source's turn at least.
const LANES: u32 = 2;
/// Slots that are counted ahead of the group that is opened next.
pub(in crate::daemon) const COUNT_AHEAD: usize = 1_024;
/// How many keys one listing brings where clients would wait for it: 0.2 ms of a source's time.
const LIST_BESIDE_CLIENTS: u64 = 250;

/// What the lanes of a move share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The source's turn for keys, in as many parts as there are lanes. Where clients use an end a lane needs all of them:
    /// one group's keys after another's, one `MIGRATE` at a time. Else one will do, and the source never waits for us.
    turn: Semaphore,
    queue: Mutex<Queue>,
    /// No further group is to be begun, for what was met with one of them.
    end: CancellationToken,
    /// Open slots are to be left as they are.
    leave: CancellationToken,
    /// A call has moved keys, or a group is finished: the pair can do it. Or the first lane has ended.
    pub(super) proven: CancellationToken,
    /// Keys of what the lanes have taken and not moved.
    taken: AtomicU64,
    /// What the source's successor would have to know.
    pub(super) marked: MarkedAtSource,
}

/// The slots that no lane has taken yet.
#[derive(Debug, Default)]
struct Queue {
    rest: SlotSet,
    /// Keys of the next ones of them.
    counts: BTreeMap<Slot, u64>,
}

impl Shared {
    pub(super) fn new(worker: &Worker) -> Self {
        let queue = Queue { rest: worker.slots.clone(), counts: BTreeMap::new() };
        Self {
            turn: Semaphore::new(LANES as usize),
            queue: Mutex::new(queue),
            end: worker.stop.child_token(),
            leave: worker.leave.child_token(),
            proven: CancellationToken::new(),
            taken: AtomicU64::new(0),
            marked: MarkedAtSource::default(),
        }
    }

    /// Whether there is anything that a lane is to take.
    pub(super) async fn has_more(&self) -> bool {
        !self.end.is_cancelled() && !self.queue.lock().await.rest.is_empty()
    }

    /// The report of what no lane has taken.
    pub(super) async fn not_begun(&self) -> Report {
        Report { not_begun: std::mem::take(&mut self.queue.lock().await.rest), ..Report::default() }
    }
}

/// One lane.
pub(super) struct Lane<'a> {
    worker: &'a Worker,
    shared: &'a Shared,
    number: usize,
    pub(super) ends: Connections,
    /// Held from the first listing or call of this lane's group until its keys are drained.
    turn: Option<SemaphorePermit<'a>>,
    /// Names of keys of the next group.
    listed: ListedKeys,
    /// Keys of this lane's group that have not moved, as they were counted.
    outstanding: u64,
    /// When the target's memory is to be read again, at the latest.
    memory_due: Instant,
    /// Slots that the supervisor knows to be set apart.
    told: SlotSet,
    report: Report,
}

impl<'a> Lane<'a> {
    pub(super) fn new(worker: &'a Worker, shared: &'a Shared, ends: Connections, number: usize) -> Self {
        Self {
            worker,
            shared,
            number,
            ends,
            turn: None,
            listed: ListedKeys::new(),
            outstanding: 0,
            memory_due: Instant::now(),
            told: SlotSet::new(),
            report: Report::default(),
        }
    }

    /// Ends it: what it has to report.
    pub(super) fn end(mut self) -> Report {
        self.ends.close();
        self.report
    }

    /// Opens its connections. Says whether that worked: if not, the first lane meets the same and says so, or goes on alone.
    pub(super) async fn open(&mut self) -> bool {
        let unwanted = self.unwanted();
        tokio::select! {
            opened = self.ends.open() => match opened {
                Ok(()) => true,
                Err(fault) => {
                    debug!(%fault, "no second lane");
                    false
                }
            },
            () = unwanted => false,
            () = self.shared.end.cancelled() => false,
        }
    }

    /// Finishes slots that are open already.
    pub(super) async fn resume(&mut self) {
        let slots = std::mem::take(&mut self.shared.queue.lock().await.rest);
        self.carry(slots, Purpose::Resume).await;
    }

    /// Whether the target has the functions that it needs; it may be given them.
    pub(super) async fn compare_functions(&mut self) -> bool {
        // Loading some changes the target.
        let functions = if self.worker.lease.may_act() { self.worker.functions } else { Functions::Ignore };
        let trouble = match self.ends.compare_functions(functions).await {
            Ok(None) => return true,
            Ok(Some(trouble)) => trouble,
            Err(fault) => fault.trouble(self.worker.pair),
        };
        self.give_up(SlotSet::new(), trouble).await;
        false
    }

    /// Moves group after group, this one first.
    pub(super) async fn move_groups(&mut self, mut first: Option<SlotSet>) {
        loop {
            // The other lane's group is open meanwhile, and is not to wait for what is only read here.
            let unwanted = self.unwanted();
            let next = if first.is_some() {
                first.take()
            } else {
                tokio::select! {
                    slots = self.take_group() => slots,
                    () = unwanted => None,
                }
            };
            let Some(slots) = next else { break };
            let goes_on = self.is_on_record(&slots).await && self.carry(slots, Purpose::Move).await;
            self.moved(self.outstanding);
            if !goes_on {
                self.shared.end.cancel();
                break;
            }
            self.shared.proven.cancel();
        }
        self.turn = None;
        self.shared.proven.cancel();
    }

    /// Has it put on record that these are about to be opened. Says whether it is.
    async fn is_on_record(&mut self, slots: &SlotSet) -> bool {
        let (recorded, on_record) = oneshot::channel();
        self.worker.tell(FromWorker::Opening { id: self.worker.id, slots: slots.clone(), recorded }).await;
        let on_record = tokio::select! {
            answer = on_record => answer.is_ok(),
            () = self.unwanted() => false,
        };
        if !on_record {
            self.give_back(slots).await;
        }
        on_record
    }

    async fn give_back(&self, slots: &SlotSet) {
        self.shared.queue.lock().await.rest.extend(slots.iter());
    }

    /// So many keys of what the lanes have taken need no room any more.
    fn moved(&mut self, keys: u64) {
        let keys = keys.min(self.outstanding);
        self.outstanding -= keys;
        self.shared.taken.fetch_sub(keys, Ordering::Relaxed);
    }

    /// The next group that may be opened; `None` when none is left, or none is to be begun.
    pub(super) async fn take_group(&mut self) -> Option<SlotSet> {
        while !self.is_to_end() {
            self.turn = None;
            self.moved(self.outstanding);
            let counted = match self.take_counted().await {
                Ok(counted) if counted.is_empty() => break,
                Ok(counted) => counted,
                Err(fault) => {
                    self.give_up(SlotSet::new(), fault.trouble(self.worker.pair)).await;
                    break;
                }
            };
            let all = counted.keys().copied().collect();
            let allowed = match self.no_room_for_taken().await {
                Ok(Some(full)) => Err(full),
                Ok(None) => self.without_big_keys(counted).await.map_err(|fault| fault.trouble(self.worker.pair)),
                Err(fault) => Err(fault.trouble(self.worker.pair)),
            };
            match allowed {
                Ok(slots) if slots.is_empty() => {}
                Ok(slots) if self.may_begin(slots.len()).await => return Some(slots),
                Ok(slots) => {
                    self.give_back(&slots).await;
                    break;
                }
                Err(trouble) => {
                    self.give_up(all, trouble).await;
                    break;
                }
            }
        }
        self.turn = None;
        None
    }

    /// The slots of the next group, with how many keys they hold; none when no slot is left.
    async fn take_counted(&mut self) -> Result<BTreeMap<Slot, u64>, Fault> {
        // Held while the source counts: the other lane would only count the same.
        let mut queue = self.shared.queue.lock().await;
        if queue.counts.is_empty() && !queue.rest.is_empty() {
            let ahead: SlotSet = queue.rest.iter().take(COUNT_AHEAD).collect();
            queue.counts = self.ends.count_at_source(&ahead).await?;
        }
        let limits = self.worker.group;
        let limits = if self.worker.pacer().has_clients() { limits } else { limits.without_clients() };
        let counted = next_group(&mut queue.counts, limits);
        queue.rest = queue.rest.difference(&counted.keys().copied().collect());
        self.outstanding = counted.values().sum();
        self.shared.taken.fetch_add(self.outstanding, Ordering::Relaxed);
        Ok(counted)
    }

    /// These slots, and all that no lane has taken, cannot be begun because of this.
    pub(super) async fn give_up(&mut self, mut slots: SlotSet, why: Trouble) {
        self.shared.end.cancel();
        let Queue { rest, .. } = std::mem::take(&mut *self.shared.queue.lock().await);
        slots.extend(rest.iter());
        let earlier = std::mem::take(&mut self.report);
        self.report = self.worker.unopened(&slots, &why).merge(earlier);
    }

    /// No further group is to be begun.
    fn is_to_end(&self) -> bool {
        self.shared.end.is_cancelled() || self.shared.leave.is_cancelled() || self.worker.failed_over.is_cancelled()
    }

    /// Why the target is not to take now what the lanes have taken: other clients may have filled it since the move was
    /// planned.
    async fn no_room_for_taken(&mut self) -> Result<Option<Trouble>, Fault> {
        let bytes = room::needed(self.shared.taken.load(Ordering::Relaxed), self.worker.bytes_per_key);
        if bytes == 0 {
            return Ok(None);
        }
        let memory = self.ends.target_memory().await?;
        let reason = self.worker.room.no_room(self.worker.pair.target, memory, bytes);
        Ok(reason.map(|reason| Trouble::Blocked(Blocked::TargetFull(reason.to_string()))))
    }

    /// The slots of a group, without those that a big key keeps from being opened.
    async fn without_big_keys(&mut self, mut counts: BTreeMap<Slot, u64>) -> Result<SlotSet, Fault> {
        let mut group: SlotSet = counts.keys().copied().collect();
        let mut look = GroupLook::default();
        if self.worker.foresight().is_about(&group) {
            // What was counted for the queue may be older than what was seen.
            counts = self.ends.count_at_source(&group).await?;
            look = self.worker.foresight().take(&mut counts);
        }
        let rules = &self.worker.big_keys;
        if !counts.is_empty() {
            let courtesy = self.courtesy().await;
            let has_clients = self.worker.pacer().has_clients();
            look.merge(self.ends.big_keys(rules, &counts, self.worker.dataset, has_clients).await?.unwrap_or_default());
            drop(courtesy);
        }
        let GroupLook { big: found, listed } = look;
        self.listed = listed;
        let mut judged = rules.judge(&found, Timestamp::now());
        if found.iter().any(|big| rules.is_big(big) && !judged.refused.contains_key(&big.slot)) {
            // They have their hours: keys of the other lane, which may take long, are not to come between this and their move.
            self.turn = self.shared.turn.acquire_many(LANES).await.ok();
            judged = rules.judge(&found, Timestamp::now());
        }
        self.ends.heavy = judged.heavy;
        if let Some(node_timeout) = self.worker.big_keys.node_timeout {
            self.ends.keep_below(node_timeout);
        }
        for big in found.iter().filter(|big| self.worker.big_keys.is_big(big)) {
            debug!(slot = %big.slot, db = big.db, key = %big.key.escape_ascii(), size = ?big.size, "big key");
        }
        self.tell_set_apart(&judged.refused).await;
        for (slot, trouble) in judged.refused {
            self.worker.metrics.trouble(trouble.name());
            warn!(%slot, source = %self.worker.pair.source, target = %self.worker.pair.target, why = %trouble, "slot not opened");
            group.remove(slot);
            self.report.troubled.insert(slot, trouble);
        }
        Ok(group)
    }

    /// Tells the supervisor of slots that are set apart, once each: nobody is to hear of them only when the others are done.
    async fn tell_set_apart(&mut self, troubled: &BTreeMap<Slot, Trouble>) {
        let new = troubled.iter().filter(|(slot, _)| !self.told.contains(**slot));
        let slots: BTreeMap<Slot, Trouble> = new.map(|(slot, trouble)| (*slot, trouble.clone())).collect();
        if !slots.is_empty() {
            self.told.extend(slots.keys().copied());
            self.worker.tell(FromWorker::SetApart { id: self.worker.id, slots }).await;
        }
    }

    /// Drives one machine to its end. Says whether the next group may begin.
    async fn carry(&mut self, slots: SlotSet, purpose: Purpose) -> bool {
        let began = Instant::now();
        let mut machine = match purpose {
            Purpose::Move => Migration::new(self.worker.pair, slots.clone(), purpose),
            Purpose::Resume => {
                Migration::resume(self.worker.pair, slots.clone(), self.worker.before.clone(), self.worker.on_record)
            }
        }
        .with_heavy(self.ends.heavy.clone())
        .with_listed(std::mem::take(&mut self.listed))
        .between_kin(self.worker.kin);
        if self.worker.pacer().has_clients() {
            machine = machine.listing_at_once(LIST_BESIDE_CLIENTS);
        }
        let ending = drive(&mut machine, self).await;
        self.turn = None;
        if machine.holds_finalise() {
            // Nobody gets it before these slots are settled, by a move of their own: the other lane would wait for it in vain.
            self.shared.leave.cancel();
        }
        let unfinished = machine.slots().clone();
        let troubled: SlotSet = machine.troubled().keys().copied().collect();
        let finished = slots.difference(&unfinished).difference(&troubled).difference(machine.closed());
        let took = began.elapsed();
        let Pair { source, target } = self.worker.pair;
        self.account(&machine, &finished, took).await;
        if !machine.closed().is_empty() {
            info!(%source, %target, slots = %machine.closed(), "slots closed again; the source keeps them");
        }
        for (slot, trouble) in machine.troubled() {
            self.worker.metrics.trouble(trouble.name());
            warn!(%slot, %source, %target, why = %trouble, "slot not moved");
            self.report.troubled.insert(*slot, trouble.clone());
            if trouble.may_leave_open() {
                self.report.left_open.insert(*slot);
            }
        }
        let (why, open) = match ending {
            Ending::Done => return true,
            Ending::NotStarted(why) => (why, false),
            Ending::Left(why) => (why, true),
        };
        if why != Trouble::Interrupted && !unfinished.is_empty() {
            self.worker.metrics.trouble(why.name());
            warn!(slots = %unfinished, %source, %target, open, %why, "slots not finished");
        }
        self.report.troubled.extend(unfinished.iter().map(|slot| (slot, why.clone())));
        if open {
            self.report.left_open.extend(unfinished.iter());
        }
        // What is true of one group's servers is true of the next; a refused or stray slot is that slot's own affair.
        unfinished.is_empty()
    }

    async fn account(&self, machine: &Migration, finished: &SlotSet, took: Duration) {
        let keys = machine.progress().keys;
        if !finished.is_empty() {
            self.worker.metrics.slots_moved(finished.len(), took);
            self.worker.tell(FromWorker::Finished { id: self.worker.id, slots: finished.clone() }).await;
            let Pair { source, target } = self.worker.pair;
            info!(
                %source, %target, slots = %finished, count = finished.len(), keys, took_ms = took.as_millis(),
                "slots moved"
            );
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        self.worker.metrics.bytes_moved((keys as f64 * self.worker.bytes_per_key) as u64);
    }

    /// Waits until so many slots may be opened by the plain limit. Says whether they are wanted then.
    async fn may_begin(&mut self, slots: usize) -> bool {
        let wait = self.worker.pacer().wait_for_slots(slots);
        self.worker.meter.set_pace(self.worker.pacer().status());
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.end.cancelled() => {}
                () = self.unwanted() => {}
            }
        }
        !self.is_to_end()
    }
}
