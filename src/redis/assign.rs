//! Orders to take slots that a server refuses once they are late.
//!
//! A process that hangs reads when it wakes what was sent to it before. Where a failover has replaced it meanwhile, an
//! order to take a slot gives it a config epoch above its successor's, and so all its slots back; the successor drops
//! whatever clients wrote since its promotion (Redis 7.0: a live story). So the server itself looks at its clock first, in
//! the same turn.
//!
//! Redis only: a Valkey primary with a replica dies of a `CLUSTER SETSLOT` in a script, and in a transaction (8.1 and 9.1, an
//! assertion or a segmentation fault). What that means there is in `docs/adr/0017-orders-to-take-slots.md`.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::{CallError, Conn, Value};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::migration::SetSlotReply;

/// One slot for one node. `pcall` hands a refusal on word for word, where `call` would wrap it.
const ASSIGN_IN_TIME: &str = "\
local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then
  return redis.error_reply('LATE the order was valid until ' .. ARGV[1])
end
return redis.pcall('CLUSTER', 'SETSLOT', ARGV[2], 'NODE', ARGV[3])";

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
