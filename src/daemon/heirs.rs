//! The replicas of a source, one of which may take over while slots are open.
//!
//! A replica of Redis knows nothing of the marks of its primary (one of Valkey has them itself). Promoted, it tells clients
//! that keys which have moved are not there, until somebody marks its slots; and what clients write anew meanwhile, as if
//! there had been nothing, hides what they had. So each replica is asked again and again, and told as soon as it is a primary.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Lease;
use super::followers::Peer;
use crate::cluster::{Replication, SlotSet};
use crate::migration::{End, Ends, Mark, Pair, SetSlotReply, Step};
use crate::redis::{Conn, Dialer};

/// How often the source and its replicas are asked: about a thousandth of what they can answer.
const EVERY: Duration = Duration::from_millis(10);
/// A source that has not carried out a write after so long may be handing over, or be dead: a `MIGRATE` seldom takes longer.
const LATE: Duration = Duration::from_millis(5);
/// How often its replicas are asked then: clients are sent to a new primary within some milliseconds.
const OFTEN: Duration = Duration::from_millis(2);
/// After a connection that was not made, or was lost.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The slots of which a source sends clients on to its target, as far as the move knows.
#[derive(Debug, Default)]
pub(super) struct MarkedAtSource(Mutex<SlotSet>);

impl MarkedAtSource {
    /// Learns from a step that is about to be taken.
    pub(super) fn on_step(&self, step: &Step) {
        let Step::SetSlots { at: End::Source, mark, slots } = step else { return };
        let mut marked = self.lock();
        match mark {
            Mark::Migrating => marked.extend(slots.iter()),
            Mark::Stable => *marked = marked.difference(slots),
            // A source that dies now may not have given them away.
            Mark::Assigned | Mark::Importing | Mark::Redirected => {}
        }
    }

    /// Learns from a look at both ends, for these slots.
    pub(super) fn on_look(&self, pair: Pair, slots: &SlotSet, ends: &Ends) {
        let source = &ends.source;
        let mut marked = self.lock();
        for slot in slots.iter() {
            let is_open = source.owned.contains(slot) && ends.target.importing.contains_key(&slot);
            if source.migrating.get(&slot) == Some(&pair.target) {
                marked.insert(slot);
            } else if source.primary && !is_open {
                // It was given away, or closed again.
                marked.remove(slot);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotSet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who may take over from the source of a move.
#[derive(Debug)]
pub(super) struct Heirs {
    /// For bare connections.
    pub(super) dialer: Dialer,
    pub(super) pair: Pair,
    pub(super) source: Peer,
    pub(super) replicas: Vec<Peer>,
}

impl Heirs {
    /// Until `ended`, tells whichever of them is a primary what the source had marked.
    pub(super) async fn watch(&self, marked: &MarkedAtSource, lease: &Lease, ended: &CancellationToken) {
        let (is_late, done) = (AtomicBool::new(false), ended.child_token());
        let guards = self.replicas.iter().map(|replica| self.guard(replica, &is_late, (marked, lease), &done));
        tokio::select! {
            never = self.ask_source(&is_late) => match never {},
            _ = join_all(guards) => {}
        }
    }

    /// Asks the source for writes, and notes whether it is late.
    async fn ask_source(&self, is_late: &AtomicBool) -> Infallible {
        loop {
            if let Ok(conn) = self.source.dial(&self.dialer).await {
                while !conn.is_dead() {
                    let mut answer = pin!(conn.await_writes());
                    let answered = match timeout(LATE, &mut answer).await {
                        Ok(answered) => answered,
                        Err(_late) => {
                            is_late.store(true, Ordering::Relaxed);
                            answer.await
                        }
                    };
                    is_late.store(answered.is_err(), Ordering::Relaxed);
                    sleep(EVERY).await;
                }
            }
            is_late.store(true, Ordering::Relaxed);
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Waits until one replica is a primary and has been told; then nobody need wait any more. Drops no order that was sent.
    async fn guard(
        &self,
        replica: &Peer,
        source_is_late: &AtomicBool,
        (marked, lease): (&MarkedAtSource, &Lease),
        done: &CancellationToken,
    ) {
        loop {
            let conn = tokio::select! {
                // Nothing is changed by a move that has ended.
                biased;
                () = done.cancelled() => return,
                conn = self.promotion(replica, source_is_late) => conn,
            };
            if self.tell(&conn, marked, lease).await {
                return done.cancel();
            }
            tokio::select! {
                () = sleep(AGAIN_AFTER) => {}
                () = done.cancelled() => return,
            }
        }
    }

    /// A connection to the replica once it is a primary.
    async fn promotion(&self, replica: &Peer, source_is_late: &AtomicBool) -> Conn {
        loop {
            match replica.dial(&self.dialer).await {
                Ok(conn) => {
                    while !conn.is_dead() {
                        if is_primary(&conn).await {
                            return conn;
                        }
                        sleep(if source_is_late.load(Ordering::Relaxed) { OFTEN } else { EVERY }).await;
                    }
                }
                Err(why) => debug!(node = %replica.node, %why, "the replica cannot be asked"),
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Marks at a new primary what its predecessor had marked. Says whether it took any of it: a replica that was only made a
    /// primary without slots refuses all, as any does the slots that it knows to be the target's.
    async fn tell(&self, conn: &Conn, marked: &MarkedAtSource, lease: &Lease) -> bool {
        let (node, slots) = (conn.node(), marked.lock().clone());
        if slots.is_empty() || !lease.may_act() {
            return false;
        }
        let replies = match conn.set_slots(&slots, Mark::Migrating, self.pair, false).await {
            Ok(replies) => replies,
            Err(why) => {
                warn!(%node, %slots, %why, "a replica that has taken over may not know of the open slots");
                return false;
            }
        };
        let taken: SlotSet =
            replies.iter().filter(|(_, reply)| *reply == SetSlotReply::Ok).map(|(slot, _)| *slot).collect();
        if taken.is_empty() {
            debug!(%node, ?replies, "it owns none of the open slots");
            return false;
        }
        info!(%node, slots = %taken, "a replica has taken over from the source and was told of the open slots");
        true
    }
}

async fn is_primary(conn: &Conn) -> bool {
    let Ok(info) = conn.info(Some("replication")).await else { return false };
    Replication::parse(&info).is_ok_and(|replication| replication.is_primary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Slot;
    use crate::cluster::fixtures::id;
    use crate::migration::EndFacts;

    fn pair() -> Pair {
        Pair { source: id("a"), target: id("b") }
    }

    fn slots(numbers: &[u16]) -> SlotSet {
        numbers.iter().map(|&number| Slot::new(number).unwrap()).collect()
    }

    fn step(mark: Mark, numbers: &[u16]) -> Step {
        Step::SetSlots { at: End::Source, mark, slots: slots(numbers) }
    }

    #[test]
    fn what_is_marked_is_what_was_marked_and_neither_closed_nor_given_away() {
        let marked = MarkedAtSource::default();
        marked.on_step(&Step::SetSlots { at: End::Target, mark: Mark::Importing, slots: slots(&[9]) });
        assert_eq!(*marked.lock(), slots(&[]));
        marked.on_step(&step(Mark::Migrating, &[1, 2, 3]));
        marked.on_step(&step(Mark::Stable, &[1]));
        marked.on_step(&step(Mark::Assigned, &[2]));
        assert_eq!(*marked.lock(), slots(&[2, 3]), "who dies while it gives a slot away may not have done so");
        let source = EndFacts { primary: true, owned: slots(&[3, 4]), ..EndFacts::default() };
        let importing = [(Slot::new(3).unwrap(), id("a"))].into();
        let target = EndFacts { primary: true, importing, ..EndFacts::default() };
        marked.on_step(&step(Mark::Migrating, &[4]));
        marked.on_look(pair(), &slots(&[2, 3, 4]), &Ends { source, target, ..Ends::default() });
        assert_eq!(*marked.lock(), slots(&[3]), "the source refused one, and the target's mark was taken away again");
    }

    #[test]
    fn a_look_shows_what_an_earlier_process_has_marked() {
        let marked = MarkedAtSource::default();
        let migrating = [(Slot::new(1).unwrap(), id("b")), (Slot::new(2).unwrap(), id("c"))].into();
        let source = EndFacts { primary: true, owned: slots(&[1, 2]), migrating, ..EndFacts::default() };
        marked.on_look(pair(), &slots(&[1, 2]), &Ends { source, ..Ends::default() });
        assert_eq!(*marked.lock(), slots(&[1]));
        // What it says after it was replaced is not what its successor has to know.
        marked.on_look(pair(), &slots(&[1, 2]), &Ends::default());
        assert_eq!(*marked.lock(), slots(&[1]));
    }
}
