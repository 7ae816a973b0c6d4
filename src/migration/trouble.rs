//! Why slots do not come forward, by what a human or the supervisor does about it.

use std::time::Duration;

use thiserror::Error;

use super::Blocked;
use crate::cluster::{NodeId, Slot};

/// Why slots do not come forward.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// A node refused a mark.
    #[error("{node} refused slot {slot}: {text}")]
    Refused {
        /// The node.
        node: NodeId,
        /// The first slot that it refused.
        slot: Slot,
        /// Its words.
        text: String,
    },
    /// A Valkey primary waits for replicas that do not follow.
    #[error("{node} cannot replicate the slot's state: not enough good replicas")]
    NoReplicas {
        /// The node.
        node: NodeId,
    },
    /// An end is not a primary (any more).
    #[error("{node} is not a primary any more")]
    NotPrimary {
        /// The node.
        node: NodeId,
    },
    /// Neither end owns the slot.
    #[error("slot {slot} is owned by neither end of the move")]
    OwnerChanged {
        /// The slot.
        slot: Slot,
    },
    /// A mark that names a third node: somebody else moves this slot.
    #[error("slot {slot} has a mark at {at} that names {other}, which is not part of this move")]
    ForeignMark {
        /// The slot.
        slot: Slot,
        /// The node that holds the mark.
        at: NodeId,
        /// The node that the mark names.
        other: NodeId,
    },
    /// The target's claim might lose against the source's, and the target would then delete the keys.
    #[error("the config epoch of {node} is another node's too, or the target does not know it yet")]
    EpochUnsettled {
        /// The source.
        node: NodeId,
    },
    /// Both ends claim a slot of which the source still holds keys.
    #[error(
        "slot {slot} is claimed by both ends while the source holds {keys_at_source} keys of it; a human must decide"
    )]
    BothClaim {
        /// The slot.
        slot: Slot,
        /// Keys at the source.
        keys_at_source: u64,
    },
    /// The target holds keys of a slot that nobody has begun to move.
    #[error(
        "the target holds {keys} stray keys of slot {slot}; they would collide with the slot's own (`evenkeel repair --slots {slot}` deals with them)"
    )]
    StrayKeys {
        /// The slot.
        slot: Slot,
        /// Keys at the target.
        keys: u64,
    },
    /// Keys with different values at both ends.
    #[error("{keys} keys of slot {slot} differ between source and target; a human must decide which to keep")]
    Conflict {
        /// The slot.
        slot: Slot,
        /// How many keys.
        keys: usize,
    },
    /// A key of the slot would hold its node for too long.
    #[error(
        "slot {slot} has a key that would hold its node for about {} ms, and no more than {} ms are allowed{} (migration.big_key_block_max)",
        block.as_millis(),
        limit.as_millis(),
        until.as_ref().map_or_else(String::new, |until| format!(" outside of {until}"))
    )]
    BigKey {
        /// The slot.
        slot: Slot,
        /// How long it would take, estimated.
        block: Duration,
        /// How long it may.
        limit: Duration,
        /// The hours in which it is moved, where there are such.
        until: Option<String>,
        /// How long it is until they begin.
        begins_in: Option<Duration>,
    },
    /// The target does not take so many bytes of one key.
    #[error(
        "slot {slot} has a key of about {bytes} bytes to send, and the target takes no more than {limit} of one \
         (proto-max-bulk-len, client-query-buffer-limit)"
    )]
    PayloadTooBig {
        /// The slot.
        slot: Slot,
        /// How many bytes would be sent, estimated.
        bytes: u64,
        /// How many it takes.
        limit: u64,
    },
    /// A library of functions could not be loaded at the target, which is to have it before it takes keys.
    #[error("{node} does not take the library of functions `{library}`: {text}")]
    Functions {
        /// The target.
        node: NodeId,
        /// The library's name.
        library: String,
        /// The target's words.
        text: String,
    },
    /// Keys cannot move for the moment.
    #[error("{0}")]
    Blocked(Blocked),
    /// A node does not answer.
    #[error("no answer from {node}: {why}")]
    NoAnswer {
        /// The node.
        node: NodeId,
        /// What was seen instead.
        why: String,
    },
    /// A node was restarted or replaced in mid-move.
    #[error("{node} is another process than when the slots were opened")]
    ProcessChanged {
        /// The node.
        node: NodeId,
    },
    /// A failover has replaced an end; the slots go on between the new ends.
    #[error("an end of the move has failed over")]
    FailedOver,
    /// Asked to stop before the slots were finished.
    #[error("interrupted")]
    Interrupted,
    /// The ends answer, and yet nothing comes forward.
    #[error("no progress after looking at both ends again and again")]
    Stuck,
}

impl Trouble {
    /// The name under which logs and metrics count it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::NoReplicas { .. } => "no_replicas",
            Self::NotPrimary { .. } => "not_primary",
            Self::OwnerChanged { .. } => "owner_changed",
            Self::ForeignMark { .. } => "foreign_mark",
            Self::EpochUnsettled { .. } => "epoch_unsettled",
            Self::BothClaim { .. } => "both_claim",
            Self::StrayKeys { .. } => "stray_keys",
            Self::Conflict { .. } => "conflict",
            Self::BigKey { .. } => "big_key",
            Self::PayloadTooBig { .. } => "payload_too_big",
            Self::Functions { .. } => "functions",
            Self::Blocked(blocked) => blocked.name(),
            Self::NoAnswer { .. } => "no_answer",
            Self::ProcessChanged { .. } => "process_changed",
            Self::FailedOver => "failed_over",
            Self::Interrupted => "interrupted",
            Self::Stuck => "stuck",
        }
    }

    /// Whether a server refused what our user may not do there.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(
            self,
            Self::Refused { text, .. } | Self::Blocked(Blocked::TargetCredentials(text)) if text.starts_with("NOPERM")
        )
    }

    /// Whether it is a matter of the two nodes, and not of one slot.
    #[must_use]
    pub const fn concerns_the_pair(&self) -> bool {
        match self {
            Self::NoReplicas { .. }
            | Self::NotPrimary { .. }
            | Self::EpochUnsettled { .. }
            | Self::Functions { .. }
            | Self::Blocked(_)
            | Self::NoAnswer { .. }
            | Self::ProcessChanged { .. } => true,
            Self::Refused { .. }
            | Self::OwnerChanged { .. }
            | Self::ForeignMark { .. }
            | Self::BothClaim { .. }
            | Self::StrayKeys { .. }
            | Self::Conflict { .. }
            | Self::FailedOver
            | Self::BigKey { .. }
            | Self::PayloadTooBig { .. }
            | Self::Interrupted
            | Self::Stuck => false,
        }
    }

    /// Whether a slot that was set apart because of it may be open.
    #[must_use]
    pub const fn may_leave_open(&self) -> bool {
        match self {
            // Found before a slot is opened, and none is opened then.
            Self::StrayKeys { .. } | Self::BigKey { .. } | Self::PayloadTooBig { .. } | Self::Functions { .. } => false,
            Self::Refused { .. }
            | Self::NoReplicas { .. }
            | Self::NotPrimary { .. }
            | Self::OwnerChanged { .. }
            | Self::ForeignMark { .. }
            | Self::EpochUnsettled { .. }
            | Self::BothClaim { .. }
            | Self::Conflict { .. }
            | Self::Blocked(_)
            | Self::NoAnswer { .. }
            | Self::ProcessChanged { .. }
            | Self::FailedOver
            | Self::Interrupted
            | Self::Stuck => true,
        }
    }

    /// Every name that [`Trouble::name`] can give.
    pub const NAMES: [&'static str; 23] = [
        "refused",
        "no_replicas",
        "not_primary",
        "owner_changed",
        "foreign_mark",
        "epoch_unsettled",
        "both_claim",
        "stray_keys",
        "conflict",
        "big_key",
        "payload_too_big",
        "functions",
        "target_full",
        "target_credentials",
        "target_not_ready",
        "incompatible",
        "source_not_ready",
        "unknown",
        "no_answer",
        "process_changed",
        "failed_over",
        "interrupted",
        "stuck",
    ];
}
