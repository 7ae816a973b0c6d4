//! `evenkeel plan` and `evenkeel rebalance`: an empty primary gets its share, on every server line, under traffic.

use std::time::Duration;

use serde_json::json;

use crate::support::{Cluster, Data, Flavour, Spec, Workload};

/// Where size is not the point.
const KEYS: usize = 20_000;

/// Enough for a million keys on a small machine.
const REBALANCED_WITHIN: Duration = Duration::from_mins(10);

fn three_and_an_empty_one(flavour: Flavour) -> Spec {
    Spec::new(flavour).empty_primaries(1)
}

/// Three primaries share the slots with an empty fourth: planned, carried out once, and never again.
#[track_caller]
fn check_an_empty_primary_is_filled(spec: Spec, fill: impl FnOnce(&Cluster) -> Vec<Data>) {
    let cluster = Cluster::start(spec);
    let workload = Workload::over(&cluster, fill(&cluster));
    let owners: Vec<_> = cluster.primaries().into_iter().chain(cluster.empty_primaries()).collect();

    let plan = cluster.evenkeel(&["plan"]).run_to_end().exited(2);
    let empty = cluster.address(cluster.empty_primaries()[0]);
    assert!(
        plan.contains(&format!("{empty} (")) && plan.contains("holds nothing and should hold 4096 slots"),
        "{plan}"
    );
    assert!(plan.contains("4096 slots in 3 moves, "), "{plan}");
    assert_eq!(cluster.evenkeel(&["plan", "--json"]).run_to_end().exited_with_json(2)["slots_to_move"], 4096);
    assert_eq!(cluster.moving_calls(), 0, "calls that move slots, by a plan");

    let call = cluster.evenkeel(&["rebalance", "--json"]).deadline(REBALANCED_WITHIN);
    let done = call.run_to_end().exited_with_json(0);
    assert_eq!((&done["settled"], &done["slots_moved"]), (&json!(true), &json!(4096)), "{done}");
    assert_eq!((&done["open_slots"], &done["reasons"]), (&json!(""), &json!([])), "{done}");
    assert!(done["keys_moved"].as_u64() > Some(0), "{done}");
    cluster.assert_settled(&owners.iter().map(|&node| (node, 4096)).collect::<Vec<_>>());

    let plan = cluster.evenkeel(&["plan"]).run_to_end().exited(0);
    assert!(plan.starts_with("nothing to move: "), "{plan}");
    let calls = cluster.moving_calls();
    let again = cluster.evenkeel(&["rebalance", "--json"]).run_to_end().exited_with_json(0);
    assert_eq!((&again["settled"], &again["slots_moved"]), (&json!(true), &json!(0)), "{again}");
    assert_eq!(cluster.moving_calls(), calls, "calls that move slots, where nothing is to be moved");
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    workload.assert_unharmed(&cluster);
}

#[test]
fn redis_7_0_with_replicas_fills_an_empty_primary() {
    let spec = three_and_an_empty_one(Flavour::Redis70).replicas(1);
    check_an_empty_primary_is_filled(spec, |cluster| vec![Data::fill(cluster)]);
}

#[test]
fn valkey_9_1_with_replicas_fills_an_empty_primary() {
    let spec = three_and_an_empty_one(Flavour::Valkey91).replicas(1);
    check_an_empty_primary_is_filled(spec, |cluster| vec![Data::fill(cluster)]);
}

#[test]
fn redis_6_2_fills_an_empty_primary() {
    let few = |cluster: &Cluster| vec![Data::fill_database(cluster, KEYS, 0)];
    check_an_empty_primary_is_filled(three_and_an_empty_one(Flavour::Redis62), few);
}

#[test]
fn redis_8_2_fills_an_empty_primary() {
    let few = |cluster: &Cluster| vec![Data::fill_database(cluster, KEYS, 0)];
    check_an_empty_primary_is_filled(three_and_an_empty_one(Flavour::Redis82), few);
}

#[test]
fn valkey_8_1_fills_an_empty_primary() {
    let few = |cluster: &Cluster| vec![Data::fill_database(cluster, KEYS, 0)];
    check_an_empty_primary_is_filled(three_and_an_empty_one(Flavour::Valkey81), few);
}

#[test]
fn a_cluster_that_speaks_only_tls_and_knows_its_clients_fills_an_empty_primary() {
    let spec = three_and_an_empty_one(Flavour::Redis70).tls().config(&["--tls-auth-clients", "yes"]);
    check_an_empty_primary_is_filled(spec, |cluster| vec![Data::fill_database(cluster, KEYS, 0)]);
}

#[test]
fn keys_of_every_numbered_database_move_with_their_slots() {
    let spec = three_and_an_empty_one(Flavour::Valkey91).config(&["--cluster-databases", "4"]);
    let in_each = |cluster: &Cluster| (0..4).map(|database| Data::fill_database(cluster, 5_000, database)).collect();
    check_an_empty_primary_is_filled(spec, in_each);
}
