//! Whatever goes wrong, and whenever: no key is lost, and the slots are finished in the end.

use std::cell::Cell;
use std::collections::BTreeSet;

use evenkeel::cluster::{Slot, SlotSet};
use evenkeel::migration::{End, Ending, Key, ListedKeys, Purpose, SetSlotReply, Trouble};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::driver::{Driver, Fate};
use super::model::{Kind, Model, Place};

/// Runs of chance; all of them take a few seconds.
const RUNS: u32 = 12_000;
/// Turns without a fault after which one machine has ended: three slots of a few keys take at most thirty, and a
/// source that does not hear of the new owner is looked at and listened to a hundred times.
const TURNS: usize = 400;
/// Machines, one after the other and without a fault, after which nothing is left open. One that found too many faults
/// ends early and leaves the slots to its successor.
const MACHINES: usize = 2;

#[derive(Clone, Debug)]
enum Event {
    Turn(Fate),
    Sets(usize, usize),
    Deletes(usize, usize),
    Script(usize, usize),
    GossipToSource,
    GossipToBystander,
    TakeOverBoth,
    RaiseSource,
    Ping,
    Restart(End),
    Interrupt,
    Die,
    TargetFull(bool),
    NextSetSlot(SetSlotReply),
    Batch(usize),
}

#[derive(Clone, Debug)]
struct Run {
    kind: Kind,
    slots: usize,
    last: bool,
    /// Keys at the source to begin with: place, key.
    keys: Vec<(usize, usize)>,
    /// Names that were listed before the slots were opened, of keys that may have gone since.
    listed: Vec<(usize, usize)>,
    /// A key at the target that nobody reads.
    stray: Option<(usize, usize)>,
    /// The nodes count no keys of slots that they neither own nor import.
    hides: bool,
    events: Vec<Event>,
}

impl Run {
    /// The run with these events only, and no stray key.
    fn only(&self, keep: impl Fn(&Event) -> bool) -> Self {
        let events = self.events.iter().filter(|event| keep(event)).cloned().collect();
        Self { stray: None, events, ..self.clone() }
    }

    /// A machine that comes after one that ended between the target's mark and the end of what it showed takes stray keys for moved
    /// ones: after a death, or where the target did not answer again and again, or once and leaving was wanted.
    fn hides(&self) -> bool {
        let count = |of: fn(&Event) -> bool| self.events.iter().filter(|event| of(event)).count();
        let deaths = count(|event| matches!(event, Event::Restart(_) | Event::Die));
        let lost = count(|event| matches!(event, Event::Turn(fate) if *fate != Fate::Answered));
        let interrupts = count(|event| matches!(event, Event::Interrupt));
        let succeeded = deaths > 0 || lost > 2 || lost * interrupts > 0;
        self.hides && (self.stray.is_none() || !succeeded)
    }
}

const SLOTS: usize = 3;
const PLACES: usize = SLOTS * 2;
const KEYS: usize = 4;

fn slots(count: usize) -> SlotSet {
    (866..).take(count).filter_map(Slot::new).collect()
}

fn place(of: usize) -> Place {
    (slots(SLOTS).iter().nth(of % SLOTS).unwrap(), if of < SLOTS { 0 } else { 3 })
}

fn key(of: usize) -> Key {
    Key::from(format!("k{of}"))
}

fn event() -> impl Strategy<Value = Event> {
    let refused = SetSlotReply::from_error("ERR Slot import in progress.");
    let end = prop_oneof![Just(End::Source), Just(End::Target)];
    prop_oneof![
        40 => Just(Event::Turn(Fate::Answered)),
        2 => Just(Event::Turn(Fate::LostBefore)),
        3 => Just(Event::Turn(Fate::LostAfter)),
        4 => (0..3usize, 0..3usize).prop_map(|(moved, copied)| Event::Turn(Fate::Broken { moved, copied })),
        16 => (0..PLACES, 0..KEYS).prop_map(|(place, key)| Event::Sets(place, key)),
        6 => (0..PLACES, 0..KEYS).prop_map(|(place, key)| Event::Deletes(place, key)),
        2 => (0..PLACES, 0..KEYS).prop_map(|(place, key)| Event::Script(place, key)),
        4 => Just(Event::GossipToSource),
        4 => Just(Event::GossipToBystander),
        1 => Just(Event::TakeOverBoth),
        1 => Just(Event::RaiseSource),
        2 => Just(Event::Ping),
        1 => end.prop_map(Event::Restart),
        1 => Just(Event::Interrupt),
        2 => Just(Event::Die),
        1 => any::<bool>().prop_map(Event::TargetFull),
        1 => prop_oneof![Just(refused), Just(SetSlotReply::NoReplicas), Just(SetSlotReply::Late)].prop_map(Event::NextSetSlot),
        1 => (1..4usize).prop_map(Event::Batch),
    ]
}

fn run() -> impl Strategy<Value = Run> {
    (
        prop_oneof![Just(Kind::Redis), Just(Kind::Valkey)],
        1..=SLOTS,
        any::<bool>(),
        prop::collection::vec((0..PLACES, 0..KEYS), 0..10),
        prop::collection::vec((0..PLACES, 0..KEYS), 0..6),
        prop::option::weighted(0.1, (0..PLACES, 0..KEYS)),
        any::<bool>(),
        prop::collection::vec(event(), 0..80),
    )
        .prop_map(|(kind, slots, last, keys, listed, stray, hides, events)| Run {
            kind,
            slots,
            last,
            keys,
            listed,
            stray,
            hides,
            events,
        })
}

/// The run up to its last event; every assertion is the driver's and the model's.
fn play(run: &Run) -> Driver {
    let slots = slots(run.slots);
    let mut model = Model::new(run.kind, &slots, run.last);
    let places: Vec<Place> = (0..PLACES).map(place).filter(|(slot, _)| slots.contains(*slot)).collect();
    for &(at, name) in run.keys.iter().filter(|(at, _)| places.contains(&place(*at))) {
        model.client_sets(place(at), &key(name));
    }
    if let Some((at, name)) = run.stray.filter(|(at, _)| places.contains(&place(*at))) {
        model.target.put(place(at), &key(name), Some(Model::STRAY));
    }
    (model.source.hides, model.target.hides) = (run.hides(), run.hides());
    let mut listed = ListedKeys::new();
    for (at, name) in run.listed.iter().copied().collect::<BTreeSet<_>>() {
        let (slot, db) = place(at);
        listed.entry((db, slot)).or_default().push(key(name));
    }
    let driver = Driver::new(model, slots, Purpose::Move, places.clone(), (0..KEYS).map(key).collect());
    let mut driver = driver.with_listed(listed);
    for event in &run.events {
        match event {
            Event::Turn(fate) => {
                driver.turn(*fate);
            }
            Event::Sets(at, name) if places.contains(&place(*at)) && driver.clients_may_act() => {
                driver.model.client_sets(place(*at), &key(*name));
            }
            Event::Deletes(at, name) if places.contains(&place(*at)) && driver.clients_may_act() => {
                driver.model.client_deletes(place(*at), &key(*name));
            }
            Event::Script(at, name) if places.contains(&place(*at)) && driver.clients_may_act() => {
                driver.model.script_sets(place(*at), &key(*name));
            }
            Event::GossipToSource => driver.model.gossip_to_source(),
            Event::GossipToBystander => driver.model.gossip_to_bystander(),
            // Nobody can do anything about an epoch that is raised once the target has been told, or is just being told.
            Event::TakeOverBoth if driver.epochs_may_change() => driver.model.take_over_both(),
            Event::RaiseSource if driver.epochs_may_change() => driver.model.raise_source(),
            Event::Ping if driver.epochs_may_change() => driver.model.ping(),
            Event::Sets(..)
            | Event::Deletes(..)
            | Event::Script(..)
            | Event::TakeOverBoth
            | Event::RaiseSource
            | Event::Ping => {}
            Event::Restart(end) => driver.model.at(*end).process += 1,
            Event::Interrupt => driver.machine.interrupt(Trouble::Interrupted),
            Event::Die => driver.die_and_resume(),
            Event::TargetFull(full) => driver.model.full = *full,
            Event::NextSetSlot(reply) => driver.model.next_setslot = Some(reply.clone()),
            Event::Batch(batch) => driver.batch = *batch,
        }
        driver.assert_clients();
    }
    driver
}

/// Lets the machine go on without further faults until it ends.
fn ends(driver: &mut Driver) -> Ending {
    if driver.epochs_may_change() {
        driver.model.ping();
    }
    (0..TURNS).find_map(|_| driver.turn(Fate::Answered)).expect("the machine ends")
}

fn check(property: impl Fn(&Run)) {
    let config = Config { cases: RUNS, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&run(), |run| {
        property(&run);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn whatever_goes_wrong_no_key_is_lost_and_the_slots_are_finished() {
    check(|run| {
        let slots = slots(run.slots);
        let mut driver = play(run);
        (driver.model.full, driver.model.next_setslot) = (false, None);
        let mut ending = ends(&mut driver);
        for _machine in 0..MACHINES {
            if driver.model.open_slots(&slots).is_empty() {
                break;
            }
            driver.die_and_resume();
            ending = ends(&mut driver);
        }
        for slot in driver.model.open_slots(&slots).iter() {
            assert!(in_conflict(&driver.model, slot), "slot {slot} stays open: {ending:?}");
            assert!(matches!(ending, Ending::Left(Trouble::Conflict { .. })), "slot {slot}: {ending:?}");
        }
        driver.assert_clients();
    });
}

/// A key of the slot has different values at both ends: no machine may decide which is to be kept.
fn in_conflict(model: &Model, slot: Slot) -> bool {
    model.source.keys.iter().filter(|((of, _), _)| *of == slot).any(|(&place, keys)| {
        keys.iter().any(|(key, &value)| model.target.get(place, key).is_some_and(|other| other != value))
    })
}

#[test]
fn without_a_fault_every_slot_is_moved_by_the_first_machine() {
    check(|run| {
        let quiet = |event: &Event| match event {
            Event::Turn(fate) => *fate == Fate::Answered,
            Event::Sets(..)
            | Event::Deletes(..)
            | Event::Batch(_)
            | Event::GossipToSource
            | Event::GossipToBystander => true,
            Event::Interrupt
            | Event::Die
            | Event::Script(..)
            | Event::TakeOverBoth
            | Event::RaiseSource
            | Event::Ping
            | Event::Restart(_)
            | Event::TargetFull(_)
            | Event::NextSetSlot(_) => false,
        };
        let mut driver = play(&run.only(quiet));
        assert_eq!(ends(&mut driver), Ending::Done);
        let slots = slots(run.slots);
        assert_eq!(driver.model.target.claims, slots);
        assert!(driver.model.open_slots(&slots).is_empty(), "no mark is left");
        assert_eq!(driver.machine.progress().slots, slots.len());
    });
}

#[test]
fn an_interrupted_move_leaves_a_slot_with_both_marks_or_with_none() {
    check(|run| {
        // A call that breaks off twice finds a target that is gone, and its copies stay.
        let broken = Cell::new(0);
        let quiet = |event: &Event| match event {
            Event::Turn(Fate::Broken { .. }) => broken.replace(broken.get() + 1) == 0,
            Event::Turn(fate) => *fate == Fate::Answered,
            Event::Sets(..)
            | Event::Deletes(..)
            | Event::GossipToSource
            | Event::GossipToBystander
            | Event::Batch(_)
            | Event::Interrupt
            | Event::Script(..) => true,
            Event::TakeOverBoth
            | Event::RaiseSource
            | Event::Ping
            | Event::Restart(_)
            | Event::Die
            | Event::TargetFull(_)
            | Event::NextSetSlot(_) => false,
        };
        let mut driver = play(&run.only(quiet));
        driver.machine.interrupt(Trouble::Interrupted);
        let ending = ends(&mut driver);
        let (source, target) = (&driver.model.source, &driver.model.target);
        for slot in slots(run.slots).iter() {
            assert_eq!(source.marked(slot), target.marked(slot), "slot {slot}: {ending:?}");
            for ((of, db), keys) in source.keys.iter().filter(|((of, _), _)| *of == slot) {
                let copied = keys.keys().find(|key| target.get((*of, *db), key).is_some());
                assert_eq!(copied, None, "a copy of slot {slot} is left behind");
            }
        }
    });
}
