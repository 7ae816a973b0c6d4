//! The harness itself: that what it says of a cluster is so, and that its checks can fail.

use std::time::Duration;

use evenkeel::cluster::{Slot, SlotSet};

use crate::support::{
    Cluster, Data, Evenkeel, Findings, Flavour, Node, Options, SOON, Spec, Verifier, eventually, look_alike_slots,
};

/// The slot of the key `hello`, for one.
fn hello() -> Slot {
    Slot::of_key(b"hello")
}

/// Waits until a node says that it owns these slots, whatever others say.
fn await_slots(cluster: &Cluster, node: Node, expected: &str) {
    eventually("the node owns the slots", SOON, || {
        let slots = cluster.view(node)?.slots_of(cluster.node_id(node)).to_string();
        if slots == expected { Ok(()) } else { Err(format!("it owns {slots}")) }
    });
}

/// A slot with clients at work in it is moved by hand; then single keys are damaged behind everybody's back.
fn check_a_move_by_hand(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).replicas(1).empty_primaries(1));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let empty = cluster.empty_primaries()[0];
    assert_eq!(cluster.nodes().len(), 7);
    assert_eq!(cluster.slots_of(first).to_string(), "0-5460");
    assert!(cluster.slots_of(empty).is_empty());
    assert_eq!(cluster.view(first).expect("it answers").slots_of(cluster.node_id(third)).to_string(), "10922-16383");
    let data = Data::fill(&cluster);

    let only = SlotSet::from_iter([hello()]);
    let verifier = Verifier::start(&cluster, Options { slots: only, keys_per_task: 20, ..Options::default() });
    cluster.open_slot(hello(), first, empty);
    assert!(cluster.open_slots().expect("all nodes answer").len() >= 2, "a mark at either end");
    assert!(cluster.migrate_keys(hello(), first, empty, 10) > 0);
    data.verify_all(&cluster);
    while cluster.migrate_keys(hello(), first, empty, 100) > 0 {}
    cluster.finish_slot(hello(), first, empty);
    cluster.assert_settled(&[(first, 5460), (second, 5461), (third, 5462), (empty, 1)]);
    for slot in cluster.slots_of(first).intersection(&look_alike_slots()).iter() {
        assert!((1..=5).contains(&cluster.keys_in(first, slot)), "the look-alikes are alone in slot {slot}");
        cluster.move_slot(slot, first, empty);
    }
    let report = verifier.stop();
    report.assert_clean();
    assert!(report.slowest < Duration::from_secs(5), "{report:?}");
    data.verify_all(&cluster);

    check_that_losses_are_noticed(&cluster, &data);
}

fn check_that_losses_are_noticed(cluster: &Cluster, data: &Data) {
    let client = cluster.client().build().expect("the cluster's own addresses make a client");
    let mut client = client.get_connection().expect("a client can connect");
    let mut damage = |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec(&mut client).expect("a client can write");
    };

    let verifier = Verifier::start(cluster, Options { keys_per_task: 1, tasks: 2, ..Options::default() });
    damage(&["DEL", "verifier:0"]);
    damage(&["SET", "verifier:1", "verifier:1=0"]);
    let report = verifier.stop();
    assert_eq!((report.lost.len(), report.errors.len()), (2, 0), "{report:?}");

    damage(&["DEL", "list of 3"]);
    damage(&["SADD", "set of 3", "one too many"]);
    damage(&["PERSIST", "hash of 3, expires"]);
    let mut findings = data.verify(cluster);
    findings.wrong.sort();
    let wrong = ["hash of 3, expires: PTTL is int(-1)".to_owned(), "set of 3: holds something else".to_owned()];
    let lost = vec!["list of 3".to_owned()];
    assert_eq!(findings, Findings { checked: data.keys(), lost, wrong: wrong.to_vec() });
}

#[test]
fn a_slot_moves_by_hand_on_redis_7_0_and_only_real_losses_are_reported() {
    check_a_move_by_hand(Flavour::Redis70);
}

#[test]
fn a_slot_moves_by_hand_on_valkey_9_1_and_only_real_losses_are_reported() {
    check_a_move_by_hand(Flavour::Valkey91);
}

#[test]
fn a_replica_takes_over_from_a_killed_primary_on_redis_6_2() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis62).replicas(1).node_timeout(Duration::from_secs(1)));
    let killed = cluster.primaries()[0];
    let replica = cluster.replicas_of(killed)[0];
    cluster.kill9(killed);
    await_slots(&cluster, replica, "0-5460");
    cluster.restart(killed);
    let (second, third) = (cluster.primaries()[1], cluster.primaries()[2]);
    cluster.assert_settled(&[(replica, 5461), (second, 5461), (third, 5462)]);
}

#[test]
fn a_primary_is_added_and_a_stopped_one_goes_on_on_redis_8_2() {
    let spec = Spec::new(Flavour::Redis82).slots(&["0-99,866", "100-865,867-16383"]);
    let mut cluster = Cluster::start(spec.node_timeout(Duration::from_secs(10)));
    let [first, second] = cluster.primaries()[..] else { panic!("two primaries") };
    let added = cluster.add_empty_primary();
    cluster.sigstop(added);
    cluster.assert_settled(&[(first, 101), (second, 16283)]);
    cluster.sigcont(added);
    assert_eq!(cluster.slots_of(first).to_string(), "0-99,866");
    assert!(cluster.cluster_nodes_text(added).contains("myself,master"));
}

#[test]
fn a_primary_is_ended_and_restarted_in_its_place_on_valkey_8_1() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey81).node_config(1, &["--appendonly", "yes"]));
    let node = cluster.primaries()[1];
    let data = Data::fill_database(&cluster, 1000, 0);
    let (pid, id) = (cluster.pid(node), cluster.node_id(node));
    cluster.sigterm(node);
    cluster.restart(node);
    assert_ne!(cluster.pid(node), pid);
    assert_eq!(cluster.cmd::<String>(node, &["CLUSTER", "MYID"]), id.to_string());
    assert!(cluster.logs(5).contains("eady to accept connections"));
    cluster.assert_settled(&cluster.primaries().into_iter().map(|node| (node, 5461)).collect::<Vec<_>>());
    data.verify_all(&cluster);
}

#[test]
fn a_cluster_has_tls_a_password_and_announced_addresses() {
    let spec = Spec::new(Flavour::Redis70).primaries(2).empty_primaries(1).replicas(1).password("a secret").tls();
    let ips = ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4", "127.0.1.5"];
    let cluster = Cluster::start(spec.announced(&ips).config(&["--tls-auth-clients", "yes"]));
    let (first, empty) = (cluster.primaries()[0], cluster.empty_primaries()[0]);
    assert_eq!(cluster.announced(empty).host, "127.0.1.3");
    assert!(cluster.cluster_nodes_text(first).contains(&format!("{}@", cluster.announced(empty))));
    assert!(cluster.tls_files().is_some_and(|files| files.ca.is_file()));
    assert!(
        redis::Client::open((cluster.address(first).host, cluster.address(first).port))
            .and_then(|client| client.get_connection())
            .and_then(|mut plain| redis::cmd("PING").exec(&mut plain))
            .is_err()
    );

    let data = Data::fill_database(&cluster, 5000, 0);
    let verifier = Verifier::start(&cluster, Options { keys_per_task: 50, ..Options::default() });
    cluster.move_slot(hello(), first, empty);
    verifier.stop().assert_clean();
    data.verify_all(&cluster);
}

#[test]
fn a_numbered_database_is_filled_and_verified_on_its_own() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).config(&["--cluster-databases", "4"]));
    let data = Data::fill_database(&cluster, 1000, 3);
    data.verify_all(&cluster);
    let sizes: usize = cluster.primaries().into_iter().map(|node| cluster.cmd::<usize>(node, &["DBSIZE"])).sum();
    assert_eq!(sizes, 0, "the first database stays empty");
}

#[test]
fn the_binary_runs_and_what_ended_answers_nothing() {
    let output = Evenkeel::new(&["--version"]).deadline(Duration::from_secs(10)).run_to_end();
    assert_eq!(output.status, Some(0), "{}{}", output.stdout, output.stderr);

    let mut daemon = Evenkeel::new(&["run"]).config("").env("EVENKEEL_PASSWORD", "a secret").spawn();
    daemon.sighup();
    daemon.sigterm();
    daemon.wait(Duration::from_secs(10));
    daemon.kill9();
    assert!(daemon.try_http_get("/healthz").is_err());
}
