//! How far one move has come: written by its worker, read by the supervisor at any time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of one move. All only grow, but for the batch.
#[derive(Debug, Default)]
pub(super) struct Meter {
    slots: AtomicUsize,
    keys: AtomicU64,
    batch: AtomicUsize,
    waits_for: Mutex<String>,
}

impl Meter {
    pub(super) fn add(&self, slots: usize, keys: u64) {
        self.slots.fetch_add(slots, Ordering::Relaxed);
        self.keys.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn set_batch(&self, keys: usize) {
        self.batch.store(keys, Ordering::Relaxed);
    }

    /// Shows what the move waits for; nothing clears it.
    pub(super) fn waits_for(&self, what: &str) {
        what.clone_into(&mut self.waits_for.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    pub(super) fn batch(&self) -> usize {
        self.batch.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> String {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
