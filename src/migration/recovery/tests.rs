//! The repair table, row by row: facts in, verdict out.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cluster::Slot;
use crate::cluster::fixtures::id;

/// The facts of slot 5 that are told in lines like these:
///
/// ```text
/// a owns ->b 3 keys        claims it, has the mark migrating to b, holds three keys
/// b <-a epoch 7            names a, as every node does that says nothing else: the first that owns
/// c names b                thinks that b owns it
/// c names nobody
/// d gone to b              is no primary any more; its place has been taken by b
/// e silent                 a primary that does not answer
/// f lost                   and one that has failed for good
/// replica of a             shows a mark that a does not have
/// job
/// heir c
/// ```
fn facts(story: &str) -> SlotFacts {
    let mut facts = SlotFacts {
        slot: Slot::new(5).unwrap(),
        primaries: BTreeMap::new(),
        silent: BTreeSet::new(),
        lost: BTreeSet::new(),
        heads: BTreeMap::new(),
        stale_replicas: BTreeSet::new(),
        job: false,
        heir: None,
    };
    let lines: Vec<Vec<&str>> = story.lines().map(|line| line.split_whitespace().collect()).collect();
    let owner = lines.iter().find(|words| words.contains(&"owns") || words.contains(&"lost")).map(|words| id(words[0]));
    for words in lines.iter().filter(|words| !words.is_empty()) {
        match words[..] {
            ["job"] => facts.job = true,
            ["heir", node] => facts.heir = Some(id(node)),
            ["replica", "of", node] => drop(facts.stale_replicas.insert(id(node))),
            [node, "gone", "to", head] => drop(facts.heads.insert(id(node), id(head))),
            [node, "silent"] => drop(facts.silent.insert(id(node))),
            [node, "lost"] => drop((facts.silent.insert(id(node)), facts.lost.insert(id(node)))),
            [node, ref words @ ..] => drop(facts.primaries.insert(id(node), voice(id(node), owner, words))),
            [] => {}
        }
    }
    facts
}

fn voice(node: NodeId, owner: Option<NodeId>, words: &[&str]) -> Voice {
    let mut voice = Voice { owner, epoch: 1, ..Voice::default() };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "owns" => voice.owner = Some(node),
            "names" => voice.owner = words.next().filter(|name| **name != "nobody").map(|name| id(name)),
            "epoch" => voice.epoch = words.next().unwrap().parse().unwrap(),
            "keys" | "key" => {}
            _ => match word.split_at_checked(2) {
                Some(("->", to)) => voice.migrating = Some(id(to)),
                Some(("<-", from)) => voice.importing = Some(id(from)),
                _ => voice.keys = word.parse().unwrap(),
            },
        }
    }
    voice
}

fn with_names(text: &str) -> String {
    "abcdef".chars().fold(text.to_owned(), |text, name| text.replace(&id(&name.to_string()).short(), &name.to_string()))
}

fn check(story: &str, expect: &str) {
    let verdict = recover(&facts(story));
    let row = verdict.row().map_or_else(|| "-".to_owned(), |row| row.to_string());
    let ask = if matches!(verdict, Verdict::Gather { ask_first: true, .. }) { ", if a human says so" } else { "" };
    let got = with_names(&format!("{row}: {verdict}{ask}"));
    assert_eq!(got, expect, "{story}\nwhy: {}", verdict.why());
}

#[test]
fn a_slot_in_order_is_left_alone() {
    check("a owns 3 keys\nb\nc", "-: nothing");
    check("a owns\nb\nd gone to a", "-: nothing");
}

#[test]
fn row_1_a_half_moved_slot_goes_forward() {
    check("a owns ->b 3 keys\nb <-a 2 keys\nc", "1: carry it from a to b");
    check("a owns ->b\nb <-a\nc", "1: carry it from a to b");
    check("a owns ->b\nb <-a 9 keys\nc", "1: carry it from a to b");
}

#[test]
fn row_3_a_source_mark_alone_is_taken_off() {
    check("a owns ->b 3 keys\nb\nc", "3: STABLE at a");
    check("a owns ->d 3 keys\nb\nd gone to b", "3: STABLE at a");
}

#[test]
fn row_4_a_target_that_lost_its_mark_gets_it_back() {
    check("a owns ->b 3 keys\nb 1 key\nc", "4: carry it from a to b");
    // The target failed over on Redis.
    check(
        "a owns ->d 3 keys\nb 1 key\nd gone to b",
        "4: IMPORTING a at b, then MIGRATING b at a, then carry it from a to b",
    );
}

#[test]
fn row_5_a_target_mark_alone_is_taken_off() {
    check("a owns 3 keys\nb <-a\nc", "5: STABLE at b");
}

#[test]
fn row_6_a_source_that_lost_its_mark_gets_it_back() {
    check("a owns 3 keys\nb <-a 1 key\nc", "6: carry it from a to b");
}

#[test]
fn row_7_a_mark_that_names_a_replaced_source_is_pointed_at_its_successor() {
    check(
        "a owns 3 keys\nb names d <-d 2 keys\nd gone to a",
        "7: NODE a at b, then IMPORTING a at b, then carry it from a to b",
    );
    check("a owns 3 keys\nb names d <-d\nd gone to a", "7: NODE a at b, then STABLE at b");
    check("a owns 3 keys\nb <-c 2 keys\nc", "7: IMPORTING a at b, then carry it from a to b");
    check(
        "a owns ->b 3 keys\nb <-d 2 keys\nd gone to a",
        "7: IMPORTING a at b, then MIGRATING b at a, then carry it from a to b",
    );
    // Both ends failed over.
    check(
        "a owns ->e 3 keys\nb <-d 2 keys\nd gone to a\ne gone to b",
        "7: IMPORTING a at b, then MIGRATING b at a, then carry it from a to b",
    );
}

#[test]
fn row_8_a_stale_mark_is_taken_off() {
    check("a ->b\nb owns 3 keys\nc", "8: NODE b at a");
    check("a ->b\nb owns ->c 3 keys\nc <-b", "8: NODE b at a");
    check("a owns <-b 3 keys\nb", "8: STABLE at a");
    check("a owns\nb\nreplica of b", "8: STABLE at b");
}

#[test]
fn rows_9_to_11_what_nobody_claims_goes_to_who_holds_its_keys() {
    check("a names b\nb names a <-a 3 keys\nc names a", "9: IMPORTING a at b, then NODE b at b");
    check("a names b\nb names a <-a\nc names a", "9: IMPORTING a at b, then NODE b at b");
    check("a names b\nb names a 3 keys\nc names a", "10: IMPORTING a at b, then NODE b at b");
    check("a names b\nb names a\nc names a", "11: IMPORTING a at b, then NODE b at b");
    check("a names b 3 keys\nb names a\nc names a", "10: IMPORTING b at a, then NODE a at a");
    check("a names b 3 keys\nb names a 1 key\nc names a", "10: a human must decide");
    check("a names b\nb names a\nc names a 1 key", "10: a human must decide");
    check("a names d\nb names d\nd gone to a", "10: a human must decide");
    check("a names nobody 2 keys\nb names a", "10: IMPORTING b at a, then NODE a at a");
}

#[test]
fn row_12_stray_keys_go_home_if_a_human_says_so() {
    check("a owns 3 keys\nb 2 keys\nc", "12: bring the keys at b to a, if a human says so");
    check("a owns\nb 2 keys\nc 1 key", "12: bring the keys at b and c to a, if a human says so");
    check("a ->b 1 key\nb owns 3 keys", "12: bring the keys at a to b, if a human says so");
}

#[test]
fn row_13_empty_takers_are_closed_and_it_goes_on_to_the_right_one() {
    check("a owns ->b 3 keys\nb <-a 1 key\nc <-a", "13: STABLE at c, then carry it from a to b");
    check("a owns 3 keys\nb <-a 1 key\nc <-a", "13: STABLE at c, then carry it from a to b");
    check("a owns 3 keys\nb <-a\nc <-a", "13: STABLE at b, then STABLE at c");
    check("a owns ->b 3 keys\nb <-a 1 key\nc <-a 1 key", "13: a human must decide");
    check("a owns 3 keys\nb <-a 1 key\nc 1 key", "13: a human must decide");
    check("a owns ->b 3 keys\nb <-a\nc 1 key", "13: a human must decide");
}

#[test]
fn row_14_a_mark_that_names_nobody_is_taken_off() {
    check("a owns ->f 3 keys\nb", "14: STABLE at a");
    check("a owns ->a 3 keys\nb", "14: STABLE at a");
    check("a owns ->f 3 keys\nb 2 keys", "14: IMPORTING a at b, then MIGRATING b at a, then carry it from a to b");
    check("a owns ->f 3 keys\nb 2 keys\nc 1 key", "13: a human must decide");
}

#[test]
fn rows_15_to_17_a_slot_of_nobody_goes_to_who_holds_its_keys() {
    check("a names nobody\nb names nobody\nheir b", "15: ADDSLOTS at b");
    check("a names nobody\nb names nobody", "15: a human must decide");
    check("a names nobody\nb names nobody 2 keys\nheir a", "16: ADDSLOTS at b");
    check("a names nobody 1 key\nb names nobody 2 keys\nheir a", "17: ADDSLOTS at b, then bring the keys at a to b");
    check("a names nobody ->b 1 key\nb names nobody <-a 2 keys\nheir a", "17: ADDSLOTS at a");
    check("a names nobody ->b 1 key\nb names nobody ->a 2 keys", "17: a human must decide");
}

#[test]
fn row_18_of_two_claims_the_later_wins_if_the_other_has_no_key_to_lose() {
    check("a owns epoch 3 2 keys\nb owns epoch 4 1 key\nc", "18: a human must decide");
    check("a owns epoch 3\nb owns epoch 4 1 key\nc", "18: NODE b at a");
    check("a owns epoch 5 7 keys\nb owns epoch 4\nc owns epoch 1", "18: NODE a at b, then NODE a at c");
}

#[test]
fn row_19_who_is_wrong_about_the_owner_is_told() {
    check("a owns\nb\nc names b", "19: NODE a at c");
    check("a owns\nb names nobody\nc names b", "19: NODE a at b, then NODE a at c");
}

#[test]
fn row_20_what_a_lost_node_owns_is_given_to_nobody() {
    check("f lost\na 1 key\nb", "20: a human must decide");
}

#[test]
fn row_21_what_the_servers_move_themselves_is_left_alone() {
    check("job\na owns ->b\nb <-a", "21: wait");
}

#[test]
fn nothing_is_decided_while_a_primary_does_not_answer() {
    check("a owns ->b 3 keys\nb <-a\ne silent", "-: nothing while e does not answer");
    check("a names nobody\nb names nobody\ne silent", "-: nothing while e does not answer");
}

#[test]
fn the_facts_are_told_in_one_line() {
    let tell = |story: &str| with_names(&facts(story).to_string());
    assert_eq!(
        tell("a owns ->b 3 keys epoch 4\nb <-a 2 keys\nc"),
        "a claims it at epoch 4, is giving it to b, holds 3 keys; b is taking it from a, holds 2 keys"
    );
    assert_eq!(
        tell("a owns\nb\nc names b"),
        "a claims it at epoch 1, holds 0 keys; c names b as its owner, holds 0 keys"
    );
    assert_eq!(tell("a names nobody\nb names nobody\ne silent"), "e does not answer");
    assert_eq!(tell("a names nobody\nb names nobody"), "nobody owns it and nobody holds a key of it");
}
