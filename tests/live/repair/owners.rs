//! Slots of nobody, of two, and slots whose owner has failed.

use std::time::Duration;

use evenkeel::cluster::{Slot, SlotSet};

use super::made::{Disorder, KEYS, UNUSED, row_of, set_slot};
use crate::support::{A_LONG_TIME, Bus, Cluster, Flavour, Node, SOON, Spec, Tagged, eventually};

/// Makes every node say that these slots belong to nobody: their owner first, and again where gossip was quicker.
pub(super) fn give_up(cluster: &Cluster, owner: Node, slots: &SlotSet) {
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

/// One that takes a slot without a mark takes it with the epoch that it has; while the nodes do not hear each other,
/// both claims stand. Where the older claim holds the keys a human decides: the later one drops them.
fn check_slots_of_two(flavour: Flavour) {
    let (cluster, bus) = Bus::around(&Spec::new(flavour));
    let Disorder { a, b, c, .. } = Disorder::new(&cluster);
    let mut claimants = [a, b];
    claimants.sort_by_key(|&node| cluster.config_epoch(node));
    let [older, later] = claimants;
    let of_older = Tagged::fill(&cluster, older, UNUSED, 0);
    let of_later = Tagged::fill(&cluster, later, UNUSED, KEYS);
    let held = Tagged::fill(&cluster, older, UNUSED + 1, KEYS);
    bus.cut(&cluster);
    let claim = |node, slot| set_slot(&cluster, node, slot, &["NODE", &cluster.node_id(node).to_string()]);
    claim(later, of_older.slot);
    claim(older, of_later.slot);
    claim(later, held.slot);

    // Nobody takes another one for failed meanwhile: repair reads how long a claim must have stood, and only repair.
    let of_settings = |node| cluster.calls_of(node, &["config|get", "config"]);
    let reads = || cluster.nodes().into_iter().map(of_settings).collect::<Vec<_>>();
    cluster.set_node_timeout(Duration::from_secs(15));
    let before = reads();
    let mut repair = cluster.evenkeel(&["repair"]).spawn_command();
    eventually("repair has read how long a claim must have stood", SOON, || {
        let read = reads().iter().zip(&before).all(|(now, before)| now > before);
        if read { Ok(()) } else { Err("it has not".to_owned()) }
    });
    cluster.set_node_timeout(A_LONG_TIME);
    let checked = cluster.evenkeel(&["check", "--json"]).run_to_end().exited_with_json(2);
    let row = |tagged: &Tagged| row_of(&checked["verdicts"], tagged.slot);
    assert_eq!([&of_older, &of_later, &held].map(row), [Some(18); 3], "{checked:#}");
    repair.output(SOON).assert(2, &["the latest claim wins", "a human must decide"]);
    for node in [a, b, c] {
        let view = cluster.view(node).expect("it answers");
        for tagged in [&of_older, &of_later] {
            assert!(
                view.slots_of(cluster.node_id(later)).contains(tagged.slot),
                "{} knows its owner",
                cluster.name(node)
            );
        }
    }
    assert_eq!(cluster.keys_in(older, held.slot), KEYS, "what only a human may decide is let alone");

    // The human takes the claim back that would have cost the keys, and lets what is still said of it come too late.
    cluster.cmd::<()>(older, &["CLUSTER", "BUMPEPOCH"]);
    set_slot(&cluster, later, held.slot, &["NODE", &cluster.node_id(older).to_string()]);
    bus.mend();
    cluster.evenkeel(&["repair"]).run_to_end().exited(0);
    for (tagged, owner) in [(of_older, later), (of_later, later), (held, older)] {
        assert!(cluster.slots_of(owner).contains(tagged.slot));
        tagged.verify(&cluster);
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
}

#[test]
fn slots_of_two_stay_with_the_later_claim_on_redis_6_2() {
    check_slots_of_two(Flavour::Redis62);
}

#[test]
fn slots_of_two_stay_with_the_later_claim_on_redis_7_0() {
    check_slots_of_two(Flavour::Redis70);
}

#[test]
fn slots_of_two_stay_with_the_later_claim_on_redis_8_2() {
    check_slots_of_two(Flavour::Redis82);
}

#[test]
fn slots_of_two_stay_with_the_later_claim_on_valkey_8_1() {
    check_slots_of_two(Flavour::Valkey81);
}

#[test]
fn slots_of_two_stay_with_the_later_claim_on_valkey_9_1() {
    check_slots_of_two(Flavour::Valkey91);
}

/// What a dead node owned is given to nobody, and nothing else is decided without it.
fn check_a_lost_primary(flavour: Flavour) {
    let spec = Spec::new(flavour).node_timeout(Duration::from_secs(1));
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
        let checked = cluster.evenkeel(&["check", "--json"]).run_to_end().exited_with_json(1);
        let rows = (row_of(&checked["verdicts"], Slot::LAST), row_of(&checked["verdicts"], open.slot));
        if rows == (Some(20), None) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    let setslots = |stats: [String; 2]| stats.map(|text| text.matches("cluster|setslot").count());
    let before = setslots(calls());
    cluster.evenkeel(&["repair"]).run_to_end().assert(1, &["(row 20)", "a human must decide", "bring the node back"]);
    assert_eq!((setslots(calls()), cluster.open_slots()), (before, left));
}

#[test]
fn without_a_primary_that_is_lost_nothing_is_decided_on_redis_6_2() {
    check_a_lost_primary(Flavour::Redis62);
}

#[test]
fn without_a_primary_that_is_lost_nothing_is_decided_on_redis_7_0() {
    check_a_lost_primary(Flavour::Redis70);
}

#[test]
fn without_a_primary_that_is_lost_nothing_is_decided_on_redis_8_2() {
    check_a_lost_primary(Flavour::Redis82);
}

#[test]
fn without_a_primary_that_is_lost_nothing_is_decided_on_valkey_8_1() {
    check_a_lost_primary(Flavour::Valkey81);
}

#[test]
fn without_a_primary_that_is_lost_nothing_is_decided_on_valkey_9_1() {
    check_a_lost_primary(Flavour::Valkey91);
}

/// Whoever gives up a primary that is gone has the others forget it, as `check` says; then its slots are nobody's, many at once.
#[test]
fn slots_of_a_primary_that_is_given_up_go_to_the_others_in_one_go() {
    let spec = Spec::new(Flavour::Redis70).primaries(4).node_timeout(Duration::from_secs(1));
    let cluster = Cluster::start(spec);
    let gone = cluster.primaries()[3];
    let id = cluster.node_id(gone).to_string();
    cluster.kill9(gone);
    eventually("the others have given it up", SOON, || {
        let check = cluster.evenkeel(&["check"]).run_to_end();
        if check.stdout.contains("CLUSTER FORGET of it at every other node") { Ok(()) } else { Err(check.stdout) }
    });
    for node in cluster.running() {
        cluster.cmd::<()>(node, &["CLUSTER", "FORGET", &id]);
    }
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["(row 15): ADDSLOTS"]);
    let owned: usize = cluster.agreed_owners().expect("all agree").values().map(SlotSet::len).sum();
    assert_eq!(owned, Slot::COUNT);
    cluster.evenkeel(&["check"]).run_to_end().assert(0, &["16384 of 16384 slots covered"]);
}
