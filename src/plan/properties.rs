//! Properties: whatever the cluster and the policy look like.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::check::check;
use super::testing::{carried_out, failed_over, id, shard};
use super::*;
use crate::cluster::Slot;

/// A pseudo-random number that only depends on `seed` and `n` (splitmix64).
fn mixed(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `count` shards in pieces of about `piece` slots; a shard may be empty, and a few slots may have no owner.
fn cluster(count: u32, piece: u64, unassigned: bool, seed: u64) -> Vec<ShardInput> {
    let mut shards: Vec<ShardInput> = (1..=count).map(|n| shard(n, SlotSet::new())).collect();
    let mut owner = 0;
    for slot in Slot::all() {
        let n = u64::from(slot.number());
        if mixed(seed, n).is_multiple_of(piece) {
            owner = usize::try_from(mixed(seed ^ 1, n) % u64::from(count)).unwrap();
        }
        if !(unassigned && mixed(seed ^ 2, n).is_multiple_of(97)) {
            shards[owner].slots.insert(slot);
        }
    }
    shards
}

fn arb_cluster() -> impl Strategy<Value = Vec<ShardInput>> {
    let count = prop_oneof![4 => 1u32..12, 2 => 12u32..120, 1 => 120u32..1000];
    let piece = prop_oneof![Just(1u64), 2u64..40, 40u64..2000];
    (count, piece, proptest::bool::weighted(0.2), any::<u64>())
        .prop_map(|(n, piece, gaps, seed)| cluster(n, piece, gaps, seed))
}

/// Entries for some of the first shards, by primary or replica: weights, drains, ignores, bounds, pinned slots.
fn arb_policy() -> impl Strategy<Value = Policy> {
    let weights = prop_oneof![Just(0.0), Just(1.0), Just(2.0), 0.05f64..8.0];
    let entry = (0u32..16, weights, 0u32..3000, 0u16..16_000, 1u16..300, any::<bool>());
    let percent = prop_oneof![Just(0.0), Just(2.0), 0.0f64..60.0];
    (percent, 0u32..8, proptest::collection::vec(entry, 0..6)).prop_map(|(percent, slots, entries)| {
        let nodes = (1..).zip(entries).map(|(n, (kind, weight, bound, first, length, replica))| {
            let mut entry = NodeTarget::new(NodeName::Id(id(if replica { n + 0x1000 } else { n })));
            let last = Slot::new((first + length).min(16_383)).unwrap();
            match kind {
                0 => entry.drain = true,
                1 => entry.ignore = true,
                2 => entry.max_slots = Some(bound),
                3 => entry.min_slots = Some(bound),
                4..=6 => entry.slots = SlotSet::from(Slot::new(first).unwrap()..=last),
                7 => {
                    entry.slots = SlotSet::from(Slot::new(first).unwrap()..=last);
                    entry.weight = Some(weight);
                }
                _ => entry.weight = Some(weight),
            }
            entry
        });
        Policy { threshold_percent: percent, threshold_slots: slots, default_weight: 1.0, nodes: nodes.collect() }
    })
}

/// Levelled, whatever the thresholds were.
fn levelled(shards: &[ShardInput], policy: &Policy) -> Option<Vec<ShardInput>> {
    let policy = Policy { threshold_percent: 0.0, threshold_slots: 0, ..policy.clone() };
    plan(shards, &policy).ok().map(|plan| carried_out(shards, &plan))
}

/// The pairs of primaries between which slots move, other than to where an entry wants them.
fn pairs(plan: &Plan) -> Vec<(NodeId, NodeId)> {
    plan.moves.iter().filter(|m| m.why != Why::Pinned).map(|m| (m.source, m.target)).collect()
}

/// A plan with the shards' primaries replaced by what stays the same in a failover.
fn without_primaries(plan: &Plan, shards: &[ShardInput]) -> Vec<(Why, NodeId, NodeId, SlotSet)> {
    let key = |primary| shards.iter().find(|shard| shard.primary == primary).unwrap().key();
    plan.moves.iter().map(|m| (m.why, key(m.source), key(m.target), m.slots.clone())).collect()
}

fn sound(shards: &[ShardInput], policy: &Policy) -> TestCaseResult {
    let first = plan(shards, policy);
    let mut shuffled = shards.to_vec();
    shuffled.reverse();
    prop_assert_eq!(&first, &plan(&shuffled, policy), "the order of the input says nothing");
    let Ok(first) = first else { return Ok(()) };
    prop_assert_eq!(check(shards, policy, &first), vec![]);

    let done = carried_out(shards, &first);
    let again = plan(&done, policy).unwrap();
    prop_assert_eq!(&again.moves, &vec![], "planning again finds nothing");

    let turned = failed_over(shards, |primary| primary.to_string().as_bytes()[7] % 2 == 0);
    let after_failover = plan(&turned, policy).unwrap();
    prop_assert_eq!(without_primaries(&first, shards), without_primaries(&after_failover, &turned));
    let targets = |plan: &Plan| plan.lines.iter().map(|line| line.target).collect::<Vec<_>>();
    prop_assert_eq!(targets(&first), targets(&after_failover));

    if policy.nodes.iter().all(|entry| entry.slots.is_empty()) {
        let ends =
            |end: fn(&Move) -> NodeId| first.moves.iter().map(end).collect::<std::collections::BTreeSet<_>>().len();
        let cuts = u32::try_from(ends(|m| m.source) + ends(|m| m.target)).unwrap().saturating_sub(1);
        prop_assert!(first.ranges_after <= first.ranges_now + cuts, "{} -> {}", first.ranges_now, first.ranges_after);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_is_sound_whatever_the_cluster(shards in arb_cluster(), policy in arb_policy()) {
        sound(&shards, &policy)?;
    }

    #[test]
    fn adding_a_node_moves_nothing_between_old_ones(shards in arb_cluster(), policy in arb_policy(), weight in 0.1f64..9.0) {
        let Some(mut shards) = levelled(&shards, &policy) else { return Ok(()) };
        // Minus one: the least key, so that every tie would go its way.
        let new = shard(0, SlotSet::new());
        let mut policy = policy;
        policy.nodes.push(NodeTarget { weight: Some(weight), ..NodeTarget::new(NodeName::Id(new.primary)) });
        shards.push(new);
        let plan = plan(&shards, &policy).unwrap();
        prop_assert!(pairs(&plan).iter().all(|(_, target)| *target == id(0)), "{:?}", pairs(&plan));
    }

    #[test]
    fn draining_a_node_moves_nothing_between_the_others(shards in arb_cluster(), policy in arb_policy()) {
        let last = shards.len();
        prop_assume!(last > 6); // beyond those that the policy names
        let Some(shards) = levelled(&shards, &policy) else { return Ok(()) };
        let drained = shards[last - 1].primary;
        let mut policy = policy;
        policy.nodes.push(NodeTarget { drain: true, ..NodeTarget::new(NodeName::Id(drained)) });
        let Ok(plan) = plan(&shards, &policy) else { return Ok(()) };
        prop_assert!(pairs(&plan).iter().all(|(source, _)| *source == drained), "{:?}", pairs(&plan));
    }

    #[test]
    fn any_name_can_be_resolved_or_is_refused(text in "[0-9a-f]{1,41}|[a-z0-9.:\\[\\]-]{0,12}") {
        let shards = cluster(3, 1000, false, 7);
        if let Ok(name) = text.parse::<NodeName>() {
            prop_assert_eq!(name.to_string().parse::<NodeName>(), Ok(name.clone()));
            let _ = resolve(&shards, &name);
        }
    }
}

#[test]
fn a_thousand_primaries_are_planned_soundly() {
    for (piece, seed) in [(1, 1), (16, 2), (200, 3)] {
        let mut nodes = vec![NodeTarget::new(NodeName::Id(id(5))), NodeTarget::new(NodeName::Id(id(0x1006)))];
        nodes[0].drain = true;
        nodes[1].weight = Some(12.5);
        sound(&cluster(1000, piece, false, seed), &Policy { nodes, ..Policy::default() }).unwrap();
    }
}
