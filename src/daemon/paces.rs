//! What was learnt of the pace of each source, for its next move.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::NodeId;
use crate::throttle::{Budget, Pace};

/// How long after a move what it has learnt is true of the next: data, clients and neighbours change.
const GOOD_FOR: Duration = Duration::from_mins(10);

/// The paces of sources whose moves have ended.
#[derive(Debug, Default)]
pub(super) struct Paces(BTreeMap<NodeId, (Pace, Instant)>);

impl Paces {
    /// A move from this source has ended with this pace.
    pub(super) fn learn(&mut self, source: NodeId, pace: Pace, now: Instant) {
        self.0.retain(|_, (_, at)| now.saturating_duration_since(*at) < GOOD_FOR);
        self.0.insert(source, (pace, now));
    }

    /// What a move from this source begins with.
    pub(super) fn of(&self, source: NodeId, budget: Budget, now: Instant) -> Pace {
        let learnt = self.0.get(&source).filter(|(_, at)| now.saturating_duration_since(*at) < GOOD_FOR);
        learnt.map_or_else(|| Pace::new(budget), |(pace, _)| pace.clone().next(budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::id;

    #[test]
    fn a_source_goes_on_with_the_pace_of_its_last_move_for_some_time() {
        let budget = Budget { block: Duration::from_millis(2), latency: Duration::from_millis(5), keys: 1_000 };
        let (mut paces, at) = (Paces::default(), Instant::now());
        let new = paces.of(id("a"), budget, at);
        let mut learnt = new.clone();
        learnt.on_call(new.keys(), Duration::from_secs(1));
        assert!(learnt.keys() < new.keys());
        paces.learn(id("a"), learnt.clone(), at);
        let keys = |source, after: Duration| paces.of(id(source), budget, at + after).keys();
        assert_eq!(keys("a", GOOD_FOR / 2), learnt.keys());
        assert_eq!([keys("b", Duration::ZERO), keys("a", GOOD_FOR)], [new.keys(); 2]);
    }
}
