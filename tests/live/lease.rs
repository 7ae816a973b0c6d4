//! The lease: of several daemons one acts, and when that one dies or freezes another goes on where it was.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    Cluster, Daemon, Evenkeel, Flavour, Node, Output, SOON, Spec, Standalone, Tagged, eventually, settings,
};
/// How long the lease lasts in these stories.
const TTL: Duration = Duration::from_secs(3);
/// Long enough for a story to interfere: each is a call of its own.
const KEYS: usize = 20_000;

/// A daemon that waits for others for a minute, moves keys one by one, and wants these slots at this node.
fn start(cluster: &Cluster, lease: &Standalone, node: Node, slots: &[&Tagged]) -> Daemon {
    Evenkeel::new(&["run"]).config(&config(cluster, lease, node, slots)).spawn()
}

fn config(cluster: &Cluster, lease: &Standalone, node: Node, slots: &[&Tagged]) -> String {
    let slots: Vec<String> = slots.iter().map(|tagged| tagged.slot.to_string()).collect();
    settings(
        cluster,
        &format!(
            "[schedule]\npoll = \"100ms\"\n[migration]\ncall_timeout = \"700ms\"\nbatch_keys_max = 1\n[lease]\n\
             address = \"{}\"\nttl = \"3s\"\n[[targets.nodes]]\nnode = \"{}\"\nslots = \"{}\"\n",
            lease.address(),
            cluster.node_id(node),
            slots.join(",")
        ),
    )
}

fn status(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.http_get("/api/v1/status")).expect("the API speaks JSON")
}

fn await_status(daemon: &Daemon, is_so: impl Fn(&Value) -> bool) -> Value {
    daemon.await_http("/api/v1/status", SOON, |body| serde_json::from_str(body).is_ok_and(|status| is_so(&status)));
    status(daemon)
}

fn has_lease(status: &Value) -> bool {
    status["lease"]["ours"] == true
}

/// Whether some keys of a slot have moved, and not all.
fn await_half_moved(cluster: &Cluster, tagged: &Tagged, at: Node) {
    eventually("the slot is half moved", SOON, || match cluster.keys_in(at, tagged.slot) {
        0 | KEYS => Err("it is not".to_owned()),
        keys if keys > KEYS - 100 => Err(format!("{keys} are left")),
        _ => Ok(()),
    });
}

fn await_owner(cluster: &Cluster, tagged: &Tagged, node: Node) {
    eventually("the slot has moved", SOON, || {
        let owned = cluster.view(node)?.slots_of(cluster.node_id(node));
        if owned.contains(tagged.slot) { Ok(()) } else { Err(format!("open: {:?}", cluster.open_slots()?)) }
    });
}

#[test]
fn a_holder_that_dies_is_succeeded_within_the_lease_and_its_open_slot_finished() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let lease = Standalone::start(Flavour::Valkey91);
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, first, 0, KEYS);
    let mut holder = start(&cluster, &lease, second, &[&tagged]);
    let instance = await_status(&holder, has_lease)["instance"].as_str().expect("a name").to_owned();
    let mut other = start(&cluster, &lease, second, &[&tagged]);
    let waiting = await_status(&other, |status| status["reasons"][0]["name"] == "lease_held");
    assert!(waiting["reasons"][0]["text"].as_str().is_some_and(|text| text.contains(&instance)), "{waiting}");
    assert_eq!(waiting["lease"]["holder"], instance.as_str());
    // A command takes part, and does not wait.
    let call = Evenkeel::new(&["rebalance"]).config(&config(&cluster, &lease, second, &[&tagged]));
    call.run_to_end().assert(1, &[&instance, "has the lease"]);

    await_half_moved(&cluster, &tagged, first);
    holder.kill9();
    let died = Instant::now();
    await_status(&other, has_lease);
    // Its own lease began before it died; the other one asks five times as often as a lease lasts. The machine may be busy.
    assert!(died.elapsed() < TTL * 2, "the lease was taken over after {:?}", died.elapsed());
    await_owner(&cluster, &tagged, second);
    assert!(other.stderr().contains("open slots of the last holder of the lease are finished first"));
    assert!(died.elapsed() < Duration::from_mins(1), "nobody waited until the slot could be adopted");
    tagged.verify(&cluster);

    // Who ends in order gives it back at once.
    let next = start(&cluster, &lease, second, &[&tagged]);
    await_status(&next, |status| status["reasons"][0]["name"] == "lease_held");
    other.sigterm();
    other.output(SOON).assert(0, &["no slot is open"]);
    let instance = await_status(&next, has_lease)["instance"].as_str().expect("a name").to_owned();

    // A repair takes it for as long as it works.
    let repair = || Evenkeel::new(&["repair"]).config(&config(&cluster, &lease, second, &[&tagged])).run_to_end();
    cluster.cmd::<()>(first, &["CLUSTER", "SETSLOT", "0", "MIGRATING", &cluster.node_id(second).to_string()]);
    repair().assert(1, &[&instance, "has the lease"]);
    drop(next);
    eventually("the repair has the lease", SOON, || {
        let Output { status, stdout, stderr } = repair();
        if status == Some(0) && stdout.contains("(row 3)") {
            Ok(())
        } else {
            Err(format!("{status:?} {stdout}{stderr}"))
        }
    });
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
}

/// How often moving commands were called at all nodes: of `MIGRATE` and of `SETSLOT`.
fn calls(cluster: &Cluster) -> (u64, u64) {
    let of = |name: &str| {
        let of_node = |node| {
            let stats: String = cluster.cmd(node, &["INFO", "commandstats"]);
            let line =
                stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls=").map(str::to_owned));
            line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        cluster.nodes().into_iter().map(of_node).sum()
    };
    (of("cmdstat_migrate"), of("cmdstat_cluster|setslot"))
}

#[test]
fn a_holder_that_was_frozen_changes_nothing_after_it_was_succeeded() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91));
    let lease = Standalone::start(Flavour::Redis70);
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, first, 0, KEYS);
    let mut frozen = start(&cluster, &lease, second, &[&tagged]);
    await_status(&frozen, has_lease);
    await_half_moved(&cluster, &tagged, first);
    frozen.sigstop();
    let other = start(&cluster, &lease, second, &[&tagged]);
    let instance = await_status(&other, has_lease)["instance"].clone();
    await_owner(&cluster, &tagged, second);
    await_status(&other, |status| status["reasons"] == serde_json::json!([]) && status["work"]["active"] == false);
    let before = calls(&cluster);

    frozen.sigcont();
    let thawed = await_status(&frozen, |status| status["reasons"][0]["name"] == "lease_held");
    assert_eq!(thawed["lease"]["holder"], instance);
    let looks = thawed["look"]["number"].as_u64().expect("looks are counted");
    await_status(&frozen, |status| status["look"]["number"].as_u64() > Some(looks + 10));
    let after = calls(&cluster);
    assert_eq!(after.1, before.1, "marks and owners that were changed by one without the lease");
    // One call may have been on its way into the socket when it was frozen: a key that has left its source.
    assert!(after.0 <= before.0 + 1, "{before:?} calls before it went on, {after:?} after");
    tagged.verify(&cluster);
    frozen.sigterm();
    frozen.output(SOON).assert(0, &["no slot is open"]);
}

#[test]
fn without_its_server_the_lease_is_lost_and_what_is_open_stays_open_until_it_is_back() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let lease = Standalone::start(Flavour::Redis70);
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, first, 0, KEYS);
    let daemon = start(&cluster, &lease, second, &[&tagged]);
    await_half_moved(&cluster, &tagged, first);
    lease.sigstop();
    let lost = await_status(&daemon, |status| status["reasons"][0]["name"] == "lease_lost");
    assert!(lost["lease"]["error"].is_string(), "{lost}");
    await_status(&daemon, |status| status["moves"] == serde_json::json!([]));
    let before = (cluster.keys_in(first, tagged.slot), calls(&cluster));
    // Longer than anything that was under way could take.
    thread::sleep(TTL / 2);
    assert_eq!((cluster.keys_in(first, tagged.slot), calls(&cluster)), before);
    assert_eq!(cluster.open_slots().expect("all answer").len(), 2, "both marks are there");
    assert!(daemon.http_get("/metrics").contains("evenkeel_lease_remaining_seconds{cluster=\"story\"} 0\n"));
    lease.sigcont();
    await_owner(&cluster, &tagged, second);
    tagged.verify(&cluster);
}
