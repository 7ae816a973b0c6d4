//! What the slots hold before they are moved.

use std::collections::BTreeMap;
use std::fmt;

use evenkeel::cluster::Slot;
use redis::{Cmd, Connection, Pipeline, Value};

use super::support::{Cluster, Node};

/// How much goes to a node in one pipeline.
const BATCH_BYTES: usize = 256 * 1024;
/// Keys of a slot of the load `dense`.
const DENSE: usize = 10_000;
/// Keys of a slot of the load `mixed`: more than redis-cli puts into one call.
const MIXED_A_SLOT: usize = 20;
/// Elements of a hash or a sorted set.
const ELEMENTS: usize = 100;
/// The smallest value of the load `mixed`, and how often it may double: to a mebibyte.
const MIXED: (usize, f64) = (64, 14.0);

/// What the slots hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// Nothing: what is measured is the marking and assigning of slots.
    Empty,
    /// Strings of 64 bytes, spread evenly over all slots.
    Small,
    /// Strings of 64 bytes, ten thousand in a slot.
    Dense,
    /// Strings of 1,024 bytes, a tenth as many.
    Kilobyte,
    /// Strings of 64 bytes to a mebibyte, each doubling as frequent as the next, twenty in a slot, one for 100 small ones.
    Mixed,
    /// Hashes and sorted sets of 100 elements in turn, one for 50 small ones.
    Collections,
}

impl Load {
    /// The keys, where `small` would have so many.
    pub(crate) fn items(self, keys: usize) -> Vec<Item> {
        let count = match self {
            Self::Empty => 0,
            Self::Small | Self::Dense => keys,
            Self::Kilobyte => keys / 10,
            Self::Collections => keys / 50,
            Self::Mixed => keys / 100,
        };
        (0..count).map(|number| Item { load: self, number }).collect()
    }

    /// What it is, for people.
    pub(crate) fn describe(self, count: usize) -> String {
        let count = super::report::thousands(count);
        match self {
            Self::Empty => "4,096 empty slots".to_owned(),
            Self::Small => format!("4,096 slots of a cluster of {count} strings of 64 bytes"),
            Self::Dense => format!("4,096 slots of a cluster of {count} strings of 64 bytes, {DENSE} a slot"),
            Self::Kilobyte => format!("4,096 slots of a cluster of {count} strings of 1 KB"),
            Self::Mixed => {
                format!("4,096 slots of a cluster of {count} strings of 64 bytes to 1 MB, {MIXED_A_SLOT} a slot")
            }
            Self::Collections => {
                format!("4,096 slots of a cluster of {count} hashes and sorted sets of {ELEMENTS} elements")
            }
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Small => "small",
            Self::Dense => "dense",
            Self::Kilobyte => "kilobyte",
            Self::Mixed => "mixed",
            Self::Collections => "collections",
        })
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    load: Load,
    number: usize,
}

impl Item {
    /// Its name. Without a tag numbered names fall into all slots alike.
    pub(crate) fn key(self) -> String {
        match self.load {
            Load::Dense => self.tagged(DENSE),
            Load::Mixed => self.tagged(MIXED_A_SLOT),
            Load::Empty | Load::Small | Load::Kilobyte | Load::Collections => format!("key:{}", self.number),
        }
    }

    /// A name that shares its slot with so many others.
    fn tagged(self, a_slot: usize) -> String {
        format!("{{tag:{}}}:{}", self.number / a_slot, self.number % a_slot)
    }

    /// The command that reads it, or the size of it.
    pub(crate) fn read(self) -> &'static str {
        match self.load {
            Load::Collections if self.number.is_multiple_of(2) => "HLEN",
            Load::Collections => "ZCARD",
            // What is measured is the servers' delay, not the time that megabytes take.
            Load::Mixed => "STRLEN",
            Load::Empty | Load::Small | Load::Dense | Load::Kilobyte => "GET",
        }
    }

    /// Whether this is what that command answers.
    pub(crate) fn is(self, answer: &Value) -> bool {
        match (self.load, answer) {
            (Load::Collections, Value::Int(count)) => usize::try_from(*count) == Ok(ELEMENTS),
            (Load::Mixed, Value::Int(length)) => usize::try_from(*length) == Ok(self.bytes()),
            (_, Value::BulkString(value)) => value.len() == self.bytes() && value.iter().all(|&byte| byte == b'v'),
            (_, _) => false,
        }
    }

    fn bytes(self) -> usize {
        match self.load {
            Load::Kilobyte => 1_024,
            Load::Mixed => {
                // As good as random, and the same each time: the golden ratio's multiples.
                let part = (self.number as f64 * 0.618_033_988_75).fract();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "64 to a mebibyte")]
                let bytes = (MIXED.0 as f64 * (part * MIXED.1).exp2()) as usize;
                bytes
            }
            Load::Empty | Load::Small | Load::Dense | Load::Collections => 64,
        }
    }

    fn write(self) -> Cmd {
        let elements = || 0..ELEMENTS;
        let mut command;
        match self.load {
            Load::Collections if self.number.is_multiple_of(2) => {
                command = redis::cmd("HSET");
                command.arg(self.key());
                for element in elements() {
                    command.arg(format!("field:{element}")).arg(format!("value:{element}"));
                }
            }
            Load::Collections => {
                command = redis::cmd("ZADD");
                command.arg(self.key());
                for element in elements() {
                    command.arg(element).arg(format!("member:{element}"));
                }
            }
            Load::Empty | Load::Small | Load::Dense | Load::Kilobyte | Load::Mixed => {
                command = redis::cmd("SET");
                command.arg(self.key()).arg("v".repeat(self.bytes()));
            }
        }
        command
    }
}

/// Writes all of it to the nodes that own the slots.
pub(crate) fn fill(cluster: &Cluster, items: &[Item]) {
    let mut owner = BTreeMap::new();
    for node in cluster.primaries() {
        owner.extend(cluster.slots_of(node).iter().map(|slot| (slot, node)));
    }
    let mut batches: BTreeMap<Node, (Connection, Pipeline, usize)> = BTreeMap::new();
    for item in items {
        let node = owner[&Slot::of_key(item.key().as_bytes())];
        let (connection, batch, bytes) = batches.entry(node).or_insert_with(|| {
            (cluster.connect(node, 0).expect("the owner of a slot can be reached"), Pipeline::new(), 0)
        });
        batch.add_command(item.write()).ignore();
        *bytes += item.bytes();
        if *bytes >= BATCH_BYTES {
            send(connection, batch);
            *bytes = 0;
        }
    }
    for (mut connection, mut batch, bytes) in batches.into_values() {
        // One that has just been sent is empty, and nothing can be sent of it.
        if bytes > 0 {
            send(&mut connection, &mut batch);
        }
    }
}

fn send(connection: &mut Connection, batch: &mut Pipeline) {
    batch.exec(connection).expect("every key can be written to the owner of its slot");
    batch.clear();
}
