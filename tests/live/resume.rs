//! Slots that evenkeel finds half moved, whoever left them so: each is brought to its end, and no key is lost.

use std::collections::BTreeMap;

use crate::support::{
    Cluster, Data, Evenkeel, Flavour, HASTY, Node, SOON, Spec, Tagged, directory, eventually, settings,
};

const KEYS: usize = 20;

/// One slot that was left half moved.
struct Found {
    /// What is left of the move.
    how: &'static str,
    tagged: Tagged,
    /// Who is to have it in the end.
    heir: Node,
    /// Whether any node still shows a mark.
    marked: bool,
}

/// Targets by which these slots belong to this node. Without them a run that has finished them may go on to level the
/// cluster to the last slot, with one of these as well as with any other.
fn pinned(cluster: &Cluster, node: Node, slots: &[&Tagged]) -> String {
    let slots: Vec<String> = slots.iter().map(|tagged| tagged.slot.to_string()).collect();
    format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{}\"\n", cluster.node_id(node), slots.join(","))
}

/// Leaves slots half moved from one node to another, in every way in which a mover can die.
fn leave_half_moved(cluster: &Cluster, flavour: Flavour, from: Node, to: Node) -> Vec<Found> {
    let mut number = 0;
    let mut fill = || {
        number += 1;
        Tagged::fill(cluster, from, number, KEYS)
    };
    let set_slot = |node: Node, tagged: &Tagged, words: &[&str]| {
        let slot = tagged.slot.to_string();
        let args: Vec<&str> = ["CLUSTER", "SETSLOT", &slot].into_iter().chain(words.iter().copied()).collect();
        cluster.cmd::<()>(node, &args);
    };
    let (from_id, to_id) = (cluster.node_id(from).to_string(), cluster.node_id(to).to_string());
    let open = |tagged: &Tagged, keys: usize| {
        cluster.open_slot(tagged.slot, from, to);
        assert_eq!(cluster.migrate_keys(tagged.slot, from, to, keys), keys);
    };
    let mut found = Vec::new();
    let mut left = |how, tagged, heir, marked| found.push(Found { how, tagged, heir, marked });

    let tagged = fill();
    open(&tagged, KEYS / 2);
    left("half of its keys moved", tagged, to, true);

    let tagged = fill();
    open(&tagged, KEYS / 2);
    copy_one_key(cluster, &tagged, from, to);
    left("half of its keys moved, one key on both ends", tagged, to, true);

    let tagged = fill();
    open(&tagged, KEYS);
    left("all of its keys moved", tagged, to, true);

    let tagged = fill();
    set_slot(from, &tagged, &["MIGRATING", &to_id]);
    left("marked at the source only", tagged, to, true);

    let tagged = fill();
    open(&tagged, KEYS / 2);
    set_slot(to, &tagged, &["STABLE"]);
    left("half of its keys moved, marked at the source only", tagged, to, true);

    let tagged = fill();
    set_slot(to, &tagged, &["IMPORTING", &from_id]);
    left("marked at the target only, and empty there", tagged, from, true);

    let tagged = fill();
    open(&tagged, KEYS / 2);
    set_slot(from, &tagged, &["STABLE"]);
    left("half of its keys moved, marked at the target only", tagged, to, true);

    let tagged = fill();
    open(&tagged, KEYS);
    set_slot(to, &tagged, &["NODE", &to_id]);
    // Valkey takes the source's mark away when it hears of the new owner; Redis leaves it for ever.
    let stale = match flavour {
        Flavour::Redis62 | Flavour::Redis70 | Flavour::Redis82 | Flavour::Redis86 => true,
        Flavour::Valkey81 | Flavour::Valkey91 => false,
    };
    left("given to the target, the source not told", tagged, to, stale);
    found
}

/// What a `MIGRATE` without an answer may leave.
fn copy_one_key(cluster: &Cluster, tagged: &Tagged, from: Node, to: Node) {
    let slot = tagged.slot.to_string();
    let keys: Vec<String> = cluster.cmd(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
    let target = cluster.announced(to);
    let port = target.port.to_string();
    cluster.cmd::<()>(from, &["MIGRATE", &target.host, &port, "", "0", "5000", "COPY", "KEYS", &keys[0]]);
}

fn check_half_moved_slots(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let data = Data::fill_database(&cluster, 5_000, 0);
    // The first node is a source and a target.
    let mut found = leave_half_moved(&cluster, flavour, first, second);
    found.extend(leave_half_moved(&cluster, flavour, third, first));
    cluster.slots_of(first);

    let pins = [first, second, third].map(|node| {
        let of_node = found.iter().filter(|found| found.heir == node).map(|found| &found.tagged);
        pinned(&cluster, node, &of_node.collect::<Vec<_>>())
    });
    let config = settings(&cluster, &format!("{HASTY}{}", pins.concat()));
    let check = || Evenkeel::new(&["check"]).config(&config).run_to_end();
    let open: Vec<String> =
        found.iter().filter(|found| found.marked).map(|found| format!("slot {} is open", found.tagged.slot)).collect();
    let each = Evenkeel::new(&["check", "--json"]).config(&config).run_to_end();
    each.assert(2, &open.iter().map(String::as_str).collect::<Vec<_>>());
    // For people those that are alike stand together.
    let lines = check().exited(2).lines().filter(|line| line.starts_with("found: open_slot: ")).count();
    assert!(lines < open.len(), "{lines} lines of {} slots", open.len());
    Evenkeel::new(&["rebalance"]).config(&config).run_to_end().assert(0, &[]);
    check().assert(0, &["no slot is open"]);

    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    for Found { how, tagged, heir, .. } in &found {
        assert!(cluster.slots_of(*heir).contains(tagged.slot), "slot {}, {how}, is not at its heir", tagged.slot);
        tagged.verify(&cluster);
    }
    data.verify_all(&cluster);
}

/// Two values for one key: nobody but a human can tell which is right.
fn check_a_conflict(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2));
    let [first, second] = cluster.primaries()[..] else { panic!("two primaries") };
    let conflicting = Tagged::fill(&cluster, first, 1, KEYS);
    let other = Tagged::fill(&cluster, first, 2, KEYS);
    for tagged in [&conflicting, &other] {
        cluster.open_slot(tagged.slot, first, second);
        cluster.migrate_keys(tagged.slot, first, second, KEYS / 2);
    }
    copy_one_key(&cluster, &conflicting, first, second);
    let slot = conflicting.slot.to_string();
    let keys: Vec<String> = cluster.cmd(first, &["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
    cluster.cmd::<()>(first, &["SET", &keys[0], "newer"]);

    let pins = pinned(&cluster, second, &[&conflicting, &other]);
    let config = settings(&cluster, &format!("{HASTY}[migration]\nretry_delay = \"100ms\"\n{pins}"));
    let output = Evenkeel::new(&["rebalance"]).config(&config).run_to_end();
    output.assert(2, &[&format!("1 keys of slot {slot} differ"), "a human must decide"]);
    assert_eq!(cluster.open_slots().map(|open| open.len()), Ok(2), "the one slot, with both of its marks");
    assert_eq!(cluster.cmd::<String>(first, &["GET", &keys[0]]), "newer");
    assert!(cluster.slots_of(second).contains(other.slot), "the other slot is held up");
    other.verify(&cluster);
}

/// Slots that an evenkeel with a journal left open are its own at the next start.
fn check_own_slots(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let [source, target, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, source, 0, 20_000);
    let (slot, to) = (tagged.slot.to_string(), cluster.address(target).to_string());
    let state = directory("state");
    let patient = "[schedule]\npoll = \"100ms\"\nadopt_after = \"1h\"\nforeign_quiet = \"1s\"\n";
    let journal = format!("{patient}[state]\ndir = \"{}\"\n", state.path().display());
    let key_by_key = settings(&cluster, &format!("{journal}[migration]\nbatch_keys_max = 1\n"));
    let mut run = Evenkeel::new(&["move", "--slots", &slot, "--to", &to]).config(&key_by_key).spawn_command();
    eventually("keys move", SOON, || {
        let moved = cluster.keys_in(target, tagged.slot);
        if moved > 100 { Ok(()) } else { Err(format!("{moved} moved")) }
    });
    run.kill9();
    let left = cluster.open_slots().expect("all nodes answer");
    assert_eq!(left.len(), 2, "{left:?}");

    // Without the journal they are somebody else's.
    let mut stranger = Evenkeel::new(&["run"]).config(&settings(&cluster, patient)).spawn();
    let status = stranger.await_http("/api/v1/status", SOON, |status| status.contains("\"foreign_open_slots\""));
    assert!(status.contains(&slot), "{status}");
    stranger.sigterm();
    stranger.output(SOON).assert(0, &[]);
    assert_eq!(cluster.open_slots().as_ref(), Ok(&left));

    let pinned = format!("{journal}{}", pinned(&cluster, target, &[&tagged]));
    Evenkeel::new(&["rebalance"]).config(&settings(&cluster, &pinned)).run_to_end().assert(0, &[]);
    assert!(cluster.slots_of(target).contains(tagged.slot));
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    tagged.verify(&cluster);
}

/// What a daemon with nothing to do sends.
const ONLY_LOOKS: &[&str] = &[
    "auth",
    "client",
    "client|id",
    "client|list",
    "client|setinfo",
    "client|setname",
    "cluster|getslotmigrations",
    "cluster|info",
    "cluster|myid",
    "cluster|nodes",
    "command|info",
    "config|get",
    "hello",
    "info",
    "ping",
];

fn check_a_settled_cluster(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).empty_primaries(1));
    let data = Data::fill_database(&cluster, 5_000, 0);
    let config = settings(&cluster, HASTY);
    Evenkeel::new(&["rebalance"]).config(&config).run_to_end().assert(0, &["done: "]);
    data.verify_all(&cluster);
    Evenkeel::new(&["rebalance"]).config(&config).run_to_end().assert(0, &["nothing to move"]);

    let calls = || -> Vec<BTreeMap<String, u64>> {
        cluster.nodes().into_iter().map(|node| calls(&cluster.cmd::<String>(node, &["INFO", "commandstats"]))).collect()
    };
    let before = calls();
    let mut daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    let looks =
        |status: &str| status.split_once("\"number\":").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    daemon.await_http("/api/v1/status", SOON, |status| looks(status).is_some_and(|n: u64| n >= 5));
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
    for (before, after) in before.iter().zip(calls()) {
        let sent: Vec<&String> = after
            .iter()
            .filter(|(name, calls)| before.get(*name) != Some(calls))
            .map(|(name, _)| name)
            .filter(|name| !ONLY_LOOKS.contains(&name.as_str()))
            .collect();
        assert_eq!(sent, Vec::<&String>::new(), "sent by a daemon with nothing to do");
        assert!(after["info"] >= before["info"] + 5, "the daemon looked");
    }
}

/// How often each command was called, by `INFO commandstats`.
fn calls(commandstats: &str) -> BTreeMap<String, u64> {
    let call = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    commandstats.lines().filter_map(call).collect()
}

#[test]
fn slots_that_others_left_half_moved_are_finished_on_redis_7_0() {
    check_half_moved_slots(Flavour::Redis70);
}

#[test]
fn slots_that_others_left_half_moved_are_finished_on_valkey_9_1() {
    check_half_moved_slots(Flavour::Valkey91);
}

#[test]
fn a_key_with_two_values_is_left_to_a_human_and_holds_no_other_slot_up() {
    check_a_conflict(Flavour::Redis82);
}

#[test]
fn open_slots_on_record_are_finished_at_once_on_redis_7_0() {
    check_own_slots(Flavour::Redis70);
}

#[test]
fn open_slots_on_record_are_finished_at_once_on_valkey_9_1() {
    check_own_slots(Flavour::Valkey91);
}

#[test]
fn a_daemon_with_nothing_to_do_only_looks_on_redis_7_0() {
    check_a_settled_cluster(Flavour::Redis70);
}

#[test]
fn a_daemon_with_nothing_to_do_only_looks_on_valkey_9_1() {
    check_a_settled_cluster(Flavour::Valkey91);
}
