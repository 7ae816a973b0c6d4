//! What a call costs whatever it carries, and what each of its keys adds.

use std::time::Duration;

/// What a call counts less than the one after it: some hundred calls are remembered.
const FADING: f64 = 0.99;
/// Below this spread of the numbers of keys, relative to their mean, nothing can be told apart.
const LEAST_SPREAD: f64 = 0.1;

/// Fits a line through the calls of late: the time of an empty call, and the time of each key.
///
/// On a slow network most of a `MIGRATE` is waiting for the target's answer, however few its keys are.
#[derive(Clone, Debug, Default)]
pub(super) struct Cost {
    weight: f64,
    keys: f64,
    time: f64,
    keys_keys: f64,
    keys_time: f64,
    /// Which part of the mean of calls an empty one takes, as was last known.
    empty: Option<f64>,
}

impl Cost {
    /// A call with so many keys held the source for so long.
    pub(super) fn on_call(&mut self, keys: usize, block: Duration) {
        let (keys, time) = (keys as f64, block.as_secs_f64());
        let sums = [&mut self.weight, &mut self.keys, &mut self.time, &mut self.keys_keys, &mut self.keys_time];
        for (sum, value) in sums.into_iter().zip([1.0, keys, time, keys * keys, keys * time]) {
            *sum = *sum * FADING + value;
        }
        let mean = self.time / self.weight;
        self.empty = self.line().map(|(fixed, _)| fixed.max(0.0) / mean).or(self.empty);
    }

    /// Which part of the time of the calls of late one without keys takes, as calls with unlike numbers of keys told last.
    pub(super) fn part_of_an_empty_call(&self) -> Option<f64> {
        self.empty
    }

    /// How many keys take as long by themselves as the rest of their call, if the calls of late tell.
    pub(super) fn keys_worth_a_call(&self) -> Option<f64> {
        self.line().filter(|(fixed, _)| *fixed > 0.0).map(|(fixed, per_key)| fixed / per_key)
    }

    /// The time of an empty call and of each key in seconds, if the calls of late tell. Below zero, the first is none.
    fn line(&self) -> Option<(f64, f64)> {
        let mean = self.keys / self.weight;
        let spread = self.keys_keys / self.weight - mean * mean;
        // Also where there was no call: nothing compares with what is no number.
        if spread.partial_cmp(&(LEAST_SPREAD * mean).powi(2)) != Some(std::cmp::Ordering::Greater) {
            return None;
        }
        let per_key = (self.keys_time / self.weight - mean * self.time / self.weight) / spread;
        let fixed = self.time / self.weight - per_key * mean;
        (per_key > 0.0).then_some((fixed, per_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(calls: &[(usize, u64)], expect: Option<u64>) {
        let mut cost = Cost::default();
        for _ in 0..50 {
            for &(keys, micros) in calls {
                cost.on_call(keys, Duration::from_micros(micros));
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let worth = cost.keys_worth_a_call().map(|keys| keys.round() as u64);
        assert_eq!(worth, expect, "{calls:?}");
    }

    #[test]
    fn a_slow_network_is_told_from_slow_keys() {
        check(&[(10, 1_100), (60, 1_600)], Some(100));
        check(&[(10, 110), (60, 610)], Some(1));
    }

    #[test]
    fn the_part_of_an_empty_call_is_remembered_while_calls_are_all_alike() {
        let mut cost = Cost::default();
        let calls = [[10, 60].repeat(50), vec![60; 1_000]].concat();
        for keys in calls {
            cost.on_call(keys, Duration::from_micros(400 + 10 * keys as u64));
        }
        assert_eq!(cost.keys_worth_a_call(), None);
        assert!(cost.part_of_an_empty_call().is_some_and(|part| (0.4..0.6).contains(&part)), "{cost:?}");
    }

    #[test]
    fn calls_that_are_all_alike_or_make_no_sense_tell_nothing() {
        check(&[], None);
        check(&[(60, 1_600)], None);
        check(&[(60, 1_600), (61, 1_610)], None);
        check(&[(10, 2_000), (60, 1_000)], None);
    }
}
