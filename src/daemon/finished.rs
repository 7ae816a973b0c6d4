//! Slots that a running move has finished, and which of them a look may still show where they were.

use tokio::time::Instant;

use crate::cluster::SlotSet;

/// What one move has finished, and when.
#[derive(Debug, Default)]
pub(super) struct Finished {
    slots: SlotSet,
    /// Those that the last look may not have seen.
    lately: Vec<(SlotSet, Instant)>,
}

impl Finished {
    /// These were finished now.
    pub(super) fn add(&mut self, slots: &SlotSet, now: Instant) {
        self.slots = self.slots.union(slots);
        self.lately.push((slots.clone(), now));
    }

    /// A look that began then has come.
    pub(super) fn on_look(&mut self, began: Instant) {
        self.lately.retain(|(_, at)| *at >= began);
    }

    /// All of them.
    pub(super) fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// Those that the last look shows at their new owner.
    pub(super) fn seen(&self) -> SlotSet {
        self.lately.iter().fold(self.slots.clone(), |seen, (slots, _)| seen.difference(slots))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_finished_is_seen_by_a_look_that_began_later() {
        let at = Instant::now();
        let (sooner, later) = (at - Duration::from_millis(1), at + Duration::from_millis(1));
        let mut finished = Finished::default();
        finished.add(&"1-3".parse().unwrap(), at);
        finished.on_look(sooner);
        assert_eq!((finished.slots().len(), finished.seen()), (3, SlotSet::new()), "a look that began before");
        finished.on_look(later);
        finished.add(&"4".parse().unwrap(), later);
        assert_eq!((finished.slots().len(), finished.seen()), (4, "1-3".parse().unwrap()), "finished after it");
    }
}
