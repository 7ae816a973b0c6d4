//! The picture: what a look brings, apart from what our own moves are just changing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::super::memory::Seen;
use super::super::whose::{Whose, whose};
use super::super::{DrainedNode, Reason, Sight};
use super::{Picture, REMEMBER, Running, SPREADING, Supervisor};
use crate::cluster::{NodeId, Observation, Observed, PrimaryLink, Product, Role, Slot, SlotSet, Topology, Unclear};
use crate::journal::Opened;
use crate::migration::{Pair, Purpose};

impl Supervisor {
    pub(super) fn on_sight(&mut self, sight: &Sight) {
        let took = match (&sight.glance, &sight.look) {
            (Some(glance), _) => glance.ended - glance.began,
            (None, Some(look)) => look.ended - look.began,
            (None, None) => Duration::ZERO,
        };
        self.parts.metrics.look_ended(sight.errors.is_empty(), took);
        let Some(look) = &sight.look else {
            self.set_reasons(vec![Reason::NoView { errors: sight.errors.clone() }]);
            return;
        };
        if !sight.errors.is_empty() {
            self.set_reasons(vec![Reason::NoView { errors: sight.errors.clone() }]);
            return;
        }
        if self.picture.as_ref().is_some_and(|picture| picture.look.number == look.number) {
            if let Some(glance) = &sight.glance {
                self.on_glance(glance);
            }
            return;
        }
        let spreading = self.touched(look.began.checked_sub(SPREADING).unwrap_or(look.began));
        let topology = Arc::new(Topology::merge(&look.observation, &spreading));
        self.agreed = spreading.is_empty() || Topology::merge(&look.observation, &SlotSet::new()).unclear.is_empty();
        self.take_records(&topology);
        self.take_inheritance(&topology, look);
        let touched = self.touched(self.picture.as_ref().map_or(look.began, |picture| picture.look.began));
        self.memory.on_look(&Seen {
            at: look.ended,
            topology: &topology,
            mover_calls: &look.mover_calls,
            touched: &touched,
            ours: &self.own.slots(),
        });
        self.follow_failovers(&topology);
        self.forget_closed(&topology);
        self.tell_gone_over(&topology);
        self.given.on_look(look);
        for running in self.running.values_mut() {
            running.finished.on_look(look.began);
        }
        let (own, running) = (&self.own, &self.running);
        self.imports.on_look(look, |node| {
            let own = own.iter().filter(|(_, pair)| pair.target == node).map(|(slot, _)| slot);
            let moving = running.values().filter(|running| running.pair.target == node);
            moving.fold(own.collect(), |open: SlotSet, running| {
                open.union(&running.slots.difference(running.finished.slots()))
            })
        });
        self.finalise.heard(|node| has_answered(&look.observation, node));
        self.hold_targets();
        let lineage = self.memory.lineage();
        self.raises.on_look(&look.observation, self.agreed, |node| lineage.successor(node, &topology));
        self.raises.tell_overdue(Instant::now());
        let since_all_ended = self.ended.iter().all(|(_, at)| *at < look.began);
        if since_all_ended && self.agreed && topology.unclear.is_empty() {
            // Slots that a later move of the pair has opened itself are none of those that were left, and would wait for
            // the finalise that waits for them.
            let moving = self.in_moves();
            self.finalise.settled(|pair| self.own.lie_between(pair, &moving));
        }
        let is_change =
            |unclear: &Unclear| matches!(unclear, Unclear::RoleUnsure { .. } | Unclear::ViewsDisagree { .. });
        let changes = topology.unclear.iter().any(is_change);
        self.changing_since = changes.then(|| self.changing_since.unwrap_or(look.ended));
        let infos = look.observation.nodes.iter().map(|(&node, observed)| (node, observed.info.clone())).collect();
        self.replica_marks.on_look(look, &topology, |node| has_answered(&look.observation, node));
        self.picture = Some(Picture { look: Arc::clone(look), topology, infos: Arc::new(infos), glance: None });
        let now = Instant::now();
        self.ended.retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBER);
        self.close_leftovers();
        self.turn();
        self.settle_down();
        self.grant_finalise();
    }

    /// No key is brought to the successor of a target that hangs with an order to take slots. When it wakes, its claim may
    /// get a new epoch and with it all that it had: then its successor follows it, and loses what it was given meanwhile.
    pub(super) fn hold_targets(&self) {
        let heirs =
            self.finalise.unheard().map(|node| self.memory.lineage().kin_of(node).collect()).unwrap_or_default();
        self.held_targets.send_if_modified(|held| {
            let changes = *held != heirs;
            *held = heirs;
            changes
        });
    }

    /// Tells of drained nodes that have become replicas.
    fn tell_gone_over(&mut self, topology: &Topology) {
        self.gone_over.retain(|node| self.told_drains.contains_key(node));
        for &drain in self.told_drains.values() {
            let DrainedNode { drain, address, replica_of } = DrainedNode::of(drain, Some(topology));
            if let (Some(address), Some(primary)) = (address, replica_of) {
                if self.gone_over.insert(drain.node) {
                    info!(node = %drain.node, %address, %primary, "a drained node has become a replica");
                }
            } else {
                self.gone_over.remove(&drain.node);
            }
        }
    }

    /// Slots that our moves touch, or touched since then.
    pub(super) fn touched(&self, since: Instant) -> SlotSet {
        let ended = self.ended.iter().filter(|(_, at)| *at >= since).map(|(slots, _)| slots);
        ended.fold(self.in_running(), |touched, slots| touched.union(slots))
    }

    /// Slots of the moves that run to carry out a plan, and do not finish what was found open.
    fn in_moves(&self) -> SlotSet {
        let moves = self.running.values().filter(|running| running.purpose == Purpose::Move);
        moves.fold(SlotSet::new(), |all, running| all.union(&running.slots))
    }

    pub(super) fn in_running(&self) -> SlotSet {
        self.running.values().fold(SlotSet::new(), |all, running| all.union(&running.slots))
    }

    /// Ends the moves of which a failover has replaced an end, and turns what they leave over to the new ends.
    pub(super) fn follow_failovers(&mut self, topology: &Topology) {
        let lineage = self.memory.lineage().clone();
        let successor = |node: NodeId| lineage.successor(node, topology);
        for running in self.running.values() {
            let Pair { source, target } = running.pair;
            if (successor(source) != source || successor(target) != target) && !running.failed_over.is_cancelled() {
                let (now, taking) = (successor(source), successor(target));
                warn!(%source, %target, source_now = %now, target_now = %taking, "an end of a move has failed over");
                running.failed_over.cancel();
            }
        }
        self.raises.note_replaced(self.own.targets(), topology, successor, Instant::now());
        let turned = self.own.follow(successor);
        self.finalise.follow(successor);
        self.hold_targets();
        // What failed between the old ends says nothing of the new ones.
        self.set_aside.retain(|slot, _| !turned.contains(*slot));
    }

    /// A node that may take slots of this move for itself once their source claims them no more.
    pub(super) fn may_take_instead(&self, running: &Running, finishes: bool) -> Option<NodeId> {
        let target = running.pair.target;
        let of_found_open = finishes.then(|| self.may_come_back(target)).flatten();
        of_found_open.or_else(|| {
            let nodes = &self.picture.as_ref()?.look.observation.nodes;
            let slots = running.slots.difference(running.finished.slots());
            let is_valkey = nodes.get(&target)?.info.version.product == Product::Valkey;
            self.imports.elsewhere(target, &slots).filter(|_| is_valkey)
        })
    }

    /// A node that this target took over from and that may come back as a primary with the slots' importing marks.
    ///
    /// It is there already, where it woke with other slots: then its marks are taken away first.
    ///
    /// One that does not answer is waited for on Valkey only: such a node takes the slots as soon as it hears that their
    /// source claims them no more, with a new epoch, by which it gets all that it ever owned, and every other node deletes
    /// its keys of that (seen on 8.1 and 9.1). While the source claims the slots, a node that comes back learns that it was
    /// replaced, and takes nothing.
    pub(super) fn may_come_back(&self, target: NodeId) -> Option<NodeId> {
        let observation = &self.picture.as_ref()?.look.observation;
        if let Some(node) = self.leftovers.of_target(target) {
            return Some(node);
        }
        let observed = observation.nodes.get(&target).filter(|node| node.info.version.product == Product::Valkey)?;
        let harmless = |node| {
            // A replica that is not in step would keep its marks: what clears them reaches it with the replication only.
            let follows = |node: &Observed| {
                node.view.myself().role != Role::Primary && node.info.primary_link == Some(PrimaryLink::Up)
            };
            let is_harmless = |node: &Observed| node.view.myself().markers.is_empty() || follows(node);
            observation.nodes.get(&node).is_some_and(is_harmless)
        };
        let mut before = self.memory.lineage().predecessors_of(target);
        before.find(|&node| node != target && observed.view.line(node).is_some() && !harmless(node))
    }

    /// Slots of ours that are closed by now, whoever closed them, or that have become somebody else's. Only a clear
    /// picture tells: in the middle of a failover a slot seems to be owned by nobody we know.
    fn forget_closed(&mut self, topology: &Topology) {
        if !topology.unclear.is_empty() {
            return;
        }
        let running = self.in_running();
        let over =
            self.own.iter().filter(|(slot, pair)| !running.contains(*slot) && !self.is_ours(*slot, *pair, topology));
        let over: SlotSet = over.map(|(slot, _)| slot).collect();
        if !over.is_empty() {
            self.own(|own| own.remove(&over));
        }
    }

    /// Whether a slot that was opened between this pair has still to be finished by us.
    fn is_ours(&self, slot: Slot, pair: Pair, topology: &Topology) -> bool {
        let lineage = self.memory.lineage();
        match topology.open.get(&slot) {
            // With the marks that we set, or with somebody else's.
            Some(open) => whose(open, None, topology, lineage).is_none_or(|Whose { pair: now, .. }| {
                let is_target = now.target == pair.target || lineage.were_one_shard(now.target, pair.target);
                now.source == pair.source && is_target
            }),
            // Without marks: they were lost, unless the target has it or others have moved it on.
            None => topology.owner(slot).is_none_or(|owner| owner == pair.source),
        }
    }

    /// Once, at the first look: what the journal has as open and the cluster not as finished is ours.
    fn take_records(&mut self, topology: &Topology) {
        if std::mem::replace(&mut self.records_taken, true) {
            return;
        }
        let recorded = self.parts.records.opened_slots();
        let slots = self.take_over(&recorded, topology);
        if !slots.is_empty() {
            info!(%slots, "open slots of an earlier run are finished first");
        }
    }

    /// Makes slots ours that are on record as opened, whoever has the part of their ends by now; returns those that are
    /// not finished.
    pub(super) fn take_over(&mut self, recorded: &[Opened], topology: &Topology) -> SlotSet {
        for opened in recorded {
            self.memory.remember_replicas(opened.source.node, &opened.source_replicas);
            self.memory.remember_replicas(opened.target.node, &opened.target_replicas);
        }
        self.memory.look_back(topology);
        let lineage = self.memory.lineage().clone();
        let successor = |node| lineage.successor(node, topology);
        let targets = recorded.iter().map(|opened| opened.target.node);
        self.raises.note_replaced(targets, topology, successor, Instant::now());
        self.own(|own| {
            for Opened { slots, source, target, .. } in recorded {
                own.insert(slots, Pair { source: source.node, target: target.node });
            }
            own.follow(successor);
        });
        self.forget_closed(topology);
        let all = recorded.iter().fold(SlotSet::new(), |all, opened| all.union(&opened.slots));
        all.intersection(&self.own.slots())
    }
}

/// Whether a node answered, or cannot carry out anything any more: its process is gone, or nobody knows it.
fn has_answered(observation: &Observation, node: NodeId) -> bool {
    let gone = || observation.silent.get(&node).is_none_or(|silent| silent.why.contains("refused"));
    observation.nodes.contains_key(&node) || gone()
}
