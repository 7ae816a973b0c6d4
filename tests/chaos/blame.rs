//! Who is to blame for a write that is gone: the servers' asynchronous replication, or nobody that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use evenkeel::cluster::Slot;

use crate::clients::{Ack, Loss};
use crate::support::Cluster;
use crate::witness::{Arrival, field};

/// How long each replication history was when a replica took it over, and the history of its own that it went on with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories(BTreeMap<String, (u64, String)>);

impl Histories {
    fn end(&self, history: &str) -> Option<u64> {
        self.0.get(history).map(|(end, _)| *end)
    }

    /// Whether this is the other history, or what a replica made of it.
    fn follows(&self, history: &str, other: &str) -> bool {
        history == other || self.0.get(other).is_some_and(|(_, next)| next == history)
    }

    /// Adds what the primaries tell of the histories that they took over.
    pub(crate) fn learn(&mut self, cluster: &Cluster) {
        for node in cluster.running() {
            let Ok(info) = cluster.try_cmd::<String>(node, &["INFO", "replication"]) else { continue };
            let end = field(&info, "second_repl_offset").and_then(|offset| offset.parse::<u64>().ok());
            let names = (field(&info, "role"), field(&info, "master_replid2"), field(&info, "master_replid"));
            let ((Some("master"), Some(history), Some(next)), Some(end)) = (names, end) else { continue };
            // The replica had every byte before this one.
            self.0.entry(history.to_owned()).or_insert((end - 1, next.to_owned()));
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
    /// A replica deleted the keys of its slot when it was promoted: on Valkey it had taken the slot for its primary, which died
    /// before it did so itself, and had then been told of another owner.
    Deleted,
    /// Nobody known.
    Nobody,
}

impl Blame {
    /// Who is to blame for this loss; `owners` has the history of each slot's owner before the strike.
    pub(crate) fn of(
        loss: &Loss,
        histories: &Histories,
        arrivals: &[Arrival],
        owners: &BTreeMap<Slot, String>,
    ) -> Self {
        let writer = histories.end(&loss.ack.history);
        if let Some(replica_had) = writer.filter(|had| *had <= loss.ack.offset) {
            return Self::Write { acknowledged_at: loss.ack.offset, replica_had };
        }
        let owner = owners.get(&loss.slot());
        // Moved before, or written where a client had been sent from the owner.
        let mut arrived = owner.is_some_and(|owner| !histories.follows(&loss.ack.history, owner));
        for arrival in arrivals.iter().rev().filter(|arrival| arrival.key == loss.key) {
            arrived = true;
            let target = histories.end(&arrival.history);
            if let Some(replica_had) = target.filter(|had| arrival.at_most.is_none_or(|at_most| *had < at_most)) {
                let Arrival { at_least: arrived_after, at_most: arrived_before, .. } = *arrival;
                return Self::Move { arrived_after, arrived_before, replica_had };
            }
        }
        match owner.and_then(|owner| histories.end(owner)) {
            Some(source_replica_had) if arrived => Self::Hidden { source_replica_had },
            Some(_) | None => Self::Nobody,
        }
    }
}

/// How a Valkey says that it deletes the keys of a slot, with the slot behind it.
const DELETES: &str = "I have keys for slot ";

/// All lines in which a node says that it deletes the keys of a slot that it does not own.
pub(crate) fn deletions(cluster: &Cluster) -> BTreeSet<String> {
    let logs = cluster.logs(usize::MAX);
    logs.lines().filter(|line| line.contains(DELETES)).map(str::to_owned).collect()
}

/// The slots that such lines are about.
pub(crate) fn deleted_slots<'a>(lines: impl Iterator<Item = &'a String>) -> BTreeSet<Slot> {
    let slot = |line: &String| line.split_once(DELETES)?.1.split(',').next()?.parse().ok();
    lines.filter_map(slot).collect()
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
            Self::Deleted => {
                f.write_str("deleted by the promoted replica, which took another node for the slot's owner")
            }
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

/// A write that was acknowledged by a server of history `w` at this offset, the arrivals of its key, by history and
/// bracket, and the histories that came to an end, and where; the slot was `w`'s own.
#[track_caller]
fn check(acknowledged: (&str, u64), arrivals: &[(&str, u64, Option<u64>)], ended: &[(&str, u64)], blame: Blame) {
    let (key, history) = ("chaos:1".to_owned(), acknowledged.0.to_owned());
    let ack = Ack { version: 1, history, offset: acknowledged.1, at: Instant::now() };
    let loss = Loss { key: key.clone(), ack, found: None };
    let arrival = |&(history, at_least, at_most): &(&str, u64, Option<u64>)| Arrival {
        key: key.clone(),
        history: history.to_owned(),
        at_least,
        at_most,
    };
    let arrivals: Vec<Arrival> = arrivals.iter().map(arrival).collect();
    let histories =
        Histories(ended.iter().map(|&(history, end)| (history.to_owned(), (end, format!("{history}'")))).collect());
    let owners = [(loss.slot(), "w".to_owned())].into();
    assert_eq!(Blame::of(&loss, &histories, &arrivals, &owners), blame);
}

#[test]
fn a_write_that_the_promoted_replica_did_not_have_is_the_replications() {
    let blame = Blame::Write { acknowledged_at: 100, replica_had: 100 };
    check(("w", 100), &[], &[("w", 100)], blame);
    // It had that byte and the write after it.
    check(("w", 100), &[], &[("w", 101)], Blame::Nobody);
    check(("w", 100), &[], &[("other", 50)], Blame::Nobody);
}

#[test]
fn a_move_that_the_targets_promoted_replica_did_not_have_is_the_replications() {
    let blame = |replica_had| Blame::Move { arrived_after: 20, arrived_before: Some(30), replica_had };
    check(("w", 100), &[("t", 20, Some(30))], &[("t", 20)], blame(20));
    check(("w", 100), &[("t", 20, Some(30))], &[("t", 29)], blame(29));
    check(("w", 100), &[("t", 20, Some(30))], &[("t", 30)], Blame::Nobody);
}

#[test]
fn a_key_at_the_target_is_hidden_when_its_source_is_replaced_and_only_then() {
    let hidden = Blame::Hidden { source_replica_had: 200 };
    check(("w", 100), &[("t", 20, Some(30))], &[("w", 200)], hidden.clone());
    check(("t", 25), &[], &[("w", 200)], hidden);
    check(("w", 100), &[], &[("w", 200)], Blame::Nobody);
    check(("t", 25), &[], &[], Blame::Nobody);
    // Written at the promoted replica: that one did not hide it.
    check(("w'", 210), &[], &[("w", 200)], Blame::Nobody);
}

#[test]
fn slots_whose_keys_a_promoted_replica_deletes_are_read_from_its_log() {
    let lines = [
        "25433:M 28 Nov 2026 09:12:17.030 * I have keys for slot 15002, but the slot is assigned to another node. \
         Deleting keys in the slot."
            .to_owned(),
        "25433:M 28 Nov 2026 09:12:17.462 * Importing slot 866 from node b4b70146".to_owned(),
    ];
    assert_eq!(deleted_slots(lines.iter()), BTreeSet::from([Slot::new(15_002).expect("a slot")]));
}
