//! The raw limit: `MIGRATE` of keys whose names are known, one call after the other at each source, and nothing else.
//!
//! No marks, no listing, no finalise are part of the time; they come before and after it. No tool that moves slots with
//! `MIGRATE` can be faster, but by having several calls on their way to one source.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::cluster::Slot;
use redis::{Client, Connection, Pipeline};

use super::load::Item;
use super::network::Network;
use super::spent::this_thread;
use super::support::{Cluster, Node};

/// Keys of one call: more of them make it hardly faster (protocol 9.1).
const KEYS_AT_ONCE: usize = 1_000;
/// How long one call may wait for the target, in milliseconds.
const TIMEOUT_MS: u32 = 60_000;
/// Slots whose marks are changed together.
const SLOTS_AT_ONCE: usize = 256;

/// What goes from one primary to another.
struct Move {
    source: Node,
    target: Node,
    slots: Vec<Slot>,
    calls: Vec<redis::Cmd>,
}

/// Levels the cluster. Says how long the calls took, from the first of all to the last of all, and what processor time their
/// threads spent.
pub(crate) fn level(cluster: &Cluster, network: &Network, items: &[Item]) -> (Duration, Duration) {
    let moves = moves(cluster, network, items);
    let set_slots = |of: &Move, at, mark, node| {
        set_slots(&mut connect(network, at), &of.slots, mark, &cluster.node_id(node).to_string());
    };
    for each in &moves {
        set_slots(each, each.target, "IMPORTING", each.source);
        set_slots(each, each.source, "MIGRATING", each.target);
    }
    let mut sources: BTreeMap<Node, Vec<&Move>> = BTreeMap::new();
    for each in &moves {
        sources.entry(each.source).or_default().push(each);
    }
    // Connected before the time begins, as everything else.
    let connections: Vec<_> = sources.into_iter().map(|(source, moves)| (connect(network, source), moves)).collect();
    let began = Instant::now();
    let spent = thread::scope(|scope| {
        let drive = |(mut connection, moves): (Connection, Vec<&Move>)| {
            for call in moves.into_iter().flat_map(|each| &each.calls) {
                call.exec(&mut connection).expect("keys that are there can be moved");
            }
            this_thread()
        };
        let threads: Vec<_> = connections.into_iter().map(|each| scope.spawn(move || drive(each))).collect();
        threads.into_iter().map(|thread| thread.join().expect("its calls succeed")).sum()
    });
    let took = began.elapsed();
    // One pair at a time, the target first: see the shared page on the protocol.
    for each in &moves {
        for node in [each.target, each.source] {
            set_slots(each, node, "NODE", each.target);
        }
    }
    (took, spent)
}

/// The lowest slots of each primary that has more than its share, to those that have less.
fn moves(cluster: &Cluster, network: &Network, items: &[Item]) -> Vec<Move> {
    let nodes = cluster.nodes();
    let share = Slot::COUNT / nodes.len();
    let owned: BTreeMap<Node, Vec<Slot>> =
        nodes.iter().map(|&node| (node, cluster.slots_of(node).iter().collect())).collect();
    let mut keys: BTreeMap<Slot, Vec<String>> = BTreeMap::new();
    for item in items {
        let key = item.key();
        keys.entry(Slot::of_key(key.as_bytes())).or_default().push(key);
    }
    let mut wanting: Vec<(Node, usize)> = nodes
        .iter()
        .filter_map(|&node| Some((node, share.checked_sub(owned[&node].len())?)).filter(|&(_, slots)| slots > 0))
        .collect();
    let mut moves = Vec::new();
    for (&source, slots) in &owned {
        let mut surplus = &slots[..slots.len().saturating_sub(share)];
        while let (false, Some((target, wanted))) = (surplus.is_empty(), wanting.last_mut()) {
            let (now, later) = surplus.split_at(surplus.len().min(*wanted));
            let calls = now.iter().flat_map(|slot| keys.get(slot).map_or(&[][..], Vec::as_slice).chunks(KEYS_AT_ONCE));
            let to = network.address(*target);
            let calls = calls.map(|keys| {
                let mut call = redis::cmd("MIGRATE");
                call.arg(&to.host).arg(to.port).arg("").arg(0).arg(TIMEOUT_MS).arg("KEYS").arg(keys);
                call
            });
            moves.push(Move { source, target: *target, slots: now.to_vec(), calls: calls.collect() });
            *wanted -= now.len();
            if *wanted == 0 {
                wanting.pop();
            }
            surplus = later;
        }
    }
    moves
}

fn set_slots(connection: &mut Connection, slots: &[Slot], mark: &str, node: &str) {
    for slots in slots.chunks(SLOTS_AT_ONCE) {
        let mut calls = Pipeline::new();
        for slot in slots {
            calls.cmd("CLUSTER").arg("SETSLOT").arg(slot.number()).arg(mark).arg(node).ignore();
        }
        calls.exec(connection).expect("slots can be marked");
    }
}

fn connect(network: &Network, node: Node) -> Connection {
    let address = network.address(node);
    let client = Client::open((address.host.as_str(), address.port)).expect("an address");
    client.get_connection().expect("every node can be reached")
}
