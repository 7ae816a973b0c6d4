//! Marks that no move of ours needs, and their removal.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::{leftovers, replica_marks};
use super::{Picture, Supervisor};
use crate::cluster::Product;

impl Supervisor {
    /// Has marks taken away that former targets woke with.
    pub(super) fn close_leftovers(&mut self) {
        let Some(Picture { look, topology, .. }) = self.picture.clone() else { return };
        let found = self.leftovers.on_look(&self.own, &topology, self.memory.lineage());
        if found.is_empty() || !self.acts() {
            return;
        }
        let dialer = self.dialer.clone();
        self.leftovers.closing(self.tasks.spawn(async move {
            for (node, slots) in found {
                if let (Some(shard), Some(observed)) = (topology.shards.get(&node), look.observation.nodes.get(&node)) {
                    let valkey = observed.info.version.product == Product::Valkey;
                    leftovers::close(&dialer, &shard.primary, &slots, valkey).await;
                }
            }
        }));
    }

    /// Has marks taken off that only replicas have, in a cluster that is at rest by the picture.
    pub(super) fn clear_replicas(&mut self) {
        let Some(Picture { topology, .. }) = self.picture.clone() else { return };
        let config = self.config();
        let Some(due) = self.replica_marks.take_due(&topology, Instant::now(), config.schedule.adopt_after) else {
            return;
        };
        let (dialer, lease) = (self.dialer.clone(), self.parts.lease.clone());
        let (send, receive) = oneshot::channel();
        self.replica_marks.ordered(due.node(), receive);
        self.tasks.spawn(async move { send.send(replica_marks::take_off(&dialer, &lease, &config, due).await) });
    }
}
