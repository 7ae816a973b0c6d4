//! The one order that must not come late: that the target takes slots.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connections, Fault, no_answer};
use crate::cluster::{Slot, SlotSet};
use crate::migration::{End, Reply, SetSlotReply};
use crate::redis::ServerTime;

/// How old a look at the target may be when it is told to take slots. Mostly it is told at once; what comes in between is
/// time in which it may begin to hang, and then carries the order out when a failover has replaced it.
const LOOK_GOOD_FOR: Duration = Duration::from_millis(250);

/// When a node answered a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    /// By our clock, after its answer.
    pub(super) at: Instant,
    /// By its own, before its answer.
    pub(super) there: ServerTime,
    /// The slot of which it had the fewest keys, where that was counted.
    pub(super) lightest: Option<Slot>,
}

impl Looked {
    /// It has answered again since, just now.
    fn again(self) -> Self {
        Self { at: Instant::now(), there: self.there.plus(self.at.elapsed()), ..self }
    }
}

impl Connections {
    /// Has the target take slots, unless it was looked at too long ago for that.
    pub(super) async fn assign(&mut self, slots: &SlotSet) -> Result<Reply, Fault> {
        let (owner, good_for, valkey) = (self.pair.target, self.migrate_timeout, self.is_valkey(End::Target));
        self.control(End::Target).await?;
        let Some(looked) = self.looked.filter(|looked| looked.at.elapsed() <= LOOK_GOOD_FOR) else {
            return Ok(Reply::Marked(slots.iter().map(|slot| (slot, SetSlotReply::Late)).collect()));
        };
        // A failover takes a node's time-out at least, and this is below half of that.
        let deadline = looked.there.plus(good_for);
        let replies = if valkey {
            // The one that is in danger while its replicas have it and the target has not.
            let first = looked.lightest;
            let replies = self.opened(End::Target)?.assign_together_before(deadline, slots, first, owner).await;
            // It answers, and so may be told again what its replicas have and it has not.
            self.looked = replies.is_ok().then(|| looked.again());
            replies
        } else {
            self.opened(End::Target)?.assign_before(deadline, slots, owner).await
        };
        replies.map(Reply::Marked).map_err(no_answer(End::Target))
    }
}
