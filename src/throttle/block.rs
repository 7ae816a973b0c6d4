//! How long `MIGRATE` holds a source, from what we see of it and from what the source itself counts.

use std::time::Duration;

use crate::cluster::CallCount;

/// The block of one call, estimated.
///
/// What we see of a call is its block, the network between us and the source, and the time that our own process waits for
/// a processor. The source counts the block alone, but over all calls. So the last of its counts tells which part of what
/// we saw was block, and that part is taken of each call until the next count.
#[derive(Clone, Debug)]
pub(super) struct BlockEstimate {
    part: f64,
    seen: CallCount,
    counted: Option<CallCount>,
    mean: Option<Duration>,
}

impl BlockEstimate {
    /// Nothing is known but what is seen of each call.
    pub(super) fn new() -> Self {
        Self { part: 1.0, seen: CallCount::default(), counted: None, mean: None }
    }

    /// The block of a call that took so long as we saw it, less the time of an empty one.
    pub(super) fn of_call(&mut self, took: Duration) -> Duration {
        self.seen.calls += 1;
        self.seen.time += took;
        took.mul_f64(self.part)
    }

    /// The source's counters, asked for after the last call was answered.
    pub(super) fn on_count(&mut self, now: CallCount) {
        let seen = std::mem::take(&mut self.seen);
        let Some(before) = self.counted.replace(now) else { return };
        // They begin anew with `CONFIG RESETSTAT`.
        let calls = now.calls.saturating_sub(before.calls);
        let time = now.time.saturating_sub(before.time);
        let Some(mean) = u32::try_from(calls).ok().and_then(|calls| time.checked_div(calls)) else { return };
        self.mean = Some(mean);
        if seen.calls > 0 && !seen.time.is_zero() {
            // Ours are nearly always all of them. A part above one: the round trip was timed while all was busy.
            self.part = (mean.as_secs_f64() * seen.calls as f64 / seen.time.as_secs_f64()).clamp(0.05, 20.0);
        }
    }

    /// With what it has learnt, before the counts of another move's calls.
    pub(super) fn uncounted(self) -> Self {
        Self { seen: CallCount::default(), counted: None, ..self }
    }

    /// The mean block of the calls between the last two counts.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn before_two_counts_a_block_is_what_was_seen() {
        let mut block = BlockEstimate::new();
        block.on_count(CallCount { calls: 100, time: ms(500) });
        assert_eq!((block.of_call(ms(5)), block.mean()), (ms(5), None));
    }

    #[test]
    fn after_two_counts_it_is_the_part_that_the_source_counts() {
        let mut block = BlockEstimate::new();
        block.on_count(CallCount { calls: 100, time: ms(500) });
        block.of_call(ms(4));
        block.of_call(ms(4));
        block.on_count(CallCount { calls: 102, time: ms(504) });
        assert_eq!((block.mean(), block.of_call(ms(8))), (Some(ms(2)), ms(4)));
    }

    #[test]
    fn the_next_move_goes_on_with_the_part_and_counts_anew() {
        let mut block = BlockEstimate::new();
        for (calls, time) in [(100, 500), (101, 502)] {
            block.on_count(CallCount { calls, time: ms(time) });
            block.of_call(ms(4));
        }
        let mut next = block.uncounted();
        assert_eq!((next.mean(), next.of_call(ms(8))), (Some(ms(2)), ms(4)));
        next.on_count(CallCount { calls: 900, time: ms(9_000) });
        assert_eq!(next.of_call(ms(8)), ms(4), "what was between the moves is nothing of theirs");
    }

    #[test]
    fn counters_that_began_anew_or_stood_still_teach_nothing() {
        let mut block = BlockEstimate::new();
        for (calls, time) in [(100, 500), (3, 1), (3, 1)] {
            block.on_count(CallCount { calls, time: ms(time) });
            assert_eq!(block.of_call(ms(4)), ms(4));
        }
    }
}
