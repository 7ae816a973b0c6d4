//! How fast a source may move keys: how many of them one `MIGRATE` carries, and how long the source rests between two.

use std::fmt;
use std::time::Duration;

use super::block::BlockEstimate;
use super::cost::Cost;
use crate::cluster::CallCount;

/// Keys of the first call: about 0.5 ms of the source for small keys (measured on Redis 7.0 and Valkey 9.1).
const FIRST: usize = 100;
/// Never fewer, …
const FLOOR: usize = 10;
/// … nor so few that they take less than this part of what the call costs without them: fewer would hold the source hardly
/// shorter, and all the more often.
const WORTH_A_CALL: f64 = 0.5;
/// Calls that are judged together. A single one that took long on a busy machine is no measure of the next.
const WINDOW: usize = 10;
/// Of these so many may take longer than twice the budget: one in ten.
const SLOWER: usize = 1;
/// At the smallest batch it is the network that takes too long where an empty call takes at least this part of the time of
/// those that were made, the larger one; else it is the keys.
const NETWORKS_PART: f64 = 0.5;
/// One call that takes so many times as long as it may is heeded at once.
const FAR_BEYOND: u32 = 8;
/// What the batch grows by: half of it, or a twentieth near the batch that was too big last, …
const GROWTH: usize = 2;
const CAREFUL_GROWTH: usize = 20;
/// … until so many judgements found nothing amiss: what slowed the source down may be over.
const FORGET_AFTER: u32 = 20;
/// The least and the most times as long as expected that heavy keys are taken to need, and the part of each call's factor
/// that is heeded.
const FACTORS: (f64, f64) = (0.1, 10.0);
const HEEDED: f64 = 0.1;
/// The shortest rest, and the longest.
const RESTS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Figures of clients that do not wait, before a source makes calls beside those of others again: ten seconds of them; twice
/// as many each time that clients wait then, and at most so many.
const QUIET: (u32, u32) = (50, 1_500);

/// How much a source and its target may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// By one call, in the mean; nine in ten may take up to twice as long.
    pub block: Duration,
    /// How long another client may wait for an answer meanwhile, the network not counted.
    pub latency: Duration,
    /// The most keys of one call.
    pub keys: usize,
}

/// What keeps a source from moving faster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// Nothing yet: the batch grows, where slots have enough keys for bigger ones.
    #[default]
    Growing,
    /// The most keys of one call.
    Keys,
    /// How long one call may hold the source.
    Block,
    /// How long other clients wait for an answer.
    Latency,
    /// Even the smallest call takes longer than it may, for the source waits for the network: fewer keys change little.
    Network,
    /// Calls of other moves, which this one's take turns with for the sake of clients.
    Turns,
    /// The keys, bytes or slots a second that the configuration allows.
    Rate,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 7] =
        [Self::Growing, Self::Keys, Self::Block, Self::Latency, Self::Network, Self::Turns, Self::Rate];

    /// Its name in metrics, on the page and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Keys => "keys",
            Self::Block => "block",
            Self::Latency => "latency",
            Self::Network => "network",
            Self::Turns => "turns",
            Self::Rate => "rate",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The pace of one source, learnt from its calls and from what other clients feel.
///
/// The batch grows while calls stay within the budget in the mean, and nine in ten of them within twice the budget; else it
/// shrinks in proportion. Near the size that was too big last it grows slowly. When clients wait too long, sources take
/// turns; if that does not help, calls that are long themselves are halved, and where they are not the source rests between
/// them.
#[derive(Clone, Debug)]
pub struct Pace {
    budget: Budget,
    keys: usize,
    /// The batch that was too big last, and how many judgements found nothing amiss since.
    too_big: Option<(usize, u32)>,
    /// Keys and blocks of the calls since the last judgement.
    window: Vec<(usize, Duration)>,
    block: BlockEstimate,
    cost: Cost,
    heavy_factor: f64,
    rest: Duration,
    /// Clients wait too long, as they last said.
    crowded: bool,
    /// The batch was halved because of that.
    halving: bool,
    /// Figures until the source may make calls beside those of others; none: it may.
    quiet_in: u32,
    /// How many it will be the next time.
    quiet: u32,
    /// As far as calls tell.
    limit: Limit,
}

impl Pace {
    /// A pace that has learnt nothing yet.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let budget = Budget { keys: budget.keys.max(1), ..budget };
        Self {
            budget,
            keys: FIRST.min(budget.keys),
            too_big: None,
            window: Vec::with_capacity(WINDOW),
            block: BlockEstimate::new(),
            cost: Cost::default(),
            heavy_factor: 1.0,
            rest: Duration::ZERO,
            crowded: false,
            halving: false,
            quiet_in: QUIET.0,
            quiet: QUIET.0,
            limit: Limit::Growing,
        }
    }

    /// What the next move of the source goes on with, where that is under the same budget; what was learnt of a connection to
    /// a target is of use only for the same one. Whether clients wait is for that move to see.
    #[must_use]
    pub fn for_the_next_move(self, budget: Budget, same_target: bool) -> Self {
        let new = Self::new(budget);
        if new.budget != self.budget {
            return new;
        }
        let block = self.block.uncounted();
        if same_target {
            let Self { keys, too_big, window, cost, heavy_factor, limit, .. } = self;
            Self { keys, too_big, window, block, cost, heavy_factor, limit, ..new }
        } else {
            let Self { keys, too_big, heavy_factor, .. } = self;
            Self { keys: keys.min(new.keys), too_big, block, heavy_factor, ..new }
        }
    }

    /// What it keeps to.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// The most keys of the next call: at least one.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// How long the source rests before the next call.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.rest
    }

    /// Whether its calls are to be made one after the other with those of all other sources whose clients might wait, for they
    /// may share what nobody knows of. It is so at first, and from when clients wait on.
    #[must_use]
    pub fn takes_turns(&self) -> bool {
        self.quiet_in > 0
    }

    /// What keeps the source from moving faster.
    #[must_use]
    pub fn limit(&self) -> Limit {
        if self.crowded || !self.rest.is_zero() { Limit::Latency } else { self.limit }
    }

    /// How long a call held the source of late, by the source's own count; `None` before that was asked for.
    #[must_use]
    pub fn block(&self) -> Option<Duration> {
        self.block.mean()
    }

    /// Learns from one call: how many keys it carried, and how long it took as we saw it, less the time of an empty one.
    pub fn on_call(&mut self, keys: usize, took: Duration) {
        let block = self.block.of_call(took);
        if keys == 0 {
            return;
        }
        self.cost.on_call(keys, block);
        self.window.push((keys, block));
        if block > self.budget.block * FAR_BEYOND || self.window.len() == WINDOW {
            self.judge();
        }
    }

    /// Learns from a call whose heavy keys were expected to hold the source for so long.
    pub fn on_heavy_call(&mut self, expected: Duration, took: Duration) {
        let block = self.block.of_call(took);
        let factor = block.as_secs_f64() / expected.as_secs_f64().max(1e-6);
        self.heavy_factor += (factor.clamp(FACTORS.0, FACTORS.1) - self.heavy_factor) * HEEDED;
    }

    /// So many times as long as expected heavy keys take here.
    #[must_use]
    pub fn heavy_factor(&self) -> f64 {
        self.heavy_factor
    }

    /// The source's own counters, asked for after a call was answered.
    pub fn on_count(&mut self, count: CallCount) {
        self.block.on_count(count);
    }

    /// How long other clients of the source or the target have waited of late; `None` where nobody knows, or there are none.
    pub fn on_latency(&mut self, latency: Option<Duration>) {
        self.crowded = latency.is_some_and(|latency| latency > self.budget.latency);
        if !self.crowded {
            self.halving = false;
            self.quiet_in = self.quiet_in.saturating_sub(latency.is_some().into());
            self.rest = if self.rest > RESTS.0 { self.rest / 2 } else { Duration::ZERO };
            return;
        }
        if !self.takes_turns() {
            self.quiet = (self.quiet * 2).min(QUIET.1);
            self.quiet_in = self.quiet;
            return;
        }
        self.quiet_in = self.quiet;
        // Where the calls are short beside what clients may wait, it is not their length that keeps clients waiting.
        let is_long = self.block.mean().is_none_or(|block| block > self.budget.latency / 2);
        if is_long && self.keys > self.floor() {
            if !std::mem::replace(&mut self.halving, true) {
                self.too_big = Some((self.keys, 0));
            }
            self.keys = (self.keys / 2).max(self.floor());
        } else {
            self.rest = (self.rest * 2).clamp(RESTS.0, RESTS.1);
        }
    }

    fn floor(&self) -> usize {
        let worth_it = self.cost.keys_worth_a_call().unwrap_or_default() * WORTH_A_CALL;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
        let floor = FLOOR.max(worth_it as usize);
        floor.min(self.budget.keys)
    }

    fn judge(&mut self) {
        let mut window = std::mem::take(&mut self.window);
        window.sort_unstable_by_key(|&(_, block)| block);
        let (calls, budget) = (window.len(), self.budget.block.as_secs_f64());
        // Where one call was far beyond the budget it is that one that counts, else the one that nine in ten do not exceed.
        let slow = window.iter().rev().nth(if calls < WINDOW { 0 } else { SLOWER });
        let slow = slow.map_or(0.0, |(_, block)| block.as_secs_f64() / 2.0);
        let all: Duration = window.iter().map(|(_, block)| block).sum();
        let excess = slow.max(all.as_secs_f64() / calls.max(1) as f64) / budget;
        let most = window.iter().map(|&(keys, _)| keys).max().unwrap_or_default();
        if excess > 1.0 {
            self.shrink(most, excess);
        } else if !self.crowded && window.iter().filter(|&&(keys, _)| keys >= self.keys).count() * 2 >= calls {
            // Short calls say nothing about longer ones.
            self.grow();
        }
        window.clear();
        self.window = window;
    }

    /// Calls of so many keys took so many times as long as they may.
    fn shrink(&mut self, keys: usize, excess: f64) {
        let floor = self.floor();
        if self.keys <= floor {
            self.keys = floor.min(grown(self.keys, GROWTH));
            let is_network = self.cost.part_of_an_empty_call().is_some_and(|part| part >= NETWORKS_PART);
            self.limit = if is_network { Limit::Network } else { Limit::Block };
            return;
        }
        self.limit = Limit::Block;
        self.too_big = Some((keys, 0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and `keys`")]
        let shrunk = ((keys as f64 / excess) as usize).max(self.keys / 2);
        self.keys = shrunk.clamp(floor, self.keys.max(floor));
    }

    fn grow(&mut self) {
        let fast = grown(self.keys, GROWTH);
        if self.keys < self.floor() {
            // Whatever was too big, that much is worth a call.
            self.keys = fast.min(self.floor());
            return;
        }
        let (grown, careful) = match &mut self.too_big {
            Some((too_big, _)) if fast < *too_big => (fast, true),
            Some((_, good)) if *good < FORGET_AFTER => {
                *good += 1;
                (grown(self.keys, CAREFUL_GROWTH), true)
            }
            Some(_) | None => (fast, false),
        };
        if !careful {
            self.too_big = None;
        }
        self.keys = grown.min(self.budget.keys);
        self.limit = match (self.keys == self.budget.keys, careful) {
            (true, _) => Limit::Keys,
            (false, true) => Limit::Block,
            (false, false) => Limit::Growing,
        };
    }
}

/// So many keys, and that part of them more.
fn grown(keys: usize, part: usize) -> usize {
    keys + (keys / part).max(1)
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn pace(keys: usize) -> Pace {
        let [block, latency] = [2, 10].map(Duration::from_millis);
        Pace::new(Budget { block, latency, keys })
    }

    /// So many windows of calls, each with so many keys and of so many microseconds.
    fn after(windows: &[(usize, u64)]) -> (usize, Limit) {
        let mut pace = pace(1_000);
        for &(keys, micros) in windows {
            call(&mut pace, keys, micros);
        }
        (pace.keys(), pace.limit())
    }

    /// Calls that are all alike, and tell nothing of what is the network's part of them.
    fn call(pace: &mut Pace, keys: usize, micros: u64) {
        for _ in 0..WINDOW {
            pace.cost = Cost::default();
            pace.on_call(keys, Duration::from_micros(micros));
        }
    }

    #[test]
    fn the_batch_grows_while_calls_are_short_and_shrinks_in_proportion_to_how_long_they_are() {
        assert_eq!(after(&[]), (100, Limit::Growing));
        assert_eq!(after(&[(100, 500), (150, 600)]), (225, Limit::Growing));
        assert_eq!(after(&[(30, 100)]).0, 100, "short calls say nothing about longer ones");
        assert_eq!(after(&[(100, 2_500)]), (80, Limit::Block));
        assert_eq!(after(&[(1_000, 1); 99]), (1_000, Limit::Keys), "never above the limit");
    }

    #[test]
    fn one_slow_call_in_ten_is_no_measure_unless_it_is_far_beyond_the_budget() {
        let mut pace = pace(1_000);
        for micros in [100, 15_000, 100, 100, 100, 100, 100, 100, 100, 100] {
            pace.on_call(100, Duration::from_micros(micros));
        }
        assert_eq!(pace.keys(), 150);
        for micros in [100, 15_000, 7_000, 100, 100, 100, 100, 100, 100, 100] {
            pace.on_call(150, Duration::from_micros(micros));
        }
        assert_eq!(pace.keys(), 85, "two in ten beyond twice the budget, by the second's share");
        pace.on_call(3, Duration::from_secs(1));
        assert_eq!(pace.keys(), 42, "half at the most");
    }

    #[test]
    fn on_a_slow_network_calls_are_not_made_smaller_than_is_worth_it() {
        let check = |fixed_us: u64, per_key_us: u64, expect: (RangeInclusive<usize>, Limit)| {
            let mut pace = pace(1_000);
            for at in 0..600 {
                // The last call for a slot carries what is left of it.
                let keys = if at % 2 == 0 { pace.keys() } else { pace.keys() / 3 };
                pace.on_call(keys, Duration::from_micros(fixed_us + per_key_us * keys as u64));
            }
            assert!(expect.0.contains(&pace.keys()) && pace.limit() == expect.1, "{} {}", pace.keys(), pace.limit());
        };
        // The budget is 2 ms, for the mean.
        check(100, 20, (100..=150, Limit::Block));
        check(1_900, 20, (40..=60, Limit::Network));
        check(3_000, 20, (70..=80, Limit::Network));
        check(9_000, 20, (220..=230, Limit::Network));
    }

    #[test]
    fn on_a_slow_and_busy_network_slots_of_few_keys_are_not_moved_in_parts() {
        const SLOTS: usize = 3_000;
        let mut pace = pace(1_000);
        let mut drawn = 1u64;
        let mut by_chance = |below: u64| {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (drawn >> 33) % below
        };
        let mut calls = 0;
        for _ in 0..SLOTS {
            // As keys fall into slots: 61, eight more or less.
            let mut left = 48 + usize::try_from(by_chance(27)).expect("below 27");
            while left > 0 {
                let keys = left.min(pace.keys());
                let delay = by_chance(4_000) * by_chance(4_000) / 1_000;
                pace.on_call(keys, Duration::from_micros(1_900 + 8 * keys as u64 + delay));
                (left, calls) = (left - keys, calls + 1);
            }
        }
        assert!(calls < SLOTS + SLOTS / 20, "{calls} calls");
    }

    #[test]
    fn at_its_floor_a_call_that_takes_too_long_without_its_keys_is_the_networks_affair() {
        let far = [(100, 4_000), (50, 4_000), (25, 4_000), (12, 4_000)];
        let mut pace = pace(1_000);
        for (at, (keys, micros)) in far.into_iter().enumerate() {
            assert!(at == 0 || pace.limit() == Limit::Block);
            call(&mut pace, keys, micros);
        }
        call(&mut pace, 10, 3_000);
        assert_eq!((pace.keys(), pace.limit()), (10, Limit::Block), "who knows why?");
        for keys in [5, 10].repeat(WINDOW) {
            pace.on_call(keys, Duration::from_micros(2_900 + 10 * keys as u64));
        }
        assert_eq!(pace.limit(), Limit::Network);
    }

    #[test]
    fn at_its_floor_it_is_the_keys_that_take_too_long_where_an_empty_call_does_not() {
        let mut pace = pace(1_000);
        for at in 0..2_000 {
            // At last all of them are alike.
            let keys = if at < 200 { pace.keys() / (at % 2 + 1) } else { pace.keys() };
            pace.on_call(keys, Duration::from_micros(100 + 500 * keys as u64));
        }
        assert_eq!((pace.keys(), pace.limit()), (FLOOR, Limit::Block));
    }

    #[test]
    fn the_next_move_of_a_source_goes_on_with_what_was_learnt_under_the_same_budget() {
        let mut pace = pace(1_000);
        for windows in [(100, 1_000), (150, 1_000), (225, 3_000)] {
            call(&mut pace, windows.0, windows.1);
        }
        pace.on_heavy_call(Duration::from_millis(1), Duration::from_millis(9));
        let budget = pace.budget();
        let next = |of: &Pace, budget, same_target| of.clone().for_the_next_move(budget, same_target);
        let same = next(&pace, budget, true);
        assert_eq!((same.keys(), same.too_big, same.limit()), (150, Some((225, 0)), Limit::Block));
        let elsewhere = next(&pace, budget, false);
        assert_eq!((elsewhere.keys(), elsewhere.too_big, elsewhere.limit()), (FIRST, Some((225, 0)), Limit::Growing));
        assert!(same.heavy_factor() > 1.0 && elsewhere.heavy_factor() > 1.0);
        let tighter = Budget { block: Duration::from_millis(1), ..budget };
        assert_eq!((next(&pace, tighter, true).keys(), next(&pace, tighter, true).too_big), (FIRST, None));
    }

    #[test]
    fn moves_of_few_calls_are_judged_together_and_none_begins_with_clients_that_wait() {
        let (mut pace, budget) = (pace(1_000), pace(1_000).budget());
        pace.on_latency(Some(Duration::from_millis(11)));
        let shrunk = pace.keys();
        for _ in 0..WINDOW {
            pace = pace.for_the_next_move(budget, true);
            pace.on_call(shrunk, Duration::from_micros(100));
        }
        assert!(pace.keys() > shrunk && pace.takes_turns() && pace.rest().is_zero(), "{pace:?}");
    }

    #[test]
    fn near_the_batch_that_was_too_big_it_grows_carefully_until_that_is_forgotten() {
        let mut pace = pace(10_000);
        call(&mut pace, 200, 4_000);
        let mut sizes = vec![pace.keys()];
        for _ in 0..3 + FORGET_AFTER {
            let keys = pace.keys();
            call(&mut pace, keys, 1_000);
            sizes.push(pace.keys());
        }
        assert_eq!(sizes[..4], [100, 150, 157, 164]);
        let [.., careful, forgotten] = sizes[..] else { panic!("{sizes:?}") };
        assert_eq!(forgotten, careful + careful / 2);
    }

    #[test]
    fn sources_take_turns_until_clients_have_not_waited_for_long_and_for_longer_each_time() {
        let mut pace = pace(1_000);
        let [long, short] = [11, 9].map(|ms| Some(Duration::from_millis(ms)));
        for quiet in [QUIET.0, QUIET.0 * 2, QUIET.0 * 4] {
            for _ in 0..quiet {
                assert!(pace.takes_turns());
                pace.on_latency(None);
                pace.on_latency(short);
            }
            assert!(!pace.takes_turns());
            pace.on_latency(long);
            assert_eq!((pace.keys(), pace.rest()), (100, Duration::ZERO), "that alone may help");
        }
        pace.on_latency(long);
        assert_eq!((pace.keys(), pace.too_big), (50, Some((100, 0))));
    }

    #[test]
    fn clients_that_wait_halve_the_batch_and_then_make_the_source_rest() {
        let mut pace = pace(1_000);
        let [long, short] = [11, 9].map(|ms| Some(Duration::from_millis(ms)));
        let mut seen = Vec::new();
        for latency in [long, long, long, long, long, long, short, short] {
            pace.on_latency(latency);
            seen.push((pace.keys(), pace.rest().as_millis()));
        }
        assert_eq!(seen, [(50, 0), (25, 0), (12, 0), (10, 0), (10, 1), (10, 2), (10, 1), (10, 0)]);
        assert_eq!(pace.limit(), Limit::Growing, "nothing keeps it any more");
        call(&mut pace, 10, 1_000);
        assert_eq!(pace.keys(), 15, "it goes on as before");
    }

    #[test]
    fn heavy_keys_are_taken_for_as_heavy_as_they_prove() {
        let mut pace = pace(1_000);
        let ms = Duration::from_millis;
        for _ in 0..100 {
            pace.on_heavy_call(ms(1), ms(3));
        }
        assert!((2.9..3.1).contains(&pace.heavy_factor()), "{}", pace.heavy_factor());
        pace.on_heavy_call(ms(1), Duration::from_secs(100));
        assert!(pace.heavy_factor() < 4.0, "one call is no measure");
        assert_eq!(pace.keys(), 100, "of others they tell nothing");
    }

    #[test]
    fn where_calls_are_short_it_is_a_rest_that_helps_clients() {
        let mut pace = pace(1_000);
        for calls in [0, 1_000] {
            pace.on_count(CallCount { calls, time: Duration::from_millis(calls) });
        }
        pace.on_latency(Some(Duration::from_millis(11)));
        assert_eq!((pace.keys(), pace.rest(), pace.limit()), (100, RESTS.0, Limit::Latency));
    }

    #[test]
    fn while_clients_wait_the_batch_does_not_grow() {
        let mut pace = pace(1_000);
        pace.on_latency(Some(Duration::from_millis(11)));
        call(&mut pace, 50, 1);
        assert_eq!(pace.keys(), 50);
    }

    #[test]
    fn a_limit_below_the_floor_is_kept() {
        let mut pace = pace(1);
        pace.on_call(1, Duration::from_secs(1));
        pace.on_latency(Some(Duration::from_secs(1)));
        call(&mut pace, 1, 0);
        assert_eq!(pace.keys(), 1);
    }
}
