//! What can be wrong with the picture of a cluster: what forbids new moves ([`Unclear`]), and what is only worth
//! telling ([`Finding`]).

use std::fmt;

use super::{Address, Failing, Marker, NodeId, OpenSlot, ServerJob, SlotSet};

/// Why the picture of the cluster cannot be trusted for new moves.
///
/// The picture is judged apart from our own moves. It says nothing about what is open already: that is finished.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unclear {
    /// No node that answered says that it is a primary.
    NoPrimaryAnswered {
        /// What went wrong with the first of those that did not answer, for people; `None` when none was asked in vain.
        why: Option<String>,
    },
    /// The nodes that answered are of two clusters: no chain of known nodes joins them. Nothing else is judged then.
    TwoClusters {
        /// Where a node of the one was reached.
        a: Address,
        /// Where a node of the other was reached.
        b: Address,
    },
    /// A primary that owns slots did not answer, or was not asked.
    NodeSilent {
        /// The primary.
        node: NodeId,
        /// Where it should be.
        address: Option<Address>,
        /// What went wrong, for people.
        why: String,
    },
    /// A primary that owns slots says that the cluster is down (`cluster_state` is not ok).
    ClusterDown {
        /// The primary.
        node: NodeId,
    },
    /// A primary that owns slots is reading its data set and serves nothing.
    NodeLoading {
        /// The primary.
        node: NodeId,
    },
    /// A primary that owns slots is thought to have failed.
    NodeFailing {
        /// The primary.
        node: NodeId,
        /// The worst that anyone thinks.
        failing: Failing,
        /// The primaries that think so.
        by: Vec<NodeId>,
    },
    /// A node that some primary gives slots to is a primary by one account and none by another: a failover goes on.
    RoleUnsure {
        /// The node.
        node: NodeId,
    },
    /// Every primary says that these slots belong to nobody.
    SlotsUncovered {
        /// The slots.
        slots: SlotSet,
    },
    /// All others give these slots to a node that does not claim them: clients are sent in a circle.
    OwnerDoesNotClaim {
        /// The slots.
        slots: SlotSet,
        /// The node that should claim them.
        owner: NodeId,
    },
    /// The primaries do not agree about who owns these slots.
    ViewsDisagree {
        /// The slots.
        slots: SlotSet,
        /// The primaries that name another owner than the likeliest one.
        nodes: Vec<NodeId>,
    },
    /// The primaries have not all heard of the same epoch: something changed that is still spreading.
    EpochsDiffer {
        /// The lowest current epoch.
        lowest: u64,
        /// The highest current epoch.
        highest: u64,
    },
}

impl Unclear {
    /// The name of the reason, the same in log, metrics, API, page and command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoPrimaryAnswered { .. } => "no_primary_answered",
            Self::TwoClusters { .. } => "two_clusters",
            Self::NodeSilent { .. } => "node_silent",
            Self::ClusterDown { .. } => "cluster_down",
            Self::NodeLoading { .. } => "node_loading",
            Self::NodeFailing { .. } => "node_failing",
            Self::RoleUnsure { .. } => "role_unsure",
            Self::SlotsUncovered { .. } => "slots_uncovered",
            Self::OwnerDoesNotClaim { .. } => "owner_does_not_claim",
            Self::ViewsDisagree { .. } => "views_disagree",
            Self::EpochsDiffer { .. } => "epochs_differ",
        }
    }

    /// Whether something may be so that nobody has seen: a primary says nothing, or may be replaced at this moment. The
    /// others are seen as they are, and are findings to whoever only looks or repairs.
    #[must_use]
    pub const fn hides_something(&self) -> bool {
        match self {
            Self::NoPrimaryAnswered { .. }
            | Self::TwoClusters { .. }
            | Self::NodeSilent { .. }
            | Self::NodeLoading { .. }
            | Self::NodeFailing { .. }
            | Self::RoleUnsure { .. } => true,
            Self::ClusterDown { .. }
            | Self::SlotsUncovered { .. }
            | Self::OwnerDoesNotClaim { .. }
            | Self::ViewsDisagree { .. }
            | Self::EpochsDiffer { .. } => false,
        }
    }

    /// Every name that [`Unclear::name`] gives.
    pub const NAMES: [&'static str; 11] = [
        "no_primary_answered",
        "two_clusters",
        "node_silent",
        "cluster_down",
        "node_loading",
        "node_failing",
        "role_unsure",
        "slots_uncovered",
        "owner_does_not_claim",
        "views_disagree",
        "epochs_differ",
    ];
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrimaryAnswered { why: None } => f.write_str("no primary answered"),
            Self::NoPrimaryAnswered { why: Some(why) } => write!(f, "no primary answered: {why}"),
            Self::TwoClusters { a, b } => {
                write!(f, "{a} and {b} are of two clusters: no node that the one knows is known to the other")
            }
            Self::NodeSilent { node, address, why } => {
                write!(f, "primary {}{} owns slots and did not answer: {why}", node.short(), At(address.as_ref()))
            }
            Self::ClusterDown { node } => write!(f, "primary {} says that the cluster is down", node.short()),
            Self::NodeLoading { node } => write!(f, "primary {} is loading its data set", node.short()),
            Self::NodeFailing { node, failing, by } => {
                write!(f, "primary {} is {} by {}", node.short(), failing_word(*failing), Ids(by))
            }
            Self::RoleUnsure { node } => {
                write!(f, "node {} owns slots, and it is unsure whether it is a primary", node.short())
            }
            Self::SlotsUncovered { slots } => write!(f, "nobody owns {}", Slots(slots)),
            Self::OwnerDoesNotClaim { slots, owner } => {
                let owner = owner.short();
                write!(f, "all other primaries give {} to {owner}, and {owner} makes no claim", Slots(slots))
            }
            Self::ViewsDisagree { slots, nodes } => {
                write!(f, "the primaries disagree about who owns {} (dissenting: {})", Slots(slots), Ids(nodes))
            }
            Self::EpochsDiffer { lowest, highest } => {
                write!(f, "the primaries are at different epochs, from {lowest} to {highest}")
            }
        }
    }
}

/// What `evenkeel check` reports beyond [`Unclear`]. Never stops anything by itself.
///
/// A finding about one shard (a stale replica, say) may well stop the moves of that shard; that is for whoever admits
/// the moves to decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A slot is open, and not by a move of ours.
    OpenSlot(OpenSlot),
    /// A primary without slots did not answer. It is no place to move slots to.
    EmptyPrimarySilent {
        /// The primary.
        node: NodeId,
        /// Where it should be.
        address: Option<Address>,
        /// What went wrong, for people.
        why: String,
    },
    /// A primary without slots is loading, or says that the cluster is down. It is no place to move slots to.
    EmptyPrimaryNotServing {
        /// The primary.
        node: NodeId,
    },
    /// A primary without slots is thought to have failed. It is no place to move slots to.
    EmptyPrimaryFailing {
        /// The primary.
        node: NodeId,
        /// The worst that anyone thinks.
        failing: Failing,
        /// The primaries that think so.
        by: Vec<NodeId>,
    },
    /// A node answered, knows no other node, and has neither slots nor keys. It is no place to move slots to.
    NodeAlone {
        /// The node.
        node: NodeId,
        /// Where it was reached.
        address: Address,
        /// Whether any primary knows it; else it is a seed of ours.
        known: bool,
    },
    /// A replica was asked and did not answer.
    ReplicaSilent {
        /// The replica.
        replica: NodeId,
        /// Where it should be.
        address: Option<Address>,
        /// What went wrong, for people.
        why: String,
    },
    /// A replica is thought to have failed.
    ReplicaFailing {
        /// The replica.
        replica: NodeId,
        /// The worst that anyone thinks.
        failing: Failing,
        /// The primaries that think so.
        by: Vec<NodeId>,
    },
    /// A replica has no connection to its primary.
    ReplicaUnlinked {
        /// The replica.
        replica: NodeId,
    },
    /// A replica sees the slots of its own shard differently from the primaries. If it were promoted now, that view
    /// would be the shard's.
    ReplicaViewStale {
        /// The replica.
        replica: NodeId,
        /// The slots on which it differs.
        slots: SlotSet,
    },
    /// A replica has a mark that its primary does not have. If it were promoted, the slot would be open.
    ReplicaMarkStale {
        /// The replica.
        replica: NodeId,
        /// The mark.
        marker: Marker,
    },
    /// The servers themselves move slots.
    ServerSideJob(ServerJob),
    /// A primary is shaking hands with a node that has not joined, or never will.
    Handshake {
        /// The primary.
        at: NodeId,
        /// Where it looks for the other node.
        with: Option<Address>,
    },
    /// Some primaries know a node and some do not: it is joining, or was not forgotten everywhere.
    UnknownNode {
        /// The node.
        id: NodeId,
        /// The primaries that know it.
        known_by: Vec<NodeId>,
        /// The primaries that do not.
        unknown_to: Vec<NodeId>,
    },
    /// A primary has no connection on the cluster bus to a node that answers us.
    LinkDown {
        /// The primary.
        at: NodeId,
        /// The node that it does not reach.
        to: NodeId,
    },
    /// A node's last background save failed: it may refuse writes.
    SaveFailed {
        /// The node.
        node: NodeId,
    },
}

impl Finding {
    /// The name of the finding, the same wherever it is shown.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::OpenSlot(_) => "open_slot",
            Self::EmptyPrimarySilent { .. } => "empty_primary_silent",
            Self::EmptyPrimaryNotServing { .. } => "empty_primary_not_serving",
            Self::EmptyPrimaryFailing { .. } => "empty_primary_failing",
            Self::NodeAlone { .. } => "node_alone",
            Self::ReplicaSilent { .. } => "replica_silent",
            Self::ReplicaFailing { .. } => "replica_failing",
            Self::ReplicaUnlinked { .. } => "replica_unlinked",
            Self::ReplicaViewStale { .. } => "replica_view_stale",
            Self::ReplicaMarkStale { .. } => "replica_mark_stale",
            Self::ServerSideJob(_) => "server_side_job",
            Self::Handshake { .. } => "handshake",
            Self::UnknownNode { .. } => "unknown_node",
            Self::LinkDown { .. } => "link_down",
            Self::SaveFailed { .. } => "save_failed",
        }
    }

    /// Every name that [`Finding::name`] gives.
    pub const NAMES: [&'static str; 15] = [
        "open_slot",
        "empty_primary_silent",
        "empty_primary_not_serving",
        "empty_primary_failing",
        "node_alone",
        "replica_silent",
        "replica_failing",
        "replica_unlinked",
        "replica_view_stale",
        "replica_mark_stale",
        "server_side_job",
        "handshake",
        "unknown_node",
        "link_down",
        "save_failed",
    ];
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenSlot(open) => open.fmt(f),
            Self::EmptyPrimarySilent { node, address, why } => {
                write!(f, "primary {}{} without slots did not answer: {why}", node.short(), At(address.as_ref()))
            }
            Self::EmptyPrimaryNotServing { node } => {
                write!(f, "primary {} without slots is loading, or says that the cluster is down", node.short())
            }
            Self::EmptyPrimaryFailing { node, failing, by } => {
                write!(f, "primary {} without slots is {} by {}", node.short(), failing_word(*failing), Ids(by))
            }
            Self::NodeAlone { node, address, known: true } => write!(
                f,
                "{address} ({node}) knows no other node: `CLUSTER MEET` at it brings it into the cluster, and \
                 `CLUSTER FORGET {node}` at every other node takes it out"
            ),
            Self::NodeAlone { node, address, known: false } => write!(
                f,
                "{address} ({}), a seed, knows no other node, and none knows it: `CLUSTER MEET` at it brings it into the \
                 cluster, else take it out of cluster.seeds",
                node.short()
            ),
            Self::ReplicaSilent { replica, address, why } => {
                write!(f, "replica {}{} did not answer: {why}", replica.short(), At(address.as_ref()))
            }
            Self::ReplicaFailing { replica, failing, by } => {
                write!(f, "replica {} is {} by {}", replica.short(), failing_word(*failing), Ids(by))
            }
            Self::ReplicaUnlinked { replica } => {
                write!(f, "replica {} has no connection to its primary", replica.short())
            }
            Self::ReplicaViewStale { replica, slots } => {
                write!(f, "replica {} sees {} of its own shard differently", replica.short(), Slots(slots))
            }
            Self::ReplicaMarkStale { replica, marker } => {
                let (slot, what) = match marker {
                    Marker::Migrating { slot, to } => (slot, format!("migrating to {}", to.short())),
                    Marker::Importing { slot, from } => (slot, format!("importing from {}", from.short())),
                };
                write!(f, "replica {} marks slot {slot} as {what}, and its primary does not", replica.short())
            }
            Self::ServerSideJob(job) => job.fmt(f),
            Self::Handshake { at, with: Some(with) } => {
                write!(f, "primary {} is shaking hands with {with}", at.short())
            }
            Self::Handshake { at, with: None } => {
                write!(f, "primary {} is shaking hands with a node without address", at.short())
            }
            Self::UnknownNode { id, known_by, unknown_to } => {
                let (id, known_by, unknown_to) = (id.short(), Ids(known_by), Ids(unknown_to));
                write!(f, "node {id} is known to {known_by} and unknown to {unknown_to}")
            }
            Self::LinkDown { at, to } => {
                write!(f, "primary {} has no cluster link to {}, which answers", at.short(), to.short())
            }
            Self::SaveFailed { node } => write!(f, "the last background save of node {} failed", node.short()),
        }
    }
}

const fn failing_word(failing: Failing) -> &'static str {
    match failing {
        Failing::No => "thought sound",
        Failing::Suspected => "suspected of failing (fail?)",
        Failing::Agreed => "marked as failed (fail)",
    }
}

/// ` at 10.0.0.1:6379`, or nothing.
struct At<'a>(Option<&'a Address>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| write!(f, " at {address}"))
    }
}

/// `slot 5`, `slots 5-9`.
pub(crate) struct Slots<'a>(pub(crate) &'a SlotSet);

impl Slots<'_> {
    /// The verb that goes with them.
    pub(crate) fn are(&self) -> &'static str {
        if self.0.len() == 1 { "is" } else { "are" }
    }
}

impl fmt::Display for Slots<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.0.len() == 1 { "slot" } else { "slots" }, self.0)
    }
}

/// The short ids with commas between them, or `nobody`.
struct Ids<'a>(&'a [NodeId]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody");
        }
        for (at, id) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { ", " }, id.short())?;
        }
        Ok(())
    }
}
