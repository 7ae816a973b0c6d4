//! Which of the waiting moves may start beside those that run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::NodeId;
use crate::migration::Pair;

/// How much may run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pairs in the whole cluster.
    pub parallel: usize,
    /// Sources that give to one target at a time.
    pub per_target: usize,
}

/// A move that waits, and its weight: keys, and slots where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who gives to whom.
    pub pair: Pair,
    /// How long it will take, in any unit.
    pub weight: u64,
}

/// Chooses what may start beside `running`: indices into `waiting`, in the order in which they start. First goes what the node
/// with the most work waits for, and of that the longest, so that the whole ends soonest.
///
/// A source gives to one target at a time: its processor is what limits it (a second target brought 4 to 12 %,
/// measured). No node gives and takes at once: with two finalises crossing at one node the later epoch wins, and the
/// keys of the other are gone.
#[must_use]
pub fn admit(running: &[Pair], waiting: &[Order], limits: Limits) -> Vec<usize> {
    let mut sources: BTreeSet<NodeId> = running.iter().map(|pair| pair.source).collect();
    let mut targets: BTreeMap<NodeId, usize> = BTreeMap::new();
    for pair in running {
        *targets.entry(pair.target).or_default() += 1;
    }
    let (mut at_sources, mut at_targets) = (BTreeMap::<NodeId, u64>::new(), BTreeMap::<NodeId, u64>::new());
    for Order { pair, weight } in waiting {
        *at_sources.entry(pair.source).or_default() += weight;
        *at_targets.entry(pair.target).or_default() += weight;
    }
    // A target has several sources at a time.
    let busier = |pair: Pair| at_sources[&pair.source].max(at_targets[&pair.target] / limits.per_target.max(1) as u64);
    let mut order: Vec<usize> = (0..waiting.len()).collect();
    order.sort_by_key(|&at| (Reverse(busier(waiting[at].pair)), Reverse(waiting[at].weight), waiting[at].pair));
    let mut start = Vec::new();
    for at in order {
        let Pair { source, target } = waiting[at].pair;
        let taken = targets.get(&target).copied().unwrap_or_default();
        let free = running.len() + start.len() < limits.parallel
            && taken < limits.per_target
            && !sources.contains(&source)
            && !sources.contains(&target)
            && !targets.contains_key(&source);
        if free {
            sources.insert(source);
            targets.insert(target, taken + 1);
            start.push(at);
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    /// `1>4` runs; `2>4:10` waits with weight 10. Gives what starts, in order.
    fn check(running: &str, waiting: &str, parallel: usize, per_target: usize, expect: &str) {
        let pair = |text: &str| {
            let (source, target) = text.split_once('>').unwrap();
            Pair { source: node(source.parse().unwrap()), target: node(target.parse().unwrap()) }
        };
        let running: Vec<Pair> = running.split_whitespace().map(pair).collect();
        let texts: Vec<&str> = waiting.split_whitespace().collect();
        let orders: Vec<Order> = texts
            .iter()
            .map(|text| text.split_once(':').unwrap())
            .map(|(text, weight)| Order { pair: pair(text), weight: weight.parse().unwrap() })
            .collect();
        let started = admit(&running, &orders, Limits { parallel, per_target });
        let started: Vec<&str> = started.into_iter().map(|at| texts[at]).collect();
        assert_eq!(started.join(" "), expect, "{running:?} {waiting}");
    }

    #[test]
    fn the_longest_starts_first_and_each_source_gives_once() {
        check("", "1>4:10 2>4:30 3>5:20", 8, 8, "2>4:30 3>5:20 1>4:10");
        check("", "1>4:10 1>5:30", 8, 8, "1>5:30");
        check("1>4", "1>5:30 2>5:1", 8, 8, "2>5:1");
    }

    #[test]
    fn the_node_with_the_most_work_comes_first() {
        check("", "1>4:15 2>5:10 2>6:10 2>7:10", 1, 4, "2>5:10");
        check("", "1>5:15 2>4:10 3>4:10", 1, 1, "2>4:10");
        check("", "1>5:15 2>4:10 3>4:10", 1, 2, "1>5:15");
    }

    #[test]
    fn the_caps_hold_with_what_runs_already() {
        check("1>4", "2>4:1 3>4:2", 8, 2, "3>4:2");
        check("1>4", "2>5:1 3>6:2", 2, 2, "3>6:2");
        check("1>4 2>5", "3>6:2", 2, 2, "");
    }

    #[test]
    fn no_node_gives_and_takes_at_once() {
        check("1>4", "4>5:9 2>1:9", 8, 8, "");
        check("", "1>2:9 2>3:8 4>1:7", 8, 8, "1>2:9");
    }
}
