//! Named points of a move at which a build for tests can be told to die, or to stand still.
//!
//! `EVENKEEL_FAILPOINTS=assign_target.after=kill@3` ends the process, with no chance to clean up, when it is at that
//! point for the third time. `…=pause@3` makes whoever is there create the file `assign_target.after.reached` in
//! `EVENKEEL_FAILPOINTS_DIR` and wait until `assign_target.after.go` is there too; it takes both away when it goes on.
//! `…=halt@3` is the same, but that everybody else who passes any point waits too, and that the file is there when nobody
//! is in the middle of a step. Several are separated by commas, and of several for one point the second begins to count
//! when the first has been obeyed. `plan=spoil` has every plan say a wrong thing before it is checked, as a bug in the
//! planner would. All of this is there only with the cargo feature `failpoints`, which a release build refuses.

use std::fmt;

use crate::migration::{End, Mark, Step};

/// What a move does, in the order in which it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The record of what is about to be opened.
    RecordOpened,
    /// The look at both ends, both counting.
    Look,
    /// `IMPORTING` at the target.
    MarkTarget,
    /// `MIGRATING` at the source.
    MarkSource,
    /// A listing of keys.
    List,
    /// One `MIGRATE`.
    Migrate,
    /// The comparison of copies.
    Compare,
    /// From the wish for the finalise to its grant.
    TakeFinalise,
    /// A look under the finalise; before anything is assigned, the source counts.
    Count,
    /// `NODE` at the target.
    AssignTarget,
    /// `NODE` at the source.
    AssignSource,
    /// The finalise given back.
    GiveBack,
    /// `STABLE` at the source.
    UnmarkSource,
    /// `STABLE` at the target.
    UnmarkTarget,
    /// The record of what is closed.
    RecordClosed,
}

/// A point before, inside or after a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The phase.
    pub phase: Phase,
    /// Where in it.
    pub moment: Moment,
}

/// Where in a phase a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Nothing of it was sent.
    Before,
    /// A server has carried out half of a group's `SETSLOT`s, and was not sent the others.
    Half,
    /// Every answer is there, and was not used.
    After,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 15] = [
        Self::RecordOpened,
        Self::Look,
        Self::MarkTarget,
        Self::MarkSource,
        Self::List,
        Self::Migrate,
        Self::Compare,
        Self::TakeFinalise,
        Self::Count,
        Self::AssignTarget,
        Self::AssignSource,
        Self::GiveBack,
        Self::UnmarkSource,
        Self::UnmarkTarget,
        Self::RecordClosed,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::RecordOpened => "record_opened",
            Self::Look => "look",
            Self::MarkTarget => "mark_target",
            Self::MarkSource => "mark_source",
            Self::List => "list",
            Self::Migrate => "migrate",
            Self::Compare => "compare",
            Self::TakeFinalise => "take_finalise",
            Self::Count => "count",
            Self::AssignTarget => "assign_target",
            Self::AssignSource => "assign_source",
            Self::GiveBack => "give_back",
            Self::UnmarkSource => "unmark_source",
            Self::UnmarkTarget => "unmark_target",
            Self::RecordClosed => "record_closed",
        }
    }

    /// Whether it is a group of `SETSLOT`s, and so has a middle.
    const fn has_half(self) -> bool {
        match self {
            Self::MarkTarget
            | Self::MarkSource
            | Self::AssignTarget
            | Self::AssignSource
            | Self::UnmarkSource
            | Self::UnmarkTarget => true,
            Self::RecordOpened
            | Self::Look
            | Self::List
            | Self::Migrate
            | Self::Compare
            | Self::TakeFinalise
            | Self::Count
            | Self::GiveBack
            | Self::RecordClosed => false,
        }
    }

    /// The phase that a step is, if it is one.
    pub(super) const fn of(step: &Step) -> Option<Self> {
        Some(match step {
            Step::ReadEnds { count_target: true, .. } => Self::Look,
            Step::ReadEnds { count_target: false, .. } => Self::Count,
            Step::SetSlots { mark: Mark::Importing, .. } => Self::MarkTarget,
            Step::SetSlots { mark: Mark::Migrating, .. } => Self::MarkSource,
            Step::SetSlots { mark: Mark::Assigned, at: End::Target, .. } => Self::AssignTarget,
            Step::SetSlots { mark: Mark::Assigned, at: End::Source, .. } => Self::AssignSource,
            Step::SetSlots { mark: Mark::Stable, at: End::Source, .. } => Self::UnmarkSource,
            Step::SetSlots { mark: Mark::Stable, at: End::Target, .. } => Self::UnmarkTarget,
            Step::ListKeys { .. } => Self::List,
            Step::MoveKeys(_) => Self::Migrate,
            Step::CompareKeys(_) => Self::Compare,
            Step::TakeFinalise => Self::TakeFinalise,
            Step::YieldFinalise => Self::GiveBack,
            // `Redirected` and copies come with failovers only, which kills of the daemon do not make; while listening nothing is said.
            Step::SetSlots { mark: Mark::Redirected, .. }
            | Step::DropCopies(_)
            | Step::Listen
            | Step::Pause(_)
            | Step::End(_) => return None,
        })
    }
}

impl Point {
    /// Every point there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let moments = |phase: Phase| {
            let moments = [Moment::Before, Moment::Half, Moment::After].into_iter();
            moments.filter(move |moment| *moment != Moment::Half || phase.has_half())
        };
        Phase::ALL.into_iter().flat_map(move |phase| moments(phase).map(move |moment| Self { phase, moment }))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::Half => "half",
            Moment::After => "after",
        };
        write!(f, "{}.{moment}", self.phase.name())
    }
}

pub(super) use orders::{busy, pass, pass_before, spoil};

/// What this process was told to do at which point.
#[cfg(feature = "failpoints")]
mod orders {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Moment, Phase, Point, Step};
    use crate::daemon::drive::Carrier;
    use crate::plan::Plan;

    #[cfg(not(debug_assertions))]
    compile_error!("a build for production has no failpoints");

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Pause,
        Halt,
    }

    /// Moves in the middle of a step, moves that stand still, and those of them for whose sake all others do.
    static BUSY: AtomicUsize = AtomicUsize::new(0);
    static STANDING: AtomicUsize = AtomicUsize::new(0);
    static HALTED: AtomicUsize = AtomicUsize::new(0);
    /// How long the steps of others are awaited: those that wait for something themselves may take for ever.
    const OTHERS: Duration = Duration::from_millis(500);
    const TURN: Duration = Duration::from_millis(5);

    struct Order {
        point: Point,
        action: Action,
        /// How often the point is still passed before.
        spare: u32,
    }

    static ORDERS: LazyLock<Mutex<Vec<Order>>> = LazyLock::new(|| {
        let text = told();
        let orders = text.split(',').filter(|order| !order.is_empty() && *order != SPOIL);
        Mutex::new(orders.map(|order| parse(order).unwrap_or_else(|| panic!("no failpoint: {order}"))).collect())
    });

    /// The order that concerns no point of a move.
    const SPOIL: &str = "plan=spoil";

    fn told() -> String {
        std::env::var("EVENKEEL_FAILPOINTS").unwrap_or_default()
    }

    /// Turns the first move of a plan round, where that was ordered.
    pub(in crate::daemon) fn spoil(plan: &mut Plan) {
        static ORDERED: LazyLock<bool> = LazyLock::new(|| told().split(',').any(|order| order == SPOIL));
        if let (true, Some(first)) = (*ORDERED, plan.moves.first_mut()) {
            std::mem::swap(&mut first.source, &mut first.target);
        }
    }

    fn parse(order: &str) -> Option<Order> {
        let (name, action) = order.split_once('=')?;
        let (action, number) = action.split_once('@')?;
        let point = Point::all().find(|point| point.to_string() == name)?;
        let known = [("pause", Action::Pause), ("halt", Action::Halt), ("kill", Action::Kill)];
        let (_, action) = known.into_iter().find(|(name, _)| *name == action)?;
        Some(Order { point, action, spare: number.parse::<u32>().ok()?.checked_sub(1)? })
    }

    /// Whether something is to be done at this point now.
    fn due(point: Point) -> Option<Order> {
        let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
        let at = orders.iter().position(|order| order.point == point)?;
        if orders[at].spare == 0 {
            return Some(orders.remove(at));
        }
        orders[at].spare -= 1;
        None
    }

    async fn obey(order: Order) {
        let halts = match order.action {
            Action::Kill => std::process::abort(),
            Action::Pause => 0,
            Action::Halt => 1,
        };
        STANDING.fetch_add(1, Ordering::SeqCst);
        HALTED.fetch_add(halts, Ordering::SeqCst);
        let until = Instant::now() + OTHERS;
        while halts > 0 && BUSY.load(Ordering::SeqCst) > STANDING.load(Ordering::SeqCst) && Instant::now() < until {
            tokio::time::sleep(TURN).await;
        }
        let directory = PathBuf::from(std::env::var_os("EVENKEEL_FAILPOINTS_DIR").unwrap_or_default());
        let file = |what| directory.join(format!("{}.{what}", order.point));
        std::fs::write(file("reached"), "").expect("EVENKEEL_FAILPOINTS_DIR can be written to");
        while !file("go").exists() {
            tokio::time::sleep(TURN).await;
        }
        // In this order: who sees that `go` is gone may look for the next order's `reached` at once.
        let _ = std::fs::remove_file(file("reached"));
        let _ = std::fs::remove_file(file("go"));
        HALTED.fetch_sub(halts, Ordering::SeqCst);
        STANDING.fetch_sub(1, Ordering::SeqCst);
    }

    /// The process is at this point.
    pub(in crate::daemon) async fn pass(phase: Option<Phase>, moment: Moment) {
        if let Some(order) = phase.and_then(|phase| due(Point { phase, moment })) {
            return obey(order).await;
        }
        STANDING.fetch_add(1, Ordering::SeqCst);
        while HALTED.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(TURN).await;
        }
        STANDING.fetch_sub(1, Ordering::SeqCst);
    }

    /// A move is busy with a step for as long as this lives.
    pub(in crate::daemon) struct Busy(());

    pub(in crate::daemon) fn busy() -> Busy {
        BUSY.fetch_add(1, Ordering::SeqCst);
        Busy(())
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            BUSY.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The process is about to carry out this step, or will have carried out half of it.
    pub(in crate::daemon) async fn pass_before(step: &Step, carrier: &mut impl Carrier) {
        let phase = Phase::of(step);
        pass(phase, Moment::Before).await;
        let (Some(phase), Step::SetSlots { at, mark, slots }) = (phase, step) else { return };
        let half = slots.iter().take(slots.len() / 2).collect::<crate::cluster::SlotSet>();
        if half.is_empty() {
            return;
        }
        if let Some(order) = due(Point { phase, moment: Moment::Half }) {
            let _ = carrier.perform(Step::SetSlots { at: *at, mark: *mark, slots: half }).await;
            obey(order).await;
        }
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
mod orders {
    use std::future::{Ready, ready};

    use super::{Moment, Phase, Step};
    use crate::daemon::drive::Carrier;
    use crate::plan::Plan;

    pub(in crate::daemon) fn spoil(_: &mut Plan) {}

    /// Nothing.
    pub(in crate::daemon) struct Busy;

    pub(in crate::daemon) fn busy() -> Busy {
        Busy
    }

    pub(in crate::daemon) fn pass(_: Option<Phase>, _: Moment) -> Ready<()> {
        ready(())
    }

    pub(in crate::daemon) fn pass_before(_: &Step, _: &mut impl Carrier) -> Ready<()> {
        ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<String> = Point::all().map(|point| point.to_string()).collect();
        assert_eq!(names.len(), 2 * Phase::ALL.len() + 6);
        assert!(names.contains("assign_target.half") && !names.contains("migrate.half"), "{names:?}");
    }
}
