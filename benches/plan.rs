//! How long a plan takes: 16,384 slots over 100 and 1,000 primaries. `cargo bench --bench plan`.

use divan::Bencher;
use evenkeel::cluster::{Address, NodeId, Slot, SlotSet};
use evenkeel::plan::{Member, NodeName, NodeTarget, Policy, ShardInput, plan};

const PRIMARIES: [u16; 2] = [100, 1000];

fn main() {
    divan::main();
}

/// All slots at the first of the primaries.
#[divan::bench(args = PRIMARIES)]
fn fresh(bencher: Bencher<'_, '_>, primaries: u16) {
    bench(bencher, &cluster(primaries, |_| 0), &[]);
}

/// One empty primary beside a level cluster of whole ranges.
#[divan::bench(args = PRIMARIES)]
fn one_added(bencher: Bencher<'_, '_>, primaries: u16) {
    bench(bencher, &cluster(primaries, |slot| whole(slot, primaries - 1)), &[]);
}

/// One primary is drained out of a level cluster of whole ranges.
#[divan::bench(args = PRIMARIES)]
fn one_drained(bencher: Bencher<'_, '_>, primaries: u16) {
    bench(bencher, &cluster(primaries, |slot| whole(slot, primaries)), &[drained(primaries / 2)]);
}

/// Half of the primaries are drained, and no two neighbouring slots have the same owner.
#[divan::bench(args = PRIMARIES)]
fn fragmented_half_drained(bencher: Bencher<'_, '_>, primaries: u16) {
    let nodes: Vec<NodeTarget> = (0..primaries / 2).map(drained).collect();
    bench(bencher, &cluster(primaries, |slot| slot % primaries), &nodes);
}

/// One empty primary, and no two neighbouring slots have the same owner.
#[divan::bench(args = PRIMARIES)]
fn fragmented_one_added(bencher: Bencher<'_, '_>, primaries: u16) {
    bench(bencher, &cluster(primaries, |slot| slot % (primaries - 1)), &[]);
}

fn bench(bencher: Bencher<'_, '_>, shards: &[ShardInput], nodes: &[NodeTarget]) {
    let policy = Policy { nodes: nodes.to_vec(), ..Policy::default() };
    bencher.bench(|| plan(divan::black_box(shards), divan::black_box(&policy)));
}

fn whole(slot: u16, primaries: u16) -> u16 {
    u16::try_from(u32::from(slot) * u32::from(primaries) / 16_384).unwrap_or(0)
}

fn drained(n: u16) -> NodeTarget {
    NodeTarget { drain: true, ..NodeTarget::new(NodeName::Id(id(n))) }
}

fn id(n: u16) -> NodeId {
    format!("{n:040x}").parse().expect("40 digits")
}

fn cluster(primaries: u16, owner: impl Fn(u16) -> u16) -> Vec<ShardInput> {
    let mut slots = vec![SlotSet::new(); usize::from(primaries)];
    for slot in Slot::all() {
        slots[usize::from(owner(slot.number()))].insert(slot);
    }
    let shard = |(n, slots): (u16, SlotSet)| ShardInput {
        primary: id(n),
        members: vec![Member { id: id(n), address: Address::new("10.0.0.1", 1000 + n), hostname: None }],
        slots,
    };
    (0..).zip(slots).map(shard).collect()
}
