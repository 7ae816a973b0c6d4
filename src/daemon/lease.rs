//! The lease: of several instances that could act, the one that may.
//!
//! A task of its own asks the home that keeps it, again and again. Everybody else reads the [`Tenure`] that it
//! publishes and asks that value, with the time as it is then: a process that was frozen finds its lease run out before
//! it sends anything. What is open is written into the lease before it is opened, as it is into the journal, so that
//! whoever comes next knows it.

mod home;
mod tenure;

#[cfg(feature = "kubernetes")]
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use tenure::{Ours, Tenure};

use super::Status;
use crate::cluster::SlotSet;
use crate::config::{Config, Mode};
use crate::journal::{Opened, read_open_slots, write_open_slots};
use crate::lease::{LeaseCall, LeaseReply};
use crate::migration::{End, Mark, Step};
use home::Home;

/// Renewals within the time of one lease: four may fail before it is lost.
const RENEWALS: u32 = 5;
/// Notes that may wait: one for each running move, with room; whoever finds none waits.
const ORDERS: usize = 256;

/// What the supervisor wants written into the lease.
#[derive(Debug)]
enum Order {
    Opened { opened: Opened, recorded: oneshot::Sender<()> },
    Closed { slots: SlotSet },
}

/// The lease, as everybody but its keeper knows it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lease {
    tenure: watch::Receiver<Tenure>,
    orders: Option<mpsc::Sender<Order>>,
    call_timeout: Duration,
    patience: Duration,
}

impl Lease {
    /// No lease: everything is permitted.
    #[must_use]
    pub fn none() -> Self {
        let (_, tenure) = watch::channel(Tenure::NotNeeded);
        Self { tenure, orders: None, call_timeout: Duration::ZERO, patience: Duration::ZERO }
    }

    /// Keeps the lease that is configured, for as long as the mode is to act and the supervisor turns, where there is one,
    /// whose status this is; until `stop`, and then gives it back.
    ///
    /// The task is `None` where no lease is configured.
    #[must_use]
    pub fn keep(
        config: watch::Receiver<Arc<Config>>,
        status: Option<watch::Receiver<Arc<Status>>>,
        instance: &str,
        stop: CancellationToken,
    ) -> (Self, Option<JoinHandle<()>>) {
        let now = Arc::clone(&config.borrow());
        let Some(home) = Home::of(&now, instance) else { return (Self::none(), None) };
        let (lease, keeper) = Self::keep_at(home, config, status, instance, stop);
        (lease, Some(keeper))
    }

    fn keep_at(
        home: Home,
        config: watch::Receiver<Arc<Config>>,
        status: Option<watch::Receiver<Arc<Status>>>,
        instance: &str,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let now = Arc::clone(&config.borrow());
        let (call_timeout, ttl) = (now.migration.call_timeout, now.lease.ttl);
        let patience = home.patience(call_timeout, ttl);
        let (published, tenure) = watch::channel(Tenure::Unknown { why: "it was not asked for yet".to_owned() });
        let (sender, orders) = mpsc::channel(ORDERS);
        let keeper = Keeper {
            home,
            ttl,
            instance: instance.to_owned(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            config,
            status,
            open: Vec::new(),
            published,
            hangs: false,
        };
        let lease = Self { tenure, orders: Some(sender), call_timeout, patience };
        (lease, tokio::spawn(keeper.run(orders, stop)))
    }

    /// Whether we have it, as last heard.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        self.tenure.borrow().clone()
    }

    /// Whether a call that changes something may be sent now.
    pub(super) fn may_act(&self) -> bool {
        self.tenure().may_act(Instant::now(), self.call_timeout)
    }

    /// Whether owners may be changed now.
    pub(super) fn may_finalise(&self) -> bool {
        self.tenure().may_finalise(Instant::now(), self.call_timeout)
    }

    /// Whether this step of a move may be taken now.
    pub(super) fn permits(&self, step: &Step) -> bool {
        match step {
            Step::SetSlots { at: End::Target, mark: Mark::Assigned, .. } => self.may_finalise(),
            Step::SetSlots { .. } | Step::MoveKeys(_) | Step::DropCopies(_) => self.may_act(),
            Step::ReadEnds { .. }
            | Step::ListKeys { .. }
            | Step::CompareKeys(_)
            | Step::TakeFinalise
            | Step::YieldFinalise
            | Step::Listen
            | Step::Pause(_)
            | Step::End(_) => true,
        }
    }

    /// How long it may take until it is known who has it, where all answer.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits until it is known whether we have it, for as long as that may take where all answer.
    pub(super) async fn known(&self) {
        let mut tenure = self.tenure.clone();
        let known = tenure.wait_for(|tenure| match tenure {
            Tenure::NotNeeded | Tenure::Elsewhere { .. } | Tenure::Ours(_) => true,
            Tenure::Unknown { .. } => false,
        });
        let _ = tokio::time::timeout(self.patience, known).await;
    }

    /// Why nothing may be changed now; `None` while it may.
    pub(super) fn reason(&self) -> Option<super::Reason> {
        self.tenure().reason(Instant::now(), self.call_timeout)
    }

    /// Writes down that slots are about to be opened; `recorded` is answered when that is in the lease, and dropped
    /// when it is not ours.
    pub(super) async fn opened(&self, opened: Opened, recorded: oneshot::Sender<()>) {
        let Some(orders) = &self.orders else {
            let _ = recorded.send(());
            return;
        };
        let _ = orders.send(Order::Opened { opened, recorded }).await;
    }

    /// Writes down, with the next renewal, that slots are closed.
    pub(super) async fn closed(&self, slots: &SlotSet) {
        if let (Some(orders), false) = (&self.orders, slots.is_empty()) {
            let _ = orders.send(Order::Closed { slots: slots.clone() }).await;
        }
    }

    /// The same, without waiting for room: a record of slots that turn out to be closed costs a successor a look.
    pub(super) fn forget(&self, slots: &SlotSet) {
        if let Some(orders) = &self.orders {
            let _ = orders.try_send(Order::Closed { slots: slots.clone() });
        }
    }
}

struct Keeper {
    home: Home,
    ttl: Duration,
    instance: String,
    host: String,
    config: watch::Receiver<Arc<Config>>,
    /// Of the supervisor, where there is one.
    status: Option<watch::Receiver<Arc<Status>>>,
    /// What is open, by our own notes and by those of whoever had the lease before us.
    open: Vec<Opened>,
    published: watch::Sender<Tenure>,
    /// The supervisor has not turned for the time of a lease.
    hangs: bool,
}

impl Keeper {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) {
        let every = self.ttl / RENEWALS;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next) => {
                    next = Instant::now() + every;
                    self.renew().await;
                }
                Some(order) = orders.recv() => match order {
                    Order::Opened { opened, recorded } => {
                        let mut open = self.open.clone();
                        close(&mut open, &opened.slots);
                        open.push(opened);
                        // What cannot be written is not opened. It must not keep the lease from being renewed either.
                        if let Some(why) = self.home.objection(&write_open_slots(&open)) {
                            warn!(why, "slots are not opened: the lease has no room for them");
                            continue;
                        }
                        self.open = open;
                        next = Instant::now() + every;
                        // Without an answer the slots are not opened; that they are on record then harms nobody.
                        if self.renew().await {
                            let _ = recorded.send(());
                        }
                    }
                    Order::Closed { slots } => close(&mut self.open, &slots),
                }
            }
        }
        // Whoever comes next need not look at what was closed in the last moment.
        while let Ok(order) = orders.try_recv() {
            if let Order::Closed { slots } = order {
                close(&mut self.open, &slots);
            }
        }
        self.give_back().await;
    }

    /// Asks for the lease, or renews it, and publishes what came of it. Says whether it is ours by a new word.
    async fn renew(&mut self) -> bool {
        let before = self.published.borrow().clone();
        if self.config.borrow().schedule.mode == Mode::Observe {
            if matches!(before, Tenure::Ours(_)) {
                self.give_back().await;
            }
            return false;
        }
        let sent = Instant::now();
        let held = match &before {
            Tenure::Ours(ours) => Some(ours.clone()),
            Tenure::NotNeeded | Tenure::Elsewhere { .. } | Tenure::Unknown { .. } => None,
        };
        if self.supervisor_hangs() {
            return false;
        }
        let record = held.as_ref().map(|_| write_open_slots(&self.open));
        let (after, renewed) = match (self.call(self.ttl, record.as_deref()).await, held) {
            (Ok(LeaseReply::Ours { .. }), Some(ours)) => {
                (Tenure::Ours(Ours { sent, trouble: String::new(), ..ours }), true)
            }
            (Ok(LeaseReply::Ours { open }), None) => (Tenure::Ours(self.gained(sent, &open)), true),
            (Ok(LeaseReply::Held { instance, host, left }), was) => {
                if was.is_some() {
                    warn!(holder = instance, host, "the lease was lost: somebody else has it");
                }
                (Tenure::Elsewhere { holder: instance, host, until: Instant::now() + left }, false)
            }
            (Ok(LeaseReply::Watched { instance, host, left }), _) => {
                let why = format!(
                    "{instance} on {host} had it when it was first looked at; it is taken unless he renews it within {} s",
                    left.as_secs() + 1
                );
                (Tenure::Unknown { why }, false)
            }
            (Err(why), Some(ours)) => {
                if ours.trouble.is_empty() {
                    warn!(why, "the lease could not be renewed");
                }
                (Tenure::Ours(Ours { trouble: why, ..ours }), false)
            }
            (Err(why), None) => {
                if before != (Tenure::Unknown { why: why.clone() }) {
                    warn!(why, "the lease cannot be asked for");
                }
                (Tenure::Unknown { why }, false)
            }
        };
        self.published.send_replace(after);
        renewed
    }

    /// Whether the supervisor does nothing any more, and would keep others from the lease. Tells when that changes.
    fn supervisor_hangs(&mut self) -> bool {
        let Some(turned) = self.status.as_ref().map(|status| status.borrow().turned) else { return false };
        let (still_for, hung) = (turned.elapsed(), self.hangs);
        self.hangs = still_for > self.ttl;
        match (hung, self.hangs) {
            (false, true) => {
                let still_ms = still_for.as_millis();
                warn!(still_ms, "the lease is neither asked for nor renewed: the supervisor does not turn");
            }
            (true, false) => info!("the supervisor turns again, and the lease is asked for"),
            (true, true) | (false, false) => {}
        }
        self.hangs
    }

    /// The lease is ours, and with it what its last holder left open.
    fn gained(&mut self, sent: Instant, record: &str) -> Ours {
        let inherited = read_open_slots(record).unwrap_or_else(|why| {
            warn!(why, "what the last holder of the lease had open cannot be read");
            Vec::new()
        });
        let slots = inherited.iter().fold(SlotSet::new(), |all, opened| all.union(&opened.slots));
        info!(key = self.home.name(), ttl_ms = self.ttl.as_millis(), open = %slots, "the lease is ours");
        close(&mut self.open, &slots);
        self.open.extend(inherited.iter().cloned());
        let kept_by = self.home.node();
        let gained = Instant::now();
        Ours { sent, ttl: self.ttl, gained, inherited: Arc::new(inherited), kept_by, trouble: String::new() }
    }

    async fn give_back(&mut self) {
        if matches!(*self.published.borrow(), Tenure::Ours(_)) {
            let record = write_open_slots(&self.open);
            self.published.send_replace(Tenure::Unknown { why: "it was given back".to_owned() });
            if let Err(why) = self.call(Duration::ZERO, Some(&record)).await {
                warn!(why, "the lease could not be given back; it runs out by itself");
            }
        }
    }

    async fn call(&mut self, ttl: Duration, open: Option<&str>) -> Result<LeaseReply, String> {
        let call = LeaseCall { instance: &self.instance, host: &self.host, ttl, open };
        self.home.call(call).await
    }
}

/// Takes slots out of a record.
fn close(open: &mut Vec<Opened>, slots: &SlotSet) {
    for opened in &mut *open {
        opened.slots = opened.slots.difference(slots);
    }
    open.retain(|opened| !opened.slots.is_empty());
}
