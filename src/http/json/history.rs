//! What was moved lately.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Slots, seconds};
use crate::clock::rfc3339;
use crate::journal::Moved;

/// Moves that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryDocument {
    /// Newest first. With `state.dir` also those of earlier processes.
    pub moves: Vec<EndedMove>,
}

/// A move that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndedMove {
    /// When it ended, or was last heard of; `null` for a time that RFC 3339 cannot write.
    pub ended_at: Option<String>,
    /// How long it took.
    pub took_s: f64,
    /// The primary that gave.
    pub source: String,
    /// The primary that took.
    pub target: String,
    /// The slots that both ends confirmed.
    pub slots: Slots,
    /// Keys of acknowledged calls.
    pub keys_moved: u64,
    /// What these keys take, by the mean of all keys of the source when the move began: no server tells what it sends. `null`
    /// where that was not known, as in records of old.
    pub bytes_estimated: Option<u64>,
    /// `drain`, `pinned`, `level`, `asked`, or `resume` for open slots that were finished; `plan` in records of old.
    pub why: String,
    /// `done`, `not_started` (nothing is open, but not every slot was moved), `left` (some slots stayed open) or `killed`
    /// (evenkeel ended before the move did; slots and keys are those that were on record by then).
    pub outcome: String,
    /// Why not every slot was moved, for people; `null` where all were.
    pub trouble: Option<String>,
}

/// The newest of these moves as JSON, `limit` at most; they come oldest first.
#[must_use]
pub fn history_document<'a>(moves: impl DoubleEndedIterator<Item = &'a Moved>, limit: usize) -> HistoryDocument {
    HistoryDocument { moves: moves.rev().take(limit).map(ended_move).collect() }
}

fn ended_move(moved: &Moved) -> EndedMove {
    let (outcome, trouble) = match moved.outcome.split_once(": ") {
        Some((outcome, trouble)) => (outcome, Some(trouble.to_owned())),
        None => (moved.outcome.as_str(), None),
    };
    EndedMove {
        ended_at: rfc3339(moved.at),
        took_s: seconds(moved.took),
        source: moved.source.to_string(),
        target: moved.target.to_string(),
        slots: Slots::from(&moved.slots),
        keys_moved: moved.keys,
        bytes_estimated: moved.bytes_estimated,
        why: moved.why.clone(),
        outcome: outcome.to_owned(),
        trouble,
    }
}
