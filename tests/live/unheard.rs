//! A target that takes a slot and dies before anybody has heard of it. Its replica is elected with the epoch that the target
//! gave itself, and of two primaries with one epoch the servers raise that of the smaller id: started again, the target may take
//! everything back, with what it has in memory.
//!
//! No order can keep it from that. What an operator can do about it in time is in `docs/operating.md`, and tried here.

use std::time::Duration;

use crate::support::{Bus, Cluster, Flavour, Node, SOON, Spec, Tagged, eventually};

const KEYS: usize = 20;
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it dies at the most until nobody has heard of it.
const TRIES: usize = 5;
/// Ids are chance: of three shards one primary mostly has a smaller one than its replica.
const CLUSTERS: usize = 10;

/// A primary that has a smaller id than its replica.
struct Scene {
    cluster: Cluster,
    bus: Bus,
    target: Node,
    heir: Node,
}

impl Scene {
    fn set(flavour: Flavour) -> Self {
        for _ in 0..CLUSTERS {
            let (cluster, bus) = Bus::around(&Spec::new(flavour).replicas(1).node_timeout(NODE_TIMEOUT));
            let heir_of = |node| cluster.replicas_of(node)[0];
            let wins = |node: &Node| cluster.node_id(*node) < cluster.node_id(heir_of(*node));
            if let Some(target) = cluster.primaries().into_iter().find(wins) {
                let heir = heir_of(target);
                return Self { cluster, bus, target, heir };
            }
        }
        panic!("no primary with a smaller id than its replica in {CLUSTERS} clusters");
    }

    /// Has the target die, and come back when its replica has taken over and `meanwhile` is done; says how many of its keys are lost.
    fn lost(&self, meanwhile: impl FnOnce(Node)) -> usize {
        let Self { cluster, bus, target, heir } = self;
        let Some(source) = cluster.primaries().into_iter().find(|node| node != target) else {
            panic!("three primaries")
        };
        let kept = Tagged::fill(cluster, *target, 0, KEYS);
        let moved = Tagged::fill(cluster, source, 1, 0);
        cluster.open_slot(moved.slot, source, *target);
        cluster.await_replicas_in_step();
        // So that the claim gets a new epoch, as the first of every target does.
        cluster.raise_epoch(source);
        bus.isolate(cluster, *target);
        let id = cluster.node_id(*target).to_string();
        let told = cluster.pongs_sent(*target);
        cluster.cmd::<()>(*target, &["CLUSTER", "SETSLOT", &moved.slot.to_string(), "NODE", &id]);
        eventually("the target tells all, and nobody hears it", SOON, || match cluster.pongs_sent(*target) - told {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        });
        bus.kill_unheard(cluster, *target, NODE_TIMEOUT);
        let owns = |node: Node| {
            let owners = cluster.agreed_owners()?;
            let slots = owners.get(&cluster.node_id(node));
            Ok::<_, String>(slots.is_some_and(|slots| slots.contains(kept.slot)))
        };
        eventually("the replica takes over", SOON, || if owns(*heir)? { Ok(()) } else { Err("not yet".to_owned()) });
        meanwhile(source);
        cluster.restart(*target);
        let owner = eventually("one of the two is the other's replica", SOON, || {
            let [owner, other] = if owns(*heir)? { [*heir, *target] } else { [*target, *heir] };
            let other = cluster.node_id(other);
            let follows = cluster.view(owner)?.members.iter().any(|member| member.id == other && member.is("slave"));
            if owns(owner)? && follows { Ok(owner) } else { Err("not yet".to_owned()) }
        });
        KEYS - cluster.keys_in(owner, kept.slot)
    }
}

fn check(flavour: Flavour) {
    let loses_all = (0..TRIES).any(|_| Scene::set(flavour).lost(|_| {}) == KEYS);
    assert!(loses_all, "no target of {TRIES} took everything back: this story shows nothing");
    let scene = Scene::set(flavour);
    let raise = |other: Node| [other, scene.heir].into_iter().for_each(|node| scene.cluster.raise_epoch(node));
    assert_eq!(scene.lost(raise), 0);
}

#[test]
fn a_target_that_died_unheard_takes_all_back_unless_its_heirs_epoch_is_raised_on_redis_7_0() {
    check(Flavour::Redis70);
}

#[test]
fn a_target_that_died_unheard_takes_all_back_unless_its_heirs_epoch_is_raised_on_valkey_9_1() {
    check(Flavour::Valkey91);
}
