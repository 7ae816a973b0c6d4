//! The JSON documents: a contract with scripts, dashboards and the page, apart from the types of the core.
//!
//! Fields are only ever added. Nodes are their ids, slots are text such as `0-99,866` with their number beside it,
//! durations are seconds and end in `_s`, sizes end in `_bytes`, times are RFC 3339 in UTC, what is not known is
//! `null`. The command line's `--json` prints the same documents.

mod history;
mod orders;
mod plan;
mod status;
#[cfg(test)]
mod tests;
mod topology;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cluster::SlotSet;
use crate::daemon::Reason;

pub use history::{EndedMove, HistoryDocument, history_document};
pub use orders::{
    ApproveRequest, ApprovedDocument, DrainDocument, DrainRequest, DrainedDocument, PauseDocument, PauseRequest,
    PausedDocument, ResumeRequest, ResumedDocument, RetryDocument, RetryRequest, UndrainedDocument, approved_document,
    drain_document, drained_document, pause_document, paused_document, resumed_document, retry_document,
    undrained_document,
};
pub use plan::{MoveDocument, PlanDocument, PlanNode, PlanThreshold, PlanVerdict, plan_document};
pub use status::{
    CertificateDocument, ConfigDocument, LeaseDocument, LookDocument, NodeLatency, PaceDocument, RunningMove,
    SetAsideSlot, StatusDocument, WorkDocument, status_document,
};
pub use topology::{
    OpenSlotDocument, ServerDocument, ShardDocument, SlotMark, TopologyDocument, TopologyNode, topology_document,
};

/// A set of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slots {
    /// As the fewest ranges, in ascending order: `0-99,866`; empty for none.
    pub ranges: String,
    /// How many slots.
    pub count: usize,
}

impl From<&SlotSet> for Slots {
    fn from(slots: &SlotSet) -> Self {
        Self { ranges: slots.to_string(), count: slots.len() }
    }
}

/// Something that has a name for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Named {
    /// Stable, in `snake_case`; the same in log, metrics and command line.
    pub name: String,
    /// May change from version to version.
    pub text: String,
}

/// Why nothing (more) is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonDocument {
    /// Stable, in `snake_case`; the same in log, metrics and command line.
    pub name: String,
    /// May change from version to version.
    pub text: String,
    /// Whether waiting alone can make it go away within seconds, as a cluster that settles does. A pause with an end, and
    /// hours, are none of these.
    pub passes_by_itself: bool,
}

/// The reason as JSON.
#[must_use]
pub fn reason_document(reason: &Reason) -> ReasonDocument {
    ReasonDocument {
        name: reason.name().to_owned(),
        text: reason.to_string(),
        passes_by_itself: reason.passes_by_itself(),
    }
}

/// Why there is no other document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDocument {
    /// A sentence for people.
    pub error: String,
    /// The daemon's reasons, where they explain it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ReasonDocument>,
}

/// To the microsecond: beyond that, digits would tell nothing but how floating point rounds.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}
