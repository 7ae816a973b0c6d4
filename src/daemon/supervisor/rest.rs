//! When the poller may glance at the cluster instead of reading it in full, and what a glance brings.
//!
//! A glance can only say that nothing has changed since the last look. Whatever is done is done after a look.

use std::sync::Arc;

use super::super::Glance;
use super::Supervisor;

impl Supervisor {
    /// Has the cluster read in full, at once.
    pub(super) fn look_anew(&self) {
        self.stir();
        self.parts.nudge.notify_one();
    }

    /// Has the cluster read in full by the next poll.
    pub(super) fn stir(&self) {
        self.parts.rest.send_if_modified(|rest| rest.take().is_some());
    }

    /// After the turn on a look: whether from here on a glance will do.
    pub(super) fn settle_down(&self) {
        let settled = self.agreed && self.checks_under_way.is_none() && !self.finalise.is_held_up();
        let rest = self.rest.filter(|_| settled);
        self.parts.rest.send_if_modified(|known| std::mem::replace(known, rest) != rest);
    }

    /// Takes in that nothing has changed since the look of the picture.
    pub(super) fn on_glance(&mut self, glance: &Arc<Glance>) {
        let Some(picture) = &mut self.picture else { return };
        if picture.glance.as_ref().is_some_and(|known| known.number == glance.number) {
            return;
        }
        Arc::make_mut(&mut picture.infos).extend(glance.infos.iter().map(|(&node, info)| (node, info.clone())));
        picture.glance = Some(Arc::clone(glance));
        // Hours begin and end, and with them what is told.
        self.turn();
    }
}
