//! `[targets]`: what the layout should be, as an operator wrote it.
//!
//! Which shard an entry means is not known here: that takes the cluster.

use std::fmt;
use std::ops::RangeInclusive;

use toml::{Spanned, Value};

use super::fault::Problem;
use super::raw::{RawTarget, RawTargets};
use super::source::Span;
use super::validate::{Validator, one_word};
use crate::cluster::{Slot, SlotSet};

/// The greatest weight. Far beyond any real difference between machines, and small enough that sums stay exact.
pub const MAX_WEIGHT: f64 = 1e6;

const WEIGHT: RangeInclusive<f64> = 0.0..=MAX_WEIGHT;
const SLOTS: RangeInclusive<u32> = 0..=Slot::LAST.number() as u32 + 1;
const NODE_ALLOWED: &str = "the node's id, id prefix, address or hostname";
const SLOTS_ALLOWED: &str = "slots from 0 to 16383, as in \"0-99,866\"";

/// What the layout should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    /// How far a node must be off its share, in percent of it, before anything moves; 0 to 100.
    pub threshold_percent: f64,
    /// And by how many slots at least; 0 to 16,384. Nothing moves until both are reached.
    pub threshold_slots: u32,
    /// The weight of a shard without one of its own; finite, 0 to [`MAX_WEIGHT`].
    pub default_weight: f64,
    /// What is wanted of single shards. No two entries have the same `node` text, no slot is in two of them.
    pub nodes: Vec<TargetEntry>,
}

impl Default for Targets {
    fn default() -> Self {
        Self { threshold_percent: 2.0, threshold_slots: 2, default_weight: 1.0, nodes: Vec::new() }
    }
}

/// What is wanted of one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetEntry {
    /// Any member of the shard: node id, id prefix, address or hostname.
    pub node: String,
    /// The shard's weight; `None` is the default weight.
    pub weight: Option<f64>,
    /// The shard is to give all its slots away. Stands alone.
    pub drain: bool,
    /// The shard keeps the slots that it has. Stands alone.
    pub ignore: bool,
    /// The fewest slots that the shard is to hold.
    pub min_slots: Option<u32>,
    /// The most slots that the shard is to hold.
    pub max_slots: Option<u32>,
    /// Slots that belong to this shard, whatever its share.
    pub slots: SlotSet,
    /// The line of the file that the entry stands on, counted from 1; 0 for one from the command line.
    pub line: usize,
}

impl TargetEntry {
    /// An entry that wants nothing yet, of no file.
    #[must_use]
    pub fn of(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            weight: None,
            drain: false,
            ignore: false,
            min_slots: None,
            max_slots: None,
            slots: SlotSet::new(),
            line: 0,
        }
    }
}

/// Written as in the file, on one line.
impl fmt::Display for TargetEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, weight, drain, ignore, min_slots, max_slots, slots, line: _ } = self;
        write!(f, "{{ node = {node:?}")?;
        weight.iter().try_for_each(|weight| write!(f, ", weight = {weight}"))?;
        if *drain {
            f.write_str(", drain = true")?;
        }
        if *ignore {
            f.write_str(", ignore = true")?;
        }
        min_slots.iter().try_for_each(|slots| write!(f, ", min_slots = {slots}"))?;
        max_slots.iter().try_for_each(|slots| write!(f, ", max_slots = {slots}"))?;
        if !slots.is_empty() {
            write!(f, ", slots = \"{slots}\"")?;
        }
        f.write_str(" }")
    }
}

/// Checks the section.
pub(super) fn targets(raw: RawTargets, v: &mut Validator<'_>) -> Targets {
    let default = Targets::default();
    let RawTargets { threshold_percent, threshold_slots, default_weight, nodes } = raw;
    Targets {
        threshold_percent: v.number(threshold_percent, 0.0..=100.0, default.threshold_percent),
        threshold_slots: v.integer(threshold_slots, SLOTS, default.threshold_slots),
        default_weight: v.number(default_weight, WEIGHT, default.default_weight),
        nodes: entries(nodes, v),
    }
}

fn entries(raw: Vec<Spanned<RawTarget>>, v: &mut Validator<'_>) -> Vec<TargetEntry> {
    let mut kept: Vec<TargetEntry> = Vec::new();
    for spanned in raw {
        let Some((new, places)) = entry(spanned, v) else { continue };
        if let Some(same) = kept.iter().find(|old| old.node == new.node) {
            // Said twice alike is harmless; said twice differently, either may be the one that is meant.
            if (TargetEntry { line: same.line, ..new.clone() }) != *same {
                let reason = format!("line {} says otherwise of the same node; keep one entry", same.line);
                v.fault(places.node, Problem::Conflict(reason));
            }
            continue;
        }
        for old in &kept {
            let both = old.slots.intersection(&new.slots);
            if !both.is_empty() {
                let reason = format!("wants slots {both}, and so does the entry on line {}", old.line);
                v.fault(places.slots.clone(), Problem::Conflict(reason));
            }
        }
        kept.push(new);
    }
    kept
}

/// Where the keys of an entry stand that other entries may conflict with.
struct Places {
    node: Span,
    slots: Span,
}

fn entry(spanned: Spanned<RawTarget>, v: &mut Validator<'_>) -> Option<(TargetEntry, Places)> {
    let whole = spanned.span();
    let RawTarget { node, weight, drain, ignore, min_slots, max_slots, slots } = spanned.into_inner();
    let Some(node) = node else {
        v.missing_in(whole, "node", NODE_ALLOWED);
        return None;
    };
    let places = Places { node: node.span(), slots: slots.as_ref().map_or_else(|| node.span(), Spanned::span) };
    let line = v.line(&whole);
    let [weight_at, drain_at, ignore_at] = [span(weight.as_ref()), span(drain.as_ref()), span(ignore.as_ref())];
    let [min_at, max_at, slots_at] = [span(min_slots.as_ref()), span(max_slots.as_ref()), span(slots.as_ref())];
    let entry = TargetEntry {
        node: v.text(Some(node), one_word, NODE_ALLOWED).unwrap_or_default(),
        weight: weight.map(|weight| v.number(Some(weight), WEIGHT, 1.0)),
        drain: v.flag(drain),
        ignore: v.flag(ignore),
        min_slots: min_slots.map(|slots| v.integer(Some(slots), SLOTS, 0)),
        max_slots: max_slots.map(|slots| v.integer(Some(slots), SLOTS, 0)),
        slots: slots.map(|slots| slot_set(&slots, v)).unwrap_or_default(),
        line,
    };

    let others = [("weight", &weight_at), ("min_slots", &min_at), ("max_slots", &max_at), ("slots", &slots_at)];
    for (alone, wanted, at) in [("drain", entry.drain, &drain_at), ("ignore", entry.ignore, &ignore_at)] {
        let beside: Vec<&str> = others.iter().filter(|(_, at)| at.is_some()).map(|(key, _)| *key).collect();
        if let (true, Some(at), false) = (wanted, at, beside.is_empty()) {
            let reason = format!("`{alone} = true` stands alone; here it stands beside {}", beside.join(", "));
            v.fault(at.clone(), Problem::Conflict(reason));
        }
    }
    if let (true, true, Some(at)) = (entry.drain, entry.ignore, ignore_at) {
        v.fault(at, Problem::Conflict("a shard cannot both be drained and keep its slots (`drain`)".to_owned()));
    }
    if let (Some(min), Some(max), Some(at)) = (entry.min_slots, entry.max_slots, &max_at)
        && min > max
    {
        v.fault(at.clone(), Problem::Conflict(format!("{max} is below min_slots, which is {min}")));
    }
    if let (Some(max), Some(at)) = (entry.max_slots, slots_at)
        && entry.slots.len() > max as usize
    {
        let reason = format!("{} slots are more than max_slots, which is {max}", entry.slots.len());
        v.fault(at, Problem::Conflict(reason));
    }
    Some((entry, places))
}

fn slot_set(raw: &Spanned<Value>, v: &mut Validator<'_>) -> SlotSet {
    let slots = raw.get_ref().as_str().and_then(|text| text.parse::<SlotSet>().ok());
    slots.filter(|slots| !slots.is_empty()).unwrap_or_else(|| {
        v.not_allowed(raw.span(), SLOTS_ALLOWED);
        SlotSet::new()
    })
}

fn span<T>(value: Option<&Spanned<T>>) -> Option<Span> {
    value.map(Spanned::span)
}
