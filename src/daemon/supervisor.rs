//! The supervisor: takes looks, worker's messages and configuration in, lets [`decide`] decide, and carries it out.
//!
//! Thin by intent: what to do is decided in pure functions ([`decide`], [`Memory`]); what is here is the bookkeeping of
//! tasks, of the one finalise, and of which open slots are ours.

mod marks;
mod moves;
mod orders;
mod picture;
mod raising;
mod recording;
mod rest;
mod scouts;
mod telling;
mod tenure;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::account::Account;
use super::approval::Approved;
use super::canary::Canaries;
use super::decide::Goal;
use super::drains::Drains;
use super::finalise::Finalise;
use super::finished::Finished;
use super::given::Given;
use super::imports::Imports;
use super::leftovers::Leftovers;
use super::memory::Memory;
use super::meter::Meter;
use super::own::OwnSlots;
use super::pacer::{Pacer, Rates};
use super::paces::Paces;
use super::raise::Raises;
use super::records::Records;
use super::replica_marks::ReplicaMarks;
use super::scout::Scout;
use super::turns::Turns;
use super::worker::FromWorker;
use super::{
    Files, Glance, Lease, Look, MoveId, Orders, PollSettings, Reason, SetAside, Sight, Status, Work, checks, patience,
};
use crate::cluster::{NodeId, NodeInfo, Slot, SlotSet, Topology};
use crate::config::{Config, Mode};
use crate::journal::{Drain, History, Pause, Process};
use crate::metrics::Metrics;
use crate::migration::{Pair, Purpose};
use crate::plan::{Plan, Policy, Why};
use crate::redis::{Dialer, Intent};

/// Messages of workers that may wait; a worker that finds no room waits with its next step.
const MAILBOX: usize = 256;
/// Between turns that nothing else causes: long enough to cost nothing, short enough for timers.
const TICK: Duration = Duration::from_millis(200);
/// How long what the checks found stays true; for a permission that is missing and another instance that acts it is looked
/// again at every poll.
const CHECKS_GOOD_FOR: Duration = Duration::from_secs(30);
/// How long finished moves are remembered, so that a look that began before their end is read rightly.
const REMEMBER: Duration = Duration::from_mins(1);
/// How long the primaries may disagree about slots that a move of ours has just finished: gossip takes 1 to 40 ms on
/// loopback, and on a real network with many nodes a second or two.
const SPREADING: Duration = Duration::from_secs(5);
/// Beyond `stop_grace`: a finalise that is under way is finished whatever the grace was.
const LAST_CALLS: Duration = Duration::from_secs(20);
/// How old a look may be while slots of ours are open.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Between looks while nodes just change roles around slots of ours: until we follow, clients of a Redis are told that keys are not
/// there which are at the target.
const FOLLOW_EVERY: Duration = Duration::from_millis(20);
/// For how long that may take, after which it is something else.
const FOLLOW_FOR: Duration = Duration::from_secs(2);
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
    /// Whether something is wrong with slots of ours that are open: then no look waits long for a node that hangs.
    pub alarmed: watch::Sender<bool>,
    /// The look after which there is nothing to do, finish or judge: until something changes, a glance will do.
    pub rest: watch::Sender<Option<u64>>,
    /// What the poller works with, changed on a reload.
    pub poll_settings: watch::Sender<PollSettings>,
    /// Where the status is published.
    pub status: watch::Sender<Arc<Status>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The journal, if there is one.
    pub records: Records,
    /// The lease, if there is one.
    pub lease: Lease,
    /// What was seen of the files of passwords and certificates.
    pub files: watch::Receiver<Files>,
    /// What it is told while it runs.
    pub orders: Orders,
    /// Asks it to stop: open slots are finished, within `schedule.stop_grace`.
    pub stop: CancellationToken,
    /// Asks it not to wait for the grace period.
    pub hurry: CancellationToken,
}

struct Running {
    pair: Pair,
    slots: SlotSet,
    finished: Finished,
    /// Slots that it will not move, and that are set aside already.
    set_apart: SlotSet,
    purpose: Purpose,
    why: Option<Why>,
    since: Instant,
    meter: Arc<Meter>,
    pacer: Arc<Mutex<Pacer>>,
    /// The mean of all keys of the source when the move began; `None` where that was not known.
    key_bytes: Option<f64>,
    stop: CancellationToken,
    leave: CancellationToken,
    failed_over: CancellationToken,
}

/// The supervisor's whole state.
pub struct Supervisor {
    parts: Parts,
    policy: Policy,
    drains: Drains,
    dialer: Dialer,
    memory: Memory,
    picture: Option<Picture>,
    /// Every primary agrees about every slot, those of our own moves included.
    agreed: bool,
    running: BTreeMap<MoveId, Running>,
    canaries: Canaries,
    turns: Turns,
    /// By the source that they look at.
    scouts: BTreeMap<NodeId, Scout>,
    rates: Arc<Rates>,
    next_id: u64,
    ended: Vec<(SlotSet, Instant)>,
    given: Given,
    paces: Paces,
    imports: Imports,
    leftovers: Leftovers,
    replica_marks: ReplicaMarks,
    own: OwnSlots,
    /// The slots of `own`, for the workers: what is marked by us is there before it is marked.
    ours: watch::Sender<Arc<SlotSet>>,
    /// Successors of a target that may not have heard yet what it was told.
    held_targets: watch::Sender<BTreeSet<NodeId>>,
    records_taken: bool,
    progress_recorded: Instant,
    /// Since when the lease is ours whose last holder's open slots were taken over.
    inherited: Option<Instant>,
    finalise: Finalise<oneshot::Sender<()>>,
    /// When it was last given back, or left by a move that died with it.
    finalise_returned: Instant,
    raises: Raises,
    /// Since when looks show that nodes change roles.
    changing_since: Option<Instant>,
    set_aside: BTreeMap<Slot, SetAside>,
    /// What an operator told us; a command with an end is told by being started.
    paused: Option<Pause>,
    /// Nodes that an operator told us to drain.
    told_drains: BTreeMap<NodeId, Drain>,
    /// Those of them that were told of as replicas.
    gone_over: BTreeSet<NodeId>,
    /// The plan that an operator approved, until it is carried out.
    approved: Option<Approved>,
    checks: Option<(checks::Found, Instant)>,
    checks_under_way: Option<oneshot::Receiver<checks::Found>>,
    /// When those checks ended whose findings were decided on last.
    checks_heeded: Option<Instant>,
    work: Option<Account>,
    done_work: Work,
    /// Moves that ended, those of earlier processes included, also where there is no journal.
    history: Arc<History>,
    reasons: Vec<Reason>,
    logged: BTreeMap<(&'static str, String), Instant>,
    mailbox: (mpsc::Sender<FromWorker>, mpsc::Receiver<FromWorker>),
    tasks: TaskTracker,
    started: SystemTime,
    stopping_since: Option<Instant>,
    config_generation: u64,
    plan: Option<Arc<Plan>>,
    waiting: usize,
    settled: bool,
    /// The look after which a glance tells all that there is to know, until something changes.
    rest: Option<u64>,
    stuck_since: Option<Instant>,
}

/// The newest look, and what it amounts to: one value, so that nothing is decided on parts of two looks.
#[derive(Clone)]
struct Picture {
    look: Arc<Look>,
    topology: Arc<Topology>,
    /// As of the look, or of a glance since then.
    infos: Arc<BTreeMap<NodeId, NodeInfo>>,
    /// The last time that nothing was seen to have changed since the look.
    glance: Option<Arc<Glance>>,
}

impl Picture {
    fn process(&self, node: NodeId) -> Process {
        Process { node, run_id: self.infos.get(&node).map(|info| info.run_id.clone()).unwrap_or_default() }
    }
}

impl Supervisor {
    /// A supervisor that has seen nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let config = Arc::clone(&parts.config.borrow());
        let dialer = parts.poll_settings.borrow().dialer.clone();
        let rates = Rates::unlimited();
        rates.set(&config.migration);
        Self {
            policy: super::policy(&config.targets),
            drains: Drains::default(),
            dialer,
            memory: Memory::default(),
            picture: None,
            agreed: false,
            running: BTreeMap::new(),
            canaries: Canaries::default(),
            turns: Turns::default(),
            scouts: BTreeMap::new(),
            rates: Arc::new(rates),
            next_id: 0,
            ended: Vec::new(),
            given: Given::default(),
            paces: Paces::default(),
            imports: Imports::recorded(&parts.records.opened_slots(), &parts.records.imports(), Instant::now()),
            leftovers: Leftovers::default(),
            replica_marks: ReplicaMarks::default(),
            own: OwnSlots::default(),
            ours: watch::Sender::new(Arc::default()),
            held_targets: watch::Sender::new(BTreeSet::new()),
            records_taken: false,
            progress_recorded: Instant::now(),
            inherited: None,
            finalise: Finalise::new(),
            finalise_returned: Instant::now(),
            raises: Raises::default(),
            changing_since: None,
            set_aside: BTreeMap::new(),
            paused: if parts.goal == Goal::Keep { parts.records.pause() } else { None },
            gone_over: BTreeSet::new(),
            told_drains: if parts.goal == Goal::Keep { parts.records.drains() } else { BTreeMap::new() },
            approved: None,
            checks: None,
            checks_under_way: None,
            checks_heeded: None,
            work: None,
            done_work: Work::default(),
            history: Arc::new(parts.records.history()),
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
            rest: None,
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
        let mut follow = tokio::time::interval(FOLLOW_EVERY);
        follow.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.mailbox.1.recv() => if let Some(message) = message { self.on_message(message).await },
                changed = sights.changed() => {
                    let sight = sights.borrow_and_update().clone();
                    if changed.is_ok() {
                        self.leave_records_to_others(&sight).await;
                        self.on_sight(&sight);
                    }
                }
                changed = config.changed() => if changed.is_ok() {
                    let new = Arc::clone(&config.borrow_and_update());
                    self.on_config(&new);
                },
                found = finished(&mut self.checks_under_way) => {
                    self.checks_under_way = None;
                    self.checks = Some((found, Instant::now()));
                    self.look_anew();
                }
                Some(command) = self.parts.orders.queue.recv() => self.on_command(command).await,
                () = self.parts.stop.cancelled(), if self.stopping_since.is_none() => self.begin_stop(),
                _ = follow.tick(), if self.may_have_to_follow() => self.look_anew(),
                _ = tick.tick() => {
                    self.end_pause().await;
                    self.record_progress().await;
                    self.parts.records.import_nothing(self.imports.take_clear()).await;
                    self.on_tick();
                }
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
                let Some(opened) = self.opened(id, &slots) else { return };
                let pair = Pair { source: opened.source.node, target: opened.target.node };
                if !self.may_open(pair) {
                    return;
                }
                self.own(|own| own.insert(&slots, pair));
                self.imports.add(pair.target, &slots, Instant::now());
                // What cannot be recorded is not opened: the worker sees the dropped answer and ends.
                match self.record_opened(opened.clone()).await {
                    Ok(()) => self.parts.lease.opened(opened, recorded).await,
                    Err(error) => {
                        error!(%error, "the journal cannot be written; nothing new is opened");
                        self.own(|own| own.remove(&slots));
                    }
                }
            }
            FromWorker::Finished { id, slots } => {
                self.own(|own| own.remove(&slots));
                self.set_aside.retain(|slot, _| !slots.contains(*slot));
                self.record_closed(&slots).await;
                self.parts.lease.closed(&slots).await;
                self.stuck_since = None;
                if let Some(running) = self.running.get_mut(&id) {
                    let now = Instant::now();
                    running.finished.add(&slots, now);
                    self.given.add(running.pair.source, &slots, now);
                    let so_far = running.so_far(slots);
                    self.parts.records.so_far(so_far).await;
                }
            }
            FromWorker::SetApart { id, slots } => self.on_set_apart(id, &slots),
            FromWorker::WantsFinalise { id, grant } => {
                if let Some(running) = self.running.get(&id) {
                    self.finalise.want(id, running.pair, running.purpose == Purpose::Resume, grant);
                }
                self.grant_finalise();
            }
            FromWorker::YieldsFinalise { id } => {
                self.finalise.give_back(id);
                self.finalise_returned = Instant::now();
                self.grant_finalise();
            }
            FromWorker::Ended { id, report } => self.on_ended(id, &report).await,
        }
    }

    /// Changes which open slots are ours, and lets the workers know.
    fn own(&mut self, change: impl FnOnce(&mut OwnSlots)) {
        change(&mut self.own);
        self.ours.send_replace(Arc::new(self.own.slots()));
    }

    /// Gives the finalise to the next who wants it, if it is free.
    ///
    /// While the picture is unclear elsewhere it waits: an epoch that somebody else bumps at this moment loses keys just
    /// as a second finalise of ours would. So it does while too little remains of the lease.
    fn grant_finalise(&mut self) {
        let unclear = self.picture.as_ref().is_none_or(|picture| !picture.topology.unclear.is_empty());
        if unclear || !self.parts.lease.may_finalise() || self.raise_epochs() {
            return;
        }
        let mut too_early = BTreeSet::new();
        let waiting: Vec<(MoveId, NodeId, bool)> = self.finalise.waiting().collect();
        for (id, target, finishes) in waiting {
            let Some(running) = self.running.get(&id) else { continue };
            let waits_for = if let Some(node) = self.may_take_instead(running, finishes) {
                format!(
                    "{node}, which may import these slots, to be seen without their marks (start it again) or to be forgotten \
                     (`CLUSTER FORGET` at all others)"
                )
            } else if self.given.is_unknown_of(target) {
                format!("all primaries to know of the slots that {target} gave")
            } else {
                continue;
            };
            running.meter.waits_for(0, &waits_for);
            too_early.insert(id);
        }
        while let Some((id, grant)) = self.finalise.next(|id| !too_early.contains(&id)) {
            if grant.send(()).is_err() {
                self.finalise.undelivered(id);
            }
        }
    }

    fn on_config(&mut self, config: &Arc<Config>) {
        let policy = super::policy(&config.targets);
        if std::mem::replace(&mut self.policy, policy) != self.policy {
            // What was approved, or looked at, was made for other targets.
            (self.approved, self.plan) = (None, None);
        }
        self.rates.set(&config.migration);
        self.canaries.forget();
        self.scouts.clear();
        self.config_generation += 1;
        self.checks = None;
        self.set_aside.clear();
        self.dialer = Dialer::new(config, intent(config), &self.parts.instance);
        let (dialer, seeds, every) = (self.dialer.clone(), config.cluster.seeds.clone(), config.schedule.poll);
        let file_changes = self.parts.files.borrow().changes;
        self.stir();
        self.parts.poll_settings.send_replace(PollSettings { dialer, seeds, every, file_changes });
        // What is open is finished; the next look decides by the new configuration what comes after.
        for running in self.running.values() {
            running.stop.cancel();
        }
        self.look_anew();
    }

    fn begin_stop(&mut self) {
        info!(moves = self.running.len(), "stopping: open slots are finished, nothing new is opened");
        self.stopping_since = Some(Instant::now());
        self.stir();
        for running in self.running.values() {
            running.stop.cancel();
        }
        self.turn();
    }

    /// A changed password or certificate is used at once, not when the old one has failed.
    fn heed_files(&self) {
        let changes = self.parts.files.borrow().changes;
        self.parts.poll_settings.send_if_modified(|settings| {
            let differs = settings.file_changes != changes;
            settings.file_changes = changes;
            differs
        });
    }

    fn on_tick(&mut self) {
        self.heed_lease();
        self.heed_files();
        let grace = self.config().schedule.stop_grace;
        let hurry = self.parts.hurry.is_cancelled();
        if self.stopping_since.is_some_and(|since| hurry || since.elapsed() >= grace) {
            for running in self.running.values() {
                running.leave.cancel();
            }
        }
        let now = Instant::now();
        // Slots of a move that runs are not tried again before its end.
        let moving = self.in_running();
        let is_due = |aside: &SetAside| aside.next_try.is_some_and(|next_try| next_try <= now);
        let due = self.set_aside.iter().any(|(slot, aside)| is_due(aside) && !moving.contains(*slot));
        let waits_for_agreement = self.finalise.is_held_up();
        let nearly_settled = self.parts.goal != Goal::Keep && self.running.is_empty() && !self.agreed;
        // What may start now, and what may end now, is decided on a picture of now.
        if self.stopping_since.is_none() && (due || waits_for_agreement || nearly_settled) {
            self.look_anew();
        }
        self.end_hours();
        self.watch_open_slots();
    }

    /// While slots of ours are open, failovers are looked for: at every tick when something is wrong with them, else
    /// once a second. On Redis the target of a slot whose source failed over serves nobody until it is told.
    fn watch_open_slots(&self) {
        let waits = self.running.values().any(|running| !running.meter.waiting().is_empty());
        let lies_open = !self.own.slots().difference(&self.in_running()).is_empty();
        let clear = self.picture.as_ref().is_some_and(|picture| picture.topology.unclear.is_empty());
        let alarmed = !self.own.is_empty() && (waits || lies_open || !clear);
        self.parts.alarmed.send_if_modified(|known| std::mem::replace(known, alarmed) != alarmed);
        let seen = self.picture.as_ref().map(|picture| picture.look.ended);
        let old = seen.is_none_or(|seen| seen.elapsed() >= WATCH_EVERY);
        if alarmed || (old && !self.own.is_empty()) {
            self.look_anew();
        }
    }

    /// Whether a failover may just be replacing an end of slots of ours.
    fn may_have_to_follow(&self) -> bool {
        !self.own.is_empty() && self.changing_since.is_some_and(|since| since.elapsed() < FOLLOW_FOR)
    }

    /// Whether the end has come.
    fn end(&mut self) -> Option<Ended> {
        if let Some(since) = self.stopping_since {
            let patience = self.config().schedule.stop_grace + LAST_CALLS;
            return (self.running.is_empty() || since.elapsed() > patience).then(|| self.ended_as(false, true));
        }
        let ended = self.checks.as_ref().map(|(_, at)| *at);
        let asks = self.checks_under_way.is_some() || ended != self.checks_heeded;
        if self.parts.goal == Goal::Keep || !self.running.is_empty() || asks {
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
            left_open: self.own.slots(),
            reasons: self.reasons.clone(),
            set_aside: self.set_aside.clone(),
        }
    }

    /// The configuration in force.
    ///
    /// A copy, as everywhere: what a watch channel lends is a lock for reading, and who takes that twice waits for ever where
    /// somebody waits in between to write (seen in one of 500 kills of a daemon).
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.parts.config.borrow())
    }

    /// A command with an end: whether waiting any longer is of no use.
    fn cannot_go_on(&mut self) -> bool {
        if self.reasons.is_empty() {
            self.stuck_since = None;
            return false;
        }
        let waited = self.stuck_since.get_or_insert_with(Instant::now).elapsed();
        let config = self.config();
        let for_lease = self.parts.lease.patience();
        let (never_seen, open) = (self.picture.is_none(), !self.own.is_empty());
        patience::is_over(&self.reasons, &self.set_aside, &config.schedule, waited, for_lease, never_seen, open)
    }
}

/// What the checks found, once they have; never, while there are none.
async fn finished(checks: &mut Option<oneshot::Receiver<checks::Found>>) -> checks::Found {
    let failed = || checks::Found {
        reasons: vec![Reason::ChecksFailed { why: "the checks ended by a bug".to_owned() }],
        ..checks::Found::default()
    };
    match checks {
        Some(receiver) => receiver.await.unwrap_or_else(|_| failed()),
        None => std::future::pending().await,
    }
}

/// What our connections' names say of us.
fn intent(config: &Config) -> Intent {
    match config.schedule.mode {
        Mode::Act => Intent::Acting,
        Mode::Observe => Intent::Observing,
    }
}
