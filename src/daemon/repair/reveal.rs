//! Keys that a node holds and hides: Redis 8.4 and newer counts and shows no keys of slots that a node neither owns nor
//! takes in.
//!
//! While it takes a slot in it shows them. So slots that a human named are marked, counted and unmarked again, some at a
//! time: what is found then is a stray key like any other.

use super::{Diagnosis, Left, Repair};
use crate::cluster::{Marker, NodeId, Slot, SlotSet};
use crate::migration::Order;

/// Slots that are marked at a time: no more are open than can be counted in a moment.
const AT_ONCE: usize = 256;

impl Repair<'_> {
    /// Looks for hidden keys of these slots at the nodes that have any.
    pub(super) async fn reveal(&mut self, named: &SlotSet, now: &Diagnosis) {
        for &node in now.hidden.keys() {
            let Some(observed) = now.look.observation.nodes.get(&node) else { continue };
            let myself = observed.view.myself();
            let marked: SlotSet = myself.markers.iter().map(|marker: &Marker| marker.slot()).collect();
            let hiding = named.difference(&myself.slots).difference(&marked);
            let mut by_owner: Vec<(NodeId, Vec<Slot>)> = Vec::new();
            for (&owner, shard) in now.topology.shards.iter().filter(|(owner, _)| **owner != node) {
                by_owner.push((owner, hiding.intersection(&shard.slots).iter().collect()));
            }
            for (owner, slots) in by_owner {
                for slots in slots.chunks(AT_ONCE) {
                    self.reveal_some(node, owner, slots.iter().copied().collect(), now).await;
                }
            }
        }
    }

    async fn reveal_some(&mut self, node: NodeId, owner: NodeId, slots: SlotSet, now: &Diagnosis) {
        let failures = self.obey(&[Order::Importing { at: node, from: owner }], &slots, now).await;
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
