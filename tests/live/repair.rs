//! `evenkeel check` names what is wrong with slots and `evenkeel repair` puts it right: the rows of the repair table,
//! made with real commands, many on one cluster.

use evenkeel::cluster::{Slot, SlotSet};
use serde_json::Value;

use crate::support::{Cluster, Flavour, Node, Spec, Tagged};

const KEYS: usize = 10;
/// More slots than there are rows.
const SLOTS: usize = 20;

/// Disorder on a cluster of four primaries, one row in each slot.
struct Disorder<'a> {
    cluster: &'a Cluster,
    a: Node,
    b: Node,
    c: Node,
    /// Slots of `a` with keys in them, which nobody has touched.
    full: Vec<Tagged>,
    /// One without.
    empty: Tagged,
    made: Vec<Made>,
}

/// One slot in disorder.
struct Made {
    row: u8,
    tagged: Tagged,
    /// Who is to own it in the end.
    heir: Node,
}

impl<'a> Disorder<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let [a, b, c, ..] = cluster.primaries()[..] else { panic!("three primaries") };
        // Beforehand: which slots are whose can only be asked of a cluster in order.
        let full = (0..SLOTS).map(|number| Tagged::fill(cluster, a, number, KEYS)).collect();
        let empty = Tagged::fill(cluster, a, SLOTS, 0);
        Self { cluster, a, b, c, full, empty, made: Vec::new() }
    }

    /// A slot of `a` with keys in it.
    fn slot(&mut self) -> Tagged {
        self.full.pop().expect("so many slots are enough")
    }

    /// The same, open from `a` to `b`, with so many of its keys moved.
    fn half_moved(&mut self, moved: usize) -> Tagged {
        let tagged = self.slot();
        self.cluster.open_slot(tagged.slot, self.a, self.b);
        assert_eq!(self.cluster.migrate_keys(tagged.slot, self.a, self.b, moved), moved);
        tagged
    }

    fn made(&mut self, row: u8, tagged: Tagged, heir: Node) {
        self.made.push(Made { row, tagged, heir });
    }

    fn slots(&self, row: u8) -> SlotSet {
        self.made.iter().filter(|made| made.row == row).map(|made| made.tagged.slot).collect()
    }
}

fn set_slot(cluster: &Cluster, node: Node, slot: Slot, words: &[&str]) {
    let slot = slot.to_string();
    let args: Vec<&str> = ["CLUSTER", "SETSLOT", &slot].into_iter().chain(words.iter().copied()).collect();
    cluster.cmd::<()>(node, &args);
}

/// The row by which a document of `check` or `repair` judges this slot.
fn row_of(verdicts: &Value, slot: Slot) -> Option<u64> {
    let of_slot = |verdict: &&Value| {
        let slots: SlotSet = verdict["slots"].as_str().expect("slots are text").parse().expect("slots");
        slots.contains(slot)
    };
    verdicts.as_array().expect("a list").iter().find(of_slot)?["row"].as_u64()
}

/// Rows 1 to 14, where they can be made without a failover.
fn make_open_slots(disorder: &mut Disorder) {
    let Disorder { cluster, a, b, c, .. } = *disorder;
    let (a_id, b_id, c_id) = (cluster.node_id(a), cluster.node_id(b), cluster.node_id(c));
    let (a_id, b_id, c_id) = (a_id.to_string(), b_id.to_string(), c_id.to_string());

    let tagged = disorder.half_moved(KEYS / 2);
    disorder.made(1, tagged, b);

    let tagged = disorder.slot();
    set_slot(cluster, a, tagged.slot, &["MIGRATING", &b_id]);
    disorder.made(3, tagged, a);

    let tagged = disorder.half_moved(KEYS / 2);
    set_slot(cluster, b, tagged.slot, &["STABLE"]);
    disorder.made(4, tagged, b);

    let tagged = disorder.slot();
    set_slot(cluster, b, tagged.slot, &["IMPORTING", &a_id]);
    disorder.made(5, tagged, a);

    let tagged = disorder.half_moved(KEYS / 2);
    set_slot(cluster, a, tagged.slot, &["STABLE"]);
    disorder.made(6, tagged, b);

    let tagged = disorder.half_moved(KEYS / 2);
    set_slot(cluster, b, tagged.slot, &["IMPORTING", &c_id]);
    disorder.made(7, tagged, b);

    let tagged = disorder.half_moved(KEYS);
    set_slot(cluster, a, tagged.slot, &["NODE", &b_id]);
    set_slot(cluster, b, tagged.slot, &["STABLE"]);
    disorder.made(10, tagged, b);

    let tagged = disorder.empty.clone();
    cluster.open_slot(tagged.slot, a, b);
    set_slot(cluster, a, tagged.slot, &["NODE", &b_id]);
    set_slot(cluster, b, tagged.slot, &["STABLE"]);
    disorder.made(11, tagged, b);

    let tagged = disorder.half_moved(KEYS / 2);
    for node in [a, b] {
        set_slot(cluster, node, tagged.slot, &["STABLE"]);
    }
    disorder.made(12, tagged, a);

    let tagged = disorder.half_moved(KEYS / 2);
    set_slot(cluster, c, tagged.slot, &["IMPORTING", &a_id]);
    disorder.made(13, tagged, b);
}

/// Rows that only Redis leaves for long: Valkey clears the mark, and takes the slot, by itself.
fn make_what_valkey_heals(disorder: &mut Disorder) {
    let Disorder { cluster, a, b, .. } = *disorder;
    let (a_id, b_id) = (cluster.node_id(a).to_string(), cluster.node_id(b).to_string());

    let tagged = disorder.half_moved(KEYS);
    set_slot(cluster, b, tagged.slot, &["NODE", &b_id]);
    disorder.made(8, tagged, b);

    let tagged = disorder.half_moved(KEYS);
    set_slot(cluster, a, tagged.slot, &["NODE", &b_id]);
    disorder.made(9, tagged, b);

    let tagged = disorder.slot();
    set_slot(cluster, a, tagged.slot, &["MIGRATING", &a_id]);
    disorder.made(14, tagged, a);
}

/// Check names every row, a dry run changes nothing, and a repair closes all but what a human must name.
fn check_open_slots(flavour: Flavour) {
    let cluster = Cluster::start(Spec::new(flavour));
    let mut disorder = Disorder::new(&cluster);
    make_open_slots(&mut disorder);
    if matches!(flavour, Flavour::Redis62 | Flavour::Redis70 | Flavour::Redis82) {
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

    assert_eq!(cluster.open_slots(), Ok(Vec::new()));
    for Made { row, tagged, heir } in &disorder.made {
        assert!(cluster.slots_of(*heir).contains(tagged.slot), "slot {} of row {row} is not at its heir", tagged.slot);
        tagged.verify(&cluster);
    }
    cluster.evenkeel(&["check"]).run_to_end().exited(0);
    cluster.evenkeel(&["repair"]).run_to_end().assert(0, &["nothing to repair"]);
}

#[test]
fn every_kind_of_open_slot_is_named_and_closed_on_redis_7_0() {
    check_open_slots(Flavour::Redis70);
}

#[test]
fn every_kind_of_open_slot_is_named_and_closed_on_valkey_9_1() {
    check_open_slots(Flavour::Valkey91);
}
