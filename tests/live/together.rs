//! How a Valkey takes a group of slots: one of them by an order, which its replicas carry out first, and all others with it.

use std::thread;
use std::time::Duration;

use evenkeel::cluster::{NodeId, Slot, SlotSet};
use evenkeel::config::Config;
use evenkeel::migration::SetSlotReply;
use evenkeel::redis::{Dialer, Intent};

use crate::support::{Bus, Cluster, Flavour, Node, SOON, Spec, Tagged, eventually};

const KEYS: usize = 20;
/// Slots with keys in each group.
const MOVED: usize = 3;
/// How often other orders are sent at the most until they have cost keys: what the replica hears first is chance.
const TRIES: usize = 6;
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// A group of slots with both marks, whose keys are at their target and at its replica.
struct Scene {
    cluster: Cluster,
    source: Node,
    target: Node,
    heir: Node,
    /// It has no key.
    empty: Slot,
    moved: Vec<Tagged>,
}

impl Scene {
    fn set(cluster: Cluster) -> Self {
        let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
        let heir = cluster.replicas_of(target)[0];
        let moved: Vec<Tagged> = (0..MOVED).map(|number| Tagged::fill(&cluster, source, number, KEYS)).collect();
        let is_free = |slot: &Slot| moved.iter().all(|tagged| tagged.slot != *slot);
        let empty = cluster.slots_of(source).iter().find(is_free).expect("it has hundreds");
        cluster.open_slot(empty, source, target);
        for tagged in &moved {
            cluster.open_slot(tagged.slot, source, target);
            while cluster.migrate_keys(tagged.slot, source, target, KEYS) > 0 {}
        }
        cluster.await_replicas_in_step();
        cluster.raise_epoch(source);
        Self { cluster, source, target, heir, empty, moved }
    }

    fn slots(&self) -> SlotSet {
        self.moved.iter().map(|tagged| tagged.slot).chain([self.empty]).collect()
    }

    /// As evenkeel orders it, a while after the target was asked for its time.
    fn order(&self, after: Duration, good_for: Duration) -> Vec<(Slot, SetSlotReply)> {
        let Self { cluster, target, empty, .. } = self;
        let (address, id): (_, NodeId) = (cluster.address(*target), cluster.node_id(*target));
        let dialer = Dialer::new(&Config::from_seeds(vec![address.clone()]), Intent::Acting, "together").bare();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let conn = dialer.open(&address, None, id).await.expect("the target runs");
            let deadline = conn.time().await.expect("it answers").plus(good_for);
            thread::sleep(after);
            conn.assign_together_before(deadline, &self.slots(), Some(*empty), id).await.expect("it answers")
        })
    }

    /// By the target's own word.
    fn taken(&self) -> SlotSet {
        let Self { cluster, target, .. } = self;
        let view = cluster.view(*target).expect("the target answers");
        view.slots_of(cluster.node_id(*target)).intersection(&self.slots())
    }
}

fn check_that_a_group_is_taken_whole_or_not_at_all(flavour: Flavour) {
    let scene = Scene::set(Cluster::start(Spec::new(flavour).replicas(1)));
    let Scene { cluster, source, target, heir, empty, moved } = &scene;
    let all = |reply: SetSlotReply| -> Vec<(Slot, SetSlotReply)> {
        let others = moved.iter().map(|tagged| tagged.slot).collect::<SlotSet>();
        std::iter::once(*empty).chain(others.iter()).map(|slot| (slot, reply.clone())).collect()
    };
    cluster.sigstop(*heir);
    assert_eq!(scene.order(Duration::ZERO, SOON), all(SetSlotReply::NoReplicas));
    assert_eq!(scene.taken(), SlotSet::new());
    cluster.sigcont(*heir);
    eventually("the replica answers", SOON, || {
        cluster.try_cmd::<String>(*heir, &["PING"]).map_err(|error| error.to_string())
    });
    // What comes late is the first one only.
    let late = scene.order(Duration::from_millis(50), Duration::from_millis(10));
    assert_eq!(late[0], (*empty, SetSlotReply::Ok));
    assert_eq!(late[1..], all(SetSlotReply::Late)[1..]);
    assert_eq!(scene.taken(), [*empty].into_iter().collect());
    // Once more, from its source: with it the others are taken.
    cluster.slots_of(*target);
    cluster.move_slot(*empty, *target, *source);
    cluster.open_slot(*empty, *source, *target);
    assert_eq!(scene.order(Duration::ZERO, SOON), all(SetSlotReply::Ok));
    eventually("all know it, and the replica has no mark", SOON, || {
        let owners = cluster.agreed_owners()?;
        let has = owners.get(&cluster.node_id(*target)).is_some_and(|slots| scene.slots().difference(slots).is_empty());
        let marks = cluster.view(*heir)?.open();
        if has && marks.is_empty() { Ok(()) } else { Err(format!("{owners:?}, {marks:?}")) }
    });
    for tagged in moved {
        tagged.verify(cluster);
    }
}

#[test]
fn a_group_is_taken_whole_or_not_at_all_on_valkey_8_1() {
    check_that_a_group_is_taken_whole_or_not_at_all(Flavour::Valkey81);
}

#[test]
fn a_group_is_taken_whole_or_not_at_all_on_valkey_9_1() {
    check_that_a_group_is_taken_whole_or_not_at_all(Flavour::Valkey91);
}

/// The target takes the group, and dies before anybody has heard of it. How many keys has its replica, promoted?
fn left_at_the_heir(flavour: Flavour, order: impl Fn(&Scene)) -> usize {
    let (cluster, bus) = Bus::around(&Spec::new(flavour).replicas(1));
    let scene = Scene::set(cluster);
    let Scene { cluster, source, target, heir, moved, .. } = &scene;
    let other = cluster.primaries()[2];
    bus.cut(cluster);
    order(&scene);
    assert_eq!(scene.taken(), scene.slots());
    let no_failover = |word: &str| cluster.cmd::<()>(*heir, &["CONFIG", "SET", "cluster-replica-no-failover", word]);
    no_failover("yes");
    bus.kill_unheard(cluster, *target, NODE_TIMEOUT);
    // Before it takes over, the replica hears of the source's claim, whose epoch is above all.
    cluster.raise_epoch(other);
    cluster.raise_epoch(*source);
    no_failover("no");
    eventually("the replica takes over", SOON, || {
        let owners = cluster.agreed_owners()?;
        if owners.contains_key(&cluster.node_id(*heir)) { Ok(()) } else { Err(format!("{owners:?}")) }
    });
    moved.iter().map(|tagged| cluster.keys_in(*heir, tagged.slot)).sum()
}

/// The orders as everybody else sends them.
fn one_by_one(Scene { cluster, target, moved, empty, .. }: &Scene) {
    let id = cluster.node_id(*target).to_string();
    for slot in moved.iter().map(|tagged| tagged.slot).chain([*empty]) {
        cluster.cmd::<()>(*target, &["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
    }
}

fn together(scene: &Scene) {
    let replies = scene.order(Duration::ZERO, SOON);
    assert!(replies.iter().all(|(_, reply)| *reply == SetSlotReply::Ok), "{replies:?}");
}

#[test]
fn the_heir_of_a_target_that_dies_before_it_tells_keeps_the_keys_of_a_group_on_valkey_8_1() {
    // It was not seen to delete any after other orders either.
    assert_eq!(left_at_the_heir(Flavour::Valkey81, together), MOVED * KEYS);
}

#[test]
fn the_heir_of_a_target_that_dies_before_it_tells_keeps_the_keys_of_a_group_on_valkey_9_1() {
    let is_lost = |_| left_at_the_heir(Flavour::Valkey91, one_by_one) < MOVED * KEYS;
    assert!((0..TRIES).any(is_lost), "other orders lost no key in {TRIES} tries: this story shows nothing");
    assert_eq!(left_at_the_heir(Flavour::Valkey91, together), MOVED * KEYS);
}
