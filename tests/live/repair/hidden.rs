//! Keys that a Redis of 8.4 or newer holds and hides.

use super::made::{Disorder, KEYS, set_slot};
use super::open::check_whole;
use super::owners::give_up;
use crate::support::{Cluster, Flavour, Spec};

#[test]
fn keys_that_redis_8_6_hides_are_found_and_brought_home() {
    if !Flavour::Redis86.is_here() {
        return;
    }
    let cluster = Cluster::start(Spec::new(Flavour::Redis86));
    let mut disorder = Disorder::new(&cluster);
    let Disorder { a, b, .. } = disorder;
    let strays = [disorder.half_moved(KEYS / 2), disorder.half_moved(KEYS)];
    for tagged in &strays {
        for node in [a, b] {
            set_slot(&cluster, node, tagged.slot, &["STABLE"]);
        }
        assert_eq!(cluster.keys_in(b, tagged.slot), 0, "it counts none of them");
    }
    let hidden = format!("{} holds {} keys", cluster.node_id(b).short(), KEYS / 2 + KEYS);
    cluster.evenkeel(&["check"]).run_to_end().assert(2, &["hidden_keys", &hidden]);
    cluster.evenkeel(&["repair"]).run_to_end().assert(2, &["hides them", "--slots 0-16383"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));

    let one = strays[0].slot.to_string();
    cluster.evenkeel(&["repair", "--slots", &one]).run_to_end().assert(2, &["(row 12)", "hides them"]);
    cluster.evenkeel(&["repair", "--slots", "0-16383"]).run_to_end().assert(0, &["(row 12)", "nothing is left"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    for tagged in strays {
        tagged.verify(&cluster);
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
}

/// What nobody counts would be left behind by the row that the counts show, which is 3 for the first and 15 for the second.
#[test]
fn open_slots_and_slots_of_nobody_are_judged_by_what_redis_8_6_hides() {
    if !Flavour::Redis86.is_here() {
        return;
    }
    let cluster = Cluster::start(Spec::new(Flavour::Redis86));
    let mut disorder = Disorder::new(&cluster);
    let Disorder { a, b, .. } = disorder;
    let tagged = disorder.half_moved(KEYS / 2);
    set_slot(&cluster, b, tagged.slot, &["STABLE"]);
    disorder.made(1, tagged, b);
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["(row 1)", "nothing is left to repair"]);
    check_whole(&disorder);

    let tagged = disorder.slot();
    give_up(&cluster, a, &[tagged.slot].into_iter().collect());
    disorder.made(16, tagged, a);
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["(row 16)", "nothing is left to repair"]);
    check_whole(&disorder);
}
