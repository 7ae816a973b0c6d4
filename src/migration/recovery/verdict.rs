//! What is to be done about one slot, as a value.

use std::collections::BTreeSet;
use std::fmt;

use super::super::Pair;
use crate::cluster::NodeId;

/// What is to be done about one slot. Somebody else does it.
///
/// `row` is the row of the repair table by which it was decided, `why` says so in plain words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong with it.
    Sound,
    /// Marks and owners are put right, in this order, each only after the one before was confirmed. No key moves.
    Settle {
        /// The row.
        row: u8,
        /// What to say to whom.
        orders: Vec<Order>,
        /// The reason.
        why: &'static str,
    },
    /// It is carried from the pair's source to its target by [`super::super::Migration`], which finds it open.
    GoForward {
        /// The row.
        row: u8,
        /// What to say to whom before.
        first: Vec<Order>,
        /// From whom to whom.
        pair: Pair,
        /// The reason.
        why: &'static str,
    },
    /// Keys that lie elsewhere are brought to the owner; none is overwritten.
    Gather {
        /// The row.
        row: u8,
        /// What to say to whom before.
        first: Vec<Order>,
        /// The owner.
        owner: NodeId,
        /// Who holds the keys.
        holders: Vec<NodeId>,
        /// Nobody knows where these keys come from: only for a slot that a human named.
        ask_first: bool,
        /// The reason.
        why: &'static str,
    },
    /// Nothing now: somebody or something else is at work on it.
    Wait {
        /// The row.
        row: u8,
        /// The reason.
        why: &'static str,
    },
    /// Only a human can decide.
    Human {
        /// The row.
        row: u8,
        /// The reason.
        why: &'static str,
    },
    /// Nobody can decide: some primaries do not answer, and what they hold is not known.
    CannotTell {
        /// Who does not answer.
        silent: Vec<NodeId>,
    },
}

/// One thing to say to one node about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// `CLUSTER SETSLOT STABLE`: forget your marks.
    Stable {
        /// Whom to say it.
        at: NodeId,
    },
    /// `CLUSTER SETSLOT NODE`: it belongs to this node.
    Node {
        /// Whom to say it.
        at: NodeId,
        /// The owner.
        owner: NodeId,
    },
    /// `CLUSTER SETSLOT IMPORTING`.
    Importing {
        /// Whom to say it.
        at: NodeId,
        /// From whom it comes.
        from: NodeId,
    },
    /// `CLUSTER SETSLOT MIGRATING`.
    Migrating {
        /// Whom to say it.
        at: NodeId,
        /// To whom it goes.
        to: NodeId,
    },
    /// `CLUSTER ADDSLOTS`: it is yours, nobody else has it.
    AddSlot {
        /// Whom to say it.
        at: NodeId,
    },
}

impl Verdict {
    /// The row of the repair table; `None` where nothing was decided.
    #[must_use]
    pub const fn row(&self) -> Option<u8> {
        match self {
            Self::Settle { row, .. }
            | Self::GoForward { row, .. }
            | Self::Gather { row, .. }
            | Self::Wait { row, .. }
            | Self::Human { row, .. } => Some(*row),
            Self::Sound | Self::CannotTell { .. } => None,
        }
    }

    /// The name of the kind, for machines.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Settle { .. } => "settle",
            Self::GoForward { .. } => "go_forward",
            Self::Gather { .. } => "gather",
            Self::Wait { .. } => "wait",
            Self::Human { .. } => "human",
            Self::CannotTell { .. } => "cannot_tell",
        }
    }

    /// The reason, in plain words.
    #[must_use]
    pub const fn why(&self) -> &'static str {
        match self {
            Self::Settle { why, .. }
            | Self::GoForward { why, .. }
            | Self::Gather { why, .. }
            | Self::Wait { why, .. }
            | Self::Human { why, .. } => why,
            Self::Sound => "nothing is wrong",
            Self::CannotTell { .. } => "a primary that does not answer may hold keys of it",
        }
    }

    /// Whether the servers may come to it by themselves within seconds: then it counts only once it has lasted.
    #[must_use]
    pub fn may_heal(&self) -> bool {
        match self {
            // Gossip still on its way, or a server that takes back what nobody claims (Redis 7.0 and newer).
            Self::Settle { row, .. } | Self::Human { row, .. } => matches!(row, 9..=11 | 15..=19),
            Self::Gather { row, .. } => *row == 17,
            Self::Sound | Self::GoForward { .. } | Self::Wait { .. } | Self::CannotTell { .. } => false,
        }
    }

    /// Whether it makes some node the owner: then no other slot of the nodes concerned may get a new owner meanwhile.
    #[must_use]
    pub fn assigns(&self) -> bool {
        matches!(self, Self::GoForward { .. }) || self.orders().iter().any(Order::assigns)
    }

    /// The nodes that it has to do with.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        let mut nodes: BTreeSet<NodeId> = self.orders().iter().flat_map(Order::nodes).collect();
        match self {
            Self::GoForward { pair, .. } => nodes.extend([pair.source, pair.target]),
            Self::Gather { owner, holders, .. } => nodes.extend(holders.iter().chain([owner])),
            Self::Sound | Self::Settle { .. } | Self::Wait { .. } | Self::Human { .. } | Self::CannotTell { .. } => {}
        }
        nodes
    }

    /// What to say to whom, before anything else.
    #[must_use]
    pub fn orders(&self) -> &[Order] {
        match self {
            Self::Settle { orders, .. } => orders,
            Self::GoForward { first, .. } | Self::Gather { first, .. } => first,
            Self::Sound | Self::Wait { .. } | Self::Human { .. } | Self::CannotTell { .. } => &[],
        }
    }
}

impl Order {
    /// Whom it is said to.
    #[must_use]
    pub const fn at(&self) -> NodeId {
        match self {
            Self::Stable { at }
            | Self::Node { at, .. }
            | Self::Importing { at, .. }
            | Self::Migrating { at, .. }
            | Self::AddSlot { at } => *at,
        }
    }

    /// Whether it makes whom it is said to the owner.
    #[must_use]
    pub fn assigns(&self) -> bool {
        match self {
            Self::Node { .. } => self.claims(),
            Self::AddSlot { .. } => true,
            Self::Stable { .. } | Self::Importing { .. } | Self::Migrating { .. } => false,
        }
    }

    /// Whether it has a node take a slot that may be another's: with a config epoch above all that the node has heard of.
    #[must_use]
    pub fn claims(&self) -> bool {
        matches!(self, Self::Node { at, owner } if at == owner)
    }

    /// Whom it is said to, and whom it names.
    fn nodes(&self) -> [NodeId; 2] {
        match *self {
            Self::Stable { at } | Self::AddSlot { at } => [at, at],
            Self::Node { at, owner: other }
            | Self::Importing { at, from: other }
            | Self::Migrating { at, to: other } => [at, other],
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at().short();
        match self {
            Self::Stable { .. } => write!(f, "STABLE at {at}"),
            Self::Node { owner, .. } => write!(f, "NODE {} at {at}", owner.short()),
            Self::Importing { from, .. } => write!(f, "IMPORTING {} at {at}", from.short()),
            Self::Migrating { to, .. } => write!(f, "MIGRATING {} at {at}", to.short()),
            Self::AddSlot { .. } => write!(f, "ADDSLOTS at {at}"),
        }
    }
}

impl fmt::Display for Verdict {
    /// What would be done, in one line, without the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let orders = self.orders();
        for (at, order) in orders.iter().enumerate() {
            write!(f, "{}{order}", if at == 0 { "" } else { ", then " })?;
        }
        let then = if orders.is_empty() { "" } else { ", then " };
        match self {
            Self::Settle { .. } => Ok(()),
            Self::GoForward { pair, .. } => {
                write!(f, "{then}carry it from {} to {}", pair.source.short(), pair.target.short())
            }
            Self::Gather { owner, holders, .. } => {
                let holders: Vec<String> = holders.iter().map(NodeId::short).collect();
                write!(f, "{then}bring the keys at {} to {}", holders.join(" and "), owner.short())
            }
            Self::Sound => f.write_str("nothing"),
            Self::Wait { .. } => f.write_str("wait"),
            Self::Human { .. } => f.write_str("a human must decide"),
            Self::CannotTell { silent } => {
                let silent: Vec<String> = silent.iter().map(NodeId::short).collect();
                write!(f, "nothing while {} does not answer", silent.join(" and "))
            }
        }
    }
}
