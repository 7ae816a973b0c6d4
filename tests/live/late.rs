//! Orders to take a slot that reach a target late: it hangs, its replica is promoted and takes writes, and it wakes.
//!
//! Carried out then they lose whatever was written meanwhile; evenkeel's are refused, or not sent.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evenkeel::cluster::{NodeId, SlotSet};
use evenkeel::config::Config;
use evenkeel::migration::SetSlotReply;
use evenkeel::redis::{CallError, Dialer, Intent};

use crate::support::{
    Ahead, Cluster, Evenkeel, Flavour, Node, Points, SOON, Spec, Tagged, directory, eventually, settings,
};

const POINT: &str = "assign_target.before";
const KEYS: usize = 20;
/// How often an order is sent at the most until it has cost keys: what a node that wakes reads first is chance.
const TRIES: usize = 10;
const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long evenkeel's orders are good for, in a cluster with such a time-out.
const GOOD_FOR: Duration = Duration::from_millis(500);

/// A slot whose keys are at its target, with both marks; and the target's replica, which has them too.
struct Scene {
    cluster: Cluster,
    source: Node,
    target: Node,
    heir: Node,
    moved: Tagged,
}

impl Scene {
    fn set(flavour: Flavour) -> Self {
        let cluster = Cluster::start(Spec::new(flavour).replicas(1).node_timeout(NODE_TIMEOUT));
        let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
        let heir = cluster.replicas_of(target)[0];
        let moved = Tagged::fill(&cluster, source, 0, KEYS);
        cluster.open_slot(moved.slot, source, target);
        while cluster.migrate_keys(moved.slot, source, target, KEYS) > 0 {}
        cluster.await_replicas_in_step();
        // So that its claim would get a new epoch, as the first of every target does.
        cluster.raise_epoch(source);
        Self { cluster, source, target, heir, moved }
    }

    /// Keys of a slot that the target had before, written to its replica when that is promoted.
    fn written_to_the_heir(&self) -> Tagged {
        await_heir(&self.cluster, self.target, self.heir);
        Tagged::fill(&self.cluster, self.heir, 0, KEYS)
    }

    /// Waits until all agree on who has the target's slots; says how many of the keys that one has not.
    fn lost(&self, written: &Tagged) -> usize {
        let Self { cluster, target, heir, .. } = self;
        let has_slot = |owners: &BTreeMap<NodeId, SlotSet>, node| {
            owners.get(&cluster.node_id(node)).is_some_and(|slots| slots.contains(written.slot))
        };
        let owner = eventually("all agree on who has the slots", SOON, || {
            let owners = cluster.agreed_owners()?;
            [*target, *heir].into_iter().find(|&node| has_slot(&owners, node)).ok_or_else(|| format!("{owners:?}"))
        });
        KEYS - cluster.keys_in(owner, written.slot)
    }
}

fn await_heir(cluster: &Cluster, target: Node, heir: Node) {
    eventually("all know that the replica has taken over", SOON, || {
        let owners = cluster.agreed_owners()?;
        let is_replaced = owners.contains_key(&cluster.node_id(heir)) && !owners.contains_key(&cluster.node_id(target));
        if is_replaced { Ok(()) } else { Err(format!("{owners:?}")) }
    });
}

/// The order as everybody else sends it. Says whether keys were lost by it.
fn is_lost_by_a_bare_order(flavour: Flavour) -> bool {
    let scene = Scene::set(flavour);
    let Scene { cluster, target, moved, .. } = &scene;
    let mut ahead = Ahead::connect(cluster, *target);
    cluster.sigstop(*target);
    ahead.send(&format!("CLUSTER SETSLOT {} NODE {}", moved.slot, cluster.node_id(*target)));
    let written = scene.written_to_the_heir();
    cluster.sigcont(*target);
    scene.lost(&written) > 0
}

fn check_a_late_order(flavour: Flavour) {
    assert!(
        (0..TRIES).any(|_| is_lost_by_a_bare_order(flavour)),
        "not one of {TRIES} late orders lost a key: this story shows nothing"
    );
    check_a_late_order_with_a_deadline(flavour);
}

/// The order as evenkeel sends it to a Redis.
fn check_a_late_order_with_a_deadline(flavour: Flavour) {
    let scene = Scene::set(flavour);
    let Scene { cluster, source, target, moved, .. } = &scene;
    let (address, id) = (cluster.address(*target), cluster.node_id(*target));
    let slots: SlotSet = [moved.slot].into_iter().collect();
    let mut config = Config::from_seeds(vec![address.clone()]);
    config.migration.call_timeout = SOON;
    let dialer = Dialer::new(&config, Intent::Acting, "late");
    let (stopped, is_stopped) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel::<()>();
    let order = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let conn = dialer.bare().open(&address, None, id).await.expect("the target runs");
            let deadline = conn.time().await.expect("it answers").plus(GOOD_FOR);
            ready.send(()).expect("the story goes on");
            is_stopped.recv().expect("the story goes on");
            conn.assign_before(deadline, &slots, id).await
        })
    });
    is_ready.recv().expect("the target was asked");
    cluster.sigstop(*target);
    stopped.send(()).expect("the order waits for it");
    let written = scene.written_to_the_heir();
    cluster.sigcont(*target);
    let replies = order.join().expect("no panic");
    assert_eq!(scene.lost(&written), 0, "{replies:?}");
    match &replies {
        Ok(replies) => assert_eq!(replies[..], [(moved.slot, SetSlotReply::Late)]),
        // It became a replica first, and closed the connection.
        Err(error) => assert!(matches!(error, CallError::NoAnswer { .. }), "{error}"),
    }
    assert!(cluster.slots_of(*source).contains(moved.slot), "nobody has taken it");
    written.verify(cluster);
}

#[test]
fn an_order_that_comes_late_loses_keys_and_one_with_a_deadline_loses_none_on_redis_7_0() {
    check_a_late_order(Flavour::Redis70);
}

#[test]
fn an_order_that_comes_after_its_deadline_is_refused_on_redis_6_2() {
    check_a_late_order_with_a_deadline(Flavour::Redis62);
}

#[test]
fn an_order_that_comes_after_its_deadline_is_refused_on_redis_8_2() {
    check_a_late_order_with_a_deadline(Flavour::Redis82);
}

#[test]
fn an_order_that_comes_after_its_deadline_is_refused_on_redis_8_6() {
    check_a_late_order_with_a_deadline(Flavour::Redis86);
}

/// The target of a running daemon hangs just as it is to take a slot, and wakes when its replica has taken writes.
fn check_a_target_that_hangs(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).replicas(1).node_timeout(NODE_TIMEOUT));
    let [source, target, other] = cluster.primaries()[..] else { panic!("three primaries") };
    let heir = cluster.replicas_of(target)[0];
    let moved = Tagged::fill(&cluster, source, 0, KEYS);
    cluster.await_replicas_in_step();
    let given: SlotSet = [moved.slot].into_iter().collect();
    // By the replicas: they are in their shards whatever happens.
    let targets = [source, target, other].map(|primary| {
        let (had, node) = (cluster.slots_of(primary), cluster.node_id(cluster.replicas_of(primary)[0]));
        let slots = if primary == target { had.union(&given) } else { had.difference(&given) };
        format!("[[targets.nodes]]\nnode = \"{node}\"\nslots = \"{slots}\"\n")
    });
    let state = directory("state");
    let rest = format!(
        "[schedule]\npoll = \"500ms\"\nsettle = 1\n[migration]\nmigrate_timeout = \"500ms\"\ncall_timeout = \"2s\"\n\
         [state]\ndir = \"{}\"\n",
        state.path().display()
    );
    let config = settings(&cluster, &(rest + &targets.concat()));
    let (points, call) = Points::order(Evenkeel::new(&["run"]).config(&config), &format!("{POINT}=pause@1"));
    let mut daemon = call.spawn();
    points.await_reached(POINT);
    cluster.await_replicas_in_step();
    cluster.raise_epoch(source);
    cluster.sigstop(target);
    points.go(POINT);
    await_heir(&cluster, target, heir);
    let written = Tagged::fill(&cluster, heir, 0, KEYS);
    cluster.sigcont(target);
    let shard = [target, heir].map(|node| cluster.node_id(node));
    eventually("the shard has the slot and one primary", SOON, || {
        let open = cluster.open_slots()?;
        let owners = cluster.agreed_owners()?;
        let of_shard: Vec<_> = shard.iter().filter_map(|id| owners.get(id)).collect();
        match of_shard[..] {
            [slots] if open.is_empty() && slots.contains(moved.slot) => Ok(()),
            _ => Err(format!("open: {open:?}; {owners:?}")),
        }
    });
    written.verify(&cluster);
    moved.verify(&cluster);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
}

#[test]
fn what_is_written_to_the_heir_of_a_target_that_hangs_is_kept_on_redis_7_0() {
    check_a_target_that_hangs(Flavour::Redis70);
}

#[test]
fn what_is_written_to_the_heir_of_a_target_that_hangs_is_kept_on_valkey_9_1() {
    check_a_target_that_hangs(Flavour::Valkey91);
}
