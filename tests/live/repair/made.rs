//! Slots in disorder, made with real commands: one row of the repair table each.

use evenkeel::cluster::{Slot, SlotSet};
use serde_json::Value;

use crate::support::{Cluster, Node, Tagged};

/// Keys of each slot.
pub(super) const KEYS: usize = 10;
/// More slots than there are rows.
const SLOTS: usize = 20;
/// The first number of a slot that [`Disorder::new`] does not fill.
pub(super) const UNUSED: usize = SLOTS + 1;

/// Disorder between the first three primaries of a cluster, one row in each slot.
pub(super) struct Disorder<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) a: Node,
    pub(super) b: Node,
    pub(super) c: Node,
    /// Slots of `a` with keys in them, which nobody has touched.
    full: Vec<Tagged>,
    /// One without.
    empty: Tagged,
    pub(super) made: Vec<Made>,
}

/// One slot in disorder.
pub(super) struct Made {
    pub(super) row: u8,
    pub(super) tagged: Tagged,
    /// Who is to own it in the end.
    pub(super) heir: Node,
}

impl<'a> Disorder<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let [a, b, c, ..] = cluster.primaries()[..] else { panic!("three primaries") };
        // Beforehand: which slots are whose can only be asked of a cluster in order.
        let full = (0..SLOTS).map(|number| Tagged::fill(cluster, a, number, KEYS)).collect();
        let empty = Tagged::fill(cluster, a, SLOTS, 0);
        Self { cluster, a, b, c, full, empty, made: Vec::new() }
    }

    /// A slot of `a` with keys in it.
    pub(super) fn slot(&mut self) -> Tagged {
        self.full.pop().expect("so many slots are enough")
    }

    /// The same, open from `a` to `b`, with so many of its keys moved.
    pub(super) fn half_moved(&mut self, moved: usize) -> Tagged {
        let tagged = self.slot();
        self.cluster.open_slot(tagged.slot, self.a, self.b);
        assert_eq!(self.cluster.migrate_keys(tagged.slot, self.a, self.b, moved), moved);
        tagged
    }

    pub(super) fn made(&mut self, row: u8, tagged: Tagged, heir: Node) {
        self.made.push(Made { row, tagged, heir });
    }

    pub(super) fn slots(&self, row: u8) -> SlotSet {
        self.made.iter().filter(|made| made.row == row).map(|made| made.tagged.slot).collect()
    }
}

pub(super) fn set_slot(cluster: &Cluster, node: Node, slot: Slot, words: &[&str]) {
    let slot = slot.to_string();
    let args: Vec<&str> = ["CLUSTER", "SETSLOT", &slot].into_iter().chain(words.iter().copied()).collect();
    cluster.cmd::<()>(node, &args);
}

/// The row by which a document of `check` or `repair` judges this slot.
pub(super) fn row_of(verdicts: &Value, slot: Slot) -> Option<u64> {
    let of_slot = |verdict: &&Value| {
        let slots: SlotSet = verdict["slots"].as_str().expect("slots are text").parse().expect("slots");
        slots.contains(slot)
    };
    verdicts.as_array().expect("a list").iter().find(of_slot)?["row"].as_u64()
}

/// Rows 1 to 14, where they can be made without a failover.
pub(super) fn make_open_slots(disorder: &mut Disorder) {
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
pub(super) fn make_what_valkey_heals(disorder: &mut Disorder) {
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

/// Opens a slot that has lost its marks again, with other values at its source for the first keys that have moved.
pub(super) fn write_again(cluster: &Cluster, tagged: &Tagged, from: Node, to: Node, keys: &[(usize, &str)]) {
    for &(number, value) in keys {
        let there: usize = cluster.cmd(from, &["EXISTS", &tagged.key(number)]);
        assert_eq!(there, 0, "the key has moved from {from:?} to {to:?}");
        cluster.cmd::<()>(from, &["SET", &tagged.key(number), value]);
    }
}
