//! Marks that only replicas have, and who takes them away.
//!
//! A Valkey gives `SETSLOT` to its replicas before it carries it out. A replica that was not heard of in time, or whose primary
//! died or refused meanwhile, keeps a mark that no primary has: it means nothing until that replica is promoted, and then the
//! slot is open. `STABLE` at the primary, which changes nothing there, takes it off.
//!
//! It is done in a cluster at rest, at one primary at a time. An order that was not answered may be carried out later; with
//! such a primary nothing is begun until it has been heard of twice.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::checks::check_node;
use super::finalise::ANSWERS;
use super::lease::Lease;
use super::leftovers::{NotTaken, take_away};
use super::{Look, Reason};
use crate::cluster::{Marker, Member, NodeId, NodeView, Observation, PrimaryLink, Product, SlotSet, Topology};
use crate::config::Config;
use crate::redis::{CallError, Conn, Dialer, OpenError};

/// Which replicas' marks have been there since when, and what became of the order that takes them away.
#[derive(Debug, Default)]
pub(super) struct ReplicaMarks {
    known: BTreeMap<LoneMark, Known>,
    ordered: Option<(NodeId, oneshot::Receiver<Ordered>)>,
    unheard: BTreeMap<NodeId, Unheard>,
}

/// A mark that only replicas of this primary have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LoneMark {
    primary: NodeId,
    mark: Marker,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// When it was first seen, or when its removal was tried last.
    since: Instant,
    tried: bool,
    /// Whether its replica hears what its primary says.
    linked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unheard {
    since: Instant,
    answers: u8,
}

/// An order has ended.
#[derive(Debug)]
pub(super) struct Ordered {
    at: Instant,
    may_follow: bool,
}

/// Marks that are to be taken off the replicas of one primary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    primary: Member,
    slots: SlotSet,
    /// Slots by a node that does not own them and may have keys of them.
    astray: Vec<(Member, SlotSet)>,
}

impl ReplicaMarks {
    /// Takes a look in; `answered` says which nodes answered in it, or are known not to run any more.
    pub(super) fn on_look(&mut self, look: &Look, topology: &Topology, answered: impl Fn(NodeId) -> bool) {
        self.take_result();
        let is_primary = |node| topology.shards.contains_key(&node) || !topology.unclear.is_empty();
        self.unheard.retain(|&node, unheard| {
            unheard.answers += u8::from(look.began > unheard.since && answered(node));
            // What one that was replaced carries out reaches nobody.
            unheard.answers < ANSWERS && is_primary(node)
        });
        let before = std::mem::take(&mut self.known);
        self.known = lone_marks(&look.observation, topology);
        for (mark, known) in &mut self.known {
            if let Some(&Known { since, tried, .. }) = before.get(mark) {
                (known.since, known.tried) = (since, tried);
            } else {
                known.since = look.ended;
            }
        }
    }

    fn take_result(&mut self) {
        let Some((node, result)) = &mut self.ordered else { return };
        let ordered = match result.try_recv() {
            Ok(ordered) => ordered,
            // It came to no end of its own.
            Err(oneshot::error::TryRecvError::Closed) => Ordered { at: Instant::now(), may_follow: true },
            Err(oneshot::error::TryRecvError::Empty) => return,
        };
        if ordered.may_follow {
            self.unheard.insert(*node, Unheard { since: ordered.at, answers: 0 });
        }
        self.ordered = None;
    }

    /// Whether an order is under way, so that nothing may be begun.
    pub(super) fn is_under_way(&self) -> bool {
        self.ordered.is_some()
    }

    /// Whether an order may be carried out at this node later, so that nothing may be begun with it.
    pub(super) fn may_follow_at(&self, node: NodeId) -> bool {
        self.unheard.contains_key(&node)
    }

    /// Whether later looks are to tell more: a cluster at rest is not read again. What stays there after an order waits for none.
    pub(super) fn wait_for_looks(&self) -> bool {
        self.is_under_way() || !self.unheard.is_empty() || self.known.values().any(|known| !known.tried)
    }

    /// The first primary of whose replicas marks have been there for so long. What stays is tried again after as long.
    pub(super) fn take_due(&mut self, topology: &Topology, now: Instant, adopt_after: Duration) -> Option<Due> {
        if self.is_under_way() {
            return None;
        }
        let is_due = |known: &Known| known.linked && now.saturating_duration_since(known.since) >= adopt_after;
        let (first, _) = self.known.iter().find(|(of, known)| is_due(known) && !self.may_follow_at(of.primary))?;
        let node = first.primary;
        let primary = topology.shards.get(&node)?.primary.clone();
        let mut slots = SlotSet::new();
        let mut astray: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for (LoneMark { mark, .. }, known) in
            self.known.iter_mut().filter(|(of, known)| of.primary == node && is_due(known))
        {
            (known.since, known.tried) = (now, true);
            slots.insert(mark.slot());
            let (Marker::Migrating { to: other, .. } | Marker::Importing { from: other, .. }) = *mark;
            for node in [node, other].into_iter().filter(|&node| topology.owner(mark.slot()) != Some(node)) {
                astray.entry(node).or_default().insert(mark.slot());
            }
        }
        let member = |node| topology.shards.get(&node).map(|shard| shard.primary.clone());
        let astray = astray.into_iter().filter_map(|(node, slots)| Some((member(node)?, slots))).collect();
        Some(Due { primary, slots, astray })
    }

    /// An order is under way at this node.
    pub(super) fn ordered(&mut self, node: NodeId, result: oneshot::Receiver<Ordered>) {
        self.ordered = Some((node, result));
    }
}

impl Due {
    /// The primary that is to be told.
    pub(super) fn node(&self) -> NodeId {
        self.primary.id
    }
}

/// The marks of Valkey's replicas of slots that no primary has open; also those that our own last moves left, which are no
/// findings yet.
fn lone_marks(observation: &Observation, topology: &Topology) -> BTreeMap<LoneMark, Known> {
    let mut lone = BTreeMap::new();
    for shard in topology.shards.values() {
        let primary = shard.primary.id;
        let replicates =
            observation.nodes.get(&primary).is_some_and(|primary| primary.info.version.product == Product::Valkey);
        let replicas = shard.replicas.iter().filter(|_| replicates).filter_map(|it| observation.nodes.get(&it.id));
        for replica in replicas {
            let linked = replica.info.primary_link == Some(PrimaryLink::Up);
            let marks = replica.view.myself().markers.iter();
            for &mark in marks.filter(|mark| !topology.open.contains_key(&mark.slot())) {
                let known = Known { since: Instant::now(), tried: false, linked };
                lone.entry(LoneMark { primary, mark })
                    .and_modify(|known: &mut Known| known.linked &= linked)
                    .or_insert(known);
            }
        }
    }
    lone
}

/// Why no mark is taken away.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Unreachable(#[from] OpenError),
    #[error(transparent)]
    Unread(#[from] CallError),
    #[error("its list of nodes cannot be read: {0}")]
    Unclear(String),
    #[error("{0}")]
    Forbidden(Reason),
    #[error("the lease is another's, or about to be")]
    Lease,
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
}

/// Takes the marks away that are due. What is refused is there in the next look.
pub(super) async fn take_off(dialer: &Dialer, lease: &Lease, config: &Config, due: Due) -> Ordered {
    let node = due.primary.id;
    let taken = take_off_at(dialer, lease, config, due).await;
    match &taken {
        Ok(slots) if slots.is_empty() => {}
        Ok(slots) => info!(%node, %slots, "marks that only its replicas had are taken away"),
        Err(why) => warn!(%node, %why, "marks that only its replicas have are not taken away"),
    }
    let may_follow = matches!(taken, Err(Failure::NotTaken(NotTaken::Unanswered(_))));
    Ordered { at: Instant::now(), may_follow }
}

/// A slot of which a node has keys without owning it is left to `evenkeel repair`, which judges it by all that is known.
async fn take_off_at(dialer: &Dialer, lease: &Lease, config: &Config, due: Due) -> Result<SlotSet, Failure> {
    let Due { primary, mut slots, astray } = due;
    for (member, of) in astray {
        slots = slots.difference(&astray_at(dialer, &member, &of).await?);
    }
    let conn = open(&dialer.bare(), &primary).await?;
    let view = NodeView::parse(&conn.cluster_nodes().await?).map_err(|error| Failure::Unclear(error.to_string()))?;
    slots = slots.difference(&view.myself().markers.iter().map(|mark| mark.slot()).collect());
    if let Some(reason) = check_node(&conn, dialer, config).await?.0.into_iter().next() {
        return Err(Failure::Forbidden(reason));
    }
    if !lease.may_act() {
        return Err(Failure::Lease);
    }
    if !slots.is_empty() {
        take_away(&conn, &slots, true).await?;
    }
    Ok(slots)
}

/// Those of the slots of which the node holds keys, in any of its databases.
async fn astray_at(dialer: &Dialer, member: &Member, slots: &SlotSet) -> Result<SlotSet, Failure> {
    let mut astray = SlotSet::new();
    for db in open(dialer, member).await?.databases().await? {
        // A connection for each database: to change it on one in use would count in the wrong one.
        let conn = open(dialer, member).await?;
        if db != 0 {
            conn.select(db).await?;
        }
        let counted = conn.count_keys(slots).await?;
        astray.extend(counted.into_iter().filter(|(_, keys)| *keys > 0).map(|(slot, _)| slot));
    }
    Ok(astray)
}

async fn open(dialer: &Dialer, member: &Member) -> Result<Conn, Failure> {
    let address = member.address.as_ref().ok_or_else(|| Failure::Unclear("it announces no address".to_owned()))?;
    Ok(dialer.open(address, member.hostname.as_deref(), member.id).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{id, observation};

    const LASTS: Duration = Duration::from_mins(1);
    const MARKED: &str =
        "a 0-8191\na1 of a [5->-b]\nb 8192-16383\na info valkey_version:9.1.2\na1 info master_link_status:up";

    struct Story {
        marks: ReplicaMarks,
        begin: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self { marks: ReplicaMarks::default(), begin: Instant::now() }
        }

        fn at(&self, s: u64) -> Instant {
            self.begin + Duration::from_secs(s)
        }

        /// A look at this second; what is due then: at whom, and where keys may be astray.
        fn see(&mut self, s: u64, cluster: &str) -> String {
            let at = self.at(s);
            let (observation, mover_calls) = (observation(cluster), BTreeMap::new());
            let look = Look { number: s, observation, mover_calls, began: at, ended: at };
            let topology = Topology::merge(&look.observation, &SlotSet::new());
            self.marks.on_look(&look, &topology, |node| look.observation.nodes.contains_key(&node));
            let due = self.marks.take_due(&topology, at, LASTS);
            let name = |node: &Member| node.id.to_string()[..1].to_owned();
            due.map_or_else(String::new, |due| {
                let astray = due.astray.iter().map(|(node, slots)| format!(" {}? {slots}", name(node)));
                format!("{} {}{}", name(&due.primary), due.slots, astray.collect::<String>())
            })
        }

        /// Orders something of `a`; the result is to be sent.
        fn order(&mut self) -> oneshot::Sender<Ordered> {
            let (send, receive) = oneshot::channel();
            self.marks.ordered(id("a"), receive);
            send
        }
    }

    #[test]
    fn a_mark_that_only_a_replica_has_is_due_when_it_has_lasted_and_again_after_as_long() {
        let mut story = Story::new();
        assert_eq!(story.see(0, MARKED), "");
        assert_eq!(story.see(59, MARKED), "");
        assert!(story.marks.wait_for_looks());
        assert_eq!(story.see(60, MARKED), "a 5 b? 5");
        assert!(!story.marks.wait_for_looks(), "what stays holds nobody up");
        assert_eq!(story.see(119, MARKED), "");
        assert_eq!(story.see(120, MARKED), "a 5 b? 5");
    }

    #[test]
    fn one_that_went_or_changed_meanwhile_is_as_new() {
        for other in [MARKED.replace(" [5->-b]", ""), MARKED.replace("[5->-b]", "[5-<-b]")] {
            let mut story = Story::new();
            assert_eq!(story.see(0, MARKED), "");
            assert_eq!(story.see(50, &other), "");
            assert_eq!(story.see(70, MARKED), "");
            assert_eq!(story.see(130, MARKED), "a 5 b? 5");
        }
    }

    #[test]
    fn one_primary_is_told_at_a_time() {
        let both = format!("{MARKED}\nb1 of b [5-<-a]\nb info valkey_version:9.1.2\nb1 info master_link_status:up");
        let mut story = Story::new();
        story.see(0, &both);
        assert_eq!(story.see(60, &both), "a 5 b? 5");
        let result = story.order();
        assert_eq!(story.see(61, &both), "");
        result.send(Ordered { at: story.at(62), may_follow: false }).expect("it is waited for");
        assert_eq!(story.see(63, &both), "b 5 b? 5");
    }

    #[test]
    fn slots_that_are_open_at_a_primary_too_replicas_of_redis_and_those_without_a_link_are_left() {
        let open = MARKED.replace("b 8192-16383", "b 8192-16383 [5-<-a]");
        let redis = MARKED.replace("\na info valkey_version:9.1.2", "");
        let unlinked = MARKED.replace("master_link_status:up", "master_link_status:down");
        for cluster in [open.as_str(), &redis, &unlinked] {
            let mut story = Story::new();
            story.see(0, cluster);
            assert_eq!(story.see(100, cluster), "", "{cluster}");
        }
    }

    #[test]
    fn nothing_is_begun_while_an_order_is_under_way() {
        let mut story = Story::new();
        let result = story.order();
        story.see(1, MARKED);
        assert!(story.marks.is_under_way());
        result.send(Ordered { at: story.at(2), may_follow: false }).expect("it is waited for");
        story.see(3, MARKED);
        assert!(!story.marks.is_under_way() && !story.marks.may_follow_at(id("a")));
    }

    #[test]
    fn with_a_primary_that_did_not_answer_nothing_is_begun_until_it_was_heard_of_in_two_looks() {
        let mut story = Story::new();
        story.order().send(Ordered { at: story.at(5), may_follow: true }).expect("it is waited for");
        story.see(4, MARKED);
        story.see(6, &MARKED.replace("a info valkey_version:9.1.2", "a silent timed out"));
        story.see(7, MARKED);
        assert!(story.marks.may_follow_at(id("a")), "one answer");
        assert!(!story.marks.may_follow_at(id("b")));
        story.see(8, MARKED);
        assert!(!story.marks.may_follow_at(id("a")));
    }

    #[test]
    fn a_primary_that_was_replaced_is_not_waited_for() {
        let mut story = Story::new();
        drop(story.order());
        story.see(1, MARKED);
        assert!(story.marks.may_follow_at(id("a")), "who ordered has died");
        story.see(2, "a1 0-8191\nb 8192-16383\na of a1\na silent timed out");
        assert!(!story.marks.may_follow_at(id("a")));
    }
}
