//! What is known before a slot is opened, and keeps it closed.

use crate::support::{Cluster, Data, Flavour, Spec};

/// An old node and a newer one in one cluster, as in the midst of an upgrade: slots go from old to new only.
fn check_version_skew(old: (Flavour, &str), new: (Flavour, &str)) {
    let cluster = Cluster::start(Spec::new(new.0).primaries(2).node_flavour(0, old.0));
    let [old_node, new_node] = cluster.primaries()[..] else { panic!("two primaries") };
    let data = Data::fill_database(&cluster, 1_000, 0);
    let calls = cluster.moving_calls();

    let drain = cluster.node_id(new_node).to_string();
    let downwards = ["--drain", &drain];
    let says = [new.1, old.1, "cannot read the keys"];
    let plan = cluster.evenkeel(&[&["plan"], &downwards[..]].concat()).run_to_end();
    plan.assert(2, &[&says[..], &["version_skew"]].concat());
    let json = cluster.evenkeel(&[&["plan", "--json"], &downwards[..]].concat()).run_to_end().exited_with_json(2);
    assert_eq!(json["obstacles"][0]["name"], "version_skew", "{json}");
    cluster.evenkeel(&[&["rebalance"], &downwards[..]].concat()).run_to_end().assert(2, &says);
    // The permissions are asked for with one call of each kind that certainly fails.
    assert!(cluster.moving_calls() - calls <= 2 * 2, "no slot was opened");
    cluster.assert_settled(&[(old_node, 8192), (new_node, 8192)]);

    let to = cluster.address(new_node).to_string();
    cluster.evenkeel(&["move", "--slots", "0-99", "--to", &to]).run_to_end().exited(0);
    cluster.assert_settled(&[(old_node, 8092), (new_node, 8292)]);
    data.verify_all(&cluster);
}

#[test]
fn slots_go_from_redis_6_2_to_7_0_and_not_back() {
    check_version_skew((Flavour::Redis62, "Redis 6.2.14"), (Flavour::Redis70, "Redis 7.0.15"));
}

#[test]
fn slots_go_from_valkey_8_1_to_9_1_and_not_back() {
    check_version_skew((Flavour::Valkey81, "Valkey 8.1."), (Flavour::Valkey91, "Valkey 9.1."));
}
