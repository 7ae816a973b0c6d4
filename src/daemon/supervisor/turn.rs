//! The turn: what is to be done is decided on the newest look, and carried out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::approval::Consent;
use super::super::decide::{Decision, RunningMove, Situation, Start, decide, is_at_rest, shard_inputs, unreplicated};
use super::super::{Reason, RoomRules, SettingsByNode, checks};
use super::{CHECKS_GOOD_FOR, Picture, Running, Supervisor};
use crate::cluster::{Observation, Slot, SlotSet, Topology};
use crate::config::{Config, Mode};
use crate::migration::{Pair, Purpose};
use crate::throttle::Limits;

impl Supervisor {
    /// Decides about the newest look and carries it out.
    pub(super) fn turn(&mut self) {
        let Some(Picture { look, topology, .. }) = self.picture.clone() else { return };
        let config = self.config();
        // One that a failover has just ended keeps the nodes of now from other work until its slots are taken up again.
        let of_now = |node| self.memory.lineage().successor(node, &topology);
        let running: Vec<RunningMove> = self
            .running
            .values()
            .map(|running| RunningMove {
                pair: Pair { source: of_now(running.pair.source), target: of_now(running.pair.target) },
                slots: running.slots.difference(&running.finished.seen()),
            })
            .collect();
        let consent = self.consent(&topology);
        let outside = self.outside_windows();
        if matches!(consent, Consent::Awaited) {
            self.finish_what_is_open();
        }
        let policy = match topology.unclear.as_slice() {
            [] => self.drains.with_told(&self.policy, self.told_drains.keys(), &shard_inputs(&topology)),
            // No plan is made of it, and nothing is to be learned from it.
            _ => self.policy.clone(),
        };
        let now = Instant::now();
        self.checks_heeded = self.checks.as_ref().map(|(_, at)| *at);
        let checks = self.checks.as_ref();
        // What they found is held against us until it is known not to be so any more.
        let found = checks.filter(|(found, _)| !found.reasons.is_empty() || !self.checks_are_old(config.schedule.poll));
        let no_settings = SettingsByNode::new();
        let situation = Situation {
            now,
            look: &look,
            topology: &topology,
            memory: &self.memory,
            goal: &self.parts.goal,
            policy: &policy,
            observing: config.schedule.mode == Mode::Observe,
            lease: self.lease_reason(),
            paused: self.paused,
            outside,
            consent: &consent,
            stopping: self.stopping_since.is_some(),
            settle: config.schedule.settle,
            adopt_after: config.schedule.adopt_after,
            foreign_quiet: config.schedule.foreign_quiet,
            limits: Limits { parallel: config.migration.parallel, per_target: config.migration.per_target },
            room: RoomRules::new(&config.migration),
            running: &running,
            at_work: self.work.is_some_and(|work| work.levelling),
            own: &self.own,
            orphan: self.finalise.orphan(),
            set_aside: &self.set_aside,
            checks: found.map(|(found, _)| found.reasons.as_slice()),
            settings: found.map_or(&no_settings, |(found, _)| &found.settings),
        };
        let mut decision = decide(&situation);
        let at_rest = is_at_rest(&situation, &decision);
        self.heed_replicas(&look.observation, &topology);
        let marks = &self.replica_marks;
        let free =
            |start: &Start| [start.pair.source, start.pair.target].iter().all(|&node| !marks.may_follow_at(node));
        decision.resume.retain(free);
        decision.start.retain(free);
        let forbids =
            |(found, _): &(checks::Found, Instant)| found.reasons.iter().any(|it| decision.reasons.contains(it));
        decision.wants_checks |= found.is_some_and(forbids) && self.checks_are_old(config.schedule.poll);
        // A look that began before a move ended shows the cluster as it was: the next one is already asked for.
        let before_the_end = self.ended.iter().any(|(_, at)| *at >= look.began);
        // Nor is anything begun on what was only glanced at since.
        let glanced_at = self.picture.as_ref().is_some_and(|picture| picture.glance.is_some());
        if glanced_at && (decision.wants_checks || !decision.start.is_empty() || !decision.resume.is_empty()) {
            self.look_anew();
        }
        // An order that is under way closes what a move would open.
        let stale = before_the_end || glanced_at || self.replica_marks.is_under_way();
        let may_clear = self.acts() && self.paused.is_none();
        let marks_wait = may_clear && self.replica_marks.wait_for_looks();
        self.rest = (at_rest && !before_the_end && !marks_wait).then_some(look.number);
        if at_rest && !stale && may_clear && self.agreed {
            self.clear_replicas();
        }
        self.carry_out(decision, &topology, &config, stale);
    }

    /// Ends the moves to targets that nobody replicates any more, once what is open is finished. What was found open is
    /// finished all the same.
    fn heed_replicas(&self, observation: &Observation, topology: &Topology) {
        let begins_more = |running: &&Running| running.purpose == Purpose::Move && !running.stop.is_cancelled();
        for running in self.running.values().filter(begins_more) {
            let target = running.pair.target;
            if let Some(why) = topology.shards.get(&target).and_then(|shard| unreplicated(observation, shard)) {
                warn!(%target, why, "nothing further is moved there: what is open is finished");
                running.stop.cancel();
            }
        }
    }

    /// Whether what the checks found may be so no more, or no more so.
    fn checks_are_old(&self, poll: Duration) -> bool {
        self.checks.as_ref().is_none_or(|(found, at)| {
            let may_end_soon =
                |reason: &Reason| matches!(reason, Reason::PermissionMissing { .. } | Reason::OtherInstance { .. });
            let good_for =
                if found.reasons.iter().any(may_end_soon) { poll.min(CHECKS_GOOD_FOR) } else { CHECKS_GOOD_FOR };
            let at_work = self.work.is_some() && found.reasons.is_empty();
            !at_work && at.elapsed() >= good_for
        })
    }

    fn carry_out(&mut self, decision: Decision, topology: &Arc<Topology>, config: &Arc<Config>, stale: bool) {
        self.send_scouts(&decision, config);
        self.set_reasons(decision.reasons);
        self.waiting = decision.waiting;
        self.settled = decision.settled && self.agreed && !stale;
        if decision.wants_checks && self.checks_under_way.is_none() {
            let (send, receive) = oneshot::channel();
            let (dialer, topology, config) = (self.dialer.clone(), Arc::clone(topology), Arc::clone(config));
            self.tasks.spawn(async move { send.send(checks::check(dialer, topology, config).await) });
            self.checks_under_way = Some(receive);
        }
        if !stale {
            let starting = decision.resume.iter().chain(&decision.start).map(|start| start.slots.len()).sum::<usize>();
            if starting > 0 && self.work.is_none() {
                self.begin_work(&decision.permitted, &decision.resume);
            } else if decision.plan.is_some() {
                self.revise_work(&decision.permitted, &decision.resume);
            }
            if let Some(work) = self.work.as_mut().filter(|_| !decision.start.is_empty()) {
                work.levelling = true;
            }
            for start in decision.resume {
                self.spawn(start, Purpose::Resume, config);
            }
            for start in decision.start {
                self.spawn(start, Purpose::Move, config);
            }
            if decision.plan.is_some() {
                // What is closed and where it belongs, by whoever's hand, waits for nothing any more.
                let wanted = self.in_running().union(&decision.wanted);
                let waits = |slot: &Slot| wanted.contains(*slot) || topology.open.contains_key(slot);
                let over: SlotSet = self.set_aside.keys().copied().filter(|slot| !waits(slot)).collect();
                if !over.is_empty() {
                    info!(slots = %over, "no longer set aside: nothing is to move them any more");
                    self.set_aside.retain(|slot, _| waits(slot));
                }
            }
            // Without a plan the picture is unclear for the moment, and nobody knows what is left.
            let nothing_waits = self.waiting == 0 || decision.held;
            if self.settled || (self.running.is_empty() && nothing_waits && decision.plan.is_some()) {
                self.end_work();
            }
        }
        self.plan = decision.plan.map(Arc::new);
    }
}
