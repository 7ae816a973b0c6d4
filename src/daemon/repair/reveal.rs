//! Keys that a node holds and hides: Redis 8.4 and newer counts and shows no keys of slots that a node neither owns nor
//! takes in.
//!
//! While it takes a slot in it shows them. So slots that a human named, and those that are judged by what nodes hold, are
//! marked, counted and unmarked again, some at a time: what is found then is a key like any other.

use std::collections::BTreeMap;

use super::{Diagnosis, Left, Repair};
use crate::cluster::{Marker, NodeId, Slot, SlotSet};
use crate::migration::Order;

/// Slots that are marked at a time: no more are open than can be counted in a moment.
const AT_ONCE: usize = 256;

impl Repair<'_> {
    /// Looks for keys of these slots at the nodes that hide any.
    pub(super) async fn reveal(&mut self, named: &SlotSet, now: &Diagnosis) {
        for &node in now.hidden.keys() {
            let Some(observed) = now.look.observation.nodes.get(&node) else { continue };
            let myself = observed.view.myself();
            let marked: SlotSet = myself.markers.iter().map(|marker: &Marker| marker.slot()).collect();
            let hiding = named.difference(&myself.slots).difference(&marked);
            // Which one is named makes no difference to what is shown; where nobody owns a slot it is any other.
            let any_other = now.topology.shards.keys().copied().find(|&other| other != node);
            let mut by_other: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
            for slot in hiding.iter() {
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
    }

    async fn reveal_some(&mut self, node: NodeId, other: NodeId, slots: SlotSet, now: &Diagnosis) {
        let failures = self.obey(&[Order::Importing { at: node, from: other }], &slots, now).await;
        let marked: SlotSet = slots.iter().filter(|slot| !failures.contains_key(slot)).collect();
        let counted = self.doctor.count_at(&now.look.observation, node, &marked).await;
        let unmarked = self.obey(&[Order::Stable { at: node }], &marked, now).await;
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
