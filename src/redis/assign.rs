//! Orders to take slots, as few as can be, and to raise a config epoch, which a server refuses once they are late.
//!
//! A process that hangs reads when it wakes what was sent to it before. Where a failover has replaced it meanwhile, an
//! order to take a slot gives it a config epoch above its successor's, and so all its slots back; the successor drops
//! whatever clients wrote since its promotion (Redis 7.0: a live story). So the server itself looks at its clock first, in
//! the same turn.
//!
//! A Valkey primary with a replica dies of a `CLUSTER SETSLOT` in a script, and in a transaction (8.1 and 9.1, an assertion
//! or a segmentation fault), and has its replicas carry each out before it does so itself. There one slot of a group is
//! taken by a plain order, and the others by a script that is sent with it: `docs/adr/0020-valkey-targets-take-groups-by-addslots.md`.

use std::time::Duration;

use bytes::Bytes;

use super::commands::{SETSLOT_TIMEOUT_MS, set_slot_reply};
use super::{CallError, Conn, Value};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::migration::SetSlotReply;

/// A script of which nothing is carried out after the moment that is its first argument.
macro_rules! in_time {
    ($($body:expr),+) => {
        concat!(
            "local now = redis.call('TIME')\n",
            "if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then\n",
            "  return redis.error_reply('LATE the order was valid until ' .. ARGV[1])\n",
            "end\n",
            $($body),+
        )
    };
}

/// Slots for one node: for each `OK` or what was refused. `pcall` hands a refusal on word for word, where `call` would wrap it.
///
/// For each slot that it takes with its importing mark, a Redis before 8.4 tells every node all that it owns, at once and in
/// the midst of the script: 16 slots are 16 messages to each, which all servers work off at the same time while their
/// clients wait (32 `PONG`s for 16 slots between three nodes on 6.2, 7.0 and 8.2; 2 on 8.6). Without the mark it tells
/// nobody. So the first slot is taken with its mark, which gives the node its new config epoch and shows that it takes
/// slots at all; the marks of those between are cleared right before they are taken; and the last one tells of all.
const ASSIGN_IN_TIME: &str = in_time!(
    "\
local tells_each = not redis.REDIS_VERSION_NUM or redis.REDIS_VERSION_NUM < 0x00080400
local replies = {}
for at = 3, #ARGV do
  if tells_each and at > 3 and at < #ARGV and replies[1] == 'OK' then
    redis.pcall('CLUSTER', 'SETSLOT', ARGV[at], 'STABLE')
  end
  local reply = redis.pcall('CLUSTER', 'SETSLOT', ARGV[at], 'NODE', ARGV[2])
  replies[#replies + 1] = reply['ok'] or reply['err']
end
return replies"
);
/// Slots of one such script: a server answers nobody else meanwhile, for less than a millisecond.
const AT_ONCE: usize = 64;

/// The slots are the node's own, without their marks, as after `SETSLOT NODE`; but it does not raise its config epoch, and
/// tells nobody, its replicas neither. 0.03 ms for 16 slots, 0.08 ms for 256 (Valkey 9.1).
///
/// `DELSLOTS` has the node forget their owner, for `ADDSLOTS` takes none that has one; where one of them has none already,
/// they are forgotten one by one.
const ADD_IN_TIME: &str = in_time!(
    "\
local function all(command)
  local words = {'CLUSTER', command}
  for at = 2, #ARGV do words[at + 1] = ARGV[at] end
  return redis.pcall(unpack(words))
end
if all('DELSLOTS')['err'] then
  for at = 2, #ARGV do redis.pcall('CLUSTER', 'DELSLOTS', ARGV[at]) end
end
return all('ADDSLOTS')"
);
/// Slots of one such script and the order before it: a server reads both at once, which reads 16 KiB at a time.
const TAKEN_AT_ONCE: usize = 1024;

/// Raises the node's config epoch above all that it has heard of, once that includes the second argument; where it is so already,
/// it stays. The answers have two words each.
const RAISE_IN_TIME: &str = in_time!(
    "\
local info = redis.call('CLUSTER', 'INFO')
if tonumber(string.match(info, 'cluster_current_epoch:(%d+)')) < tonumber(ARGV[2]) then
  return 'BEHIND 0'
end
return redis.call('CLUSTER', 'BUMPEPOCH')"
);

/// What a node says that was to raise its config epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaisedEpoch {
    /// It did, to this one.
    New(u64),
    /// Its own, this one, is above all others that it has heard of already.
    Highest(u64),
    /// It has not heard yet of the one above which it was to be raised.
    Behind,
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
        self.server_time(&self.call("TIME", Vec::new()).await?)
    }

    /// A reply to `TIME`.
    pub(super) fn server_time(&self, reply: &Value) -> Result<ServerTime, CallError> {
        let Value::Array(parts) = reply else { return Err(self.unexpected("TIME", "no list")) };
        let number = |at: usize| parts.get(at).and_then(Value::text)?.parse::<u64>().ok();
        let (Some(seconds), Some(micros)) = (number(0), number(1)) else {
            return Err(self.unexpected("TIME", "no seconds and microseconds"));
        };
        Ok(ServerTime { millis: seconds.saturating_mul(1_000).saturating_add(micros / 1_000) })
    }

    /// `CLUSTER BUMPEPOCH`, until `deadline` by the server's own clock, if the server has heard of the epoch `above`.
    ///
    /// A primary's claims become stronger by it. A replica says its primary's epoch to others, and so only has them hear of
    /// a higher one (Redis 6.2 to 8.2, Valkey 8.1 and 9.1).
    pub async fn raise_epoch_before(&self, deadline: ServerTime, above: u64) -> Result<RaisedEpoch, CallError> {
        let words = [RAISE_IN_TIME.to_owned(), "0".to_owned(), deadline.millis.to_string(), above.to_string()];
        let reply = self.call("EVAL", words.into_iter().map(Bytes::from).collect()).await?;
        let said = reply.text().and_then(|text| text.split_once(' '));
        match said.and_then(|(word, epoch)| Some((word, epoch.parse().ok()?))) {
            Some(("BUMPED", epoch)) => Ok(RaisedEpoch::New(epoch)),
            Some(("STILL", epoch)) => Ok(RaisedEpoch::Highest(epoch)),
            Some(("BEHIND", _)) => Ok(RaisedEpoch::Behind),
            Some(_) | None => Err(self.unexpected("CLUSTER BUMPEPOCH", "neither an epoch nor that it is the highest")),
        }
    }

    /// `CLUSTER SETSLOT NODE` for every slot, all in one piece, each of which a Redis carries out until `deadline` by
    /// its own clock, and answers with [`SetSlotReply::Late`] afterwards. Not for Valkey, see the module. The connection is a bare
    /// one ([`Dialer::bare`]).
    ///
    /// [`Dialer::bare`]: super::Dialer::bare
    ///
    /// An error means that at least one reply is missing; the others may have been carried out.
    pub async fn assign_before(
        &self,
        deadline: ServerTime,
        slots: &SlotSet,
        owner: NodeId,
    ) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
        let slots: Vec<Slot> = slots.iter().collect();
        let script = |slots: &[Slot]| {
            let words = [ASSIGN_IN_TIME.to_owned(), "0".to_owned(), deadline.millis.to_string(), owner.to_string()];
            words.into_iter().chain(slots.iter().map(Slot::to_string)).map(Bytes::from).collect()
        };
        let replies = self.call_each("EVAL", slots.chunks(AT_ONCE).map(script)).await?;
        let replies = slots.chunks(AT_ONCE).zip(replies).map(|(slots, reply)| self.assigned(slots, reply));
        Ok(replies.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Has a Valkey take slots: one by `CLUSTER SETSLOT NODE`, and right behind it, by a script, the others. They
    /// are told to everybody by the one message that the first brings about; `first` says which is to be it. The connection is
    /// a bare one ([`Dialer::bare`]).
    ///
    /// Where the first is not taken, neither are the others, which are answered alike: their script names a key of it, and
    /// a node that does not have the slot of such a key does not run it.
    ///
    /// An error means that at least one reply is missing; the others may have been carried out.
    ///
    /// [`Dialer::bare`]: super::Dialer::bare
    pub async fn assign_together_before(
        &self,
        deadline: ServerTime,
        slots: &SlotSet,
        first: Option<Slot>,
        owner: NodeId,
    ) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
        let first = first.filter(|&slot| slots.contains(slot));
        let slots: Vec<Slot> = first.into_iter().chain(slots.iter().filter(|&slot| Some(slot) != first)).collect();
        let mut replies = Vec::new();
        for part in slots.chunks(TAKEN_AT_ONCE) {
            replies.extend(self.assign_part(deadline, part, owner).await?);
        }
        Ok(replies)
    }

    /// The same for as many as are taken in one turn.
    async fn assign_part(
        &self,
        deadline: ServerTime,
        slots: &[Slot],
        owner: NodeId,
    ) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
        let Some((&first, others)) = slots.split_first() else { return Ok(Vec::new()) };
        let words = |words: Vec<String>| words.into_iter().map(Bytes::from).collect();
        let timeout = SETSLOT_TIMEOUT_MS.to_string();
        let order = ["SETSLOT", &first.to_string(), "NODE", &owner.to_string(), "TIMEOUT", &timeout];
        let take = ("CLUSTER", words(order.map(str::to_owned).to_vec()));
        if others.is_empty() {
            let replies = self.call_together(vec![take]).await?;
            return replies.into_iter().map(|reply| Ok((first, set_slot_reply(reply)?))).collect();
        }
        let script = [ADD_IN_TIME.to_owned(), "1".to_owned(), first.a_key(), deadline.millis.to_string()];
        let script = words(script.into_iter().chain(others.iter().map(Slot::to_string)).collect());
        let replies = self.call_together(vec![take, ("EVAL", script)]).await?;
        let [took_first, mut took_others]: [SetSlotReply; 2] = replies
            .into_iter()
            .map(set_slot_reply)
            .collect::<Result<Vec<_>, _>>()?
            .try_into()
            .map_err(|_| self.unexpected("CLUSTER SETSLOT", "another number of replies than of commands"))?;
        if took_first != SetSlotReply::Ok && took_others != SetSlotReply::Ok {
            took_others = took_first.clone();
        }
        let took_others = others.iter().map(|&slot| (slot, took_others.clone()));
        Ok(std::iter::once((first, took_first)).chain(took_others).collect())
    }

    /// What one script says of these slots, which is carried out as a whole or not at all.
    fn assigned(
        &self,
        slots: &[Slot],
        reply: Result<Value, CallError>,
    ) -> Result<Vec<(Slot, SetSlotReply)>, CallError> {
        let replies = match reply {
            Ok(Value::Array(replies)) if replies.len() == slots.len() => replies,
            Ok(_) => return Err(self.unexpected("EVAL", "no answer for each slot")),
            Err(CallError::Refused { text, .. }) => {
                return Ok(slots.iter().map(|&slot| (slot, SetSlotReply::from_error(&text))).collect());
            }
            Err(error @ (CallError::NoAnswer { .. } | CallError::Unexpected { .. })) => return Err(error),
        };
        let reply = |reply: &Value| match reply.text() {
            Some("OK") => Ok(SetSlotReply::Ok),
            Some(refused) => Ok(SetSlotReply::from_error(refused)),
            None => Err(self.unexpected("EVAL", "an answer that is no text")),
        };
        slots.iter().zip(&replies).map(|(&slot, it)| Ok((slot, reply(it)?))).collect()
    }
}
