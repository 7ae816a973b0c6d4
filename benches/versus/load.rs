//! What the slots hold before they are moved.

use std::collections::BTreeMap;
use std::fmt;

use evenkeel::cluster::Slot;
use redis::{Connection, Pipeline};

use super::support::{Cluster, Node};

/// How many keys go to a node in one pipeline.
const BATCH: usize = 1_000;
/// Bytes of each value.
const VALUE: usize = 64;

/// What the slots hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// Nothing: what is measured is the marking and assigning of slots.
    Empty,
    /// Strings of 64 bytes, spread evenly over all slots.
    Small,
}

impl Load {
    /// Writes what the cluster is to hold, the same each time; returns how many keys that is.
    pub(crate) fn fill(self, cluster: &Cluster, keys: usize) -> usize {
        match self {
            Self::Empty => 0,
            Self::Small => {
                fill(cluster, keys);
                keys
            }
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Small => "small",
        })
    }
}

/// Without hash tags: numbered names fall into all slots alike, some sixty into each for a million.
fn fill(cluster: &Cluster, keys: usize) {
    let mut owner = BTreeMap::new();
    for node in cluster.primaries() {
        owner.extend(cluster.slots_of(node).iter().map(|slot| (slot, node)));
    }
    let mut batches: BTreeMap<Node, (Connection, Pipeline)> = BTreeMap::new();
    let value = "v".repeat(VALUE);
    for number in 0..keys {
        let name = format!("key:{number}");
        let node = owner[&Slot::of_key(name.as_bytes())];
        let (connection, batch) = batches.entry(node).or_insert_with(|| {
            (cluster.connect(node, 0).expect("the owner of a slot can be reached"), Pipeline::with_capacity(BATCH))
        });
        batch.set(name, &value).ignore();
        if batch.len() == BATCH {
            send(connection, batch);
        }
    }
    for (mut connection, mut batch) in batches.into_values() {
        send(&mut connection, &mut batch);
    }
}

fn send(connection: &mut Connection, batch: &mut Pipeline) {
    batch.exec(connection).expect("every key can be written to the owner of its slot");
    batch.clear();
}
