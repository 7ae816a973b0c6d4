//! The pace of one move: what its worker learns of the servers, and when it may make its next call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::canary::Canary;
use crate::cluster::CallCount;
use crate::config::MigrationConfig;
use crate::migration::CallLimit;
use crate::throttle::{Budget, Limit, Pace, Rate};

/// How often a source is asked for how long its calls held it.
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// The last keys of a slot go along with a call where they are no more than this part of it.
const LAST_PART: usize = 4;

/// The plain limits of the configuration, of all moves together.
#[derive(Debug)]
pub(super) struct Rates {
    began: Instant,
    slots: SharedRate,
    keys: SharedRate,
    bytes: SharedRate,
}

impl Rates {
    pub(super) fn new(config: &MigrationConfig) -> Self {
        Self {
            began: Instant::now(),
            slots: SharedRate::new(config.slots_per_second),
            keys: SharedRate::new(config.keys_per_second),
            bytes: SharedRate::new(config.bytes_per_second),
        }
    }

    /// How long to wait before so many slots are opened.
    pub(super) fn wait_for_slots(&self, slots: usize) -> Duration {
        self.slots.take(slots as u64, self.began.elapsed())
    }

    /// How long to wait before so many keys are moved, of about so many bytes.
    fn wait_for_keys(&self, keys: u64, bytes: u64) -> Duration {
        let now = self.began.elapsed();
        self.keys.take(keys, now).max(self.bytes.take(bytes, now))
    }

    /// The most slots that are opened together.
    pub(super) fn slots_at_once(&self) -> usize {
        self.slots.at_once()
    }
}

/// A rate that several moves take from, or no limit.
#[derive(Debug)]
struct SharedRate(Option<Mutex<Rate>>);

impl SharedRate {
    fn new(per_second: Option<u64>) -> Self {
        Self(per_second.map(|per_second| Mutex::new(Rate::new(per_second))))
    }

    fn with<T>(&self, unlimited: T, of: impl FnOnce(&mut Rate) -> T) -> T {
        self.0.as_ref().map_or(unlimited, |rate| of(&mut rate.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn take(&self, amount: u64, now: Duration) -> Duration {
        self.with(Duration::ZERO, |rate| rate.take(amount, now))
    }

    fn at_once(&self) -> usize {
        self.with(usize::MAX, |rate| rate.at_once())
    }
}

/// The pace of one move as it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PaceStatus {
    /// The most keys of one call.
    pub batch_keys: usize,
    /// How long a call held the source of late, by the source's own count; `None` before that was asked for.
    pub block: Option<Duration>,
    /// How long the source rests between two calls.
    pub rest: Duration,
    /// What keeps it from being faster.
    pub limit: Limit,
}

/// Sets the pace of one move.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    block_max: Duration,
    keys_max: usize,
    canaries: Vec<Arc<Canary>>,
    /// Figures of the canaries that were heeded.
    heeded: u64,
    rates: Arc<Rates>,
    bytes_per_key: f64,
    counted: Option<Instant>,
}

impl Pacer {
    /// `canaries` are those of both ends, `bytes_per_key` is an estimate for the limit of bytes a second.
    pub(super) fn new(
        config: &MigrationConfig,
        rates: Arc<Rates>,
        canaries: Vec<Arc<Canary>>,
        bytes_per_key: f64,
    ) -> Self {
        let budget = Budget { block: config.block_max, latency: config.latency_max, keys: config.batch_keys_max };
        Self {
            pace: Pace::new(budget),
            block_max: config.block_max,
            keys_max: config.batch_keys_max,
            canaries,
            heeded: 0,
            rates,
            bytes_per_key,
            counted: None,
        }
    }

    /// How much the next call may carry.
    pub(super) fn limit(&self) -> CallLimit {
        let by_rate = self.rates.keys.at_once().min(self.keys_of(self.rates.bytes.at_once()));
        let keys = self.pace.keys().min(by_rate);
        let last = (keys + keys / LAST_PART).min(self.keys_max).min(by_rate);
        CallLimit { keys, last, block: self.block_max }
    }

    fn keys_of(&self, bytes: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturating")]
        let keys = (bytes as f64 / self.bytes_per_key.max(1.0)) as usize;
        keys.max(1)
    }

    /// How long to wait before a call with so many keys.
    pub(super) fn wait_for(&mut self, keys: usize) -> Duration {
        let felt: Vec<_> = self.canaries.iter().map(|canary| canary.felt()).collect();
        let figures = felt.iter().map(|felt| felt.number).sum();
        if figures > self.heeded {
            self.heeded = figures;
            self.pace.on_latency(felt.iter().map(|felt| felt.latency).max().unwrap_or_default());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        let bytes = (keys as f64 * self.bytes_per_key) as u64;
        let by_rate = self.rates.wait_for_keys(keys as u64, bytes);
        if !by_rate.is_zero() {
            self.pace.on_rate();
        }
        by_rate.max(self.pace.rest())
    }

    /// A limit a second made the move wait before it opened slots.
    pub(super) fn waited_for_slots(&mut self) {
        self.pace.on_rate();
    }

    /// Learns from a call; `took` is without the time of an empty one, and keys of which it is known that they take long
    /// teach nothing of the others: their calls are left out.
    pub(super) fn on_call(&mut self, keys: usize, took: Duration) {
        self.pace.on_call(keys, took);
    }

    /// Whether the source is to be asked for its own count now.
    pub(super) fn wants_count(&mut self) -> bool {
        let due = self.counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY);
        if due {
            self.counted = Some(Instant::now());
        }
        due
    }

    /// The source's own count.
    pub(super) fn on_count(&mut self, count: CallCount) {
        self.pace.on_count(count);
    }

    pub(super) fn status(&self) -> PaceStatus {
        PaceStatus {
            batch_keys: self.limit().keys,
            block: self.pace.block(),
            rest: self.pace.rest(),
            limit: self.pace.limit(),
        }
    }
}
