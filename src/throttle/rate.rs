//! So much a second, for those who want a plain limit.

use std::time::Duration;

/// What may be used at once after a time of rest, as a time at the full rate.
const BURST: Duration = Duration::from_millis(100);

/// A rate that is kept on average: who takes more than is there is served, and whoever comes next waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    per_second: f64,
    /// When all that was taken will have been used up.
    free_at: Duration,
}

impl Rate {
    /// So much a second; at least one.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1) as f64, free_at: Duration::ZERO }
    }

    /// Takes an amount at a time, counted from any fixed moment; says how long to wait before it is used.
    #[must_use]
    pub fn take(&mut self, amount: u64, now: Duration) -> Duration {
        let begins = self.free_at.max(now.saturating_sub(BURST));
        let lasts = Duration::try_from_secs_f64(amount as f64 / self.per_second).unwrap_or(Duration::MAX);
        self.free_at = begins.saturating_add(lasts);
        begins.saturating_sub(now)
    }

    /// What a single step should take at the most, so that the rate is kept evenly; at least one.
    #[must_use]
    pub fn at_once(&self) -> usize {
        self.within(BURST)
    }

    /// What it lets through in so much time; at least one.
    #[must_use]
    pub fn within(&self, time: Duration) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
        let within = (self.per_second * time.as_secs_f64()) as usize;
        within.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_on_average_by_all_who_take() {
        let mut rate = Rate::new(1_000);
        let ms = Duration::from_millis;
        let mut now = ms(50_000);
        let mut waited = Vec::new();
        for amount in [100, 500, 1, 0, 100] {
            let wait = rate.take(amount, now);
            waited.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waited, [0, 0, 500, 1, 0]);
        assert_eq!(rate.take(1, now + ms(10_000)), Duration::ZERO, "rest brings a burst, and no more");
        assert_eq!(rate.at_once(), 100);
        assert_eq!((Rate::new(3).at_once(), Rate::new(3).within(ms(5_000))), (1, 15));
    }

    #[test]
    fn an_amount_beyond_all_measure_is_no_panic() {
        let mut rate = Rate::new(0);
        assert_eq!(rate.take(u64::MAX, Duration::from_secs(1)), Duration::ZERO);
        assert!(rate.take(1, Duration::from_secs(1)) > Duration::from_hours(24));
    }
}
