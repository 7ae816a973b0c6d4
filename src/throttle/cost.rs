//! What a call costs whatever it carries, and what each of its keys adds.

use std::time::Duration;

/// What a call counts less than the one after it: some hundred calls are remembered.
const FADING: f64 = 0.99;
/// Below this spread of the numbers of keys, relative to their mean, nothing is told apart: slots of 61 keys differ by an
/// eighth by chance, and then it is chance that makes the line.
const LEAST_SPREAD: f64 = 0.2;
/// Calls that are all alike, after which what others told is forgotten: seconds, in which a network may become another.
const REMEMBERED: u32 = 1_000;

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
    /// The line as calls with unlike numbers of keys told it last.
    line: Option<Line>,
    /// Calls since.
    since: u32,
}

/// The time of an empty call and of each key, in seconds. Below zero, the first is none.
#[derive(Clone, Copy, Debug)]
struct Line {
    fixed: f64,
    per_key: f64,
}

impl Cost {
    /// A call with so many keys held the source for so long.
    pub(super) fn on_call(&mut self, keys: usize, block: Duration) {
        let (keys, time) = (keys as f64, block.as_secs_f64());
        let sums = [&mut self.weight, &mut self.keys, &mut self.time, &mut self.keys_keys, &mut self.keys_time];
        for (sum, value) in sums.into_iter().zip([1.0, keys, time, keys * keys, keys * time]) {
            *sum = *sum * FADING + value;
        }
        let fitted = self.fit();
        self.since = if fitted.is_some() { 0 } else { self.since.saturating_add(1) };
        self.line = fitted.or(self.line).filter(|_| self.since < REMEMBERED);
    }

    /// Which part of the time of the calls of late one without keys takes, if calls with unlike numbers of keys have told.
    pub(super) fn part_of_an_empty_call(&self) -> Option<f64> {
        self.line.map(|line| line.fixed.max(0.0) / (self.time / self.weight))
    }

    /// How many keys take as long by themselves as the rest of their call, if calls with unlike numbers of keys have told.
    pub(super) fn keys_worth_a_call(&self) -> Option<f64> {
        self.line.filter(|line| line.fixed > 0.0).map(|line| line.fixed / line.per_key)
    }

    /// The line through the calls of late, if they tell.
    fn fit(&self) -> Option<Line> {
        let mean = self.keys / self.weight;
        let spread = self.keys_keys / self.weight - mean * mean;
        // Also where there was no call: nothing compares with what is no number.
        if spread.partial_cmp(&(LEAST_SPREAD * mean).powi(2)) != Some(std::cmp::Ordering::Greater) {
            return None;
        }
        let per_key = (self.keys_time / self.weight - mean * self.time / self.weight) / spread;
        let fixed = self.time / self.weight - per_key * mean;
        (per_key > 0.0).then_some(Line { fixed, per_key })
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
    fn what_unlike_calls_told_is_remembered_while_they_are_all_alike_and_not_for_good() {
        let mut cost = Cost::default();
        let mut after = |calls: Vec<usize>| {
            for keys in calls {
                cost.on_call(keys, Duration::from_micros(400 + 10 * keys as u64));
            }
            let rounded = |part: f64| (part * 10.0).round() / 10.0;
            (cost.part_of_an_empty_call().map(rounded), cost.keys_worth_a_call().map(f64::round))
        };
        assert_eq!(after([10, 60].repeat(50)), (Some(0.5), Some(40.0)));
        assert_eq!(after(vec![60; 1_000]), (Some(0.4), Some(40.0)));
        assert_eq!(after(vec![60; 1_000]), (None, None));
    }

    #[test]
    fn calls_that_are_all_alike_or_make_no_sense_tell_nothing() {
        check(&[], None);
        check(&[(60, 1_600)], None);
        check(&[(60, 1_600), (61, 1_610)], None);
        check(&[(53, 1_800), (69, 1_610)], None);
        check(&[(53, 1_530), (69, 1_690)], None);
        check(&[(10, 2_000), (60, 1_000)], None);
    }
}
