//! Slots of nobody, and slots whose owner has failed.

use std::time::Duration;

use evenkeel::cluster::{Slot, SlotSet};

use super::made::{Disorder, KEYS, row_of, set_slot};
use crate::support::{Cluster, Flavour, Node, SOON, Spec, eventually};

/// Makes every node say that these slots belong to nobody: their owner first, and again where gossip was quicker.
fn give_up(cluster: &Cluster, owner: Node, slots: &SlotSet) {
    let slots: Vec<String> = slots.iter().map(|slot| slot.to_string()).collect();
    let others = cluster.nodes().into_iter().filter(|&node| node != owner);
    let nodes: Vec<Node> = std::iter::once(owner).chain(others).collect();
    eventually("nobody owns the slots", SOON, || {
        for &node in &nodes {
            for slot in &slots {
                // Refused where it is nobody's already.
                let _ = cluster.try_cmd::<()>(node, &["CLUSTER", "DELSLOTS", slot]);
            }
        }
        for &node in &nodes {
            let seen = cluster.view(node)?.members.iter().fold(SlotSet::new(), |all, member| all.union(&member.slots));
            if let Some(slot) = slots.iter().find(|slot| seen.contains(slot.parse().expect("a slot"))) {
                return Err(format!("{} sees an owner of slot {slot}", cluster.name(node)));
            }
        }
        Ok(())
    });
}

fn check_slots_of_nobody(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let mut disorder = Disorder::new(&cluster);
    let Disorder { a, b, .. } = disorder;
    let whole = disorder.slot();
    let parted = disorder.half_moved(KEYS / 2 + 1);
    let marked = disorder.half_moved(KEYS / 2);
    let open = disorder.half_moved(KEYS / 2);
    for node in [a, b] {
        set_slot(&cluster, node, parted.slot, &["STABLE"]);
    }
    let empty: SlotSet = [1, 2, 3, 4].into_iter().map(|number| Slot::new(number).expect("a slot")).collect();
    let slots: SlotSet = empty.iter().chain([whole.slot, parted.slot, marked.slot]).collect();
    give_up(&cluster, a, &slots);

    let checked = cluster.evenkeel(&["check", "--json"]).run_to_end().exited_with_json(2);
    let row = |slot| row_of(&checked["verdicts"], slot);
    assert_eq!(empty.iter().map(row).collect::<Vec<_>>(), [Some(15); 4], "{checked:#}");
    let rows = [whole.slot, parted.slot, marked.slot].map(row);
    assert_eq!(rows, [Some(16), Some(17), Some(17)], "{checked:#}");

    // The open slot can only be carried once all slots have an owner and the servers take keys again.
    let repaired = cluster.evenkeel(&["repair"]).run_to_end();
    repaired.assert(0, &["(row 15)", "(row 16)", "(row 17)", "(row 1)", "nothing is left to repair"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    assert!(cluster.slots_of(a).contains(whole.slot), "it goes to who holds its keys");
    assert!(cluster.slots_of(b).contains(parted.slot), "it goes to who holds the most of its keys");
    for tagged in [&open, &marked] {
        assert!(cluster.slots_of(b).contains(tagged.slot), "what was half moved goes on");
    }
    for tagged in [whole, parted, marked, open] {
        tagged.verify(&cluster);
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
}

#[test]
fn slots_of_nobody_go_to_who_holds_their_keys_on_redis_7_0() {
    check_slots_of_nobody(Flavour::Redis70);
}

#[test]
fn slots_of_nobody_go_to_who_holds_their_keys_on_redis_6_2() {
    check_slots_of_nobody(Flavour::Redis62);
}

#[test]
fn slots_of_nobody_go_to_who_holds_their_keys_on_redis_8_2() {
    check_slots_of_nobody(Flavour::Redis82);
}

#[test]
fn slots_of_nobody_go_to_who_holds_their_keys_on_valkey_8_1() {
    check_slots_of_nobody(Flavour::Valkey81);
}

#[test]
fn slots_of_nobody_go_to_who_holds_their_keys_on_valkey_9_1() {
    check_slots_of_nobody(Flavour::Valkey91);
}

/// What a dead node owned is given to nobody, and nothing else is decided without it.
#[test]
fn without_a_primary_that_is_lost_nothing_is_decided() {
    let spec = Spec::new(Flavour::Redis70).node_timeout(Duration::from_secs(1));
    let cluster = Cluster::start(spec.config(&["--cluster-require-full-coverage", "no"]));
    let mut disorder = Disorder::new(&cluster);
    let Disorder { c, .. } = disorder;
    let open = disorder.half_moved(KEYS / 2);
    let left = cluster.open_slots();
    cluster.kill9(c);
    let id = cluster.node_id(c).short();
    let calls = || [disorder.a, disorder.b].map(|node| cluster.cmd::<String>(node, &["INFO", "commandstats"]));
    cluster.evenkeel(&["repair"]).run_to_end().assert(1, &[&format!("nothing while {id} does not answer")]);
    eventually("the others have given it up", SOON, || {
        let checked = cluster.evenkeel(&["check", "--json"]).run_to_end().exited_with_json(2);
        let rows = (row_of(&checked["verdicts"], Slot::LAST), row_of(&checked["verdicts"], open.slot));
        if rows == (Some(20), None) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    let setslots = |stats: [String; 2]| stats.map(|text| text.matches("cluster|setslot").count());
    let before = setslots(calls());
    cluster.evenkeel(&["repair"]).run_to_end().assert(1, &["(row 20)", "a human must decide", "bring the node back"]);
    assert_eq!((setslots(calls()), cluster.open_slots()), (before, left));
}
