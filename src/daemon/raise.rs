//! The epoch of a target's successor is raised above whatever the target may have given itself before it died.
//!
//! Taking slots gives a target a new config epoch, which is on its disk before anybody is told. Its replica is elected with
//! the same one where nobody was, and of two primaries with one epoch the servers raise that of the smaller id: started
//! again, the target may take all its slots back, with what it has of them on disk or nothing. While it is away that can be
//! kept from it: `docs/adr/0022-the-successor-of-a-target-gets-a-new-epoch.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::Lease;
use super::own::OwnSlots;
use crate::cluster::{Failing, Member, NodeId, NodeView, Observation, Role, Shard, Slot, SlotSet, Topology};
use crate::redis::{Conn, Dialer, RaisedEpoch};

/// How long a raise may take in all: gossip of a large cluster takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one node may take to be dialled and to say what it is.
const DIAL: Duration = Duration::from_secs(1);
/// Between two orders to a node, which does nothing until it has heard of the epoch before, and after a fault.
const BETWEEN_ORDERS: Duration = Duration::from_millis(20);
/// How long one order is good for, by the clock of its server: one that it finds when it wakes from hanging raises nothing.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// How long finalises are held back for primaries to agree after an election: gossip takes a second or two, and what is open is
/// to be finished.
const HOLDS_BACK: Duration = Duration::from_secs(3);

/// The targets that were replaced and have not come back as replicas, and the raise that is under way.
#[derive(Debug, Default)]
pub(super) struct Raises {
    replaced: BTreeMap<NodeId, State>,
    under_way: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was raised because of it yet; `told` says that the log has it.
    Due { since: Instant, told: bool },
    /// It was tried, and the log says how it ended.
    Tried,
}

/// Whose epoch is to be raised because of whom, and who can have it hear of a higher one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raise {
    replaced: NodeId,
    successor: Member,
    /// The owners of slots that are on their way to it: else the target, started again, would take these with its epoch.
    sources: Vec<Member>,
    /// In the order in which they are asked: those first who have no slots that a higher epoch could give them.
    others: Vec<Member>,
    /// The highest epoch that any primary has heard of.
    known: u64,
}

impl Raises {
    /// Slots are on their way to these targets; `successor` is who has a node's part by now.
    pub(super) fn note_replaced(
        &mut self,
        targets: impl IntoIterator<Item = NodeId>,
        topology: &Topology,
        successor: impl Fn(NodeId) -> NodeId,
        now: Instant,
    ) {
        let is_replica = |node| topology.shard_of(node).is_some_and(|shard| shard.primary.id != node);
        for target in targets.into_iter().filter(|&target| successor(target) != target && !is_replica(target)) {
            self.replaced.entry(target).or_insert(State::Due { since: now, told: false });
        }
    }

    /// Takes a look in: who has become a replica, or is known no more, takes nothing back any more; nor does who has its own part
    /// again, once all agree.
    pub(super) fn on_look(&mut self, observation: &Observation, agreed: bool, successor: impl Fn(NodeId) -> NodeId) {
        let is_known = |node: NodeId| observation.nodes.values().any(|observed| observed.view.line(node).is_some());
        let may_claim = |node: NodeId| match observation.nodes.get(&node) {
            Some(observed) => observed.view.myself().role == Role::Primary && !(agreed && successor(node) == node),
            None => is_known(node),
        };
        self.replaced.retain(|&node, _| may_claim(node));
    }

    /// Tells of those that were due for so long that an operator should know.
    pub(super) fn tell_overdue(&mut self, now: Instant) {
        for (target, state) in &mut self.replaced {
            if let State::Due { since, told: told @ false } = state
                && now.duration_since(*since) >= PATIENCE
            {
                *told = true;
                tell_failed(*target, None, "the cluster is not seen to be whole, or others are at work there");
            }
        }
    }

    /// Whether one became due so lately that finalises are held back for it: while they go on, primaries never all agree.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        let is_new =
            |state: &State| matches!(state, State::Due { since, .. } if now.duration_since(*since) < HOLDS_BACK);
        self.replaced.values().any(is_new)
    }

    /// Whether one is just being carried out.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// The next one that may be begun, by a topology in which all agree; `successor` is who has a node's part now, and `is_settled`
    /// says of a node that everybody knows of the slots that it gave.
    pub(super) fn next(
        &self,
        topology: &Topology,
        own: &OwnSlots,
        successor: impl Fn(NodeId) -> NodeId,
        is_settled: impl Fn(NodeId) -> bool,
    ) -> Option<Raise> {
        let mut due = self.replaced.iter().filter(|(_, state)| matches!(state, State::Due { .. }));
        due.find_map(|(&replaced, _)| raise(replaced, successor(replaced), topology, own, &is_settled))
    }

    /// Somebody carries it out.
    pub(super) fn begun(&mut self, replaced: NodeId, task: JoinHandle<()>) {
        self.replaced.insert(replaced, State::Tried);
        self.under_way = Some(task);
    }
}

fn raise(
    replaced: NodeId,
    successor: NodeId,
    topology: &Topology,
    own: &OwnSlots,
    is_settled: impl Fn(NodeId) -> bool,
) -> Option<Raise> {
    if successor == replaced {
        return None;
    }
    let open = topology.open.values().filter(|open| !own.contains(open.slot));
    let marked = open.flat_map(|open| open.migrating.iter().chain(&open.importing).map(|(at, _)| *at));
    let marked: BTreeSet<NodeId> = marked.collect();
    let is_at_work = |node: NodeId| {
        let has_job = topology.jobs.iter().any(|job| job.concerns(node)) || topology.jobs_unread.contains_key(&node);
        has_job || marked.contains(&node)
    };
    let may = |node: NodeId| {
        let shard = topology.shards.get(&node).filter(|shard| shard.usable())?;
        (!is_at_work(node) && is_settled(node)).then_some(shard)
    };
    let heir = may(successor)?;
    // A source that gave its slots away already has no claim that could be made stronger, and others may not know of it yet.
    let claims = |slot: &Slot, source| {
        topology.open.get(slot).is_some_and(|open| open.owner == Some(source) && open.claimants == [source])
    };
    let on_their_way = || own.iter().filter(|(_, pair)| pair.target == successor);
    if on_their_way().any(|(slot, pair)| !claims(&slot, pair.source)) {
        return None;
    }
    let sources: BTreeSet<NodeId> = on_their_way().map(|(_, pair)| pair.source).collect();
    let replicas = topology.shards.values().filter(|shard| shard.usable()).flat_map(|shard| &shard.replicas);
    let replicas = replicas.filter(|replica| replica.failing == Failing::No);
    let is_other = |node: &NodeId| *node != successor && !sources.contains(node);
    let primaries = || topology.shards.keys().copied().filter(is_other).filter_map(may);
    let primaries_if = |has_slots: bool| {
        let has_so = move |shard: &&Shard| shard.slots.is_empty() != has_slots;
        primaries().filter(has_so).map(|shard| &shard.primary)
    };
    Some(Raise {
        replaced,
        successor: heir.primary.clone(),
        sources: sources.iter().map(|node| Some(may(*node)?.primary.clone())).collect::<Option<_>>()?,
        others: replicas.chain(primaries_if(false)).chain(primaries_if(true)).cloned().collect(),
        known: topology.current_epoch(),
    })
}

fn tell_failed(target: NodeId, successor: Option<NodeId>, why: &str) {
    warn!(
        %target, successor = successor.map(|node| node.to_string()), why,
        "the target was replaced while slots were on their way to it, and may have an epoch that its successor has too: before \
         it is started again, raise its successor's (docs/operating.md)"
    );
}

/// Who raises epochs: what it dials with, and what it asks before each order.
pub(super) struct Raiser {
    pub(super) dialer: Dialer,
    pub(super) lease: Lease,
    /// Our open slots: of no others may there be marks at a node whose epoch is raised.
    pub(super) ours: watch::Receiver<Arc<SlotSet>>,
}

impl Raise {
    /// The target that was replaced, and its successor.
    pub(super) fn between(&self) -> (NodeId, NodeId) {
        (self.replaced, self.successor.id)
    }

    /// Carries it out, and tells in the log how it ended. Nobody finalises meanwhile: an epoch that rises beside a finalise costs keys.
    pub(super) async fn carry_out(self, raiser: Raiser) {
        let (target, successor) = self.between();
        let deadline = Instant::now() + PATIENCE;
        let mut last = "some node does not answer, or has not heard of the others' epochs".to_owned();
        let mut elsewhere = None;
        while let Ok(raised) = timeout_at(deadline, self.raised(&raiser, &mut elsewhere)).await {
            match raised {
                Ok(epoch) => {
                    info!(
                        %target, %successor, epoch,
                        "the target was replaced while slots were on their way to it; its successor's epoch is raised above any \
                         that it may have"
                    );
                    return;
                }
                Err(why) => last = why,
            }
            sleep(BETWEEN_ORDERS).await;
        }
        tell_failed(target, Some(successor), &last);
    }

    /// `elsewhere` is the epoch that was raised at another node, once one was: after a fault none is raised there again.
    async fn raised(&self, raiser: &Raiser, elsewhere: &mut Option<u64>) -> Result<u64, String> {
        let mut highest = match *elsewhere {
            Some(epoch) => epoch,
            None => *elsewhere.insert(self.raised_elsewhere(raiser).await?),
        };
        for member in self.sources.iter().chain([&self.successor]) {
            let conn = raiser.dial(member).await?;
            highest = raiser.raise_above(highest, &conn).await?;
        }
        Ok(highest)
    }

    /// An epoch for the others to hear of, which nobody had before. The successor's may be the target's too, and so may the next.
    async fn raised_elsewhere(&self, raiser: &Raiser) -> Result<u64, String> {
        let mut last = "there is no other node that may raise its own first".to_owned();
        for other in &self.others {
            let raised = match raiser.dial(other).await {
                Ok(conn) => raiser.order(self.known, &conn).await,
                Err(why) => Err(why),
            };
            match raised {
                Ok(RaisedEpoch::New(epoch)) => return Ok(epoch),
                Ok(RaisedEpoch::Highest(_)) => last = format!("{} has the highest epoch already", other.id),
                Ok(RaisedEpoch::Behind) => last = format!("{} has not heard of epoch {}", other.id, self.known),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

impl Raiser {
    async fn dial(&self, member: &Member) -> Result<Conn, String> {
        let address = member.address.as_ref().ok_or_else(|| format!("{} has no address", member.id))?;
        let dialled = timeout(DIAL, self.dialer.open(address, member.hostname.as_deref(), member.id)).await;
        dialled.map_err(|_| format!("no answer from {address}"))?.map_err(|why| why.to_string())
    }

    /// Raises a node's epoch above this one, once the node has heard of it.
    async fn raise_above(&self, epoch: u64, conn: &Conn) -> Result<u64, String> {
        loop {
            match self.order(epoch, conn).await? {
                RaisedEpoch::New(raised) => return Ok(raised),
                RaisedEpoch::Highest(own) if own > epoch => return Ok(own),
                RaisedEpoch::Highest(_) | RaisedEpoch::Behind => sleep(BETWEEN_ORDERS).await,
            }
        }
    }

    /// One order, to a node that has no marks but ours, while owners may be changed.
    async fn order(&self, above: u64, conn: &Conn) -> Result<RaisedEpoch, String> {
        let now = conn.time().await.map_err(|why| why.to_string())?;
        let text = conn.cluster_nodes().await.map_err(|why| why.to_string())?;
        let view = NodeView::parse(&text).map_err(|why| why.to_string())?;
        let ours = Arc::clone(&self.ours.borrow());
        if let Some(marker) = view.myself().markers.iter().find(|marker| !ours.contains(marker.slot())) {
            return Err(format!("{} has a mark of slot {}, which is not ours", conn.address(), marker.slot()));
        }
        if !self.lease.may_finalise() {
            return Err("too little of the lease remains".to_owned());
        }
        conn.raise_epoch_before(now.plus(GOOD_FOR), above).await.map_err(|why| why.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{id, observation};
    use crate::migration::Pair;

    const BEFORE: &str = "a 0-99 [5->-b]\nb 100-16383 [5-<-a]\nb1 of b\nc\nc1 of c";
    const AFTER: &str = "a 0-99 [5->-b]\na1 of a\nb fail\nb silent refused\nb1 100-16383\nc\nc1 of c";

    /// Shows the clusters one after the other, slot 5 being ours and on its way from a to b; whose epoch is to be raised because
    /// of whom, and who is asked first, after each of them.
    #[track_caller]
    fn check(stories: &[&str], expect: &[Option<&str>]) {
        let (mut raises, mut own) = (Raises::default(), OwnSlots::default());
        own.insert(&"5".parse().unwrap(), Pair { source: id("a"), target: id("b") });
        let all = ["a", "a1", "b", "b1", "c", "c1", "d"];
        let name = |node: NodeId| all.into_iter().find(|name| id(name) == node).unwrap();
        let names = |members: &[Member]| members.iter().map(|it| name(it.id)).collect::<Vec<_>>().join(" ");
        let told: Vec<Option<String>> = stories
            .iter()
            .map(|story| {
                let observation = observation(story);
                let topology = Topology::merge(&observation, &"5".parse().unwrap());
                let heir = topology.shards.get(&id("b1")).filter(|shard| !shard.slots.is_empty());
                let successor = |node| if node == id("b") && heir.is_some() { id("b1") } else { node };
                let of_the_move = own.targets();
                raises.note_replaced(own.targets(), &topology, successor, Instant::now());
                own.follow(successor);
                raises.on_look(&observation, true, successor);
                // The move ends, and what it left is between the nodes that it began with.
                raises.note_replaced(of_the_move, &topology, successor, Instant::now());
                let raise = raises.next(&topology, &own, successor, |node| node != id("d"))?;
                let (replaced, successor) = raise.between();
                raises.replaced.insert(replaced, State::Tried);
                let (sources, others) = (names(&raise.sources), names(&raise.others));
                Some(format!("{}: {others}, then {sources}, then {}", name(replaced), name(successor)))
            })
            .collect();
        let expect: Vec<Option<String>> = expect.iter().map(|told| told.map(str::to_owned)).collect();
        assert_eq!(told, expect, "{stories:#?}");
    }

    #[test]
    fn who_was_replaced_has_a_successor_whose_epoch_is_raised_once() {
        check(&[BEFORE, AFTER, AFTER], &[None, Some("b: a1 c1 c, then a, then b1"), None]);
    }

    #[test]
    fn who_is_away_a_second_time_has_its_successors_epoch_raised_again() {
        let mut raises = Raises::default();
        let away = observation(AFTER);
        let note = |raises: &mut Raises| {
            let topology = Topology::merge(&away, &SlotSet::new());
            raises.note_replaced([id("b")], &topology, |_| id("b1"), Instant::now());
            raises.replaced[&id("b")]
        };
        assert!(matches!(note(&mut raises), State::Due { .. }));
        raises.replaced.insert(id("b"), State::Tried);
        raises.on_look(&away, true, |_| id("b1"));
        assert_eq!(note(&mut raises), State::Tried);
        // It woke, and has slots of its own beside its successor.
        raises.on_look(&observation("a 0-99\nb 100\nb1 101-16383"), true, |node| node);
        assert!(matches!(note(&mut raises), State::Due { .. }));
    }

    #[test]
    fn who_came_back_takes_nothing_back_any_more() {
        check(&[BEFORE, "a 0-99 [5->-b]\nb of b1\nb1 100-16383\nc\nc1 of c"], &[None, None]);
    }

    #[test]
    fn no_epoch_is_raised_where_others_are_at_work() {
        let at_heir = AFTER.replace("b1 100-16383", "b1 100-16383 [7-<-a]");
        check(&[BEFORE, &at_heir, AFTER], &[None, None, Some("b: a1 c1 c, then a, then b1")]);
        let at_source = AFTER.replace("[5->-b]", "[5->-b] [7->-c]");
        check(&[BEFORE, &at_source], &[None, None]);
        let elsewhere = AFTER.replace("c\n", "c [7-<-a]\n");
        check(&[BEFORE, &elsewhere], &[None, Some("b: a1 c1, then a, then b1")]);
        let given_away = AFTER.replace("a 0-99 [5->-b]", "a 0-4 6-99").replace("b1 100-16383", "b1 5 100-16383");
        check(&[BEFORE, &given_away, AFTER], &[None, None, Some("b: a1 c1 c, then a, then b1")]);
        let by_a_server = format!("{AFTER}\nb1 job c 200 snapshotting");
        check(&[BEFORE, &by_a_server], &[None, None]);
    }
}
