//! How fast slots are moved, and what keeps a move from being faster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::cluster::client_calls;
use serde_json::Value;

use crate::support::{Cluster, Data, Evenkeel, Flavour, HASTY, SOON, Spec, Tagged, eventually, settings};

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

#[test]
fn the_next_move_of_a_source_goes_on_with_the_pace_of_the_last() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let filled = [0, 1].map(|number| Tagged::fill(&cluster, cluster.primaries()[0], number, 5_000));
    let target = cluster.address(empty).to_string();
    let unhurried = "[migration]\nblock_max = \"1s\"\nlatency_max = \"1m\"\n[log]\nlevel = \"debug\"\n";
    let config = |slots: &str| {
        let count = slots.split(',').count();
        let pinned = format!("[[targets.nodes]]\nnode = \"{target}\"\nslots = \"{slots}\"\nmax_slots = {count}\n");
        settings(&cluster, &format!("{HASTY}{unhurried}{pinned}"))
    };
    let [first, second] = filled.each_ref().map(|tagged| tagged.slot.to_string());
    let mut daemon = Evenkeel::new(&["run"]).config(&config(&first)).spawn();
    let await_slots = |count: usize| {
        eventually("the slots are moved", SOON, || {
            let owned = cluster.slots_of(empty);
            (owned.len() == count).then_some(()).ok_or_else(|| format!("it has {owned}"))
        });
    };
    await_slots(1);
    daemon.rewrite_config(&config(&format!("{first},{second}")));
    await_slots(2);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);

    let log = daemon.stderr();
    let after = |line: &str, name: &str| Some(line.split_once(name)?.1.split([' ', ':']).next()?.to_owned());
    let calls = log.lines().filter(|line| line.contains("step=Migrate"));
    let mut first_batches = BTreeMap::new();
    for call in calls {
        let of_move = after(call, "move{id=").expect("a step is one of a move");
        first_batches.entry(of_move).or_insert_with(|| after(call, "batch_keys=").and_then(|keys| keys.parse().ok()));
    }
    let batches: Vec<u32> = first_batches.into_values().flatten().collect();
    assert!(matches!(batches[..], [100, next, ..] if next >= 150), "keys of the first calls: {batches:?}");
    for tagged in &filled {
        tagged.verify(&cluster);
    }
}

/// Nodes whose clients are all ours are to count as nodes without any, for these are moved several times faster.
fn check_that_moves_are_no_clients(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).empty_primaries(1));
    let data = Data::fill_database(&cluster, 4_000, 0);
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &["CONFIG", "RESETSTAT"]);
    }
    cluster.evenkeel(&["rebalance"]).run_to_end().assert(0, &[]);
    for node in cluster.nodes() {
        let counted: String = cluster.cmd(node, &["INFO", "commandstats"]);
        // It asks once each whether it may send HLEN, SCARD and ZCARD, which clients may send and nothing else.
        assert!(client_calls(&counted) <= 3, "{counted}");
    }
    data.verify_all(&cluster);
}

#[test]
fn a_moves_own_calls_are_not_taken_for_those_of_clients_on_redis_7_0() {
    check_that_moves_are_no_clients(Flavour::Redis70);
}

#[test]
fn a_moves_own_calls_are_not_taken_for_those_of_clients_on_valkey_9_1() {
    check_that_moves_are_no_clients(Flavour::Valkey91);
}

/// How many `MIGRATE`s of a levelling began while another one of the same move was under way, by evenkeel's own log, and
/// how many there were.
fn count_overlaps(cluster: &Cluster, args: &[&str]) -> (usize, usize) {
    let said = cluster.evenkeel(args).env("RUST_LOG", "evenkeel=debug").run_to_end();
    said.assert(0, &[]);
    // `2026-11-28T12:27:24.498050Z DEBUG move{id=1 …}: step lane=0 step=Migrate … took_us=4170 …`
    let call = |line: &str| {
        let (at, rest) = line.split_once(' ').filter(|(_, rest)| rest.contains(" step=Migrate "))?;
        let number = |name: &str| {
            let digits = rest.split_once(name)?.1.split(|it: char| !it.is_ascii_digit()).next()?;
            digits.parse::<i64>().ok()
        };
        let end = at.parse::<jiff::Timestamp>().ok()?.as_microsecond();
        Some((number("move{id=")?, number("lane=")?, end - number("took_us=")?, end))
    };
    let calls: Vec<_> = said.stderr.lines().filter_map(call).collect();
    let overlap = |&(id, lane, began, _): &(i64, i64, i64, i64)| {
        calls.iter().any(|other| (other.0, other.1) == (id, 1 - lane) && other.2 < began && began < other.3)
    };
    (calls.iter().filter(|call| overlap(call)).count(), calls.len())
}

#[test]
fn a_source_has_two_calls_at_a_time_only_where_no_client_waits() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 20_000, 0);
    let (overlaps, calls) = count_overlaps(&cluster, &["rebalance"]);
    assert!(overlaps > 0, "{calls} calls, one after the other");

    let node = cluster.primaries()[0];
    let weight = format!("{}=0.5", cluster.node_id(node));
    let at_work = AtomicBool::new(true);
    thread::scope(|scope| {
        let _at_end = Ending(&at_work);
        scope.spawn(|| {
            while at_work.load(Ordering::Relaxed) {
                cluster.cmd::<()>(node, &["RANDOMKEY"]);
            }
        });
        let (overlaps, calls) = count_overlaps(&cluster, &["rebalance", "--weight", &weight]);
        assert!(overlaps == 0 && calls > 64, "{overlaps} of {calls}");
    });
    data.verify_all(&cluster);
}

#[test]
fn that_sources_of_one_machine_take_turns_beside_clients_is_told() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 40_000, 0);
    let sources = cluster.primaries();
    let at_work = AtomicBool::new(true);
    thread::scope(|scope| {
        let _at_end = Ending(&at_work);
        scope.spawn(|| {
            for &source in sources.iter().cycle().take_while(|_| at_work.load(Ordering::Relaxed)) {
                cluster.cmd::<()>(source, &["RANDOMKEY"]);
            }
        });
        let config = format!("{HASTY}[migration]\nbatch_keys_max = 10\nlatency_max = \"1m\"\n");
        let mut daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
        daemon.await_http("/metrics", SOON, |metrics| {
            let of_turns = |line: &str| line.starts_with("evenkeel_node_limit{limit=\"turns\"") && line.ends_with(" 1");
            metrics.lines().any(of_turns)
        });
        daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\":0"));
        daemon.sigterm();
        daemon.output(SOON).assert(0, &["no slot is open"]);
    });
    data.verify_all(&cluster);
}

/// Has those end their work who work beside a story, also where it fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
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
        let ending = Ending(&at_work);
        scope.spawn(|| hold(&cluster, empty, &at_work));
        let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
        let slowed = |it: &Value| {
            let pace = &it["pace"];
            pace["limit"] == "latency" && pace["rest_s"].as_f64().is_some_and(|rest| rest > 0.0)
        };
        daemon.await_http("/api/v1/status", SOON, |status| of_move(status, slowed));
        drop(ending);
        let goes_on = |it: &Value| it["pace"]["limit"] != "latency" && it["pace"]["rest_s"] == 0.0;
        daemon.await_http("/api/v1/status", SOON, |status| of_move(status, goes_on) || status.contains("\"moves\":[]"));
        daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\":0"));
    });
    cluster.assert_owns(empty, &slot.slot.to_string().parse().expect("a slot"));
    slot.verify(&cluster);
}
