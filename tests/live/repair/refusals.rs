//! When `evenkeel repair` does nothing: somebody is at work, another evenkeel acts, or a permission is missing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::made::{Disorder, KEYS, set_slot};
use crate::support::{Cluster, Evenkeel, Flavour, SOON, Spec, settings};

#[test]
fn what_somebody_works_on_is_left_alone_and_another_evenkeel_has_the_right_of_way() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let mut disorder = Disorder::new(&cluster);
    let Disorder { a, b, c, .. } = disorder;
    let open = disorder.half_moved(KEYS / 2);
    let idle = disorder.slot();
    set_slot(&cluster, c, idle.slot, &["IMPORTING", &cluster.node_id(b).to_string()]);

    // Somebody re-marks the slot again and again, as a mover that waits for its target does.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                cluster.open_slot(open.slot, a, b);
                thread::sleep(Duration::from_millis(100));
            }
        });
        let repaired = cluster.evenkeel(&["repair"]).run_to_end();
        done.store(true, Ordering::Relaxed);
        repaired.assert(2, &["(row 7)", "somebody works on it right now"]);
    });
    assert_eq!(cluster.open_slots().map(|open| open.len()), Ok(2), "only the idle one is closed");

    let config = settings(&cluster, "[schedule]\npoll = \"100ms\"\nadopt_after = \"1h\"\n");
    let mut daemon = Evenkeel::new(&["run"]).config(&config).spawn();
    daemon.await_http("/api/v1/status", SOON, |status| status.contains("\"foreign_open_slots\""));
    cluster.evenkeel(&["repair"]).run_to_end().assert(1, &["another evenkeel", "evenkeel:acting:", "schedule.mode"]);
    cluster.evenkeel(&["repair", "--dry-run"]).run_to_end().assert(2, &["(row 1)"]);
    daemon.sigterm();
    daemon.output(SOON).assert(0, &[]);
    assert_eq!(cluster.open_slots().map(|open| open.len()), Ok(2));

    // A user that may do what moving needs may not give slots of nobody away, nor drop a second copy.
    let rules: Vec<&str> = MOVES.split_whitespace().collect();
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &[&["ACL", "SETUSER", "mover", "on", ">secret", "~*"], &rules[..]].concat());
    }
    let as_mover = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["--username", "mover"]).collect();
        cluster.evenkeel(&args).env("EVENKEEL_PASSWORD", "secret").run_to_end()
    };
    as_mover(&["repair"]).assert(0, &["(row 1)", "nothing is left"]);
    open.verify(&cluster);
    let stray = disorder.half_moved(KEYS / 2);
    for node in [a, b] {
        set_slot(&cluster, node, stray.slot, &["STABLE"]);
    }
    let slot = stray.slot.to_string();
    as_mover(&["repair", "--slots", &slot]).assert(1, &["ACL SETUSER mover +del '~*'"]);
    for node in cluster.nodes() {
        cluster.cmd::<()>(node, &["ACL", "SETUSER", "mover", "+del", "+cluster|addslots"]);
    }
    as_mover(&["repair", "--slots", &slot]).assert(0, &["(row 12)"]);
    stray.verify(&cluster);
}

/// What `docs/operating.md` permits a user that moves slots.
const MOVES: &str = "+cluster|nodes +cluster|info +cluster|myid +cluster|setslot +cluster|getkeysinslot \
    +cluster|countkeysinslot +cluster|bumpepoch +migrate +restore-asking +select +dump +asking +info +ping +config|get \
    +client|list +client|setname +client|id +command|info +eval +time +memory|usage +type +hlen +scard +zcard +function|list";
