//! Open slots of which an end has failed over (Redis, where marks are not replicated), and marks that only a replica has
//! (Valkey, where they are).

use std::time::Duration;

use serde_json::Value;

use super::made::{KEYS, row_of};
use crate::support::{Cluster, Evenkeel, Flavour, Node, SOON, Spec, Tagged, eventually, settings};

/// Kills a primary and waits until its replica has taken its place by the word of all others.
fn fail_over(cluster: &Cluster, dead: Node, heir: Node) {
    cluster.kill9(dead);
    eventually("its replica has taken its place", SOON, || {
        let id = cluster.node_id(heir);
        for node in cluster.nodes().into_iter().filter(|&node| node != dead) {
            let members = cluster.view(node)?.members;
            if !members.iter().any(|member| member.id == id && member.is("master") && !member.slots.is_empty()) {
                return Err(format!("{} does not know", cluster.name(node)));
            }
        }
        Ok(())
    });
}

fn check_failover(flavour: Flavour) {
    let spec = Spec::new(flavour).replicas(1).node_timeout(Duration::from_secs(1));
    let cluster = Cluster::start(spec);
    let [a, b, c] = cluster.primaries()[..] else { panic!("three primaries") };
    // From the one that will fail, and to it.
    let from: Vec<Tagged> = (0..2).map(|number| Tagged::fill(&cluster, a, number, KEYS)).collect();
    let to: Vec<Tagged> = (0..2).map(|number| Tagged::fill(&cluster, c, number, KEYS)).collect();
    cluster.open_slot(from[0].slot, a, b);
    cluster.migrate_keys(from[0].slot, a, b, KEYS / 2);
    cluster.open_slot(from[1].slot, a, b);
    cluster.open_slot(to[0].slot, c, a);
    cluster.migrate_keys(to[0].slot, c, a, KEYS / 2);
    cluster.open_slot(to[1].slot, c, a);
    let replicated: u64 = cluster.cmd(a, &["WAIT", "1", "5000"]);
    assert_eq!(replicated, 1);
    let heir = cluster.replicas_of(a)[0];
    fail_over(&cluster, a, heir);
    let valkey = match flavour {
        Flavour::Redis62 | Flavour::Redis70 | Flavour::Redis82 | Flavour::Redis86 => false,
        Flavour::Valkey81 | Flavour::Valkey91 => true,
    };
    if !valkey {
        // The target of a dead node's slots is down with them, for its own keys too.
        let state = |node| cluster.cmd::<String>(node, &["CLUSTER", "INFO"]);
        eventually("the target is down", SOON, || {
            if state(b).contains("cluster_state:fail") { Ok(()) } else { Err("it serves".to_owned()) }
        });
    }
    // A Redis that died is silent and owns slots still, so that not all can be told.
    let status = if valkey { 2 } else { 1 };
    let checked = cluster.evenkeel_with_file(&["check", "--json"], "").run_to_end().exited_with_json(status);
    if !valkey {
        let rows = [&from[0], &from[1], &to[0], &to[1]].map(|tagged| row_of(&checked["verdicts"], tagged.slot));
        assert_eq!(rows, [Some(7), Some(7), Some(14), Some(14)], "{checked:#}");
    }
    let repair = || cluster.evenkeel_with_file(&["repair"], "[migration]\nmigrate_timeout = \"400ms\"\n").run_to_end();
    if valkey {
        // What its heir is given before it comes back it would take, and every other node deletes what it ever owned.
        repair().assert(2, &[&format!("{} does not answer", cluster.node_id(a).short()), "CLUSTER FORGET"]);
        assert!(cluster.slots_of(c).contains(to[0].slot), "it is where it was");
        cluster.restart(a);
        eventually("it follows its heir", SOON, || {
            let info: String = cluster.cmd(a, &["INFO", "replication"]);
            if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
        });
    }
    let repaired = repair();
    assert!(repaired.stdout.contains("nothing is left to repair"), "{}{}", repaired.stdout, repaired.stderr);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    assert!(cluster.slots_of(b).contains(from[0].slot) && cluster.slots_of(heir).contains(to[0].slot));
    for tagged in from.iter().chain(&to) {
        tagged.verify(&cluster);
    }
}

#[test]
fn open_slots_of_a_node_that_failed_over_are_finished_on_redis_7_0() {
    check_failover(Flavour::Redis70);
}

#[test]
fn open_slots_of_a_node_that_failed_over_are_finished_on_redis_6_2() {
    check_failover(Flavour::Redis62);
}

#[test]
fn open_slots_of_a_node_that_failed_over_are_finished_on_redis_8_2() {
    check_failover(Flavour::Redis82);
}

#[test]
fn open_slots_of_a_node_that_failed_over_are_finished_on_valkey_8_1() {
    check_failover(Flavour::Valkey81);
}

#[test]
fn open_slots_of_a_node_that_failed_over_are_finished_on_valkey_9_1() {
    check_failover(Flavour::Valkey91);
}

/// A Valkey primary gives `SETSLOT` to its replicas first. One that freezes meanwhile takes it in when it goes on, and
/// its primary never has. Gives a slot that is marked like this.
fn marked_at_a_replica(flavour: Flavour) -> (Cluster, Tagged) {
    let cluster = Cluster::start(Spec::new(flavour).replicas(1).node_timeout(Duration::from_secs(10)));
    let [a, b, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let replica = cluster.replicas_of(b)[0];
    let tagged = Tagged::fill(&cluster, a, 0, KEYS);
    let (slot, from) = (tagged.slot.to_string(), cluster.node_id(a).to_string());
    cluster.sigstop(replica);
    let refused = cluster.try_cmd::<()>(b, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from, "TIMEOUT", "200"]);
    let refused = refused.expect_err("its replica does not follow").to_string();
    assert!(refused.to_uppercase().contains("NOREPLICAS") || refused.contains("good replicas"), "{refused}");
    cluster.sigcont(replica);
    eventually("the replica has the mark", SOON, || {
        let open = cluster.open_slots()?;
        if open.len() == 1 { Ok(()) } else { Err(format!("{open:?}")) }
    });
    (cluster, tagged)
}

fn check_a_mark_of_a_replica(flavour: Flavour) {
    let (cluster, tagged) = marked_at_a_replica(flavour);
    let checked = cluster.evenkeel(&["check", "--json"]).run_to_end().exited_with_json(2);
    assert_eq!(row_of(&checked["verdicts"], tagged.slot), Some(8), "{checked:#}");
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["(row 8)", "nothing is left"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    tagged.verify(&cluster);
}

#[test]
fn a_mark_that_only_a_replica_has_is_taken_off_on_valkey_8_1() {
    check_a_mark_of_a_replica(Flavour::Valkey81);
}

#[test]
fn a_mark_that_only_a_replica_has_is_taken_off_on_valkey_9_1() {
    check_a_mark_of_a_replica(Flavour::Valkey91);
}

/// A daemon that only observes leaves it; one that acts does not, once it has lasted and nothing else goes on.
fn check_that_a_daemon_takes_it_off(flavour: Flavour) {
    let (cluster, tagged) = marked_at_a_replica(flavour);
    let schedule = |more: &str| {
        let schedule = format!("[schedule]\npoll = \"100ms\"\nsettle = 1\nadopt_after = \"1s\"\n{more}");
        Evenkeel::new(&["run"]).config(&settings(&cluster, &schedule))
    };
    let observer = schedule("mode = \"observe\"").spawn();
    let finding = "\"name\":\"replica_mark_stale\"";
    observer.await_http("/api/v1/topology", SOON, |topology| topology.contains(finding));
    // Three times as long as it must last.
    let looked = |status: &str| serde_json::from_str::<Value>(status).expect("JSON")["uptime_s"].as_f64() > Some(3.0);
    observer.await_http("/api/v1/status", SOON, looked);
    assert_eq!(cluster.open_slots().map(|open| open.len()), Ok(1), "who observes changes nothing");
    drop(observer);

    let mut daemon = schedule("").spawn();
    eventually("the mark is taken away", SOON, || match cluster.open_slots()?.as_slice() {
        [] => Ok(()),
        open => Err(format!("{open:?}")),
    });
    daemon.await_http("/api/v1/topology", SOON, |topology| !topology.contains(finding));
    daemon.sigterm();
    let told =
        format!("marks that only its replicas had are taken away node={}", cluster.node_id(cluster.primaries()[1]));
    let output = daemon.output(SOON);
    output.assert(0, &["no slot is open"]);
    assert!(output.stderr.contains(&told), "{}", output.stderr);
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    tagged.verify(&cluster);
}

#[test]
fn a_daemon_takes_off_a_mark_that_only_a_replica_has_on_valkey_8_1() {
    check_that_a_daemon_takes_it_off(Flavour::Valkey81);
}

#[test]
fn a_daemon_takes_off_a_mark_that_only_a_replica_has_on_valkey_9_1() {
    check_that_a_daemon_takes_it_off(Flavour::Valkey91);
}
