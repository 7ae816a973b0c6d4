//! Keys with two copies: equal ones are one too many, and of different ones a human says which to keep.

use evenkeel::cluster::SlotSet;

use super::made::{Disorder, KEYS, set_slot, write_again};
use crate::support::{Cluster, Flavour, Spec, Tagged};

/// The value of the first key of this slot, as a client reads it.
fn first_value(cluster: &Cluster, tagged: &Tagged) -> Option<String> {
    let mut client = cluster.client().build().and_then(|client| client.get_connection()).expect("a client");
    redis::cmd("GET").arg(tagged.key(0)).query(&mut client).expect("the owner answers")
}

fn check_copies(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let mut disorder = Disorder::new(&cluster);
    let Disorder { a, b, .. } = disorder;
    let b_id = cluster.node_id(b).to_string();
    // Keys 0 and 1 are written again at the source: the first with another value, the second with its own.
    let mut twice = || {
        let tagged = disorder.half_moved(KEYS);
        set_slot(&cluster, a, tagged.slot, &["STABLE"]);
        write_again(&cluster, &tagged, a, b, &[(0, "newer"), (1, &tagged.value(1))]);
        tagged
    };
    let (open_source, open_target, stray_source, stray_target) = (twice(), twice(), twice(), twice());
    for tagged in [&open_source, &open_target] {
        set_slot(&cluster, a, tagged.slot, &["MIGRATING", &b_id]);
    }
    for tagged in [&stray_source, &stray_target] {
        set_slot(&cluster, b, tagged.slot, &["STABLE"]);
    }
    let set = |of: &[&Tagged]| of.iter().map(|tagged| tagged.slot).collect::<SlotSet>();
    let all = set(&[&open_source, &open_target, &stray_source, &stray_target]);

    let slots = all.to_string();
    let undecided = cluster.evenkeel(&["repair", "--slots", &slots]).run_to_end();
    undecided.assert(2, &["1 keys have two values", "--prefer source"]);
    for tagged in [&open_source, &open_target, &stray_source, &stray_target] {
        assert_eq!(first_value(&cluster, tagged).as_deref(), Some("newer"), "what clients see is left alone");
        assert!(cluster.keys_in(b, tagged.slot) + cluster.keys_in(a, tagged.slot) > KEYS, "both copies are there");
    }
    for (prefer, of) in [("source", [&open_source, &stray_source]), ("target", [&open_target, &stray_target])] {
        let slots = set(&of).to_string();
        cluster.evenkeel(&["repair", "--slots", &slots, "--prefer", prefer]).run_to_end();
        for tagged in of {
            let kept = if prefer == "source" { "newer".to_owned() } else { tagged.value(0) };
            assert_eq!(first_value(&cluster, tagged), Some(kept), "{prefer} of slot {}", tagged.slot);
        }
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    assert!(set(&[&open_source, &open_target]).difference(&cluster.slots_of(b)).is_empty());
    assert!(set(&[&stray_source, &stray_target]).difference(&cluster.slots_of(a)).is_empty());
    // All but the first keys of the two whose newer value was kept are as they were.
    open_target.verify(&cluster);
    stray_target.verify(&cluster);
    for tagged in [&open_source, &stray_source] {
        let owner = if tagged.slot == open_source.slot { b } else { a };
        cluster.cmd::<()>(owner, &["SET", &tagged.key(0), &tagged.value(0)]);
        tagged.verify(&cluster);
    }
}

#[test]
fn of_two_values_the_one_that_a_human_names_is_kept_on_redis_7_0() {
    check_copies(Flavour::Redis70);
}

#[test]
fn of_two_values_the_one_that_a_human_names_is_kept_on_valkey_9_1() {
    check_copies(Flavour::Valkey91);
}
