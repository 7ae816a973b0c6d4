//! The supervisor: takes looks, worker's messages and configuration in, lets [`decide`] decide, and carries it out.
//!
//! Thin by intent: what to do is decided in pure functions ([`decide`], [`Memory`]); what is here is the bookkeeping of
//! tasks, of the one finalise, and of which open slots are ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span, warn};

use super::account::Account;
use super::decide::{Decision, Goal, RunningMove, Situation, Start, decide, shard_inputs};
use super::drains::Drains;
use super::ends::{Connections, EndPoint};
use super::finalise::Finalise;
use super::memory::{Memory, Seen};
use super::meter::Meter;
use super::records::Records;
use super::worker::{FromWorker, Report, Worker};
use super::{Look, MoveId, MoveStatus, PollSettings, Reason, SetAside, Sight, Status, View, Work, checks, patience};
use crate::cluster::{Address, NodeId, NodeInfo, Slot, SlotSet, Topology};
use crate::config::{Config, Mode, SecretError, Secrets};
use crate::journal::Process;
use crate::metrics::{Metrics, MoveOutcome};
use crate::migration::{Pair, Purpose, Trouble};
use crate::plan::{Plan, Policy};
use crate::redis::{Dialer, Intent, MigrateLogin};
use crate::throttle::{BatchSize, GroupLimits, Limits};

/// Messages of workers that may wait; a worker that finds no room waits with its next step.
const MAILBOX: usize = 256;
/// Between turns that nothing else causes: long enough to cost nothing, short enough for timers.
const TICK: Duration = Duration::from_millis(200);
/// How long what the checks found stays true.
const CHECKS_GOOD_FOR: Duration = Duration::from_secs(30);
/// How long finished moves are remembered, so that a look that began before their end is read rightly.
const REMEMBER: Duration = Duration::from_mins(1);
/// How long the primaries may disagree about slots that a move of ours has just finished: gossip takes 1 to 40 ms on
/// loopback, and on a real network with many nodes a second or two.
const SPREADING: Duration = Duration::from_secs(5);
/// Beyond `stop_grace`: a finalise that is under way is finished whatever the grace was.
const LAST_CALLS: Duration = Duration::from_secs(20);
/// How often a reason that goes on is logged again.
const REMIND: Duration = Duration::from_mins(10);

/// How a supervisor with an end to its work ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Nothing was left to do.
    pub settled: bool,
    /// It was asked to stop first.
    pub interrupted: bool,
    /// Slots that it left open.
    pub left_open: SlotSet,
    /// Why it could not go on, or what it left.
    pub reasons: Vec<Reason>,
    /// Slots that could not be moved, and why.
    pub set_aside: BTreeMap<Slot, SetAside>,
}

/// What a supervisor is made of.
pub struct Parts {
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// What it is run for.
    pub goal: Goal,
    /// Why the configuration that was last offered is not in force, if it is not.
    pub config_error: watch::Receiver<Option<String>>,
    /// The name of this process in the names of its connections.
    pub instance: String,
    /// What the poller sees.
    pub sights: watch::Receiver<Sight>,
    /// Asks the poller for a look at once.
    pub nudge: Arc<Notify>,
    /// What the poller works with, changed on a reload.
    pub poll_settings: watch::Sender<PollSettings>,
    /// Where the status is published.
    pub status: watch::Sender<Arc<Status>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The journal, if there is one.
    pub records: Records,
    /// Asks it to stop: open slots are finished, within `schedule.stop_grace`.
    pub stop: CancellationToken,
    /// Asks it not to wait for the grace period.
    pub hurry: CancellationToken,
}

struct Running {
    pair: Pair,
    slots: SlotSet,
    finished: SlotSet,
    purpose: Purpose,
    since: Instant,
    meter: Arc<Meter>,
    stop: CancellationToken,
    leave: CancellationToken,
}

/// The supervisor's whole state.
pub struct Supervisor {
    parts: Parts,
    policy: Policy,
    drains: Drains,
    dialer: Dialer,
    memory: Memory,
    topology: Option<Arc<Topology>>,
    infos: Arc<BTreeMap<NodeId, NodeInfo>>,
    /// The number of the look that the picture comes from, and when it began.
    seen: Option<(u64, Instant)>,
    /// Every primary agrees about every slot, those of our own moves included.
    agreed: bool,
    running: BTreeMap<MoveId, Running>,
    next_id: u64,
    ended: Vec<(SlotSet, Instant)>,
    ours: SlotSet,
    adopted_records: bool,
    finalise: Finalise<oneshot::Sender<()>>,
    set_aside: BTreeMap<Slot, SetAside>,
    checks: Option<(Vec<Reason>, Instant)>,
    checks_under_way: Option<oneshot::Receiver<Vec<Reason>>>,
    work: Option<Account>,
    done_work: Work,
    reasons: Vec<Reason>,
    logged: BTreeMap<&'static str, Instant>,
    mailbox: (mpsc::Sender<FromWorker>, mpsc::Receiver<FromWorker>),
    tasks: TaskTracker,
    started: SystemTime,
    stopping_since: Option<Instant>,
    config_generation: u64,
    plan: Option<Arc<Plan>>,
    waiting: usize,
    settled: bool,
    stuck_since: Option<Instant>,
}

impl Supervisor {
    /// A supervisor that has seen nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let config = Arc::clone(&parts.config.borrow());
        let dialer = parts.poll_settings.borrow().dialer.clone();
        Self {
            policy: super::policy(&config.targets),
            drains: Drains::default(),
            dialer,
            memory: Memory::default(),
            topology: None,
            infos: Arc::default(),
            seen: None,
            agreed: false,
            running: BTreeMap::new(),
            next_id: 0,
            ended: Vec::new(),
            ours: SlotSet::new(),
            adopted_records: false,
            finalise: Finalise::new(),
            set_aside: BTreeMap::new(),
            checks: None,
            checks_under_way: None,
            work: None,
            done_work: Work::default(),
            reasons: Vec::new(),
            logged: BTreeMap::new(),
            mailbox: mpsc::channel(MAILBOX),
            tasks: TaskTracker::new(),
            started: SystemTime::now(),
            stopping_since: None,
            config_generation: 0,
            plan: None,
            waiting: 0,
            settled: false,
            stuck_since: None,
            parts,
        }
    }

    /// Runs until its goal is reached, until it cannot go on, or until it is asked to stop and has come to rest.
    pub async fn run(mut self) -> Ended {
        let mut sights = self.parts.sights.clone();
        let mut config = self.parts.config.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.mailbox.1.recv() => if let Some(message) = message { self.on_message(message).await },
                changed = sights.changed() => {
                    let sight = sights.borrow_and_update().clone();
                    if changed.is_ok() { self.on_sight(&sight) }
                }
                changed = config.changed() => if changed.is_ok() {
                    let new = Arc::clone(&config.borrow_and_update());
                    self.on_config(&new);
                },
                found = finished(&mut self.checks_under_way) => {
                    self.checks_under_way = None;
                    self.checks = Some((found, Instant::now()));
                    self.parts.nudge.notify_one();
                }
                () = self.parts.stop.cancelled(), if self.stopping_since.is_none() => self.begin_stop(),
                _ = tick.tick() => self.on_tick(),
            }
            self.publish();
            if let Some(ended) = self.end() {
                // Workers that outlast all patience would wait for a mailbox that nobody reads.
                if self.running.is_empty() {
                    self.tasks.close();
                    self.tasks.wait().await;
                }
                self.publish();
                return ended;
            }
        }
    }

    async fn on_message(&mut self, message: FromWorker) {
        match message {
            FromWorker::Opening { id, slots, recorded } => {
                let Some(running) = self.running.get(&id) else { return };
                self.ours = self.ours.union(&slots);
                let (source, target) = (self.process(running.pair.source), self.process(running.pair.target));
                // What cannot be recorded is not opened: the worker sees the dropped answer and ends.
                match self.parts.records.opened(&slots, source, target).await {
                    Ok(()) => drop(recorded.send(())),
                    Err(error) => {
                        error!(%error, "the journal cannot be written; nothing new is opened");
                        self.ours = self.ours.difference(&slots);
                    }
                }
            }
            FromWorker::Finished { id, slots } => {
                self.ours = self.ours.difference(&slots);
                self.set_aside.retain(|slot, _| !slots.contains(*slot));
                self.parts.records.closed(&slots).await;
                self.stuck_since = None;
                if let Some(running) = self.running.get_mut(&id) {
                    running.finished = running.finished.union(&slots);
                }
            }
            FromWorker::WantsFinalise { id, grant } => {
                if let Some(running) = self.running.get(&id) {
                    self.finalise.want(id, running.pair, running.purpose == Purpose::Resume, grant);
                }
                self.grant_finalise();
            }
            FromWorker::YieldsFinalise { id } => {
                self.finalise.give_back(id);
                self.grant_finalise();
            }
            FromWorker::Ended { id, report } => self.on_ended(id, &report).await,
        }
    }

    /// Gives the finalise to the next who wants it, if it is free.
    ///
    /// While the picture is unclear elsewhere it waits: an epoch that somebody else bumps at this moment loses keys just
    /// as a second finalise of ours would.
    fn grant_finalise(&mut self) {
        if self.topology.as_ref().is_none_or(|topology| !topology.unclear.is_empty()) {
            return;
        }
        while let Some((id, grant)) = self.finalise.next() {
            if grant.send(()).is_err() {
                self.finalise.undelivered(id);
            }
        }
    }

    async fn on_ended(&mut self, id: MoveId, report: &Report) {
        let Some(running) = self.running.remove(&id) else { return };
        let now = Instant::now();
        let closed_open_slots = running.purpose == Purpose::Resume && report.left_open.is_empty();
        if self.finalise.ended(id, running.pair, closed_open_slots) {
            let Pair { source, target } = running.pair;
            error!(%source, %target, "a move died while it was finalising; nobody else finalises before its slots are settled");
        }
        let closed = running.slots.difference(&report.left_open);
        self.ours = self.ours.difference(&closed).union(&report.left_open);
        self.parts.records.closed(&closed).await;
        self.account(&running, report).await;
        for (slot, trouble) in &report.troubled {
            if *trouble != Trouble::Interrupted {
                self.put_aside(*slot, trouble, now);
            }
        }
        // What a server refuses for one group it would refuse for the next.
        if let Some(trouble) = report.troubled.values().find(|trouble| trouble.concerns_the_pair()) {
            for slot in report.not_begun.iter() {
                self.put_aside(slot, trouble, now);
            }
        }
        self.ended.push((running.slots, now));
        self.grant_finalise();
        self.parts.nudge.notify_one();
    }

    async fn account(&mut self, running: &Running, report: &Report) {
        if let Some(work) = &mut self.work {
            work.add(&running.meter);
        }
        let trouble = report.troubled.values().next();
        let outcome = match trouble {
            None => MoveOutcome::Done,
            Some(_) if report.left_open.is_empty() => MoveOutcome::NotStarted,
            Some(_) => MoveOutcome::Left,
        };
        self.parts.metrics.move_ended(outcome);
        let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        let why = format!("{}{why}", outcome.name());
        self.parts
            .records
            .moved(running.pair, &running.finished, running.meter.keys(), running.since.elapsed(), why)
            .await;
    }

    fn put_aside(&mut self, slot: Slot, trouble: &Trouble, now: Instant) {
        let config = Arc::clone(&self.parts.config.borrow());
        let attempts = self.set_aside.get(&slot).map_or(0, |aside| aside.attempts) + 1;
        let delay = config.migration.retry_delay * 2u32.saturating_pow(attempts.min(16) - 1);
        // What is open must be finished some day: it is tried for ever, at the longest delay.
        let again = attempts < config.migration.attempts || self.ours.contains(slot);
        let next_try = again.then(|| now + delay.min(config.migration.retry_delay_max));
        self.set_aside.insert(slot, SetAside { attempts, why: trouble.to_string(), next_try });
    }

    fn on_sight(&mut self, sight: &Sight) {
        self.parts.metrics.look_ended(
            sight.errors.is_empty(),
            sight.look.as_ref().map_or(Duration::ZERO, |look| look.ended - look.began),
        );
        let Some(look) = &sight.look else {
            self.set_reasons(vec![Reason::NoView { errors: sight.errors.clone() }]);
            return;
        };
        if !sight.errors.is_empty() {
            self.set_reasons(vec![Reason::NoView { errors: sight.errors.clone() }]);
            return;
        }
        if self.seen.is_some_and(|(number, _)| number == look.number) {
            return;
        }
        let spreading = self.touched(look.began.checked_sub(SPREADING).unwrap_or(look.began));
        let topology = Arc::new(Topology::merge(&look.observation, &spreading));
        self.agreed = spreading.is_empty() || Topology::merge(&look.observation, &SlotSet::new()).unclear.is_empty();
        self.take_records(&topology, look);
        let touched = self.touched(self.seen.map_or(look.began, |(_, began)| began));
        self.memory.on_look(&Seen {
            at: look.ended,
            topology: &topology,
            mover_calls: &look.mover_calls,
            touched: &touched,
            ours: &self.ours,
        });
        // Ours, and closed by now, whoever closed it.
        let gone: SlotSet = self.ours.iter().filter(|slot| !topology.open.contains_key(slot)).collect();
        let idle = gone.difference(&self.in_running());
        self.ours = self.ours.difference(&idle);
        self.infos =
            Arc::new(look.observation.nodes.iter().map(|(&node, observed)| (node, observed.info.clone())).collect());
        self.seen = Some((look.number, look.began));
        self.topology = Some(topology);
        let now = Instant::now();
        self.ended.retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBER);
        self.turn();
        self.grant_finalise();
    }

    /// Slots that our moves touch, or touched since then.
    fn touched(&self, since: Instant) -> SlotSet {
        let ended = self.ended.iter().filter(|(_, at)| *at >= since).map(|(slots, _)| slots);
        ended.fold(self.in_running(), |touched, slots| touched.union(slots))
    }

    fn in_running(&self) -> SlotSet {
        self.running.values().fold(SlotSet::new(), |all, running| all.union(&running.slots))
    }

    /// Once, at the first look: open slots of the journal whose processes are still the same are ours.
    fn take_records(&mut self, topology: &Topology, look: &Look) {
        if std::mem::replace(&mut self.adopted_records, true) {
            return;
        }
        let run_id = |node: NodeId| look.observation.nodes.get(&node).map(|node| node.info.run_id.clone());
        let recorded = self.parts.records.open_slots(run_id);
        self.ours = recorded.iter().filter(|slot| topology.open.contains_key(slot)).collect();
        if !self.ours.is_empty() {
            info!(slots = %self.ours, "open slots of an earlier run are finished first");
        }
    }

    fn on_config(&mut self, config: &Arc<Config>) {
        self.policy = super::policy(&config.targets);
        self.config_generation += 1;
        self.checks = None;
        self.set_aside.clear();
        self.dialer = Dialer::new(config, intent(config), &self.parts.instance);
        let (dialer, seeds, every) = (self.dialer.clone(), config.cluster.seeds.clone(), config.schedule.poll);
        self.parts.poll_settings.send_replace(PollSettings { dialer, seeds, every });
        // What is open is finished; the next look decides by the new configuration what comes after.
        for running in self.running.values() {
            running.stop.cancel();
        }
        self.parts.nudge.notify_one();
    }

    fn begin_stop(&mut self) {
        info!(moves = self.running.len(), "stopping: open slots are finished, nothing new is opened");
        self.stopping_since = Some(Instant::now());
        for running in self.running.values() {
            running.stop.cancel();
        }
        self.turn();
    }

    fn on_tick(&mut self) {
        let grace = self.parts.config.borrow().schedule.stop_grace;
        let hurry = self.parts.hurry.is_cancelled();
        if self.stopping_since.is_some_and(|since| hurry || since.elapsed() >= grace) {
            for running in self.running.values() {
                running.leave.cancel();
            }
        }
        let now = Instant::now();
        let due = self.set_aside.values().any(|aside| aside.next_try.is_some_and(|next_try| next_try <= now));
        let waits_for_agreement = self.finalise.is_held_up();
        let nearly_settled = self.parts.goal != Goal::Keep && self.running.is_empty() && !self.agreed;
        // What may start now, and what may end now, is decided on a picture of now.
        if self.stopping_since.is_none() && (due || waits_for_agreement || nearly_settled) {
            self.parts.nudge.notify_one();
        }
    }

    /// Decides about the newest look and carries it out.
    fn turn(&mut self) {
        let (Some(topology), Some(look)) = (self.topology.clone(), self.parts.sights.borrow().look.clone()) else {
            return;
        };
        let config = Arc::clone(&self.parts.config.borrow());
        let running: Vec<RunningMove> = self
            .running
            .values()
            .map(|running| RunningMove { pair: running.pair, slots: running.slots.difference(&running.finished) })
            .collect();
        let policy = match topology.unclear.as_slice() {
            [] => self.drains.in_force(&self.policy, &shard_inputs(&topology)),
            // No plan is made of it, and nothing is to be learned from it.
            _ => self.policy.clone(),
        };
        let now = Instant::now();
        let found = self.checks.as_ref().filter(|(_, at)| self.work.is_some() || at.elapsed() < CHECKS_GOOD_FOR);
        let decision = decide(&Situation {
            now,
            look: &look,
            topology: &topology,
            memory: &self.memory,
            goal: &self.parts.goal,
            policy: &policy,
            observing: config.schedule.mode == Mode::Observe,
            stopping: self.stopping_since.is_some(),
            settle: config.schedule.settle,
            adopt_after: config.schedule.adopt_after,
            foreign_quiet: config.schedule.foreign_quiet,
            limits: Limits { parallel: config.migration.parallel, per_target: config.migration.per_target },
            memory_limit_percent: config.migration.memory_limit_percent,
            running: &running,
            at_work: self.work.is_some_and(|work| work.levelling),
            ours: &self.ours,
            set_aside: &self.set_aside,
            checks: found.map(|(found, _)| found.as_slice()),
        });
        // A look that began before a move ended shows the cluster as it was: the next one is already asked for.
        let stale = self.ended.iter().any(|(_, at)| *at >= look.began);
        self.carry_out(decision, &topology, &config, stale);
    }

    fn carry_out(&mut self, decision: Decision, topology: &Arc<Topology>, config: &Arc<Config>, stale: bool) {
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
                self.begin_work(decision.plan.as_ref(), &decision.resume);
            }
            if let Some(work) = self.work.as_mut().filter(|_| !decision.start.is_empty()) {
                work.levelling = true;
            }
            for start in decision.resume {
                self.spawn(start, Purpose::Resume, topology, config);
            }
            for start in decision.start {
                self.spawn(start, Purpose::Move, topology, config);
            }
            // Without a plan the picture is unclear for the moment, and nobody knows what is left.
            if self.settled || (self.running.is_empty() && self.waiting == 0 && decision.plan.is_some()) {
                self.end_work();
            }
        }
        self.plan = decision.plan.map(Arc::new);
    }

    fn begin_work(&mut self, plan: Option<&Plan>, resume: &[Start]) {
        let per_slot = |node: NodeId| {
            let keys: u64 = self.infos.get(&node).map_or(0, |info| info.keys.values().sum());
            let slots = self.topology.as_ref().and_then(|topology| Some(topology.shards.get(&node)?.slots.len()));
            keys as f64 / slots.unwrap_or(1).max(1) as f64
        };
        let moves = plan.into_iter().flat_map(|plan| &plan.moves).map(|planned| (planned.source, planned.slots.len()));
        let all = moves.chain(resume.iter().map(|start| (start.pair.source, start.slots.len())));
        let (slots, keys) = all
            .fold((0, 0.0), |(slots, keys), (source, count)| (slots + count, keys + per_slot(source) * count as f64));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        let keys_planned = keys as u64;
        info!(slots, keys = keys_planned, "work begins; SIGTERM finishes what is open and stops");
        self.work = Some(Account::begin(slots, keys_planned));
    }

    fn end_work(&mut self) {
        if let Some(account) = self.work.take() {
            let work = self.work_of(&account);
            let (slots, keys, took_ms) = (work.slots_moved, work.keys_moved, work.elapsed.as_millis());
            info!(slots, keys, took_ms, "work ended");
            self.done_work = Work { active: false, ..work };
        }
    }

    fn work_of(&self, account: &Account) -> Work {
        account.work(self.running.values().map(|running| &*running.meter))
    }

    fn spawn(&mut self, start: Start, purpose: Purpose, topology: &Topology, config: &Config) {
        let Some((source, target, migrate_to)) = self.end_points(start.pair, topology) else { return };
        let login = match migrate_login(config) {
            Ok(login) => login,
            Err(why) => {
                warn!(%why, "the password for MIGRATE cannot be read");
                return;
            }
        };
        self.next_id += 1;
        let id = MoveId(self.next_id);
        let (stop, leave, meter) = (CancellationToken::new(), CancellationToken::new(), Arc::new(Meter::default()));
        let info = self.infos.get(&start.pair.source);
        let keys = info.map_or(0, |info| info.keys.values().sum::<u64>()).max(1);
        if purpose == Purpose::Resume {
            self.ours = self.ours.union(&start.slots);
        }
        let worker = Worker {
            id,
            pair: start.pair,
            slots: start.slots.clone(),
            purpose,
            ends: Connections::new(
                self.dialer.clone(),
                start.pair,
                (source, target),
                migrate_to,
                login,
                config.migration.migrate_timeout,
            ),
            batch: BatchSize::new(config.migration.block_max, config.migration.batch_keys_max),
            group: GroupLimits { slots: config.migration.group_slots, keys: config.migration.group_keys },
            bytes_per_key: info.map_or(0.0, |info| info.dataset_bytes as f64) / keys as f64,
            metrics: Arc::clone(&self.parts.metrics),
            meter: Arc::clone(&meter),
            supervisor: self.mailbox.0.clone(),
            sights: self.parts.sights.clone(),
            stop: stop.clone(),
            leave: leave.clone(),
        };
        let (pair, slots) = (start.pair, start.slots);
        let span = info_span!("move", id = id.0, source = %pair.source.short(), target = %pair.target.short());
        let (supervisor, lost) = (self.mailbox.0.clone(), slots.clone());
        self.tasks.spawn(async move {
            // A task of its own, so that a panic ends the move and not the bookkeeping.
            let report = tokio::spawn(worker.run().instrument(span)).await.unwrap_or_else(|error| {
                error!(%error, "a move ended by a bug");
                Report { left_open: lost, troubled: BTreeMap::new(), not_begun: SlotSet::new() }
            });
            let _ = supervisor.send(FromWorker::Ended { id, report }).await;
        });
        let running =
            Running { pair, slots, finished: SlotSet::new(), purpose, since: Instant::now(), meter, stop, leave };
        self.running.insert(id, running);
    }

    /// Where both ends are reached, and where the source reaches the target.
    fn end_points(&self, pair: Pair, topology: &Topology) -> Option<(EndPoint, EndPoint, Address)> {
        let end = |node: NodeId| {
            let member = &topology.shards.get(&node)?.primary;
            let info = self.infos.get(&node)?;
            Some(EndPoint {
                address: member.address.clone()?,
                hostname: member.hostname.clone(),
                run_id: info.run_id.clone(),
                product: info.version.product,
            })
        };
        let sights = self.parts.sights.borrow();
        let source_view = &sights.look.as_ref()?.observation.nodes.get(&pair.source)?.view;
        let migrate_to = source_view.line(pair.target)?.address.clone()?;
        Some((end(pair.source)?, end(pair.target)?, migrate_to))
    }

    fn process(&self, node: NodeId) -> Process {
        Process { node, run_id: self.infos.get(&node).map(|info| info.run_id.clone()).unwrap_or_default() }
    }

    /// Logs a reason when it appears, and again every ten minutes.
    fn set_reasons(&mut self, reasons: Vec<Reason>) {
        let now = Instant::now();
        self.logged.retain(|name, _| reasons.iter().any(|reason| reason.name() == *name));
        for reason in &reasons {
            let due = self.logged.get(reason.name()).is_none_or(|at| at.elapsed() >= REMIND);
            if due {
                info!(reason = reason.name(), why = %reason, "not moving");
                self.logged.insert(reason.name(), now);
            }
        }
        self.reasons = reasons;
    }

    fn publish(&self) {
        let config = self.parts.config.borrow();
        let sight = self.parts.sights.borrow();
        let view = self.topology.as_ref().zip(sight.look.as_ref()).map(|(topology, look)| View {
            topology: Arc::clone(topology),
            infos: Arc::clone(&self.infos),
            at: look.began,
            took: look.ended - look.began,
            number: self.seen.map_or(0, |(number, _)| number),
        });
        let moves = self.running.values().map(|running| MoveStatus {
            pair: running.pair,
            purpose: running.purpose,
            slots: running.slots.clone(),
            slots_moved: running.meter.slots(),
            keys_moved: running.meter.keys(),
            batch: running.meter.batch(),
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
            waiting: self.waiting,
            work: self.work.as_ref().map_or(self.done_work, |work| self.work_of(work)),
            set_aside: self.set_aside.clone(),
            config_error: self.parts.config_error.borrow().clone(),
            config_generation: self.config_generation,
        }));
    }

    /// Whether the end has come.
    fn end(&mut self) -> Option<Ended> {
        if let Some(since) = self.stopping_since {
            let patience = self.parts.config.borrow().schedule.stop_grace + LAST_CALLS;
            return (self.running.is_empty() || since.elapsed() > patience).then(|| self.ended_as(false, true));
        }
        if self.parts.goal == Goal::Keep || !self.running.is_empty() || self.checks_under_way.is_some() {
            return None;
        }
        if self.settled {
            return Some(self.ended_as(true, false));
        }
        self.cannot_go_on().then(|| self.ended_as(false, false))
    }

    fn ended_as(&self, settled: bool, interrupted: bool) -> Ended {
        Ended {
            settled,
            interrupted,
            left_open: self.ours.clone(),
            reasons: self.reasons.clone(),
            set_aside: self.set_aside.clone(),
        }
    }

    /// A command with an end: whether waiting any longer is of no use.
    fn cannot_go_on(&mut self) -> bool {
        if self.reasons.is_empty() {
            self.stuck_since = None;
            return false;
        }
        let waited = self.stuck_since.get_or_insert_with(Instant::now).elapsed();
        let schedule = &self.parts.config.borrow().schedule;
        patience::is_over(&self.reasons, &self.set_aside, schedule, waited, self.topology.is_none())
    }
}

/// What the checks found, once they have; never, while there are none.
async fn finished(checks: &mut Option<oneshot::Receiver<Vec<Reason>>>) -> Vec<Reason> {
    match checks {
        Some(receiver) => receiver
            .await
            .unwrap_or_else(|_| vec![Reason::ChecksFailed { why: "the checks ended by a bug".to_owned() }]),
        None => std::future::pending().await,
    }
}

/// The user that `MIGRATE` logs in as at the target, with the password as it is now.
fn migrate_login(config: &Config) -> Result<Option<MigrateLogin>, SecretError> {
    let own = &config.cluster.username;
    let username = config.cluster.migrate.as_ref().map(|migrate| migrate.username.clone()).or_else(|| own.clone());
    let password = Secrets::of(&config.cluster).migrate_password()?;
    Ok(password.map(|password| MigrateLogin { username, password }))
}

/// What our connections' names say of us.
fn intent(config: &Config) -> Intent {
    match config.schedule.mode {
        Mode::Act => Intent::Acting,
        Mode::Observe => Intent::Observing,
    }
}
