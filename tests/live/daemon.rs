//! `evenkeel run`: what the daemon notices by itself, and what it tells of it by HTTP.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Cluster, Daemon, Evenkeel, Flavour, Node, SOON, Spec, Workload, settings, tool};

const KEYS: usize = 20_000;

/// Two looks a second, and two of them must agree.
const SCHEDULE: &str = "[schedule]\npoll = \"500ms\"\nsettle = 2\n";

/// Starts the daemon with a file that has the story's schedule and this text.
fn start(cluster: &Cluster, rest: &str) -> Daemon {
    cluster.evenkeel_with_file(&["run"], &format!("{SCHEDULE}{rest}")).spawn()
}

/// A document of the daemon, once it is so.
#[track_caller]
fn await_json(daemon: &Daemon, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let read = |body: &str| serde_json::from_str::<Value>(body).expect("the API speaks JSON");
    read(&daemon.await_http(path, SOON, |body| is_so(&read(body))))
}

/// The status, once nothing runs, nothing waits and nothing forbids anything, at a look after this one.
#[track_caller]
fn await_rest(daemon: &Daemon, after_look: u64) -> Value {
    daemon.await_rest(SOON, |status| look(status) > after_look)
}

fn look(status: &Value) -> u64 {
    status["look"]["number"].as_u64().expect("looks are counted")
}

fn status(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.http_get("/api/v1/status")).expect("the API speaks JSON")
}

/// The status once so many reloads, or more, have been taken over.
#[track_caller]
fn await_generation(daemon: &Daemon, generation: u64) -> Value {
    await_json(daemon, "/api/v1/status", |status| status["config"]["generation"].as_u64() >= Some(generation))
}

fn reasons(status: &Value) -> Vec<&str> {
    let reasons = status["reasons"].as_array().expect("reasons are a list");
    reasons.iter().filter_map(|reason| reason["name"].as_str()).collect()
}

/// The value, a whole number, of the series of this name that has all these labels.
#[track_caller]
fn metric(text: &str, name: &str, labels: &[&str]) -> u64 {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let line = text.lines().filter(of_name).find(|line| labels.iter().all(|label| line.contains(label)));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} with {labels:?} in:\n{text}"))
}

/// The metrics, which `promtool` must find nothing wrong with.
#[track_caller]
fn metrics(daemon: &Daemon) -> String {
    let text = daemon.http_get("/metrics");
    let mut call = Command::new(tool("prometheus", "promtool"));
    call.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = call.spawn().expect("promtool starts");
    let mut input = promtool.stdin.take().expect("it was given a pipe");
    input.write_all(text.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool says:\n{said}\nof:\n{text}");
    text
}

/// Asserts that API and metrics tell of every primary what the cluster itself says.
#[track_caller]
fn assert_it_tells_the_truth(daemon: &Daemon, cluster: &Cluster, primaries: &[Node]) {
    let topology: Value = serde_json::from_str(&daemon.http_get("/api/v1/topology")).expect("the API speaks JSON");
    let (metrics, shards) = (metrics(daemon), topology["shards"].as_array().expect("shards are a list"));
    assert_eq!(
        (shards.len(), &topology["unclear"], &topology["open_slots"]),
        (primaries.len(), &json!([]), &json!([]))
    );
    for &node in primaries {
        let (id, slots) = (cluster.node_id(node).to_string(), cluster.slots_of(node));
        let shard =
            shards.iter().find(|shard| shard["primary"]["id"] == id.as_str()).expect("each primary has a shard");
        assert_eq!(shard["slots"], json!({ "ranges": slots.to_string(), "count": slots.len() }));
        assert_eq!(shard["primary"]["address"], cluster.address(node).to_string());
        let keys: usize = cluster.cmd(node, &["DBSIZE"]);
        assert!(shard["primary"]["server"]["keys"].as_u64().is_some_and(|told| told.abs_diff(keys as u64) <= 1000));
        let label = format!("node=\"{id}\"");
        assert_eq!(metric(&metrics, "evenkeel_node_slots", &[&label]), slots.len() as u64);
    }
}

/// Asks it to end, and expects it to leave nothing open.
#[track_caller]
fn stop(mut daemon: Daemon) {
    daemon.sigterm();
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    assert!(daemon.stderr().contains("evenkeel ends; no slot is open"));
}

#[test]
fn a_primary_that_joins_is_filled_within_a_few_looks_and_all_of_it_is_told() {
    let mut cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let workload = Workload::start(&cluster, KEYS);
    let daemon = start(&cluster, "");
    await_rest(&daemon, 2);
    assert_eq!(cluster.moving_calls(), 0, "calls that move slots, in a level cluster");
    assert!(daemon.http_get("/api/v1/plan").contains("\"balanced\""));
    assert_it_tells_the_truth(&daemon, &cluster, &cluster.nodes());

    let joined = cluster.add_empty_primary();
    // All nodes know it, so the next look to begin sees it; two looks, and one for what came in between.
    let known_at = look(&status(&daemon));
    let moving =
        await_json(&daemon, "/api/v1/status", |status| status["moves"].as_array().is_some_and(|m| !m.is_empty()));
    assert!(look(&moving) <= known_at + 3, "known at look {known_at}, and moves at {moving}");
    let id = cluster.node_id(joined).to_string();
    assert!(moving["moves"].as_array().is_some_and(|m| m.iter().all(|m| m["target"] == id.as_str())), "{moving}");
    assert_eq!(
        (&moving["mode"], &moving["cluster"], &moving["work"]["slots_planned"]),
        (&json!("act"), &json!("story"), &json!(4096))
    );
    let while_moving = metrics(&daemon);
    assert!(
        metric(&while_moving, "evenkeel_moves_running", &[]) + metric(&while_moving, "evenkeel_moves_waiting", &[]) > 0
    );
    assert!(daemon.http_get("/healthz").starts_with("ok: "));
    assert!(daemon.http_get("/readyz").starts_with("ok: "));

    let rest = await_rest(&daemon, look(&moving));
    assert_eq!((&rest["work"]["slots_moved"], &rest["open_slots"]["count"]), (&json!(4096), &json!(0)), "{rest}");
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    assert_it_tells_the_truth(&daemon, &cluster, &cluster.nodes());
    let after = metrics(&daemon);
    assert_eq!(metric(&after, "evenkeel_slots_moved_total", &[]), 4096);
    assert_eq!(metric(&after, "evenkeel_moves_running", &[]), 0);
    assert!(metric(&after, "evenkeel_imbalance_slots", &[]) <= 1);
    assert!(metric(&after, "evenkeel_keys_moved_total", &[]) > 0);
    stop(daemon);
    workload.assert_unharmed(&cluster);
}

/// A `[[targets.nodes]]` for this node, after the story's schedule.
fn with_target(cluster: &Cluster, node: Node, what: &str) -> String {
    settings(cluster, &format!("{SCHEDULE}[[targets.nodes]]\nnode = \"{}\"\n{what}\n", cluster.node_id(node)))
}

#[test]
fn a_changed_file_is_followed_and_a_bad_one_is_refused_as_a_whole() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91));
    let workload = Workload::start(&cluster, KEYS);
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let mut daemon = start(&cluster, "");
    let level = await_rest(&daemon, 2);
    assert_eq!(level["config"], json!({ "generation": 0, "error": null }));

    daemon.rewrite_config(&with_target(&cluster, first, "weight = 2.0"));
    let taken = await_generation(&daemon, 1);
    await_rest(&daemon, look(&taken) + 1);
    cluster.assert_settled(&[(first, 8192), (second, 4096), (third, 4096)]);

    // A file that is as it was is read again only because of the signal.
    daemon.sighup();
    await_generation(&daemon, 2);
    daemon.rewrite_config(&with_target(&cluster, first, "weight = 0.5"));
    daemon.sighup();
    let taken = await_generation(&daemon, 3);
    let generation = taken["config"]["generation"].clone();
    await_rest(&daemon, look(&taken) + 1);
    cluster.assert_settled(&[(first, 3277), (second, 6553), (third, 6554)]);

    daemon.rewrite_config(&with_target(&cluster, first, "weight = -1.0\nwieght = 3.0"));
    let refused = await_json(&daemon, "/api/v1/status", |status| !status["config"]["error"].is_null());
    let why = refused["config"]["error"].as_str().expect("a text");
    assert!(why.contains("weight") && why.contains("wieght"), "both faults: {why}");
    assert!(daemon.stderr().contains("the configuration is kept as it was"), "{}", daemon.stderr());
    let told = metrics(&daemon);
    assert_eq!(metric(&told, "evenkeel_config_reload_failed", &[]), 1);
    let rest = await_rest(&daemon, look(&refused) + 2);
    assert_eq!(rest["config"]["error"], why);
    cluster.assert_settled(&[(first, 3277), (second, 6553), (third, 6554)]);

    daemon.rewrite_config(&with_target(&cluster, third, "weight = 1.0"));
    let taken = await_json(&daemon, "/api/v1/status", |status| status["config"]["error"].is_null());
    assert!(taken["config"]["generation"].as_u64() >= generation.as_u64(), "{taken}");
    await_rest(&daemon, look(&taken) + 1);
    assert_eq!(metric(&metrics(&daemon), "evenkeel_config_reload_failed", &[]), 0);
    cluster.assert_settled(&[(first, 5461), (second, 5461), (third, 5461)]);
    stop(daemon);
    workload.assert_unharmed(&cluster);
}

#[test]
fn a_drained_shard_stays_drained_and_drains_no_other() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).primaries(4).replicas(1));
    let workload = Workload::start(&cluster, KEYS);
    let [first, second, third, drained] = cluster.primaries()[..] else { panic!("four primaries") };
    let daemon = start(&cluster, "");
    let level = await_rest(&daemon, 2);
    daemon.rewrite_config(&with_target(&cluster, drained, "drain = true"));
    await_generation(&daemon, 1);
    let rest = await_rest(&daemon, look(&level) + 2);
    cluster.assert_settled(&[(first, 5461), (second, 5461), (third, 5461)]);
    let calls = cluster.moving_calls();
    let later = await_rest(&daemon, look(&rest) + 6);
    assert_eq!(cluster.moving_calls(), calls, "calls that move slots, after the drain was done: {later}");
    assert_it_tells_the_truth(&daemon, &cluster, &[first, second, third]);
    stop(daemon);

    workload.assert_unharmed(&cluster);

    // A daemon that was not there when it was drained, and nobody else at all.
    let file = format!("[[targets.nodes]]\nnode = \"{}\"\ndrain = true\n", cluster.node_id(drained));
    let writes = cluster.writes();
    let daemon = start(&cluster, &file);
    await_rest(&daemon, 6);
    stop(daemon);
    assert_eq!(cluster.writes(), writes, "calls that change anything, by a daemon that came later");
}

#[test]
fn an_observer_plans_and_names_its_reason_and_moves_nothing_until_told_to_act() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis82).empty_primaries(1));
    let workload = Workload::start(&cluster, KEYS);
    let observe = settings(&cluster, &SCHEDULE.replace("[schedule]", "[schedule]\nmode = \"observe\""));
    let daemon = Evenkeel::new(&["run"]).config(&observe).spawn();
    let watching = await_json(&daemon, "/api/v1/status", |status| look(status) >= 6);
    assert_eq!((&watching["mode"], reasons(&watching)), (&json!("observe"), vec!["observing"]));
    assert_eq!(daemon.planned(), Some(4096));
    assert_eq!(cluster.moving_calls(), 0, "calls that move slots, by an observer");
    let told = metrics(&daemon);
    assert_eq!(metric(&told, "evenkeel_reason", &["reason=\"observing\""]), 1);
    assert_eq!(metric(&told, "evenkeel_mode", &["mode=\"observe\""]), 1);
    assert_eq!(metric(&told, "evenkeel_moves_planned_slots", &[]), 4096);

    daemon.rewrite_config(&settings(&cluster, SCHEDULE));
    let acting = await_json(&daemon, "/api/v1/status", |status| status["mode"] == "act");
    await_rest(&daemon, look(&acting) + 1);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    stop(daemon);
    workload.assert_unharmed(&cluster);
}
