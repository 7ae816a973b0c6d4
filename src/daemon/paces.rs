//! What was learnt of the pace of each source, for its next move.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::NodeId;
use crate::migration::Pair;
use crate::throttle::{Budget, Pace};

/// How long after a move what it has learnt is taken to be true of the next: data, clients and neighbours change.
const GOOD_FOR: Duration = Duration::from_mins(10);

/// The paces of moves that have ended, by their sources.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<NodeId, Learnt>);

/// How fast a source was, to this target, at the end of its last move.
#[derive(Debug)]
struct Learnt {
    target: NodeId,
    pace: Pace,
    at: Instant,
}

impl Paces {
    /// A move has ended with this pace.
    pub(super) fn learn(&mut self, Pair { source, target }: Pair, pace: Pace, now: Instant) {
        self.0.retain(|_, learnt| learnt.is_good(now));
        self.0.insert(source, Learnt { target, pace, at: now });
    }

    /// What a move begins with.
    pub(super) fn of(&self, Pair { source, target }: Pair, budget: Budget, now: Instant) -> Pace {
        let learnt = self.0.get(&source).filter(|learnt| learnt.is_good(now));
        learnt.map_or_else(
            || Pace::new(budget),
            |learnt| learnt.pace.clone().for_the_next_move(budget, learnt.target == target),
        )
    }
}

impl Learnt {
    fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < GOOD_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::id;

    #[test]
    fn a_source_goes_on_with_the_pace_of_its_last_move_for_some_time() {
        let budget = Budget { block: Duration::from_millis(2), latency: Duration::from_millis(5), keys: 1_000 };
        let pair = |source, target| Pair { source: id(source), target: id(target) };
        let (mut paces, at) = (Paces::default(), Instant::now());
        let new = paces.of(pair("a", "b"), budget, at);
        let mut learnt = new.clone();
        while learnt.keys() == new.keys() {
            learnt.on_call(new.keys(), Duration::from_micros(1));
        }
        paces.learn(pair("a", "b"), learnt.clone(), at);
        let keys = |of, after| paces.of(of, budget, at + after).keys();
        assert_eq!(keys(pair("a", "b"), GOOD_FOR / 2), learnt.keys());
        let others = [(pair("b", "a"), Duration::ZERO), (pair("a", "c"), Duration::ZERO), (pair("a", "b"), GOOD_FOR)];
        assert_eq!(others.map(|(of, after)| keys(of, after)), [new.keys(); 3]);
    }
}
