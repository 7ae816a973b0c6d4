//! A target that takes a slot and dies before anybody has heard of it. Its replica is elected with the epoch that the target
//! gave itself, and of two primaries with one epoch the servers raise that of the smaller id: started again, the target may take
//! everything back, with what it has in memory.
//!
//! No order can keep it from that. What can be done about it in time is done by evenkeel, and tried here by hand too.

use std::time::Duration;

use evenkeel::cluster::Slot;

use crate::support::{Bus, Cluster, Flavour, HASTY, Node, Points, SOON, Spec, Tagged, eventually};

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

    /// A slot of another shard that is to go to the target.
    fn filled(&self) -> (Node, Tagged, Tagged) {
        let Self { cluster, target, .. } = self;
        let Some(source) = cluster.primaries().into_iter().find(|node| node != target) else {
            panic!("three primaries")
        };
        let kept = Tagged::fill(cluster, *target, 0, KEYS);
        let moved = Tagged::fill(cluster, source, 1, 0);
        cluster.await_replicas_in_step();
        // So that the claim gets a new epoch, as the first of every target does.
        cluster.raise_epoch(source);
        (source, kept, moved)
    }

    /// Has the target die, of which nobody hears that it has carried out the order to take a slot.
    fn die_unheard(&self, order: impl FnOnce()) {
        let Self { cluster, bus, target, .. } = self;
        bus.isolate(cluster, *target);
        let told = cluster.pongs_sent(*target);
        order();
        eventually("the target tells all, and nobody hears it", SOON, || match cluster.pongs_sent(*target) - told {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        });
        bus.kill_unheard(cluster, *target, NODE_TIMEOUT);
    }

    fn owns(&self, node: Node, slot: Slot) -> Result<bool, String> {
        let owners = self.cluster.agreed_owners()?;
        Ok(owners.get(&self.cluster.node_id(node)).is_some_and(|slots| slots.contains(slot)))
    }

    fn await_heir(&self, kept: &Tagged) {
        eventually("the replica takes over", SOON, || {
            if self.owns(self.heir, kept.slot)? { Ok(()) } else { Err("not yet".to_owned()) }
        });
    }

    /// Starts the target again, and says how many of its keys are lost once it is clear who has them.
    fn lost(&self, kept: &Tagged) -> usize {
        let Self { cluster, target, heir, .. } = self;
        cluster.restart(*target);
        let owner = eventually("one of the two has all slots, and the other is a replica", SOON, || {
            let [owner, other] = if self.owns(*heir, kept.slot)? { [*heir, *target] } else { [*target, *heir] };
            let (view, other) = (cluster.view(owner)?, cluster.node_id(other));
            let follows = view.members.iter().any(|member| member.id == other && member.is("slave"));
            if self.owns(owner, kept.slot)? && follows { Ok(owner) } else { Err("not yet".to_owned()) }
        });
        KEYS - cluster.keys_in(owner, kept.slot)
    }
}

/// The order is anybody's; how many keys are lost when it is clear who has them, `meanwhile` being done while the target is away.
fn lost_by_hand(scene: &Scene, meanwhile: impl FnOnce(Node)) -> usize {
    let Scene { cluster, target, .. } = scene;
    let (source, kept, moved) = scene.filled();
    cluster.open_slot(moved.slot, source, *target);
    let id = cluster.node_id(*target).to_string();
    scene.die_unheard(|| cluster.cmd(*target, &["CLUSTER", "SETSLOT", &moved.slot.to_string(), "NODE", &id]));
    scene.await_heir(&kept);
    meanwhile(source);
    scene.lost(&kept)
}

fn check(flavour: Flavour) {
    let loses_all = (0..TRIES).any(|_| lost_by_hand(&Scene::set(flavour), |_| {}) == KEYS);
    assert!(loses_all, "no target of {TRIES} took everything back: this story shows nothing");
    let scene = Scene::set(flavour);
    let raise = |other: Node| [other, scene.heir].into_iter().for_each(|node| scene.cluster.raise_epoch(node));
    assert_eq!(lost_by_hand(&scene, raise), 0);
}

/// The order is evenkeel's, which sees who takes over and raises its epoch.
fn check_that_it_is_raised(flavour: Flavour) {
    let scene = Scene::set(flavour);
    let Scene { cluster, heir, .. } = &scene;
    let (_, kept, moved) = scene.filled();
    let config = format!("{HASTY}[migration]\nmigrate_timeout = \"500ms\"\n");
    // The shard is named by a member that outlives the story.
    let shard = cluster.node_id(*heir).to_string();
    let call = cluster.evenkeel_with_file(&["move", "--slots", &moved.slot.to_string(), "--to", &shard], &config);
    let (points, call) = Points::order(call, "assign_target.before=pause@1,assign_target.after=pause@1");
    let command = call.env("RUST_LOG", "evenkeel=info").spawn_command();
    points.await_reached("assign_target.before");
    scene.die_unheard(|| {
        points.go("assign_target.before");
        points.await_reached("assign_target.after");
    });
    points.go("assign_target.after");
    scene.await_heir(&kept);
    eventually("the heir's epoch is raised", SOON, || {
        let said = command.stderr();
        if said.contains("its successor's epoch is raised above any") { Ok(()) } else { Err(said) }
    });
    assert_eq!(scene.lost(&kept), 0);
    eventually("the slot is the heir's", SOON, || {
        let open = cluster.open_slots()?;
        if scene.owns(*heir, moved.slot)? && open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    });
}

#[test]
fn a_target_that_died_unheard_takes_all_back_unless_its_heirs_epoch_is_raised_on_redis_7_0() {
    check(Flavour::Redis70);
}

#[test]
fn a_target_that_died_unheard_takes_all_back_unless_its_heirs_epoch_is_raised_on_valkey_9_1() {
    check(Flavour::Valkey91);
}

#[test]
fn the_epoch_of_a_targets_successor_is_raised_while_it_is_away_on_redis_7_0() {
    check_that_it_is_raised(Flavour::Redis70);
}

#[test]
fn the_epoch_of_a_targets_successor_is_raised_while_it_is_away_on_valkey_9_1() {
    check_that_it_is_raised(Flavour::Valkey91);
}
