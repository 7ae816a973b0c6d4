//! Keys that a node holds and hides: Redis 8.4 and newer counts and shows no keys of slots that a node neither owns nor
//! takes in.
//!
//! While it takes a slot in it shows them. So slots that a human named, and those that are judged by what nodes hold, are
//! marked, counted and unmarked again, some at a time: what is found then is a key like any other.

use std::collections::BTreeMap;

use super::{Case, Diagnosis, Left, Repair};
use crate::cluster::{Marker, NodeId, Slot, SlotSet};
use crate::migration::Order;

/// Slots that are marked at a time: no more are open than can be counted in a moment.
const AT_ONCE: usize = 256;

impl Repair<'_> {
    /// Looks for keys of the slots that a human named at the nodes that are known to hide any, and for keys of all that is to be
    /// repaired at every primary that would: what is judged by counts is judged by all that is there. Says whether all these are to
    /// be judged anew.
    pub(super) async fn reveal(
        &mut self,
        named: Option<&SlotSet>,
        hidden: &BTreeMap<NodeId, u64>,
        now: &Diagnosis,
        cases: &BTreeMap<Slot, Case>,
    ) -> bool {
        let hides =
            |node: &&NodeId| now.look.observation.nodes.get(node).is_some_and(|it| it.info.version.hides_keys());
        let hiding: Vec<NodeId> = now.topology.shards.keys().filter(hides).copied().collect();
        if hiding.is_empty() {
            return false;
        }
        let judged: SlotSet = cases.keys().copied().collect();
        if !self.busy.is_empty() {
            // A mark of ours would be in somebody's way.
            self.left.extend(judged.iter().map(|slot| (slot, Left::BusyNodes)));
            return true;
        }
        for node in hiding {
            let named = named.filter(|_| hidden.contains_key(&node));
            let slots = named.map_or_else(|| judged.clone(), |named| judged.union(named));
            self.reveal_at(node, &slots, now).await;
        }
        true
    }

    async fn reveal_at(&mut self, node: NodeId, slots: &SlotSet, now: &Diagnosis) {
        let Some(observed) = now.look.observation.nodes.get(&node) else { return };
        let myself = observed.view.myself();
        let marked: SlotSet = myself.markers.iter().map(|marker: &Marker| marker.slot()).collect();
        let unseen = slots.difference(&myself.slots).difference(&marked);
        // Which one is named makes no difference to what is shown; where nobody owns a slot it is any other.
        let any_other = now.topology.shards.keys().copied().find(|&other| other != node);
        let mut by_other: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
        for slot in unseen.iter() {
            let owner = now.topology.owner(slot).filter(|&owner| owner != node);
            if let Some(other) = owner.or(any_other) {
                by_other.entry(other).or_default().push(slot);
            }
        }
        for (other, slots) in by_other {
            for slots in slots.chunks(AT_ONCE) {
                self.reveal_some(node, other, slots.iter().copied().collect(), now).await;
            }
        }
    }

    async fn reveal_some(&mut self, node: NodeId, other: NodeId, slots: SlotSet, now: &Diagnosis) {
        let failures = self.obey(&[Order::Importing { at: node, from: other }], &slots, now).await;
        let marked: SlotSet = slots.iter().filter(|slot| !failures.contains_key(slot)).collect();
        let counted = self.doctor.count_at(&now.look.observation, node, &marked).await;
        // Without an answer all of them may be marked. Clients who are sent to this node by a slot's owner can write there by
        // now, and such a slot goes forward.
        let is_sent_here = |slot: &Slot| {
            now.topology.open.get(slot).is_some_and(|open| open.migrating.iter().any(|&(_, to)| to == node))
        };
        let to_unmark = if marked.is_empty() { &slots } else { &marked };
        let to_unmark: SlotSet = to_unmark.iter().filter(|slot| !is_sent_here(slot)).collect();
        let unmarked = self.obey(&[Order::Stable { at: node }], &to_unmark, now).await;
        self.left.extend(failures.into_iter().chain(unmarked));
        match counted {
            Ok(mut counted) => {
                counted.retain(|_, keys| *keys > 0);
                self.doctor.reveal(node, counted);
            }
            Err(error) => {
                let why = format!("whether {} hides keys of it is not known: {error}", node.short());
                self.left.extend(marked.iter().map(|slot| (slot, Left::Failed(why.clone()))));
            }
        }
    }
}
