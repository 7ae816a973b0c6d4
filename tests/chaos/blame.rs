//! Who is to blame for a write that is gone: the servers' asynchronous replication, or nobody that is known.

use std::collections::BTreeMap;
use std::fmt;

use crate::clients::Loss;
use crate::support::Cluster;
use crate::witness::{Arrival, field};

/// How long each replication history was when a replica took it over and went on with one of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories(BTreeMap<String, u64>);

impl Histories {
    /// Adds what the primaries tell of the histories that they took over.
    pub(crate) fn learn(&mut self, cluster: &Cluster) {
        for node in cluster.running() {
            let Ok(info) = cluster.try_cmd::<String>(node, &["INFO", "replication"]) else { continue };
            let end = field(&info, "second_repl_offset").and_then(|offset| offset.parse::<u64>().ok());
            let (Some("master"), Some(history), Some(end)) =
                (field(&info, "role"), field(&info, "master_replid2"), end)
            else {
                continue;
            };
            // The replica had every byte before this one.
            self.0.entry(history.to_owned()).or_insert(end - 1);
        }
    }
}

/// Why a write is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blame {
    /// The server that acknowledged it was replaced by a replica that did not have it.
    Write { acknowledged_at: u64, replica_had: u64 },
    /// A target that a `MIGRATE` had brought it to was replaced by a replica that did not have it.
    Move { arrived_after: u64, arrived_before: Option<u64>, replica_had: u64 },
    /// It was at the target when the source was replaced by a replica that knew nothing of the open slot: until that was
    /// told, a client was answered that there is nothing, and wrote anew.
    Hidden { source_replica_had: u64 },
    /// Nobody known.
    Nobody,
}

impl Blame {
    /// Who is to blame for this loss.
    pub(crate) fn of(loss: &Loss, histories: &Histories, arrivals: &[Arrival]) -> Self {
        let source = histories.0.get(&loss.ack.history).copied();
        if let Some(replica_had) = source.filter(|had| *had <= loss.ack.offset) {
            return Self::Write { acknowledged_at: loss.ack.offset, replica_had };
        }
        let mut arrived = false;
        for arrival in arrivals.iter().rev().filter(|arrival| arrival.key == loss.key) {
            arrived = true;
            let target = histories.0.get(&arrival.history).copied();
            if let Some(replica_had) = target.filter(|had| arrival.at_most.is_none_or(|at_most| *had < at_most)) {
                let Arrival { at_least: arrived_after, at_most: arrived_before, .. } = *arrival;
                return Self::Move { arrived_after, arrived_before, replica_had };
            }
        }
        match source {
            Some(source_replica_had) if arrived => Self::Hidden { source_replica_had },
            Some(_) | None => Self::Nobody,
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { acknowledged_at, replica_had } => {
                write!(f, "acknowledged at {acknowledged_at}, and the promoted replica had {replica_had}")
            }
            Self::Move { arrived_after, arrived_before, replica_had } => {
                let before = arrived_before.map_or("the end".to_owned(), |before| before.to_string());
                write!(f, "moved between {arrived_after} and {before}, and the promoted replica had {replica_had}")
            }
            Self::Hidden { source_replica_had } => {
                write!(f, "moved, and then hidden: the source's replica was promoted at {source_replica_had}")
            }
            Self::Nobody => f.write_str("nobody"),
        }
    }
}
