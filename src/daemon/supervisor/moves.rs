//! The running moves: how one is started, what it needs, and what its end leaves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use super::super::canary::Canary;
use super::super::decide::Start;
use super::super::ends::Connections;
use super::super::finished::Finished;
use super::super::meter::Meter;
use super::super::pacer::{Pacer, budget};
use super::super::worker::{FromWorker, Report, Worker};
use super::super::{MoveId, RoomRules};
use super::{Running, SetAside, Supervisor};
use crate::cluster::{Slot, SlotSet};
use crate::config::{Config, MigrationConfig};
use crate::journal::{Moved, Opened};
use crate::metrics::MoveOutcome;
use crate::migration::{Pair, Purpose, Trouble};
use crate::plan::Why;

/// From so many keys on, what a node's data set takes is taken to be theirs.
const KEYS_TO_ESTIMATE_BY: u64 = 1_000;

impl Running {
    /// About how many bytes it has moved; `None` where the size of its source's keys is not known.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
    pub(super) fn bytes_estimated(&self) -> Option<u64> {
        self.key_bytes.map(|bytes| (self.meter.keys() as f64 * bytes) as u64)
    }

    /// What the history is told when nothing more is heard of it, these slots being those that it was not told of yet.
    pub(super) fn so_far(&self, slots: SlotSet) -> Moved {
        self.moved(slots, "killed: evenkeel ended before the move did".to_owned())
    }

    fn moved(&self, slots: SlotSet, outcome: String) -> Moved {
        Moved {
            slots,
            source: self.pair.source,
            target: self.pair.target,
            why: self.why.map_or("resume", Why::name).to_owned(),
            keys: self.meter.keys(),
            bytes_estimated: self.bytes_estimated(),
            took: self.since.elapsed(),
            outcome,
            at: SystemTime::now(),
        }
    }
}

impl Supervisor {
    /// Starts a worker for these slots.
    pub(super) fn spawn(&mut self, start: Start, purpose: Purpose, config: &Config) {
        let Some(picture) = self.picture.clone() else { return };
        if start.pair.source == start.pair.target {
            error!(node = %start.pair.source, slots = %start.slots, "a move from a node to itself is not begun: this is a bug");
            return;
        }
        let (observation, topology, ours) = (&picture.look.observation, &picture.topology, self.ours.subscribe());
        let ends = Connections::between(start.pair, observation, topology, &self.dialer, config, ours);
        let ends = match ends {
            Ok(Some(ends)) => ends,
            Ok(None) => return,
            Err(why) => {
                warn!(%why, "the password for MIGRATE cannot be read");
                return;
            }
        };
        self.next_id += 1;
        let id = MoveId(self.next_id);
        let [stop, leave, failed_over] = [(); 3].map(|()| CancellationToken::new());
        let meter = Arc::new(Meter::default());
        let info = picture.infos.get(&start.pair.source);
        let keys = info.map_or(0, |info| info.keys.values().sum::<u64>()).max(1);
        if purpose == Purpose::Resume {
            self.own(|own| own.insert(&start.slots, start.pair));
        }
        let bytes_per_key = info.map_or(0.0, |info| info.dataset_bytes as f64) / keys as f64;
        // Of few keys the size of the data set tells little: buffers are in it too.
        let known = info.is_some_and(|info| info.dataset_bytes > 0) && keys >= KEYS_TO_ESTIMATE_BY;
        let key_bytes = known.then_some(bytes_per_key);
        let foresight = self.foresight(start.pair);
        let canaries = self.canaries_at(&ends);
        // Now, and not before: it has the same canaries, and they go on.
        self.scouts.remove(&start.pair.source);
        let pacer = Arc::new(Mutex::new(self.pacer(start.pair, &config.migration, canaries, bytes_per_key)));
        let worker = Worker {
            id,
            pair: start.pair,
            kin: self.memory.lineage().were_one_shard(start.pair.source, start.pair.target),
            slots: start.slots.clone(),
            purpose,
            before: start.before,
            on_record: start.on_record,
            pacer: Arc::clone(&pacer),
            turns: self.turns.at(&ends.source_address().host),
            group: self.group_limits(config),
            bytes_per_key,
            room: RoomRules::new(&config.migration),
            functions: config.migration.functions,
            big_keys: self.rules(start.pair, &picture, config),
            dataset: info.map_or(0, |info| info.dataset_bytes),
            foresight: Mutex::new(foresight),
            metrics: Arc::clone(&self.parts.metrics),
            meter: Arc::clone(&meter),
            supervisor: self.mailbox.0.clone(),
            sights: self.parts.sights.clone(),
            held_targets: self.held_targets.subscribe(),
            lease: self.parts.lease.clone(),
            stop: stop.clone(),
            leave: leave.clone(),
            failed_over: failed_over.clone(),
        };
        let (pair, slots, why) = (start.pair, start.slots, start.why);
        let span = info_span!("move", id = id.0, source = %pair.source.short(), target = %pair.target.short());
        let (supervisor, lost) = (self.mailbox.0.clone(), slots.clone());
        let (finished, set_apart, since) = (Finished::default(), SlotSet::new(), Instant::now());
        let running = Running {
            pair,
            slots,
            finished,
            set_apart,
            purpose,
            why,
            since,
            meter,
            pacer,
            key_bytes,
            stop,
            leave,
            failed_over,
        };
        let (records, begun) = (self.parts.records.clone(), running.so_far(SlotSet::new()));
        self.running.insert(id, running);
        self.tasks.spawn(async move {
            records.so_far(begun).await;
            // A task of its own, so that a panic ends the move and not the bookkeeping.
            let report = tokio::spawn(worker.run(ends).instrument(span)).await.unwrap_or_else(|error| {
                error!(%error, "a move ended by a bug");
                Report { left_open: lost, troubled: BTreeMap::new(), not_begun: SlotSet::new() }
            });
            let _ = supervisor.send(FromWorker::Ended { id, report }).await;
        });
    }

    /// What sets the pace of a move, or of a look ahead of one.
    pub(super) fn pacer(
        &self,
        pair: Pair,
        config: &MigrationConfig,
        canaries: Vec<Arc<Canary>>,
        bytes_per_key: f64,
    ) -> Pacer {
        let pace = self.paces.of(pair, budget(config), Instant::now());
        Pacer::new(pace, Arc::clone(&self.rates), canaries, bytes_per_key)
    }

    /// What is put on record before a running move opens these slots.
    pub(super) fn opened(&self, id: MoveId, slots: &SlotSet) -> Option<Opened> {
        let Pair { source, target } = self.running.get(&id)?.pair;
        let picture = self.picture.as_ref()?;
        let replicas = |node| self.memory.lineage().replicas_of(node).collect();
        Some(Opened {
            slots: slots.clone(),
            source: picture.process(source),
            target: picture.process(target),
            source_replicas: replicas(source),
            target_replicas: replicas(target),
            at: SystemTime::now(),
        })
    }

    pub(super) async fn on_ended(&mut self, id: MoveId, report: &Report) {
        let Some(running) = self.running.remove(&id) else { return };
        let now = Instant::now();
        if running.meter.keys() > 0 {
            let pace = running.pacer.lock().unwrap_or_else(PoisonError::into_inner).pace().clone();
            self.paces.learn(running.pair, pace, now);
        }
        let closed_open_slots = running.purpose == Purpose::Resume && report.left_open.is_empty();
        if self.finalise.ended(id, running.pair, closed_open_slots) {
            self.finalise_returned = now;
            let Pair { source, target } = running.pair;
            if running.failed_over.is_cancelled() {
                warn!(%source, %target, "the failover came into a finalise; nobody else finalises before its slots are settled");
            } else {
                error!(%source, %target, "a move died while it was finalising; nobody else finalises before its slots are settled");
            }
        }
        let closed = running.slots.difference(&report.left_open);
        self.own(|own| {
            own.remove(&closed);
            own.insert(&report.left_open, running.pair);
        });
        self.record_closed(&closed).await;
        self.parts.lease.closed(&closed).await;
        self.account(&running, report).await;
        for (slot, trouble) in report.troubled.iter().filter(|(slot, _)| !running.set_apart.contains(**slot)) {
            self.put_aside(*slot, trouble, self.own.contains(*slot), now);
        }
        if report.troubled.values().any(Trouble::is_not_permitted) {
            // It was taken away since: all that is missing is to be asked anew, and told, before anything else is begun.
            self.checks = None;
        }
        // What a server refuses for one group it would refuse for the next.
        if let Some(trouble) = report.troubled.values().find(|trouble| trouble.concerns_the_pair()) {
            for slot in report.not_begun.iter() {
                self.put_aside(slot, trouble, self.own.contains(slot), now);
            }
        }
        if let Some(topology) = self.picture.as_ref().map(|picture| Arc::clone(&picture.topology)) {
            // It may have ended because an end was replaced. What it leaves lies between the nodes of now: a move between
            // others would start before these slots are finished, and hold their source.
            self.follow_failovers(&topology);
        }
        self.ended.push((running.slots, now));
        self.grant_finalise();
        self.look_anew();
    }

    async fn account(&mut self, running: &Running, report: &Report) {
        if let Some(work) = &mut self.work {
            work.add(&running.meter, running.bytes_estimated().unwrap_or(0));
        }
        let trouble = report.troubled.values().next();
        let outcome = match trouble {
            None => MoveOutcome::Done,
            Some(_) if report.left_open.is_empty() => MoveOutcome::NotStarted,
            Some(_) => MoveOutcome::Left,
        };
        self.parts.metrics.move_ended(outcome);
        let trouble = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        let moved = running.moved(running.finished.slots().clone(), format!("{}{trouble}", outcome.name()));
        // What was published stays as it was: a copy, of a thousand moves at most.
        Arc::make_mut(&mut self.history).remember(moved.clone());
        self.parts.records.moved(moved).await;
    }

    /// Slots that a running move leaves behind: each is tried once by a move, and so set aside once.
    pub(super) fn on_set_apart(&mut self, id: MoveId, slots: &BTreeMap<Slot, Trouble>) {
        let Some(running) = self.running.get_mut(&id) else { return };
        running.set_apart.extend(slots.keys().copied());
        let now = Instant::now();
        for (slot, trouble) in slots {
            self.put_aside(*slot, trouble, trouble.may_leave_open(), now);
        }
    }

    fn put_aside(&mut self, slot: Slot, trouble: &Trouble, open: bool, now: Instant) {
        if matches!(trouble, Trouble::Interrupted | Trouble::FailedOver) {
            return;
        }
        let config = self.config();
        let after = SetAside::after(self.set_aside.get(&slot), trouble, open, &config.migration, now);
        self.set_aside.insert(slot, after);
    }
}
