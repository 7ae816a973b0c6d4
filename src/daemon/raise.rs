//! The epoch of a target's successor is raised above whatever the target may have given itself before it died.
//!
//! Taking slots gives a target a new config epoch, which is on its disk before anybody is told. Its replica is elected with
//! the same one where nobody was, and of two primaries with one epoch the servers raise that of the smaller id: started
//! again, the target may take all its slots back, with what it has of them on disk or nothing. While it is away that can be
//! kept from it: `docs/adr/0022-the-successor-of-a-target-gets-a-new-epoch.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::own::OwnSlots;
use crate::cluster::{Member, NodeId, NodeView, Observation, Role, SlotSet, Topology};
use crate::redis::{Conn, Dialer, RaisedEpoch};

/// How long the successor may take to hear of a higher epoch than its own: gossip of a large cluster takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two orders to the successor, which does nothing until it has heard of one.
const BETWEEN_ORDERS: Duration = Duration::from_millis(20);
/// How long others wait for one that cannot be begun yet.
const HOLDS_UP: Duration = Duration::from_secs(3);
/// How long one order is good for, by the clock of its server: one that it finds when it wakes from hanging raises nothing.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The targets that were replaced and have not come back as replicas, and the raise that is under way.
#[derive(Debug, Default)]
pub(super) struct Raises {
    replaced: BTreeMap<NodeId, State>,
    under_way: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due { since: Instant },
    Begun,
}

/// Whose epoch is to be raised because of whom, and who can have it know of a higher one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raise {
    replaced: NodeId,
    successor: Member,
    /// The owners of slots that are on their way to it: else the target, started again, would take these with its epoch.
    sources: Vec<Member>,
    /// In the order in which they are asked: those first who have no slots that a higher epoch could give them.
    others: Vec<Member>,
    /// The open slots that are known to be ours: of no others may there be marks at a node whose epoch is raised.
    ours: SlotSet,
}

impl Raises {
    /// Slots are on their way to these targets; `successor` is who has a node's part by now.
    pub(super) fn replaced(
        &mut self,
        targets: impl IntoIterator<Item = NodeId>,
        successor: impl Fn(NodeId) -> NodeId,
        now: Instant,
    ) {
        for target in targets.into_iter().filter(|target| successor(*target) != *target) {
            self.replaced.entry(target).or_insert(State::Due { since: now });
        }
    }

    /// Takes a look in: who has become a replica, or is known no more, takes nothing back any more.
    pub(super) fn on_look(&mut self, observation: &Observation) {
        let is_known = |node: NodeId| observation.nodes.values().any(|observed| observed.view.line(node).is_some());
        let may_claim =
            |node| observation.nodes.get(&node).is_none_or(|observed| observed.view.myself().role == Role::Primary);
        self.replaced.retain(|&node, _| may_claim(node) && is_known(node));
    }

    /// Whether one became due so lately that finalises wait for it, which bring about that not all agree.
    pub(super) fn holds_up(&self, now: Instant) -> bool {
        let is_new = |state: &State| matches!(state, State::Due { since } if now.duration_since(*since) < HOLDS_UP);
        self.replaced.values().any(is_new)
    }

    /// Whether one is just being carried out.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// The next one that may be begun, by a topology in which all agree; `successor` is who has a node's part now.
    pub(super) fn next(
        &self,
        topology: &Topology,
        own: &OwnSlots,
        successor: impl Fn(NodeId) -> NodeId,
    ) -> Option<Raise> {
        let due = self.replaced.iter().filter(|(_, state)| matches!(state, State::Due { .. }));
        due.map(|(&replaced, _)| raise(replaced, successor(replaced), topology, own)).find_map(|raise| raise)
    }

    /// Somebody carries it out.
    pub(super) fn begun(&mut self, replaced: NodeId, task: JoinHandle<()>) {
        self.replaced.insert(replaced, State::Begun);
        self.under_way = Some(task);
    }
}

fn raise(replaced: NodeId, successor: NodeId, topology: &Topology, own: &OwnSlots) -> Option<Raise> {
    if successor == replaced {
        return None;
    }
    let open = topology.open.values().filter(|open| !own.contains(open.slot));
    let at_work = open.flat_map(|open| open.migrating.iter().chain(&open.importing).map(|(at, _)| *at));
    let at_work: Vec<NodeId> = at_work.collect();
    let may = |node: NodeId| topology.shards.get(&node).filter(|shard| shard.usable() && !at_work.contains(&node));
    let heir = may(successor)?;
    let on_their_way = own.iter().filter(|(_, pair)| pair.target == successor);
    let sources: BTreeSet<NodeId> = on_their_way.map(|(_, pair)| pair.source).collect();
    let replicas = topology.shards.values().filter(|shard| shard.usable()).flat_map(|shard| &shard.replicas);
    let is_other = |node: &NodeId| *node != successor && !sources.contains(node);
    let primaries = || topology.shards.keys().copied().filter(is_other).filter_map(may);
    let without_slots = primaries().filter(|shard| shard.slots.is_empty()).map(|shard| &shard.primary);
    let with_slots = primaries().filter(|shard| !shard.slots.is_empty()).map(|shard| &shard.primary);
    Some(Raise {
        replaced,
        successor: heir.primary.clone(),
        sources: sources.iter().map(|node| Some(may(*node)?.primary.clone())).collect::<Option<_>>()?,
        others: replicas.chain(without_slots).chain(with_slots).cloned().collect(),
        ours: own.slots(),
    })
}

impl Raise {
    /// The target that was replaced.
    pub(super) fn of(&self) -> NodeId {
        self.replaced
    }

    /// Carries it out, and tells in the log how it ended. Nobody finalises meanwhile: an epoch that rises beside a finalise costs keys.
    pub(super) async fn carry_out(self, dialer: Dialer) {
        let (target, successor) = (self.replaced, self.successor.id);
        let raised = tokio::time::timeout(PATIENCE, self.raised(&dialer)).await;
        match raised.unwrap_or_else(|_| Err(format!("it has heard of no higher one for {} s", PATIENCE.as_secs()))) {
            Ok(epoch) => info!(
                %target, %successor, epoch,
                "the target was replaced while slots were on their way to it; its successor's epoch is raised above any that \
                 it may have"
            ),
            Err(why) => warn!(
                %target, %successor, why,
                "the target was replaced while slots were on their way to it, and may have an epoch that its successor has too: \
                 before it is started again, raise its successor's (docs/operating.md)"
            ),
        }
    }

    async fn raised(&self, dialer: &Dialer) -> Result<u64, String> {
        let mut highest = self.raised_elsewhere(dialer).await?;
        for member in self.sources.iter().chain([&self.successor]) {
            let conn = self.at_rest(member, dialer).await?;
            highest = raised_above(highest, &conn).await?;
        }
        Ok(highest)
    }

    /// An epoch for the others to hear of, which nobody had before. The successor's may be the target's too, and so may the next.
    async fn raised_elsewhere(&self, dialer: &Dialer) -> Result<u64, String> {
        let mut why = "there is no other node that may raise its own first".to_owned();
        for other in &self.others {
            let raised = match self.at_rest(other, dialer).await {
                Ok(conn) => ordered(&conn, 0).await,
                Err(why) => Err(why),
            };
            match raised {
                Ok(RaisedEpoch::New(epoch)) => return Ok(epoch),
                Ok(RaisedEpoch::Highest(_) | RaisedEpoch::Behind) => why = format!("{} has the highest", other.id),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// A connection to a node that has no marks but ours.
    async fn at_rest(&self, member: &Member, dialer: &Dialer) -> Result<Conn, String> {
        let address = member.address.as_ref().ok_or_else(|| format!("{} has no address", member.id))?;
        let conn = dialer.open(address, member.hostname.as_deref(), member.id).await.map_err(|why| why.to_string())?;
        let text = conn.cluster_nodes().await.map_err(|why| why.to_string())?;
        let view = NodeView::parse(&text).map_err(|why| why.to_string())?;
        let myself = view.myself();
        if member.id == self.successor.id && myself.role != Role::Primary {
            return Err("it is a primary no more".to_owned());
        }
        match myself.markers.iter().find(|marker| !self.ours.contains(marker.slot())) {
            Some(marker) => Err(format!("{address} has a mark of slot {}, which is not ours", marker.slot())),
            None => Ok(conn),
        }
    }
}

/// Raises a node's epoch above this one, once the node has heard of it.
async fn raised_above(epoch: u64, conn: &Conn) -> Result<u64, String> {
    loop {
        match ordered(conn, epoch).await? {
            RaisedEpoch::New(raised) => return Ok(raised),
            RaisedEpoch::Highest(own) if own > epoch => return Ok(own),
            RaisedEpoch::Highest(_) | RaisedEpoch::Behind => sleep(BETWEEN_ORDERS).await,
        }
    }
}

async fn ordered(conn: &Conn, above: u64) -> Result<RaisedEpoch, String> {
    let now = conn.time().await.map_err(|why| why.to_string())?;
    conn.raise_epoch_before(now.plus(GOOD_FOR), above).await.map_err(|why| why.to_string())
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
                raises.replaced(own.targets(), successor, Instant::now());
                own.follow(successor);
                raises.on_look(&observation);
                let raise = raises.next(&topology, &own, successor)?;
                raises.replaced.insert(raise.of(), State::Begun);
                let (sources, others) = (names(&raise.sources), names(&raise.others));
                Some(format!("{}: {others}, then {sources}, then {}", name(raise.of()), name(raise.successor.id)))
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
    fn who_came_back_takes_nothing_back_any_more() {
        check(&[BEFORE, "a 0-99 [5->-b]\nb of b1\nb1 100-16383\nc\nc1 of c"], &[None, None]);
    }

    #[test]
    fn no_epoch_is_raised_beside_the_marks_of_others() {
        let at_heir = AFTER.replace("b1 100-16383", "b1 100-16383 [7-<-a]");
        check(&[BEFORE, &at_heir, AFTER], &[None, None, Some("b: a1 c1 c, then a, then b1")]);
        let at_source = AFTER.replace("[5->-b]", "[5->-b] [7->-c]");
        check(&[BEFORE, &at_source], &[None, None]);
        let elsewhere = AFTER.replace("c\n", "c [7-<-a]\n");
        check(&[BEFORE, &elsewhere], &[None, Some("b: a1 c1, then a, then b1")]);
    }
}
