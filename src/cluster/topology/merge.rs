//! Puts one [`Observation`] together: roles, shards and open slots, then the judgement.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Known, Names};
use super::{Member, OpenSlot, Shard, Standing, Topology};
use crate::cluster::agreement::{Agreement, Voices};
use crate::cluster::{
    Address, Failing, Finding, Link, Marker, NodeId, NodeLine, NodeView, Observation, Observed, PrimaryLink, Role,
    ServerJob, Slot, SlotSet, Unclear,
};

pub(super) fn merge(observation: &Observation, ours: &SlotSet) -> Topology {
    if let Some(unclear) = two_clusters(observation) {
        return nothing_but(unclear);
    }
    let voices = Voices::new(observation.nodes.values().map(|observed| &observed.view));
    if voices.voters.is_empty() {
        let why = observation.silent.values().next().map(|silent| silent.why.clone());
        return nothing_but(Unclear::NoPrimaryAnswered { why });
    }
    let agreement = Agreement::reach(&voices, ours);
    Merge::new(observation, ours, voices, agreement).topology()
}

fn nothing_but(unclear: Unclear) -> Topology {
    Topology {
        shards: BTreeMap::new(),
        open: BTreeMap::new(),
        jobs: Vec::new(),
        jobs_unread: BTreeMap::new(),
        unclear: vec![unclear],
        findings: Vec::new(),
        owners: vec![None; Slot::COUNT],
        shard_of: BTreeMap::new(),
        current_epoch: 0,
        names: Names::default(),
    }
}

/// Whether the nodes that answered fall into two groups that know nothing of each other.
///
/// A chain is enough for one cluster: while nodes join, two of them may not have heard of each other yet.
fn two_clusters(observation: &Observation) -> Option<Unclear> {
    let mut apart: Vec<&Observed> = observation.nodes.values().collect();
    let first = *apart.first()?;
    let mut known = BTreeSet::new();
    loop {
        let before = apart.len();
        apart.retain(|observed| {
            let ids = || observed.view.lines().map(|line| line.id);
            let joined = known.is_empty() || ids().any(|id| known.contains(&id));
            if joined {
                known.extend(ids());
            }
            !joined
        });
        match apart.first() {
            None => return None,
            Some(other) if apart.len() == before => {
                return Some(Unclear::TwoClusters { a: first.dialled.clone(), b: other.dialled.clone() });
            }
            Some(_) => {}
        }
    }
}

/// A merge under way: the parts that everything below is read from.
struct Merge<'a> {
    observation: &'a Observation,
    ours: &'a SlotSet,
    voters: BTreeMap<NodeId, &'a NodeView>,
    agreement: Agreement,
    /// The role of every node that a primary knows or that answered.
    roles: BTreeMap<NodeId, Role>,
}

impl<'a> Merge<'a> {
    fn new(observation: &'a Observation, ours: &'a SlotSet, voices: Voices<'a>, agreement: Agreement) -> Self {
        // One by one: collected, the ids of a thousand views of a thousand lines would be in memory at once.
        let mut ids: BTreeSet<NodeId> = observation.nodes.keys().copied().collect();
        for line in voices.voters.values().flat_map(|view| view.lines()) {
            ids.insert(line.id);
        }
        let mut merge = Self { observation, ours, voters: voices.voters, agreement, roles: BTreeMap::new() };
        merge.roles = ids.into_iter().map(|id| (id, merge.role(id))).collect();
        merge
    }

    fn topology(&self) -> Topology {
        let shard_of: BTreeMap<NodeId, NodeId> =
            self.roles.keys().filter_map(|&id| Some((id, self.primary_of(id)?))).collect();
        let mut owners = vec![None; Slot::COUNT];
        for (&node, slots) in &self.agreement.owned {
            for slot in slots.iter() {
                owners[slot.index()] = Some(node);
            }
        }
        let shards = self.shards(&shard_of);
        let open = self.open_slots(&owners);
        let (jobs, jobs_unread) = self.jobs();
        let unclear = self.unclear();
        let mut findings = self.findings(&shards, &open);
        findings.extend(jobs.iter().cloned().map(Finding::ServerSideJob));
        findings.sort();
        let mut names = Names::default();
        for &id in self.roles.keys() {
            names.insert(id, self.known(id));
        }
        let current_epoch = self.epochs().max().unwrap_or(0);
        Topology { shards, open, jobs, jobs_unread, unclear, findings, owners, shard_of, current_epoch, names }
    }

    /// The node's own word; of a node that did not answer, what its slots prove, or else what most primaries say.
    fn role(&self, id: NodeId) -> Role {
        match self.observation.nodes.get(&id) {
            Some(observed) => observed.view.myself().role,
            None if self.agreement.owned.contains_key(&id) => Role::Primary,
            None => most_common(self.lines_about(id).map(|(_, line)| line.role)).unwrap_or(Role::Unknown),
        }
    }

    /// The primary of the node's shard. A replica of a replica is followed: for moments after a failover there are
    /// such chains.
    fn primary_of(&self, id: NodeId) -> Option<NodeId> {
        let mut at = id;
        for _ in 0..self.roles.len() {
            match self.roles.get(&at)? {
                Role::Primary => return Some(at),
                Role::Replica { of } => at = (*of)?,
                Role::Unknown => return None,
            }
        }
        None
    }

    fn shards(&self, shard_of: &BTreeMap<NodeId, NodeId>) -> BTreeMap<NodeId, Shard> {
        let mut shards = BTreeMap::new();
        for &primary in shard_of.values().collect::<BTreeSet<_>>() {
            let replicas = shard_of.iter().filter(|(id, of)| **of == primary && **id != primary);
            let shard = Shard {
                primary: self.member(primary),
                replicas: replicas.map(|(id, _)| self.member(*id)).collect(),
                slots: self.agreement.owned.get(&primary).cloned().unwrap_or_default(),
                standing: self.standing(primary),
            };
            shards.insert(primary, shard);
        }
        shards
    }

    fn member(&self, id: NodeId) -> Member {
        let own = self.observation.nodes.get(&id);
        let own_line = own.map(|observed| observed.view.myself());
        let announced = most_common(self.lines_about(id).filter_map(|(_, line)| line.address.clone()));
        let hostname = own_line.and_then(|line| line.hostname.clone());
        Member {
            id,
            address: announced
                .or_else(|| own_line.and_then(|line| line.address.clone()))
                .or_else(|| own.map(|observed| observed.dialled.clone()))
                .or_else(|| self.observation.silent.get(&id).and_then(|silent| silent.address.clone())),
            hostname: hostname.or_else(|| most_common(self.lines_about(id).filter_map(|(_, l)| l.hostname.clone()))),
            failing: self.failing(id).0,
        }
    }

    fn standing(&self, id: NodeId) -> Standing {
        if self.observation.alone.contains_key(&id) {
            return Standing::Alone;
        }
        let Some(observed) = self.observation.nodes.get(&id) else { return Standing::Silent };
        if !observed.info.cluster_ok || observed.info.loading {
            Standing::NotServing
        } else if self.failing(id).0 != Failing::No {
            Standing::Failing
        } else if self.voters.values().any(|view| view.line(id).is_none()) {
            Standing::HalfKnown
        } else {
            Standing::Sound
        }
    }

    fn open_slots(&self, owners: &[Option<NodeId>]) -> BTreeMap<Slot, OpenSlot> {
        let mut open: BTreeMap<Slot, OpenSlot> = BTreeMap::new();
        for (&at, view) in &self.voters {
            for marker in &view.myself().markers {
                let slot = marker.slot();
                let owner = owners[slot.index()];
                let entry = open.entry(slot);
                let entry = entry.or_insert_with(|| {
                    let claimants = self.claimants(slot);
                    OpenSlot { slot, owner, claimants, migrating: Vec::new(), importing: Vec::new() }
                });
                match *marker {
                    Marker::Migrating { to, .. } => entry.migrating.push((at, to)),
                    Marker::Importing { from, .. } => entry.importing.push((at, from)),
                }
            }
        }
        open
    }

    /// The servers' own migrations, and the nodes of which they are not known.
    fn jobs(&self) -> (Vec<ServerJob>, BTreeMap<NodeId, String>) {
        let (mut jobs, mut unread): (Vec<ServerJob>, _) = (Vec::new(), BTreeMap::new());
        for (&node, told) in &self.observation.jobs {
            match told {
                Ok(told) => {
                    for job in told {
                        if !jobs.iter().any(|known| known.is_same(job)) {
                            jobs.push(job.clone());
                        }
                    }
                }
                Err(why) => drop(unread.insert(node, why.clone())),
            }
        }
        jobs.sort();
        (jobs, unread)
    }

    fn claimants(&self, slot: Slot) -> Vec<NodeId> {
        self.voters.iter().filter(|(_, view)| view.myself().slots.contains(slot)).map(|(&voter, _)| voter).collect()
    }

    fn unclear(&self) -> Vec<Unclear> {
        let mut unclear = Vec::new();
        for (&node, slots) in &self.agreement.given {
            match self.observation.nodes.get(&node) {
                None if self.roles.get(&node) == Some(&Role::Primary) => {
                    let (address, why) = self.silence(node);
                    unclear.push(Unclear::NodeSilent { node, address, why });
                }
                None => unclear.push(Unclear::RoleUnsure { node }),
                Some(observed) => {
                    if !observed.info.cluster_ok {
                        unclear.push(Unclear::ClusterDown { node });
                    }
                    if observed.info.loading {
                        unclear.push(Unclear::NodeLoading { node });
                    }
                    if self.is_role_unsure(observed, slots) {
                        unclear.push(Unclear::RoleUnsure { node });
                    }
                }
            }
            let (failing, by) = self.failing(node);
            if failing != Failing::No {
                unclear.push(Unclear::NodeFailing { node, failing, by });
            }
        }
        unclear.extend(self.disagreements());
        let (lowest, highest) = (self.epochs().min().unwrap_or(0), self.epochs().max().unwrap_or(0));
        if lowest != highest && self.ours.is_empty() {
            unclear.push(Unclear::EpochsDiffer { lowest, highest });
        }
        unclear.sort();
        unclear
    }

    fn disagreements(&self) -> impl Iterator<Item = Unclear> {
        let Agreement { uncovered, unclaimed, disputed, dissenters, .. } = &self.agreement;
        let uncovered = (!uncovered.is_empty()).then(|| Unclear::SlotsUncovered { slots: uncovered.clone() });
        let disputed = (!disputed.is_empty())
            .then(|| Unclear::ViewsDisagree { slots: disputed.clone(), nodes: dissenters.iter().copied().collect() });
        let unclaimed =
            unclaimed.iter().map(|(&owner, slots)| Unclear::OwnerDoesNotClaim { slots: slots.clone(), owner });
        uncovered.into_iter().chain(unclaimed).chain(disputed)
    }

    /// Whether accounts of the role of a node with slots differ: between its view and its `INFO`, or between it and
    /// others. A primary whose only slots are ours may have lost them and become a replica between two readings.
    fn is_role_unsure(&self, observed: &Observed, slots: &SlotSet) -> bool {
        let myself = observed.view.myself();
        let contradicted = || {
            let owns = !myself.slots.difference(self.ours).is_empty();
            owns && self.lines_about(myself.id).any(|(_, line)| line.role != Role::Primary)
        };
        !slots.difference(self.ours).is_empty()
            && (myself.role != Role::Primary || !observed.info.replication.is_primary || contradicted())
    }

    fn findings(&self, shards: &BTreeMap<NodeId, Shard>, open: &BTreeMap<Slot, OpenSlot>) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            open.values().filter(|open| !self.ours.contains(open.slot)).cloned().map(Finding::OpenSlot).collect();
        for shard in shards.values() {
            findings.extend(self.empty_primary(shard));
            findings.extend(shard.replicas.iter().flat_map(|replica| self.replica(replica.id, shard)));
        }
        for (&at, view) in &self.voters {
            findings.extend(view.handshake_addresses().map(|with| Finding::Handshake { at, with: with.cloned() }));
            let down = view.lines().filter(|line| line.link == Link::Disconnected);
            let answers = down.filter(|line| self.observation.nodes.contains_key(&line.id) && !line.myself);
            findings.extend(answers.map(|line| Finding::LinkDown { at, to: line.id }));
        }
        for &id in self.roles.keys() {
            let (known_by, unknown_to): (Vec<NodeId>, Vec<NodeId>) =
                self.voters.keys().partition(|voter| self.voters[*voter].line(id).is_some());
            if !unknown_to.is_empty() {
                findings.push(Finding::UnknownNode { id, known_by, unknown_to });
            }
        }
        let alone = self.observation.alone.iter();
        findings.extend(alone.map(|(&node, address)| Finding::NodeAlone {
            node,
            address: address.clone(),
            known: self.voters.values().any(|view| view.line(node).is_some()),
        }));
        let unsaved = self.observation.nodes.iter().filter(|(_, observed)| observed.info.save_failed);
        findings.extend(unsaved.map(|(&node, _)| Finding::SaveFailed { node }));
        findings
    }

    /// What is wrong with a primary to which nobody gives a slot: of others it is a reason to be unclear.
    fn empty_primary(&self, shard: &Shard) -> Option<Finding> {
        let node = shard.primary.id;
        if self.agreement.given.contains_key(&node) {
            return None;
        }
        match shard.standing {
            Standing::Silent => {
                let (address, why) = self.silence(node);
                Some(Finding::EmptyPrimarySilent { node, address, why })
            }
            Standing::NotServing => Some(Finding::EmptyPrimaryNotServing { node }),
            Standing::Failing => {
                let (failing, by) = self.failing(node);
                Some(Finding::EmptyPrimaryFailing { node, failing, by })
            }
            // That is told of it whether anybody knows it or not.
            Standing::Alone | Standing::HalfKnown | Standing::Sound => None,
        }
    }

    fn replica(&self, replica: NodeId, shard: &Shard) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (failing, by) = self.failing(replica);
        if failing != Failing::No {
            findings.push(Finding::ReplicaFailing { replica, failing, by });
        }
        if self.observation.silent.contains_key(&replica) {
            let (address, why) = self.silence(replica);
            findings.push(Finding::ReplicaSilent { replica, address, why });
        }
        if let Some(observed) = self.observation.nodes.get(&replica) {
            if observed.info.primary_link.is_some_and(|link| link != PrimaryLink::Up) {
                findings.push(Finding::ReplicaUnlinked { replica });
            }
            findings.extend(self.stale_marks(&observed.view, shard));
            let slots = self.stale_slots(&observed.view, shard);
            if !slots.is_empty() {
                findings.push(Finding::ReplicaViewStale { replica, slots });
            }
        }
        findings
    }

    /// The marks of a replica that its primary does not have, apart from our own slots.
    ///
    /// Valkey gives `SETSLOT` to the replicas first: one that its primary then refused, or never carried out, stays.
    fn stale_marks(&self, view: &NodeView, shard: &Shard) -> Vec<Finding> {
        let Some(primary) = self.observation.nodes.get(&shard.primary.id) else { return Vec::new() };
        let myself = view.myself();
        let stale =
            |marker: &&Marker| !self.ours.contains(marker.slot()) && !primary.view.myself().markers.contains(marker);
        let marks = myself.markers.iter().filter(stale);
        marks.map(|marker| Finding::ReplicaMarkStale { replica: myself.id, marker: *marker }).collect()
    }

    /// The slots of which a replica says wrongly that they are, or are not, its shard's: apart from our own, and from
    /// those that the primaries disagree about themselves.
    fn stale_slots(&self, view: &NodeView, shard: &Shard) -> SlotSet {
        let seen = view.line(shard.primary.id).map_or_else(SlotSet::new, |line| line.slots.clone());
        let agreed = self.agreement.owned.values().fold(SlotSet::new(), |all, slots| all.union(slots));
        let extra = seen.intersection(&agreed).difference(&shard.slots);
        shard.slots.difference(&seen).union(&extra).difference(self.ours)
    }

    /// What each primary but the node itself says of it.
    fn lines_about(&self, id: NodeId) -> impl Iterator<Item = (NodeId, &'a NodeLine)> {
        let others = self.voters.iter().filter(move |(voter, _)| **voter != id);
        others.filter_map(move |(&voter, view)| Some((voter, view.line(id)?)))
    }

    /// The worst that any primary thinks of the node, and who thinks ill of it.
    fn failing(&self, id: NodeId) -> (Failing, Vec<NodeId>) {
        let ill = || self.lines_about(id).filter(|(_, line)| line.failing != Failing::No);
        let worst = ill().map(|(_, line)| line.failing).max().unwrap_or(Failing::No);
        (worst, ill().map(|(voter, _)| voter).collect())
    }

    /// Where a node that gave no answer should be, and why it gave none.
    fn silence(&self, id: NodeId) -> (Option<Address>, String) {
        let silent = self.observation.silent.get(&id);
        let address = silent.and_then(|silent| silent.address.clone()).or_else(|| self.member(id).address);
        (address, silent.map_or_else(|| "it was not asked".to_owned(), |silent| silent.why.clone()))
    }

    /// The current epoch of each primary that answered.
    fn epochs(&self) -> impl Iterator<Item = u64> {
        self.voters.keys().filter_map(|voter| Some(self.observation.nodes.get(voter)?.info.current_epoch))
    }

    fn known(&self, id: NodeId) -> Known {
        let observed = self.observation.nodes.get(&id);
        let own = observed.map(|observed| observed.view.myself());
        let lines = || self.lines_about(id).map(|(_, line)| line).chain(own);
        let dialled = observed.map(|observed| &observed.dialled);
        let silent = self.observation.silent.get(&id).and_then(|silent| silent.address.as_ref());
        let announced = lines().filter_map(|line| line.address.as_ref());
        Known {
            addresses: announced.chain(dialled).chain(silent).cloned().collect(),
            hostnames: lines().filter_map(|line| line.hostname.clone()).collect(),
            answered: observed.is_some(),
        }
    }
}

/// The most frequent of the values, of equally frequent ones the lowest.
fn most_common<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    // `max_by_key` would give the last of equals.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}
