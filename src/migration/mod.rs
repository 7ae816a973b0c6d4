//! How slots are carried from one primary to another, as values: what to ask the servers next, given what they said.
//!
//! Nothing here waits, reads a clock or talks to a server; [`Migration`] is driven by a worker that does. Recovery is
//! the same machine: it begins by reading both ends and goes on from wherever it finds them.

mod big;
mod facts;
mod machine;
mod recovery;
mod reply;
mod step;
mod transfer;
mod trouble;

pub use big::{KeyKind, KeySize, least_bytes};
pub use facts::{EndFacts, Ends, ForeignMark, Marked, Standing};
pub use machine::Migration;
pub use recovery::{Order, SlotFacts, Verdict, Voice, Witnesses, recover};
pub use reply::{Blocked, MigrateReply, SetSlotReply};
pub use step::{Ending, Progress, Purpose, Reply, Step, UnexpectedReply};
pub use transfer::{Batch, CallLimit, Comparison, HeavyKeys, Key, ListedKeys};
pub use trouble::Trouble;

use std::collections::BTreeSet;
use std::fmt;

use crate::cluster::NodeId;

/// The two primaries of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The primary that owns the slots before the move.
    pub source: NodeId,
    /// The primary that is to own them.
    pub target: NodeId,
}

/// Nodes that the ends of a pair have taken over from by a failover. A mark that names one of them is out of date: it is
/// set anew, and never taken for somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predecessors {
    /// Of the source.
    pub source: BTreeSet<NodeId>,
    /// Of the target.
    pub target: BTreeSet<NodeId>,
}

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The primary that gives.
    Source,
    /// The primary that takes.
    Target,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

impl Pair {
    /// The node at this end.
    #[must_use]
    pub const fn node(&self, end: End) -> NodeId {
        match end {
            End::Source => self.source,
            End::Target => self.target,
        }
    }
}

/// What `CLUSTER SETSLOT` makes of a slot at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `IMPORTING` from the pair's source.
    Importing,
    /// `MIGRATING` to the pair's target.
    Migrating,
    /// `NODE`: the pair's target owns it.
    Assigned,
    /// `STABLE`: no mark.
    Stable,
    /// `NODE`: the pair's source owns it. Said to a target that imports it from a node which has been replaced.
    ///
    /// Redis does not let an importing node learn of a new owner by itself: it goes on to name the dead one, and calls
    /// the whole cluster down (measured on Redis 6.2 to 8.8). The importing mark and the epochs stay as they are.
    Redirected,
}
