//! What a later process must know of slots, written down before they go on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::super::{Sight, checks};
use super::Supervisor;
use crate::cluster::{NodeId, SlotSet, Topology};
use crate::config::Mode;
use crate::journal::{JournalError, Opened};

/// Keys that a killed process moved after this are in no history.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

impl Supervisor {
    /// At the first look: whether another evenkeel was started while nobody had this journal. It may be at work on the slots that
    /// are on record as open, and two must not finish one slot: they are somebody else's then, and adopted when nobody touches
    /// them. Where there is a lease that says who acts.
    pub(super) async fn leave_records_to_others(&mut self, sight: &Sight) {
        let Some(look) = sight.look.as_ref().filter(|_| !self.records_taken) else { return };
        let config = self.config();
        let slots = self.parts.records.opened_slots().iter().fold(SlotSet::new(), |all, one| all.union(&one.slots));
        if slots.is_empty() || config.lease.is_configured() || config.schedule.mode != Mode::Act {
            return;
        }
        let topology = Topology::merge(&look.observation, &SlotSet::new());
        if let Some((name, from)) = checks::older(&self.dialer, &topology, self.parts.records.predecessor()).await {
            warn!(name, from, %slots, "another evenkeel has come meanwhile; open slots of an earlier run are left to it");
            self.records_taken = true;
        }
    }

    /// Records that slots are about to be opened, and first which nodes that do not answer may have other marks of them.
    pub(super) async fn record_opened(&self, opened: Opened) -> Result<(), JournalError> {
        self.parts.records.may_import(self.imports_elsewhere(&opened.slots)).await?;
        self.parts.records.opened(opened).await
    }

    /// Records that slots are closed, and first which nodes that do not answer may have marks of them still.
    pub(super) async fn record_closed(&self, slots: &SlotSet) {
        match self.parts.records.may_import(self.imports_elsewhere(slots)).await {
            Ok(()) => self.parts.records.closed(slots).await,
            // They stay on record as open: the next process looks at them, and at their targets.
            Err(error) => error!(%error, "the journal cannot be written"),
        }
    }

    /// Now and then, how many keys the moves have brought over: of a slot that takes long the end may never come.
    pub(super) async fn record_progress(&mut self) {
        if self.progress_recorded.elapsed() >= PROGRESS_EVERY {
            self.progress_recorded = Instant::now();
            for running in self.running.values() {
                self.parts.records.so_far(running.so_far(SlotSet::new())).await;
            }
        }
    }

    /// Which nodes that do not answer may import these slots.
    fn imports_elsewhere(&self, slots: &SlotSet) -> BTreeMap<NodeId, SlotSet> {
        let Some(picture) = &self.picture else { return BTreeMap::new() };
        self.imports.at_silent(slots, |node| !picture.look.observation.nodes.contains_key(&node))
    }
}
