//! Reasons not to act, each provoked by what real servers and operators do. `tests/core/reasons.rs` names the story of
//! every reason; those that have none of their own elsewhere are here, many to a cluster.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use crate::support::{
    Bus, Cluster, Daemon, Data, Evenkeel, Flavour, Node, SOON, Spec, directory, eventually, settings,
};
/// As quick as it goes, and nothing is adopted.
const QUICK: &str = "[schedule]\npoll = \"100ms\"\nforeign_quiet = \"1s\"\n";

fn await_reason(daemon: &Daemon, name: &str) -> String {
    daemon.await_http("/api/v1/status", SOON, |status| status.contains(&format!("{{\"name\":\"{name}\"")))
}

fn entry(cluster: &Cluster, node: Node, what: &str) -> String {
    format!("[[targets.nodes]]\nnode = \"{}\"\n{what}\n", cluster.node_id(node))
}

#[test]
fn what_an_operator_gets_wrong_is_a_reason_and_moves_nothing() {
    let nobody = Evenkeel::new(&["run"]).config("[cluster]\nseeds = [\"127.0.0.1:1\"]\n").spawn();
    await_reason(&nobody, "no_view");
    drop(nobody);

    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let config = |more: &str| settings(&cluster, &format!("{QUICK}{more}"));
    let patient = settings(&cluster, &QUICK.replace("[schedule]", "[schedule]\nsettle = 100"));
    let daemon = Evenkeel::new(&["run"]).config(&patient).spawn();
    await_reason(&daemon, "settling");

    for node in [first, second] {
        cluster.cmd::<()>(node, &["CONFIG", "SET", "cluster-announce-hostname", "twins.example.com"]);
    }
    daemon.rewrite_config(&config("[[targets.nodes]]\nnode = \"twins.example.com\"\nweight = 2.0\n"));
    await_reason(&daemon, "target_ambiguous");
    let by_address = format!("[[targets.nodes]]\nnode = \"{}\"\nweight = 3.0\n", cluster.address(first));
    daemon.rewrite_config(&config(&(entry(&cluster, first, "weight = 2.0") + &by_address)));
    await_reason(&daemon, "target_conflict");
    let least = cluster.primaries().iter().fold(String::new(), |mut all, node| {
        let _ = write!(all, "{}", entry(&cluster, *node, "min_slots = 6000"));
        all
    });
    daemon.rewrite_config(&config(&least));
    await_reason(&daemon, "targets_infeasible");
    // Half of the servers' node time-out of three seconds.
    daemon.rewrite_config(&config("[migration]\nmigrate_timeout = \"2s\"\n"));
    await_reason(&daemon, "timeout_too_long");

    let files = directory("password");
    let password = files.path().join("password");
    std::fs::write(&password, "its own").expect("the directory is writable");
    for (node, without) in
        [(first, "-migrate"), (second, "-asking"), (third, "-migrate"), (cluster.empty_primaries()[0], "+ping")]
    {
        cluster.cmd::<()>(node, &["ACL", "SETUSER", "mover", "on", ">its own", "~*", "+@all", without]);
    }
    let user = format!("username = \"mover\"\npassword_file = \"{}\"\n", password.display());
    daemon.rewrite_config(&settings(&cluster, &format!("{user}{QUICK}")));
    let status = await_reason(&daemon, "permission_missing");
    let mut lacking = [first, third];
    lacking.sort_by_key(|node| cluster.node_id(*node));
    let named = |node: Node| format!("{} ({})", cluster.address(node), cluster.node_id(node).short());
    let [one, other] = lacking.map(named);
    for line in [
        format!("{one}, {other} do not permit what moving slots needs; run there: ACL SETUSER mover +migrate '~*'"),
        format!("{} does not permit what moving slots needs; run there: ACL SETUSER mover +asking", named(second)),
    ] {
        assert!(status.contains(&line), "`{line}` in {status}");
        assert!(daemon.stderr().contains(&line), "`{line}` in {}", daemon.stderr());
    }

    // A node that takes no further connection: those that look at it are there already.
    daemon.rewrite_config(&config("[targets]\nthreshold_percent = 1.5\n"));
    cluster.cmd::<()>(second, &["CONFIG", "SET", "maxclients", "1"]);
    await_reason(&daemon, "checks_failed");
    assert!(cluster.slots_of(cluster.empty_primaries()[0]).is_empty());
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
}

#[test]
fn a_plan_that_its_checker_finds_wrong_moves_nothing() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let config = settings(&cluster, QUICK);
    // A move that goes the wrong way, as a bug in the planner could have it.
    let spoiled = |args: &[&str]| Evenkeel::new(args).config(&config).env("EVENKEEL_FAILPOINTS", "plan=spoil");
    let daemon = spoiled(&["run"]).spawn();
    let status = await_reason(&daemon, "plan_unsound");
    assert!(status.contains("it breaks its own rules (please report this): "), "{status}");
    let looks = |status: &str| {
        status.split_once("\"number\":").and_then(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok())
    };
    let at = looks(&status).expect("looks are numbered");
    daemon
        .await_http("/api/v1/status", SOON, |status| looks(status) > Some(at + 10) && status.contains("plan_unsound"));
    drop(daemon);
    spoiled(&["rebalance"]).run_to_end().assert(1, &["please report this"]);
    let empty = cluster.empty_primaries()[0];
    spoiled(&["move", "--slots", "0", "--to", &cluster.node_id(empty).to_string()])
        .run_to_end()
        .assert(1, &["please report this"]);
    assert!(cluster.slots_of(empty).is_empty());
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    cluster.evenkeel(&["rebalance"]).run_to_end().assert(0, &["done: "]);
}

#[test]
fn what_is_wrong_with_the_servers_is_a_reason_and_a_dead_replica_elsewhere_is_none() {
    let spec = Spec::new(Flavour::Redis70).primaries(4).empty_primaries(1).node_timeout(Duration::from_millis(1_500));
    let mut cluster = Cluster::start(spec.config(&["--cluster-require-full-coverage", "no"]));
    let [first, second, third, fourth] = cluster.primaries()[..] else { panic!("four primaries") };
    let id = |node: Node| cluster.node_id(node).to_string();
    let (second_id, third_id) = (id(second), id(third));
    // Nothing of the first is to be moved, so that nothing of it is in motion.
    let observe = settings(&cluster, &QUICK.replace("[schedule]", "[schedule]\nmode = \"observe\""));
    let daemon = Evenkeel::new(&["run"]).config(&observe).spawn();
    daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\""));

    // Its former owner gave it up, and the new one was not told.
    cluster.cmd::<()>(first, &["CLUSTER", "SETSLOT", "0", "NODE", &second_id]);
    await_reason(&daemon, "owner_does_not_claim");
    cluster.cmd::<()>(second, &["CLUSTER", "SETSLOT", "0", "IMPORTING", &id(first)]);
    cluster.cmd::<()>(second, &["CLUSTER", "SETSLOT", "0", "NODE", &second_id]);
    daemon.await_http("/api/v1/status", SOON, |status| !status.contains("owner_does_not_claim"));

    // A bystander was told something that is not so; it hears the truth within seconds.
    eventually("a bystander that is wrong is seen", SOON, || {
        cluster.cmd::<()>(fourth, &["CLUSTER", "SETSLOT", "1", "NODE", &third_id]);
        let status = daemon.http_get("/api/v1/status");
        if status.contains("views_disagree") { Ok(()) } else { Err(status) }
    });
    eventually("an epoch that has not spread is seen", SOON, || {
        cluster.cmd::<()>(third, &["CLUSTER", "BUMPEPOCH"]);
        let status = daemon.http_get("/api/v1/status");
        if status.contains("epochs_differ") { Ok(()) } else { Err(status) }
    });
    daemon.await_http("/api/v1/status", SOON, |status| !status.contains("views_disagree"));
    for node in cluster.nodes() {
        let _: Result<(), _> = cluster.try_cmd(node, &["CLUSTER", "DELSLOTS", "1"]);
    }
    await_reason(&daemon, "slots_uncovered");
    cluster.cmd::<()>(first, &["CLUSTER", "ADDSLOTS", "1"]);
    daemon.await_http("/api/v1/status", SOON, |status| !status.contains("slots_uncovered"));
    drop(daemon);
    drop(cluster);

    // A large cluster: a replica that is dead stops nothing, a primary that is dead stops all.
    cluster = Cluster::start(
        Spec::new(Flavour::Redis70)
            .primaries(5)
            .replicas(1)
            .empty_primaries(1)
            .node_timeout(Duration::from_millis(1_500)),
    );
    let [.., last] = cluster.primaries()[..] else { panic!("five primaries") };
    let dead = cluster.replicas_of(last)[0];
    cluster.kill9(dead);
    // Below half of the servers' node time-out.
    let short = format!("{QUICK}[migration]\nmigrate_timeout = \"500ms\"\n");
    eventually("all know that it is dead", SOON, || {
        let line = |node| {
            Ok::<_, String>(cluster.view(node)?.members.into_iter().find(|member| member.id == cluster.node_id(dead)))
        };
        for node in cluster.primaries() {
            if !line(node)?.is_some_and(|line| line.is("fail")) {
                return Err(format!("{} does not", cluster.name(node)));
            }
        }
        Ok(())
    });
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, &short)).spawn();
    eventually("slots are moved all the same", SOON, || {
        let empty = cluster.empty_primaries()[0];
        let has = cluster.view(empty)?.slots_of(cluster.node_id(empty)).len();
        if has.abs_diff(2_730) <= 1 { Ok(()) } else { Err(format!("{has} slots")) }
    });
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[],\"moves\":[]"));
    cluster.kill9(last);
    await_reason(&daemon, "node_failing");
    for node in cluster.primaries().into_iter().chain(cluster.empty_primaries()).filter(|node| *node != last) {
        cluster.kill9(node);
    }
    await_reason(&daemon, "no_primary_answered");
}

#[test]
fn a_primary_that_loads_its_data_is_waited_for_on_valkey_9_1() {
    // Four milliseconds a key, and a moment for others after each few.
    let slowly = ["--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024"];
    let spec = Spec::new(Flavour::Valkey91).empty_primaries(1).node_timeout(Duration::from_secs(20));
    let cluster = Cluster::start(spec.node_config(1, &slowly));
    let second = cluster.primaries()[1];
    let data = Data::fill_database(&cluster, 3_000, 0);
    cluster.cmd::<()>(second, &["SAVE"]);
    let observe = settings(&cluster, &QUICK.replace("[schedule]", "[schedule]\nmode = \"observe\""));
    let daemon = Evenkeel::new(&["run"]).config(&observe).spawn();
    daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\""));
    thread::scope(|scope| {
        scope.spawn(|| cluster.restart(second));
        await_reason(&daemon, "node_loading");
    });
    daemon.await_http("/api/v1/status", SOON, |status| !status.contains("node_loading"));
    cluster.evenkeel(&["rebalance"]).run_to_end().assert(0, &["done: "]);
    data.verify_all(&cluster);
}

/// A node that does not hear the others still answers: what it takes for true is old.
#[test]
fn what_a_node_believes_that_does_not_hear_the_others_is_a_reason() {
    let spec = Spec::new(Flavour::Redis70).slots(&["0-5460", "5461-12000", "12001-16383"]).replicas(1);
    let (cluster, bus) = Bus::around(&spec);
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    bus.cut(&cluster);
    // Told to the primaries, and not to the replica of the second one, which is the only one to give slots away.
    for node in [third, second, first] {
        cluster.cmd::<()>(node, &["CLUSTER", "SETSLOT", "5461", "NODE", &cluster.node_id(third).to_string()]);
    }
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, QUICK)).spawn();
    await_reason(&daemon, "node_not_usable");

    cluster.cmd::<()>(first, &["CLUSTER", "DELSLOTSRANGE", "0", "5460"]);
    cluster.cmd::<()>(first, &["CLUSTER", "REPLICATE", &cluster.node_id(third).to_string()]);
    await_reason(&daemon, "role_unsure");
    assert!(cluster.open_slots().expect("all nodes answer").is_empty(), "nothing is opened");
}
