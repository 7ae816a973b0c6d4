//! The journal as the supervisor uses it: written off the event loop, and nothing at all where none is configured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tracing::{error, warn};

use super::failpoints::{self, Moment, Phase};
use crate::cluster::{NodeId, SlotSet};
use crate::journal::{Drain, History, Journal, JournalError, Moved, Opened, Pause};

/// The journal, or none.
#[derive(Clone, Debug, Default)]
pub struct Records {
    journal: Option<Arc<Mutex<Journal>>>,
    predecessor: Option<String>,
}

impl Records {
    /// Opens the journal of this directory for an instance of this name. Configured and not usable is an error: it would be
    /// missed when needed.
    pub async fn open(dir: Option<PathBuf>, instance: &str) -> anyhow::Result<Self> {
        let Some(dir) = dir else { return Ok(Self::default()) };
        let instance = instance.to_owned();
        let open = move || {
            let mut journal = Journal::open(&dir)?;
            let predecessor = journal.sign(&instance)?;
            Ok::<_, JournalError>((journal, predecessor))
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let (journal, predecessor) = opened.context("opening the journal ended by a bug")??;
        if journal.torn() {
            warn!("the journal's last line was cut short, by a crash while it was written, and is dropped");
        }
        Ok(Self { journal: Some(Arc::new(Mutex::new(journal))), predecessor })
    }

    /// The instance that had this journal before; nothing of it is alive.
    pub(super) fn predecessor(&self) -> Option<&str> {
        self.predecessor.as_deref()
    }

    /// What is on record as opened and not as closed.
    pub(super) fn opened_slots(&self) -> Vec<Opened> {
        let Some(journal) = &self.journal else { return Vec::new() };
        journal.lock().unwrap_or_else(PoisonError::into_inner).open_slots().cloned().collect()
    }

    /// Records that slots are about to be opened. On disk when it returns.
    pub(super) async fn opened(&self, opened: Opened) -> Result<(), JournalError> {
        failpoints::pass(Some(Phase::RecordOpened), Moment::Before).await;
        let written = self.write(move |journal| journal.opened(opened)).await;
        failpoints::pass(Some(Phase::RecordOpened), Moment::After).await;
        written
    }

    /// Records that slots are closed. Losing this record costs a look at slots that turn out to be closed.
    pub(super) async fn closed(&self, slots: &SlotSet) {
        let slots = slots.clone();
        failpoints::pass(Some(Phase::RecordClosed), Moment::Before).await;
        self.note(move |journal| journal.closed(&slots)).await;
        failpoints::pass(Some(Phase::RecordClosed), Moment::After).await;
    }

    /// What is on record that nodes may import of slots that went on without them.
    pub(super) fn imports(&self) -> BTreeMap<NodeId, SlotSet> {
        let Some(journal) = &self.journal else { return BTreeMap::new() };
        journal.lock().unwrap_or_else(PoisonError::into_inner).imports().clone()
    }

    /// Records that nodes may import slots that are about to go on without them. On disk when it returns.
    pub(super) async fn may_import(&self, imports: BTreeMap<NodeId, SlotSet>) -> Result<(), JournalError> {
        if imports.is_empty() {
            return Ok(());
        }
        self.write(move |journal| imports.iter().try_for_each(|(&node, slots)| journal.may_import(node, slots))).await
    }

    /// Records that these nodes import nothing. Losing this record costs a look at them.
    pub(super) async fn import_nothing(&self, nodes: Vec<NodeId>) {
        if !nodes.is_empty() {
            self.note(move |journal| nodes.into_iter().try_for_each(|node| journal.imports_nothing(node))).await;
        }
    }

    /// Records how far a move has come.
    pub(super) async fn so_far(&self, moved: Moved) {
        self.note(move |journal| journal.so_far(moved)).await;
    }

    /// Records how a move ended.
    pub(super) async fn moved(&self, moved: Moved) {
        self.note(move |journal| journal.moved(moved)).await;
    }

    /// The moves that are on record as ended, newest last.
    pub(super) fn history(&self) -> History {
        let Some(journal) = &self.journal else { return History::default() };
        journal.lock().unwrap_or_else(PoisonError::into_inner).history().clone()
    }

    /// The pause that is on record.
    pub(super) fn pause(&self) -> Option<Pause> {
        let journal = self.journal.as_ref()?;
        journal.lock().unwrap_or_else(PoisonError::into_inner).pause()
    }

    /// Records a pause, or its end; whether a restart knows of it.
    pub(super) async fn paused(&self, pause: Option<Pause>) -> bool {
        self.told(move |journal| journal.paused(pause)).await
    }

    /// The drains that are on record.
    pub(super) fn drains(&self) -> BTreeMap<NodeId, Drain> {
        let Some(journal) = &self.journal else { return BTreeMap::new() };
        let journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.drains().map(|drain| (drain.node, *drain)).collect()
    }

    /// Records a drain, or its end; whether a restart knows of it.
    pub(super) async fn drained(&self, node: NodeId, drain: Option<Drain>) -> bool {
        let write = move |journal: &mut Journal| match drain {
            Some(drain) => journal.drained(drain),
            None => journal.undrained(node),
        };
        self.told(write).await
    }

    /// Records what an operator told us; whether a restart knows of it.
    async fn told(&self, write: impl FnOnce(&mut Journal) -> Result<(), JournalError> + Send + 'static) -> bool {
        match self.write(write).await {
            Ok(()) => self.journal.is_some(),
            Err(error) => {
                error!(%error, "the journal cannot be written");
                false
            }
        }
    }

    async fn note(&self, write: impl FnOnce(&mut Journal) -> Result<(), JournalError> + Send + 'static) {
        if let Err(error) = self.write(write).await {
            error!(%error, "the journal cannot be written");
        }
    }

    async fn write(
        &self,
        write: impl FnOnce(&mut Journal) -> Result<(), JournalError> + Send + 'static,
    ) -> Result<(), JournalError> {
        let Some(journal) = self.journal.clone() else { return Ok(()) };
        let written =
            tokio::task::spawn_blocking(move || write(&mut journal.lock().unwrap_or_else(PoisonError::into_inner)));
        match written.await {
            Ok(written) => written,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}
