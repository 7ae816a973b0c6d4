//! Marks that a former target woke with: it was replaced while it hung, and is a primary of other slots beside its successor.
//!
//! Nobody is sent there for the slots that its successor takes in, but it still has their importing marks. On Valkey it would
//! take them as soon as their source claims them no more; on Redis it would go on naming their source as the owner. So its
//! marks are taken away before the slots are finished. Copies that it holds are left as they are.

use std::collections::BTreeMap;

use thiserror::Error;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::lineage::Lineage;
use super::own::OwnSlots;
use crate::cluster::{Member, NodeId, OpenSlot, Slot, SlotSet, Topology};
use crate::migration::{Mark, Pair, SetSlotReply};
use crate::redis::{CallError, Conn, Dialer};

/// The marks of the look before, and whether any are just being taken away.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    seen: BTreeMap<Leftover, SlotSet>,
    closing: Option<JoinHandle<()>>,
}

/// At whom marks are left, of slots that go to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Leftover {
    at: NodeId,
    to: NodeId,
}

impl Leftovers {
    /// Takes a look in; returns what is to be closed where. What was seen once only is left: a first answer may overtake,
    /// within one turn of a server that wakes, what an older connection still holds for it.
    pub(super) fn on_look(
        &mut self,
        own: &OwnSlots,
        topology: &Topology,
        lineage: &Lineage,
    ) -> BTreeMap<NodeId, SlotSet> {
        let now = leftovers(own, topology, lineage);
        let before = std::mem::replace(&mut self.seen, now);
        if self.closing.as_ref().is_some_and(|closing| !closing.is_finished()) {
            return BTreeMap::new();
        }
        let mut twice: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for (leftover, slots) in &self.seen {
            let slots = before.get(leftover).map(|before| slots.intersection(before)).unwrap_or_default();
            if !slots.is_empty() {
                twice.entry(leftover.at).or_default().extend(slots.iter());
            }
        }
        twice
    }

    /// Who has marks of slots that go to this target.
    pub(super) fn of_target(&self, target: NodeId) -> Option<NodeId> {
        self.seen.keys().find(|leftover| leftover.to == target).map(|leftover| leftover.at)
    }

    /// Somebody takes them away.
    pub(super) fn closing(&mut self, task: JoinHandle<()>) {
        self.closing = Some(task);
    }
}

/// Our open slots that a primary imports although their source gives them to a node of the same shard.
fn leftovers(own: &OwnSlots, topology: &Topology, lineage: &Lineage) -> BTreeMap<Leftover, SlotSet> {
    let mut all: BTreeMap<Leftover, SlotSet> = BTreeMap::new();
    let open = own.iter().filter_map(|(slot, _)| topology.open.get(&slot));
    for OpenSlot { slot, owner, migrating, importing, .. } in open {
        let Some(&(_, to)) = migrating.iter().find(|(at, _)| Some(*at) == *owner) else { continue };
        for &(at, _) in importing {
            if at != to && lineage.were_one_shard(at, to) {
                all.entry(Leftover { at, to }).or_default().insert(*slot);
            }
        }
    }
    all
}

/// Takes away the marks of these slots that a node woke with. What it refuses, or does not answer, is there in the next look.
pub(super) async fn close(dialer: &Dialer, node: &Member, slots: &SlotSet, valkey: bool) {
    let Some(address) = &node.address else { return };
    let taken = match dialer.bare().open(address, node.hostname.as_deref(), node.id).await {
        Ok(conn) => take_away(&conn, slots, valkey).await.map_err(|why| why.to_string()),
        Err(why) => Err(why.to_string()),
    };
    match taken {
        Ok(()) => {
            info!(node = %node.id, %slots, "it was replaced while it hung: the marks that it woke with are taken away");
        }
        Err(why) => warn!(node = %node.id, %why, "the marks that it woke with cannot be taken away"),
    }
}

/// Why marks are not taken away.
#[derive(Debug, Error)]
pub(super) enum NotTaken {
    /// An answer is missing: it may be carried out later.
    #[error(transparent)]
    Unanswered(#[from] CallError),
    #[error("slot {slot}: {reply:?}")]
    Refused { slot: Slot, reply: SetSlotReply },
}

/// Says over a bare connection that these slots are stable: the node, and on Valkey its replicas, have no marks of them.
pub(super) async fn take_away(conn: &Conn, slots: &SlotSet, valkey: bool) -> Result<(), NotTaken> {
    let pair = Pair { source: conn.node(), target: conn.node() };
    let replies = conn.set_slots(slots, Mark::Stable, pair, valkey).await?;
    match replies.into_iter().find(|(_, reply)| *reply != SetSlotReply::Ok) {
        Some((slot, reply)) => Err(NotTaken::Refused { slot, reply }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{id, observation};

    /// Shows the clusters one after the other, with slot 5 as ours; what is to be closed after the last.
    #[track_caller]
    fn check(stories: &[&str], expect: &[(&str, &str)]) {
        let (mut lineage, mut own, mut known) = (Lineage::default(), OwnSlots::default(), Leftovers::default());
        own.insert(&"5".parse().unwrap(), Pair { source: id("a"), target: id("b") });
        let mut told = BTreeMap::new();
        for story in stories {
            let topology = Topology::merge(&observation(story), &SlotSet::new());
            lineage.on_look(&topology);
            told = known.on_look(&own, &topology, &lineage);
        }
        let expect = expect.iter().map(|(node, slots)| (id(node), slots.parse().unwrap())).collect();
        assert_eq!(told, expect, "{stories:#?}");
    }

    const OPEN: &str = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]\nb1 of b\nc";
    const WOKEN: &str = "a 0-6 8-8191 [5->-b1]\nb 7 [5-<-a]\nb1 8192-16383 [5-<-a]\nc";

    #[test]
    fn the_mark_of_a_target_that_woke_is_to_go_when_it_was_seen_twice() {
        check(&[OPEN, WOKEN], &[]);
        check(&[OPEN, WOKEN, WOKEN], &[("b", "5")]);
    }

    #[test]
    fn marks_of_the_target_that_the_source_names_stay() {
        check(&[OPEN, OPEN], &[]);
        let named = "a 0-6 8-8191 [5->-b]\nb 7 [5-<-a]\nb1 8192-16383\nc";
        check(&[OPEN, named, named], &[]);
    }

    #[test]
    fn marks_of_strangers_stay() {
        let stranger = "a 0-8191 [5->-b]\nb 8192-16383 [5-<-a]\nb1 of b\nc [5-<-a]";
        check(&[OPEN, stranger, stranger], &[]);
    }
}
