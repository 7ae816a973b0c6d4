//! How far one move has come: written by its worker, read by the supervisor at any time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::PaceStatus;

/// Counts of one move, which only grow, and its pace.
#[derive(Debug, Default)]
pub(super) struct Meter {
    slots: AtomicUsize,
    keys: AtomicU64,
    pace: Mutex<PaceStatus>,
    /// Of each lane.
    waits_for: Mutex<[String; 2]>,
}

impl Meter {
    pub(super) fn add(&self, slots: usize, keys: u64) {
        self.slots.fetch_add(slots, Ordering::Relaxed);
        self.keys.fetch_add(keys, Ordering::Relaxed);
    }

    pub(super) fn set_pace(&self, pace: PaceStatus) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// Shows what a lane of the move waits for; nothing clears it.
    pub(super) fn waits_for(&self, lane: usize, what: &str) {
        what.clone_into(&mut self.waits_for.lock().unwrap_or_else(PoisonError::into_inner)[lane]);
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    pub(super) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    pub(super) fn pace(&self) -> PaceStatus {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> String {
        let lanes = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().find(|what| !what.is_empty()).cloned().unwrap_or_default()
    }
}
