//! Carries out a machine's steps against the model, and asserts what must be true of every one of them.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel::cluster::{Slot, SlotSet};
use evenkeel::migration::{
    CallLimit, End, Ending, Key, ListedKeys, Mark, Migration, Predecessors, Purpose, Reply, Step,
};

use super::model::{Call, Model, Place};

/// What becomes of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Carried out and answered.
    Answered,
    /// The call did not arrive.
    LostBefore,
    /// The call was carried out and the answer did not arrive.
    LostAfter,
    /// A `MIGRATE` breaks off; any other step is answered.
    Broken { moved: usize, copied: usize },
}

/// One machine at work on one model.
pub(crate) struct Driver {
    pub(crate) model: Model,
    pub(crate) machine: Migration,
    /// Every slot of the story, whichever machine is at work.
    slots: SlotSet,
    places: Vec<Place>,
    keys: Vec<Key>,
    /// Whether clients read everything after every step, as they do unless a crash before made that impossible.
    every_step: bool,
    /// The most keys of one call.
    pub(crate) batch: usize,
    /// The cluster's one finalise is given to this machine.
    holds_finalise: bool,
    /// The target's keys of each slot, by the last answer that counted them.
    counted: BTreeMap<Slot, u64>,
    /// The processes that this machine works with.
    processes: [u32; 2],
    /// Slots of which the target holds what is no copy.
    kept: SlotSet,
    /// Slots whose mark at the source somebody has cleared, which the machine cannot know before its next call.
    unmarked: SlotSet,
}

impl Driver {
    pub(crate) fn new(model: Model, slots: SlotSet, purpose: Purpose, places: Vec<Place>, keys: Vec<Key>) -> Self {
        let machine = Migration::new(model.pair, slots.clone(), purpose);
        let processes = [model.source.process, model.target.process];
        Self {
            model,
            machine,
            slots,
            places,
            keys,
            every_step: true,
            batch: 100,
            holds_finalise: false,
            counted: BTreeMap::new(),
            processes,
            kept: SlotSet::new(),
            unmarked: SlotSet::new(),
        }
    }

    /// Somebody clears the source's mark.
    pub(crate) fn unmark_source(&mut self, slot: Slot) {
        self.model.source.migrating.remove(&slot);
        self.unmarked.insert(slot);
    }

    /// Whether clients read everything after every step; otherwise only where the test says so.
    pub(crate) fn checking_every_step(self, every_step: bool) -> Self {
        Self { every_step, ..self }
    }

    /// Between nodes of which one has been the other's replica.
    pub(crate) fn between_kin(self) -> Self {
        Self { machine: self.machine.between_kin(true), ..self }
    }

    /// With a machine that knows these names before it opens anything.
    pub(crate) fn with_listed(self, listed: ListedKeys) -> Self {
        Self { machine: self.machine.with_listed(listed), ..self }
    }

    /// With a machine that recovers what failovers left: marks may name the nodes of before.
    pub(crate) fn recovering(self, before: Predecessors, on_record: bool) -> Self {
        let slots = self.machine.slots().clone();
        Self { machine: Migration::resume(self.model.pair, slots, before, on_record), ..self }
    }

    /// The step that the machine wants, which it wants again when it is asked again.
    pub(crate) fn wants(&mut self) -> Step {
        let limit = CallLimit { keys: self.batch, last: self.batch, block: Duration::from_millis(2) };
        let step = self.machine.next_step(limit);
        assert_eq!(self.machine.next_step(limit), step, "asked twice");
        step
    }

    /// The daemon dies; another one goes on with the slots that it finds open.
    pub(crate) fn die_and_resume(&mut self) {
        let open = self.model.open_slots(&self.slots);
        self.machine = Migration::new(self.model.pair, open, Purpose::Resume);
        self.holds_finalise = false;
        self.processes = [self.model.source.process, self.model.target.process];
    }

    /// Whether a client may act now.
    ///
    /// Between the count of the target's keys and the source's `STABLE` it may not: two nodes cannot be told at once,
    /// and a key that is written there meanwhile is only found by the look that follows (a story of its own). Nor may a
    /// script between the count of the source's keys and the target's `NODE`.
    pub(crate) fn clients_may_act(&mut self) -> bool {
        !matches!(
            self.wants(),
            Step::SetSlots { at: End::Source, mark: Mark::Stable, .. }
                | Step::SetSlots { at: End::Target, mark: Mark::Assigned, .. }
        )
    }

    /// Whether the nodes' epochs may change now: not between the look that compares them and what is told after it.
    pub(crate) fn epochs_may_change(&mut self) -> bool {
        let is_told = self.slots.intersects(&self.model.target.claims);
        !is_told && !matches!(self.wants(), Step::SetSlots { at: End::Target, mark: Mark::Assigned, .. })
    }

    /// Carries out the next step; `Some` at the end.
    pub(crate) fn turn(&mut self, fate: Fate) -> Option<Ending> {
        let step = self.wants();
        if let Step::End(ending) = step {
            assert!(!self.holds_finalise, "the finalise is not given back");
            return Some(ending);
        }
        let reply = self.answer(&step, fate);
        self.machine.on_reply(reply).expect("every answer fits its step");
        assert_eq!(self.machine.holds_finalise(), self.holds_finalise, "who holds the finalise");
        if self.every_step {
            self.assert_clients();
        }
        None
    }

    pub(crate) fn assert_clients(&self) {
        self.model.assert_clients_read_what_they_wrote(&self.places, &self.keys);
    }

    fn answer(&mut self, step: &Step, fate: Fate) -> Reply {
        let Some(&at) = asked(step).first() else { return self.supervise(step) };
        for (known, &end) in [0, 1].into_iter().zip(&[End::Source, End::Target]) {
            let process = self.model.at(end).process;
            if asked(step).contains(&end) && self.processes[known] != process {
                self.processes[known] = process;
                return Reply::ProcessChanged { at: end };
            }
        }
        let lost = Reply::NoAnswer { at, why: "timeout".to_owned() };
        match fate {
            Fate::LostBefore => lost,
            Fate::LostAfter => {
                self.perform(step, Call::Plain);
                lost
            }
            Fate::Answered => self.perform(step, Call::Plain),
            Fate::Broken { moved, copied } => self.perform(step, Call::Broken { moved, copied }),
        }
    }

    /// What the supervisor grants; it always answers.
    fn supervise(&mut self, step: &Step) -> Reply {
        if *step == Step::TakeFinalise {
            assert!(!self.holds_finalise, "the finalise is taken twice");
            self.holds_finalise = true;
        }
        if *step == Step::YieldFinalise {
            assert!(self.holds_finalise, "the finalise is given back without being held");
            for slot in self.slots.iter() {
                let both = self.model.source.claims.contains(slot) && self.model.target.claims.contains(slot);
                assert!(!both, "the finalise is given back while both ends claim slot {slot}");
            }
            self.holds_finalise = false;
        }
        Reply::Go
    }

    fn perform(&mut self, step: &Step, call: Call) -> Reply {
        match step {
            Step::ReadEnds { slots, count_source, count_target, .. } => {
                let ends = self.model.ends(slots, [*count_source, *count_target], &self.slots);
                self.counted = ends.target.keys.clone();
                Reply::Ends(Box::new(ends))
            }
            Step::SetSlots { at, mark, slots } => {
                self.assert_may_set(*at, *mark, slots);
                Reply::Marked(slots.iter().map(|slot| (slot, self.model.set_slot(*at, *mark, slot))).collect())
            }
            Step::ListKeys { db, slots, count } => {
                Reply::Listed(slots.iter().map(|&slot| (slot, self.model.list((slot, *db), *count))).collect())
            }
            Step::MoveKeys(batch) => {
                let source = &self.model.source;
                let marked = source.migrating.get(&batch.slot) == Some(&self.model.pair.target);
                let unmarked = std::mem::take(&mut self.unmarked).contains(batch.slot);
                assert!(marked || unmarked, "MIGRATE from slot {} without the source's mark", batch.slot);
                assert!(!self.holds_finalise, "keys are moved under the finalise");
                Reply::Moved(self.model.migrate(batch, call))
            }
            Step::CompareKeys(batch) => Reply::Compared(self.model.compare(batch)),
            Step::DropCopies(slots) => {
                for slot in slots.iter() {
                    let (source, target) = (&self.model.source, &self.model.target);
                    assert!(target.importing.contains_key(&slot), "the target shows its keys to nobody");
                    let is_whole = source.claims.contains(slot) && !source.migrating.contains_key(&slot);
                    assert!(is_whole, "clients may read copies of slot {slot}");
                }
                let left = self.model.drop_copies(slots);
                self.kept = left.iter().filter(|(_, keys)| *keys > 0).map(|(slot, _)| *slot).collect();
                Reply::Dropped(left)
            }
            Step::TakeFinalise | Step::YieldFinalise | Step::Listen | Step::Pause(_) | Step::End(_) => {
                unreachable!("nobody is asked")
            }
        }
    }

    /// What must be true before a node is told.
    fn assert_may_set(&self, at: End, mark: Mark, slots: &SlotSet) {
        let (source, target) = (&self.model.source, &self.model.target);
        for slot in slots.iter() {
            match (mark, at) {
                (Mark::Assigned, End::Target) => {
                    assert!(self.holds_finalise, "slot {slot} is assigned outside the finalise");
                    if !target.claims.contains(slot) {
                        assert_eq!(source.count(slot), 0, "slot {slot} is assigned before the source is empty");
                        assert!(target.importing.contains_key(&slot), "an owner without the mark raises no epoch");
                        let wins = self.model.epoch_of_claim() > source.epoch;
                        assert!(wins, "the claim of slot {slot} loses against the source's, and its keys are gone");
                    }
                }
                (Mark::Assigned, End::Source) => {
                    assert!(self.holds_finalise, "slot {slot} is told outside the finalise");
                    assert!(target.claims.contains(slot), "the source gives slot {slot} up to nobody");
                }
                // Keys that nobody saw before either.
                (Mark::Stable, End::Target) if self.kept.contains(slot) || self.model.has_strays(slot) => {
                    assert!(!source.migrating.contains_key(&slot), "STABLE strands keys of slot {slot}");
                }
                (Mark::Stable, _) => {
                    assert!(!target.claims.contains(slot), "slot {slot} is half assigned and goes forward");
                    // What comes between the count and the source's `STABLE` only a race can bring; see the stories.
                    assert_eq!(self.counted.get(&slot), Some(&0), "STABLE at {at:?} strands keys of slot {slot}");
                    assert!(at == End::Source || target.count(slot) == 0, "STABLE strands keys of slot {slot}");
                    let source_sends_there = at == End::Target && source.migrating.contains_key(&slot);
                    assert!(!source_sends_there, "STABLE at the target before the source");
                }
                (Mark::Migrating, _) => {
                    assert!(target.importing.contains_key(&slot) || target.claims.contains(slot), "target first");
                }
                (Mark::Redirected, _) => assert!(source.claims.contains(slot), "the source is to claim it itself"),
                (Mark::Importing, _) => {}
            }
        }
    }
}

/// The ends that a step asks, first the one that fails when it fails.
fn asked(step: &Step) -> &'static [End] {
    match step {
        Step::ReadEnds { .. } | Step::CompareKeys(_) | Step::DropCopies(_) | Step::MoveKeys(_) => {
            &[End::Source, End::Target]
        }
        Step::SetSlots { at: End::Target, .. } => &[End::Target],
        Step::SetSlots { at: End::Source, .. } | Step::ListKeys { .. } => &[End::Source],
        Step::TakeFinalise | Step::YieldFinalise | Step::Listen | Step::Pause(_) | Step::End(_) => &[],
    }
}
