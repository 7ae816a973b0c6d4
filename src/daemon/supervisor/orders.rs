//! What the supervisor does when it is told something.

use std::time::SystemTime;

use tracing::{info, warn};

use super::super::approval::{Approved, Consent};
use super::super::command::{
    Agreed, ApproveError, Command, DrainError, Drained, DrainedNode, Paused, Resumed, Undrained,
};
use super::super::{Drains, Goal, Reason, aside, shard_inputs};
use super::Supervisor;
use crate::clock::rfc3339;
use crate::cluster::{NodeId, Topology};
use crate::config::{Approval, Mode};
use crate::journal::{Drain, Pause};
use crate::plan::{self, Member, NodeName, NodeTarget, ShardInput, TargetFault};

impl Supervisor {
    pub(super) async fn on_command(&mut self, command: Command) {
        match command {
            Command::Retry { slots, answer } => {
                let retried = aside::put_back(&mut self.set_aside, &slots);
                if !retried.put_back.is_empty() {
                    info!(slots = %retried.put_back, "slots that were set aside are put back, as told");
                    self.look_anew();
                }
                // Whoever asked may have gone away meanwhile; it is done all the same.
                let _ = answer.send(retried);
            }
            Command::Pause { until, answer } => {
                let pause = Pause { since: SystemTime::now(), until };
                self.paused = Some(pause);
                self.finish_what_is_open();
                info!(
                    until = until.and_then(rfc3339),
                    "paused, as told: open slots are finished, nothing new is begun"
                );
                self.turn();
                let survives_restart = self.parts.records.paused(Some(pause)).await;
                let _ = answer.send(Paused { pause, survives_restart });
            }
            Command::Resume { answer } => {
                let pause = self.paused;
                let returns_at_restart = self.resume("as told").await;
                let _ = answer.send(Resumed { pause, returns_at_restart });
            }
            Command::Drain { node, answer } => {
                let _ = answer.send(self.drain(&node).await);
            }
            Command::Undrain { node, answer } => {
                let _ = answer.send(self.undrain(&node).await);
            }
            Command::Approve { hash, answer } => {
                let _ = answer.send(self.approve(&hash));
            }
        }
    }

    async fn drain(&mut self, name: &NodeName) -> Result<Drained, DrainError> {
        let shards = self.known_shards()?;
        let node = plan::resolve(&shards, name).map_err(DrainError::Name)?;
        if let Some(replica) = replica_named(&shards, node, name) {
            let drained = self.told_drains.contains_key(&replica.id);
            return Err(DrainError::Replica { replica: Box::new(replica.clone()), primary: node, drained });
        }
        let told: Vec<NodeId> = self.told_drains.keys().copied().chain([node]).collect();
        // As if for the first time: one that was drained before may have come back.
        self.drains.forget(&NodeName::Id(node));
        let policy = Drains::default().with_told(&self.policy, told.iter(), &shards);
        plan::plan(&shards, &policy).map_err(|faults| DrainError::Infeasible(listed(&faults)))?;
        let drain = Drain { node, since: SystemTime::now() };
        info!(%node, "drained, as told");
        self.told_drains.insert(node, drain);
        self.plan_anew();
        let survives_restart = self.parts.records.drained(node, Some(drain)).await;
        Ok(Drained { drained: self.drained_node(drain), survives_restart })
    }

    async fn undrain(&mut self, name: &NodeName) -> Result<Undrained, DrainError> {
        let shards = self.known_shards()?;
        let of_shard = |name: &NodeName| {
            let shard = shards.iter().find(|shard| shard.members.iter().any(|member| name.names(member)));
            shard.map_or_else(Vec::new, |shard| shard.members.clone())
        };
        // Also of one that has left the cluster, or joined another shard since.
        let by_id = |id: &NodeId| match name {
            NodeName::Id(named) => named == id,
            NodeName::Prefix(prefix) => prefix.starts(*id),
            NodeName::Address(_) | NodeName::Hostname(_) => false,
        };
        let told = self.told_drains.keys().copied();
        let ended: Vec<NodeId> =
            told.filter(|id| by_id(id) || of_shard(name).iter().any(|member| member.id == *id)).collect();
        let members = of_shard(name);
        let by_configuration = self.policy.nodes.iter().any(|entry| entry.drain && names_any(entry, &members));
        let mut undrained = Undrained { drained: None, by_configuration, returns_at_restart: false };
        if ended.is_empty() {
            // The plan stays what it is, and so do the moves that carry it out.
            return plan::resolve(&shards, name).map(|_| undrained).map_err(DrainError::Name);
        }
        // Of one shard there may be several: it failed over, and was drained again.
        for node in ended {
            info!(%node, "the drain ends, as told");
            undrained.drained = self.told_drains.remove(&node).map(|drain| self.drained_node(drain));
            let recorded = self.parts.records.drained(node, None).await;
            undrained.returns_at_restart |= !recorded && self.parts.records.drains().contains_key(&node);
        }
        self.plan_anew();
        Ok(undrained)
    }

    fn drained_node(&self, drain: Drain) -> DrainedNode {
        DrainedNode::of(drain, self.picture.as_ref().map(|picture| &*picture.topology))
    }

    fn known_shards(&self) -> Result<Vec<ShardInput>, DrainError> {
        let picture = self.picture.as_ref().ok_or(DrainError::NoPicture)?;
        Ok(shard_inputs(&picture.topology))
    }

    /// Moves that are not the plan's any more open nothing further; what was approved, or looked at, was another plan.
    fn plan_anew(&mut self) {
        if let Some(approved) = self.approved.take() {
            info!(hash = approved.hash(), "the targets have changed: the approved plan is carried out no further");
        }
        self.plan = None;
        self.finish_what_is_open();
        self.look_anew();
    }

    /// Moves that run end once what they have open is finished.
    pub(super) fn finish_what_is_open(&self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
    }

    /// Outside of its hours a daemon goes on with nothing, also while it cannot look.
    pub(super) fn end_hours(&self) {
        if !self.running.is_empty() && self.outside_windows().is_some() {
            self.finish_what_is_open();
        }
    }

    fn approve(&mut self, hash: &str) -> Result<Agreed, ApproveError> {
        if self.config().schedule.approval == Approval::Automatic {
            return Err(ApproveError::NotAsked);
        }
        let observing = self.config().schedule.mode == Mode::Observe;
        if observing || self.lease_reason().is_some() {
            return Err(ApproveError::NotActing);
        }
        if let Some(approved) = self.approved.as_ref().filter(|approved| approved.hash() == hash) {
            return Ok(Agreed { hash: hash.to_owned(), slots: approved.slots() });
        }
        let plan = self.plan.clone().filter(|plan| !plan.moves.is_empty()).ok_or_else(|| match &self.approved {
            Some(approved) => ApproveError::UnderWay { approved: approved.hash().to_owned() },
            None => ApproveError::NoPlan,
        })?;
        let shards = self.known_shards().map_err(|_| ApproveError::NoPlan)?;
        let current = plan.hash();
        if current != hash {
            return Err(ApproveError::Changed { current });
        }
        let approved = Approved::new(&plan, &shards);
        let slots = approved.slots();
        info!(hash, slots = slots.len(), "the plan is approved, as told");
        self.approved = Some(approved);
        self.look_anew();
        Ok(Agreed { hash: current, slots })
    }

    /// Whether the plan of the moment may be carried out; an approval that has come to its end, or whose cluster is not the
    /// one of then, is forgotten.
    pub(super) fn consent(&mut self, topology: &Topology) -> Consent {
        let asked = self.config().schedule.approval == Approval::Manual;
        if self.parts.goal != Goal::Keep || !asked {
            self.approved = None;
            return Consent::NotAsked;
        }
        let Some(approved) = &self.approved else { return Consent::Awaited };
        if !topology.unclear.is_empty() {
            return Consent::Given(Vec::new());
        }
        let left = approved.left(topology, |node| self.memory.lineage().successor(node, topology));
        if self.lease_reason().is_some() || !approved.is_for(&shard_inputs(topology), &left) {
            let hash = approved.hash();
            warn!(hash, "the cluster, or who acts on it, has changed: the approved plan is carried out no further");
            self.approved = None;
            return Consent::Awaited;
        }
        if left.is_empty() && self.running.is_empty() {
            info!(hash = approved.hash(), "the plan that was approved is carried out");
            self.approved = None;
            return Consent::Awaited;
        }
        Consent::Given(left)
    }

    /// Why it is not the time to move slots, if it is not.
    pub(super) fn outside_windows(&self) -> Option<Reason> {
        let config = self.config();
        let windows = &config.schedule.windows;
        let now = jiff::Timestamp::now();
        if self.parts.goal != Goal::Keep || windows.iter().any(|window| window.contains(now)) {
            return None;
        }
        let next = windows.iter().min_by_key(|window| window.begins_in(now))?;
        Some(Reason::OutsideWindows { window: next.to_string(), begins_in: next.begins_in(now) })
    }

    /// Ends a pause whose time has come.
    pub(super) async fn end_pause(&mut self) {
        let ends = self.paused.and_then(|pause| pause.until);
        if ends.is_some_and(|until| until <= SystemTime::now()) {
            self.resume("its time is over").await;
        }
    }

    /// Ends a pause, if there is one; whether a restart would bring it back.
    async fn resume(&mut self, why: &str) -> bool {
        if self.paused.take().is_none() {
            return false;
        }
        info!(why, "the pause ends");
        self.look_anew();
        let recorded = self.parts.records.paused(None).await;
        !recorded && self.parts.records.pause().is_some()
    }
}

/// The member that was named, where that is a replica, of the shard with this primary.
fn replica_named<'a>(shards: &'a [ShardInput], primary: NodeId, name: &NodeName) -> Option<&'a Member> {
    let shard = shards.iter().find(|shard| shard.primary == primary)?;
    let mut named = shard.members.iter().filter(|member| name.names(member));
    let first = named.next()?;
    // A hostname may be that of several members.
    (first.id != primary && named.all(|member| member.id != primary)).then_some(first)
}

fn names_any(entry: &NodeTarget, members: &[Member]) -> bool {
    members.iter().any(|member| entry.node.names(member))
}

fn listed(faults: &[TargetFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
