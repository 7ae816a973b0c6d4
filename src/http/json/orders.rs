//! What a running evenkeel can be told, and what it answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Slots;
use crate::clock::rfc3339;
use crate::daemon::{Agreed, Drained, DrainedNode, Paused, Resumed, Retried, Undrained};
use crate::journal::Pause;

/// `POST /api/v1/retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// The slots, as in `866,900-910`.
    pub slots: String,
}

/// What became of the slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetryDocument {
    /// They were set aside, and are tried again as if for the first time.
    pub put_back: Slots,
    /// They were not set aside: nothing was done about them.
    pub not_set_aside: Slots,
}

/// The answer as JSON.
#[must_use]
pub fn retry_document(retried: &Retried) -> RetryDocument {
    RetryDocument { put_back: Slots::from(&retried.put_back), not_set_aside: Slots::from(&retried.not_set_aside) }
}

/// `POST /api/v1/pause`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// How long, in whole seconds; without it until told to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
}

/// A pause: open slots are finished, nothing new is begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseDocument {
    /// When it was told; `null` for a time that RFC 3339 cannot write.
    pub since: Option<String>,
    /// When it ends by itself; `null` for when it is told to go on.
    pub until: Option<String>,
}

/// What became of a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PausedDocument {
    /// The pause in force, in place of one before it.
    pub paused: PauseDocument,
    /// Whether it is on record; else it lasts until a restart at the most, because there is no `state.dir`, or it
    /// cannot be written.
    pub survives_restart: bool,
}

/// `POST /api/v1/resume`: an empty object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {}

/// What became of a pause that was to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResumedDocument {
    /// The pause that ended; `null` where there was none.
    pub was_paused: Option<PauseDocument>,
    /// Whether a restart would bring it back, because its end could not be recorded.
    pub returns_at_restart: bool,
}

/// `POST /api/v1/drain` and `POST /api/v1/undrain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The primary of the shard; of a drain that is to end, any member: node id, id prefix of 8 or more, host:port or
    /// announced hostname.
    pub node: String,
}

/// A drain that an operator told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainDocument {
    /// The primary of the shard when it was told.
    pub node: String,
    /// Where that node is; `null` where the cluster does not know it any more.
    pub address: Option<String>,
    /// When it was told; `null` for a time that RFC 3339 cannot write.
    pub since: Option<String>,
    /// Whose replica that node has become since, as servers let a node that has nothing left; else `null`.
    pub replica_of: Option<String>,
}

/// What became of a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedDocument {
    /// The drain in force.
    pub drained: DrainDocument,
    /// Whether it is on record; else it lasts until a restart at the most, because there is no `state.dir`, or it
    /// cannot be written.
    pub survives_restart: bool,
}

/// What became of a drain that was to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndrainedDocument {
    /// The drain that ended; `null` where an operator had told of none.
    pub was_drained: Option<DrainDocument>,
    /// Whether the configuration drains that shard too, and goes on to.
    pub by_configuration: bool,
    /// Whether a restart would bring it back, because its end could not be recorded.
    pub returns_at_restart: bool,
}

/// `POST /api/v1/approve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The `hash` of `/api/v1/plan`.
    pub hash: String,
}

/// A plan that is carried out, exactly as it was when it was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovedDocument {
    /// Its hash.
    pub hash: String,
    /// Its slots.
    pub slots: Slots,
}

/// The drain as JSON.
#[must_use]
pub fn drain_document(drained: &DrainedNode) -> DrainDocument {
    let DrainedNode { drain, address, replica_of } = drained;
    DrainDocument {
        node: drain.node.to_string(),
        address: address.as_ref().map(ToString::to_string),
        since: rfc3339(drain.since),
        replica_of: replica_of.map(|primary| primary.to_string()),
    }
}

/// The answer as JSON.
#[must_use]
pub fn drained_document(drained: &Drained) -> DrainedDocument {
    DrainedDocument { drained: drain_document(&drained.drained), survives_restart: drained.survives_restart }
}

/// The answer as JSON.
#[must_use]
pub fn undrained_document(undrained: &Undrained) -> UndrainedDocument {
    UndrainedDocument {
        was_drained: undrained.drained.as_ref().map(drain_document),
        by_configuration: undrained.by_configuration,
        returns_at_restart: undrained.returns_at_restart,
    }
}

/// The answer as JSON.
#[must_use]
pub fn approved_document(agreed: &Agreed) -> ApprovedDocument {
    ApprovedDocument { hash: agreed.hash.clone(), slots: Slots::from(&agreed.slots) }
}

/// The pause as JSON.
#[must_use]
pub fn pause_document(pause: Pause) -> PauseDocument {
    PauseDocument { since: rfc3339(pause.since), until: pause.until.and_then(rfc3339) }
}

/// The answer as JSON.
#[must_use]
pub fn paused_document(paused: &Paused) -> PausedDocument {
    PausedDocument { paused: pause_document(paused.pause), survives_restart: paused.survives_restart }
}

/// The answer as JSON.
#[must_use]
pub fn resumed_document(resumed: &Resumed) -> ResumedDocument {
    ResumedDocument { was_paused: resumed.pause.map(pause_document), returns_at_restart: resumed.returns_at_restart }
}
