//! One task a move: carries out the steps that the state machine names, on connections of its own.
//!
//! The machine decides; the worker asks the servers and the supervisor, and reports what they said. It ends between
//! steps only, and never drops a call that changes something.
//!
//! A move has two lanes: while the keys of one group of slots go over, the group before is finalised and the one after is
//! looked at and opened. So the source seldom waits for the network, and still has one `MIGRATE` at a time.

mod lane;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(super) use lane::COUNT_AHEAD;
use lane::{Lane, Shared};

use super::big_keys::Rules;
use super::ends::Connections;
use super::meter::Meter;
use super::pacer::Pacer;
use super::scout::Foresight;
use super::turns::TurnsAt;
use super::{Lease, MoveId, RoomRules, Sight};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::config::Functions;
use crate::metrics::Metrics;
use crate::migration::{Pair, Predecessors, Purpose, Trouble};
use crate::throttle::GroupLimits;

/// What a worker tells the supervisor.
#[derive(Debug)]
pub(super) enum FromWorker {
    /// These slots are about to be opened; the answer comes when that is on record.
    Opening { id: MoveId, slots: SlotSet, recorded: oneshot::Sender<()> },
    /// These slots are finished on both ends.
    Finished { id: MoveId, slots: SlotSet },
    /// These slots are not moved, while others of the move go on; the report has them too.
    SetApart { id: MoveId, slots: BTreeMap<Slot, Trouble> },
    /// The finalise is wanted; the answer is the permission.
    WantsFinalise { id: MoveId, grant: oneshot::Sender<()> },
    /// The finalise is given back: the source no longer claims the slots, or nobody was told anything.
    YieldsFinalise { id: MoveId },
    /// The worker has ended.
    Ended { id: MoveId, report: Report },
}

/// How a worker ended.
#[derive(Debug, Default)]
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
    /// One end has been the other's replica.
    pub(super) kin: bool,
    pub(super) slots: SlotSet,
    pub(super) purpose: Purpose,
    /// Of open slots: whom their ends have taken over from.
    pub(super) before: Predecessors,
    /// Of open slots: we opened them ourselves.
    pub(super) on_record: bool,
    pub(super) pacer: Arc<Mutex<Pacer>>,
    pub(super) turns: TurnsAt,
    pub(super) group: GroupLimits,
    /// Estimate for the count of bytes: the source's data per key.
    pub(super) bytes_per_key: f64,
    /// How near to its memory limit the target may come.
    pub(super) room: RoomRules,
    /// What becomes of a target that lacks functions.
    pub(super) functions: Functions,
    /// What becomes of big keys.
    pub(super) big_keys: Rules,
    /// Bytes that the source holds.
    pub(super) dataset: u64,
    /// What a scout has seen of the slots.
    pub(super) foresight: Mutex<Foresight>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) meter: Arc<Meter>,
    pub(super) supervisor: mpsc::Sender<FromWorker>,
    pub(super) sights: watch::Receiver<Sight>,
    /// Targets that are to be given no keys for now.
    pub(super) held_targets: watch::Receiver<BTreeSet<NodeId>>,
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
    pub(super) async fn run(self, ends: Connections) -> Report {
        self.meter.set_pace(self.pacer().status());
        let shared = Shared::new(&self);
        let Some(heirs) = ends.heirs() else { return self.carry_out(&shared, ends).await };
        let ended = CancellationToken::new();
        let carried_out = async {
            let _ended = ended.clone().drop_guard();
            self.carry_out(&shared, ends).await
        };
        let told = heirs.watch(&shared.marked, &self.lease, &ended);
        tokio::join!(Box::pin(carried_out), Box::pin(told)).0
    }

    async fn carry_out(&self, shared: &Shared, ends: Connections) -> Report {
        let mut first = Lane::new(self, shared, ends, 0);
        if let Err(fault) = first.ends.open().await {
            first.give_up(SlotSet::new(), fault.trouble(self.pair)).await;
        } else if self.purpose == Purpose::Resume {
            first.resume().await;
        } else if first.compare_functions().await {
            return self.move_all(shared, first).await;
        }
        first.end().merge(shared.not_begun().await)
    }

    /// Moves group after group, in both lanes.
    async fn move_all(&self, shared: &Shared, mut first: Lane<'_>) -> Report {
        let mut second = Lane::new(self, shared, first.ends.unconnected(), 1);
        if let Some(group) = first.take_group().await {
            let beside = async {
                // What is the matter with the pair shows in one group.
                shared.proven.cancelled().await;
                if shared.has_more().await && second.open().await {
                    second.move_groups(None).await;
                }
            };
            tokio::join!(Box::pin(first.move_groups(Some(group))), Box::pin(beside));
        }
        first.end().merge(second.end()).merge(shared.not_begun().await)
    }

    /// Never held across a wait.
    fn pacer(&self) -> MutexGuard<'_, Pacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never held across a wait.
    fn foresight(&self) -> MutexGuard<'_, Foresight> {
        self.foresight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, message: FromWorker) {
        // The supervisor outlives its workers; if it is gone the whole process is on its way out.
        let _ = self.supervisor.send(message).await;
    }

    /// The report of slots that cannot be begun because of this.
    fn unopened(&self, slots: &SlotSet, why: &Trouble) -> Report {
        self.metrics.trouble(why.name());
        let (source, target) = (self.pair.source, self.pair.target);
        warn!(slots = %slots, %source, %target, %why, "move could not begin");
        let left_open = if self.purpose == Purpose::Resume { slots.clone() } else { SlotSet::new() };
        let troubled = slots.iter().map(|slot| (slot, why.clone())).collect();
        Report { left_open, troubled, not_begun: SlotSet::new() }
    }
}

impl Report {
    /// Both together.
    fn merge(mut self, other: Self) -> Self {
        self.left_open.extend(other.left_open.iter());
        self.troubled.extend(other.troubled);
        self.not_begun.extend(other.not_begun.iter());
        self
    }
}
