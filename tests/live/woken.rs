//! A target that is replaced while it hangs, and wakes as a primary with slots of its own beside its successor.

use std::time::Duration;

use evenkeel::cluster::{NodeId, SlotSet};

use crate::support::{
    Ahead, Cluster, Evenkeel, Flavour, Node, Points, SOON, Spec, Tagged, directory, eventually, settings,
};

const POINT: &str = "assign_target.before";
const KEYS: usize = 30;
const CONFIG: &str = "
    [schedule]
    poll = \"500ms\"
    settle = 1
    adopt_after = \"1s\"
    foreign_quiet = \"1s\"
    [migration]
    migrate_timeout = \"500ms\"
    call_timeout = \"2s\"
";

/// Two sources have a slot open to one target, which hangs just as it is to take the first of them. When it wakes its
/// replica has its place: it takes that slot all the same, and still has the mark of the other one.
fn check_a_target_that_wakes_with_a_slot(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).replicas(1).node_timeout(Duration::from_secs(2)));
    let [one, target, other] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = [one, other].map(|source| Tagged::fill(&cluster, source, 0, KEYS));
    cluster.await_replicas_in_step();
    let heir = cluster.replicas_of(target)[0];
    let state = directory("state");
    let given: SlotSet = tagged.iter().map(|tagged| tagged.slot).collect();
    // By the replicas: they are in their shards whatever happens.
    let targets = [(one, false), (target, true), (other, false)].map(|(primary, takes)| {
        let (had, node) = (cluster.slots_of(primary), cluster.node_id(cluster.replicas_of(primary)[0]));
        let slots = if takes { had.union(&given) } else { had.difference(&given) };
        format!("[[targets.nodes]]\nnode = \"{node}\"\nslots = \"{slots}\"\n")
    });
    let journal = format!("[state]\ndir = \"{}\"\n", state.path().display());
    let config = settings(&cluster, &format!("{CONFIG}{journal}{}", targets.concat()));
    let (points, call) = Points::order(Evenkeel::new(&["run"]).config(&config), &format!("{POINT}=pause@1"));
    let mut daemon = call.spawn();
    points.await_reached(POINT);
    let drained = |tagged: &Tagged| cluster.keys_in(target, tagged.slot) == KEYS;
    eventually("both slots have moved to the target", SOON, || {
        let open = cluster.open_slots()?;
        if open.len() >= 4 && tagged.iter().all(drained) { Ok(()) } else { Err(format!("{open:?}")) }
    });
    cluster.await_replicas_in_step();
    // Its claim then gets no new epoch, which would give it back all that it had.
    cluster.raise_epoch(target);
    let mut ahead = Ahead::connect(&cluster, target);
    cluster.sigstop(target);
    // Evenkeel looks again, after so long, and sends nothing to a target that does not answer; not everybody does.
    ahead.send(&format!("CLUSTER SETSLOT {} NODE {}", tagged[0].slot, cluster.node_id(target)));
    points.go(POINT);
    eventually("all know that the replica has taken over", SOON, || {
        let owners = cluster.agreed_owners()?;
        let is_replaced = owners.contains_key(&cluster.node_id(heir)) && !owners.contains_key(&cluster.node_id(target));
        if is_replaced { Ok(()) } else { Err(format!("{owners:?}")) }
    });
    let marks = tagged.each_ref().map(|tagged| format!("[{}->-{}]", tagged.slot, cluster.node_id(heir)));
    eventually("the sources send clients to the heir", SOON, || {
        let open = [one, other].map(|source| cluster.view(source).map(|view| view.open()));
        let open = open.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
        if open == marks { Ok(()) } else { Err(format!("{open:?}")) }
    });
    cluster.sigcont(target);
    let shard: [NodeId; 2] = [target, heir].map(|node: Node| cluster.node_id(node));
    eventually("the shard has both slots and one primary", SOON, || {
        let open = cluster.open_slots()?;
        let owners = cluster.agreed_owners()?;
        let of_shard: Vec<_> = shard.iter().filter_map(|id| owners.get(id)).collect();
        match of_shard[..] {
            [slots] if open.is_empty() && tagged.iter().all(|tagged| slots.contains(tagged.slot)) => Ok(()),
            _ => Err(format!("open: {open:?}; {owners:?}")),
        }
    });
    for tagged in &tagged {
        tagged.verify(&cluster);
    }
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
}

#[test]
fn a_target_that_wakes_with_a_slot_holds_up_none_that_go_to_its_heir_on_redis_7_0() {
    check_a_target_that_wakes_with_a_slot(Flavour::Redis70);
}

#[test]
fn a_target_that_wakes_with_a_slot_holds_up_none_that_go_to_its_heir_on_valkey_9_1() {
    check_a_target_that_wakes_with_a_slot(Flavour::Valkey91);
}
