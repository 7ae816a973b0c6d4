//! Whose move an open slot is: from which primary to which, whatever failovers have come between.

use std::collections::BTreeSet;

use super::lineage::Lineage;
use crate::cluster::{NodeId, OpenSlot, Slot, Topology};
use crate::migration::{Pair, Predecessors};

/// The one story that an open slot's marks tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    /// Between whom the slot goes on.
    pub(super) pair: Pair,
    /// Nodes that its marks name and that have been replaced.
    pub(super) before: Predecessors,
}

/// A slot without any mark, as a move that is on record may have to be gone on with.
pub(super) fn unmarked(slot: Slot, topology: &Topology) -> OpenSlot {
    let owner = topology.owner(slot);
    OpenSlot { slot, owner, claimants: Vec::new(), migrating: Vec::new(), importing: Vec::new() }
}

/// Whose move the slot is; `None` when its marks (and the record, if it is ours) tell more stories than one, or one that
/// its owner has no part in, unless it is known how that came about.
pub(super) fn whose(open: &OpenSlot, recorded: Option<Pair>, topology: &Topology, lineage: &Lineage) -> Option<Whose> {
    let named_sources = open.migrating.iter().map(|&(at, _)| at).chain(open.importing.iter().map(|&(_, from)| from));
    let named_targets = open.migrating.iter().map(|&(_, to)| to).chain(open.importing.iter().map(|&(at, _)| at));
    let sources: BTreeSet<NodeId> = named_sources.chain(recorded.map(|pair| pair.source)).collect();
    let targets: BTreeSet<NodeId> = named_targets.chain(recorded.map(|pair| pair.target)).collect();
    let claimed = || match open.claimants.as_slice() {
        [claimant] => Some(*claimant),
        _ => None,
    };
    let owner = open.owner.or_else(claimed)?;
    let (source, target) = (the_one(&sources, topology, lineage), the_one(&targets, topology, lineage));
    // Who imports the slot on Redis does not hear of its owner, and so not all may agree about that.
    let is_kin = |node: &NodeId| lineage.were_one_shard(owner, *node);
    let was_target = claimed() == Some(owner) && targets.iter().any(is_kin);
    let was_source = claimed() == Some(owner) && sources.iter().all(|node| *node == owner || is_kin(node));
    let pair = match (source, target, open.importing.as_slice()) {
        (Some(source), Some(target), _) if owner == source || owner == target => Pair { source, target },
        // A source that hears late of its failover, when its successor has got other slots too, stays a primary without any
        // where `cluster-allow-replica-migration` is off.
        (_, Some(target), _) if was_source && target != owner => Pair { source: owner, target },
        // A target that froze under the finalise woke when its replica had been promoted, and took the slot. First the
        // source is told who the owner is.
        (Some(source), _, _) if was_target && recorded.is_some() => Pair { source, target: owner },
        // One that woke with other slots is a primary beside its successor, and has its mark of this one still. Clients go
        // where the source's mark sends them.
        (Some(source), None, _) if owner == source => {
            Pair { source, target: sent_to(open, source, &targets, lineage)? }
        }
        // Then what is left of that move is the mark of the promoted replica, which may hold keys; it may be on record
        // by now that the slot goes there.
        (_, _, &[(at, _)])
            if was_target
                && open.migrating.is_empty()
                && recorded.is_none_or(|pair| pair == Pair { source: owner, target: at }) =>
        {
            Pair { source: owner, target: at }
        }
        _ => return None,
    };
    let known = topology.shards.contains_key(&pair.source) && topology.shards.contains_key(&pair.target);
    if !known || pair.source == pair.target {
        return None;
    }
    let others = |nodes: BTreeSet<NodeId>, now: NodeId| nodes.into_iter().filter(|node| *node != now).collect();
    let before = Predecessors { source: others(sources, pair.source), target: others(targets, pair.target) };
    Some(Whose { pair, before })
}

/// The primary that has the part of all these nodes now, if it is one.
fn the_one(nodes: &BTreeSet<NodeId>, topology: &Topology, lineage: &Lineage) -> Option<NodeId> {
    let now: BTreeSet<NodeId> = nodes.iter().map(|&node| lineage.successor(node, topology)).collect();
    match (now.first(), now.len()) {
        (Some(node), 1) => Some(*node),
        (Some(_) | None, _) => None,
    }
}

/// Whom the source's mark names, if all these nodes have been of that one's shard.
fn sent_to(open: &OpenSlot, source: NodeId, targets: &BTreeSet<NodeId>, lineage: &Lineage) -> Option<NodeId> {
    let &(_, to) = open.migrating.iter().find(|(at, _)| *at == source)?;
    targets.iter().all(|&target| target == to || lineage.were_one_shard(target, to)).then_some(to)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::cluster::SlotSet;
    use crate::cluster::fixtures::{id, observation, with_names};

    /// Shows the clusters one after the other; slot 5's story in the last one, as `a>b` or `a1>b before a`.
    #[track_caller]
    fn check(stories: &[&str], recorded: Option<(&str, &str)>, expect: Option<&str>) {
        let mut lineage = Lineage::default();
        let mut told = None;
        for story in stories {
            let observation = observation(story);
            let topology = Topology::merge(&observation, &SlotSet::new());
            lineage.on_look(&topology);
            let slot: Slot = "5".parse().unwrap();
            let open = topology.open.get(&slot).cloned().unwrap_or_else(|| unmarked(slot, &topology));
            let recorded = recorded.map(|(source, target)| Pair { source: id(source), target: id(target) });
            told = whose(&open, recorded, &topology, &lineage).map(|whose| {
                let mut text = format!("{}>{}", whose.pair.source.short(), whose.pair.target.short());
                for node in whose.before.source.iter().chain(&whose.before.target) {
                    let _ = write!(text, " before {}", node.short());
                }
                with_names(&text, &observation)
            });
        }
        assert_eq!(told.as_deref(), expect, "{stories:#?}");
    }

    const OPEN: &str = "a 0-8191 [5->-b]\na1 of a\nb 8192-16383 [5-<-a]\nb1 of b\nc";

    #[test]
    fn marks_of_one_story_name_the_pair() {
        check(&[OPEN], None, Some("a>b"));
        check(&["a 0-8191 [5->-b]\nb 8192-16383"], None, Some("a>b"));
        check(&["a 0-8191\nb 8192-16383 [5-<-a]"], None, Some("a>b"));
        check(&["a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]\nc [5-<-a]"], None, None);
        check(&["a 0-8191 [5->-b]\nb 8192-16383\nc [5-<-a]"], None, None);
    }

    #[test]
    fn a_slot_that_a_third_node_owns_tells_no_story() {
        check(&["a 0-4 6-8191\nb 8192-16383 [5-<-a]\nc 5"], None, None);
        let open = "a 0-4 6-8191 [5->-b]\nb 8192-16383 [5-<-a]\nc 5";
        check(&[open], None, None);
        check(&[OPEN, open], Some(("a", "b")), None);
    }

    #[test]
    fn a_target_that_woke_and_took_the_slot_beside_its_successor_is_told_of_to_the_source_first() {
        let woken = "a 0-4 6-8191 [5->-b]\nb 5\nb1 8192-16383 [5-<-a]\nc";
        check(&[OPEN, woken], Some(("a", "b")), Some("a>b before b1"));
        check(&[OPEN, woken], Some(("a", "b1")), Some("a>b before b1"));
        let pointed = "a 0-4 6-8191 [5->-b1]\nb 5\nb1 8192-16383 [5-<-a]\nc";
        check(&[OPEN, pointed], Some(("a", "b1")), Some("a>b before b1"));
        // Closed at the source, and so not ours any more: then it is brought to the successor, which may hold keys of it.
        let closed = "a 0-4 6-8191\nb 5\nb1 8192-16383 [5-<-a]\nc";
        check(&[OPEN, closed], None, Some("b>b1 before a"));
        // On Redis the successor goes on to name the source as the owner.
        for (story, recorded, expect) in [
            (woken, Some(("a", "b1")), "a>b before b1"),
            (pointed, Some(("a", "b1")), "a>b before b1"),
            (closed, None, "b>b1 before a"),
            (closed, Some(("b", "b1")), "b>b1 before a"),
        ] {
            let dissents = format!("{story}\nb1 says a 0-8191\nb1 says b");
            check(&[OPEN, &dissents], recorded, Some(expect));
        }
        check(&[OPEN, woken], None, None);
    }

    #[test]
    fn a_target_that_woke_with_another_slot_beside_its_successor_has_what_the_sources_mark_gives_it() {
        let both = |to| format!("a 0-6 8-8191 [5->-{to}]\nb 7 [5-<-a]\nb1 8192-16383 [5-<-a]\nc");
        for recorded in [None, Some(("a", "b")), Some(("a", "b1"))] {
            check(&[OPEN, &both("b1")], recorded, Some("a>b1 before b"));
            check(&[OPEN, &both("b")], recorded, Some("a>b before b1"));
            check(&[OPEN, &both("c")], recorded, None);
        }
        check(&[&both("b1")], None, None);
    }

    #[test]
    fn a_source_that_failed_over_is_named_by_its_successor() {
        // Redis: the target goes on to name the dead source as the slot's owner.
        let after =
            "a silent refused\na\na1 0-8191\nb 8192-16383 [5-<-a]\nb1 of b\nc\nb says a 5\nb says a1 0-4 6-8191";
        check(&[OPEN, after], None, Some("a1>b before a"));
        check(&[OPEN, after], Some(("a", "b")), Some("a1>b before a"));
    }

    #[test]
    fn a_source_that_stays_a_primary_without_slots_is_named_by_its_successor() {
        let after = "a\na1 0-8191\nb 8192-16383 [5-<-a]\nb1 of b\nc";
        for recorded in [None, Some(("a", "b"))] {
            check(&[OPEN, after], recorded, Some("a1>b before a"));
            check(&[OPEN, &format!("{after}\nb says a 0-8191\nb says a1")], recorded, Some("a1>b before a"));
        }
        // Nobody knows what the two have to do with each other.
        check(&[after], None, None);
    }

    #[test]
    fn a_target_that_failed_over_is_named_by_its_successor() {
        let after = "a 0-8191 [5->-b]\na1 of a\nb silent refused\nb\nb1 8192-16383\nc";
        check(&[OPEN, after], None, Some("a>b1 before b"));
    }

    #[test]
    fn both_ends_that_failed_over_are_known_from_the_record_alone() {
        let after = "a silent refused\na\na1 0-8191\nb silent refused\nb\nb1 8192-16383\nc";
        check(&[OPEN, after], Some(("a", "b")), Some("a1>b1 before a before b"));
        check(&[OPEN, after], None, None);
    }

    #[test]
    fn a_record_that_the_marks_contradict_tells_no_story() {
        check(&["a 0-8191 [5->-c]\nb 8192-16383\nc [5-<-a]"], Some(("a", "b")), None);
    }
}
