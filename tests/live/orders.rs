//! When a daemon may move slots, and what an operator tells it: hours, approval of a plan, drains.

use std::cell::Cell;

use jiff::{Timestamp, ToSpan, Unit};
use serde_json::Value;

use crate::support::{
    Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Node, Points, SOON, Spec, Tagged, directory, settings,
};

/// The schedule of [`HASTY`] with further keys.
fn hasty(schedule: &str) -> String {
    format!("{HASTY}{schedule}\n")
}

fn json(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(&daemon.http_get(path)).expect("JSON")
}

/// Waits until the daemon says that, and nothing moves.
fn await_reason(daemon: &Daemon, name: &str) -> Value {
    let is_so = |status: &str| {
        let status: Value = serde_json::from_str(status).expect("JSON");
        status["reasons"][0]["name"] == name && status["moves"] == Value::Array(Vec::new())
    };
    serde_json::from_str(&daemon.await_http("/api/v1/status", SOON, is_so)).expect("JSON")
}

fn level(cluster: &Cluster, slots: usize) -> Vec<(Node, usize)> {
    cluster.nodes().into_iter().map(|node| (node, slots)).collect()
}

fn stop(mut daemon: Daemon) {
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
}

#[test]
fn a_plan_waits_for_its_approval_and_exactly_that_plan_is_carried_out() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 2_000, 0);
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &hasty("approval = \"manual\""))).spawn();
    await_reason(&daemon, "awaiting_approval");
    let plan = json(&daemon, "/api/v1/plan");
    let hash = plan["hash"].as_str().expect("a plan has a hash").to_owned();
    let url = format!("http://{}", daemon.address());
    let status = Evenkeel::new(&["status", "--url", &url]).run_to_end();
    status.assert(2, &["because: awaiting_approval: the plan, which moves 4096 slots", &hash]);
    let other = ["approve", "0123456789ab", "--url", &url];
    Evenkeel::new(&other).run_to_end().assert(1, &["the plan of now has the hash", &hash]);
    assert_eq!(cluster.moving_calls(), 0, "calls that move slots before anybody approved them");

    daemon.is_told(&["approve", &hash], &["approved", "4096 slots"]);
    cluster.assert_settled(&level(&cluster, 4096));
    for planned in plan["moves"].as_array().expect("moves") {
        let target = cluster.nodes().into_iter().find(|&node| planned["target"] == cluster.node_id(node).to_string());
        let slots = planned["slots"]["ranges"].as_str().expect("ranges").parse().expect("slots");
        let has = cluster.slots_of(target.expect("a node of the cluster"));
        assert!(slots == has.intersection(&slots), "what was planned is {slots}, and the target has {has}");
    }
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"approved\":null"));
    Evenkeel::new(&["approve", &hash, "--url", &url]).run_to_end().assert(1, &["there is no plan with moves"]);

    // A shard that joins makes another plan, which waits; nobody waits where nobody is asked.
    daemon.rewrite_config(&settings(&cluster, HASTY));
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"generation\":1"));
    Evenkeel::new(&["approve", &hash, "--url", &url]).run_to_end().assert(1, &["no plan waits for approval"]);
    stop(daemon);
    data.verify_all(&cluster);
}

#[test]
fn a_slot_of_an_approved_plan_that_cannot_be_moved_is_set_aside_and_goes_when_it_is_put_back() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let [first, ..] = cluster.primaries()[..] else { panic!("three primaries") };
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    // One that the plan moves, and so few that a new plan would not be made for it: thresholds are of two slots.
    let filled = (0..).map(|number| Tagged::fill(&cluster, first, number, 5));
    let tagged = filled.into_iter().find(|tagged| tagged.slot.number() < 1000).expect("there is no end of them");
    tagged.at_importer(&cluster, (first, empty), &["SET", &tagged.key(0), "astray"]);
    let config = hasty("approval = \"manual\"\n[migration]\nattempts = 2\nretry_delay = \"100ms\"");
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
    await_reason(&daemon, "awaiting_approval");
    let hash = json(&daemon, "/api/v1/plan")["hash"].as_str().expect("a plan has a hash").to_owned();
    daemon.is_told(&["approve", &hash], &["approved", "4096 slots"]);

    let is_given_up = |status: &str| status.contains("\"attempts\":2");
    daemon.await_http("/api/v1/status", SOON, is_given_up);
    let status = await_reason(&daemon, "set_aside");
    let seen = status["look"]["number"].as_u64().expect("looks are counted");
    daemon.await_http("/api/v1/status", SOON, |status| {
        let status: Value = serde_json::from_str(status).expect("JSON");
        status["look"]["number"].as_u64().is_some_and(|number| number > seen + 5)
    });
    let url = format!("http://{}", daemon.address());
    let slot = tagged.slot.to_string();
    let set_aside = format!("set aside: slot {slot} after 2 tries, given up until `evenkeel retry`: stray_keys:");
    let text = Evenkeel::new(&["status", "--url", &url]).run_to_end();
    text.assert(2, &["because: set_aside", &set_aside, &format!("plan {hash} was approved and is not at its end")]);
    assert_eq!(cluster.slots_of(empty).len(), 4095, "all others are moved");

    tagged.at_importer(&cluster, (first, empty), &["DEL", &tagged.key(0)]);
    daemon.is_told(&["retry", &slot], &["put back"]);
    cluster.assert_settled(&level(&cluster, 4096));
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"approved\":null"));
    stop(daemon);
    tagged.verify(&cluster);
}

#[test]
fn an_approved_drain_ends_when_the_node_is_empty_and_a_replica() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).config(&["--cluster-allow-replica-migration", "yes"]));
    let [drained, ..] = cluster.primaries()[..] else { panic!("three primaries") };
    let data = Data::fill_database(&cluster, 2_000, 0);
    let state = directory("state");
    let config = hasty("approval = \"manual\"") + &format!("[state]\ndir = \"{}\"\n", state.path().display());
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &config)).spawn();
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[]"));
    let address = cluster.address(drained).to_string();
    daemon.is_told(&["drain", &address], &["is to be drained"]);
    await_reason(&daemon, "awaiting_approval");
    let hash = json(&daemon, "/api/v1/plan")["hash"].as_str().expect("a plan has a hash").to_owned();
    daemon.is_told(&["approve", &hash], &["approved"]);
    let most = |status: &Value| status["work"]["slots_planned"].as_u64().expect("a number");
    let planned = Cell::new(0);
    daemon.await_http("/api/v1/status", SOON, |text| {
        let status: Value = serde_json::from_str(text).expect("JSON");
        planned.set(planned.get().max(most(&status)));
        status["approved"].is_null() && status["reasons"] == Value::Array(Vec::new())
    });
    let owned = cluster.slots_of(drained).len() as u64;
    assert_eq!((owned, planned.get()), (0, 5461), "slots that it owns, and of which the work was said to be");
    let history = json(&daemon, "/api/v1/history");
    let to_itself = history["moves"].as_array().expect("moves").iter().find(|it| it["source"] == it["target"]);
    assert_eq!(to_itself, None);
    stop(daemon);
    data.verify_all(&cluster);
}

#[test]
fn a_drain_outlasts_the_process_until_the_node_is_to_have_its_share_again() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91));
    let [drained, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &["CONFIG", "SET", "cluster-allow-replica-migration", "no"]);
    }
    let data = Data::fill_database(&cluster, 2_000, 0);
    let state = directory("state");
    let config = settings(&cluster, &format!("{HASTY}[state]\ndir = \"{}\"\n", state.path().display()));
    let daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[]"));
    let url = format!("http://{}", daemon.address());
    let nobody = ["drain", "nobody.example", "--url", &url];
    Evenkeel::new(&nobody).run_to_end().assert(1, &["nobody.example"]);
    let address = cluster.address(drained).to_string();
    let id = cluster.node_id(drained).to_string();
    let told =
        format!("{address} (the shard of {}) is to be drained, and to stay so until `evenkeel undrain`", &id[..8]);
    daemon.is_told(&["drain", &address], &[&told]);
    let halves = [(drained, 0), (second, 8192), (third, 8192)];
    cluster.assert_settled(&halves[1..]);
    assert_eq!(json(&daemon, "/api/v1/status")["drains"][0]["node"], id);
    stop(daemon);

    let daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    let at_rest = |status: &str| status.contains("\"reasons\":[]") && status.contains(&id);
    daemon.await_http("/api/v1/status", SOON, at_rest);
    daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\":0"));
    daemon.is_told(&["undrain", &id[..8]], &[&format!("{} is to have its share again", &id[..8])]);
    cluster.assert_settled(&level(&cluster, 5461));
    daemon.is_told(&["undrain", &address], &["nobody had told the daemon to drain it"]);
    stop(daemon);
    data.verify_all(&cluster);
}

/// A drained primary becomes a replica, as servers do by themselves: it is told of as one, is not drained again with all of
/// the shard that it has joined, and comes back as the documents say.
#[test]
fn a_drained_node_that_has_become_a_replica_is_told_of_as_one_and_comes_back() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [drained, other, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let data = Data::fill_database(&cluster, 2_000, 0);
    let (id, address) = (cluster.node_id(drained).to_string(), cluster.address(drained).to_string());
    // Meant for this node, and not for whoever takes it as a replica.
    let more_of_it = format!("[[targets.nodes]]\nnode = \"{address}\"\nweight = 3.0\n");
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &format!("{HASTY}{more_of_it}"))).spawn();
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[]"));
    let url = format!("http://{}", daemon.address());
    let name = format!("{address} ({})", &id[..8]);
    daemon.is_told(&["drain", &address], &["is to be drained"]);
    let at_rest = |status: &str| status.contains("\"replica_of\":\"") && status.contains("\"reasons\":[]");
    let status = daemon.await_http("/api/v1/status", SOON, at_rest);
    daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\":0"));
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let primary = status["drains"][0]["replica_of"].as_str().expect("it was drained").to_owned();
    cluster.assert_settled(&[other, third].map(|node| (node, 8192)));
    let host =
        [other, third].into_iter().find(|&node| cluster.node_id(node).to_string() == primary).expect("one took all");
    let text = format!("{name}; it is a replica of {} ({}) now", cluster.address(host), &primary[..8]);
    Evenkeel::new(&["status", "--url", &url]).run_to_end().assert(0, &["drained, as told", &text]);
    assert!(daemon.stderr().contains("a drained node has become a replica"), "{}", daemon.stderr());
    let refused = format!("{name} was drained, and has become a replica of {} since", &primary[..8]);
    Evenkeel::new(&["drain", &address, "--url", &url]).run_to_end().assert(1, &[&refused]);

    daemon.rewrite_config(&settings(&cluster, HASTY));
    let told = format!("{name} is drained no more; it is a replica of {} now", &primary[..8]);
    daemon.is_told(&["undrain", &address], &[&told]);
    let refused = format!(
        "{name} is a replica of {0}, and holds no slots of its own; to empty that shard, name {0}",
        &primary[..8]
    );
    Evenkeel::new(&["drain", &address, "--url", &url]).run_to_end().assert(1, &[&refused]);
    cluster.cmd::<()>(drained, &["CLUSTER", "RESET", "SOFT"]);
    // Others know it still, and the daemon goes on all the while.
    let goes_on = |status: &str| status.contains("knows no other node: ") && status.contains("\"reasons\":[]");
    daemon.await_http("/api/v1/status", SOON, goes_on);
    let check = Evenkeel::new(&["check"]).config(&settings(&cluster, "")).run_to_end();
    check.assert(2, &["found: node_alone", "16384 of 16384 slots covered"]);
    let (ip, port) = (cluster.address(host).host.clone(), cluster.address(host).port.to_string());
    cluster.cmd::<()>(drained, &["CLUSTER", "MEET", &ip, &port]);
    cluster.assert_settled(&level(&cluster, 5461));
    stop(daemon);
    data.verify_all(&cluster);
}

#[test]
fn outside_of_its_hours_a_daemon_finishes_what_is_open_and_begins_nothing() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 2_000, 0);
    // Hours that are neither now nor soon, and hours that go on for long, by the clock of the machine.
    let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).round(Unit::Hour).expect("a time of today");
    let hour = |hours: i64| (&now + hours.hours()).strftime("%H:00").to_string();
    let windows = |from: i64, to: i64| {
        let schedule = format!("windows = [\"{}-{} UTC\"]\n[migration]\ngroup_slots = 16", hour(from), hour(to));
        settings(&cluster, &hasty(&schedule))
    };
    let (closed, open) = (windows(6, 8), windows(-6, 6));
    let call = Evenkeel::new(&["run"]).config(&closed);
    let (points, call) = Points::order(call, "migrate.before=pause@6");
    let daemon = call.spawn();
    let status = await_reason(&daemon, "outside_windows");
    assert!(status["reasons"][0]["text"].as_str().expect("text").contains("begin in"), "{status}");
    assert_eq!(cluster.moving_calls(), 0, "calls that move slots, outside of the hours");

    daemon.rewrite_config(&open);
    points.await_reached("migrate.before");
    daemon.rewrite_config(&closed);
    // The reason alone may still be the one from before the hours.
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"generation\":2"));
    points.go("migrate.before");
    await_reason(&daemon, "outside_windows");
    assert!(cluster.open_slots().expect("all nodes answer").is_empty(), "what was open is finished");
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    assert!((1..4_096).contains(&cluster.slots_of(empty).len()), "nothing new was begun");

    daemon.rewrite_config(&open);
    cluster.assert_settled(&level(&cluster, 4096));
    stop(daemon);
    data.verify_all(&cluster);
}
