//! The keys that the cluster is filled with: what they hold follows from their number, so all can be verified.

use std::fmt;

use bytes::Bytes;
use futures::future::join_all;
use indicatif::HumanCount;

use super::cluster::LocalCluster;
use crate::cluster::Slot;
use crate::redis::{CallError, Conn, Value};

/// The size of every value.
pub(super) const VALUE_BYTES: u64 = 64;
/// How many calls are under way at once: enough to keep all servers busy, and few enough for the client's queues.
const AT_ONCE: u64 = 2000;

/// Keys numbered from 0. Their slots are as good as random, so every slot gets its share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    keys: u64,
}

/// What became of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Keys that hold what was written.
    intact: u64,
    /// Keys that are not there.
    lost: u64,
    /// Keys that hold something else.
    wrong: u64,
    /// The name of the first key that is lost or wrong.
    first: Option<String>,
}

impl Data {
    /// Writes the keys, each to the owner of its slot.
    pub(super) async fn fill(cluster: &LocalCluster, keys: u64) -> anyhow::Result<Self> {
        let owners = cluster.owners().await?;
        for start in (0..keys).step_by(usize::try_from(AT_ONCE)?) {
            let numbers = start..keys.min(start + AT_ONCE);
            let writes = numbers.map(|number| {
                let args = vec![name(number).into(), value(number).into()];
                owner(&owners, number).call("SET", args)
            });
            join_all(writes).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(Self { keys })
    }

    /// Reads every key from the owner of its slot and compares it with what was written.
    pub(super) async fn verify(self, cluster: &LocalCluster) -> anyhow::Result<Found> {
        let owners = cluster.owners().await?;
        let mut found = Found::default();
        for start in (0..self.keys).step_by(usize::try_from(AT_ONCE)?) {
            let numbers = start..self.keys.min(start + AT_ONCE);
            let reads = numbers.clone().map(|number| read(owner(&owners, number), number));
            for (number, held) in numbers.zip(join_all(reads).await) {
                found.judge(number, held?.as_ref());
            }
        }
        Ok(found)
    }

    /// How many keys there are.
    pub(super) fn keys(self) -> u64 {
        self.keys
    }
}

impl Found {
    fn judge(&mut self, number: u64, held: Option<&Bytes>) {
        match held {
            Some(held) if held == value(number).as_bytes() => {
                self.intact += 1;
                return;
            }
            Some(_) => self.wrong += 1,
            None => self.lost += 1,
        }
        self.first.get_or_insert_with(|| name(number));
    }

    /// What is wrong with the keys; `None` when nothing is.
    pub(super) fn fault(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!("keys lost: {}, holding something else: {}; the first is `{first}`", self.lost, self.wrong))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.intact + self.lost + self.wrong;
        write!(f, "{} of {} keys hold what was written", HumanCount(self.intact), HumanCount(all))
    }
}

/// The name of the key with this number.
pub(super) fn name(number: u64) -> String {
    format!("key:{number}")
}

/// What the key with this number holds, for good.
pub(super) fn value(number: u64) -> String {
    format!("{:.<64}", format!("the value of key {number} "))
}

fn owner<'a>(owners: &[&'a Conn], number: u64) -> &'a Conn {
    owners[Slot::of_key(name(number).as_bytes()).index()]
}

async fn read(owner: &Conn, number: u64) -> Result<Option<Bytes>, CallError> {
    match owner.call("GET", vec![name(number).into()]).await? {
        Value::Bytes(held) => Ok(Some(held)),
        Value::Null | Value::Integer(_) | Value::Array(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_size_that_is_told() {
        for number in [0, 99_999, 9_999_999] {
            assert_eq!(value(number).len() as u64, VALUE_BYTES, "{number}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_or_holds_something_else_is_a_fault() {
        let check = |held: Option<&str>, expected: Option<&str>| {
            let mut found = Found::default();
            found.judge(7, held.map(|held| Bytes::from(held.to_owned())).as_ref());
            assert_eq!(found.fault().as_deref(), expected);
        };
        check(Some(&value(7)), None);
        check(Some(&value(8)), Some("keys lost: 0, holding something else: 1; the first is `key:7`"));
        check(None, Some("keys lost: 1, holding something else: 0; the first is `key:7`"));
    }
}
