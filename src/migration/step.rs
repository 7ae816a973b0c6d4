//! What a move asks of its driver, what it is answered, and how it ends.

use thiserror::Error;

use super::{Batch, Comparison, End, Ends, Key, Mark, MigrateReply, SetSlotReply, Trouble};
use crate::cluster::{Slot, SlotSet};

/// Why the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Move slots that are untouched so far.
    Move,
    /// Finish slots that were found open: half-moved ones go forward, merely marked ones are unmarked.
    Resume,
}

/// What to ask of the servers (or of the supervisor) next. Any step may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read both ends' own lines, and then count the slots' keys where asked.
    ReadEnds {
        /// The slots to count.
        slots: SlotSet,
        /// Whether the source counts.
        count_source: bool,
        /// Whether the target counts too.
        count_target: bool,
        /// Whether the source is to show that it carries out writes. While it does not, it may be handing over to a replica, which
        /// would claim what it gives away.
        ask_for_writes: bool,
    },
    /// `CLUSTER SETSLOT` for each slot, at one end.
    SetSlots {
        /// The end that is told.
        at: End,
        /// What it is told.
        mark: Mark,
        /// The slots.
        slots: SlotSet,
    },
    /// List keys at the source.
    ListKeys {
        /// The database.
        db: u32,
        /// The slots.
        slots: Vec<Slot>,
        /// The most keys wanted of each slot.
        count: u32,
    },
    /// One `MIGRATE`.
    MoveKeys(Batch),
    /// Compare the copies of keys at both ends, byte by byte.
    CompareKeys(Batch),
    /// Delete the target's copies of what the source holds too, byte by byte the same, of slots that the source owns and only
    /// the target has marked.
    DropCopies(SlotSet),
    /// Ask the supervisor for the one finalise of the cluster, and wait for it.
    TakeFinalise,
    /// Give the finalise back: the source no longer claims the slots, or the target was never heard to claim them.
    YieldFinalise,
    /// Wait some milliseconds before the next look, for what the nodes tell each other.
    Listen,
    /// Wait a little before the next look, and show why.
    Pause(Trouble),
    /// Nothing more to do.
    End(Ending),
}

/// An answer to the step that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `ReadEnds`.
    Ends(Box<Ends>),
    /// To `SetSlots`: one reply a slot.
    Marked(Vec<(Slot, SetSlotReply)>),
    /// To `ListKeys`.
    Listed(Vec<(Slot, Vec<Key>)>),
    /// To `MoveKeys`.
    Moved(MigrateReply),
    /// To `CompareKeys`.
    Compared(Comparison),
    /// To `DropCopies`: keys that the target holds still, for they differ or the source does not hold them.
    Dropped(Vec<(Slot, u64)>),
    /// To `TakeFinalise`, `YieldFinalise`, `Listen` and `Pause`.
    Go,
    /// No answer to a call, or none that could be read: what it did is not known.
    NoAnswer {
        /// The end that did not answer.
        at: End,
        /// What was seen instead.
        why: String,
    },
    /// Another process answers at this end than the one that the move began with. Said once for each new process.
    ProcessChanged {
        /// The end.
        at: End,
    },
    /// Every primary agrees that the target owns the slots, and the source has been replaced: the lock may go.
    EveryoneNamesTarget,
}

/// How a move ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both ends confirmed every slot.
    Done,
    /// Nothing of these slots was opened, or it was closed again; the source owns them as before.
    NotStarted(Trouble),
    /// Some slots are open, with the marks that they have, or were set apart (`Migration::troubled`).
    Left(Trouble),
}

/// Counts since the machine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys of acknowledged calls.
    pub keys: u64,
    /// Slots that both ends confirmed.
    pub slots: usize,
}

/// An answer that does not fit the step that was asked: a bug of the driver.
#[derive(Debug, Error)]
#[error("the answer {reply} does not fit the step asked while {state}")]
pub struct UnexpectedReply {
    pub(super) state: String,
    pub(super) reply: String,
}
