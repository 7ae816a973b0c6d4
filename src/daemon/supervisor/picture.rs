//! The picture: what a look brings, apart from what our own moves are just changing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::super::memory::Seen;
use super::super::{Look, Reason, Sight};
use super::{Picture, REMEMBER, SPREADING, Supervisor};
use crate::cluster::{NodeId, SlotSet, Topology};

impl Supervisor {
    pub(super) fn on_sight(&mut self, sight: &Sight) {
        self.parts.metrics.look_ended(
            sight.errors.is_empty(),
            sight.look.as_ref().map_or(Duration::ZERO, |look| look.ended - look.began),
        );
        let Some(look) = &sight.look else {
            self.set_reasons(vec![Reason::NoView { errors: sight.errors.clone() }]);
            return;
        };
        if !sight.errors.is_empty() {
            self.set_reasons(vec![Reason::NoView { errors: sight.errors.clone() }]);
            return;
        }
        if self.picture.as_ref().is_some_and(|picture| picture.look.number == look.number) {
            return;
        }
        let spreading = self.touched(look.began.checked_sub(SPREADING).unwrap_or(look.began));
        let topology = Arc::new(Topology::merge(&look.observation, &spreading));
        self.agreed = spreading.is_empty() || Topology::merge(&look.observation, &SlotSet::new()).unclear.is_empty();
        self.take_records(&topology, look);
        self.take_inheritance(&topology, look);
        let touched = self.touched(self.picture.as_ref().map_or(look.began, |picture| picture.look.began));
        self.memory.on_look(&Seen {
            at: look.ended,
            topology: &topology,
            mover_calls: &look.mover_calls,
            touched: &touched,
            ours: &self.ours,
        });
        // Ours, and closed by now, whoever closed it.
        let gone: SlotSet = self.ours.iter().filter(|slot| !topology.open.contains_key(slot)).collect();
        let idle = gone.difference(&self.in_running());
        self.ours = self.ours.difference(&idle);
        let infos = look.observation.nodes.iter().map(|(&node, observed)| (node, observed.info.clone())).collect();
        self.picture = Some(Picture { look: Arc::clone(look), topology, infos: Arc::new(infos) });
        let now = Instant::now();
        self.ended.retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBER);
        self.turn();
        self.grant_finalise();
    }

    /// Slots that our moves touch, or touched since then.
    pub(super) fn touched(&self, since: Instant) -> SlotSet {
        let ended = self.ended.iter().filter(|(_, at)| *at >= since).map(|(slots, _)| slots);
        ended.fold(self.in_running(), |touched, slots| touched.union(slots))
    }

    pub(super) fn in_running(&self) -> SlotSet {
        self.running.values().fold(SlotSet::new(), |all, running| all.union(&running.slots))
    }

    /// Once, at the first look: open slots of the journal whose processes are still the same are ours.
    fn take_records(&mut self, topology: &Topology, look: &Look) {
        if std::mem::replace(&mut self.adopted_records, true) {
            return;
        }
        let run_id = |node: NodeId| look.observation.nodes.get(&node).map(|node| node.info.run_id.clone());
        let recorded = self.parts.records.open_slots(run_id);
        self.ours = recorded.iter().filter(|slot| topology.open.contains_key(slot)).collect();
        if !self.ours.is_empty() {
            info!(slots = %self.ours, "open slots of an earlier run are finished first");
        }
    }
}
