//! What the supervisor does because of the lease: it waits for it, heeds its loss, and takes over what its last holder
//! left open.

use tracing::{info, warn};

use super::super::{Look, Reason, Tenure};
use super::Supervisor;
use crate::cluster::{SlotSet, Topology};
use crate::config::Mode;
use crate::migration::Pair;

impl Supervisor {
    /// Why the lease forbids to act; `None` while it does not.
    ///
    /// A lease that was just obtained permits nothing before the cluster was looked at: what was seen earlier, others
    /// may have changed.
    pub(super) fn lease_reason(&self) -> Option<Reason> {
        self.parts.lease.reason().or_else(|| match self.parts.lease.tenure() {
            Tenure::Ours(ours) if self.inherited != Some(ours.gained) => Some(Reason::LeaseLost {
                why: "it was obtained a moment ago; the cluster is read anew first".to_owned(),
            }),
            Tenure::Ours(_) | Tenure::NotNeeded | Tenure::Elsewhere { .. } | Tenure::Unknown { .. } => None,
        })
    }

    /// Whether this daemon may change anything at present.
    pub(super) fn acts(&self) -> bool {
        self.config().schedule.mode == Mode::Act && self.lease_reason().is_none()
    }

    /// With every tick: a lease that has run out ends the moves, and one that was obtained or renewed lets them go on.
    pub(super) fn heed_lease(&mut self) {
        if let Tenure::NotNeeded = self.parts.lease.tenure() {
            return;
        }
        if !self.parts.lease.may_act() {
            for running in self.running.values() {
                running.stop.cancel();
                running.leave.cancel();
            }
        }
        // What is shown must be true now; it may have been said by a look of some seconds ago. Who only looks says nothing of
        // it.
        let acts = self.config().schedule.mode == Mode::Act;
        let now = self.lease_reason().filter(|_| acts).map(|reason| reason.name());
        let shown = self.reasons.iter().map(Reason::name).find(|name| ["lease_held", "lease_lost"].contains(name));
        if now != shown {
            self.look_anew();
        }
        self.grant_finalise();
    }

    /// At the first look after the lease was obtained: what its last holder had open is ours.
    pub(super) fn take_inheritance(&mut self, topology: &Topology, look: &Look) {
        let Tenure::Ours(ours) = self.parts.lease.tenure() else { return };
        if self.inherited == Some(ours.gained) || look.began < ours.gained {
            return;
        }
        self.inherited = Some(ours.gained);
        if let Some(node) = ours.kept_by.filter(|node| topology.shard_of(*node).is_some()) {
            warn!(%node, "the lease is kept in the cluster that it is for: whatever stops the cluster stops the lease too");
        }
        let slots = self.take_over(&ours.inherited, topology);
        if !slots.is_empty() {
            info!(%slots, "open slots of the last holder of the lease are finished first");
        }
        // What is closed by now is no longer on record.
        self.parts.lease.forget(&SlotSet::full().difference(&self.own.slots()));
    }

    /// Whether further slots of this pair may be opened, as far as is known at this moment.
    pub(super) fn may_open(&self, pair: Pair) -> bool {
        let jobs = self.picture.iter().flat_map(|picture| &picture.topology.jobs);
        let in_a_servers_hands = jobs.into_iter().any(|job| job.concerns(pair.source) || job.concerns(pair.target));
        self.lease_reason().is_none() && !in_a_servers_hands
    }
}
