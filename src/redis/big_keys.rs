//! Finding big keys without fetching anything of them: scripts that run at the server and answer in names and numbers.
//!
//! A call for each key would cost more than moving it does. A script asks the same of hundreds of keys in one call, may
//! do no more than its user may, and does not write.

use bytes::Bytes;

use super::{CallError, Conn, Value};
use crate::cluster::{Slot, SlotSet};
use crate::migration::{Key, KeyKind, KeySize};

/// In Lua, which of some keys have `least` bytes: three numbers for each, its place, its elements (-1: they are of no account)
/// and its bytes.
///
/// `MEMORY USAGE` samples five elements of a key, whatever its size.
macro_rules! big_of {
    () => {
        "\
local count = {hash = 'HLEN', set = 'SCARD', zset = 'ZCARD'}
local function big_of(keys, least)
  local found = {}
  for at, key in ipairs(keys) do
    local bytes = redis.call('MEMORY', 'USAGE', key)
    if bytes and bytes >= least then
      local counted = count[redis.call('TYPE', key)['ok']]
      found[#found + 1] = at - 1
      found[#found + 1] = counted and redis.call(counted, key) or -1
      found[#found + 1] = bytes
    end
  end
  return found
end
"
    };
}

/// Of slots: their keys, `most` of each, and the big ones of these.
///
/// A number comes first in the reply, so that no reader takes the list for a message.
const OF_SLOTS: &str = concat!(
    big_of!(),
    "\
local reply = {0}
for at = 3, #ARGV do
  local keys = redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[at], ARGV[2])
  reply[#reply + 1] = keys
  reply[#reply + 1] = big_of(keys, tonumber(ARGV[1]))
end
return reply"
);

/// The big ones of keys of one slot.
const OF_KEYS: &str = concat!(big_of!(), "return big_of(KEYS, tonumber(ARGV[1]))");

/// The keys of a slot, and the big ones of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotLook {
    /// The slot.
    pub slot: Slot,
    /// As many of its keys as were asked for.
    pub keys: Vec<Key>,
    /// Those of them that take as many bytes as were asked for, or more.
    pub big: Vec<(Key, KeySize)>,
}

impl Conn {
    /// The keys of these slots, at most `most` of each, and which of them take `least` bytes or more, in this connection's
    /// database.
    ///
    /// All in one call, during which the server serves nothing else.
    pub async fn look_at_slots(&self, slots: &SlotSet, least: u64, most: u32) -> Result<Vec<SlotLook>, CallError> {
        let mut args: Vec<Bytes> = vec![OF_SLOTS.into(), "0".into(), number(least), number(most.into())];
        args.extend(slots.iter().map(|slot| Bytes::from(slot.to_string())));
        let Value::Array(reply) = self.call("EVAL", args).await? else {
            return Err(self.unexpected("EVAL", "no list"));
        };
        let mut lists = reply.into_iter().skip(1);
        let mut looks = Vec::with_capacity(slots.len());
        for slot in slots.iter() {
            let (Some(Value::Array(keys)), Some(big)) = (lists.next(), lists.next()) else {
                return Err(self.unexpected("EVAL", "no list of keys for each slot"));
            };
            let keys: Vec<Key> = keys.into_iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
            let big = self.sizes(&keys, big)?;
            looks.push(SlotLook { slot, keys, big });
        }
        Ok(looks)
    }

    /// Those of these keys, all of one slot, that take `least` bytes or more, with their sizes.
    pub async fn big_keys(&self, keys: &[Key], least: u64) -> Result<Vec<(Key, KeySize)>, CallError> {
        let mut args: Vec<Bytes> = vec![OF_KEYS.into(), number(keys.len() as u64)];
        args.extend(keys.iter().cloned());
        args.push(number(least));
        let reply = self.call("EVAL", args).await?;
        self.sizes(keys, reply)
    }

    /// What the script found big among these keys.
    fn sizes(&self, keys: &[Key], found: Value) -> Result<Vec<(Key, KeySize)>, CallError> {
        let Value::Array(found) = found else { return Err(self.unexpected("EVAL", "no list")) };
        let size = |found: &[Value]| {
            let [Value::Integer(at), Value::Integer(elements), Value::Integer(bytes)] = *found else { return None };
            let (kind, elements) = match u64::try_from(elements) {
                Ok(elements) => (KeyKind::Elements, elements),
                Err(_) => (KeyKind::Bytes, 0),
            };
            let key = keys.get(usize::try_from(at).ok()?)?.clone();
            Some((key, KeySize { kind, elements, bytes: u64::try_from(bytes).ok()? }))
        };
        let found = found.chunks(3).map(|found| size(found).ok_or_else(|| self.unexpected("EVAL", "no key's size")));
        found.collect()
    }
}

fn number(number: u64) -> Bytes {
    number.to_string().into()
}
