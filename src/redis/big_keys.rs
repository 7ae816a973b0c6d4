//! Finding big keys without fetching anything of them: scripts that run at the server and answer in numbers only.
//!
//! A call for each key would cost more than moving it does. A script asks the same of hundreds of keys in one call, may
//! do no more than its user may, and does not write.

use bytes::Bytes;

use super::{CallError, Conn, Value};
use crate::cluster::{Slot, SlotSet};
use crate::migration::{Key, KeyKind, KeySize};

/// Of slots: those in which any key has so many bytes. At most `most` keys of each slot are looked at.
///
/// `MEMORY USAGE` samples five elements of a key, whatever its size.
const WHICH_SLOTS: &str = "\
local least, most, found = tonumber(ARGV[1]), ARGV[2], {0}
for at = 3, #ARGV do
  for _, key in ipairs(redis.call('CLUSTER', 'GETKEYSINSLOT', ARGV[at], most)) do
    local bytes = redis.call('MEMORY', 'USAGE', key)
    if bytes and bytes >= least then found[#found + 1] = tonumber(ARGV[at]) break end
  end
end
return found";

/// Of keys of one slot: which have so many bytes, and what they are made of.
const WHICH_KEYS: &str = "\
local least, found = tonumber(ARGV[1]), {0}
local count = {hash = 'HLEN', set = 'SCARD', zset = 'ZCARD'}
for at, key in ipairs(KEYS) do
  local bytes = redis.call('MEMORY', 'USAGE', key)
  if bytes and bytes >= least then
    local counted = count[redis.call('TYPE', key)['ok']]
    found[#found + 1] = at - 1
    found[#found + 1] = counted and redis.call(counted, key) or -1
    found[#found + 1] = bytes
  end
end
return found";

impl Conn {
    /// The slots of these in which a key takes `least` bytes or more, in this connection's database.
    ///
    /// Of each slot at most `most` keys are looked at. All in one call, during which the server serves nothing else.
    pub async fn slots_with_big_keys(&self, slots: &SlotSet, least: u64, most: u32) -> Result<SlotSet, CallError> {
        let mut args: Vec<Bytes> = vec![WHICH_SLOTS.into(), "0".into(), number(least), number(most.into())];
        args.extend(slots.iter().map(|slot| Bytes::from(slot.to_string())));
        let found = self.numbers(args).await?;
        let slot = |number: &u64| u16::try_from(*number).ok().and_then(Slot::new);
        found.iter().map(|found| slot(found).ok_or_else(|| self.unexpected("EVAL", "no slot"))).collect()
    }

    /// Those of these keys, all of one slot, that take `least` bytes or more, with their sizes.
    pub async fn big_keys(&self, keys: &[Key], least: u64) -> Result<Vec<(Key, KeySize)>, CallError> {
        let mut args: Vec<Bytes> = vec![WHICH_KEYS.into(), number(keys.len() as u64)];
        args.extend(keys.iter().cloned());
        args.push(number(least));
        let reply = self.call("EVAL", args).await?;
        let found = self.integers(reply)?;
        let size = |found: &[i64]| {
            let [at, elements, bytes] = *found else { return None };
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

    async fn numbers(&self, args: Vec<Bytes>) -> Result<Vec<u64>, CallError> {
        let reply = self.call("EVAL", args).await?;
        Ok(self.integers(reply)?.into_iter().map(|number| u64::try_from(number).unwrap_or_default()).collect())
    }

    /// The numbers after the first, which is there so that no reader takes the list for a message.
    fn integers(&self, reply: Value) -> Result<Vec<i64>, CallError> {
        let numbers = match reply {
            Value::Array(values) => values.into_iter().skip(1).map(|value| match value {
                Value::Integer(number) => Some(number),
                Value::Null | Value::Bytes(_) | Value::Array(_) => None,
            }),
            Value::Null | Value::Integer(_) | Value::Bytes(_) => return Err(self.unexpected("EVAL", "no list")),
        };
        numbers.collect::<Option<_>>().ok_or_else(|| self.unexpected("EVAL", "something else than numbers"))
    }
}

fn number(number: u64) -> Bytes {
    number.to_string().into()
}
