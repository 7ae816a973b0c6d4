//! Orders to take slots, so given that a node that dies or hangs over them costs no key.
//!
//! **Redis.** A process that hangs reads when it wakes what was sent to it before. Where a failover has replaced it meanwhile,
//! an order to take a slot gives it a config epoch above its successor's, and so all its slots back; the successor drops
//! whatever clients wrote since its promotion (7.0: a live story). So the server itself looks at its clock first, in the same
//! turn. A Valkey primary with a replica dies of a `CLUSTER SETSLOT` in a script (8.1 and 9.1, an assertion or a segmentation
//! fault).
//!
//! **Valkey.** A primary has its replicas carry the order out first, one order of a connection after the other. Having done one
//! it tells the other nodes so, and says by that to its own replica, which has done the next one, that it does not own that
//! slot yet. From then until it does, the replica takes the source for the owner whenever it hears from it. A target that dies
//! just then is replaced by a replica that deletes the slot's keys, the only ones left ("I have keys for slot …, but the
//! slot is assigned to another node", 9.1: 7 to 9 keys in 2 of 9 strikes). So the orders of a round are given at once, on a
//! connection each, and none before the node has told everybody of the round before.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::{CallError, Conn, Value};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::migration::{Mark, Pair, SetSlotReply};

/// One slot for one node. `pcall` hands a refusal on word for word, where `call` would wrap it.
const ASSIGN_IN_TIME: &str = "\
local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then
  return redis.error_reply('LATE the order was valid until ' .. ARGV[1])
end
return redis.pcall('CLUSTER', 'SETSLOT', ARGV[2], 'NODE', ARGV[3])";

/// Has a Valkey with replicas take slots: as many at once as there are connections, all to that node.
///
/// `first_alone` has one slot go first: the target's config epoch may be below the source's, and its replica believes in
/// the lower one until the first claim has raised it.
///
/// An error means that at least one reply is missing, of slots that may have been taken; those that are not in the answer, nor
/// refused, were not asked for, because replicas did not follow.
pub async fn assign_in_rounds(
    conns: &[&Conn],
    first_alone: bool,
    slots: &SlotSet,
    owner: NodeId,
) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
    let mut slots: Vec<Slot> = slots.iter().collect();
    slots.reverse();
    let mut replies = Vec::with_capacity(slots.len());
    let mut at_once = if first_alone { 1 } else { conns.len() };
    while !slots.is_empty() {
        if let (Some(conn), false) = (conns.first(), replies.is_empty()) {
            // What it has to tell the others it sends at the next turn of its loop, before the one after.
            conn.call("PING", Vec::new()).await?;
        }
        let round = slots.split_off(slots.len().saturating_sub(at_once));
        let calls = conns.iter().zip(round.into_iter().rev()).map(|(conn, slot)| {
            let (mark, alone) = (Mark::Assigned, SlotSet::from_iter([slot]));
            async move { conn.set_slots(&alone, mark, Pair { source: owner, target: owner }, true).await }
        });
        let answered = join_all(calls).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        replies.extend(answered.into_iter().flatten());
        if replies.iter().any(|(_, reply)| *reply == SetSlotReply::NoReplicas) {
            break;
        }
        at_once = conns.len();
    }
    Ok(replies)
}

/// A moment by the clock of one server; means nothing to any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerTime {
    /// Milliseconds since 1970.
    millis: u64,
}

impl ServerTime {
    /// So much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self { millis: self.millis.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)) }
    }
}

impl Conn {
    /// The server's clock, to the millisecond.
    pub async fn time(&self) -> Result<ServerTime, CallError> {
        let reply = self.call("TIME", Vec::new()).await?;
        let Value::Array(parts) = &reply else { return Err(self.unexpected("TIME", "no list")) };
        let number = |at: usize| parts.get(at).and_then(Value::text)?.parse::<u64>().ok();
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else {
            return Err(self.unexpected("TIME", "no seconds and microseconds"));
        };
        Ok(ServerTime { millis: seconds.saturating_mul(1_000).saturating_add(micros / 1_000) })
    }

    /// `CLUSTER SETSLOT NODE` for every slot, all asked at once, each of which the server carries out until `deadline` by
    /// its own clock, and answers with [`SetSlotReply::Late`] afterwards. Not for Valkey, see the module.
    ///
    /// An error means that at least one reply is missing; the others may have been carried out.
    pub async fn assign_before(
        &self,
        deadline: ServerTime,
        slots: &SlotSet,
        owner: NodeId,
    ) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
        let calls = slots.iter().map(|slot| {
            let words = [deadline.millis.to_string(), slot.to_string(), owner.to_string()];
            let mut args: Vec<Bytes> = vec![ASSIGN_IN_TIME.into(), "0".into()];
            args.extend(words.map(Bytes::from));
            self.set_slot("EVAL", slot, args)
        });
        join_all(calls).await.into_iter().collect()
    }

    /// One call that sets one slot; what the server refuses is its answer.
    pub(super) async fn set_slot(
        &self,
        command: &'static str,
        slot: Slot,
        args: Vec<Bytes>,
    ) -> Result<(Slot, SetSlotReply), CallError> {
        match self.call(command, args).await {
            Ok(_) => Ok((slot, SetSlotReply::Ok)),
            Err(CallError::Refused { text, .. }) => Ok((slot, SetSlotReply::from_error(&text))),
            Err(error @ (CallError::NoAnswer { .. } | CallError::Unexpected { .. })) => Err(error),
        }
    }
}
