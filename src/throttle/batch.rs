//! How many keys one `MIGRATE` carries, from how long the last ones held the source.

use std::time::Duration;

/// Keys of the first call: about 0.5 ms of the source for small keys (measured on Redis 7.0 and Valkey 9.1).
const FIRST: usize = 100;
/// Never fewer: below this the round trip costs more than the keys.
const FLOOR: usize = 10;
/// What a call within the budget adds.
const STEP: usize = 20;

/// The batch size of one source: it grows by a step while calls stay within the budget and shrinks in proportion to
/// how far one exceeds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSize {
    keys: usize,
    most: usize,
    budget: Duration,
}

impl BatchSize {
    /// `budget` is how long one call may hold the source; `most` bounds the keys of one call.
    #[must_use]
    pub fn new(budget: Duration, most: usize) -> Self {
        Self { keys: FIRST.min(most.max(1)), most: most.max(1), budget }
    }

    /// The most keys of the next call: at least one.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Learns from one call: how many keys it carried, and how long it took less the time of an empty round trip.
    pub fn on_call(&mut self, keys: usize, took: Duration) {
        if keys == 0 {
            return;
        }
        if took <= self.budget {
            // A short call says nothing about longer ones.
            if keys >= self.keys {
                self.keys = (self.keys + STEP).min(self.most);
            }
            return;
        }
        let within = keys as f64 * self.budget.as_secs_f64() / took.as_secs_f64();
        // Half at the most: one slow call on a busy machine is no measure of the next.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `keys`")]
        let shrunk = (within as usize).max(self.keys / 2);
        self.keys = shrunk.clamp(FLOOR.min(self.most), self.keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(calls: &[(usize, u64)]) -> usize {
        let mut batch = BatchSize::new(Duration::from_millis(2), 1_000);
        for &(keys, micros) in calls {
            batch.on_call(keys, Duration::from_micros(micros));
        }
        batch.keys()
    }

    #[test]
    fn the_batch_grows_by_steps_within_the_budget_and_shrinks_in_proportion_beyond_it() {
        assert_eq!(after(&[]), 100);
        assert_eq!(after(&[(100, 500), (120, 600)]), 140);
        assert_eq!(after(&[(30, 100)]), 100, "a short call says nothing about longer ones");
        assert_eq!(after(&[(100, 2_500)]), 80);
        assert_eq!(after(&[(100, 2_000_000)]), 50, "half at the most");
        assert_eq!(after(&[(100, 2_000_000); 9]), 10, "never below the floor");
        assert_eq!(after(&[(1_000, 1); 99]), 1_000, "never above the limit");
    }

    #[test]
    fn a_limit_below_the_floor_is_kept() {
        let mut batch = BatchSize::new(Duration::from_millis(2), 1);
        batch.on_call(1, Duration::from_secs(1));
        batch.on_call(1, Duration::ZERO);
        assert_eq!(batch.keys(), 1);
    }
}
