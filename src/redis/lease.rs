//! The server that keeps the lease: one key, changed only by a script that compares and sets at once.

use std::time::Duration;

use bytes::Bytes;

use super::{CallError, Conn, Dialer, OpenError, Value};
use crate::cluster::{Address, NodeId};
use crate::lease::{LeaseCall, LeaseReply};

/// Takes the lease or renews it, unless somebody else has it.
///
/// A hash: who has it, where he runs, until when by this server's clock, and which slots he has open. It does not
/// expire: what its last holder left open must be told to whoever comes after him. `ARGV[4]` is the holder's record of
/// open slots, or `-` of one who does not have the lease yet and must not write over the record of another.
///
/// Answers whether the lease is the caller's now; else whose it is, where he runs, and how long still, in ms; and the
/// record as it was. Its first element is a number, so no reader takes it for a message of pub/sub.
const SCRIPT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('HMGET', KEYS[1], 'instance', 'host', 'until', 'open')
local left = (tonumber(held[3]) or 0) - now
local ours = held[1] == ARGV[1]
if not ours and (left > 0 or ARGV[4] ~= '-') then
  return {0, held[1] or '', held[2] or '', left, ''}
end
redis.call('HSET', KEYS[1], 'instance', ARGV[1], 'host', ARGV[2], 'until', string.format('%.0f', now + ARGV[3]))
if ARGV[4] ~= '-' then redis.call('HSET', KEYS[1], 'open', ARGV[4]) end
return {1, '', '', 0, held[4] or ''}";

/// A connection to the server that keeps the lease.
#[derive(Debug)]
pub struct LeaseServer {
    conn: Conn,
    node: Option<NodeId>,
}

impl LeaseServer {
    /// Connects. It may be any Redis or Valkey, also one that is part of no cluster.
    pub async fn open(dialer: &Dialer, address: &Address) -> Result<Self, OpenError> {
        let conn = dialer.connect(address, None).await?;
        // Only a node of a cluster has an id; anything else is as good.
        let id = conn.call("CLUSTER", vec![Bytes::from_static(b"MYID")]).await;
        let node = id.ok().and_then(|id| id.text()?.parse().ok());
        Ok(Self { conn, node })
    }

    /// The id of the server, where it is a node of a cluster.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// Whether a call failed: it must not be used again.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.conn.is_dead()
    }

    /// Takes, renews or gives back the lease of this key.
    pub async fn call(&self, key: &str, call: LeaseCall<'_>) -> Result<LeaseReply, CallError> {
        let ttl = call.ttl.as_millis().to_string();
        let args = [SCRIPT, "1", key, call.instance, call.host, &ttl, call.open.unwrap_or("-")];
        let args = args.map(|arg| Bytes::from(arg.to_owned())).to_vec();
        let reply = self.conn.call("EVAL", args).await?;
        read(&reply).ok_or_else(|| self.conn.unexpected("EVAL", format!("{reply:?}")))
    }
}

fn read(reply: &Value) -> Option<LeaseReply> {
    let Value::Array(parts) = reply else { return None };
    let [Value::Integer(ours), instance, host, Value::Integer(left), open] = &parts[..] else { return None };
    let text = |value: &Value| value.text().map(str::to_owned);
    Some(match ours {
        1 => LeaseReply::Ours { open: text(open)? },
        _ => LeaseReply::Held {
            instance: text(instance)?,
            host: text(host)?,
            left: Duration::from_millis(u64::try_from(*left).unwrap_or(0)),
        },
    })
}
