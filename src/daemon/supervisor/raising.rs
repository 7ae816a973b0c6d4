//! When the epoch of a target's successor is raised: as soon as all agree, and while nobody is told of owners.

use tokio::time::Instant;

use super::Supervisor;
use crate::config::Mode;

impl Supervisor {
    /// Goes on with raising epochs; says whether nobody may be told of owners before that is done.
    pub(super) fn raise_epochs(&mut self) -> bool {
        if self.raises.is_under_way() {
            return true;
        }
        let acts = self.config().schedule.mode == Mode::Act && self.lease_reason().is_none();
        let Some(picture) = self.picture.as_ref().filter(|_| acts) else { return false };
        if !self.agreed {
            return self.raises.holds_up(Instant::now());
        }
        let topology = &picture.topology;
        let lineage = self.memory.lineage();
        let Some(raise) = self.raises.next(topology, &self.own, |node| lineage.successor(node, topology)) else {
            return false;
        };
        // Nobody is told of any more; who is about to be done gives it back in a moment.
        if self.finalise.is_idle() {
            let (replaced, dialer) = (raise.of(), self.dialer.clone());
            let task = self.tasks.spawn(raise.carry_out(dialer));
            self.raises.begun(replaced, task);
        }
        true
    }
}
