//! Beside others: another evenkeel, somebody else's moves, and nodes that come and go.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use evenkeel::cluster::Slot;

use crate::support::{
    Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Node, Options, Points, SOON, Spec, Tagged, Verifier,
    adopting_nothing, directory, eventually, settings,
};

fn start_daemon(config: &str) -> Daemon {
    Evenkeel::new(&["run"]).config(config).spawn()
}

fn await_status(daemon: &Daemon, text: &str) -> String {
    daemon.await_http("/api/v1/status", SOON, |status| status.contains(text))
}

/// Ends a daemon that is at rest.
fn end(mut daemon: Daemon) {
    daemon.sigterm();
    daemon.output(SOON).assert(0, &["no slot is open"]);
}

#[test]
fn a_second_evenkeel_that_would_act_gives_way_to_the_first() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let first = cluster.address(cluster.primaries()[0]).to_string();
    let config = settings(&cluster, HASTY);
    let daemon = start_daemon(&config);
    await_status(&daemon, "\"reasons\":[]");
    let instance = daemon.http_get("/api/v1/status");
    let instance = instance.split_once("\"instance\":\"").and_then(|(_, rest)| rest.split('"').next());
    let instance = instance.expect("a status names its instance");

    let weight = format!("{first}=2");
    let second = Evenkeel::new(&["rebalance", "--weight", &weight]).config(&config);
    second.clone().run_to_end().assert(1, &["another evenkeel", &format!("evenkeel:acting:{instance}")]);
    let to_first = ["move", "--slots", "10000", "--to", &first];
    Evenkeel::new(&to_first).config(&config).run_to_end().assert(1, &["another evenkeel", instance]);
    assert_eq!(cluster.slots_of(cluster.primaries()[0]).len(), 5461);
    // Looking is not acting.
    Evenkeel::new(&["plan", "--weight", &weight]).config(&config).run_to_end().assert(2, &[]);
    end(daemon);
    second.run_to_end().assert(0, &["done: "]);

    let observing = Evenkeel::new(&["run", "--observe"]).config(&config).spawn();
    await_status(&observing, "\"observing\"");
    Evenkeel::new(&["rebalance"]).config(&config).run_to_end().assert(0, &["done: "]);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 5461)).collect::<Vec<_>>());
    end(observing);
}

/// Slots that a daemon has open at this moment look like nobody's to whoever comes beside it.
#[test]
fn a_command_beside_a_daemon_at_work_is_told_of_the_daemon_and_not_of_its_slots() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 2_000, 0);
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY));
    let (points, call) = Points::order(call, "migrate.before=pause@20");
    let daemon = call.spawn();
    points.await_reached("migrate.before");
    let seed = cluster.address(cluster.primaries()[0]).to_string();
    let beside = Evenkeel::new(&["rebalance", "--seed", &seed]).run_to_end();
    beside.assert(1, &["another evenkeel acts on this cluster", "stop one of the two"]);
    assert!(!beside.stdout.contains("human") && !beside.stdout.contains("open"), "{}", beside.stdout);
    points.go("migrate.before");
    await_status(&daemon, "\"reasons\":[],\"moves\":[]");
    end(daemon);
    data.verify_all(&cluster);
}

/// Two must not finish one slot, whoever has it on record.
#[test]
fn slots_on_record_that_another_evenkeel_has_adopted_are_left_to_it() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let data = Data::fill_database(&cluster, 2_000, 0);
    let state = directory("state");
    // It has no need to be quick while the second one stands still.
    let schedule = adopting_nothing();
    let with_journal = settings(&cluster, &format!("{schedule}[state]\ndir = \"{}\"\n", state.path().display()));
    let (points, call) = Points::order(Evenkeel::new(&["run"]).config(&with_journal), "migrate.before=pause@20");
    let mut first = call.spawn();
    points.await_reached("migrate.before");
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY));
    let (points, call) = Points::order(call, "migrate.before=pause@1");
    let second = call.spawn();
    await_status(&second, "\"other_instance\"");
    first.kill9();
    points.await_reached("migrate.before");

    let third = Evenkeel::new(&["run"]).config(&with_journal).spawn();
    await_status(&third, "\"other_instance\"");
    let left = "another evenkeel has come meanwhile; open slots of an earlier run are left to it";
    assert!(third.stderr().contains(left), "{}", third.stderr());
    points.go("migrate.before");
    for daemon in [&second, &third] {
        await_status(daemon, "\"reasons\":[],\"moves\":[]");
    }
    assert!(!third.stderr().contains("slots moved"), "{}", third.stderr());
    end(second);
    end(third);
    data.verify_all(&cluster);
}

/// As `redis-cli --cluster del-node` does it, with the server left running.
#[test]
fn a_node_that_was_taken_out_of_the_cluster_and_runs_on_stops_nothing() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let (id, address) = (cluster.node_id(empty).to_string(), cluster.address(empty).to_string());
    let all_seeds = settings(&cluster, HASTY);
    let first = cluster.address(cluster.primaries()[0]);
    let one_seed = format!("[cluster]\nname = \"story\"\nseeds = [\"{first}\"]\n{HASTY}");
    let observing = |config: &str| Evenkeel::new(&["run", "--observe"]).config(config).spawn();
    let [seeded, unseeded] = [&all_seeds, &one_seed].map(|config| observing(config));
    for daemon in [&seeded, &unseeded] {
        daemon.await_http("/api/v1/topology", SOON, |topology| topology.contains(&id));
    }
    for node in cluster.primaries() {
        cluster.cmd::<()>(node, &["CLUSTER", "FORGET", &id]);
    }
    cluster.cmd::<()>(empty, &["CLUSTER", "RESET", "SOFT"]);
    // Who was told of it as a seed says that it is in no cluster; to the other one it has left.
    let told = format!("{address} ({}), a seed, knows no other node, and none knows it: ", &id[..8]);
    await_status(&seeded, &told);
    unseeded.await_http("/api/v1/topology", SOON, |topology| !topology.contains(&id));
    let status = unseeded.http_get("/api/v1/status");
    assert!(status.contains("\"warnings\":[]"), "{status}");
    for daemon in [seeded, unseeded] {
        let status = daemon.http_get("/api/v1/status");
        assert!(!status.contains("two_clusters") && !status.contains("views_disagree"), "{status}");
        daemon.await_http("/api/v1/plan", SOON, |plan| plan.contains("\"slots_to_move\":0"));
        end(daemon);
    }
}

/// Draining a primary empties that one and no other, although it becomes a replica of a node that took its slots.
fn check_a_drain(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).primaries(4));
    let data = Data::fill_database(&cluster, 2_000, 0);
    let [first, second, third, drained] = cluster.primaries()[..] else { panic!("four primaries") };
    let level = [(first, 5461), (second, 5461), (third, 5461)];
    let id = cluster.node_id(drained).to_string();
    let config = settings(&cluster, HASTY);
    let drain = Evenkeel::new(&["rebalance", "--drain", &id]).config(&config);
    drain.clone().run_to_end().assert(0, &["done: 4096 slots"]);
    cluster.assert_settled(&level);
    // It has become a replica already, unless it heard from evenkeel of the new owner sooner than from that owner.
    let id_of_first = cluster.node_id(first).to_string();
    if cluster.cluster_nodes_text(drained).contains("myself,master") {
        cluster.cmd::<()>(drained, &["CLUSTER", "REPLICATE", &id_of_first]);
    }
    eventually("all know that it is a replica", SOON, || {
        let id = cluster.node_id(drained);
        let knows = |node| Ok(cluster.view(node)?.members.iter().any(|member| member.id == id && member.is("slave")));
        let know: Vec<bool> = cluster.nodes().into_iter().map(knows).collect::<Result<_, String>>()?;
        if know.iter().all(|knows| *knows) { Ok(()) } else { Err(format!("{know:?}")) }
    });
    for _ in 0..2 {
        drain.clone().run_to_end().assert(0, &["nothing to move"]);
    }
    let plan = Evenkeel::new(&["plan", "--drain", &id]).config(&config);
    plan.run_to_end().assert(0, &[]);

    let entry = format!("[[targets.nodes]]\nnode = \"{id}\"\ndrain = true\n");
    let daemon = start_daemon(&settings(&cluster, &format!("{HASTY}{entry}")));
    await_status(&daemon, "\"reasons\":[]");
    cluster.assert_settled(&level);
    end(daemon);
    data.verify_all(&cluster);
}

#[test]
fn a_drained_primary_takes_no_other_with_it_on_redis_7_0() {
    check_a_drain(Flavour::Redis70);
}

#[test]
fn a_drained_primary_takes_no_other_with_it_on_valkey_9_1() {
    check_a_drain(Flavour::Valkey91);
}

/// Patient enough with others to be caught if it were not.
const PATIENT: &str = "[schedule]\npoll = \"100ms\"\nadopt_after = \"3s\"\nforeign_quiet = \"3s\"\n";

fn check_a_foreign_open_slot(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).empty_primaries(1));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let empty = cluster.empty_primaries()[0];
    let tagged = Tagged::fill(&cluster, first, 0, 200);
    cluster.open_slot(tagged.slot, first, second);

    let daemon = start_daemon(&settings(&cluster, PATIENT));
    let status = await_status(&daemon, "\"foreign_open_slots\"");
    assert!(status.contains(&format!("slot {} is open", tagged.slot)), "{status}");
    // Somebody is at work, twice as long as the daemon's patience lasts with one who is not.
    let mut moved = 0;
    while moved < 120 {
        moved += cluster.migrate_keys(tagged.slot, first, second, 2);
        thread::sleep(Duration::from_millis(100));
        assert!(cluster.view(empty).expect("it answers").slots_of(cluster.node_id(empty)).is_empty());
        let open = cluster.open_slots().expect("all nodes answer");
        assert_eq!(open.len(), 2, "nothing else is opened: {open:?}");
        assert_eq!(cluster.keys_in(first, tagged.slot), 200 - moved, "nobody else moves its keys");
    }
    // He goes away without a word.
    eventually("the slot is finished, and then the cluster levelled", SOON, || {
        let level = cluster.view(empty)?.slots_of(cluster.node_id(empty)).len() == 4096;
        if level { Ok(()) } else { Err(format!("open slots: {:?}", cluster.open_slots()?)) }
    });
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    assert!(daemon.stderr().contains("slots moved"));
    tagged.verify(&cluster);
    end(daemon);
}

/// What evenkeel itself asks, of whether it may move slots, is nobody else's moving.
fn check_an_idle_open_slot(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, first, 0, 20);
    cluster.open_slot(tagged.slot, first, second);
    cluster.migrate_keys(tagged.slot, first, second, 5);
    let once = "[schedule]\npoll = \"100ms\"\nadopt_after = \"3s\"\nforeign_quiet = \"1h\"\n";
    let daemon = start_daemon(&settings(&cluster, once));
    eventually("the slot is finished", SOON, || {
        let open = cluster.open_slots()?;
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    });
    assert!(!daemon.stderr().contains("foreign_move"), "{}", daemon.stderr());
    tagged.verify(&cluster);
    end(daemon);
}

#[test]
fn a_slot_that_nobody_touches_is_finished_after_its_time_on_redis_7_0() {
    check_an_idle_open_slot(Flavour::Redis70);
}

#[test]
fn a_slot_that_nobody_touches_is_finished_after_its_time_on_valkey_9_1() {
    check_an_idle_open_slot(Flavour::Valkey91);
}

fn check_a_foreign_mover(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).empty_primaries(1));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let empty = cluster.empty_primaries()[0];
    let data = Data::fill_database(&cluster, 5_000, 0);
    let verifier = Verifier::start(&cluster, Options { keys_per_task: 50, ..Options::default() });
    let number = |number: u16| Slot::new(number).expect("a slot's number");
    let (daemon, done) = thread::scope(|scope| {
        let mover = scope.spawn(|| {
            for slot in (0..400).map(number) {
                cluster.move_slot(slot, first, second);
                thread::sleep(Duration::from_millis(10));
            }
            Instant::now()
        });
        eventually("the mover is at work", SOON, || {
            let slots = cluster.view(second)?.slots_of(cluster.node_id(second));
            if slots.contains(number(0)) { Ok(()) } else { Err("he has moved nothing yet".to_owned()) }
        });
        let daemon = start_daemon(&settings(&cluster, PATIENT));
        await_status(&daemon, "\"foreign_move\"");
        (daemon, mover.join().expect("no command of the mover was refused"))
    });
    let status = await_status(&daemon, "\"foreign_move\"");
    assert!(status.contains("somebody else moved slots a moment ago"), "{status}");
    eventually("evenkeel moves slots", SOON, || {
        let slots = cluster.view(empty)?.slots_of(cluster.node_id(empty));
        if slots.is_empty() { Err("it waits".to_owned()) } else { Ok(()) }
    });
    // From the daemon's last look that saw a change, which was one before he ended or a moment after.
    assert!(done.elapsed() > Duration::from_millis(2_500), "evenkeel waited for {:?} only", done.elapsed());
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    verifier.stop().assert_clean();
    data.verify_all(&cluster);
    end(daemon);
}

/// By the servers' own tool, beside a daemon that would have the slots elsewhere, and takes them there once it may.
#[test]
fn a_reshard_by_redis_cli_beside_a_daemon_finishes_undisturbed() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [first, second, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let data = Data::fill_database(&cluster, 5_000, 0);
    let verifier = Verifier::start(&cluster, Options { keys_per_task: 50, ..Options::default() });
    let daemon = start_daemon(&settings(&cluster, PATIENT));
    await_status(&daemon, "\"reasons\":[]");
    let (seed, before) = (cluster.address(first).to_string(), cluster.slots_of(second).len());
    let [from, to] = [first, second].map(|node| cluster.node_id(node).to_string());
    let from_to = ["--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", "600", "--cluster-yes"];
    let cli = Flavour::Redis70.server().with_file_name("redis-cli");
    let resharding =
        Command::new(cli).args(["--cluster", "reshard", &seed]).args(from_to).stdin(Stdio::null()).output();
    let resharding = resharding.expect("redis-cli can be run");
    assert!(resharding.status.success(), "{}", String::from_utf8_lossy(&resharding.stdout));
    assert_eq!(cluster.slots_of(second).len(), before + 600, "evenkeel has moved slots beside it");
    await_status(&daemon, "\"foreign_move\"");
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 5461)).collect::<Vec<_>>());
    verifier.stop().assert_clean();
    data.verify_all(&cluster);
    end(daemon);
}

/// Somebody's finalise may follow at once, and two that share a node may cost keys.
#[test]
fn nothing_is_finished_at_a_node_where_somebody_else_has_just_opened_a_slot() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [source, target, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let [ours, theirs] = [0, 1].map(|number| Tagged::fill(&cluster, source, number, 20));
    let pin = format!("[[targets.nodes]]\nnode = \"{}\"\nslots = \"{}\"\n", cluster.node_id(target), ours.slot);
    let patience = "[schedule]\npoll = \"100ms\"\nadopt_after = \"1h\"\nforeign_quiet = \"1s\"\n";
    let call = Evenkeel::new(&["run"]).config(&settings(&cluster, &format!("{patience}{pin}")));
    let (points, call) = Points::order(call, "take_finalise.after=pause@1");
    let daemon = call.spawn();
    points.await_reached("take_finalise.after");
    cluster.open_slot(theirs.slot, source, third);
    points.go("take_finalise.after");
    eventually("the move waits", SOON, || {
        let log = daemon.stderr();
        if log.contains("class=\"foreign_mark\"") { Ok(()) } else { Err(log) }
    });
    await_status(&daemon, "\"foreign_open_slots\"");
    assert!(cluster.slots_of(source).contains(ours.slot), "it was given away beside somebody's open slot");
    for node in [source, third] {
        cluster.cmd::<()>(node, &["CLUSTER", "SETSLOT", &theirs.slot.to_string(), "STABLE"]);
    }
    eventually("the slot is the target's", SOON, || {
        let (open, owned) = (cluster.open_slots()?, cluster.slots_of(target));
        if open.is_empty() && owned.contains(ours.slot) { Ok(()) } else { Err(format!("{open:?}")) }
    });
    for tagged in [ours, theirs] {
        tagged.verify(&cluster);
    }
    end(daemon);
}

/// Removes a node for good: every other node is told to forget it.
fn forget(cluster: &Cluster, gone: Node) {
    let id = cluster.node_id(gone).to_string();
    cluster.kill9(gone);
    for node in cluster.nodes().into_iter().filter(|&node| node != gone) {
        cluster.cmd::<()>(node, &["CLUSTER", "FORGET", &id]);
    }
}

#[test]
fn nodes_that_move_slots_by_themselves_are_left_alone_until_they_have_on_valkey_9_1() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).empty_primaries(1));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let empty = cluster.empty_primaries()[0];
    let data = Data::fill_database(&cluster, 2_000, 0);
    // The job runs, and cannot come to its end.
    cluster.cmd::<()>(first, &["DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", "1"]);
    let second_id = cluster.node_id(second).to_string();
    cluster.cmd::<()>(first, &["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", "9", "NODE", &second_id]);
    let check = || Evenkeel::new(&["check"]).config(&settings(&cluster, HASTY)).run_to_end();
    let job =
        format!("CLUSTER MIGRATESLOTS moves slots 0-9 from {} to {}", cluster.node_id(first).short(), &second_id[..8]);
    check().assert(2, &["server_side_job", &job]);

    let daemon = start_daemon(&settings(&cluster, HASTY));
    let status = await_status(&daemon, "\"server_side_job\"");
    assert!(status.contains(&job), "{status}");
    eventually("a node that is not concerned gives", SOON, || {
        let has = cluster.view(empty)?.slots_of(cluster.node_id(empty)).len();
        if has >= 1_365 { Ok(()) } else { Err(format!("{has} slots")) }
    });
    // Asking for permissions is a call that fails; a mark that was set is one that does not.
    let marks = |node| {
        let stats: String = cluster.cmd(node, &["INFO", "commandstats"]);
        let line =
            stats.lines().find(|line| line.starts_with("cmdstat_cluster|setslot:")).unwrap_or_default().to_owned();
        let number = |name: &str| line.split([':', ',']).find_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
        number("calls=").unwrap_or(0) - number("failed_calls=").unwrap_or(0)
    };
    assert_eq!((marks(first), marks(second)), (0, 0), "marks were set at busy nodes");
    assert!(marks(third) > 0);

    cluster.cmd::<()>(first, &["DEBUG", "SLOTMIGRATION", "PREVENT-PAUSE", "0"]);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    await_status(&daemon, "\"reasons\":[]");
    check().assert(0, &[]);
    data.verify_all(&cluster);
    end(daemon);
}

/// Redis 8.4 and newer: the node that is to have the slots fetches them.
#[test]
fn nodes_that_move_slots_by_themselves_are_left_alone_until_they_have_on_redis_8_6() {
    if !Flavour::Redis86.is_here() {
        return;
    }
    let cluster = Cluster::start(Spec::new(Flavour::Redis86).empty_primaries(1));
    let [first, second, third] = cluster.primaries()[..] else { panic!("three primaries") };
    let tagged = Tagged::fill(&cluster, second, 0, 20);
    let slot = tagged.slot.to_string();
    let config = settings(&cluster, HASTY);
    let of_busy =
        || [first, second].map(|node| cluster.view(node).expect("it answers").slots_of(cluster.node_id(node)).len());
    let before = of_busy();
    let evenkeel = |command: &str| Evenkeel::new(&[command]).config(&config).run_to_end();
    // Five seconds for each key that the source sends: it does not come to its end.
    cluster.cmd::<()>(second, &["CONFIG", "SET", "rdb-key-save-delay", "5000000"]);
    cluster.cmd::<String>(first, &["CLUSTER", "MIGRATION", "IMPORT", &slot, &slot]);
    let [first_id, second_id] = [first, second].map(|node| cluster.node_id(node).short());
    let job = format!("CLUSTER MIGRATION moves slots {slot} from {second_id} to {first_id}");
    evenkeel("check").assert(2, &["server_side_job", &job]);
    evenkeel("repair").assert(0, &["nothing to repair"]);
    let daemon = start_daemon(&config);
    let status = await_status(&daemon, "\"server_side_job\"");
    assert!(status.contains(&job), "{status}");
    eventually("a node that is not concerned gives", SOON, || {
        let has = cluster.view(third)?.slots_of(cluster.node_id(third)).len();
        if has < 5_000 { Ok(()) } else { Err(format!("{has} slots")) }
    });
    assert_eq!(of_busy(), before, "busy nodes give nothing");
    cluster.cmd::<usize>(first, &["CLUSTER", "MIGRATION", "CANCEL", "ALL"]);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    await_status(&daemon, "\"reasons\":[]");
    tagged.verify(&cluster);
    end(daemon);
    evenkeel("check").assert(0, &[]);
}

#[test]
fn a_daemon_follows_nodes_that_restart_come_and_go() {
    let mut cluster = Cluster::start(Spec::new(Flavour::Redis70).config(&["--cluster-allow-replica-migration", "no"]));
    let restarted = cluster.primaries()[1];
    let daemon = start_daemon(&settings(&cluster, HASTY));
    await_status(&daemon, "\"reasons\":[]");

    cluster.kill9(restarted);
    let status = await_status(&daemon, "\"node_silent\"");
    assert!(status.contains(&cluster.node_id(restarted).short()), "{status}");
    cluster.restart(restarted);
    await_status(&daemon, "\"reasons\":[]");

    let added = cluster.add_empty_primary();
    let level = |cluster: &Cluster, nodes: &[Node], each: usize| {
        cluster.assert_settled(&nodes.iter().map(|&node| (node, each)).collect::<Vec<_>>());
    };
    level(&cluster, &cluster.nodes(), 4096);

    let entry = format!("[[targets.nodes]]\nnode = \"{}\"\ndrain = true\n", cluster.node_id(added));
    daemon.rewrite_config(&settings(&cluster, &format!("{HASTY}{entry}")));
    level(&cluster, &cluster.primaries(), 5461);
    forget(&cluster, added);
    let gone = cluster.node_id(added).to_string();
    daemon.await_http("/api/v1/topology", SOON, |topology| !topology.contains(&gone));
    await_status(&daemon, "\"target_unmatched\"");
    daemon.rewrite_config(&settings(&cluster, HASTY));
    await_status(&daemon, "\"reasons\":[]");
    level(&cluster, &cluster.primaries(), 5461);
    end(daemon);
}

#[test]
fn somebody_elses_open_slot_is_let_alone_until_nobody_touches_it_on_redis_7_0() {
    check_a_foreign_open_slot(Flavour::Redis70);
}

#[test]
fn somebody_elses_open_slot_is_let_alone_until_nobody_touches_it_on_valkey_9_1() {
    check_a_foreign_open_slot(Flavour::Valkey91);
}

#[test]
fn a_mover_beside_the_daemon_is_not_disturbed_on_redis_7_0() {
    check_a_foreign_mover(Flavour::Redis70);
}

#[test]
fn a_mover_beside_the_daemon_is_not_disturbed_on_valkey_9_1() {
    check_a_foreign_mover(Flavour::Valkey91);
}
