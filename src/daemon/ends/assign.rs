//! The one order that must not come late: that the target takes slots.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::{Connections, Fault, no_answer};
use crate::cluster::SlotSet;
use crate::migration::{End, EndFacts, Mark, Pair, Reply, SetSlotReply};
use crate::redis::{Conn, ServerTime, assign_in_rounds};

/// How old a look at the target may be when it is told to take slots. Mostly it is told at once; what comes in between is
/// time in which it may begin to hang, and then carries the order out when a failover has replaced it.
const LOOK_GOOD_FOR: Duration = Duration::from_millis(250);

/// How many slots a Valkey takes at once, each on a connection of its own.
const AT_ONCE: usize = 16;

/// When a node answered a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// By our clock, after its answer.
    at: Instant,
    /// By its own, before its answer, where the server is one that can hold a deadline.
    there: Option<ServerTime>,
    /// Its config epoch is above its source's.
    pub(super) leads: bool,
}

/// Whether the target's config epoch, as it says, is above its source's.
pub(super) fn leads(target: &EndFacts, pair: Pair) -> bool {
    target.epochs.get(&pair.target) > target.epochs.get(&pair.source)
}

impl Connections {
    /// Has the target take slots, unless it was looked at too long ago for that.
    pub(super) async fn assign(&mut self, slots: &SlotSet) -> Result<Reply, Fault> {
        let (pair, good_for, valkey) = (self.pair, self.migrate_timeout, self.is_valkey(End::Target));
        self.control(End::Target).await?;
        let conn = self.opened(End::Target)?;
        let replies = match self.looked.filter(|looked| looked.at.elapsed() <= LOOK_GOOD_FOR) {
            None => Ok(slots.iter().map(|slot| (slot, SetSlotReply::Late)).collect()),
            // A failover takes a node's time-out at least, and this is below half of that.
            Some(Looked { there: Some(there), .. }) => {
                conn.assign_before(there.plus(good_for), slots, pair.target).await
            }
            Some(looked) => {
                let replies = if self.is_told_one_by_one() {
                    let conns: Vec<&Conn> = std::iter::once(conn).chain(&self.assigners).collect();
                    assign_in_rounds(&conns, !looked.leads, slots, pair.target).await
                } else {
                    conn.set_slots(slots, Mark::Assigned, pair, valkey).await
                };
                // It answers, and so may be told again what its replicas have and it has not.
                self.looked = replies.is_ok().then(|| Looked { at: Instant::now(), ..looked });
                replies
            }
        };
        replies.map(Reply::Marked).map_err(no_answer(End::Target))
    }

    /// Of the move's slots so many are to be told to the target at once, where it takes one after the other on a connection.
    pub(in super::super) fn assign_at_once(&mut self, slots: usize) {
        self.assigners_wanted = slots.min(AT_ONCE).saturating_sub(1);
    }

    fn is_told_one_by_one(&self) -> bool {
        self.is_valkey(End::Target) && !self.target_followers.is_empty()
    }

    /// Opens the connections beside the control connection on which slots are told; with fewer it takes longer.
    pub(super) async fn open_assigners(&mut self) {
        self.assigners.retain(|conn| !conn.is_dead());
        if !self.is_told_one_by_one() {
            return;
        }
        let missing = self.assigners_wanted.saturating_sub(self.assigners.len());
        let (target, node) = (&self.target, self.pair.target);
        let dials = (0..missing).map(|_| self.dialer.open(&target.address, target.hostname.as_deref(), node));
        let dialled = join_all(dials).await.into_iter().flatten();
        self.assigners.extend(dialled.filter(|conn| conn.run_id() == target.run_id));
    }

    /// A look at the target, and when it was.
    pub(super) async fn timed<T>(&self, look: impl Future<Output = Result<T, Fault>>) -> Result<(T, Looked), Fault> {
        let there = async {
            if self.is_valkey(End::Target) {
                return Ok(None);
            }
            self.opened(End::Target)?.time().await.map(Some).map_err(no_answer(End::Target))
        };
        // Sent first, and so answered first.
        let (there, look) = tokio::try_join!(there, look)?;
        Ok((look, Looked { at: Instant::now(), there, leads: false }))
    }
}
