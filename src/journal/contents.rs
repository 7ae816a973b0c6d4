//! What the records of a journal amount to: the slots that are open, what silent nodes may import, the latest moves and those
//! that have not ended, a pause, drains. No file here.

use std::collections::BTreeMap;

use super::line::Record;
use super::{Drain, History, Moved, Opened, Pause};
use crate::cluster::{NodeId, SlotSet};

/// What still counts of the records so far.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// No set is empty and no slot is in two of them, so there are never more than slots.
    opened: Vec<Opened>,
    /// No set is empty.
    imports: BTreeMap<NodeId, SlotSet>,
    history: History,
    /// Moves that have not ended, as far as they are known to have come, by source and target.
    under_way: BTreeMap<(NodeId, NodeId), Moved>,
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
            Record::SoFar(mut moved) => {
                let before = self.under_way.remove(&(moved.source, moved.target));
                moved.slots = before.map_or_else(SlotSet::new, |before| before.slots).union(&moved.slots);
                self.under_way.insert((moved.source, moved.target), moved);
            }
            Record::Moved(moved) => {
                self.under_way.remove(&(moved.source, moved.target));
                self.history.remember(moved);
            }
            Record::Paused(pause) => self.pause = Some(pause),
            Record::Resumed {} => self.pause = None,
            Record::Drained(drain) => drop(self.drains.insert(drain.node, drain)),
            Record::Undrained { node } => drop(self.drains.remove(&node)),
        }
    }

    /// Moves that have not ended are history: whoever made them is no more.
    pub(super) fn end_all(&mut self) {
        let mut cut_off: Vec<Moved> = std::mem::take(&mut self.under_way).into_values().collect();
        cut_off.sort_by_key(|moved| moved.at);
        for moved in cut_off {
            self.history.remember(moved);
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

    pub(super) fn history(&self) -> &History {
        &self.history
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
        let history = self.history.iter().cloned().map(Record::Moved);
        // Behind the moves that ended, which would end them.
        let under_way = self.under_way.values().cloned().map(Record::SoFar);
        opened.chain(imports).chain(history).chain(under_way).chain(told)
    }
}

impl FromIterator<Record> for Contents {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut contents = Self::default();
        records.into_iter().for_each(|record| contents.apply(record));
        contents
    }
}
