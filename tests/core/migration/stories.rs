//! One move each, as the sequence of its steps.

use std::collections::BTreeSet;

use evenkeel::cluster::{NodeId, SlotSet};
use evenkeel::migration::{
    Batch, End, Ending, Key, ListedKeys, Mark, Predecessors, Purpose, SetSlotReply, Step, Trouble,
};
use expect_test::{Expect, expect};

use super::driver::{Driver, Fate};
use super::model::{Kind, Model, Place};

/// Plays a story and compares its steps, one line from each look at the ends to the next.
///
/// The story is how things stand, and then, after the number of a step, what happens right before that step:
/// `slots 866; keys 866 a b; 5: interrupt`. Slots of keys may name a database: `keys 866/3 c`.
fn check(story: &str, expect: Expect) {
    let mut driver = begin(story);
    let mut told = String::new();
    for turn in 1..200 {
        let mut fate = Fate::Answered;
        for words in story.split(';').map(words) {
            if words.first() == Some(&format!("{turn}:").as_str()) {
                fate = happens(&mut driver, &words[1..]).unwrap_or(fate);
            }
        }
        let step = driver.wants();
        if matches!(step, Step::ReadEnds { .. }) && !story.contains("deaf") {
            // Between two looks every node hears what the others say, as it does on a network that is well.
            driver.model.gossip_to_source();
        }
        let between = if matches!(step, Step::ReadEnds { .. }) { "\n" } else { "; " };
        told.push_str(if turn == 1 { "" } else { between });
        told.push_str(&text(&step));
        if driver.turn(fate).is_some() {
            driver.assert_clients();
            return expect.assert_eq(&shortened(&told));
        }
    }
    panic!("no end of {told}");
}

/// What is told, each line that comes more than four times in a row once, with the number.
fn shortened(told: &str) -> String {
    let lines: Vec<&str> = told.lines().collect();
    let runs = lines.chunk_by(|a, b| a == b);
    let written = |run: &[&str]| match run {
        [line, ..] if run.len() > 4 => format!("{line} ({} times)", run.len()),
        _ => run.join("\n"),
    };
    runs.map(written).collect::<Vec<_>>().join("\n")
}

fn words(item: &str) -> Vec<&str> {
    item.split_whitespace().collect()
}

/// A slot's number, with a database or without.
fn place(text: &str) -> Place {
    let (slot, db) = text.split_once('/').unwrap_or((text, "0"));
    (slot.parse().unwrap(), db.parse().unwrap())
}

fn node(digit: &str) -> NodeId {
    digit.repeat(40).parse().unwrap()
}

fn third() -> NodeId {
    node("c")
}

/// The nodes that the ends have taken over from, where a story has a failover.
fn before() -> Predecessors {
    Predecessors { source: BTreeSet::from([node("d")]), target: BTreeSet::from([node("e")]) }
}

fn begin(story: &str) -> Driver {
    let items: Vec<Vec<&str>> = story.split(';').map(words).collect();
    let has = |word: &str| items.iter().any(|item| item[0] == word);
    let slots: SlotSet = items.iter().find(|item| item[0] == "slots").expect("a story has slots")[1].parse().unwrap();
    let kind = if has("valkey") { Kind::Valkey } else { Kind::Redis };
    let mut model = Model::new(kind, &slots, has("last"));
    let mut used = BTreeSet::new();
    let mut listed = ListedKeys::new();
    for item in &items {
        let keys = || item[2..].iter().map(|&key| (place(item[1]), Key::from(key.to_owned())));
        match item[0] {
            "slots" | "valkey" | "last" | "kin" | "resume" | "race" | "failover" | "recorded" | "deaf" => {}
            "hides" => (model.source.hides, model.target.hides) = (true, true),
            "keys" | "moved" | "copied" => {
                for (place, key) in keys() {
                    model.client_sets(place, &key);
                    let value = model.source.get(place, &key);
                    if item[0] != "keys" {
                        model.target.put(place, &key, value);
                    }
                    if item[0] == "moved" {
                        model.source.put(place, &key, None);
                    }
                    used.insert((place, key));
                }
            }
            "listed" => {
                for ((slot, db), key) in keys() {
                    listed.entry((db, slot)).or_default().push(key);
                }
            }
            "stray" => keys().for_each(|(place, key)| model.target.put(place, &key, Some(Model::STRAY))),
            "importing" => drop(model.target.importing.insert(place(item[1]).0, model.pair.source)),
            "migrating" => drop(model.source.migrating.insert(place(item[1]).0, model.pair.target)),
            "importing-from-old" => {
                model.target.importing.insert(place(item[1]).0, node("d"));
                model.target.names_owner.insert(place(item[1]).0, node("d"));
            }
            "importing-from-nobody" => {
                model.target.importing.insert(place(item[1]).0, node("d"));
                model.target.ownerless.insert(place(item[1]).0);
            }
            "migrating-to-old" => drop(model.source.migrating.insert(place(item[1]).0, node("e"))),
            "foreign" => drop(model.source.migrating.insert(place(item[1]).0, third())),
            "assigned" => model.target.claims.extend([place(item[1]).0]),
            "given" => drop(model.source.claims.remove(place(item[1]).0)),
            number if number.ends_with(':') => {}
            other => panic!("no such item: {other}"),
        }
    }
    // What a crash or a race left is not always readable; then only what the end leaves is looked at.
    let purpose = if has("resume") { Purpose::Resume } else { Purpose::Move };
    let (places, keys): (Vec<Place>, Vec<Key>) = used.into_iter().unzip();
    let failed_over = has("failover") || has("recorded");
    let every_step = !has("resume") && !has("race") && !failed_over;
    let driver = Driver::new(model, slots, purpose, places, keys).checking_every_step(every_step);
    let driver = driver.with_listed(listed);
    let driver = if has("kin") { driver.between_kin() } else { driver };
    if failed_over { driver.recovering(before(), has("recorded")) } else { driver }
}

fn happens(driver: &mut Driver, words: &[&str]) -> Option<Fate> {
    let number = |text: &str| text.parse().unwrap();
    match *words {
        ["ioerr", moved, copied] => return Some(Fate::Broken { moved: number(moved), copied: number(copied) }),
        ["lost"] => return Some(Fate::LostBefore),
        ["unheard"] => return Some(Fate::LostAfter),
        ["full"] => driver.model.full = true,
        ["space"] => driver.model.full = false,
        ["refuse"] => {
            let slow = "ERR Slot import in progress.";
            driver.model.next_setslot = Some(SetSlotReply::from_error(slow));
        }
        ["noreplicas"] => driver.model.next_setslot = Some(SetSlotReply::NoReplicas),
        ["late"] => driver.model.next_setslot = Some(SetSlotReply::Late),
        ["supersede"] => driver.machine.supersede(),
        ["interrupt"] => driver.machine.interrupt(Trouble::Interrupted),
        ["gossip"] => driver.model.gossip_to_source(),
        ["restart"] => driver.model.at(End::Source).process += 1,
        ["set", at, key] => driver.model.client_sets(place(at), &Key::from(key.to_owned())),
        ["script", at, key] => driver.model.script_sets(place(at), &Key::from(key.to_owned())),
        ["foreign", at] => drop(driver.model.source.migrating.insert(place(at).0, third())),
        ["forget", at] => driver.unmark_source(place(at).0),
        ["batch", keys] => driver.batch = number(keys),
        ["elsewhere", at] => {
            driver.model.source.claims.remove(place(at).0);
            driver.model.source.migrating.remove(&place(at).0);
        }
        ["unmark", at] => drop(driver.model.target.importing.remove(&place(at).0)),
        _ => panic!("no such event: {words:?}"),
    }
    None
}

fn text(step: &Step) -> String {
    let batch = |verb: &str, batch: &Batch| {
        let keys: Vec<_> = batch.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
        let database = if batch.db == 0 { String::new() } else { format!("/{}", batch.db) };
        let replace = if batch.replace { " replace" } else { "" };
        format!("{verb} {}{database} {}{replace}", batch.slot, keys.join(","))
    };
    let name = |end: End| match end {
        End::Source => "source",
        End::Target => "target",
    };
    let mark_name = |mark: Mark| match mark {
        Mark::Importing => "importing",
        Mark::Migrating => "migrating",
        Mark::Assigned => "assigned",
        Mark::Stable => "stable",
        Mark::Redirected => "redirected",
    };
    match step {
        Step::ReadEnds { .. } => "look".to_owned(),
        Step::SetSlots { at, mark, slots } => format!("{} {} {slots}", name(*at), mark_name(*mark)),
        Step::ListKeys { db, slots, .. } => {
            let slots = slots.iter().copied().collect::<SlotSet>();
            if *db == 0 { format!("list {slots}") } else { format!("list {slots}/{db}") }
        }
        Step::MoveKeys(keys) => batch("move", keys),
        Step::CompareKeys(keys) => batch("compare", keys),
        Step::DropCopies(slots) => format!("drop copies {slots}"),
        Step::TakeFinalise => "take".to_owned(),
        Step::YieldFinalise => "yield".to_owned(),
        Step::Listen => "listen".to_owned(),
        Step::Pause(trouble) => format!("pause {}", trouble.name()),
        Step::End(Ending::Done) => "done".to_owned(),
        Step::End(Ending::NotStarted(trouble)) => format!("not started: {}", trouble.name()),
        Step::End(Ending::Left(trouble)) => format!("left: {}", trouble.name()),
    }
}

#[test]
fn a_move_marks_drains_and_assigns_target_first() {
    check(
        "slots 866; keys 866 a b",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn empty_slots_are_moved_as_one_group() {
    check(
        "slots 866-868",
        expect![[r#"
            look; target importing 866-868; source migrating 866-868
            look; take
            look; target assigned 866-868
            look; source assigned 866-868
            look; yield; done"#]],
    );
}

#[test]
fn keys_whose_names_are_known_are_not_listed_again_unless_the_count_is_another() {
    check(
        "slots 866; keys 866 a b; keys 866/3 c; listed 866 a b; listed 866/3 c",
        expect![[r#"
        look; target importing 866; source migrating 866
        look; move 866 a,b; move 866/3 c; take
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
    check(
        "slots 866; keys 866 a b c; listed 866 a b",
        expect![[r#"
        look; target importing 866; source migrating 866
        look; move 866 a,b; list 866; move 866 c; take
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
    // One has gone since, and another has come.
    check(
        "slots 866; keys 866 a b; listed 866 a x",
        expect![[r#"
        look; target importing 866; source migrating 866
        look; move 866 a,x; take
        look; yield
        look; list 866; move 866 b; take
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
}

#[test]
fn keys_of_every_database_are_moved() {
    check(
        "slots 866; keys 866 a; keys 866/3 b",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; list 866/3; move 866/3 b; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_slot_with_both_marks_goes_forward_row_1() {
    check(
        "resume; slots 866; keys 866 a; moved 866 b; importing 866; migrating 866",
        expect![[r#"
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_source_mark_alone_goes_forward_with_the_target_marked_row_3() {
    check(
        "resume; slots 866; keys 866 a; migrating 866",
        expect![[r#"
            look; target importing 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_source_mark_with_keys_at_the_target_goes_forward_row_4() {
    check(
        "resume; slots 866; keys 866 a; moved 866 b; migrating 866",
        expect![[r#"
            look; target importing 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_target_mark_alone_is_cleared_row_5() {
    check(
        "resume; slots 866; keys 866 a; importing 866",
        expect![[r#"
            look; target stable 866
            look; done"#]],
    );
}

#[test]
fn slots_whose_marks_are_cleared_are_closed_and_were_not_moved() {
    let mut driver =
        begin("resume; slots 866-867; keys 866 a; importing 866; keys 867 b; importing 867; migrating 867");
    let ended = |driver: &mut Driver| {
        driver.model.gossip_to_source();
        driver.turn(Fate::Answered).is_some()
    };
    assert!((0..50).any(|_| ended(&mut driver)), "it comes to an end");
    assert_eq!((driver.machine.closed().to_string(), driver.machine.progress().slots), ("866".to_owned(), 1));
}

#[test]
fn a_target_mark_with_keys_goes_forward_row_6() {
    check(
        "resume; slots 866; keys 866 a; moved 866 b; importing 866",
        expect![[r#"
            look; source migrating 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_stale_mark_at_the_old_source_is_cleared_row_8() {
    check(
        "resume; slots 866; moved 866 a; migrating 866; assigned 866; given 866",
        expect![[r#"
            look; take
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_source_that_has_not_heard_of_the_new_owner_is_told() {
    check(
        "resume; slots 866; moved 866 a; migrating 866; assigned 866",
        expect![[r#"
            look; take
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn equal_copies_are_replaced_and_the_rest_is_moved() {
    check(
        "resume; slots 866; copied 866 a; keys 866 b; importing 866; migrating 866",
        expect![[r#"
            look; list 866; move 866 a,b; compare 866 a,b; move 866 a replace; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_slot_with_different_copies_is_set_apart_and_the_others_move() {
    let slots = "keys 866 a; stray 866 a; importing 866; migrating 866; keys 867 b; importing 867; migrating 867";
    check(
        &format!("resume; slots 866-867; {slots}"),
        expect![[r#"
            look; list 866-867; move 866 a; compare 866 a
            look; list 867; move 867 b; take
            look; target assigned 867
            look; source assigned 867
            look; yield; left: conflict"#]],
    );
}

#[test]
fn copies_of_a_broken_call_are_replaced_at_once() {
    check(
        "slots 866; keys 866 a b c; 6: ioerr 1 1",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b,c
            look; move 866 a,b,c replace; list 866; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn copies_of_a_broken_call_of_a_resumed_move_are_compared_first() {
    check(
        "resume; slots 866; keys 866 a b; importing 866; migrating 866; 3: ioerr 0 1",
        expect![[r#"
            look; list 866; move 866 a,b
            look; move 866 a,b; compare 866 a,b; move 866 a replace; list 866; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn copies_of_a_broken_call_are_replaced_after_a_target_that_was_full() {
    check(
        "slots 866; keys 866 a b; 6: ioerr 0 1; 8: full; 9: space",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b
            look; move 866 a,b replace; pause target_full
            look; move 866 a,b replace; list 866; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn an_interruption_waits_for_the_copies_of_a_broken_call() {
    check(
        "slots 866; keys 866 a b c; 6: ioerr 1 1; 7: interrupt",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b,c
            look; move 866 a,b,c replace; left: interrupted"#]],
    );
}

#[test]
fn a_full_target_leaves_the_slot_open_with_both_marks() {
    check(
        "slots 866; keys 866 a; 6: full",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; pause target_full
            look; list 866; move 866 a; pause target_full
            look; list 866; move 866 a; pause target_full
            look; list 866; move 866 a; left: target_full"#]],
    );
}

#[test]
fn a_refused_mark_closes_every_slot_again() {
    check(
        "slots 866-867; keys 866 a; 3: refuse",
        expect![[r#"
            look; target importing 866-867; source migrating 866-867
            look; source stable 867
            look; target stable 866-867
            look; not started: refused"#]],
    );
}

#[test]
fn a_key_that_came_while_slots_were_closed_is_sent_for_again() {
    check(
        "race; slots 866-867; keys 867 late; 3: refuse; 5: set 867 later",
        expect![[r#"
        look; target importing 866-867; source migrating 866-867
        look; source stable 867
        look; source migrating 867
        look; left: refused"#]],
    );
}

#[test]
fn a_slot_that_a_third_node_is_to_get_is_set_apart() {
    check(
        "slots 866-867; foreign 866",
        expect![[r#"
            look; target importing 867; source migrating 867
            look; take
            look; target assigned 867
            look; source assigned 867
            look; yield; left: foreign_mark"#]],
    );
}

#[test]
fn copies_of_a_broken_call_are_left_alone_once_the_slot_is_somebody_elses() {
    check(
        "race; slots 866-867; keys 866 a; 6: ioerr 0 1; 7: foreign 866",
        expect![[r#"
            look; target importing 866-867; source migrating 866-867
            look; list 866; move 866 a
            look; take
            look; target assigned 867
            look; source assigned 867
            look; yield; left: foreign_mark"#]],
    );
}

#[test]
fn a_slot_with_stray_keys_at_the_target_is_set_apart() {
    check(
        "slots 866-867; keys 866 a; stray 866 z; keys 867 b",
        expect![[r#"
            look; target importing 867; source migrating 867
            look; list 867; move 867 b; take
            look; target assigned 867
            look; source assigned 867
            look; yield; left: stray_keys"#]],
    );
}

#[test]
fn a_mark_that_lacks_replicas_is_set_again() {
    check(
        "valkey; slots 866; 2: noreplicas",
        expect![[r#"
            look; target importing 866; pause no_replicas
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn an_assignment_that_lacks_replicas_is_repeated_before_anything_else() {
    check(
        "valkey; slots 866; 7: noreplicas; 8: noreplicas",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866; target assigned 866; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_refused_assignment_does_not_keep_the_finalise() {
    check(
        "slots 866; 7: refuse",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866; yield; pause refused
            look; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn an_assignment_without_an_answer_is_looked_up_under_the_finalise() {
    check(
        "slots 866; 7: unheard",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866; pause no_answer
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn an_assignment_that_is_never_heard_does_not_keep_the_finalise() {
    check(
        "slots 866; 7: lost; 10: lost; 13: lost; 16: lost",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866; pause no_answer
            look
            look; pause no_answer
            look
            look; pause no_answer
            look
            look; yield; left: no_answer"#]],
    );
}

#[test]
fn copies_of_a_former_replica_are_dropped_before_the_source_is_marked_and_what_is_none_stays() {
    check(
        "slots 866-867; kin; copied 866 a b; keys 866 c; keys 867 d",
        expect![[r#"
        look; target importing 866-867; source migrating 867
        look; drop copies 866
        look; source migrating 866
        look; list 866-867; move 866 a,b,c; move 867 d; take
        look; target assigned 866-867
        look; source assigned 866-867
        look; yield; done"#]],
    );
    check(
        "slots 866-867; kin; copied 866 a; stray 866 b; keys 867 d",
        expect![[r#"
        look; target importing 866-867; source migrating 867
        look; drop copies 866; target stable 866
        look; list 867; move 867 d; take
        look; target assigned 867
        look; source assigned 867
        look; yield; left: stray_keys"#]],
    );
    check(
        "slots 866; kin; copied 866 a; 3: set 866 a; 3: interrupt",
        expect![[r#"
        look; target importing 866
        look; drop copies 866; target stable 866
        look; left: stray_keys"#]],
    );
    check("slots 866; copied 866 a", expect!["look; not started: stray_keys"]);
}

#[test]
fn keys_that_a_target_shows_only_while_it_imports_are_seen_before_the_source_is_marked() {
    check(
        "slots 866; hides; keys 866 a",
        expect![[r#"
        look; target importing 866
        look; source migrating 866
        look; list 866; move 866 a; take
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
    check(
        "slots 866-867; hides; stray 866 b; keys 867 a",
        expect![[r#"
        look; target importing 866-867
        look; target stable 866
        look; source migrating 867
        look; list 867; move 867 a; take
        look; target assigned 867
        look; source assigned 867
        look; yield; left: stray_keys"#]],
    );
    check(
        "slots 866; hides; kin; copied 866 a",
        expect![[r#"
        look; target importing 866
        look; drop copies 866
        look; source migrating 866
        look; list 866; move 866 a; take
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
    check(
        "slots 866-867; hides; stray 866 b; 4: lost",
        expect![[r#"
        look; target importing 866-867
        look; target stable 866; pause no_answer
        look; target stable 866
        look; source migrating 867
        look; take
        look; target assigned 867
        look; source assigned 867
        look; yield; left: stray_keys"#]],
    );
    check(
        "slots 866-867; hides; stray 866 b; 4: refuse",
        expect![[r#"
        look; target importing 866-867
        look; target stable 866
        look; target stable 866
        look; source migrating 867
        look; take
        look; target assigned 867
        look; source assigned 867
        look; yield; left: stray_keys"#]],
    );
    check(
        "slots 866-867; hides; stray 866 b; 4: unheard; 5: interrupt",
        expect![[r#"
        look; target importing 866-867
        look; target stable 866; left: interrupted"#]],
    );
    check(
        "slots 866-867; hides; stray 867 b; 2: refuse",
        expect![[r#"
        look; target importing 866-867
        look; target stable 867
        look; not started: refused"#]],
    );
    check(
        "slots 866; hides; 3: interrupt",
        expect![[r#"
        look; target importing 866
        look; source migrating 866; left: interrupted"#]],
    );
    check(
        "slots 866; hides; resume; recorded; moved 866 a; keys 866 b",
        expect![[r#"
        look; target importing 866
        look; source migrating 866
        look; list 866; move 866 b; take
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
    check(
        "slots 866; hides; resume; recorded; keys 866 b",
        expect![[r#"
        look; target importing 866
        look; target stable 866
        look; done"#]],
    );
}

/// Nobody can reach the key meanwhile; without the source's mark nobody would look for it either.
#[test]
fn a_source_keeps_its_mark_while_a_target_without_one_may_hide_keys() {
    let mut driver = begin("slots 866; hides; resume; moved 866 a; migrating 866");
    let mut told = Vec::new();
    for turn in 1..20 {
        if turn == 2 {
            happens(&mut driver, &["refuse"]);
        }
        told.push(text(&driver.wants()));
        if driver.turn(Fate::Answered).is_some() {
            break;
        }
    }
    assert_eq!(told, ["look", "target importing 866", "look", "left: refused"]);
}

#[test]
fn an_assignment_that_comes_late_is_made_after_another_look() {
    check(
        "slots 866-867; 7: late",
        expect![[r#"
        look; target importing 866-867; source migrating 866-867
        look; take
        look; target assigned 866-867
        look; source assigned 867
        look
        look; target assigned 866
        look; source assigned 866
        look; yield; done"#]],
    );
    check(
        "slots 866; 7: late; 9: late",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866
            look
            look; target assigned 866
            look
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
    check(
        "slots 866; 7: noreplicas; 8: late",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866; target assigned 866
            look
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn an_assignment_that_a_third_node_has_does_not_keep_the_finalise() {
    check(
        "slots 866-867; 7: lost; 8: elsewhere 866",
        expect![[r#"
            look; target importing 866-867; source migrating 866-867
            look; take
            look; target assigned 866-867; pause no_answer
            look
            look; target assigned 867
            look; source assigned 867
            look; yield; left: owner_changed"#]],
    );
}

#[test]
fn an_unheard_assignment_is_not_given_up_at_once_when_a_key_comes() {
    check(
        "slots 866; 7: lost; 8: script 866 late",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866; pause no_answer
            look; pause stuck
            look; pause stuck
            look; yield
            look; list 866; move 866 late; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_key_that_came_late_is_moved_before_the_slot_is_assigned() {
    check(
        "slots 866; 6: script 866 late",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; yield
            look; list 866; move 866 late; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_mark_that_was_lost_is_set_again_before_the_slot_is_assigned() {
    check(
        "slots 866; 6: unmark 866",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; yield
            look; target importing 866
            look; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_source_that_does_not_hear_of_the_new_owner_is_told_in_the_end() {
    check(
        "slots 866; deaf; keys 866 a",
        expect![[r#"
        look; target importing 866; source migrating 866
        look; list 866; move 866 a; take
        look; target assigned 866
        look (5 times)
        look; listen (50 times)
        look; source assigned 866
        look; yield; done"#]],
    );
}

#[test]
fn a_source_mark_that_somebody_clears_is_set_again_after_the_next_call() {
    check(
        "slots 866; race; keys 866 a b c d; 1: batch 2; 6: forget 866",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b
            look; source migrating 866
            look; list 866; move 866 c,d; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn copies_of_a_broken_call_are_compared_once_the_source_has_been_unmarked() {
    check(
        "slots 866; race; keys 866 a b c; 6: ioerr 1 1; 7: forget 866",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b,c
            look; source migrating 866
            look; move 866 a,b,c; compare 866 a,b,c; move 866 b replace; list 866; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_target_that_does_not_import_is_looked_at_at_once_and_then_given_time() {
    check(
        "slots 866; race; keys 866 a b; 6: unmark 866",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b
            look; target importing 866
            look; list 866; move 866 a,b; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn an_interruption_before_the_first_mark_starts_nothing() {
    check("slots 866; 2: interrupt", expect!["look; not started: interrupted"]);
}

#[test]
fn an_interruption_between_the_marks_sets_the_second_one_first() {
    check(
        "slots 866; keys 866 a; 3: interrupt",
        expect!["look; target importing 866; source migrating 866; left: interrupted"],
    );
}

#[test]
fn an_interruption_under_the_finalise_waits_for_its_end() {
    check(
        "slots 866; 8: interrupt",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_restarted_source_ends_the_move() {
    check(
        "slots 866; keys 866 a; 6: restart",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; left: process_changed"#]],
    );
}

#[test]
fn a_restarted_source_is_told_of_the_new_owner_first() {
    check(
        "slots 866; 8: restart",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; take
            look; target assigned 866
            look
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_source_that_gives_its_last_slot_away_is_a_replica_at_the_end() {
    check(
        "last; slots 866; keys 866 a; 10: gossip",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_target_that_names_a_dead_node_is_told_before_the_finalise_of_another_slot_is_asked_for() {
    check(
        "failover; slots 866-867; assigned 866; given 866; migrating 866; moved 867 b; importing-from-old 867; migrating 867",
        expect![[r#"
            look; target redirected 867
            look; take
            look; source assigned 866
            look
            look; yield
            look; target importing 867
            look; take
            look; target assigned 867
            look; source assigned 867
            look; yield; done"#]],
    );
}

#[test]
fn a_source_that_took_over_without_marks_gets_them_and_the_target_learns_of_it_first() {
    check(
        "failover; slots 866-867; keys 866 a; moved 866 b; importing-from-old 866; importing-from-old 867",
        expect![[r#"
            look; target redirected 866-867
            look; target importing 866-867; source migrating 866-867
            look; list 866; move 866 a; take
            look; target assigned 866-867
            look; source assigned 866-867
            look; yield; done"#]],
    );
}

#[test]
fn a_target_that_has_not_heard_who_took_over_is_asked_again_at_once() {
    check(
        "failover; slots 866; keys 866 a; moved 866 b; importing-from-old 866; 2: refuse; 4: refuse",
        expect![[r#"
            look; target redirected 866
            look; target redirected 866
            look; target redirected 866
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_target_that_knows_of_no_owner_any_more_is_told_who_it_is() {
    check(
        "failover; slots 866; keys 866 a; moved 866 b; importing-from-nobody 866",
        expect![[r#"
            look; target redirected 866
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn a_target_that_took_over_without_marks_gets_them_before_the_source_sends_there() {
    check(
        "failover; slots 866; keys 866 a; moved 866 b; migrating-to-old 866",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn copies_that_a_failover_brought_back_are_compared_and_never_just_replaced() {
    check(
        "failover; slots 866; keys 866 a; copied 866 b; importing-from-old 866",
        expect![[r#"
            look; target redirected 866
            look; target importing 866; source migrating 866
            look; list 866; move 866 a,b; compare 866 a,b; move 866 b replace; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn slots_on_record_go_forward_although_both_ends_have_lost_their_marks() {
    check(
        "recorded; slots 866-867; keys 866 a; moved 866 b; keys 867 c",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; list 866; move 866 a; take
            look; target assigned 866
            look; source assigned 866
            look; yield; done"#]],
    );
}

#[test]
fn slots_without_marks_that_are_on_no_record_are_let_alone() {
    check("failover; slots 866-867; keys 866 a; stray 867 b", expect!["look; left: stray_keys"]);
}

#[test]
fn a_move_that_is_superseded_ends_where_it_stands() {
    check(
        "slots 866; keys 866 a b; 5: supersede",
        expect![[r#"
            look; target importing 866; source migrating 866
            look; left: failed_over"#]],
    );
}

#[test]
fn somebody_elses_mark_at_an_end_holds_the_finalise_up() {
    check(
        "slots 867; 4: foreign 866; 9: forget 866",
        expect![[r#"
            look; target importing 867; source migrating 867
            look; take
            look; yield; pause foreign_mark
            look; take
            look; target assigned 867
            look; source assigned 867
            look; yield; done"#]],
    );
}
