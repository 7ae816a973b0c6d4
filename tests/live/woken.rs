//! A target that is replaced while it hangs, and wakes as a primary with slots of its own beside its successor.

use std::time::Duration;

use evenkeel::cluster::{NodeId, SlotSet};

use crate::support::{
    Ahead, Cluster, Evenkeel, Flavour, HASTY, Node, Points, SOON, Spec, Tagged, directory, eventually, settings,
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
    // The work goes on as soon as the cluster agrees, be it between two looks of this story.
    let heir_id = cluster.node_id(heir);
    eventually("the sources send clients to the heir, or it has the slots already", SOON, || {
        for (tagged, source) in tagged.iter().zip([one, other]) {
            let open = cluster.view(source)?.open();
            let is_sent = open.contains(&format!("[{}->-{heir_id}]", tagged.slot));
            let has = cluster.agreed_owners()?.get(&heir_id).is_some_and(|slots| slots.contains(tagged.slot));
            if !is_sent && !has {
                return Err(format!("slot {}: {open:?}", tagged.slot));
            }
        }
        Ok(())
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

/// Copies every key of a slot to a node that does not own it, as a replica has them.
fn copy_slot(cluster: &Cluster, tagged: &Tagged, from: Node, to: Node) {
    let (slot, id) = (tagged.slot.to_string(), cluster.node_id(from).to_string());
    cluster.cmd::<()>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id]);
    let target = cluster.announced(to);
    let keys: Vec<String> = (0..KEYS).map(|number| tagged.key(number)).collect();
    let port = target.port.to_string();
    let mut migrate = vec!["MIGRATE", &target.host, &port, "", "0", "5000", "COPY", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    cluster.cmd::<()>(from, &migrate);
    cluster.cmd::<()>(to, &["CLUSTER", "SETSLOT", &slot, "STABLE"]);
}

/// A primary that its own replica has replaced keeps two slots, of which that one has copies from its time as a replica:
/// of one slot all of them, and of the other one that has changed since.
#[test]
fn the_copies_of_a_former_replica_are_no_hindrance_unless_they_differ() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).replicas(1));
    let former = cluster.primaries()[0];
    let heir = cluster.replicas_of(former)[0];
    let same = Tagged::fill(&cluster, former, 0, KEYS);
    let changed = Tagged::fill(&cluster, former, 1, KEYS);
    cluster.await_replicas_in_step();
    let mut daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY)).spawn();
    daemon.await_http("/api/v1/topology", SOON, |topology| topology.contains(&cluster.node_id(heir).to_string()));
    daemon.is_told(&["pause"], &["paused until told to go on"]);

    cluster.cmd::<()>(heir, &["CLUSTER", "FAILOVER"]);
    let [former_id, heir_id] = [former, heir].map(|node| cluster.node_id(node));
    eventually("all know of the failover", SOON, || {
        let owners = cluster.agreed_owners()?;
        if owners.contains_key(&heir_id) && !owners.contains_key(&former_id) {
            Ok(())
        } else {
            Err(format!("{owners:?}"))
        }
    });
    cluster.cmd::<()>(former, &["CLUSTER", "RESET", "SOFT"]);
    let address = cluster.address(former);
    cluster.cmd::<()>(heir, &["CLUSTER", "MEET", &address.host, &address.port.to_string()]);
    eventually("it is a primary that all know, and serves", SOON, || {
        let is_known = |node| {
            let view = cluster.view(node)?;
            Ok::<bool, String>(view.members.iter().filter(|member| member.is("master")).count() == 4)
        };
        let all = cluster.nodes().into_iter().map(is_known).collect::<Result<Vec<_>, _>>()?;
        let info: String = cluster.try_cmd(former, &["CLUSTER", "INFO"]).map_err(|error| error.to_string())?;
        let serves = info.contains("cluster_state:ok") && all.iter().all(|is_known| *is_known);
        if serves { cluster.agreed_owners().map(drop) } else { Err(format!("{all:?}, {info}")) }
    });
    for tagged in [&same, &changed] {
        cluster.move_slot(tagged.slot, heir, former);
    }
    cluster.cmd::<()>(former, &["SET", &changed.key(0), "of before"]);
    for tagged in [&same, &changed] {
        copy_slot(&cluster, tagged, former, heir);
    }
    cluster.cmd::<()>(former, &["SET", &changed.key(0), &changed.value(0)]);

    let drained = serde_json::json!({ "node": former_id.to_string() }).to_string();
    eventually("the node that joined is drained", SOON, || match daemon.try_http_post("/api/v1/drain", &drained)? {
        (200, _) => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    daemon.is_told(&["resume"], &[]);
    eventually("the slot whose copies are the same goes to who has them", SOON, || {
        let owners = cluster.agreed_owners()?;
        let has = owners.get(&heir_id).is_some_and(|slots| slots.contains(same.slot));
        if has { Ok(()) } else { Err(format!("{:?}", owners.get(&former_id))) }
    });
    let is_left = format!("the target holds 1 stray keys of slot {}", changed.slot);
    daemon.await_http("/api/v1/status", SOON, |status| status.contains(&is_left));
    eventually("no slot is open", SOON, || match cluster.open_slots()? {
        open if open.is_empty() => Ok(()),
        open => Err(format!("{open:?}")),
    });
    assert_eq!(cluster.keys_in(former, same.slot), 0);
    assert_eq!(cluster.keys_in(heir, changed.slot), 1, "what differs is for a human");
    for tagged in [&same, &changed] {
        tagged.verify(&cluster);
    }
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
}
