//! When the epoch of a target's successor is raised: as soon as all agree, and while nobody is told of owners.

use tokio::time::Instant;

use super::super::raise::Raiser;
use super::Supervisor;

impl Supervisor {
    /// Goes on with raising epochs; says whether nobody else may have the finalise before that is done.
    pub(super) fn raise_epochs(&mut self) -> bool {
        if self.raises.is_under_way() {
            return true;
        }
        let Some(picture) = self.picture.as_ref().filter(|_| self.acts()) else { return false };
        // Who finishes what a dead move left is not held back: it may be that by which not all agree.
        let is_left = self.finalise.orphan().is_some();
        let is_of_now = self.agreed && picture.look.began > self.finalise_returned;
        if !is_of_now {
            return !is_left && self.raises.holds_back(Instant::now());
        }
        let topology = &picture.topology;
        let successor = |node| self.memory.lineage().successor(node, topology);
        let is_settled = |node| !self.given.is_unknown_of(node);
        let Some(raise) = self.raises.next(topology, &self.own, successor, is_settled) else { return false };
        let (replaced, successor) = raise.between();
        if !self.finalise.is_idle_but_for(successor) {
            // Nobody else gets the finalise now; whoever holds it gives it back in a moment.
            return !is_left;
        }
        let (dialer, lease, ours) = (self.dialer.clone(), self.parts.lease.clone(), self.ours.subscribe());
        let task = self.tasks.spawn(raise.carry_out(Raiser { dialer, lease, ours }));
        self.raises.begun(replaced, task);
        true
    }
}
