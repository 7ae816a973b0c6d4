//! What the supervisor tells: the work's progress, the reasons, the status.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::info;

use super::super::account::Account;
use super::super::decide::Start;
use super::super::files::Files;
use super::super::{MoveStatus, Reason, SetAside, Sight, Status, View, Work};
use super::{Picture, REMIND, Supervisor};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::plan::Move;

impl Supervisor {
    pub(super) fn begin_work(&mut self, planned: &[Move], resume: &[Start]) {
        let (slots, keys) = self.left(planned, resume);
        info!(slots, keys_estimated = keys, "work begins; SIGTERM finishes what is open and stops");
        self.work = Some(Account::begin(slots, keys));
    }

    /// The work goes on with these, none of which has begun yet.
    pub(super) fn revise_work(&mut self, planned: &[Move], resume: &[Start]) {
        let (slots, keys) = self.left(planned, resume);
        let meters = self.running.values().map(|running| (&*running.meter, running.bytes_estimated().unwrap_or(0)));
        if let Some(account) = &mut self.work {
            account.revise(slots, keys, meters);
        }
    }

    /// Slots that are still to move, those of the moves that run included, and about how many keys they hold.
    fn left(&self, planned: &[Move], resume: &[Start]) -> (usize, u64) {
        let per_slot = |node: NodeId| {
            let picture = self.picture.as_ref();
            let info = picture.and_then(|picture| picture.infos.get(&node));
            let keys: u64 = info.map_or(0, |info| info.keys.values().sum());
            let slots = picture.and_then(|picture| Some(picture.topology.shards.get(&node)?.slots.len()));
            keys as f64 / slots.unwrap_or(1).max(1) as f64
        };
        let moves = planned.iter().map(|planned| (planned.source, planned.slots.len()));
        let running = self.running.values();
        let running = running.map(|it| (it.pair.source, it.slots.len().saturating_sub(it.meter.slots())));
        let all = moves.chain(running).chain(resume.iter().map(|start| (start.pair.source, start.slots.len())));
        let (slots, keys) = all
            .fold((0, 0.0), |(slots, keys), (source, count)| (slots + count, keys + per_slot(source) * count as f64));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        let keys = keys as u64;
        (slots, keys)
    }

    pub(super) fn end_work(&mut self) {
        if let Some(account) = self.work.take() {
            let work = self.work_of(&account);
            let (slots, keys, took_ms) = (work.slots_moved, work.keys_moved, work.elapsed.as_millis());
            info!(slots, keys, took_ms, "work ended");
            self.done_work = Work { active: false, ..work };
        }
    }

    fn work_of(&self, account: &Account) -> Work {
        let meters = self.running.values().map(|running| (&*running.meter, running.bytes_estimated().unwrap_or(0)));
        account.work(meters)
    }

    /// Logs a reason when it appears, and again every ten minutes.
    pub(super) fn set_reasons(&mut self, reasons: Vec<Reason>) {
        let now = Instant::now();
        let key = |reason: &Reason| (reason.name(), reason.subject());
        self.logged.retain(|logged, _| reasons.iter().any(|reason| key(reason) == *logged));
        for reason in &reasons {
            let due = self.logged.get(&key(reason)).is_none_or(|at| at.elapsed() >= REMIND);
            if due {
                info!(reason = reason.name(), why = %reason, "not moving");
                self.logged.insert(key(reason), now);
            }
        }
        self.reasons = reasons;
    }

    /// Slots that are set aside, but for those that a move is at once more, and has not set apart itself.
    fn set_aside_still(&self) -> BTreeMap<Slot, SetAside> {
        let running = self.running.values();
        let at_work = running.fold(SlotSet::new(), |all, it| all.union(&it.slots.difference(&it.set_apart)));
        let still = self.set_aside.iter().filter(|(slot, _)| !at_work.contains(**slot));
        still.map(|(&slot, aside)| (slot, aside.clone())).collect()
    }

    /// What is wrong and stops nothing.
    fn warnings(&self, files: &Files, sight: &Sight) -> Vec<String> {
        let left_out = self.picture.iter().flat_map(|picture| picture.topology.left_out());
        let left_out = left_out.map(|silent| format!("left out of the plan: {silent}"));
        files.faults.iter().chain(&sight.warnings).cloned().chain(left_out).collect()
    }

    pub(super) fn publish(&self) {
        let config = self.config();
        let sight = self.parts.sights.borrow().clone();
        let files = self.parts.files.borrow().clone();
        let config_error = self.parts.config_error.borrow().clone();
        let view = self.picture.as_ref().map(|Picture { look, topology, infos, glance }| {
            let glance = glance.as_ref();
            let began = glance.map_or(look.began, |glance| glance.began);
            View {
                topology: Arc::clone(topology),
                infos: Arc::clone(infos),
                at: began,
                read_at: look.began,
                took: glance.map_or(look.ended, |glance| glance.ended) - began,
                number: glance.map_or(look.number, |glance| glance.number),
            }
        });
        let moves = self.running.values().map(|running| MoveStatus {
            pair: running.pair,
            purpose: running.purpose,
            slots: running.slots.clone(),
            slots_moved: running.meter.slots(),
            keys_moved: running.meter.keys(),
            bytes_estimated: running.bytes_estimated(),
            pace: running.meter.pace(),
            since: running.since,
            waits_for: running.meter.waiting(),
        });
        self.parts.status.send_replace(Arc::new(Status {
            cluster: config.cluster.name.clone(),
            instance: self.parts.instance.clone(),
            mode: config.schedule.mode,
            started: self.started,
            turned: Instant::now(),
            view,
            look_errors: sight.errors.clone(),
            plan: self.plan.clone(),
            reasons: self.reasons.clone(),
            moves: moves.collect(),
            latencies: self.canaries.felt(),
            waiting: self.waiting,
            work: self.work.as_ref().map_or(self.done_work, |work| self.work_of(work)),
            history: Arc::clone(&self.history),
            set_aside: self.set_aside_still(),
            paused: self.paused,
            drains: self.told_drains.clone(),
            approved: self.approved.as_ref().map(|approved| approved.hash().to_owned()),
            lease: self.parts.lease.tenure(),
            warnings: self.warnings(&files, &sight),
            certificates: files.certificates,
            config_error,
            config_generation: self.config_generation,
        }));
    }
}
