//! What the planner says: the moves, what they lead to, and why.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use crate::cluster::{Address, NodeId, SlotSet};

/// Which slots go where, what the cluster looks like afterwards, and why it is so.
///
/// Whoever carries out `moves`, all of them in any order, arrives at `layout`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The moves, by reason, then source, then target: one for each such triple. No slot is in two of them.
    pub moves: Vec<Move>,
    /// Who holds what once the moves are done: one entry for each shard, in the order of [`Plan::lines`].
    pub layout: Layout,
    /// One line for each shard, ordered by shard key (see [`super::ShardInput::key`]).
    pub lines: Vec<Line>,
    /// Why there are moves, or why there are none.
    pub verdict: Verdict,
    /// Slots that nobody owns. They are not planned for: giving them an owner is a repair, not a rebalance.
    pub unassigned: SlotSet,
    /// Slots that are carried already, by earlier plans or by no plan: the planner has them where they are going, and they
    /// are in none of `moves`. Whoever watches moves fills it in; the planner itself knows of none.
    pub under_way: SlotSet,
    /// How many runs of slots with the same owner the cluster has now.
    pub ranges_now: u32,
    /// How many it has once the moves are done.
    pub ranges_after: u32,
}

impl Plan {
    /// What stands for its moves: twelve hexadecimal digits of the SHA-256 of sources, targets and slots. Plans with the same
    /// moves have the same, whoever made them and when.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut digest = Sha256::new();
        for Move { source, target, slots, why: _ } in &self.moves {
            digest.update(format!("{source} {target} {slots}\n"));
        }
        digest.finalize().iter().take(6).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// How many slots its moves carry.
    #[must_use]
    pub fn slots_moved(&self) -> u32 {
        self.moves.iter().map(|m| super::count(&m.slots)).sum()
    }

    /// How many slots have not arrived where they are going: those of its moves, and those under way.
    #[must_use]
    pub fn slots_to_move(&self) -> u32 {
        self.slots_moved() + super::count(&self.under_way)
    }
}

/// Slots that go from one primary to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The primary that owns the slots now.
    pub source: NodeId,
    /// The primary that is to own them.
    pub target: NodeId,
    /// The slots: at least one.
    pub slots: SlotSet,
    /// Why they move.
    pub why: Why,
}

/// Why slots move. The order is that of the moves in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The source is to hold nothing.
    Drain,
    /// A `slots` entry wants them at the target.
    Pinned,
    /// The source holds more than its target, the target less than its own.
    Level,
    /// Somebody named these slots: no target was asked.
    Asked,
}

impl Why {
    /// Its name in every report, record and document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Pinned => "pinned",
            Self::Level => "level",
            Self::Asked => "asked",
        }
    }
}

/// Who holds what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// One entry for each shard.
    pub shards: Vec<ShardLayout>,
}

/// What one shard holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// The primary.
    pub primary: NodeId,
    /// How many slots it should hold by weight, bounds and pinned slots. More or fewer than `slots` has only when
    /// the cluster is close enough to be left alone.
    pub target: u32,
    /// The slots that it holds.
    pub slots: SlotSet,
}

/// One shard in numbers of slots: now, as it should be, and after the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The primary.
    pub primary: NodeId,
    /// The primary's address, where the input gave one.
    pub address: Option<Address>,
    /// Slots that it owns now. To the planner what is under way has arrived.
    pub now: u32,
    /// Slots that it should own.
    pub target: u32,
    /// Slots that it owns once the moves are done, and what is under way has arrived.
    pub after: u32,
    /// How many of its target are pinned to it.
    pub pinned: u32,
    /// What is asked of the shard.
    pub part: Part,
    /// The plan takes the shard's last slot. What then becomes of the node depends on the server's settings.
    pub emptied: bool,
}

impl Line {
    /// Target less now: what the shard is to gain (above 0) or lose (below 0).
    #[must_use]
    pub fn difference(&self) -> i64 {
        i64::from(self.target) - i64::from(self.now)
    }
}

/// What part a shard has in the sharing out of slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// It gets slots by this weight.
    Shares {
        /// The weight that counted.
        weight: f64,
    },
    /// It is to hold nothing.
    Drained,
    /// It keeps what it has.
    Ignored,
    /// Nobody asked: the slots to move were named.
    Unasked,
}

/// Why there are moves, or none.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every shard is close enough to its target.
    Balanced {
        /// The shard that is furthest off in percent, if any is off at all.
        worst: Option<Deviation>,
        /// How far off would have been too far.
        limit: Limit,
    },
    /// Something is to be put right, and with it everything is levelled exactly.
    Moves {
        /// What set the plan off: never empty. Of shards that are merely too
        /// far off only the worst is listed.
        triggers: Vec<Trigger>,
    },
    /// The slots that were asked for are all where they should go, or have no owner.
    AlreadyThere,
    /// The slots that were asked for are moved.
    Asked,
}

/// How far off a shard may be: it takes both to start a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// More than this share of the target, in percent …
    pub percent: f64,
    /// … and at least this many slots.
    pub slots: u32,
}

/// What sets a plan off. All but the last do so whatever the thresholds.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// A drained shard still holds slots.
    Drained {
        /// Its primary.
        node: NodeId,
        /// How many slots it holds.
        now: u32,
    },
    /// A shard has a target but holds nothing.
    Empty {
        /// Its primary.
        node: NodeId,
        /// How many slots it should hold.
        target: u32,
    },
    /// Pinned slots are elsewhere.
    Misplaced {
        /// The primary that they belong to.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// A shard holds fewer than its minimum or more than its maximum.
    OutOfBounds {
        /// Its primary.
        node: NodeId,
        /// How many slots it holds.
        now: u32,
        /// The bound that it breaks.
        bound: u32,
    },
    /// A shard is further off its target than the limit.
    TooFar {
        /// The worst one.
        worst: Deviation,
        /// The limit.
        limit: Limit,
    },
}

/// How far a shard is off its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// Its primary.
    pub node: NodeId,
    /// Slots that it owns.
    pub now: u32,
    /// Slots that it should own.
    pub target: u32,
}

impl Deviation {
    /// Slots too many or too few.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.now.abs_diff(self.target)
    }

    /// The same in percent of the target; infinite for slots at a shard whose target is 0.
    #[must_use]
    pub fn percent(&self) -> f64 {
        match (self.slots(), self.target) {
            (0, _) => 0.0,
            (_, 0) => f64::INFINITY,
            (off, target) => f64::from(off) * 100.0 / f64::from(target),
        }
    }

    /// Whether this is more than the limit allows.
    #[must_use]
    pub fn exceeds(&self, limit: Limit) -> bool {
        self.slots() > 0
            && self.slots() >= limit.slots
            && f64::from(self.slots()) * 100.0 > limit.percent * f64::from(self.target)
    }

    /// Orders two shards that are both off by their share of the target, exactly; the larger is further off.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        // off/target against off/target without dividing. So a target of 0 is beyond every other target.
        let mine = u64::from(self.slots()) * u64::from(other.target);
        let theirs = u64::from(other.slots()) * u64::from(self.target);
        mine.cmp(&theirs).then(self.slots().cmp(&other.slots()))
    }
}
