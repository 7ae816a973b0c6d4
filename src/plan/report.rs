//! The text that tells a person what a plan does, and why it does that or nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Deviation, Limit, Line, Move, Part, Plan, Trigger, Verdict};
use crate::cluster::{NodeId, Slot, SlotSet};
use crate::wording::plural;

/// The most ranges that one line spells out. A fragmented node can have thousands; nobody reads them, and the JSON form
/// of a plan has them all.
const RANGES_MAX: usize = 12;

/// What the report tells beyond the plan itself.
#[derive(Clone, Copy, Default)]
pub struct Notes<'a> {
    /// How many keys a slot has, where that is known. Without it no keys are mentioned.
    pub keys: Option<&'a dyn Fn(Slot) -> Option<u64>>,
    /// What becomes of the primaries that lose their last slot, by id. One that is missing is said to be left empty,
    /// and no more.
    pub emptied: Option<&'a BTreeMap<NodeId, Emptied>>,
}

/// What becomes of a primary that loses its last slot. The server decides (`cluster-allow-replica-migration`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptied {
    /// It turns itself into a replica and copies everything from its new primary.
    BecomesReplica {
        /// The new primary.
        of: NodeId,
    },
    /// It stays a primary without slots.
    StaysEmptyPrimary,
}

/// The plan as text: why, a table of the shards, the moves, what becomes of emptied nodes. Ends with a line break.
///
/// Same plan, same text, whatever the terminal: no colour, no wrapping.
#[must_use]
pub fn render(plan: &Plan, notes: Notes<'_>) -> String {
    let name = namer(plan);
    let mut text = String::new();
    for reason in reasons(plan) {
        let _ = writeln!(text, "{reason}");
    }
    text.push('\n');
    text.push_str(&aligned(&shard_rows(plan)));
    if !plan.moves.is_empty() {
        let moved: SlotSet = plan.moves.iter().flat_map(|m| m.slots.iter()).collect();
        let moves = plural(plan.moves.len(), "move");
        let slots = plural(moved.len(), "slot");
        let _ = writeln!(
            text,
            "\n{slots} in {moves}{}; {} now, {} after",
            keys_in(&moved, notes).map_or_else(String::new, |keys| format!(", {keys}")),
            plural(plan.ranges_now, "range"),
            plan.ranges_after
        );
        let rows: Vec<Vec<Cell>> = plan.moves.iter().map(|m| move_row(m, notes, &name)).collect();
        text.push_str(&aligned(&rows));
    }
    let emptied: Vec<&Line> = plan.lines.iter().filter(|line| line.emptied).collect();
    if !emptied.is_empty() {
        text.push('\n');
    }
    if emptied.len() > 1 {
        text.push_str(
            "of the emptied nodes one after the other gives its last slot away, when the one before is in sync\n",
        );
    }
    for line in emptied {
        let what = match notes.emptied.and_then(|emptied| emptied.get(&line.primary)) {
            Some(Emptied::BecomesReplica { of }) => format!("becomes a replica of {}, full sync", name(*of)),
            Some(Emptied::StaysEmptyPrimary) => "stays an empty primary".to_owned(),
            None => "loses its last slot".to_owned(),
        };
        let _ = writeln!(text, "{} {what}", name(line.primary));
    }
    if !plan.unassigned.is_empty() {
        let slots = plural(plan.unassigned.len(), "slot");
        let _ = writeln!(text, "\n{slots} without an owner, not planned for: {}", ranges(&plan.unassigned));
    }
    text
}

/// Why the plan moves what it moves, or why nothing: one sentence each, at least one. The beginning of [`render`].
#[must_use]
pub fn reasons(plan: &Plan) -> Vec<String> {
    let name = &namer(plan);
    let mut reasons = verdict(plan, name);
    if !plan.under_way.is_empty() {
        let slots = plural(plan.under_way.len(), "slot");
        reasons.push(format!("{slots} under way counted as if they had arrived: {}", ranges(&plan.under_way)));
    }
    reasons
}

fn verdict(plan: &Plan, name: &dyn Fn(NodeId) -> String) -> Vec<String> {
    let reason = match &plan.verdict {
        Verdict::Balanced { worst: None, .. } => "nothing to move: every node holds exactly its target".to_owned(),
        Verdict::Balanced { worst: Some(worst), limit } => format!(
            "nothing to move: the node furthest off is {}; a plan starts at {}",
            deviation(*worst, name),
            limit_text(*limit)
        ),
        Verdict::AlreadyThere => {
            "nothing to move: the slots asked for are already there, or nobody owns them".to_owned()
        }
        Verdict::Asked => "these slots were asked for, whatever the targets say".to_owned(),
        Verdict::Moves { triggers } => return triggers.iter().map(|t| trigger(t, name)).collect(),
    };
    vec![reason]
}

/// How the nodes of the plan are called: [`name`] by id.
fn namer(plan: &Plan) -> impl Fn(NodeId) -> String {
    let names: BTreeMap<NodeId, String> = plan.lines.iter().map(|line| (line.primary, name(line))).collect();
    move |id| names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

fn trigger(trigger: &Trigger, name: &dyn Fn(NodeId) -> String) -> String {
    match trigger {
        Trigger::Drained { node, now } => {
            format!("{} is to be drained and holds {}", name(*node), plural(*now, "slot"))
        }
        Trigger::Empty { node, target } => {
            format!("{} holds nothing and should hold {}", name(*node), plural(*target, "slot"))
        }
        Trigger::Misplaced { node, slots } => {
            format!("{} lacks {} pinned to it: {}", name(*node), plural(slots.len(), "slot"), ranges(slots))
        }
        Trigger::OutOfBounds { node, now, bound } => {
            let side = if now < bound { "least" } else { "most" };
            format!("{} holds {} and is to hold at {side} {bound}", name(*node), plural(*now, "slot"))
        }
        Trigger::TooFar { worst, limit } => {
            format!("{}; a plan starts at {}", deviation(*worst, name), limit_text(*limit))
        }
    }
}

fn deviation(off: Deviation, name: &dyn Fn(NodeId) -> String) -> String {
    let side = if off.now > off.target { "over" } else { "under" };
    let percent = if off.target == 0 { String::new() } else { format!(" ({:.2} %)", off.percent()) };
    format!("{}, {} {side} its target of {}{percent}", name(off.node), plural(off.slots(), "slot"), off.target)
}

fn limit_text(limit: Limit) -> String {
    format!("more than {} % and at least {}", limit.percent, plural(limit.slots, "slot"))
}

/// One cell of a table: numbers stand to the right, words to the left.
enum Cell {
    Word(String),
    Number(String),
}

fn shard_rows(plan: &Plan) -> Vec<Vec<Cell>> {
    let word = |text: &str| Cell::Word(text.to_owned());
    let number = |text: &str| Cell::Number(text.to_owned());
    let heading = [word("node"), number("slots now"), number("target"), number("difference"), word("")];
    let mut rows = vec![heading.into_iter().collect()];
    for line in &plan.lines {
        let difference = match line.difference() {
            0 => "0".to_owned(),
            other => format!("{other:+}"),
        };
        let part = match line.part {
            Part::Shares { weight } => format!("weight {weight}"),
            Part::Drained => "drained".to_owned(),
            Part::Ignored => "ignored".to_owned(),
            Part::Unasked => String::new(),
        };
        let pinned = if line.pinned > 0 { format!(", {} pinned", line.pinned) } else { String::new() };
        rows.push(vec![
            Cell::Word(name(line)),
            Cell::Number(line.now.to_string()),
            Cell::Number(line.target.to_string()),
            Cell::Number(difference),
            Cell::Word(part + &pinned),
        ]);
    }
    rows
}

fn move_row(m: &Move, notes: Notes<'_>, name: &dyn Fn(NodeId) -> String) -> Vec<Cell> {
    let mut row = vec![
        Cell::Word(format!("{} -> {}", name(m.source), name(m.target))),
        Cell::Number(plural(m.slots.len(), "slot")),
        Cell::Word(m.why.name().to_owned()),
    ];
    row.extend(keys_in(&m.slots, notes).map(Cell::Number));
    row.push(Cell::Word(ranges(&m.slots)));
    row
}

/// How many keys the slots have; "at least" where some slots' keys are not known.
fn keys_in(slots: &SlotSet, notes: Notes<'_>) -> Option<String> {
    let keys = notes.keys?;
    let counts: Vec<Option<u64>> = slots.iter().map(keys).collect();
    let least = if counts.contains(&None) { "at least " } else { "" };
    Some(format!("{least}{}", plural(counts.into_iter().flatten().sum::<u64>(), "key")))
}

fn ranges(slots: &SlotSet) -> String {
    let ranges = slots.ranges();
    let shown: Vec<String> = ranges.iter().take(RANGES_MAX).map(ToString::to_string).collect();
    match ranges.len().saturating_sub(RANGES_MAX) {
        0 => shown.join(","),
        more => format!("{} and {} more", shown.join(","), plural(more, "range")),
    }
}

/// A node as people know it, and enough of its id to find it in `CLUSTER NODES`.
fn name(line: &Line) -> String {
    match &line.address {
        Some(address) => format!("{address} ({})", line.primary.short()),
        None => line.primary.to_string(),
    }
}

/// Rows in columns as wide as their widest cell, two blanks apart, none at a line's end.
fn aligned(rows: &[Vec<Cell>]) -> String {
    let width = |cell: &Cell| match cell {
        Cell::Word(text) | Cell::Number(text) => text.chars().count(),
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(width).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| match cell {
            Cell::Word(text) => format!("{text:<width$}"),
            Cell::Number(text) => format!("{text:>width$}"),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

#[cfg(test)]
#[expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::testing::{id, policy, shards};
    use super::super::{explicit, plan};
    use super::*;

    fn check(slots: &[&str], entries: &[&str], notes: Notes<'_>, expect: Expect) {
        expect.assert_eq(&render(&plan(&shards(slots), &policy(entries)).unwrap(), notes));
    }

    const THIRDS: [&str; 4] = ["0-5460", "5461-10922", "10923-16383", ""];

    #[test]
    fn a_new_node_is_told_with_moves_and_keys() {
        let keys = |slot: Slot| Some(u64::from(slot.number() % 2));
        check(
            &THIRDS,
            &[],
            Notes { keys: Some(&keys), ..Notes::default() },
            expect![[r#"
                10.0.0.4:6379 (00000004) holds nothing and should hold 4096 slots
                10.0.0.2:6379 (00000002), 1366 slots over its target of 4096 (33.35 %); a plan starts at more than 2 % and at least 2 slots

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       5461    4096       -1365  weight 1
                10.0.0.2:6379 (00000002)       5462    4096       -1366  weight 1
                10.0.0.3:6379 (00000003)       5461    4096       -1365  weight 1
                10.0.0.4:6379 (00000004)          0    4096       +4096  weight 1

                4096 slots in 3 moves, 2048 keys; 3 ranges now, 5 after
                10.0.0.1:6379 (00000001) -> 10.0.0.4:6379 (00000004)  1365 slots  level  682 keys  4096-5460
                10.0.0.2:6379 (00000002) -> 10.0.0.4:6379 (00000004)  1366 slots  level  683 keys  5461-6826
                10.0.0.3:6379 (00000003) -> 10.0.0.4:6379 (00000004)  1365 slots  level  683 keys  10923-12287
            "#]],
        );
    }

    #[test]
    fn keys_that_are_not_known_are_not_counted_as_none() {
        let keys = |slot: Slot| (slot.number() > 5000).then_some(1);
        check(
            &THIRDS,
            &["10.0.0.4:6379 weight=0.9"],
            Notes { keys: Some(&keys), ..Notes::default() },
            expect![[r#"
                10.0.0.4:6379 (00000004) holds nothing and should hold 3781 slots
                10.0.0.2:6379 (00000002), 1261 slots over its target of 4201 (30.02 %); a plan starts at more than 2 % and at least 2 slots

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       5461    4201       -1260  weight 1
                10.0.0.2:6379 (00000002)       5462    4201       -1261  weight 1
                10.0.0.3:6379 (00000003)       5461    4201       -1260  weight 1
                10.0.0.4:6379 (00000004)          0    3781       +3781  weight 0.9

                3781 slots in 3 moves, at least 2981 keys; 3 ranges now, 5 after
                10.0.0.1:6379 (00000001) -> 10.0.0.4:6379 (00000004)  1260 slots  level  at least 460 keys  4201-5460
                10.0.0.2:6379 (00000002) -> 10.0.0.4:6379 (00000004)  1261 slots  level          1261 keys  5461-6721
                10.0.0.3:6379 (00000003) -> 10.0.0.4:6379 (00000004)  1260 slots  level          1260 keys  10923-12182
            "#]],
        );
    }

    #[test]
    fn a_drained_node_is_told_what_becomes_of_it() {
        let slots = ["0-99", "100-16382", "16383"];
        let emptied =
            BTreeMap::from([(id(1), Emptied::BecomesReplica { of: id(2) }), (id(3), Emptied::StaysEmptyPrimary)]);
        let notes = Notes { emptied: Some(&emptied), ..Notes::default() };
        check(
            &slots,
            &["10.0.0.1:6379 drain", "10.0.0.3:6379 drain"],
            notes,
            expect![[r#"
                10.0.0.1:6379 (00000001) is to be drained and holds 100 slots
                10.0.0.3:6379 (00000003) is to be drained and holds 1 slot

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)        100       0        -100  drained
                10.0.0.2:6379 (00000002)      16283   16384        +101  weight 1
                10.0.0.3:6379 (00000003)          1       0          -1  drained

                101 slots in 2 moves; 3 ranges now, 1 after
                10.0.0.1:6379 (00000001) -> 10.0.0.2:6379 (00000002)  100 slots  drain  0-99
                10.0.0.3:6379 (00000003) -> 10.0.0.2:6379 (00000002)     1 slot  drain  16383

                of the emptied nodes one after the other gives its last slot away, when the one before is in sync
                10.0.0.1:6379 (00000001) becomes a replica of 10.0.0.2:6379 (00000002), full sync
                10.0.0.3:6379 (00000003) stays an empty primary
            "#]],
        );
        check(
            &slots,
            &["10.0.0.3:6379 drain", "10.0.0.1:6379 ignore"],
            Notes::default(),
            expect![[r#"
                10.0.0.3:6379 (00000003) is to be drained and holds 1 slot

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)        100     100           0  ignored
                10.0.0.2:6379 (00000002)      16283   16284          +1  weight 1
                10.0.0.3:6379 (00000003)          1       0          -1  drained

                1 slot in 1 move; 3 ranges now, 2 after
                10.0.0.3:6379 (00000003) -> 10.0.0.2:6379 (00000002)  1 slot  drain  16383

                10.0.0.3:6379 (00000003) loses its last slot
            "#]],
        );
    }

    #[test]
    fn when_nothing_moves_the_reason_is_given() {
        check(
            &["0-8191", "8192-16383"],
            &[],
            Notes::default(),
            expect![[r#"
                nothing to move: every node holds exactly its target

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       8192    8192           0  weight 1
                10.0.0.2:6379 (00000002)       8192    8192           0  weight 1
            "#]],
        );
        check(
            &["0-8200", "8201-16383"],
            &[],
            Notes::default(),
            expect![[r#"
                nothing to move: the node furthest off is 10.0.0.1:6379 (00000001), 9 slots over its target of 8192 (0.11 %); a plan starts at more than 2 % and at least 2 slots

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       8201    8192          -9  weight 1
                10.0.0.2:6379 (00000002)       8183    8192          +9  weight 1
            "#]],
        );
    }

    #[test]
    fn everything_that_sets_a_plan_off_is_listed() {
        let slots = ["0-4095,4097", "4096,4098-8190", "8191-14000,14002-16383", ""];
        let entries = ["10.0.0.1:6379 slots=4096", "10.0.0.2:6379 min=4200", "10.0.0.3:6379 max=3000 weight=0.5"];
        check(
            &slots,
            &entries,
            Notes::default(),
            expect![[r#"
                10.0.0.1:6379 (00000001) lacks 1 slot pinned to it: 4096
                10.0.0.2:6379 (00000002) holds 4094 slots and is to hold at least 4200
                10.0.0.3:6379 (00000003) holds 8192 slots and is to hold at most 3000
                10.0.0.4:6379 (00000004) holds nothing and should hold 4681 slots

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       4097    4681        +584  weight 1, 1 pinned
                10.0.0.2:6379 (00000002)       4094    4681        +587  weight 1
                10.0.0.3:6379 (00000003)       8192    2340       -5852  weight 0.5
                10.0.0.4:6379 (00000004)          0    4681       +4681  weight 1

                5853 slots in 4 moves; 6 ranges now, 6 after
                10.0.0.2:6379 (00000002) -> 10.0.0.1:6379 (00000001)      1 slot  pinned  4096
                10.0.0.3:6379 (00000003) -> 10.0.0.1:6379 (00000001)   583 slots  level   11078-11660
                10.0.0.3:6379 (00000003) -> 10.0.0.2:6379 (00000002)   588 slots  level   8191-8778
                10.0.0.3:6379 (00000003) -> 10.0.0.4:6379 (00000004)  4681 slots  level   8779-11077,14002-16383

                1 slot without an owner, not planned for: 14001
            "#]],
        );
    }

    #[test]
    fn of_very_many_ranges_only_the_first_are_spelt_out() {
        let odd: SlotSet = Slot::all().filter(|slot| slot.number() % 2 == 1).collect();
        let even = SlotSet::full().difference(&odd);
        let pins = format!("10.0.0.1:6379 slots={odd}");
        let drained = "10.0.0.2:6379 weight=1";
        check(
            &[&even.to_string(), &odd.to_string()],
            &[&pins, drained],
            Notes::default(),
            expect![[r#"
                10.0.0.1:6379 (00000001) lacks 8192 slots pinned to it: 1,3,5,7,9,11,13,15,17,19,21,23 and 8180 ranges more

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       8192    8192           0  weight 1, 8192 pinned
                10.0.0.2:6379 (00000002)       8192    8192           0  weight 1

                16384 slots in 2 moves; 16384 ranges now, 16384 after
                10.0.0.2:6379 (00000002) -> 10.0.0.1:6379 (00000001)  8192 slots  pinned  1,3,5,7,9,11,13,15,17,19,21,23 and 8180 ranges more
                10.0.0.1:6379 (00000001) -> 10.0.0.2:6379 (00000002)  8192 slots  level   0,2,4,6,8,10,12,14,16,18,20,22 and 8180 ranges more
            "#]],
        );
    }

    #[test]
    fn slots_that_were_asked_for_are_told_as_such() {
        let check = |slots: &str, expect: Expect| {
            let plan = explicit(&shards(&THIRDS), &slots.parse().unwrap(), id(4)).unwrap();
            expect.assert_eq(&render(&plan, Notes::default()));
        };
        check(
            "866,900-910",
            expect![[r#"
                these slots were asked for, whatever the targets say

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       5461    5449         -12
                10.0.0.2:6379 (00000002)       5462    5462           0
                10.0.0.3:6379 (00000003)       5461    5461           0
                10.0.0.4:6379 (00000004)          0      12         +12

                12 slots in 1 move; 3 ranges now, 7 after
                10.0.0.1:6379 (00000001) -> 10.0.0.4:6379 (00000004)  12 slots  asked  866,900-910
            "#]],
        );
        check(
            "",
            expect![[r#"
                nothing to move: the slots asked for are already there, or nobody owns them

                node                      slots now  target  difference
                10.0.0.1:6379 (00000001)       5461    5461           0
                10.0.0.2:6379 (00000002)       5462    5462           0
                10.0.0.3:6379 (00000003)       5461    5461           0
                10.0.0.4:6379 (00000004)          0       0           0
            "#]],
        );
    }
}
