//! The journal: a small append-only file in `[state] dir` that says only what the cluster cannot: which open slots are
//! ours and against which processes they were opened, what nodes that do not answer may import, whether an operator paused the
//! daemon or drains a node, and, as history, who moved what, why, when and how it ended.
//!
//! What *is* (owners, marks, keys) is never read from here; a lost journal costs time and history, never a key. One
//! JSON document a line, after a line with the version. Calls block: an asynchronous caller wraps them in
//! `spawn_blocking`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::cluster::{NodeId, SlotSet};

mod contents;
mod file;
mod history;
mod line;
mod shared;
#[cfg(test)]
mod tests;

pub use history::{HISTORY_MAX, History};
pub use shared::{read_open_slots, write_open_slots};

use contents::Contents;
use file::{Durability, JournalFile};
use line::{ReadError, Record};

/// The journal of one state directory, which no other process can open meanwhile.
///
/// After an error of a recording method the record does not count, and the journal stays usable: the next record begins
/// the file anew from what counts, so that nothing is ever appended to half a line.
#[derive(Debug)]
pub struct Journal {
    file: JournalFile,
    contents: Contents,
    torn: bool,
}

/// Slots that we are about to open, or opened, between two processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The slots.
    pub slots: SlotSet,
    /// Who gives them.
    pub source: Process,
    /// Who takes them.
    pub target: Process,
    /// The source's replicas, one of which may have taken over by the time that this is read.
    pub source_replicas: Vec<NodeId>,
    /// The target's.
    pub target_replicas: Vec<NodeId>,
    /// When they were recorded, just before the first `SETSLOT`.
    pub at: SystemTime,
}

/// One run of a server: a restart keeps the node's id and changes the `run_id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// The node.
    pub node: NodeId,
    /// The `run_id` of its `INFO`.
    pub run_id: String,
}

/// A move, for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The slots of the move.
    pub slots: SlotSet,
    /// The primary that gave.
    pub source: NodeId,
    /// The primary that took.
    pub target: NodeId,
    /// What the move was for, in words.
    pub why: String,
    /// Keys of acknowledged calls.
    pub keys: u64,
    /// What these keys take, by the mean of all keys of the source when the move began; `None` where that was not known.
    pub bytes_estimated: Option<u64>,
    /// From the first step to the last.
    pub took: Duration,
    /// `done`, `not_started`, `left` or `killed`, and `: ` with the reason.
    pub outcome: String,
    /// When it ended, or was last heard of.
    pub at: SystemTime,
}

/// What an operator told a daemon: to begin nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it was told.
    pub since: SystemTime,
    /// When it ends by itself, by the calendar; `None` for when it is told to go on.
    pub until: Option<SystemTime>,
}

/// What an operator told a daemon: to leave a node's shard nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The primary of the shard when it was told.
    pub node: NodeId,
    /// When it was told.
    pub since: SystemTime,
}

/// A journal that cannot be opened or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process has the directory: wait for its end, or give this one a directory of its own.
    #[error(
        "the state directory {} is in use by another process, an evenkeel most likely. Of one cluster one evenkeel moves the slots: \
         wait until that one is done (`evenkeel status` asks a daemon), or stop it; one for another cluster needs another state.dir",
        dir.display()
    )]
    Locked {
        /// The state directory.
        dir: PathBuf,
    },
    /// A newer evenkeel wrote it: reading on could misunderstand it.
    #[error(
        "{} is a journal of version {version}, this evenkeel reads up to {newest}: run the newer evenkeel, or move the \
         file away (open slots then count as somebody else's until they are adopted)",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// A line that we did not write so, and that is not merely the cut-off end of the file: a human must look.
    #[error(
        "line {line} of {} is damaged ({why}): remove the line, or move the file away (open slots then count as \
         somebody else's until they are adopted)",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The directory or a file in it cannot be read or written. In a running daemon: open nothing, try again later.
    #[error(
        "cannot {doing} {}: {error}; state.dir must be a directory that this user may write to, with free space on it \
         (without state.dir there is no journal)",
        path.display()
    )]
    Unusable {
        /// What failed, as in `cannot lock`.
        doing: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

impl Journal {
    /// Opens the journal of this directory, or begins one; the directory itself is made if only its last part is
    /// missing. Holds a lock on it until dropped.
    ///
    /// The file is written anew without what no longer counts, which also proves that it can be written.
    pub fn open(dir: &Path) -> Result<Journal, JournalError> {
        let mut file = JournalFile::lock(dir)?;
        let read = line::read(&file.read()?).map_err(|error| match error {
            ReadError::Newer { version } => {
                JournalError::Newer { path: file.path().to_owned(), version, newest: line::VERSION }
            }
            ReadError::Damaged { line, why } => JournalError::Damaged { path: file.path().to_owned(), line, why },
        })?;
        let mut contents: Contents = read.records.into_iter().collect();
        contents.end_all();
        file.begin_anew(&contents)?;
        Ok(Self { file, contents, torn: read.torn })
    }

    /// Leaves the name of this process for the next one that has the directory. Says which name the one before left, if any
    /// did.
    pub fn sign(&mut self, name: &str) -> Result<Option<String>, JournalError> {
        self.file.sign(name)
    }

    /// Whether the file ended in half a line when it was opened: the process that wrote it died in the middle. The half
    /// line is dropped; its writer never went on to act on it.
    pub fn torn(&self) -> bool {
        self.torn
    }

    /// The slots recorded as opened and not as closed, oldest record first; no slot is in two of them.
    ///
    /// Says only that we meant to open them. Whether a slot still is open, the cluster says.
    pub fn open_slots(&self) -> impl Iterator<Item = &Opened> {
        self.contents.opened()
    }

    /// Records slots that are about to be opened. On disk when it returns: only then may the first `SETSLOT` be sent.
    ///
    /// A slot that an older record has open belongs to this record from now on.
    pub fn opened(&mut self, opened: Opened) -> Result<(), JournalError> {
        if opened.slots.is_empty() {
            return Ok(());
        }
        self.record(Record::Opened(opened), Durability::Disk)
    }

    /// Records that these slots are closed; those that no record has open are passed over.
    ///
    /// May be lost with the machine's power: that costs only a look at a closed slot.
    pub fn closed(&mut self, slots: &SlotSet) -> Result<(), JournalError> {
        let slots = self.contents.open_among(slots);
        if slots.is_empty() {
            return Ok(());
        }
        self.record(Record::Closed { slots }, Durability::SystemCache)
    }

    /// What nodes may import of slots that went on without them.
    pub fn imports(&self) -> &BTreeMap<NodeId, SlotSet> {
        self.contents.imports()
    }

    /// Records that a node may import these slots too. On disk when it returns: the slots go on without it after that.
    pub fn may_import(&mut self, node: NodeId, slots: &SlotSet) -> Result<(), JournalError> {
        let known = self.imports().get(&node).cloned().unwrap_or_default();
        let slots = known.union(slots);
        if slots == known {
            return Ok(());
        }
        self.record(Record::Imports { node, slots }, Durability::Disk)
    }

    /// Records that a node imports nothing, or is forgotten. May be lost with the machine's power: that costs a look at it.
    pub fn imports_nothing(&mut self, node: NodeId) -> Result<(), JournalError> {
        if !self.imports().contains_key(&node) {
            return Ok(());
        }
        self.record(Record::Imports { node, slots: SlotSet::new() }, Durability::SystemCache)
    }

    /// Records how far a move has come, for the history if this process dies before the move ends: its slots are those since
    /// the last such record of this source and target, all else is since it began. May be lost with the machine's power.
    pub fn so_far(&mut self, moved: Moved) -> Result<(), JournalError> {
        self.record(Record::SoFar(moved), Durability::SystemCache)
    }

    /// Records the end of a move for the history; closes nothing. May be lost with the machine's power.
    pub fn moved(&mut self, moved: Moved) -> Result<(), JournalError> {
        self.record(Record::Moved(moved), Durability::SystemCache)
    }

    /// The last 1,000 moves that ended, or whose process did, newest last.
    pub fn history(&self) -> &History {
        self.contents.history()
    }

    /// The pause that is on record, also one that is over.
    pub fn pause(&self) -> Option<Pause> {
        self.contents.pause()
    }

    /// Records a pause, in place of one before it, or that there is none any more. On disk when it returns: an operator
    /// relies on it.
    pub fn paused(&mut self, pause: Option<Pause>) -> Result<(), JournalError> {
        self.record(pause.map_or(Record::Resumed {}, Record::Paused), Durability::Disk)
    }

    /// The drains that an operator told of.
    pub fn drains(&self) -> impl Iterator<Item = &Drain> {
        self.contents.drains()
    }

    /// Records a drain. On disk when it returns: an operator relies on it.
    pub fn drained(&mut self, drain: Drain) -> Result<(), JournalError> {
        self.record(Record::Drained(drain), Durability::Disk)
    }

    /// Records the end of a drain. On disk when it returns.
    pub fn undrained(&mut self, node: NodeId) -> Result<(), JournalError> {
        self.record(Record::Undrained { node }, Durability::Disk)
    }

    fn record(&mut self, record: Record, durability: Durability) -> Result<(), JournalError> {
        self.file.append(&record, durability, &self.contents)?;
        self.contents.apply(record);
        Ok(())
    }
}
