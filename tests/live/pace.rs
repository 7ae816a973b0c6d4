//! How fast slots are moved, and what keeps a move from being faster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Cluster, Data, Evenkeel, Flavour, HASTY, SOON, Spec, Tagged, settings};

/// Whether a status tells of this of its first move.
fn of_move(status: &str, is_so: impl Fn(&Value) -> bool) -> bool {
    let status: Value = serde_json::from_str(status).expect("JSON");
    status["moves"].get(0).is_some_and(is_so)
}

#[test]
fn plain_limits_hold_all_moves_back_together() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 4_000, 0);
    let levelling = |limits: &str| {
        let began = Instant::now();
        let said = cluster.evenkeel_with_file(&["rebalance", "--json"], limits);
        let document = said.run_to_end().exited_with_json(0);
        (document["keys_moved"].as_u64().expect("a number"), began.elapsed())
    };
    let (keys, took) = levelling("[migration]\nkeys_per_second = 500\n");
    // What is there at once, a tenth of a second's worth, comes on top, and the last call may be that big.
    let least = Duration::from_millis((keys.saturating_sub(100)) * 1_000 / 500);
    assert!(keys > 900 && took >= least, "{keys} keys in {took:?}");
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4_096)).collect::<Vec<_>>());
    data.verify_all(&cluster);
}

#[test]
fn the_pace_of_a_move_and_what_others_feel_is_told_everywhere() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).empty_primaries(1));
    let data = Data::fill_database(&cluster, 4_000, 0);
    let slowly = format!("{HASTY}[migration]\nparallel = 1\nslots_per_second = 300\nkeys_per_second = 300\n");
    let mut daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &slowly)).spawn();
    let told = daemon.await_http("/api/v1/status", SOON, |status| {
        let document: Value = serde_json::from_str(status).expect("JSON");
        let felt = document["latencies"].as_array().is_some_and(|latencies| latencies.len() == 2);
        felt && of_move(status, |it| it["pace"]["block_s"].is_number() && it["pace"]["limit"] == "rate")
    });
    let batch = |it: &Value| it["pace"]["batch_keys"].as_u64().is_some_and(|keys| (1..=30).contains(&keys));
    assert!(of_move(&told, batch), "a tenth of a second's worth at the most: {told}");
    let metrics = daemon.http_get("/metrics");
    for (name, label) in [
        ("evenkeel_node_batch_keys", ""),
        ("evenkeel_node_block_seconds", ""),
        ("evenkeel_node_latency_seconds", ""),
        ("evenkeel_node_limit", "limit=\"rate\""),
    ] {
        let there = |line: &str| line.starts_with(name) && line.contains(label) && !line.ends_with(" 0");
        assert!(metrics.lines().any(there), "{name} {label}: {metrics}");
    }
    let url = format!("http://{}", daemon.address());
    Evenkeel::new(&["status", "--once", "--url", &url]).run_to_end().assert(2, &["keys a call", "(limit: rate)"]);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    data.verify_all(&cluster);
}

/// Holds a node for most of the time while `at_work`, as somebody's slow scripts would.
fn hold(cluster: &Cluster, node: crate::support::Node, at_work: &AtomicBool) {
    let script = "local began = redis.call('TIME') \
                  repeat local now = redis.call('TIME') \
                  until (now[1] - began[1]) * 1000000 + now[2] - began[2] > 40000";
    while at_work.load(Ordering::Relaxed) {
        cluster.cmd::<()>(node, &["EVAL", script, "0"]);
        // It is for nodes with clients that a move slows down.
        for _ in 0..5 {
            cluster.cmd::<()>(node, &["RANDOMKEY"]);
        }
    }
}

#[test]
fn clients_that_wait_too_long_slow_a_move_down_until_they_do_not() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let source = cluster.primaries()[0];
    let slot = Tagged::fill(&cluster, source, 0, 20_000);
    let target = cluster.address(empty).to_string();
    let config = format!(
        "{HASTY}[migration]\nlatency_max = \"5ms\"\nbatch_keys_max = 20\n[[targets.nodes]]\nnode = \"{target}\"\nslots = \"{}\"\n\
         max_slots = 1\n",
        slot.slot
    );
    let at_work = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| hold(&cluster, empty, &at_work));
        let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
        let slowed = |it: &Value| {
            let pace = &it["pace"];
            pace["limit"] == "latency" && pace["rest_s"].as_f64().is_some_and(|rest| rest > 0.0)
        };
        daemon.await_http("/api/v1/status", SOON, |status| of_move(status, slowed));
        at_work.store(false, Ordering::Relaxed);
        let goes_on = |it: &Value| it["pace"]["limit"] != "latency" && it["pace"]["rest_s"] == 0.0;
        daemon.await_http("/api/v1/status", SOON, |status| of_move(status, goes_on) || status.contains("\"moves\":[]"));
        daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\":0"));
    });
    cluster.assert_owns(empty, &slot.slot.to_string().parse().expect("a slot"));
    slot.verify(&cluster);
}
