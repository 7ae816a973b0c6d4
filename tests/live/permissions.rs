//! The least that evenkeel's own user must be permitted, and the user as whom a source signs in at a target.
//!
//! The rules below are what the documentation tells operators to type.

use std::fmt::Write as _;
use std::path::Path;
use std::thread;

use crate::support::{Cluster, Evenkeel, Flavour, Spec, Workload, settings};

/// The rules of evenkeel's user on Redis from 7.0 and on Valkey, beside `on`, `>PASSWORD` and `~*`.
///
/// Where keys are in numbered databases it needs `+select` in any case.
const RULES: [&str; 25] = [
    // To look: every poll.
    "+cluster|nodes",
    "+cluster|info",
    "+cluster|myid",
    "+info",
    // To see that nobody else is at work, the servers themselves included, and that time-outs fit.
    "+client|list",
    "+command|info",
    "+config|get",
    // To move.
    "+cluster|setslot",
    "+cluster|countkeysinslot",
    "+cluster|getkeysinslot",
    "+ping",
    "+migrate",
    // To keep a target that was replaced from taking back what its successor has.
    "+cluster|bumpepoch",
    // To compare the copies of a key that is found at both ends.
    "+dump",
    "+asking",
    // To have orders refused that come too late.
    "+time",
    // For these, and to find keys that would hold their node for long.
    "+eval",
    "+memory|usage",
    "+type",
    "+hlen",
    "+scard",
    "+zcard",
    // To compare the functions of both ends.
    "+function|list",
    // To be let in by the target's server: `MIGRATE … AUTH2`, where no other user is named for that.
    "+restore-asking",
    "+select",
];

/// What the user for `MIGRATE … AUTH2` needs at a target where it is another one.
const MOVER_RULES: [&str; 2] = ["+restore-asking", "+select"];

/// What it takes besides, on Valkey, to take a group of slots at once.
const ON_VALKEY: [&str; 2] = ["+cluster|delslots", "+cluster|addslots"];
/// On Valkey 9, to see the migrations that the servers carry out by themselves.
const ON_VALKEY_9: &str = "+cluster|getslotmigrations";

const PASSWORD: &str = "evenkeel's own";

/// Makes a user at every node who may do just this with any key.
fn make_user(cluster: &Cluster, name: &str, rules: &[&str]) {
    let password = format!(">{PASSWORD}");
    let words = ["ACL", "SETUSER", name, "reset", "on", &password, "~*"];
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &[&words, rules].concat());
    }
}

fn signed_in(call: Evenkeel) -> Evenkeel {
    call.env("EVENKEEL_PASSWORD", PASSWORD)
}

/// Asserts that of these rules none can be spared: who lacks one is told so, by the name of the command.
#[track_caller]
fn check_that_each_is_needed(cluster: &Cluster, rules: &[&str]) {
    let empty = cluster.node_id(cluster.empty_primaries()[0]).to_string();
    let without = |rule: &str| {
        let others: Vec<&str> = rules.iter().copied().filter(|other| *other != rule).collect();
        let user = format!("without{}", rule.replace(['+', '|'], "-"));
        make_user(cluster, &user, &others);
        let call = cluster.evenkeel(&["move", "--slots", "0", "--to", &empty, "--username", &user]);
        let output = signed_in(call).run_to_end();
        let said = output.stdout + &output.stderr;
        let (name, command) = (rule.trim_start_matches('+'), rule.trim_start_matches('+').replace('|', " "));
        let named = said.contains(name) || said.to_lowercase().contains(&command);
        (output.status != Some(1) || !named).then(|| format!("{rule}: exit status {:?}, {said}", output.status))
    };
    // Side by side: each spends its time waiting for a second look.
    let unneeded: Vec<String> = thread::scope(|scope| {
        let calls: Vec<_> = rules.iter().map(|rule| scope.spawn(|| without(rule))).collect();
        calls.into_iter().filter_map(|call| call.join().expect("no call panics")).collect()
    });
    assert!(unneeded.is_empty(), "{unneeded:#?}");
}

#[test]
fn the_least_user_levels_redis_7_0_and_none_of_its_rules_can_be_spared() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).empty_primaries(1).password("the default user's"));
    check_that_each_is_needed(&cluster, &RULES);
    let workload = Workload::start(&cluster, 5_000);
    make_user(&cluster, "evenkeel", &RULES);
    let level = |command| signed_in(cluster.evenkeel(&[command, "--username", "evenkeel"])).run_to_end();
    level("plan").exited(2);
    level("rebalance").exited(0);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    level("check").exited(0);
    workload.assert_unharmed(&cluster);
}

#[test]
fn the_least_users_level_valkey_9_1_where_the_source_signs_in_as_another() {
    let cluster = Cluster::start(Spec::new(Flavour::Valkey91).empty_primaries(1).password("the default user's"));
    let workload = Workload::start(&cluster, 5_000);
    let own_rules = RULES.into_iter().filter(|rule| !MOVER_RULES.contains(rule));
    let own_rules: Vec<&str> = own_rules.chain(ON_VALKEY).chain([ON_VALKEY_9]).collect();
    make_user(&cluster, "evenkeel", &own_rules);
    make_user(&cluster, "mover", &MOVER_RULES);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let password_file = directory.path().join("mover");
    std::fs::write(&password_file, PASSWORD).expect("the directory is writable");
    let output = signed_in(Evenkeel::new(&["rebalance"]).config(&config(&cluster, &password_file))).run_to_end();
    output.exited(0);
    cluster.assert_settled(&cluster.nodes().into_iter().map(|node| (node, 4096)).collect::<Vec<_>>());
    workload.assert_unharmed(&cluster);
}

fn config(cluster: &Cluster, mover_password: &Path) -> String {
    let mut text = settings(cluster, "");
    let _ = writeln!(text, "username = \"evenkeel\"\nmigrate_username = \"mover\"");
    let _ = writeln!(text, "migrate_password_file = \"{}\"", mover_password.display());
    text
}
