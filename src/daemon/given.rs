//! Slots that nodes gave away, until every primary knows of it.
//!
//! A primary that does not know yet takes the epoch of such a node's next claim for one of those slots too, and tells their
//! new owner so, which then drops their keys. So a node takes no slot while it is still taken for the owner of one that it gave.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Look;
use crate::cluster::{NodeId, Role, SlotSet};

/// What was given by whom, and when the last of it was.
#[derive(Debug, Default)]
pub(super) struct Given {
    by_node: BTreeMap<NodeId, (SlotSet, Instant)>,
}

impl Given {
    /// These slots were given by this node.
    pub(super) fn add(&mut self, node: NodeId, slots: &SlotSet, now: Instant) {
        let (given, at) = self.by_node.entry(node).or_insert_with(|| (SlotSet::new(), now));
        (*given, *at) = (given.union(slots), now);
    }

    /// Forgets what no primary of this look gives to its former owner any more, and what that one claims itself: it has got it
    /// back, or the move closed it where it was. A primary that does not answer tells nobody anything either.
    pub(super) fn on_look(&mut self, look: &Look) {
        self.by_node.retain(|&node, (given, at)| {
            if *at < look.began {
                let own = look.observation.nodes.get(&node).map(|observed| &observed.view.myself().slots);
                *given = own.map_or_else(|| given.clone(), |own| given.difference(own));
                let views = look.observation.nodes.values().map(|observed| &observed.view);
                let primaries = views.filter(|view| view.myself().role == Role::Primary);
                let still = primaries.filter_map(|view| view.line(node));
                *given = still.fold(SlotSet::new(), |all, line| all.union(&line.slots.intersection(given)));
            }
            !given.is_empty()
        });
    }

    /// Whether some primary may take this node for the owner of slots that it gave.
    pub(super) fn is_unknown_of(&self, node: NodeId) -> bool {
        self.by_node.contains_key(&node)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::fixtures::{id, observation};

    fn look(story: &str, began: Instant) -> Look {
        let observation = observation(story);
        Look { number: 1, observation, mover_calls: BTreeMap::new(), began, ended: began }
    }

    #[test]
    fn what_was_given_is_known_when_no_primary_takes_the_giver_for_the_owner() {
        let mut given = Given::default();
        let at = Instant::now();
        let later = at + Duration::from_secs(1);
        given.add(id("a"), &"5,9".parse().unwrap(), at);
        let everybody = "a 0-4 10-8191\nb 5 9 8192-16383";
        given.on_look(&look(everybody, at - Duration::from_secs(1)));
        assert!(given.is_unknown_of(id("a")), "a look that began before tells nothing");
        given.on_look(&look("a 0-4 10-8191\nb 5 9 8192-16383\nc\nc says a 0-4 9-8191\nc says b 5 8192-16383", later));
        assert!(given.is_unknown_of(id("a")) && !given.is_unknown_of(id("b")));
        given.on_look(&look(everybody, later));
        assert!(!given.is_unknown_of(id("a")));
        given.add(id("a"), &"7".parse().unwrap(), at);
        given.on_look(&look(everybody, later));
        assert!(!given.is_unknown_of(id("a")), "what was closed where it was has not been given");
    }
}
