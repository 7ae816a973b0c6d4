//! What an operator can get wrong, and what can be wrong with the servers: each is said clearly, with the right exit
//! status, and nothing is lost.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{
    Cluster, Daemon, Data, Evenkeel, Flavour, HASTY, Node, Output, SOON, Spec, Standalone, directory, eventually,
    settings,
};

/// Nothing listens on these ports: they belong to services of another age.
const NOBODY: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:7"];

fn run(args: &[&str]) -> Output {
    Evenkeel::new(args).run_to_end()
}

#[test]
fn bad_usage_of_every_command_ends_with_64_and_says_what_is_wrong() {
    let check = |args: &[&str], says: &str| run(args).assert(64, &[says]);
    check(&[], "Usage: evenkeel");
    check(&["rebalence"], "unrecognized subcommand");
    check(&["run"], "--seed");
    check(&["run", "--seed", NOBODY[0], "--listen", "here"], "--listen");
    check(&["plan", "--seed", NOBODY[0], "--threshold", "101"], "from 0 to 100");
    check(&["plan", "--seed", NOBODY[0], "--weight", "2"], "NODE=W");
    check(&["rebalance", "--seed", "localhost"], "host:port");
    check(&["rebalance", "--seed", NOBODY[0], "--drain", "a:1", "--weight", "a:1=2"], "a:1");
    check(&["move", "--seed", NOBODY[0], "--to", "a:1"], "--slots");
    check(&["move", "--seed", NOBODY[0], "--to", "a:1", "--slots", "16384"], "16384");
    check(&["check", "--seed", NOBODY[0], "--password", "secret"], "--password");
    check(&["status", "--url", "127.0.0.1:7380"], "http://host:port");
    check(&["retry", "16384"], "16384");
    check(&["config"], "Usage: evenkeel config");
    check(&["config", "check", "no-such-file.toml"], "no-such-file.toml");
    check(&["demo", "--keys", "0"], "--keys");
}

#[test]
fn a_configuration_is_checked_and_every_fault_is_told_with_its_line() {
    let faulty = r#"[cluster]
seeds = ["nowhere"]
[targets]
threshold_percent = 200
[migration]
block_max = "2 bananas"
paralel = 2
[schedule]
mode = "perhaps"
"#;
    let faults = [
        ":2:10: cluster.seeds",
        ":4:21: targets.threshold_percent: 200",
        ":6:13: migration.block_max: \"2 bananas\"",
        ":7:1: migration.paralel: unknown key; did you mean `parallel`?",
        ":9:8: schedule.mode: \"perhaps\"",
    ];
    for command in ["run", "plan", "rebalance", "check"] {
        Evenkeel::new(&[command]).config(faulty).run_to_end().assert(64, &faults);
    }
    let files = directory("config");
    let check_file = |text: &str, status, says: &[&str]| {
        let path = files.path().join("evenkeel.toml");
        fs::write(&path, text).expect("the directory is writable");
        run(&["config", "check", &path.display().to_string()]).assert(status, says);
    };
    check_file(faulty, 64, &faults);
    let example = run(&["config", "example"]);
    example.assert(0, &["[cluster]"]);
    check_file(&example.stdout, 0, &["nothing is wrong"]);
    let absent = "[cluster]\nseeds = ['a:1']\npassword_file = '/no/such/file'\nusername = 'keel'\n";
    check_file(absent, 64, &["evenkeel.toml:3:1: cluster.password_file: cannot read the password file /no/such/file"]);
}

#[test]
fn servers_that_cannot_be_used_are_named() {
    let [one, other] = NOBODY;
    let standalone = Standalone::start(Flavour::Redis70).address().to_string();
    let standalone_server = Standalone::start(Flavour::Valkey91);
    let alone = standalone_server.address().to_string();
    for command in ["plan", "rebalance", "check"] {
        run(&[command, "--seed", one, "--seed", other]).assert(1, &[one, other]);
        // The first of the two is killed by now.
        run(&[command, "--seed", &standalone]).assert(1, &[&standalone, "cannot connect"]);
        run(&[command, "--seed", &alone]).assert(1, &[&alone, "standalone", "cluster-enabled no"]);
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    run(&["run", "--seed", one, "--listen", &address]).assert(1, &[&address, "in use"]);
}

#[test]
fn a_login_that_is_refused_and_a_seed_that_is_down() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1).password("right"));
    let config = settings(&cluster, HASTY);
    let first = cluster.address(cluster.primaries()[0]).to_string();
    for command in ["plan", "rebalance", "check"] {
        let evenkeel = Evenkeel::new(&[command]).config(&config);
        evenkeel.clone().env("EVENKEEL_PASSWORD", "wrong").run_to_end().assert(1, &[&first, "refuses the login"]);
        evenkeel.run_to_end().assert(1, &[&first, "refuses the login", "NOAUTH"]);
    }
    let with_dead_seed = config.replace("seeds = [", &format!("seeds = [\"{}\", ", NOBODY[0]));
    let right = Evenkeel::new(&["rebalance"]).config(&with_dead_seed).env("EVENKEEL_PASSWORD", "right");
    right.run_to_end().assert(0, &["done: ", NOBODY[0]]);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
}

#[test]
fn nodes_that_do_not_exist_and_two_clusters_behind_one_list_of_seeds() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).primaries(1));
    let other = Cluster::start(Spec::new(Flavour::Redis70).primaries(1));
    let [here, there] = [cluster.address(cluster.primaries()[0]), other.address(other.primaries()[0])];
    let (here, there) = (here.to_string(), there.to_string());
    let entry = "[[targets.nodes]]\nnode = \"10.9.8.7:6379\"\nweight = 2.0\n";
    let config = settings(&cluster, &format!("{HASTY}{entry}"));
    for command in ["plan", "rebalance"] {
        Evenkeel::new(&[command]).config(&config).run_to_end().assert(64, &["10.9.8.7:6379"]);
    }
    run(&["move", "--slots", "0", "--to", "10.9.8.7:6379", "--seed", &here]).assert(64, &["10.9.8.7:6379"]);
    for command in ["plan", "rebalance", "check"] {
        let both = [command, "--seed", &here, "--seed", &there];
        run(&both).assert(1, &[&here, &there, "two clusters"]);
    }
    run(&["check", "--seed", &here]).assert(0, &[]);
}

#[test]
fn a_cluster_that_is_down_is_left_alone() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1).node_timeout(Duration::from_secs(1)));
    let [killed, other, _] = cluster.primaries()[..] else { panic!("three primaries") };
    cluster.kill9(killed);
    eventually("the cluster is down", SOON, || {
        let info: String = cluster.cmd(other, &["CLUSTER", "INFO"]);
        if info.contains("cluster_state:fail") { Ok(()) } else { Err(info) }
    });
    let config = settings(&cluster, &format!("{HASTY}[migration]\nmigrate_timeout = \"200ms\"\n"));
    let id = cluster.node_id(killed).short();
    for command in ["plan", "rebalance"] {
        Evenkeel::new(&[command]).config(&config).run_to_end().assert(1, &[&id, "says that the cluster is down"]);
    }
    for command in [&["check"][..], &["repair", "--dry-run"]] {
        Evenkeel::new(command).config(&config).run_to_end().assert(1, &[&id]);
    }
    Evenkeel::new(&["check"]).config(&config).run_to_end().assert(1, &["cluster_down", "node_silent"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
}

/// A new primary that does not let evenkeel in is no reason to call the cluster level without a word.
#[test]
fn a_plan_names_the_empty_primary_that_it_leaves_out() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1));
    let [empty] = cluster.empty_primaries()[..] else { panic!("one") };
    let left_out = [&format!("primary {}", cluster.node_id(empty).short())[..], "NOAUTH"];
    let plan = |args: &[&str]| Evenkeel::new(args).config(&settings(&cluster, HASTY)).run_to_end();
    cluster.cmd::<()>(empty, &["ACL", "SETUSER", "default", "resetpass", ">pw"]);
    plan(&["plan"]).assert(0, &["nothing to move", "Left out: ", left_out[0], left_out[1]]);
    plan(&["plan", "--json"]).assert(0, &["\"left_out\": [", left_out[0]]);
    let daemon = Evenkeel::new(&["run"]).config(&settings(&cluster, HASTY)).spawn();
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"reasons\":[]"));
    let warning = format!("warning: left out of the plan: {}", left_out[0]);
    daemon.is_told(&["status"], &[&warning, left_out[1]]);
}

/// A permission that is missing is told before anything is opened.
fn check_permissions(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour).empty_primaries(1));
    let data = Data::fill_database(&cluster, 1_000, 0);
    let in_config = settings(&cluster, HASTY).replace("[cluster]", "[cluster]\nusername = \"keel\"");
    let evenkeel = || Evenkeel::new(&["rebalance"]).config(&in_config).env("EVENKEEL_PASSWORD", "pw").run_to_end();
    let may = |rules: &[&str]| {
        for node in cluster.nodes() {
            let mut args = vec!["ACL", "SETUSER", "keel", "reset", "on", ">pw", "~*", "&*", "+@all"];
            args.extend(rules);
            cluster.cmd::<()>(node, &args);
        }
    };
    for (rule, missing) in [("-cluster|setslot", "'+cluster|setslot'"), ("-migrate", "+migrate '~*'")] {
        may(&[rule]);
        evenkeel().assert(1, &[&format!("ACL SETUSER keel {missing}")]);
        assert_eq!(set_slots(&cluster), 0, "a slot was opened");
    }
    may(&["-cluster|setslot", "-migrate", "-restore-asking"]);
    evenkeel().assert(1, &["+cluster|setslot", "+migrate", "+restore-asking"]);
    // What is needed only to look is missed before anything is asked.
    for rule in ["cluster|nodes", "cluster|myid", "info"] {
        may(&[&format!("-{rule}"), "-migrate"]);
        let output = evenkeel();
        output.assert(1, &["ACL SETUSER keel ", &format!("+{rule}"), "+migrate"]);
        // Also where nothing is logged.
        let plan = Evenkeel::new(&["plan"]).config(&in_config).env("EVENKEEL_PASSWORD", "pw").run_to_end();
        plan.assert(1, &["ACL SETUSER keel ", &format!("+{rule}")]);
    }
    may(&["-cluster|countkeysinslot"]);
    let check = Evenkeel::new(&["check"]).config(&in_config).env("EVENKEEL_PASSWORD", "pw").run_to_end();
    check.assert(1, &["not_counted", "ACL SETUSER keel '+cluster|countkeysinslot'"]);

    // A daemon is let go on by the permission alone, and at once.
    may(&["-migrate"]);
    let daemon = Evenkeel::new(&["run"]).config(&in_config).env("EVENKEEL_PASSWORD", "pw").spawn();
    let first = cluster.address(cluster.primaries()[0]).to_string();
    let lacks = |status: &str| status.contains("\"permission_missing\"") && status.contains(&first);
    daemon.await_http("/api/v1/status", SOON, lacks);
    may(&[]);
    let granted = Instant::now();
    daemon.await_http("/api/v1/status", SOON, |status| !status.contains("\"permission_missing\""));
    assert!(granted.elapsed() < Duration::from_secs(15), "it took {:?} to be seen", granted.elapsed());
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    // One that is taken away while it runs is told in the same words.
    may(&["-cluster|setslot"]);
    let url = format!("http://{}", daemon.address());
    Evenkeel::new(&["drain", &first, "--url", &url]).run_to_end().assert(0, &["is to be drained"]);
    let told = Instant::now();
    daemon.await_http("/api/v1/status", SOON, |status| {
        status.contains("\"permission_missing\"") && status.contains("ACL SETUSER keel '+cluster|setslot'")
    });
    // Sooner than the checks are made anew by themselves.
    assert!(told.elapsed() < Duration::from_secs(20), "it took {:?} to be told", told.elapsed());
    may(&[]);
    drop(daemon);
    assert!(set_slots(&cluster) > 0, "the servers count what is sent");
    data.verify_all(&cluster);
}

/// How many `SETSLOT` all nodes have carried out.
fn set_slots(cluster: &Cluster) -> u64 {
    let of_node = |node: Node| -> u64 {
        let stats: String = cluster.cmd(node, &["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_cluster|setslot:"));
        let field = |name: &str| {
            let value = line.and_then(|line| line.split([':', ',']).find_map(|word| word.strip_prefix(name)));
            value.map_or(0, |value| value.parse().expect("a count is a number"))
        };
        // A call that is rejected for want of permission is not among the calls.
        field("calls=") - field("failed_calls=")
    };
    cluster.nodes().into_iter().map(of_node).sum()
}

/// Two primaries with 24 MB of data, and an empty one.
fn heavy_cluster(flavour: Flavour) -> Cluster {
    let cluster = Cluster::start(Spec::new(flavour).primaries(2).empty_primaries(1));
    let mut client = cluster.client().build().and_then(|client| client.get_connection()).expect("a client can connect");
    for number in 0..HEAVY_KEYS {
        let mut set = redis::cmd("SET");
        set.arg(format!("heavy:{number}")).arg("x".repeat(8_000)).exec(&mut client).expect("a client can write");
    }
    cluster
}

const HEAVY_KEYS: usize = 3_000;

fn heavy_keys(cluster: &Cluster) -> usize {
    cluster.nodes().into_iter().map(|node| cluster.cmd::<usize>(node, &["DBSIZE"])).sum()
}

fn set_max_memory(cluster: &Cluster, node: Node, bytes: u64) {
    cluster.cmd::<()>(node, &["CONFIG", "SET", "maxmemory", &bytes.to_string()]);
}

fn info_field(cluster: &Cluster, node: Node, name: &str) -> u64 {
    cluster.info_field(node, name).parse().expect("it is a number")
}

fn check_memory(flavour: Flavour) {
    let cluster = heavy_cluster(flavour);
    let empty = cluster.empty_primaries()[0];
    let slow = "[migration]\nretry_delay = \"100ms\"\nbatch_keys_max = 1\ngroup_slots = 1024\nparallel = 1\n";
    let config = settings(&cluster, &format!("{HASTY}{slow}"));
    let rebalance = || Evenkeel::new(&["rebalance"]).config(&config);
    let id = cluster.node_id(empty).short();

    for policy in ["noeviction", "allkeys-lru"] {
        cluster.cmd::<()>(empty, &["CONFIG", "SET", "maxmemory-policy", policy]);
        set_max_memory(&cluster, empty, info_field(&cluster, empty, "used_memory") + 5_000_000);
        rebalance().run_to_end().assert(2, &[&format!("{id} has no room")]);
        assert_eq!(set_slots(&cluster), 0, "a slot was opened");
        assert_eq!(info_field(&cluster, empty, "evicted_keys"), 0);
        assert_eq!(heavy_keys(&cluster), HEAVY_KEYS);
    }

    cluster.cmd::<()>(empty, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    set_max_memory(&cluster, empty, 0);
    let mut run = rebalance().spawn_command();
    fill_up_in_mid_move(&cluster, empty, &mut run);
    let output = run.output(SOON);
    output.assert(2, &["out of memory", "OOM", "are open, with their marks"]);
    let open = cluster.open_slots().expect("all nodes answer");
    assert!(open.len() >= 2 && open.len().is_multiple_of(2), "marks on both ends: {open:?}");
    assert_eq!(heavy_keys(&cluster), HEAVY_KEYS);

    set_max_memory(&cluster, empty, 0);
    // The rest need not be slow.
    Evenkeel::new(&["rebalance"]).config(&settings(&cluster, HASTY)).run_to_end().assert(0, &["done: "]);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 5461)).collect::<Vec<_>>());
    assert_eq!(heavy_keys(&cluster), HEAVY_KEYS);
}

/// Lowers the limit of a target once it takes keys, to just what it uses.
fn fill_up_in_mid_move(cluster: &Cluster, target: Node, run: &mut Daemon) {
    eventually("keys move", SOON, || {
        assert!(run.runs(), "it ended too early; it wrote:\n{}{}", run.stdout(), run.stderr());
        let keys: usize = cluster.cmd(target, &["DBSIZE"]);
        if keys > 50 { Ok(()) } else { Err(format!("{keys} moved")) }
    });
    set_max_memory(cluster, target, info_field(cluster, target, "used_memory"));
}

#[test]
fn a_missing_permission_is_told_before_a_slot_is_opened_on_redis_7_0() {
    check_permissions(Flavour::Redis70);
}

#[test]
fn a_missing_permission_is_told_before_a_slot_is_opened_on_valkey_9_1() {
    check_permissions(Flavour::Valkey91);
}

#[test]
fn a_target_without_memory_is_refused_and_one_that_fills_up_loses_nothing_on_redis_7_0() {
    check_memory(Flavour::Redis70);
}

#[test]
fn a_target_without_memory_is_refused_and_one_that_fills_up_loses_nothing_on_valkey_9_1() {
    check_memory(Flavour::Valkey91);
}
