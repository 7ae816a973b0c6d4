//! A daemon beside a cluster at rest: it asks little, and misses nothing.

use std::time::Duration;

use evenkeel::cluster::{NodeId, Slot, SlotSet};
use serde_json::Value;

use crate::support::{Cluster, Daemon, Data, Evenkeel, Flavour, Node, SOON, Spec, Standalone, eventually, settings};

/// Long enough that what happens between two polls has reached every node by the second one after it.
const POLL: Duration = Duration::from_millis(500);
/// Every node is read in full in so many polls of a cluster of up to ten.
const ROUND: u64 = 10;
/// Polls that a change may take beyond the first: one that was under way, and one by which nodes heard of it.
const AT_ONCE: u64 = 3;

fn schedule(mode: &str) -> String {
    format!("[schedule]\nmode = \"{mode}\"\npoll = \"{}ms\"\nforeign_quiet = \"1s\"\n", POLL.as_millis())
}

fn status(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.await_http("/api/v1/status", SOON, |_| true)).expect("JSON")
}

fn polls(status: &Value) -> u64 {
    status["look"]["number"].as_u64().expect("looks are counted")
}

/// How long ago every node was read in full.
fn read_age(status: &Value) -> f64 {
    status["look"]["read_age_s"].as_f64().unwrap_or(0.0)
}

/// Waits until the daemon has read nothing in full for some polls.
#[track_caller]
fn await_rest(daemon: &Daemon) {
    eventually("the daemon is at rest", SOON, || {
        let status = status(daemon);
        if read_age(&status) > (POLL * 4).as_secs_f64() { Ok(()) } else { Err(status.to_string()) }
    });
}

/// Does something to a cluster at rest, waits until the status, or the topology, says it, and checks that it took no more
/// polls than these.
#[track_caller]
fn check_found(daemon: &Daemon, what: &str, within: u64, act: impl FnOnce(), told: impl Fn(&Value, &Value) -> bool) {
    await_rest(daemon);
    act();
    let before = polls(&status(daemon));
    let took = eventually(what, SOON, || {
        // In this order: the topology is of the status' look, or of a later one.
        let status = status(daemon);
        let topology = serde_json::from_str(&daemon.http_get("/api/v1/topology")).expect("JSON");
        if told(&status, &topology) { Ok(polls(&status) - before) } else { Err(format!("{status}\n{topology}")) }
    });
    eprintln!("{what}: after {took} polls");
    assert!(took <= within, "{what}: found after {took} polls");
}

fn is_primary(topology: &Value, node: NodeId) -> bool {
    let shards = topology["shards"].as_array().expect("shards");
    shards.iter().any(|shard| shard["primary"]["id"] == node.to_string())
}

fn owns(topology: &Value, node: NodeId, slot: Slot) -> bool {
    let shards = topology["shards"].as_array().expect("shards");
    let shard = shards.iter().find(|shard| shard["primary"]["id"] == node.to_string());
    let slots = shard.and_then(|shard| shard["slots"]["ranges"].as_str());
    slots.is_some_and(|slots| slots.parse::<SlotSet>().expect("slots").contains(slot))
}

fn calls(cluster: &Cluster, nodes: &[Node], command: &str) -> Vec<u64> {
    nodes.iter().map(|&node| cluster.calls_of(node, &[command])).collect()
}

/// In as many polls as it takes to read each node once, every primary is asked for CLUSTER INFO in each, and hardly any
/// node for more.
fn check_what_is_asked(cluster: &Cluster, daemon: &Daemon) {
    await_rest(daemon);
    let (nodes, primaries) = (cluster.nodes(), cluster.primaries());
    let asked = |command| calls(cluster, &nodes, command);
    let info_before = calls(cluster, &primaries, "cluster|info");
    let (views_before, polls_before) = (asked("cluster|nodes"), polls(&status(daemon)));
    let status = eventually("two rounds of polls", SOON, || {
        let status = status(daemon);
        if polls(&status) >= polls_before + 2 * ROUND { Ok(status) } else { Err(status.to_string()) }
    });
    let (views, info) = (asked("cluster|nodes"), calls(cluster, &primaries, "cluster|info"));
    let read = |before: &[u64], after: &[u64]| before.iter().zip(after).map(|(a, b)| b - a).collect::<Vec<_>>();
    let (views, info) = (read(&views_before, &views), read(&info_before, &info));
    eprintln!("in {} polls: CLUSTER NODES {views:?}, CLUSTER INFO {info:?}", polls(&status) - polls_before);
    assert!(read_age(&status) > (POLL * 4).as_secs_f64(), "something was read in full: {status}");
    assert!(info.iter().all(|&calls| calls >= 2 * ROUND - 1), "CLUSTER INFO of each primary: {info:?}");
    let all: u64 = views.iter().sum();
    assert!(views.iter().all(|&calls| calls >= 2) && all <= 2 * ROUND + 2, "CLUSTER NODES of each node: {views:?}");
}

fn check(flavour: Flavour) {
    let mut cluster = Cluster::start(Spec::new(flavour).replicas(1));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let config = settings(&cluster, &schedule("observe"));
    let daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    check_what_is_asked(&cluster, &daemon);

    let slot = cluster.slots_of(first).iter().next().expect("it owns slots");
    let open = |count: u64| move |status: &Value, _: &Value| status["open_slots"]["count"].as_u64() == Some(count);
    let to = cluster.node_id(second).to_string();
    let mark = || cluster.cmd::<()>(first, &["CLUSTER", "SETSLOT", &slot.to_string(), "MIGRATING", &to]);
    check_found(&daemon, "a slot is opened by hand", ROUND, mark, open(1));
    cluster.cmd::<()>(first, &["CLUSTER", "SETSLOT", &slot.to_string(), "STABLE"]);

    // Of two slots that one node takes after each other, the second brings no new epoch.
    for (number, slot) in cluster.slots_of(first).iter().take(2).enumerate() {
        let move_it = || cluster.move_slot(slot, first, second);
        let (what, to) = (format!("slot {number} is moved by hand"), cluster.node_id(second));
        check_found(&daemon, &what, AT_ONCE, move_it, |_, topology| owns(topology, to, slot));
    }

    let four = |_: &Value, topology: &Value| topology["shards"].as_array().is_some_and(|shards| shards.len() == 4);
    check_found(&daemon, "a node is added", AT_ONCE, || _ = cluster.add_empty_primary(), four);

    let heir = cluster.replicas_of(third)[0];
    let id = cluster.node_id(heir);
    let fail_over = || cluster.cmd::<()>(heir, &["CLUSTER", "FAILOVER", "TAKEOVER"]);
    check_found(&daemon, "a failover", AT_ONCE, fail_over, |_, topology| is_primary(topology, id));

    let reload = || daemon.rewrite_config(&format!("{config}[targets]\nthreshold_slots = 5\n"));
    let (age, generation) = (POLL.as_secs_f64() * 2.0, 1);
    let reloaded = |status: &Value, _: &Value| {
        status["config"]["generation"].as_u64() == Some(generation) && read_age(status) < age
    };
    // The file is looked at once a second.
    check_found(&daemon, "a configuration that changed", AT_ONCE + 4, reload, reloaded);

    let victim = cluster.replicas_of(first)[0];
    let silent = |_: &Value, topology: &Value| topology["findings"].to_string().contains("replica_silent");
    check_found(&daemon, "a replica that dies", AT_ONCE, || cluster.kill9(victim), silent);
    stop(daemon);
}

fn stop(mut daemon: Daemon) {
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
}

#[test]
fn a_daemon_at_rest_asks_little_and_finds_every_change_on_redis_7_0() {
    check(Flavour::Redis70);
}

#[test]
fn a_daemon_at_rest_asks_little_and_finds_every_change_on_valkey_9_1() {
    check(Flavour::Valkey91);
}

#[test]
fn a_daemon_that_only_looks_is_at_rest_beside_a_lease() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let lease = Standalone::start(Flavour::Redis70);
    let config = format!("{}[lease]\naddress = \"{}\"\n", schedule("observe"), lease.address());
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
    check_what_is_asked(&cluster, &daemon);
    stop(daemon);
}

#[test]
fn a_daemon_at_rest_carries_out_new_targets() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let data = Data::fill_database(&cluster, 2_000, 0);
    let config = settings(&cluster, &schedule("act"));
    let daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    check_what_is_asked(&cluster, &daemon);
    assert_eq!(cluster.moving_calls(), 0);

    let weight = format!("[[targets.nodes]]\nnode = \"{}\"\nmax_slots = 5000\n", cluster.node_id(first));
    daemon.rewrite_config(&format!("{config}{weight}"));
    eventually("the slots are moved", SOON, || {
        let owned = cluster.view(first)?.slots_of(cluster.node_id(first)).len();
        if owned == 5_000 { Ok(()) } else { Err(format!("{owned} slots")) }
    });
    await_rest(&daemon);
    cluster.assert_settled(&[(first, 5_000), (second, 5_692), (third, 5_692)]);
    data.verify_all(&cluster);
    stop(daemon);
}
