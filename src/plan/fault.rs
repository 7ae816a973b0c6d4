//! Why the targets cannot be planned for.

use thiserror::Error;

use super::NodeName;
use crate::cluster::{NodeId, SlotSet};

/// A fault in the targets, seen against the cluster as it is. Any one of them means that no slot moves.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TargetFault {
    /// The entry names no node of the cluster.
    #[error(
        "target `{node}` matches no node of the cluster; one is named by its id, 8 digits or more of it, host:port, or the hostname that it announces"
    )]
    TargetUnmatched {
        /// The entry.
        node: NodeName,
    },
    /// The entry names nodes of more than one shard: a prefix that is too short, or a hostname that several announce.
    #[error("target `{node}` is ambiguous: it matches {}", list(.candidates))]
    TargetAmbiguous {
        /// The entry.
        node: NodeName,
        /// The nodes that it matches, in ascending order.
        candidates: Vec<NodeId>,
    },
    /// The entries contradict one another.
    #[error(transparent)]
    TargetConflict(#[from] Conflict),
    /// The entries agree, but no layout can satisfy them.
    #[error(transparent)]
    TargetsInfeasible(#[from] Infeasible),
}

impl TargetFault {
    /// The name of the reason, the same in log, metrics, API, page and command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TargetUnmatched { .. } => "target_unmatched",
            Self::TargetAmbiguous { .. } => "target_ambiguous",
            Self::TargetConflict(_) => "target_conflict",
            Self::TargetsInfeasible(_) => "targets_infeasible",
        }
    }

    /// Every name that [`TargetFault::name`] can give.
    pub const NAMES: [&'static str; 4] =
        ["target_unmatched", "target_ambiguous", "target_conflict", "targets_infeasible"];
}

/// How entries contradict one another.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Conflict {
    /// Two entries name one shard and ask different things of it.
    #[error("targets `{first}` and `{second}` name the same shard (primary {primary}) but differ")]
    EntriesDiffer {
        /// The entry that comes first.
        first: NodeName,
        /// The entry that differs from it.
        second: NodeName,
        /// The primary of the shard.
        primary: NodeId,
    },
    /// Two shards want the same slots.
    #[error("slots {slots} are wanted by both `{first}` and `{second}`")]
    SlotsWantedTwice {
        /// One entry.
        first: NodeName,
        /// The other.
        second: NodeName,
        /// The slots that both name.
        slots: SlotSet,
    },
    /// The slots are at a shard that is to be left alone.
    #[error("slots {slots} are wanted by `{node}` but are at `{ignored}`, which is to be ignored")]
    SlotsAtIgnored {
        /// The entry that wants the slots.
        node: NodeName,
        /// The entry of the shard that has them.
        ignored: NodeName,
        /// The slots.
        slots: SlotSet,
    },
    /// An ignored shard wants slots that it does not have: ignored means that it takes nothing.
    #[error("`{node}` is to be ignored but wants slots {slots}, which it does not have")]
    IgnoredWants {
        /// The entry.
        node: NodeName,
        /// The slots.
        slots: SlotSet,
    },
    /// One entry asks both for `drain` and for `ignore`.
    #[error("`{node}` is both to be drained and to be ignored")]
    DrainedAndIgnored {
        /// The entry.
        node: NodeName,
    },
}

/// Why no layout can satisfy the entries. All numbers are slots.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Infeasible {
    /// A weight is no number from 0 to [`super::Policy::MAX_WEIGHT`]; the node is `None` for the default weight.
    #[error("the weight {weight}{} is not a number from 0 to 1000000", of(.node.as_ref()))]
    Weight {
        /// The entry.
        node: Option<NodeName>,
        /// What it gives.
        weight: f64,
    },
    /// A drained shard is to hold something.
    #[error("`{node}` is to be drained, but slots {slots} belong to it")]
    DrainedWants {
        /// The entry.
        node: NodeName,
        /// Its pinned slots.
        slots: SlotSet,
    },
    /// A drained shard has a minimum.
    #[error("`{node}` is to be drained, but has a minimum of {min}")]
    DrainedMinimum {
        /// The entry.
        node: NodeName,
        /// Its minimum.
        min: u32,
    },
    /// A shard's minimum is above its maximum.
    #[error("`{node}` is to hold at least {min} slots, but at most {max}")]
    MinimumOverMaximum {
        /// The entry.
        node: NodeName,
        /// Its minimum.
        min: u32,
        /// Its maximum.
        max: u32,
    },
    /// More slots are pinned to a shard than it may hold.
    #[error("{pinned} slots belong to `{node}`, which is to hold at most {max}")]
    PinnedOverMaximum {
        /// The entry.
        node: NodeName,
        /// How many slots are pinned to it.
        pinned: u32,
        /// Its maximum.
        max: u32,
    },
    /// What the shards hold at least (minimums, pinned and ignored slots) is more than there is.
    #[error("the shards are to hold at least {needed} slots together, but there are {available}")]
    Minimums {
        /// What they need.
        needed: u64,
        /// What there is.
        available: u32,
    },
    /// What the shards may hold at most is less than there is.
    #[error("the shards are to hold at most {allowed} slots together, but there are {available}")]
    Maximums {
        /// What they may hold.
        allowed: u64,
        /// What there is.
        available: u32,
    },
    /// No shard is left that could take the slots.
    #[error("every shard is to be drained or ignored: nobody is left to take {slots} slots")]
    EverythingDrained {
        /// The slots without a home.
        slots: u32,
    },
    /// Every shard that is left has weight 0.
    #[error("every weight is 0: nobody is left to take {slots} slots")]
    AllWeightsZero {
        /// The slots without a home.
        slots: u32,
    },
}

fn list(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

fn of(node: Option<&NodeName>) -> String {
    node.map_or_else(|| " (default_weight)".to_owned(), |node| format!(" of `{node}`"))
}
