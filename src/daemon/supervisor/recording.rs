//! What a later process must know of slots, written down before they go on.

use std::collections::BTreeMap;

use tracing::error;

use super::Supervisor;
use crate::cluster::{NodeId, SlotSet};
use crate::journal::{JournalError, Opened};

impl Supervisor {
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

    /// Which nodes that do not answer may import these slots.
    fn imports_elsewhere(&self, slots: &SlotSet) -> BTreeMap<NodeId, SlotSet> {
        let Some(picture) = &self.picture else { return BTreeMap::new() };
        self.imports.at_silent(slots, |node| !picture.look.observation.nodes.contains_key(&node))
    }
}
