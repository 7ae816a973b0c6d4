//! The pace of one move: what its worker learns of the servers, and when it may make its next call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::canary::Canary;
use super::turns::Among;
use crate::cluster::CallCount;
use crate::config::MigrationConfig;
use crate::migration::CallLimit;
use crate::throttle::{Budget, Limit, Pace, Rate};

/// How often a source is asked for how long its calls held it.
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// How long the keys of a group may take under a plain limit, so that both groups that may be open are finished soon after
/// that is asked for.
const GROUP_LASTS: Duration = Duration::from_millis(2_500);
/// From this part of the time on, it is waiting for others that is told to keep a move from being faster.
const MUCH_WAITING: f64 = 0.25;
/// What one call counts for in the mean that is compared with it: a single one that waited long says little.
const COUNTS_FOR: f64 = 0.1;
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
    /// No limits.
    pub(super) fn unlimited() -> Self {
        Self {
            began: Instant::now(),
            slots: SharedRate::default(),
            keys: SharedRate::default(),
            bytes: SharedRate::default(),
        }
    }

    /// Those of a configuration from now on, for moves that run as well.
    pub(super) fn set(&self, config: &MigrationConfig) {
        self.slots.set(config.slots_per_second);
        self.keys.set(config.keys_per_second);
        self.bytes.set(config.bytes_per_second);
    }

    fn wait_for_slots(&self, slots: usize) -> Duration {
        self.slots.take(slots as u64, self.began.elapsed())
    }

    fn wait_for_keys(&self, keys: u64, bytes: u64) -> Duration {
        let now = self.began.elapsed();
        self.keys.take(keys, now).max(self.bytes.take(bytes, now))
    }

    /// The most slots that are opened together.
    pub(super) fn slots_at_once(&self) -> usize {
        self.slots.at_once()
    }

    /// The most keys of slots that are opened together.
    pub(super) fn keys_of_a_group(&self) -> u64 {
        self.keys.with(usize::MAX, |rate| rate.within(GROUP_LASTS)) as u64
    }
}

/// A rate that several moves take from, or no limit.
#[derive(Debug, Default)]
struct SharedRate(Mutex<Option<Rate>>);

impl SharedRate {
    fn set(&self, per_second: Option<u64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = per_second.map(Rate::new);
    }

    fn with<T>(&self, unlimited: T, of: impl FnOnce(&mut Rate) -> T) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map_or(unlimited, of)
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
    canaries: Vec<Arc<Canary>>,
    /// Of each canary the number of the figure that was heeded last.
    heeded: Vec<u64>,
    rates: Arc<Rates>,
    /// A plain limit made the last group of slots wait, or the last call.
    slots_waited: bool,
    keys_waited: bool,
    /// How long the next call has waited for others.
    waited: Duration,
    /// Which part of the time went into that of late.
    waiting: f64,
    /// When the last call was answered.
    called: Option<Instant>,
    bytes_per_key: f64,
    counted: Option<Instant>,
}

/// How much the configuration allows a source and its target to be held.
pub(super) fn budget(config: &MigrationConfig) -> Budget {
    Budget { block: config.block_max, latency: config.latency_max, keys: config.batch_keys_max }
}

impl Pacer {
    /// It goes on from this pace. `canaries` are those of both ends, `bytes_per_key` is an estimate for the limit of bytes a
    /// second.
    pub(super) fn new(pace: Pace, rates: Arc<Rates>, canaries: Vec<Arc<Canary>>, bytes_per_key: f64) -> Self {
        Self {
            pace,
            canaries,
            heeded: Vec::new(),
            rates,
            slots_waited: false,
            keys_waited: false,
            waited: Duration::ZERO,
            waiting: 0.0,
            called: None,
            bytes_per_key,
            counted: None,
        }
    }

    /// What was learnt.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// How much the next call may carry.
    pub(super) fn limit(&self) -> CallLimit {
        let by_rate = self.rates.keys.at_once().min(self.keys_of(self.rates.bytes.at_once()));
        let keys = self.pace.keys().min(by_rate);
        let budget = self.pace.budget();
        let last = (keys + keys / LAST_PART).min(budget.keys).min(by_rate);
        CallLimit { keys, last, block: budget.block.div_f64(self.pace.heavy_factor()) }
    }

    fn keys_of(&self, bytes: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturating")]
        let keys = (bytes as f64 / self.bytes_per_key.max(1.0)) as usize;
        keys.max(1)
    }

    /// How long to wait before a call with so many keys.
    pub(super) fn wait_for(&mut self, keys: usize) -> Duration {
        self.heed_canaries();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, never negative")]
        let bytes = (keys as f64 * self.bytes_per_key) as u64;
        let by_rate = self.rates.wait_for_keys(keys as u64, bytes);
        self.keys_waited = !by_rate.is_zero();
        by_rate.max(self.pace.rest())
    }

    /// With whose calls those of this source are to be made one after the other, for clients might wait.
    pub(super) fn takes_turns_among(&self) -> Option<Among> {
        let among = if self.pace.takes_turns() { Among::Everybody } else { Among::Neighbours };
        self.has_clients().then_some(among)
    }

    /// Whether any client uses the source or the target, as far as is known.
    pub(super) fn has_clients(&self) -> bool {
        self.canaries.iter().any(|canary| canary.felt().in_use)
    }

    /// Once for each round of figures; where there is none there is nothing to go by, and what was is not true any more. Nor
    /// is there at a node without clients: nobody waits there but the canary.
    fn heed_canaries(&mut self) {
        let felt: Vec<_> = self.canaries.iter().map(|canary| canary.felt()).collect();
        self.heeded.resize(felt.len(), 0);
        let is_new =
            felt.iter().zip(&self.heeded).all(|(felt, heeded)| felt.latency.is_none() || felt.number > *heeded);
        if is_new {
            self.heeded = felt.iter().map(|felt| felt.number).collect();
            let latencies = felt.iter().filter(|felt| felt.in_use).filter_map(|felt| felt.latency);
            self.pace.on_latency(latencies.max());
        }
    }

    /// How long to wait before so many slots are opened.
    pub(super) fn wait_for_slots(&mut self, slots: usize) -> Duration {
        let wait = self.rates.wait_for_slots(slots);
        self.slots_waited = !wait.is_zero();
        wait
    }

    /// The next call has waited so long for other moves, and for who looks ahead of one.
    pub(super) fn on_turn(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Learns from a call that was answered now; `took` is without the time of an empty one, `expected` what its heavy keys
    /// were expected to take.
    pub(super) fn on_call(&mut self, keys: usize, expected: Duration, took: Duration, now: Instant) {
        let waited = std::mem::take(&mut self.waited);
        if let Some(last) = self.called.replace(now) {
            let part = waited.as_secs_f64() / (now - last).as_secs_f64().max(f64::MIN_POSITIVE);
            self.waiting += (part.min(1.0) - self.waiting) * COUNTS_FOR;
        }
        if expected.is_zero() {
            self.pace.on_call(keys, took);
        } else {
            self.pace.on_heavy_call(expected, took);
        }
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
            limit: self.limit_in_force(),
        }
    }

    fn limit_in_force(&self) -> Limit {
        let limit = self.pace.limit();
        if self.slots_waited || self.keys_waited {
            Limit::Rate
        } else if limit != Limit::Latency && self.waiting > MUCH_WAITING {
            Limit::Turns
        } else {
            limit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_calls_wait_for_others_is_told_from_a_quarter_of_the_time_on() {
        let pace = Pace::new(budget(&MigrationConfig::default()));
        let mut pacer = Pacer::new(pace, Arc::new(Rates::unlimited()), Vec::new(), 0.0);
        let mut now = Instant::now();
        let mut limit_where_each_waits = |waited: u64| {
            for _ in 0..100 {
                now += Duration::from_millis(1);
                pacer.on_turn(Duration::from_micros(waited));
                pacer.on_call(1, Duration::ZERO, Duration::from_micros(100), now);
            }
            pacer.status().limit
        };
        assert_eq!([200, 300, 0].map(&mut limit_where_each_waits), [Limit::Growing, Limit::Turns, Limit::Growing]);
    }
}
