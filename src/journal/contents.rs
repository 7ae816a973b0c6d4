//! What the records of a journal amount to: the slots that are open, what silent nodes may import, the latest moves, a pause,
//! drains. No file here.

use std::collections::{BTreeMap, VecDeque};

use super::line::Record;
use super::{Drain, Moved, Opened, Pause};
use crate::cluster::{NodeId, SlotSet};

/// Moves that are kept: some hours of a large rebalance, a few hundred KiB of file.
pub const HISTORY_MAX: usize = 1_000;

/// What still counts of the records so far.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// No set is empty and no slot is in two of them, so there are never more than slots.
    opened: Vec<Opened>,
    /// No set is empty.
    imports: BTreeMap<NodeId, SlotSet>,
    history: VecDeque<Moved>,
    pause: Option<Pause>,
    drains: BTreeMap<NodeId, Drain>,
}

impl Contents {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Opened(opened) => {
                self.close(&opened.slots);
                self.opened.push(opened);
            }
            Record::Closed { slots } => self.close(&slots),
            Record::Imports { node, slots } if slots.is_empty() => drop(self.imports.remove(&node)),
            Record::Imports { node, slots } => drop(self.imports.insert(node, slots)),
            Record::Moved(moved) => {
                if self.history.len() == HISTORY_MAX {
                    self.history.pop_front();
                }
                self.history.push_back(moved);
            }
            Record::Paused(pause) => self.pause = Some(pause),
            Record::Resumed {} => self.pause = None,
            Record::Drained(drain) => drop(self.drains.insert(drain.node, drain)),
            Record::Undrained { node } => drop(self.drains.remove(&node)),
        }
    }

    fn close(&mut self, slots: &SlotSet) {
        for opened in &mut self.opened {
            opened.slots = opened.slots.difference(slots);
        }
        self.opened.retain(|opened| !opened.slots.is_empty());
    }

    /// Oldest first.
    pub(super) fn opened(&self) -> impl Iterator<Item = &Opened> {
        self.opened.iter()
    }

    pub(super) fn imports(&self) -> &BTreeMap<NodeId, SlotSet> {
        &self.imports
    }

    /// Newest last, never more than [`HISTORY_MAX`].
    pub(super) fn history(&self) -> impl Iterator<Item = &Moved> {
        self.history.iter()
    }

    pub(super) fn pause(&self) -> Option<Pause> {
        self.pause
    }

    pub(super) fn drains(&self) -> impl Iterator<Item = &Drain> {
        self.drains.values()
    }

    /// Those of the slots that are open.
    pub(super) fn open_among(&self, slots: &SlotSet) -> SlotSet {
        self.opened.iter().flat_map(|opened| opened.slots.iter()).filter(|&slot| slots.contains(slot)).collect()
    }

    /// The fewest records that amount to the same.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let opened = self.opened.iter().cloned().map(Record::Opened);
        let imports = self.imports.iter().map(|(&node, slots)| Record::Imports { node, slots: slots.clone() });
        let told = self.pause.map(Record::Paused).into_iter().chain(self.drains.values().copied().map(Record::Drained));
        opened.chain(imports).chain(self.history.iter().cloned().map(Record::Moved)).chain(told)
    }
}

impl FromIterator<Record> for Contents {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut contents = Self::default();
        records.into_iter().for_each(|record| contents.apply(record));
        contents
    }
}
