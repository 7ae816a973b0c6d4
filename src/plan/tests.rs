//! Stories: a small cluster, what is asked of it, and the plan.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::check::{Violation, check, check_explicit};
use super::testing::{carried_out, failed_over, id, policy, shards};
use super::*;
use crate::cluster::Slot;

/// The plan as text: one line each for the verdict, the targets, every move and the ranges; or the faults.
fn text(shards: &[ShardInput], policy: &Policy) -> String {
    let plan = match plan(shards, policy) {
        Ok(plan) => plan,
        Err(faults) => return faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n",
    };
    assert_eq!(check(shards, policy, &plan), [], "the checker agrees");
    describe(&plan)
}

fn describe(plan: &Plan) -> String {
    let n = |id: NodeId| u32::from_str_radix(&id.short(), 16).unwrap();
    let mut text = match &plan.verdict {
        Verdict::Balanced { worst: None, .. } => "level\n".to_owned(),
        Verdict::Balanced { worst: Some(w), .. } => {
            format!("close enough: {} has {} of {}\n", n(w.node), w.now, w.target)
        }
        Verdict::AlreadyThere => "already there\n".to_owned(),
        Verdict::Asked => "asked\n".to_owned(),
        Verdict::Moves { triggers } => {
            let trigger = |trigger: &Trigger| match trigger {
                Trigger::Drained { node, now } => format!("{} drained with {now}", n(*node)),
                Trigger::Empty { node, target } => format!("{} empty for {target}", n(*node)),
                Trigger::Misplaced { node, slots } => format!("{} lacks {slots}", n(*node)),
                Trigger::OutOfBounds { node, now, bound } => format!("{} has {now} against {bound}", n(*node)),
                Trigger::TooFar { worst: w, .. } => format!("{} has {} of {}", n(w.node), w.now, w.target),
            };
            triggers.iter().map(trigger).collect::<Vec<_>>().join(", ") + "\n"
        }
    };
    text.push_str("targets");
    plan.lines.iter().for_each(|line| _ = write!(text, " {}", line.target));
    text.push('\n');
    for m in &plan.moves {
        let _ = writeln!(text, "{:?} {} -> {}: {} slots {}", m.why, n(m.source), n(m.target), m.slots.len(), m.slots);
    }
    for line in plan.lines.iter().filter(|line| line.emptied) {
        let _ = writeln!(text, "{} emptied", n(line.primary));
    }
    let _ = writeln!(text, "ranges {} -> {}", plan.ranges_now, plan.ranges_after);
    text
}

fn story(slots: &[&str], entries: &[&str], expect: Expect) {
    let (shards, policy) = (shards(slots), policy(entries));
    let first = text(&shards, &policy);
    expect.assert_eq(&first);
    let Ok(plan) = plan(&shards, &policy) else { return };
    let again = super::plan(&carried_out(&shards, &plan), &policy).unwrap();
    assert_eq!(again.moves, [], "planning again finds nothing");
}

const THIRDS: [&str; 3] = ["0-5460", "5461-10922", "10923-16383"];
const AND_A_FOURTH: [&str; 4] = ["0-5460", "5461-10922", "10923-16383", ""];

#[test]
fn thirds_are_level_wherever_the_odd_slot_is() {
    story(
        &THIRDS,
        &[],
        expect![[r#"
            level
            targets 5461 5462 5461
            ranges 3 -> 3
        "#]],
    );
    story(
        &["0-5461", "5462-10922", "10923-16383"],
        &[],
        expect![[r#"
            level
            targets 5462 5461 5461
            ranges 3 -> 3
        "#]],
    );
    story(
        &["0-5460", "5461-10921", "10922-16383"],
        &[],
        expect![[r#"
            level
            targets 5461 5461 5462
            ranges 3 -> 3
        "#]],
    );
}

#[test]
fn a_new_node_gets_its_share_from_the_ends_of_ranges() {
    story(
        &AND_A_FOURTH,
        &[],
        expect![[r#"
            4 empty for 4096, 2 has 5462 of 4096
            targets 4096 4096 4096 4096
            Level 1 -> 4: 1365 slots 4096-5460
            Level 2 -> 4: 1366 slots 5461-6826
            Level 3 -> 4: 1365 slots 10923-12287
            ranges 3 -> 5
        "#]],
    );
}

#[test]
fn three_new_nodes_get_one_range_each() {
    story(
        &["0-5460", "5461-10922", "10923-16383", "", "", ""],
        &[],
        expect![[r#"
            4 empty for 2731, 5 empty for 2730, 6 empty for 2730, 2 has 5462 of 2731
            targets 2731 2731 2731 2731 2730 2730
            Level 1 -> 5: 2730 slots 0-2729
            Level 2 -> 4: 2731 slots 5461-8191
            Level 3 -> 6: 2730 slots 10923-13652
            ranges 3 -> 6
        "#]],
    );
}

#[test]
fn a_drained_node_goes_to_its_neighbours() {
    story(
        &THIRDS,
        &["10.0.0.2:6379 drain"],
        expect![[r#"
            2 drained with 5462, 1 has 5461 of 8192
            targets 8192 0 8192
            Drain 2 -> 1: 2731 slots 5461-8191
            Drain 2 -> 3: 2731 slots 8192-10922
            2 emptied
            ranges 3 -> 2
        "#]],
    );
}

#[test]
fn a_replica_names_its_shard_and_so_does_an_address_a_prefix_or_a_hostname() {
    let names = ["10.0.0.2:6379", "10.0.0.2:6380", "00000002", "00001002", "cache-2.svc", "CACHE-2.svc"];
    let drained = text(&shards(&THIRDS), &policy(&["10.0.0.2:6379 drain"]));
    for name in names.iter().map(ToString::to_string).chain([id(2).to_string()]) {
        assert_eq!(text(&shards(&THIRDS), &policy(&[&format!("{name} drain")])), drained, "{name}");
    }
}

#[test]
fn slots_follow_the_weights() {
    story(
        &THIRDS,
        &["10.0.0.1:6379 weight=2"],
        expect![[r#"
            2 has 5462 of 4096
            targets 8192 4096 4096
            Level 2 -> 1: 1366 slots 5461-6826
            Level 3 -> 1: 1365 slots 10923-12287
            ranges 3 -> 4
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.1:6379 weight=0"],
        expect![[r#"
            1 has 5461 against 0, 3 has 5461 of 8192
            targets 0 8192 8192
            Level 1 -> 2: 2730 slots 2731-5460
            Level 1 -> 3: 2731 slots 0-2730
            1 emptied
            ranges 3 -> 3
        "#]],
    );
}

#[test]
fn small_deviations_are_left_alone_and_one_large_one_levels_everything() {
    story(
        &["0-5500", "5501-10922", "10923-16383"],
        &[],
        expect![[r#"
            close enough: 2 has 5422 of 5461
            targets 5462 5461 5461
            ranges 3 -> 3
        "#]],
    );
    story(
        &["0-5600", "5601-10922", "10923-16383"],
        &[],
        expect![[r#"
            2 has 5322 of 5461
            targets 5462 5461 5461
            Level 1 -> 2: 139 slots 5462-5600
            ranges 3 -> 3
        "#]],
    );
}

#[test]
fn a_deviation_must_exceed_both_thresholds() {
    let slots = shards(&["0-5500", "5501-10922", "10923-16383"]);
    let check = |percent: f64, slots_off: u32, acts: bool| {
        let policy = Policy { threshold_percent: percent, threshold_slots: slots_off, ..Policy::default() };
        let plan = plan(&slots, &policy).unwrap();
        assert_eq!(matches!(plan.verdict, Verdict::Moves { .. }), acts, "{percent} % and {slots_off} slots");
        assert_eq!(plan.moves.is_empty(), !acts);
        assert_eq!(check(&slots, &policy, &plan), []);
    };
    // The first shard holds 5,501 for a target of 5,461 or 5,462; the second 5,422.
    check(0.0, 0, true);
    check(0.7, 39, true);
    check(0.7, 41, false);
    check(0.8, 0, false);
}

#[test]
fn pinned_slots_move_in_and_the_rest_is_shared_around_them() {
    story(
        &THIRDS,
        &["10.0.0.3:6379 slots=0-99,5461"],
        expect![[r#"
            3 lacks 0-99,5461
            targets 5461 5461 5462
            Pinned 1 -> 3: 100 slots 0-99
            Pinned 2 -> 3: 1 slots 5461
            Level 3 -> 1: 100 slots 10923-11022
            ranges 3 -> 6
        "#]],
    );
}

#[test]
fn a_shard_whose_pinned_slots_exceed_its_share_gets_no_more() {
    story(
        &THIRDS,
        &["10.0.0.3:6379 slots=8192-16383"],
        expect![[r#"
            3 lacks 8192-10922, 2 has 5462 of 4096
            targets 4096 4096 8192
            Pinned 2 -> 3: 2731 slots 8192-10922
            Level 1 -> 2: 1365 slots 4096-5460
            ranges 3 -> 3
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.3:6379 slots=8192-16383 weight=0"],
        expect![[r#"
            3 lacks 8192-10922, 2 has 5462 of 4096
            targets 4096 4096 8192
            Pinned 2 -> 3: 2731 slots 8192-10922
            Level 1 -> 2: 1365 slots 4096-5460
            ranges 3 -> 3
        "#]],
    );
}

#[test]
fn all_slots_pinned_are_an_explicit_layout() {
    let entries = ["10.0.0.1:6379 slots=0-9", "10.0.0.2:6379 slots=10-99", "10.0.0.3:6379 slots=100-16383"];
    story(
        &THIRDS,
        &entries,
        expect![[r#"
            2 lacks 10-99, 3 lacks 100-10922, 1 has 5461 of 10
            targets 10 90 16284
            Pinned 1 -> 2: 90 slots 10-99
            Pinned 1 -> 3: 5361 slots 100-5460
            Pinned 2 -> 3: 5462 slots 5461-10922
            ranges 3 -> 3
        "#]],
    );
}

#[test]
fn a_single_pinned_slot_in_the_wrong_place_is_moved_whatever_the_thresholds() {
    story(
        &THIRDS,
        &["10.0.0.1:6379 slots=16383"],
        expect![[r#"
            1 lacks 16383
            targets 5462 5461 5461
            Pinned 3 -> 1: 1 slots 16383
            Level 2 -> 3: 1 slots 10922
            ranges 3 -> 4
        "#]],
    );
}

#[test]
fn bounds_hold_and_the_others_share_what_is_left() {
    story(
        &AND_A_FOURTH,
        &["10.0.0.1:6379 max=1000", "10.0.0.4:6379 min=6000"],
        expect![[r#"
            1 has 5461 against 1000, 4 empty for 6000, 2 has 5462 of 4692
            targets 1000 4692 4692 6000
            Level 1 -> 4: 4461 slots 1000-5460
            Level 2 -> 4: 770 slots 5461-6230
            Level 3 -> 4: 769 slots 10923-11691
            ranges 3 -> 5
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.1:6379 max=5460"],
        expect![[r#"
            1 has 5461 against 5460
            targets 5460 5462 5462
            Level 1 -> 3: 1 slots 0
            ranges 3 -> 4
        "#]],
    );
}

#[test]
fn an_ignored_shard_keeps_exactly_what_it_has() {
    story(
        &["0-9", "10-10922", "10923-16383", ""],
        &["10.0.0.1:6379 ignore"],
        expect![[r#"
            4 empty for 5458, 2 has 10913 of 5458
            targets 10 5458 5458 5458
            Level 2 -> 4: 5455 slots 5468-10922
            Level 3 -> 4: 3 slots 10923-10925
            ranges 3 -> 4
        "#]],
    );
    story(
        &AND_A_FOURTH,
        &["10.0.0.4:6379 ignore"],
        expect![[r#"
            level
            targets 5461 5462 5461 0
            ranges 3 -> 3
        "#]],
    );
}

#[test]
fn a_fragmented_cluster_becomes_whole_where_slots_move() {
    let every_third = |n: u16| Slot::all().filter(|slot| slot.number() % 3 == n).collect::<SlotSet>().to_string();
    let slots = [every_third(0), every_third(1), every_third(2), String::new()];
    let shards = shards(&slots.each_ref().map(String::as_str));
    let plan = plan(&shards, &Policy::default()).unwrap();
    assert_eq!(check(&shards, &Policy::default(), &plan), []);
    assert_eq!((plan.slots_moved(), plan.ranges_now), (4096, 16384));
    // One piece of 4,096 slots takes 4,095 borders with it.
    assert!(plan.ranges_after <= 16384 - 4000, "{} ranges", plan.ranges_after);
}

#[test]
fn slots_without_an_owner_are_left_alone() {
    story(
        &["0-99", "200-299", ""],
        &["10.0.0.1:6379 slots=150"],
        expect![[r#"
            3 empty for 66, 1 has 100 of 67
            targets 67 67 66
            Level 1 -> 3: 33 slots 0-32
            Level 2 -> 3: 33 slots 200-232
            ranges 2 -> 4
        "#]],
    );
    story(
        &["", ""],
        &[],
        expect![[r#"
            level
            targets 0 0
            ranges 0 -> 0
        "#]],
    );
    story(
        &[],
        &[],
        expect![[r#"
            level
            targets
            ranges 0 -> 0
        "#]],
    );
    story(
        &["", ""],
        &["10.0.0.1:6379 drain", "10.0.0.2:6379 drain"],
        expect![[r#"
            level
            targets 0 0
            ranges 0 -> 0
        "#]],
    );
}

#[test]
fn every_fault_is_reported() {
    story(
        &THIRDS,
        &["10.0.0.9:6379", "cache-1.svc weight=2", "00000001 weight=3", "10.0.0.2:6379 drain slots=7"],
        expect![[r#"
            target `10.0.0.9:6379` matches no node of the cluster; one is named by its id, 8 digits or more of it, host:port, or the hostname that it announces
            targets `cache-1.svc` and `00000001` name the same shard (primary 0000000100000000000000000000000000000000) but differ
            `10.0.0.2:6379` is to be drained, but slots 7 belong to it
        "#]],
    );
}

#[test]
fn targets_that_contradict_one_another_start_nothing() {
    story(
        &THIRDS,
        &["10.0.0.1:6379 slots=1-5", "10.0.0.2:6379 slots=4-9"],
        expect![[r#"
            slots 4-5 are wanted by both `10.0.0.1:6379` and `10.0.0.2:6379`
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.1:6379 ignore", "10.0.0.2:6379 slots=4-9"],
        expect![[r#"
            slots 4-9 are wanted by `10.0.0.2:6379` but are at `10.0.0.1:6379`, which is to be ignored
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.1:6379 ignore slots=5460-5462"],
        expect![[r#"
            `10.0.0.1:6379` is to be ignored but wants slots 5461-5462, which it does not have
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.1:6379 ignore drain"],
        expect![[r#"
            `10.0.0.1:6379` is both to be drained and to be ignored
        "#]],
    );
    story(
        &THIRDS,
        &["10.0.0.1:6379 weight=2", "10.0.0.1:6380 weight=3"],
        expect![[r#"
            targets `10.0.0.1:6379` and `10.0.0.1:6380` name the same shard (primary 0000000100000000000000000000000000000000) but differ
        "#]],
    );
    story(
        &THIRDS,
        &["0000000 weight=2"],
        expect![[r#"
            target `0000000` matches no node of the cluster; one is named by its id, 8 digits or more of it, host:port, or the hostname that it announces
        "#]],
    );
}

#[test]
fn two_entries_that_agree_are_one() {
    let one = text(&shards(&THIRDS), &policy(&["10.0.0.1:6379 weight=2"]));
    assert_eq!(text(&shards(&THIRDS), &policy(&["10.0.0.1:6379 weight=2", "10.0.0.1:6380 weight=2"])), one);
}

#[test]
fn a_prefix_that_fits_two_shards_is_ambiguous() {
    let mut shards = shards(&THIRDS);
    shards[2].members[1].id = "00000001ffffffffffffffffffffffffffffffff".parse().unwrap();
    let entries = policy(&["00000001 drain", "000010010 drain"]);
    expect![[r#"
        target `00000001` is ambiguous: it matches 0000000100000000000000000000000000000000, 00000001ffffffffffffffffffffffffffffffff
    "#]].assert_eq(&text(&shards, &entries));
}

#[test]
fn targets_that_cannot_be_met_start_nothing() {
    let all = |what: &str| [1, 2, 3].map(|n| format!("10.0.0.{n}:6379 {what}"));
    let check = |entries: &[&str], expect: Expect| story(&THIRDS, entries, expect);
    check(
        &all("drain").each_ref().map(String::as_str),
        expect![[r#"
            every shard is to be drained or ignored: nobody is left to take 16384 slots
        "#]],
    );
    check(
        &all("weight=0").each_ref().map(String::as_str),
        expect![[r#"
            every weight is 0: nobody is left to take 16384 slots
        "#]],
    );
    check(
        &all("max=5000").each_ref().map(String::as_str),
        expect![[r#"
            the shards are to hold at most 15000 slots together, but there are 16384
        "#]],
    );
    check(
        &all("min=5462").each_ref().map(String::as_str),
        expect![[r#"
            the shards are to hold at least 16386 slots together, but there are 16384
        "#]],
    );
    check(
        &["10.0.0.1:6379 slots=0-9 max=9", "10.0.0.2:6379 min=10 max=9"],
        expect![[r#"
            10 slots belong to `10.0.0.1:6379`, which is to hold at most 9
            `10.0.0.2:6379` is to hold at least 10 slots, but at most 9
        "#]],
    );
    check(
        &["10.0.0.1:6379 drain min=1", "10.0.0.2:6379 weight=NaN", "10.0.0.3:6379 weight=-1"],
        expect![[r#"
            `10.0.0.1:6379` is to be drained, but has a minimum of 1
            the weight NaN of `10.0.0.2:6379` is not a number from 0 to 1000000
            the weight -1 of `10.0.0.3:6379` is not a number from 0 to 1000000
        "#]],
    );
}

#[test]
fn a_failover_changes_the_ids_that_are_named_and_nothing_else() {
    let shards = shards(&AND_A_FOURTH);
    let turned = failed_over(&shards, |primary| primary == id(1) || primary == id(4));
    let plans = [&shards, &turned].map(|shards| plan(shards, &policy(&["10.0.0.1:6379 weight=2"])).unwrap());
    let slots = |plan: &Plan| plan.moves.iter().map(|m| m.slots.clone()).collect::<Vec<_>>();
    assert_eq!(slots(&plans[0]), slots(&plans[1]));
    assert!(plans[1].moves.iter().all(|m| m.target == id(0x1004) || m.target == id(0x1001)));
}

#[test]
fn named_slots_are_moved_and_no_others() {
    let shards = shards(&AND_A_FOURTH);
    let check = |slots: &str, to: u32, expect: Expect| {
        let slots = slots.parse().unwrap();
        let plan = explicit(&shards, &slots, id(to)).unwrap();
        assert_eq!(check_explicit(&shards, &slots, id(to), &plan), []);
        expect.assert_eq(&describe(&plan));
    };
    check(
        "866,900-910,16000",
        3,
        expect![[r#"
            asked
            targets 5449 5462 5473 0
            Asked 1 -> 3: 12 slots 866,900-910
            ranges 3 -> 7
        "#]],
    );
    check(
        "866",
        0x1004,
        expect![[r#"
            asked
            targets 5460 5462 5461 1
            Asked 1 -> 4: 1 slots 866
            ranges 3 -> 5
        "#]],
    );
    check(
        "0-5460",
        2,
        expect![[r#"
            asked
            targets 0 10923 5461 0
            Asked 1 -> 2: 5461 slots 0-5460
            1 emptied
            ranges 3 -> 2
        "#]],
    );
    check(
        "0-5460",
        1,
        expect![[r#"
            already there
            targets 5461 5462 5461 0
            ranges 3 -> 3
        "#]],
    );
    assert!(matches!(explicit(&shards, &SlotSet::full(), id(9)), Err(TargetFault::TargetUnmatched { .. })));
}

/// A checker that finds nothing wrong with anything would pass every other test.
#[test]
fn the_checker_notices_a_plan_that_was_tampered_with() {
    let shards = shards(&AND_A_FOURTH);
    let policy = policy(&["10.0.0.1:6379 slots=16383"]);
    let sound = plan(&shards, &policy).unwrap();
    let check = |what: &str, tamper: &dyn Fn(&mut Plan), expect: &dyn Fn(&Violation) -> bool| {
        let mut plan = sound.clone();
        tamper(&mut plan);
        let found = super::check::check(&shards, &policy, &plan);
        assert!(found.iter().any(expect), "{what}: {found:?}");
    };
    let slot = |n| Slot::new(n).unwrap();
    check("a move is missing", &|p| _ = p.moves.pop(), &|v| matches!(v, Violation::Needless { .. }));
    check("a move is doubled", &|p| p.moves.push(p.moves[0].clone()), &|v| matches!(v, Violation::MovedTwice(_)));
    check("to itself", &|p| p.moves[0].target = p.moves[0].source, &|v| matches!(v, Violation::NoMove(_)));
    check("not the owner", &|p| p.moves[0].source = id(4), &|v| matches!(v, Violation::NotTheOwner { .. }));
    check("a stranger", &|p| p.moves[0].target = id(99), &|v| matches!(v, Violation::Shards(_)));
    check("one more slot", &|p| _ = p.moves[1].slots.insert(slot(2000)), &|v| matches!(v, Violation::NotLevel(_)));
    check("the pin is forgotten", &|p| _ = p.moves.remove(0), &|v| matches!(v, Violation::Pinned { .. }));
    check("a target is raised", &|p| p.lines[0].target += 1, &|v| matches!(v, Violation::Sum { .. }));
    let skew = |p: &mut Plan| {
        p.lines[0].target += 2;
        p.lines[1].target -= 2;
    };
    check("targets are skewed", &skew, &|v| matches!(v, Violation::Unfair { .. }));
    check("a line lies", &|p| p.lines[0].now += 1, &|v| matches!(v, Violation::Line(_)));
    check("the layout lies", &|p| _ = p.layout.shards[0].slots.insert(slot(16000)), &|v| {
        matches!(v, Violation::Layout(_))
    });
    let balanced = Verdict::Balanced { worst: None, limit: Limit { percent: 2.0, slots: 2 } };
    check("the verdict lies", &|p| p.verdict = balanced.clone(), &|v| matches!(v, Violation::Verdict(_)));
}
