//! What evenkeel tells Prometheus.
//!
//! Callers say what happened ([`Metrics::move_ended`]), not which series that is. What is true at present rather than
//! counted (who holds how many slots, why nothing moves) is not kept here: it is read from [`Status`] at each scrape,
//! so a node that has gone leaves no series behind and two scrapes at once do not disturb each other.
//!
//! No slot and no key is ever in a label, no histogram has a node, no series has both source and target: the number of
//! series grows with the nodes and with nothing else. `docs/metrics.md` lists every family; a test compares the two.

mod families;
mod gauges;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use prometheus::{Error, Histogram, HistogramVec, IntCounter, IntCounterVec, TextEncoder};

use crate::clock::Now;
use crate::daemon::Status;
use crate::migration::{Ending, Trouble};
use families::Families;

/// The content type of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From a `MIGRATE` of one small key within a rack to one that ran into its time-out.
const MIGRATE_CALL_BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
/// From one `SETSLOT` to a finalise that waits for others.
const STEP_BUCKETS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// From an empty slot to one that holds millions of keys.
const SLOT_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];
/// From a cluster on one machine to one with nodes that do not answer until the time-out.
const POLL_BUCKETS: [f64; 11] = [0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A step of a move, as its duration is filed. Moving keys is filed per call as well: [`Metrics::migrate_call`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// Reading both ends and counting keys.
    Look,
    /// Marking slots as importing at the target.
    MarkImporting,
    /// Marking slots as migrating at the source.
    MarkMigrating,
    /// Listing keys at the source.
    List,
    /// One `MIGRATE`.
    Migrate,
    /// Comparing the copies of keys at both ends, and dropping those of a former replica.
    Compare,
    /// Waiting for the one finalise of the cluster.
    FinaliseWait,
    /// Telling the target that it owns slots.
    AssignTarget,
    /// Telling the source that the target owns slots.
    AssignSource,
    /// Taking marks away.
    Unmark,
    /// Telling a target of the node that took over from its source.
    Redirect,
}

impl StepName {
    /// Every step.
    pub const ALL: [Self; 11] = [
        Self::Look,
        Self::MarkImporting,
        Self::MarkMigrating,
        Self::List,
        Self::Migrate,
        Self::Compare,
        Self::FinaliseWait,
        Self::AssignTarget,
        Self::AssignSource,
        Self::Unmark,
        Self::Redirect,
    ];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::MarkImporting => "mark_importing",
            Self::MarkMigrating => "mark_migrating",
            Self::List => "list",
            Self::Migrate => "migrate",
            Self::Compare => "compare",
            Self::FinaliseWait => "finalise_wait",
            Self::AssignTarget => "assign_target",
            Self::AssignSource => "assign_source",
            Self::Unmark => "unmark",
            Self::Redirect => "redirect",
        }
    }
}

/// How a move ended, without the why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// Both ends confirmed every slot.
    Done,
    /// Nothing is open; the source owns the slots as before.
    NotStarted,
    /// Some slots are open still.
    Left,
}

impl MoveOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Done, Self::NotStarted, Self::Left];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotStarted => "not_started",
            Self::Left => "left",
        }
    }
}

impl From<&Ending> for MoveOutcome {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::Done => Self::Done,
            Ending::NotStarted(_) => Self::NotStarted,
            Ending::Left(_) => Self::Left,
        }
    }
}

/// Counts what happens and tells it, together with the present [`Status`], in Prometheus' text format.
pub struct Metrics {
    cluster: String,
    families: Families,
    step_duration: HistogramVec,
    migrate_call_duration: Histogram,
    keys_moved: IntCounter,
    bytes_moved: IntCounter,
    slots_moved: IntCounter,
    slot_duration: Histogram,
    moves: IntCounterVec,
    errors: IntCounterVec,
    polls: IntCounterVec,
    poll_duration: Histogram,
    config_reloads: IntCounterVec,
}

impl Metrics {
    /// Everything at zero. `cluster` (`cluster.name`) is a label of every series.
    ///
    /// Fails only when two families contradict each other, which is a bug.
    pub fn new(cluster: &str) -> Result<Self, Error> {
        let families = Families::new(cluster)?;
        families.process()?;
        Ok(Self {
            step_duration: families.histograms(
                "evenkeel_step_duration_seconds",
                "How long one step of a move took, waiting included.",
                "step",
                &StepName::ALL.map(StepName::name),
                &STEP_BUCKETS,
            )?,
            migrate_call_duration: families.histogram(
                "evenkeel_migrate_call_duration_seconds",
                "How long one MIGRATE took: for so long it held its source and its target.",
                &MIGRATE_CALL_BUCKETS,
            )?,
            keys_moved: families.counter("evenkeel_keys_moved_total", "Keys whose move the source acknowledged.")?,
            bytes_moved: families.counter(
                "evenkeel_bytes_moved_total",
                "Bytes of the keys moved: an estimate from the size of the source's data set and its keys.",
            )?,
            slots_moved: families
                .counter("evenkeel_slots_moved_total", "Slots whose move both source and target confirmed.")?,
            slot_duration: families.histogram(
                "evenkeel_slot_duration_seconds",
                "How long a slot that was moved had been open, from its first mark to its new owner.",
                &SLOT_BUCKETS,
            )?,
            moves: families.counters(
                "evenkeel_moves_total",
                "Moves that ended: done, not_started (nothing is open), left (slots are open still).",
                "outcome",
                &MoveOutcome::ALL.map(MoveOutcome::name),
            )?,
            errors: families.counters(
                "evenkeel_errors_total",
                "Troubles of moves, by class. A move may get over several of them.",
                "class",
                &Trouble::NAMES,
            )?,
            polls: families.counters(
                "evenkeel_polls_total",
                "Looks at the cluster: ok when a view of it came of it.",
                "result",
                &RESULTS,
            )?,
            poll_duration: families.histogram(
                "evenkeel_poll_duration_seconds",
                "How long one look at the cluster took, failed ones included.",
                &POLL_BUCKETS,
            )?,
            config_reloads: families.counters(
                "evenkeel_config_reloads_total",
                "Reloads of the configuration: error when the file was refused and the old one kept.",
                "result",
                &RESULTS,
            )?,
            cluster: cluster.to_owned(),
            families,
        })
    }

    /// A step of a move was answered, or given up.
    pub fn step_ended(&self, step: StepName, took: Duration) {
        self.step_duration.with_label_values(&[step.name()]).observe(took.as_secs_f64());
    }

    /// One `MIGRATE` ended; `keys` are those that the source acknowledged, 0 after an error.
    pub fn migrate_call(&self, keys: usize, took: Duration) {
        self.migrate_call_duration.observe(took.as_secs_f64());
        self.keys_moved.inc_by(keys as u64);
    }

    /// Keys were moved that are about so large. An estimate: no server tells the size of what a `MIGRATE` carries.
    pub fn bytes_moved(&self, bytes: u64) {
        self.bytes_moved.inc_by(bytes);
    }

    /// Both ends confirmed `count` slots, which were opened together and had been open for so long.
    pub fn slots_moved(&self, count: usize, took: Duration) {
        self.slots_moved.inc_by(count as u64);
        for _ in 0..count {
            self.slot_duration.observe(took.as_secs_f64());
        }
    }

    /// A move ended.
    pub fn move_ended(&self, outcome: MoveOutcome) {
        self.moves.with_label_values(&[outcome.name()]).inc();
    }

    /// Something kept slots from coming forward: one of [`Trouble::NAMES`].
    pub fn trouble(&self, name: &'static str) {
        debug_assert!(Trouble::NAMES.contains(&name), "`{name}` is a name of no trouble");
        self.errors.with_label_values(&[name]).inc();
    }

    /// A look at the cluster ended; `ok` when a view of it came of it.
    pub fn look_ended(&self, ok: bool, took: Duration) {
        self.polls.with_label_values(&[result(ok)]).inc();
        self.poll_duration.observe(took.as_secs_f64());
    }

    /// The configuration was read again; `ok` when it was taken over.
    pub fn config_reloaded(&self, ok: bool) {
        self.config_reloads.with_label_values(&[result(ok)]).inc();
    }

    /// All of it in Prometheus' text format ([`CONTENT_TYPE`]): what was counted, and the status as of now.
    pub fn render(&self, status: &Status) -> Result<String, Error> {
        self.render_at(status, Now::read())
    }

    fn render_at(&self, status: &Status, now: Now) -> Result<String, Error> {
        let mut gathered = self.families.gather();
        gathered.extend(gauges::read(&self.cluster, status, now)?.gather());
        gathered.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&gathered)
    }
}

const RESULTS: [&str; 2] = ["ok", "error"];

const fn result(ok: bool) -> &'static str {
    if ok { RESULTS[0] } else { RESULTS[1] }
}
