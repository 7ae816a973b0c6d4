//! Slots that were opened at targets, until each target has been seen without their marks.
//!
//! A target that dies keeps its importing marks on disk. On Valkey it takes such a slot when it comes back and hears that the
//! slot's source claims it no more: with a new epoch, by which it gets all that it ever owned. That the slot was closed
//! meanwhile, between the nodes that were left, changes nothing there.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Look;
use crate::cluster::{Marker, NodeId, Observed, PrimaryLink, Role, SlotSet};
use crate::journal::Opened;

/// What was opened where, and when the last of it was.
#[derive(Debug, Default)]
pub(super) struct Imports {
    by_target: BTreeMap<NodeId, (SlotSet, Instant)>,
    /// Targets that have been seen without marks since these were asked for last.
    clear: Vec<NodeId>,
}

impl Imports {
    /// What an earlier process opened: what it recorded as open, and what went on without a node that did not answer.
    pub(super) fn recorded(opened: &[Opened], imports: &BTreeMap<NodeId, SlotSet>, now: Instant) -> Self {
        let mut recorded = Self::default();
        for opened in opened {
            recorded.add(opened.target.node, &opened.slots, now);
        }
        for (&node, slots) in imports {
            recorded.add(node, slots, now);
        }
        recorded
    }

    /// These slots are about to be opened at this target.
    pub(super) fn add(&mut self, target: NodeId, slots: &SlotSet, now: Instant) {
        let (opened, at) = self.by_target.entry(target).or_insert_with(|| (SlotSet::new(), now));
        (*opened, *at) = (opened.union(slots), now);
    }

    /// Forgets what a target is seen to have no mark of, apart from what `open_at` says is open at it still, and targets
    /// that nobody knows any more.
    pub(super) fn on_look(&mut self, look: &Look, open_at: impl Fn(NodeId) -> SlotSet) {
        let nodes = &look.observation.nodes;
        let clear = &mut self.clear;
        self.by_target.retain(|node, (slots, at)| {
            if *at >= look.began {
                return true;
            }
            match nodes.get(node) {
                Some(observed) => *slots = slots.intersection(&marks(observed).union(&open_at(*node))),
                None if !nodes.values().any(|observed| observed.view.line(*node).is_some()) => *slots = SlotSet::new(),
                None => {}
            }
            if slots.is_empty() {
                clear.push(*node);
            }
            !slots.is_empty()
        });
    }

    /// The targets that have been seen without marks, or were forgotten, since this was asked last, and at which nothing has
    /// been opened since.
    pub(super) fn take_clear(&mut self) -> Vec<NodeId> {
        let clear = std::mem::take(&mut self.clear);
        clear.into_iter().filter(|node| !self.by_target.contains_key(node)).collect()
    }

    /// Which nodes that `is_silent` says do not answer may import any of these slots, and which of them.
    pub(super) fn at_silent(&self, slots: &SlotSet, is_silent: impl Fn(NodeId) -> bool) -> BTreeMap<NodeId, SlotSet> {
        let silent = self.by_target.iter().filter(|(node, _)| is_silent(**node));
        let of_each = silent.map(|(&node, (opened, _))| (node, opened.intersection(slots)));
        of_each.filter(|(_, slots)| !slots.is_empty()).collect()
    }

    /// A node other than this target that may have the importing mark of one of these slots.
    pub(super) fn elsewhere(&self, target: NodeId, slots: &SlotSet) -> Option<NodeId> {
        let mut others = self.by_target.iter().filter(|(node, _)| **node != target);
        others.find(|(_, (opened, _))| !opened.intersection(slots).is_empty()).map(|(&node, _)| node)
    }
}

/// The slots that a node may import. One that follows another is told by that one.
fn marks(observed: &Observed) -> SlotSet {
    let myself = observed.view.myself();
    if myself.role != Role::Primary && observed.info.primary_link == Some(PrimaryLink::Up) {
        return SlotSet::new();
    }
    let importing = myself.markers.iter().filter(|marker| matches!(marker, Marker::Importing { .. }));
    importing.map(|marker| marker.slot()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::fixtures::{id, observation};

    /// Opens slot 5 at b and shows the clusters one after the other, the slot open in the first ones; whether it may be
    /// taken by b1 then.
    #[track_caller]
    fn check(stories: &[&str], open_in: usize, expect: Option<&str>) {
        let (mut imports, slots): (_, SlotSet) = (Imports::default(), "5".parse().unwrap());
        let mut began = Instant::now();
        imports.add(id("b"), &slots, began);
        for (number, story) in stories.iter().enumerate() {
            began += Duration::from_secs(1);
            let observation = observation(story);
            let look = Look { number: 1, observation, mover_calls: BTreeMap::new(), began, ended: began };
            imports.on_look(&look, |_| if number < open_in { slots.clone() } else { SlotSet::new() });
        }
        assert_eq!(imports.elsewhere(id("b1"), &slots), expect.map(id), "{stories:#?}");
        assert_eq!(imports.elsewhere(id("b"), &slots), None);
    }

    const OPEN: &str = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]\nb1 of b\nc";
    const DEAD: &str = "a 0-8191\nb silent refused\nb\nb1 8192-16383\nc";

    #[test]
    fn a_target_that_died_with_a_mark_may_have_it_until_it_is_seen_again() {
        check(&[OPEN], 1, Some("b"));
        check(&[OPEN, DEAD, DEAD], 1, Some("b"));
        check(&[OPEN, DEAD, "a 0-6 8-8191\nb 7 [5-<-a]\nb1 8192-16383\nc"], 1, Some("b"));
        check(&[OPEN, DEAD, "a 0-8191\nb of b1\nb1 8192-16383\nc"], 1, None);
        check(&[OPEN, DEAD, "a 0-8191\nb\nb1 8192-16383\nc"], 1, None);
        check(&[OPEN, DEAD, "a 0-8191\nb1 8192-16383\nc"], 1, None);
    }

    #[test]
    fn what_silent_targets_may_import_outlasts_the_process() {
        let (slots, now): (SlotSet, _) = ("4-5".parse().unwrap(), Instant::now());
        let earlier = BTreeMap::from([(id("b"), "5-9".parse().unwrap())]);
        let mut imports = Imports::recorded(&[], &earlier, now);
        assert_eq!(imports.elsewhere(id("b1"), &slots), Some(id("b")));
        let at = |silent: &str| imports.at_silent(&slots, |node| node == id(silent));
        assert_eq!(at("b"), BTreeMap::from([(id("b"), "5".parse().unwrap())]));
        assert_eq!(at("c"), BTreeMap::new());

        let began = now + Duration::from_secs(1);
        let mut see = |story: &str| {
            let observation = observation(story);
            let look = Look { number: 1, observation, mover_calls: BTreeMap::new(), began, ended: began };
            imports.on_look(&look, |_| SlotSet::new());
            imports.take_clear()
        };
        assert_eq!(see(DEAD), []);
        assert_eq!(see("a 0-8191\nb\nb1 8192-16383\nc"), [id("b")]);
        assert_eq!(see("a 0-8191\nb\nb1 8192-16383\nc"), [], "it is told once");

        let mut again = Imports::recorded(&[], &earlier, now);
        let observation = observation("a 0-8191\nb\nb1 8192-16383\nc");
        again.on_look(&Look { number: 1, observation, mover_calls: BTreeMap::new(), began, ended: began }, |_| {
            SlotSet::new()
        });
        again.add(id("b"), &slots, began);
        assert_eq!(again.take_clear(), [], "something was opened there since");
    }

    #[test]
    fn what_is_open_is_kept_before_its_mark_is_seen() {
        let before = "a 0-8191\nb 8192-16383\nb1 of b\nc";
        check(&[before, DEAD], 2, Some("b"));
        check(&[before], 0, None);
    }
}
