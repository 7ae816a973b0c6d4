//! Slots that somebody left open, in every way that commands can leave them.

use evenkeel::cluster::{Slot, SlotSet};
use serde_json::Value;

use super::made::{Disorder, Made, make_open_slots, make_what_valkey_heals, row_of, set_slot};
use crate::support::{Cluster, Data, Flavour, Spec, Tagged};

/// Check names every row, a dry run changes nothing, and a repair closes all but what a human must name.
fn check_open_slots(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let mut disorder = Disorder::new(&cluster);
    make_open_slots(&mut disorder);
    if is_redis(flavour) {
        make_what_valkey_heals(&mut disorder);
    }

    let checked = cluster.evenkeel(&["check", "--json"]).run_to_end().exited_with_json(2);
    for made in &disorder.made {
        assert_eq!(row_of(&checked["verdicts"], made.tagged.slot), Some(made.row.into()), "{checked:#}");
    }
    let calls = cluster.moving_calls();
    let open = cluster.open_slots();
    let dry = cluster.evenkeel(&["repair", "--dry-run", "--json"]).run_to_end().exited_with_json(2);
    for made in &disorder.made {
        assert_eq!(row_of(&dry["left"], made.tagged.slot), Some(made.row.into()), "{dry:#}");
    }
    assert_eq!((cluster.moving_calls(), cluster.open_slots()), (calls, open), "a dry run changes nothing");

    let strays = disorder.slots(12);
    let repaired = cluster.evenkeel(&["repair", "--json"]).run_to_end().exited_with_json(2);
    assert_eq!(repaired["left"].as_array().map(Vec::len), Some(1), "{repaired:#}");
    assert_eq!(repaired["left"][0]["slots"], Value::from(strays.to_string()), "{repaired:#}");
    let named = cluster.evenkeel(&["repair", "--slots", &strays.to_string()]).run_to_end();
    named.assert(0, &["(row 12)", "nothing is left to repair"]);

    check_whole(&disorder);
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["nothing to repair"]);
}

/// The same where less differs: without looking first.
fn check_open_slots_at_once(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let mut disorder = Disorder::new(&cluster);
    make_open_slots(&mut disorder);
    if is_redis(flavour) {
        make_what_valkey_heals(&mut disorder);
    }
    let Disorder { a, b, c, .. } = disorder;
    // Redis 6.2 never finds out; later versions and Valkey do, before evenkeel has waited long enough.
    let tagged = disorder.slot();
    set_slot(&cluster, c, tagged.slot, &["NODE", &cluster.node_id(b).to_string()]);
    disorder.made(19, tagged, a);
    let strays = disorder.slots(12);
    let repaired = cluster.evenkeel(&["repair", "--json"]).run_to_end().exited_with_json(2);
    assert_eq!(repaired["left"][0]["slots"], Value::from(strays.to_string()), "{repaired:#}");
    let told = row_of(&repaired["repaired"], disorder.made.last().expect("just made").tagged.slot);
    assert_eq!(told, (flavour == Flavour::Redis62).then_some(19), "{repaired:#}");
    cluster.evenkeel(&["repair", "--slots", &strays.to_string()]).run_to_end().exited(0);
    check_whole(&disorder);
}

fn is_redis(flavour: Flavour) -> bool {
    match flavour {
        Flavour::Redis62 | Flavour::Redis70 | Flavour::Redis82 | Flavour::Redis86 => true,
        Flavour::Valkey81 | Flavour::Valkey91 => false,
    }
}

/// Every slot is at its heir with all its keys, and check finds nothing.
pub(super) fn check_whole(disorder: &Disorder) {
    let cluster = disorder.cluster;
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    for Made { row, tagged, heir } in &disorder.made {
        assert!(cluster.slots_of(*heir).contains(tagged.slot), "slot {} of row {row} is not at its heir", tagged.slot);
        tagged.verify(cluster);
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
}

#[test]
fn every_kind_of_open_slot_is_named_and_closed_on_redis_7_0() {
    check_open_slots(Flavour::Redis70);
}

#[test]
fn every_kind_of_open_slot_is_named_and_closed_on_valkey_9_1() {
    check_open_slots(Flavour::Valkey91);
}

#[test]
fn open_slots_of_every_kind_are_closed_on_redis_6_2() {
    check_open_slots_at_once(Flavour::Redis62);
}

#[test]
fn open_slots_of_every_kind_are_closed_on_redis_8_2() {
    check_open_slots_at_once(Flavour::Redis82);
}

#[test]
fn open_slots_of_every_kind_are_closed_on_valkey_8_1() {
    check_open_slots_at_once(Flavour::Valkey81);
}

/// A thousand slots opened between many pairs and left so, with the keys still at their sources: the largest of what the
/// servers' own tests have their own tool repair. The others of them are rows 1, 3, 5, 8 and 9 of the stories above.
#[test]
fn a_thousand_slots_that_were_opened_between_five_primaries_are_finished() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70).primaries(5));
    let data = Data::fill_database(&cluster, 40_000, 0);
    let primaries = cluster.primaries();
    let owned = primaries.iter().map(|&node| cluster.slots_of(node)).collect::<Vec<_>>();
    let mut opened = SlotSet::new();
    for (at, slots) in owned.iter().enumerate() {
        for (number, slot) in slots.iter().take(200).enumerate() {
            // To each of the four others in turn.
            cluster.open_slot(slot, primaries[at], primaries[(at + 1 + number % 4) % 5]);
            opened.insert(slot);
        }
    }
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["(row 1)", "nothing is left to repair"]);
    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    for (slots, &node) in owned.iter().zip(&primaries) {
        assert!(!cluster.slots_of(node).intersects(&slots.intersection(&opened)), "each is at its target");
    }
    data.verify_all(&cluster);
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
}

/// Many slots left half moved at once: what takes long is said once, not for each.
#[test]
fn three_hundred_half_moved_slots_are_finished_together() {
    let cluster = Cluster::start(Spec::new(Flavour::Redis70));
    let [a, b, _] = cluster.primaries()[..] else { panic!("three primaries") };
    let full: Vec<Tagged> = (0..3).map(|number| Tagged::fill(&cluster, a, number, 100)).collect();
    let numbers = (0..297).map(|number| Slot::new(number).expect("a slot"));
    let slots: SlotSet = full.iter().map(|tagged| tagged.slot).chain(numbers).collect();
    for slot in slots.iter() {
        cluster.open_slot(slot, a, b);
        cluster.migrate_keys(slot, a, b, 50);
    }
    let repaired = cluster.evenkeel(&["repair", "--json"]).run_to_end().exited_with_json(0);
    assert_eq!(repaired["repaired"][0]["slots"], Value::from(slots.to_string()), "{repaired:#}");
    assert_eq!(repaired["repaired"][0]["keys"], 150, "{repaired:#}");
    assert!(slots.difference(&cluster.slots_of(b)).is_empty());
    for tagged in full {
        tagged.verify(&cluster);
    }
}
