//! The one order that must not come late: that the target takes slots.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connections, Fault, no_answer};
use crate::cluster::SlotSet;
use crate::migration::{End, Mark, Reply, SetSlotReply};
use crate::redis::ServerTime;

/// How old a look at the target may be when it is told to take slots. Mostly it is told at once; what comes in between is
/// time in which it may begin to hang, and then carries the order out when a failover has replaced it.
const LOOK_GOOD_FOR: Duration = Duration::from_millis(250);

/// When a node answered a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// By our clock, after its answer.
    at: Instant,
    /// By its own, before its answer, where the server is one that can hold a deadline.
    there: Option<ServerTime>,
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
            Some(Looked { there: None, .. }) => {
                let replies = conn.set_slots(slots, Mark::Assigned, pair, valkey).await;
                // It answers, and so may be told again what its replicas have and it has not.
                self.looked = replies.is_ok().then(|| Looked { at: Instant::now(), there: None });
                replies
            }
        };
        replies.map(Reply::Marked).map_err(no_answer(End::Target))
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
        Ok((look, Looked { at: Instant::now(), there }))
    }
}
