//! Layouts other than equal shares: weights, a drained primary, slots that are given a place.

use std::time::Duration;

use evenkeel::cluster::{Slot, SlotSet};

use serde_json::{Value, json};

use crate::support::{
    Cluster, Data, Evenkeel, Flavour, HASTY, Member, Node, SOON, Spec, Workload, eventually, look_alike_slots, settings,
};

const KEYS: usize = 20_000;
/// Enough for a million keys on a small machine.
const DRAINED_WITHIN: Duration = Duration::from_mins(10);

#[test]
fn shards_get_slots_by_their_weights_whichever_member_names_them() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).replicas(1));
    let workload = Workload::start(&cluster, KEYS);
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let by_address = format!("{}=1", cluster.address(first));
    let by_id = format!("{}=2", cluster.node_id(second));
    let by_replica = format!("{}=4", cluster.address(cluster.replicas_of(third)[0]));
    let weights = ["--weight", &by_address, "--weight", &by_id, "--weight", &by_replica];
    let call = |command: &str| cluster.evenkeel(&[&[command], weights.as_slice()].concat()).run_to_end();
    call("plan").exited(2);
    call("rebalance").exited(0);
    cluster.assert_settled(&[(first, 2341), (second, 4681), (third, 9362)]);
    call("plan").exited(0);
    cluster.evenkeel(&["plan"]).run_to_end().exited(2);
    workload.assert_unharmed(&cluster);
}

/// A weight that is a node's by its address is its shard's, and so its replica's when that takes over.
#[test]
fn an_entry_holds_for_the_replica_that_takes_over_from_its_node() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).replicas(1));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let replica = cluster.replicas_of(first)[0];
    let data = Data::fill_database(&cluster, 2_000, 0);
    let heavy = format!("{HASTY}{}", entry(&cluster, first, "weight = 2.0"));
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &heavy)).spawn();
    cluster.assert_settled(&[(first, 8192), (second, 4096), (third, 4096)]);
    cluster.await_replicas_in_step();
    cluster.kill9(first);
    let shares = [(replica, 8192), (second, 4096), (third, 4096)];
    cluster.assert_settled(&shares);
    let look = |status: &str| {
        let status: Value = serde_json::from_str(status).expect("JSON");
        let clear = status["reasons"].as_array().is_some_and(Vec::is_empty);
        status["look"]["number"].as_u64().filter(|_| clear)
    };
    let status = daemon.await_http("/api/v1/status", SOON, |status| look(status).is_some());
    let seen = look(&status).expect("it was waited for");
    daemon.await_http("/api/v1/status", SOON, |status| look(status).is_some_and(|number| number > seen + 5));
    let plan = daemon.http_get("/api/v1/plan");
    assert!(plan.contains("\"slots_to_move\":0"), "{plan}");
    cluster.assert_settled(&shares);
    data.verify_all(&cluster);
}

/// The last of four primaries is drained; `told` is what the plan says becomes of it.
///
/// Returns the cluster and the node, with the slots at rest.
#[track_caller]
fn check_draining(spec: Spec, told: &str) -> (Cluster, Node, String) {
    let cluster = Cluster::start(spec.primaries(4));
    let workload = Workload::start(&cluster, KEYS);
    let drained = cluster.primaries()[3];
    let rest = &cluster.primaries()[..3];
    let name = cluster.address(drained).to_string();
    let plan = cluster.evenkeel(&["plan", "--drain", &name]).run_to_end().exited(2);
    let is_fate = |line: &&str| line.starts_with(&name) && line.contains(told);
    let fate = plan.lines().find(is_fate).unwrap_or_else(|| panic!("{plan}")).to_owned();
    cluster.evenkeel(&["rebalance", "--drain", &name]).run_to_end().exited(0);
    cluster.assert_settled(&rest.iter().map(|&node| (node, 5461)).collect::<Vec<_>>());
    workload.assert_unharmed(&cluster);
    (cluster, drained, fate)
}

/// The node's line in the view of another.
fn line_of(cluster: &Cluster, node: Node) -> Member {
    let view = cluster.view(cluster.primaries()[0]).expect("it answers");
    let id = cluster.node_id(node);
    view.members.into_iter().find(|member| member.id == id).expect("a member that has not left")
}

#[track_caller]
fn check_a_drained_primary_becomes_a_replica(flavour: Flavour) {
    let (cluster, drained, fate) = check_draining(Spec::new(flavour), "becomes a replica of ");
    let new_primary = eventually("the node is known as a replica", SOON, || {
        let line = line_of(&cluster, drained);
        line.primary.filter(|_| line.is("slave")).ok_or(format!("{line:?}"))
    });
    assert!(fate.contains(&new_primary.short()), "{fate}, and it is a replica of {new_primary}");

    // The entry now names a replica in a shard that nobody asked to be drained.
    let name = cluster.address(drained).to_string();
    let calls = cluster.moving_calls();
    for command in ["plan", "rebalance"] {
        cluster.evenkeel(&[command, "--drain", &name]).run_to_end().exited(0);
    }
    assert_eq!(cluster.moving_calls(), calls, "calls that move slots, after the drain was done");
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
}

#[test]
fn a_drained_primary_of_redis_7_0_becomes_the_replica_that_the_plan_foretold() {
    check_a_drained_primary_becomes_a_replica(Flavour::Redis70);
}

#[test]
fn a_drained_primary_of_valkey_9_1_becomes_the_replica_that_the_plan_foretold() {
    check_a_drained_primary_becomes_a_replica(Flavour::Valkey91);
}

#[test]
fn a_drained_primary_that_may_not_migrate_stays_an_empty_primary() {
    let spec = Spec::new(Flavour::Redis70).config(&["--cluster-allow-replica-migration", "no"]);
    let (cluster, drained, _) = check_draining(spec, "stays an empty primary");
    let line = line_of(&cluster, drained);
    assert!(line.is("master") && line.slots.is_empty(), "{line:?}");
    let name = cluster.address(drained).to_string();
    cluster.evenkeel(&["plan", "--drain", &name]).run_to_end().exited(0);
    cluster.evenkeel(&["plan"]).run_to_end().exited(2);
}

/// Seven of ten primaries are drained at once: with a million keys where `EVENKEEL_TEST_KEYS` asks for them.
#[test]
fn ten_primaries_are_drained_to_three() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).primaries(10));
    let workload = Workload::over(&cluster, vec![Data::fill_or(&cluster, KEYS)]);
    let nodes = cluster.primaries();
    let (kept, drained) = nodes.split_at(3);
    let names: Vec<String> = drained.iter().map(|&node| cluster.address(node).to_string()).collect();
    let drains: Vec<&str> = names.iter().flat_map(|name| ["--drain", name.as_str()]).collect();
    let call = cluster.evenkeel(&[&["rebalance", "--json"], drains.as_slice()].concat());
    let done = call.deadline(DRAINED_WITHIN).run_to_end().exited_with_json(0);
    eprintln!("{} slots with {} keys moved in {} s", done["slots_moved"], done["keys_moved"], done["seconds"]);
    assert_eq!((&done["settled"], &done["open_slots"]), (&json!(true), &json!("")), "{done}");
    cluster.assert_settled(&kept.iter().map(|&node| (node, 5461)).collect::<Vec<_>>());
    for &node in drained {
        eventually("a drained primary has become a replica", SOON, || {
            let line = line_of(&cluster, node);
            if line.is("slave") { Ok(()) } else { Err(format!("{line:?}")) }
        });
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    workload.assert_unharmed(&cluster);
}

/// A layout in which every slot has left its owner: even ones for the next of three primaries, odd ones for the one
/// after it. As far from contiguous ranges as a layout can be.
fn permuted(before: &[SlotSet]) -> Vec<SlotSet> {
    let parity = |slots: &SlotSet, odd: usize| slots.iter().filter(|slot| slot.index() % 2 == odd).collect::<SlotSet>();
    let given_to = |at: usize| parity(&before[(at + 2) % 3], 0).union(&parity(&before[(at + 1) % 3], 1));
    (0..3).map(given_to).collect()
}

#[test]
fn a_file_that_gives_every_slot_a_place_is_obeyed_to_the_slot() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let workload = Workload::start(&cluster, KEYS);
    let nodes = cluster.primaries();
    let before: Vec<SlotSet> = nodes.iter().map(|&node| cluster.slots_of(node)).collect();
    let layout = permuted(&before);
    assert!(before.iter().zip(&layout).all(|(before, after)| before.intersection(after).is_empty()), "each one moves");
    // Lists of one to five keys that a client library takes for messages: their slots are known to be in the layout.
    let alone = look_alike_slots().iter().filter(|&slot| nodes.iter().any(|&n| cluster.keys_in(n, slot) == 1)).count();
    assert!(alone > 0 && alone < look_alike_slots().len(), "look-alike names alone in their slot, and others");

    let entries =
        nodes.iter().zip(&layout).map(|(&node, slots)| entry(&cluster, node, &format!("slots = \"{slots}\"")));
    let file: String = entries.collect();
    cluster.evenkeel_with_file(&["plan"], &file).run_to_end().exited(2);
    let done = cluster.evenkeel_with_file(&["rebalance", "--json"], &file).run_to_end().exited_with_json(0);
    assert_eq!(done["slots_moved"], 16384);
    for (&node, slots) in nodes.iter().zip(&layout) {
        cluster.assert_owns(node, slots);
    }
    cluster.evenkeel_with_file(&["plan"], &file).run_to_end().exited(0);
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    workload.assert_unharmed(&cluster);
}

#[test]
fn a_slot_with_a_place_goes_there_and_the_rest_stays_level() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91));
    let workload = Workload::start(&cluster, KEYS);
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let file = entry(&cluster, third, "slots = \"866\"");
    cluster.evenkeel_with_file(&["rebalance"], &file).run_to_end().exited(0);
    cluster.assert_settled(&[(first, 5461), (second, 5461), (third, 5461)]);
    assert!(cluster.slots_of(third).contains(Slot::new(866).expect("a slot")));
    cluster.evenkeel_with_file(&["plan"], &file).run_to_end().exited(0);
    workload.assert_unharmed(&cluster);
}

/// A `[[targets.nodes]]` for this node.
fn entry(cluster: &Cluster, node: Node, what: &str) -> String {
    format!("[[targets.nodes]]\nnode = \"{}\"\n{what}\n\n", cluster.address(node))
}
