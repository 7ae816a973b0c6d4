//! How long clients of a node wait for an answer, from one client's calls.

use std::time::Duration;

/// Calls that make one figure.
const WINDOW: usize = 20;
/// The figure is what all but so many of them took at the most: nineteen in twenty.
const SLOWER: usize = 1;

/// Gathers the times of calls that are made at equal distances, and makes a figure of each twenty: what nineteen in
/// twenty of them took at the most, less the shortest ever, which is the network's part.
#[derive(Clone, Debug)]
pub struct Latency {
    every: Duration,
    shortest: Duration,
    window: Vec<Duration>,
}

impl Latency {
    /// Of calls that are made this often.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every, shortest: Duration::MAX, window: Vec::with_capacity(WINDOW) }
    }

    /// One call took so long. Gives the figure when the window is full.
    ///
    /// A call that took longer than the distance between two stands for those that could not be made meanwhile, too: each
    /// of them would have waited for the rest of that time.
    pub fn on_call(&mut self, took: Duration) -> Option<Duration> {
        self.shortest = self.shortest.min(took);
        let mut waited = took;
        loop {
            self.window.push(waited.saturating_sub(self.shortest));
            match waited.checked_sub(self.every) {
                Some(rest) if !rest.is_zero() && self.window.len() < WINDOW => waited = rest,
                Some(_) | None => break,
            }
        }
        if self.window.len() < WINDOW {
            return None;
        }
        self.window.sort_unstable();
        let figure = self.window[WINDOW - 1 - SLOWER];
        self.window.clear();
        Some(figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(calls: impl IntoIterator<Item = u64>) -> Vec<u128> {
        let mut latency = Latency::new(Duration::from_millis(10));
        let figures = calls.into_iter().filter_map(|ms| latency.on_call(Duration::from_millis(ms)));
        figures.map(|figure| figure.as_millis()).collect()
    }

    #[test]
    fn nineteen_in_twenty_calls_took_no_longer_and_the_network_does_not_count() {
        assert_eq!(figures([1; 40]), [0, 0]);
        assert_eq!(figures([[1; 19].as_slice(), &[9]].concat()), [0], "one of twenty is an exception");
        assert_eq!(figures([[3; 18].as_slice(), &[9; 2]].concat()), [6]);
        assert_eq!(figures([5; 19]), []);
    }

    #[test]
    fn one_long_call_stands_for_those_that_it_kept_from_being_made() {
        // 100 ms: as if ten calls had waited 100, 90, 80, … 10.
        assert_eq!(figures([[1; 10].as_slice(), &[100]].concat()), [89]);
        assert_eq!(figures([1, 1_000]), [989], "and makes a figure at once when it was long enough");
    }
}
