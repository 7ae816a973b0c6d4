//! What runs, how far it has come, and why nothing (more) is moved.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    DrainDocument, PauseDocument, ReasonDocument, Slots, drain_document, pause_document, reason_document, seconds,
};
use crate::clock::{Now, rfc3339};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::config::Mode;
use crate::daemon::{CertificateFile, DrainedNode, MoveStatus, PaceStatus, SetAside, Status, Tenure, Work};
use crate::migration::Purpose;

/// The state of one evenkeel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusDocument {
    /// `cluster.name`.
    pub cluster: String,
    /// What the process calls itself in the names of its connections.
    pub instance: String,
    /// evenkeel's version.
    pub version: String,
    /// `act` or `observe`.
    pub mode: String,
    /// When the process began; `null` for a time that RFC 3339 cannot write.
    pub started_at: Option<String>,
    /// How long ago that was.
    pub uptime_s: f64,
    /// How long ago the supervisor last turned.
    pub turn_age_s: f64,
    /// Why no further slot is opened; empty while moves run freely, and when nothing is left to do.
    pub reasons: Vec<ReasonDocument>,
    /// The moves that run now.
    pub moves: Vec<RunningMove>,
    /// The nodes that these moves keep busy: how long other clients wait for an answer.
    pub latencies: Vec<NodeLatency>,
    /// Moves of the plan that wait for their turn.
    pub moves_waiting: usize,
    /// How far the present work has come.
    pub work: WorkDocument,
    /// Slots that could not be moved, in ascending order.
    pub set_aside: Vec<SetAsideSlot>,
    /// What an operator told it, to begin nothing new; `null` while it is not paused.
    pub paused: Option<PauseDocument>,
    /// Nodes that an operator told it to drain.
    pub drains: Vec<DrainDocument>,
    /// The hash of the plan that an operator approved, until it is carried out; `null` where there is none.
    pub approved: Option<String>,
    /// The lease; `null` where none is configured.
    pub lease: Option<LeaseDocument>,
    /// The files of certificates that are in use.
    pub certificates: Vec<CertificateDocument>,
    /// What is wrong and stops nothing, for people: files that cannot be used, a password that a node does not take.
    pub warnings: Vec<String>,
    /// Slots with a mark at any primary.
    pub open_slots: Slots,
    /// The last look at the cluster.
    pub look: LookDocument,
    /// The configuration in use.
    pub config: ConfigDocument,
}

/// One running move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningMove {
    /// The primary that gives.
    pub source: String,
    /// The primary that takes.
    pub target: String,
    /// `move`, or `resume` for open slots that are finished.
    pub purpose: String,
    /// All its slots.
    pub slots: Slots,
    /// Slots that both ends confirmed.
    pub slots_moved: usize,
    /// Keys of acknowledged calls.
    pub keys_moved: u64,
    /// Bytes of these keys, estimated from the size of the source's data set and its keys; `null` where that is not known.
    pub bytes_moved_estimated: Option<u64>,
    /// How fast it goes at present, and what keeps it from being faster.
    pub pace: PaceDocument,
    /// How long it has been running.
    pub running_s: f64,
    /// What it waits for at present, for people; `null` while it moves.
    pub waits_for: Option<String>,
}

/// The pace of a running move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PaceDocument {
    /// The most keys of one call.
    pub batch_keys: usize,
    /// How long a call held the source of late, by the source's own count; `null` before it was asked.
    pub block_s: Option<f64>,
    /// How long the source rests between two calls.
    pub rest_s: f64,
    /// What keeps it from being faster: `growing` (nothing yet), `keys`, `block`, `latency`, `network`, `turns` or `rate`.
    pub limit: String,
}

/// What other clients of a node wait for an answer while it is part of a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeLatency {
    /// The node.
    pub node: String,
    /// Nineteen in twenty answers took no longer, beyond the time of the network.
    pub latency_s: f64,
}

/// Progress from the first move after a time of rest to the next rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkDocument {
    /// Whether any move runs or waits.
    pub active: bool,
    /// Slots that it comprises, moved ones included.
    pub slots_planned: usize,
    /// Slots that both ends confirmed.
    pub slots_moved: usize,
    /// Keys that it comprises, moved ones included; `null` until they have been counted.
    pub keys_planned: Option<u64>,
    /// Keys of acknowledged calls.
    pub keys_moved: u64,
    /// Bytes of these keys, as far as they can be estimated.
    pub bytes_moved_estimated: u64,
    /// How long it has been going on.
    pub elapsed_s: f64,
    /// How long it still takes at the rate so far; `null` at rest and before anything moved.
    pub left_s: Option<f64>,
}

/// A slot that could not be moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SetAsideSlot {
    /// The slot.
    pub slot: u16,
    /// How often it was tried.
    pub attempts: u32,
    /// What kind of trouble the last try had; the same names as the label `class` of `evenkeel_errors_total`.
    pub trouble: String,
    /// Why the last try failed, for people.
    pub why: String,
    /// How long it waits between the last try and the next; `null` when only a human can help.
    pub delay_s: Option<f64>,
    /// How long until the next try; `null` when only a human can help.
    pub next_try_in_s: Option<f64>,
}

/// The lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseDocument {
    /// Whether it is ours.
    pub ours: bool,
    /// What remains of ours, or of that of whoever has it; `null` when that is not known.
    pub remaining_s: Option<f64>,
    /// Who has it, where that is somebody else.
    pub holder: Option<String>,
    /// The machine that he runs on.
    pub host: Option<String>,
    /// What went wrong with asking for it last, for people.
    pub error: Option<String>,
}

/// A file of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateDocument {
    /// `cluster_ca`, `cluster_client`, `lease_ca`, `lease_client` or `http_server`.
    pub certificate: String,
    /// The file.
    pub file: String,
    /// When the first certificate in it expires; `null` when that cannot be told.
    pub expires_at: Option<String>,
    /// What is wrong with it now, for people; `null` when nothing is.
    pub error: Option<String>,
}

/// A look at the cluster. While it is at rest, a look asks whether anything has changed since the one before, and reads a
/// tenth of the nodes in full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LookDocument {
    /// How many looks there have been; 0 before the first has succeeded.
    pub number: u64,
    /// How long ago the last successful one began; `null` while there was none.
    pub age_s: Option<f64>,
    /// How long ago the last one began that read every node in full; `null` while there was none.
    pub read_age_s: Option<f64>,
    /// How long the last successful one took; `null` while there was none.
    pub took_s: Option<f64>,
    /// What went wrong since; empty after a success.
    pub errors: Vec<String>,
}

/// The configuration in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigDocument {
    /// Reloads that were taken over since the start.
    pub generation: u64,
    /// Why the last reload was refused; `null` when it was not.
    pub error: Option<String>,
}

/// The status as JSON, with ages as of `now`.
#[must_use]
pub fn status_document(status: &Status, now: Now) -> StatusDocument {
    let view = status.view.as_ref();
    let topology = view.map(|view| &*view.topology);
    let open: SlotSet = view.iter().flat_map(|view| view.topology.open.keys().copied()).collect();
    StatusDocument {
        cluster: status.cluster.clone(),
        instance: status.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: mode(status.mode).to_owned(),
        started_at: rfc3339(status.started),
        uptime_s: seconds(now.since_wall(status.started)),
        turn_age_s: seconds(now.since(status.turned)),
        reasons: status.reasons.iter().map(reason_document).collect(),
        moves: status.moves.iter().map(|m| running_move(m, now)).collect(),
        latencies: status.latencies.iter().map(|(node, &latency)| node_latency(*node, latency)).collect(),
        moves_waiting: status.waiting,
        work: work(&status.work),
        set_aside: status.set_aside.iter().map(|(&slot, why)| set_aside(slot, why, now)).collect(),
        paused: status.paused.map(pause_document),
        drains: status.drains.values().map(|&drain| drain_document(&DrainedNode::of(drain, topology))).collect(),
        approved: status.approved.clone(),
        lease: lease(&status.lease, now),
        certificates: status.certificates.iter().map(|file| certificate(file, now)).collect(),
        warnings: status.warnings.clone(),
        open_slots: Slots::from(&open),
        look: LookDocument {
            number: view.map_or(0, |view| view.number),
            age_s: view.map(|view| seconds(now.since(view.at))),
            read_age_s: view.map(|view| seconds(now.since(view.read_at))),
            took_s: view.map(|view| seconds(view.took)),
            errors: status.look_errors.clone(),
        },
        config: ConfigDocument { generation: status.config_generation, error: status.config_error.clone() },
    }
}

fn running_move(m: &MoveStatus, now: Now) -> RunningMove {
    let purpose = match m.purpose {
        Purpose::Move => "move",
        Purpose::Resume => "resume",
    };
    RunningMove {
        source: m.pair.source.to_string(),
        target: m.pair.target.to_string(),
        purpose: purpose.to_owned(),
        slots: Slots::from(&m.slots),
        slots_moved: m.slots_moved,
        keys_moved: m.keys_moved,
        bytes_moved_estimated: m.bytes_estimated,
        pace: pace(&m.pace),
        running_s: seconds(now.since(m.since)),
        waits_for: Some(m.waits_for.clone()).filter(|text| !text.is_empty()),
    }
}

fn node_latency(node: NodeId, latency: Duration) -> NodeLatency {
    NodeLatency { node: node.to_string(), latency_s: seconds(latency) }
}

fn pace(pace: &PaceStatus) -> PaceDocument {
    PaceDocument {
        batch_keys: pace.batch_keys,
        block_s: pace.block.map(seconds),
        rest_s: seconds(pace.rest),
        limit: pace.limit.name().to_owned(),
    }
}

fn work(work: &Work) -> WorkDocument {
    WorkDocument {
        active: work.active,
        slots_planned: work.slots_planned,
        slots_moved: work.slots_moved,
        keys_planned: work.keys_planned,
        keys_moved: work.keys_moved,
        bytes_moved_estimated: work.bytes_estimated,
        elapsed_s: seconds(work.elapsed),
        left_s: work.time_left().map(seconds),
    }
}

fn set_aside(slot: Slot, set_aside: &SetAside, now: Now) -> SetAsideSlot {
    SetAsideSlot {
        slot: slot.number(),
        attempts: set_aside.attempts,
        trouble: set_aside.trouble.to_owned(),
        why: set_aside.why.clone(),
        delay_s: set_aside.next_try.map(|_| seconds(set_aside.delay)),
        next_try_in_s: set_aside.next_try.map(|then| seconds(now.until(then))),
    }
}

fn certificate(file: &CertificateFile, now: Now) -> CertificateDocument {
    CertificateDocument {
        certificate: file.role.name().to_owned(),
        file: file.path.display().to_string(),
        expires_at: file.expires.as_ref().ok().copied().and_then(rfc3339),
        error: file.fault(now.wall),
    }
}

fn lease(tenure: &Tenure, now: Now) -> Option<LeaseDocument> {
    let none = LeaseDocument { ours: false, remaining_s: None, holder: None, host: None, error: None };
    match tenure {
        Tenure::NotNeeded => None,
        Tenure::Unknown { why } => Some(LeaseDocument { error: Some(why.clone()), ..none }),
        Tenure::Elsewhere { holder, host, until } => Some(LeaseDocument {
            remaining_s: Some(seconds(now.until(*until))),
            holder: Some(holder.clone()),
            host: Some(host.clone()),
            ..none
        }),
        Tenure::Ours(ours) => Some(LeaseDocument {
            ours: true,
            remaining_s: tenure.remaining(now.instant).map(seconds),
            error: Some(ours.trouble.clone()).filter(|trouble| !trouble.is_empty()),
            ..none
        }),
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Act => "act",
        Mode::Observe => "observe",
    }
}
