//! What evenkeel knows and does, as one value: the supervisor publishes it, everybody else only reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{CertificateFile, PaceStatus, Reason, SetAside, Tenure};
use crate::cluster::{NodeId, NodeInfo, Slot, SlotSet, Topology};
use crate::config::{Config, Mode};
use crate::journal::{Drain, History, Pause};
use crate::migration::{Pair, Purpose};
use crate::plan::Plan;

/// The state of one evenkeel, as of its last turn.
#[derive(Clone, Debug)]
pub struct Status {
    /// `cluster.name`.
    pub cluster: String,
    /// What this process calls itself in the names of its connections.
    pub instance: String,
    /// Whether it acts or observes.
    pub mode: Mode,
    /// When the process began.
    pub started: SystemTime,
    /// When the supervisor last turned.
    pub turned: Instant,
    /// The last look at the cluster, if any has succeeded.
    pub view: Option<View>,
    /// What the last look or looks failed with; empty after a success.
    pub look_errors: Vec<String>,
    /// The plan for the last look; `None` while the picture does not allow one.
    pub plan: Option<Arc<Plan>>,
    /// Why nothing new is opened; empty while moves run freely, and when nothing is left to do.
    pub reasons: Vec<Reason>,
    /// The moves that run now.
    pub moves: Vec<MoveStatus>,
    /// How long other clients of the nodes that moves keep busy wait for an answer, beyond the time of the network.
    pub latencies: BTreeMap<NodeId, Duration>,
    /// Moves of the plan that wait for their turn.
    pub waiting: usize,
    /// How far the present work has come.
    pub work: Work,
    /// Moves that ended, newest last, those of earlier processes on record included; the last thousand.
    pub history: Arc<History>,
    /// Slots that could not be moved, and when they are tried again.
    pub set_aside: BTreeMap<Slot, SetAside>,
    /// What an operator told us: to begin nothing new.
    pub paused: Option<Pause>,
    /// Nodes that an operator told us to drain.
    pub drains: BTreeMap<NodeId, Drain>,
    /// The hash of the plan that an operator approved, until it is carried out.
    pub approved: Option<String>,
    /// Whether we have the lease, where one is configured.
    pub lease: Tenure,
    /// The files of certificates that are in use.
    pub certificates: Vec<CertificateFile>,
    /// What is wrong and stops nothing: files that cannot be used, a password that a node does not take, primaries without
    /// slots that do not answer.
    pub warnings: Vec<String>,
    /// How the last reload of the configuration ended: the fault, if it was refused.
    pub config_error: Option<String>,
    /// Reloads that were taken over since the start.
    pub config_generation: u64,
}

impl Status {
    /// The status before the first turn.
    #[must_use]
    pub fn first(config: &Config, instance: &str) -> Self {
        Self {
            cluster: config.cluster.name.clone(),
            instance: instance.to_owned(),
            mode: config.schedule.mode,
            started: SystemTime::now(),
            turned: Instant::now(),
            view: None,
            look_errors: Vec::new(),
            plan: None,
            reasons: vec![Reason::NoView { errors: Vec::new() }],
            moves: Vec::new(),
            latencies: BTreeMap::new(),
            waiting: 0,
            work: Work::default(),
            history: Arc::default(),
            set_aside: BTreeMap::new(),
            paused: None,
            drains: BTreeMap::new(),
            approved: None,
            lease: Tenure::NotNeeded,
            certificates: Vec::new(),
            warnings: Vec::new(),
            config_error: None,
            config_generation: 0,
        }
    }
}

/// What one look at the cluster brought, and, while it is at rest, glances since then have found unchanged.
#[derive(Clone, Debug)]
pub struct View {
    /// Shards, owners, open slots, findings.
    pub topology: Arc<Topology>,
    /// `INFO` of every node that answered.
    pub infos: Arc<BTreeMap<NodeId, NodeInfo>>,
    /// When the last look or glance began: as of then it is true.
    pub at: Instant,
    /// When the look began, in which every node was read in full; never later.
    pub read_at: Instant,
    /// How long the last look or glance took.
    pub took: Duration,
    /// How many of both there have been, this one included.
    pub number: u64,
}

/// One running move.
#[derive(Clone, Debug)]
pub struct MoveStatus {
    /// Who gives to whom.
    pub pair: Pair,
    /// A planned move, or open slots that are finished.
    pub purpose: Purpose,
    /// All its slots.
    pub slots: SlotSet,
    /// Slots that both ends confirmed.
    pub slots_moved: usize,
    /// Keys of acknowledged calls.
    pub keys_moved: u64,
    /// Bytes of these keys, estimated from the size of the source's data set and its keys; `None` where that is not known.
    pub bytes_estimated: Option<u64>,
    /// How fast it goes at present, and what keeps it from being faster.
    pub pace: PaceStatus,
    /// When it began.
    pub since: Instant,
    /// What it waits for at present, in words; empty while it moves.
    pub waits_for: String,
}

/// Progress of the present work: from the first move after a time of rest to the next rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Slots that the work comprises, moved ones included.
    pub slots_planned: usize,
    /// Slots that both ends confirmed.
    pub slots_moved: usize,
    /// Keys in the slots that the work comprises, moved ones included, as counted when their move was planned; `None`
    /// until they have been counted.
    pub keys_planned: Option<u64>,
    /// Keys of acknowledged calls.
    pub keys_moved: u64,
    /// Bytes of these keys, as far as they can be estimated.
    pub bytes_estimated: u64,
    /// How long the work has been going on; zero while at rest.
    pub elapsed: Duration,
    /// Whether any move runs or waits.
    pub active: bool,
}

impl Work {
    /// Time left at the rate so far: by slots or by keys, whichever is further behind. `None` before anything moved.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        if !self.active || self.slots_moved == 0 {
            return None;
        }
        let by_slots = share_left(self.slots_moved as f64, self.slots_planned as f64);
        let by_keys = self.keys_planned.filter(|&keys| keys > 0 && self.keys_moved > 0);
        let by_keys = by_keys.map_or(0.0, |planned| share_left(self.keys_moved as f64, planned as f64));
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * by_slots.max(by_keys)).ok()
    }
}

/// What is left, as a multiple of what is done.
fn share_left(done: f64, planned: f64) -> f64 {
    (planned - done).max(0.0) / done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_whatever_is_further_behind() {
        let work = Work {
            slots_planned: 400,
            slots_moved: 100,
            keys_planned: Some(1_000),
            keys_moved: 100,
            bytes_estimated: 0,
            elapsed: Duration::from_secs(10),
            active: true,
        };
        assert_eq!(work.time_left(), Some(Duration::from_secs(90)));
        assert_eq!(Work { keys_moved: 900, ..work }.time_left(), Some(Duration::from_secs(30)));
        assert_eq!(Work { keys_planned: None, ..work }.time_left(), Some(Duration::from_secs(30)));
        assert_eq!(Work { slots_moved: 0, ..work }.time_left(), None);
        assert_eq!(Work { active: false, ..work }.time_left(), None);
    }
}
