//! The walk-through that a new user does by hand, on a cluster with a password.

use evenkeel::cluster::Slot;

use crate::support::{Cluster, Flavour, Node, Spec, Workload};

/// Reads `hello` at this node, and where it redirects at the node that it redirects to.
#[track_caller]
fn read_hello(cluster: &Cluster, node: Node) -> String {
    cluster.try_cmd(node, &["GET", "hello"]).unwrap_or_else(|error| {
        let (address, slot) = error.redirect_node().expect("a node that does not own the slot tells who does");
        assert_eq!(slot, 866);
        let named = |node: &Node| cluster.address(*node).to_string() == address;
        let owner = cluster.nodes().into_iter().find(named).expect("it redirects to a node of the cluster");
        cluster.cmd(owner, &["GET", "hello"])
    })
}

/// Asserts that every node's own view gives these slots to these nodes, and nobody else any.
#[track_caller]
fn check_views(cluster: &Cluster, expected: &[(Node, &str)]) {
    let counts: Vec<_> = expected.iter().map(|&(node, _)| (node, cluster.slots_of(node).len())).collect();
    cluster.assert_settled(&counts);
    for &(node, slots) in expected {
        cluster.assert_owns(node, &slots.parse().expect("slots"));
    }
    for node in cluster.nodes() {
        assert_eq!(read_hello(cluster, node), "world", "`hello` read by way of {}", cluster.name(node));
    }
}

#[test]
fn a_slot_named_by_hand_goes_to_the_node_that_is_named() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).password("a secret"));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let workload = Workload::start(&cluster, 20_000);
    assert_eq!(Slot::of_key(b"hello").number(), 866);
    cluster.cmd::<()>(first, &["SET", "hello", "world"]);
    let checked = cluster.evenkeel(&["check"]).run_to_end().exited(0);
    assert!(checked.contains("3 primaries, 0 replicas, 16384 of 16384 slots covered"), "{checked}");
    let refused = cluster.evenkeel(&["check"]).env("EVENKEEL_PASSWORD", "a wrong secret").run_to_end();
    assert!(refused.stderr.contains("WRONGPASS"), "{}", refused.stderr);
    refused.exited(1);

    let move_to =
        |slots: &str, node: &str| cluster.evenkeel(&["move", "--slots", slots, "--to", node]).run_to_end().exited(0);
    let by_id = cluster.node_id(third).to_string();
    let said = move_to("866", &by_id);
    assert!(said.starts_with("done: 1 slot and "), "{said}");
    check_views(&cluster, &[(first, "0-865,867-5460"), (second, "5461-10921"), (third, "866,10922-16383")]);
    cluster.evenkeel(&["check"]).run_to_end().exited(0);

    let calls = cluster.moving_calls();
    assert_eq!(move_to("866", &by_id), "nothing to move: the cluster is as it should be\n");
    assert_eq!(cluster.moving_calls(), calls, "calls that move slots, by a command that had nothing to do");

    move_to("0-9,5461-5470", &cluster.address(third).to_string());
    let expected = [(first, "10-865,867-5460"), (second, "5471-10921"), (third, "0-9,866,5461-5470,10922-16383")];
    check_views(&cluster, &expected);

    move_to("0-9,866", &by_id_prefix(&cluster, first));
    check_views(&cluster, &[(first, "0-5460"), (second, "5471-10921"), (third, "5461-5470,10922-16383")]);
    workload.assert_unharmed(&cluster);
}

/// The shortest prefix of the node's id that evenkeel takes.
fn by_id_prefix(cluster: &Cluster, node: Node) -> String {
    cluster.node_id(node).to_string()[..8].to_owned()
}
