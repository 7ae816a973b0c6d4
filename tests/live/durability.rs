//! No key is lost to a server that cannot keep it: saves that fail, replicas that are behind, memory that runs out.

use std::time::Duration;

use evenkeel::cluster::SlotSet;

use crate::support::{
    Cluster, Daemon, Data, Evenkeel, FailingSaves, Flavour, HASTY, Node, Points, SOON, Spec, Workload, eventually,
    settings,
};

fn number(cluster: &Cluster, node: Node, field: &str) -> u64 {
    cluster.info_field(node, field).parse().expect("it is a number")
}

fn config_set(cluster: &Cluster, node: Node, name: &str, value: &str) {
    cluster.cmd::<()>(node, &["CONFIG", "SET", name, value]);
}

fn status(daemon: &Daemon) -> serde_json::Value {
    serde_json::from_str(&daemon.http_get("/api/v1/status")).expect("the API speaks JSON")
}

fn slots(text: &str) -> SlotSet {
    text.parse().expect("slots")
}

/// Waits until all nodes agree that this one owns these slots, and none is open.
fn await_owner(cluster: &Cluster, node: Node, slots: &SlotSet) {
    eventually("the slots have moved", SOON, || {
        let has = cluster.agreed_owners()?.remove(&cluster.node_id(node)).unwrap_or_default();
        let open = cluster.open_slots()?;
        if has.intersection(slots) == *slots && open.is_empty() { Ok(()) } else { Err(format!("{has}; {open:?}")) }
    });
}

fn check_failing_saves(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2).empty_primaries(1));
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let data = Data::fill_database(&cluster, 300, 0);
    let failing = FailingSaves::begin(&cluster, empty);
    let calls = cluster.moving_calls();

    let id = cluster.node_id(empty).short();
    let says = format!("{id} refuses writes, and MIGRATE is one at both ends");
    cluster.evenkeel(&["plan"]).run_to_end().assert(2, &["saves_failing", &says, "rdb_last_bgsave_status:err"]);
    cluster.evenkeel(&["rebalance"]).run_to_end().assert(2, &[&says]);
    assert!(cluster.moving_calls() - calls <= 3 * 2, "no slot was opened");

    failing.end(&cluster);
    cluster.evenkeel(&["rebalance"]).run_to_end().assert(0, &["done: "]);
    data.verify_all(&cluster);
}

#[test]
fn a_node_that_could_not_save_its_data_takes_no_part_until_it_can_on_redis_7_0() {
    check_failing_saves(Flavour::Redis70);
}

#[test]
fn a_node_that_could_not_save_its_data_takes_no_part_until_it_can_on_valkey_9_1() {
    check_failing_saves(Flavour::Valkey91);
}

#[test]
fn a_node_that_wants_more_replicas_than_it_has_takes_no_part_until_it_has_them() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).primaries(3).replicas(1));
    let [_, _, third] = cluster.primaries()[..] else { panic!("three") };
    let data = Data::fill_database(&cluster, 300, 0);
    config_set(&cluster, third, "min-replicas-to-write", "2");
    let calls = cluster.moving_calls();

    let id = cluster.node_id(third);
    let gets = format!("[[targets.nodes]]\nnode = \"{id}\"\nslots = \"5461\"\n");
    let says = format!("{} refuses writes, and MIGRATE is one at both ends", id.short());
    let counts = "1 of its replicas are in step, and it wants 2";
    cluster.evenkeel_with_file(&["plan"], &gets).run_to_end().assert(2, &["too_few_replicas", &says, counts]);
    cluster.evenkeel_with_file(&["rebalance"], &gets).run_to_end().assert(2, &[&says]);
    assert!(cluster.moving_calls() - calls <= 6 * 2, "no slot was opened");

    config_set(&cluster, third, "min-replicas-to-write", "1");
    cluster.evenkeel_with_file(&["rebalance"], &gets).run_to_end().assert(0, &["done: "]);
    await_owner(&cluster, third, &slots("5461"));
    data.verify_all(&cluster);
}

/// A replica of the target, or of the source, stands still while a slot moves.
fn check_replica_behind(flavour: Flavour, whose: usize) {
    let node_timeout = Duration::from_secs(30);
    let cluster = Cluster::start(Spec::new(flavour).primaries(3).replicas(1).node_timeout(node_timeout));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three") };
    let workload = Workload::start(&cluster, 500);
    cluster.await_replicas_in_step();
    let behind = cluster.replicas_of([first, second][whose])[0];
    let config = format!(
        "{HASTY}[migration]\ncall_timeout = \"500ms\"\n[[targets.nodes]]\nnode = \"{}\"\nslots = \"0-49\"\n",
        cluster.node_id(second)
    );
    cluster.sigstop(behind);
    let mut daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
    let waits = "a replica of each end to have what its primary has";
    daemon.await_http("/api/v1/status", SOON, |status| status.contains(waits));
    assert_eq!(status(&daemon)["work"]["slots_moved"], 0, "nothing is finished");
    assert_eq!(cluster.slots_of(first).intersection(&slots("0-49")), slots("0-49"), "the source owns its slots still");
    cluster.sigcont(behind);
    await_owner(&cluster, second, &slots("0-49"));
    daemon.sigterm();
    assert!(daemon.wait(SOON).success());
    workload.assert_unharmed(&cluster);
}

/// The target's only replica loses it in the middle of a move, and cannot come back.
fn check_target_unreplicated(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2).replicas(1));
    let [first, second] = cluster.primaries()[..] else { panic!("two") };
    let data = Data::fill_database(&cluster, 4_000, 0);
    let replica = cluster.replicas_of(second)[0];
    let target = format!("[[targets.nodes]]\nnode = \"{}\"\nweight = 3\n", cluster.node_id(second));
    let config = format!("{HASTY}[migration]\ngroup_slots = 16\nbatch_keys_max = 2\n{target}");
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, &config));
    let (points, call) = Points::order(call, "migrate.before=pause@3");
    let mut daemon = call.spawn();
    points.await_reached("migrate.before");
    for (name, value) in [("masteruser", "nobody"), ("masterauth", "wrong")] {
        config_set(&cluster, replica, name, value);
    }
    cluster.cmd::<usize>(second, &["CLIENT", "KILL", "TYPE", "replica"]);
    daemon.await_http("/api/v1/topology", SOON, |topology| topology.contains("replica_unlinked"));
    points.go("migrate.before");
    let told = ["node_not_usable", "none of its replicas has a connection to it", "\"moves\":[]"];
    daemon.await_http("/api/v1/status", SOON, |status| told.iter().all(|part| status.contains(part)));
    assert!(cluster.open_slots().expect("all nodes answer").is_empty(), "what was open is finished");
    let left = cluster.slots_of(first).len();
    assert!((4_097..8_192).contains(&left), "{left} of 8192 slots are left, half of which are to move");

    for name in ["masteruser", "masterauth"] {
        config_set(&cluster, replica, name, "");
    }
    cluster.assert_settled(&[(first, 4_096), (second, 12_288)]);
    daemon.sigterm();
    assert!(daemon.wait(SOON).success());
    data.verify_all(&cluster);
}

#[test]
fn a_target_that_its_replica_has_lost_takes_nothing_further_on_redis_7_0() {
    check_target_unreplicated(Flavour::Redis70);
}

#[test]
fn a_target_that_its_replica_has_lost_takes_nothing_further_on_valkey_9_1() {
    check_target_unreplicated(Flavour::Valkey91);
}

#[test]
fn no_owner_changes_before_a_replica_of_the_target_has_the_keys_on_redis_7_0() {
    check_replica_behind(Flavour::Redis70, 1);
}

#[test]
fn no_owner_changes_before_a_replica_of_the_source_knows_that_the_keys_left_on_redis_7_0() {
    check_replica_behind(Flavour::Redis70, 0);
}

const HEAVY_KEYS: usize = 2_000;

/// Writes values of so many bytes, by a client that follows redirects.
fn fill_heavy(cluster: &Cluster, bytes: usize) {
    let mut client = cluster.client().build().and_then(|client| client.get_connection()).expect("a client can connect");
    for number in 0..HEAVY_KEYS {
        let mut set = redis::cmd("SET");
        set.arg(format!("heavy:{number}")).arg("x".repeat(bytes)).exec(&mut client).expect("a client can write");
    }
}

fn heavy_keys(cluster: &Cluster) -> usize {
    cluster
        .primaries()
        .into_iter()
        .chain(cluster.empty_primaries())
        .map(|node| cluster.cmd::<usize>(node, &["DBSIZE"]))
        .sum()
}

/// What the node uses once it has given back what it used to tell the others of the slots it took: two kilobytes a slot
/// and a link on Redis 7.0, a megabyte for a group.
fn steady_memory(cluster: &Cluster, node: Node) -> u64 {
    let mut last = 0;
    eventually("the memory in use is steady", SOON, || {
        std::thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut last, number(cluster, node, "used_memory"));
        let change = last.abs_diff(before);
        if change <= last / 100 { Ok(last) } else { Err(format!("{before} bytes, then {last}")) }
    })
}

/// A target that would drop keys comes near to its limit while a group of slots is open at it.
fn check_evicting_target_fills_up(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2).empty_primaries(1));
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    fill_heavy(&cluster, 10_000);
    config_set(&cluster, empty, "maxmemory-policy", "allkeys-lru");
    config_set(&cluster, empty, "maxmemory", "1gb");
    // One key a call: the hundredth is the fourth of sixteen of its group, so more calls are to come in that.
    let migration = "[migration]\nbatch_keys_max = 1\ngroup_slots = 128\nparallel = 1\nretry_delay = \"200ms\"\n";
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, &format!("{HASTY}{migration}")));
    let (points, call) = Points::order(call, "migrate.before=pause@100");
    let mut daemon = call.spawn();
    points.await_reached("migrate.before");
    // Beyond halfway from 80 to 100 percent, and what connections come and go with is a twentieth of it.
    let limit = steady_memory(&cluster, empty) * 100 / 95;
    config_set(&cluster, empty, "maxmemory", &limit.to_string());
    // What the daemon has read of the target's memory is too old by now.
    points.go("migrate.before");
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("it might drop moved keys"));
    let open = cluster.open_slots().expect("all nodes answer");
    assert!(!open.is_empty() && open.len().is_multiple_of(2), "marks on both ends: {open:?}");
    assert_eq!(number(&cluster, empty, "evicted_keys"), 0);
    assert_eq!(heavy_keys(&cluster), HEAVY_KEYS);

    config_set(&cluster, empty, "maxmemory", "1gb");
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 5461)).collect::<Vec<_>>());
    daemon.sigterm();
    assert!(daemon.wait(SOON).success());
    assert_eq!((number(&cluster, empty, "evicted_keys"), heavy_keys(&cluster)), (0, HEAVY_KEYS));
}

#[test]
fn a_target_that_would_drop_keys_is_given_no_more_near_its_limit_on_redis_7_0() {
    check_evicting_target_fills_up(Flavour::Redis70);
}

#[test]
fn a_target_that_would_drop_keys_is_given_no_more_near_its_limit_on_valkey_9_1() {
    check_evicting_target_fills_up(Flavour::Valkey91);
}

#[test]
fn a_cache_that_is_full_by_design_takes_slots_where_that_is_wanted() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).primaries(3));
    let [_, _, cache] = cluster.primaries()[..] else { panic!("three") };
    fill_heavy(&cluster, 1_000);
    let limit = number(&cluster, cache, "used_memory") + 100_000;
    config_set(&cluster, cache, "maxmemory", &limit.to_string());
    let id = cluster.node_id(cache);
    let no_room = format!("{} has no room", id.short());
    let heavier = format!("[[targets.nodes]]\nnode = \"{id}\"\nweight = 2.0\n");
    let evict = format!("[migration]\nfull_target = \"evict\"\n{heavier}");

    // One that refuses writes at its limit is no cache.
    for (policy, config) in [("noeviction", &evict), ("volatile-lru", &evict), ("allkeys-lru", &heavier)] {
        config_set(&cluster, cache, "maxmemory-policy", policy);
        cluster.evenkeel_with_file(&["plan"], config).run_to_end().assert(2, &["target_full", &no_room]);
        cluster.evenkeel_with_file(&["rebalance"], config).run_to_end().assert(2, &[&no_room]);
    }

    let says = format!("{no_room} for what it is to take, and may drop about ");
    cluster.evenkeel_with_file(&["plan"], &evict).run_to_end().assert(2, &[&says]);
    let json = cluster.evenkeel_with_file(&["plan", "--json"], &evict).run_to_end().exited_with_json(2);
    let bytes = json["evictions"][0]["bytes"].as_u64().expect("a number");
    // It takes a sixth of two megabytes, and the estimate knows of overhead and a margin.
    assert!((200_000..2_000_000).contains(&bytes), "{json}");
    cluster.evenkeel_with_file(&["rebalance"], &evict).run_to_end().assert(0, &["done: "]);
    let dropped = usize::try_from(number(&cluster, cache, "evicted_keys")).expect("a small number");
    assert!(dropped > 0, "it is a cache");
    assert_eq!(heavy_keys(&cluster) + dropped, HEAVY_KEYS, "no key is lost otherwise");
}
