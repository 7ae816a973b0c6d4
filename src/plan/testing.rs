//! Clusters for the tests of this module, made from text.

use super::{Member, NodeTarget, Plan, Policy, ShardInput};
use crate::cluster::{Address, NodeId, SlotSet};

/// The id of node `n`: its number in hexadecimal, first.
pub(super) fn id(n: u32) -> NodeId {
    format!("{n:08x}{:032}", 0).parse().unwrap()
}

/// A shard whose primary is node `n` at 10.0.0.n, with a replica, node `n + 0x1000`.
pub(super) fn shard(n: u32, slots: SlotSet) -> ShardInput {
    let member = |n: u32, port: u16| Member {
        id: id(n),
        address: Address::new(format!("10.0.{}.{}", n >> 8 & 0xf, n & 0xff), port),
        hostname: Some(format!("cache-{n}.svc")),
    };
    ShardInput { primary: id(n), members: vec![member(n, 6379), member(n + 0x1000, 6380)], slots }
}

/// Shards 1, 2, 3, … with these slots.
pub(super) fn shards(slots: &[&str]) -> Vec<ShardInput> {
    (1..).zip(slots).map(|(n, slots)| shard(n, slots.parse().unwrap())).collect()
}

/// A policy from target entries such as `10.0.0.1:6379 weight=2 min=10 slots=0-99`.
pub(super) fn policy(entries: &[&str]) -> Policy {
    let entry = |text: &&str| {
        let mut words = text.split_whitespace();
        let mut entry = NodeTarget::new(words.next().unwrap().parse().unwrap());
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("weight", value) => entry.weight = Some(value.parse().unwrap()),
                ("min", value) => entry.min_slots = Some(value.parse().unwrap()),
                ("max", value) => entry.max_slots = Some(value.parse().unwrap()),
                ("slots", value) => entry.slots = value.parse().unwrap(),
                ("drain", "") => entry.drain = true,
                ("ignore", "") => entry.ignore = true,
                other => panic!("no such setting: {other:?}"),
            }
        }
        entry
    };
    Policy { nodes: entries.iter().map(entry).collect(), ..Policy::default() }
}

/// The shards once the plan is carried out.
pub(super) fn carried_out(shards: &[ShardInput], plan: &Plan) -> Vec<ShardInput> {
    let slots = |primary| plan.layout.shards.iter().find(|shard| shard.primary == primary).unwrap().slots.clone();
    shards.iter().map(|shard| ShardInput { slots: slots(shard.primary), ..shard.clone() }).collect()
}

/// The shards as they are when the replica of every shard that `which` names has taken over.
pub(super) fn failed_over(shards: &[ShardInput], which: impl Fn(NodeId) -> bool) -> Vec<ShardInput> {
    let other = |shard: &ShardInput| shard.members.iter().find(|member| member.id != shard.primary).unwrap().id;
    let turn = |shard: &ShardInput| ShardInput { primary: other(shard), ..shard.clone() };
    shards.iter().map(|shard| if which(shard.primary) { turn(shard) } else { shard.clone() }).collect()
}
