//! The state machine of one move: a pair and a set of slots, from the first mark to the last confirmation.
//!
//! Every state says what the servers confirmed. After any doubt (no answer, a pause, an answer that does not fit) the
//! machine looks at both ends again and goes on from what it finds; recovery after a crash enters the same way.

mod replies;
mod reveal;

use std::collections::BTreeMap;

use reveal::Revealed;

use super::facts::Sorted;
use super::transfer::{LIST_AT_ONCE, Transfer};
use super::{
    Batch, CallLimit, End, Ending, Ends, ForeignMark, HeavyKeys, ListedKeys, Mark, Pair, Predecessors, Progress,
    Purpose, Reply, Standing, Step, Trouble, UnexpectedReply,
};
use crate::cluster::{NodeId, Slot, SlotSet};

/// Looks at both ends without any key or slot coming forward, before the slots are left as they are.
///
/// A move needs five looks from start to end; more than twice as many without progress is a circle.
const LOOKS_WITHOUT_PROGRESS: u32 = 12;
/// Pauses without progress before the slots are left open, for the supervisor to come back to later.
const PAUSES_WITHOUT_PROGRESS: u32 = 3;
/// Looks, one right after the other, within which a node has mostly heard of what another one tells all.
const LOOKS_AT_ONCE: u32 = 5;
/// Looks in all before that is waited for no longer: half a second, at ten milliseconds for most [`Step::Listen`]s.
const LOOKS_UNTIL_HEARD: u32 = 55;

/// What the servers confirmed last, and so what is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Both ends are to be read; nothing is taken for granted.
    Looking,
    /// The same before slots are assigned: the source is to count whatever it has counted before, and to carry out writes.
    Recounting,
    /// The target takes a node that has been replaced for the owner of these, and is to be told of the source.
    Redirecting(SlotSet),
    /// The target is to be told of these; then the source of its own.
    MarkingTarget {
        target: SlotSet,
        source: SlotSet,
    },
    /// The target has every mark; the source is to be told of these.
    MarkingSource {
        source: SlotSet,
    },
    /// Both ends' own lines showed every mark.
    Open(Transfer),
    /// The target has marked these and holds keys of them, which may be copies of the source's.
    Clearing(SlotSet),
    /// A `MIGRATE` of this batch is under way.
    Moving(Transfer, Batch),
    /// A key of this batch was at the target already: the copies are to be compared.
    Comparing(Transfer, Batch),
    /// The source's listings came to their end; the finalise is wanted.
    Drained,
    /// Under the finalise, the source counted no key of these and both ends showed their marks.
    Assigning(SlotSet),
    /// The target said that it owns these.
    Telling(SlotSet),
    /// The finalise is to be given back, and then this.
    Yielding(Box<State>),
    /// The target holds no key of these and the source did not open them.
    Unmarking {
        at: End,
        slots: SlotSet,
    },
    /// To wait, and look again.
    Pausing(Trouble),
    /// The source has not heard yet what the target said.
    Listening,
    Ended(Ending),
}

/// One move: a pair of primaries and a set of slots.
#[derive(Clone, Debug)]
pub struct Migration {
    pair: Pair,
    purpose: Purpose,
    before: Predecessors,
    /// The slots were opened by us, whatever has become of their marks.
    on_record: bool,
    slots: SlotSet,
    state: State,
    /// The finalise is ours. While it is, the machine does nothing but finish or give back.
    holds_finalise: bool,
    /// Slots of which some node was asked to change the owner, by us or by a predecessor, and that the source has not
    /// been seen to give up. While there is one, a finalise that is held stays.
    told: SlotSet,
    /// Slots that were found closed without having been moved.
    closed: SlotSet,
    /// Slots that are not this move's to finish, and why.
    troubled: BTreeMap<Slot, Trouble>,
    /// An end was restarted while the finalise was held.
    changed: Option<Trouble>,
    /// Slots that this machine asked to open.
    opened: SlotSet,
    revealed: Revealed,
    /// Slots that were seen with both marks.
    seen_open: SlotSet,
    /// Both processes are the ones that these slots were opened against, by this machine, and the source's marks have
    /// been there ever since.
    unbroken: bool,
    /// Slots of which the target was found with keys before they were opened; only where one end has been the other's replica,
    /// so that these may be copies.
    copies: Option<SlotSet>,
    heavy: HeavyKeys,
    /// Names that are known before the slots are open, until they are.
    listed: ListedKeys,
    list_at_once: u64,
    /// Keys that a call of ours without an answer may have left on both ends.
    suspect: Option<Batch>,
    /// The slots are to be closed again, because of this.
    withdrawing: Option<Trouble>,
    interrupted: Option<Trouble>,
    looks: u32,
    pauses: u32,
    /// Calls without a clear answer since the last clear one.
    doubts: u32,
    /// Looks at a source that had not heard of the target's claim, or a target that had not of the source's role.
    unheard: u32,
    /// Slots that the target was given by this machine, and of which the source was told nothing since. A source that has
    /// heard of it is told all the same: on Redis its mark is left, and a Valkey passes it on to its replicas.
    untold: SlotSet,
    progress: Progress,
}

impl Migration {
    /// A move of these slots; for [`Purpose::Move`] the source owns them all.
    #[must_use]
    pub fn new(pair: Pair, slots: SlotSet, purpose: Purpose) -> Self {
        Self {
            pair,
            purpose,
            before: Predecessors::default(),
            on_record: false,
            slots,
            state: State::Looking,
            holds_finalise: false,
            told: SlotSet::new(),
            closed: SlotSet::new(),
            troubled: BTreeMap::new(),
            changed: None,
            opened: SlotSet::new(),
            revealed: Revealed::default(),
            seen_open: SlotSet::new(),
            unbroken: purpose == Purpose::Move,
            copies: None,
            heavy: HeavyKeys::new(),
            listed: ListedKeys::new(),
            list_at_once: LIST_AT_ONCE,
            suspect: None,
            withdrawing: None,
            interrupted: None,
            looks: 0,
            pauses: 0,
            doubts: 0,
            unheard: 0,
            untold: SlotSet::new(),
            progress: Progress::default(),
        }
    }

    /// Recovery: finishes slots that were found open, or that were opened by us (`on_record`) and have lost their marks
    /// since, as on Redis when both ends fail over.
    #[must_use]
    pub fn resume(pair: Pair, slots: SlotSet, before: Predecessors, on_record: bool) -> Self {
        Self { before, on_record, ..Self::new(pair, slots, Purpose::Resume) }
    }

    /// The same move, which takes of these keys no more into one call than its limit allows.
    #[must_use]
    pub fn with_heavy(self, heavy: HeavyKeys) -> Self {
        Self { heavy, ..self }
    }

    /// The same move, which need not list these keys.
    #[must_use]
    pub fn with_listed(self, listed: ListedKeys) -> Self {
        Self { listed, ..self }
    }

    /// The same move, of which one listing brings so many keys at the most, or those of one slot.
    #[must_use]
    pub fn listing_at_once(self, keys: u64) -> Self {
        Self { list_at_once: keys, ..self }
    }

    /// The same move, between nodes of which one has been the other's replica.
    ///
    /// On Redis a target that fails over by hand in the middle of a finalise may stay the primary of the slots that its
    /// successor had not heard of; that one then holds the copies of its time as a replica.
    #[must_use]
    pub fn between_kin(self, kin: bool) -> Self {
        Self { copies: kin.then(SlotSet::new), ..self }
    }

    /// The slots that are not finished yet.
    #[must_use]
    pub fn slots(&self) -> &SlotSet {
        &self.slots
    }

    /// Slots that were found open and are the source's again, by this move or by somebody else.
    #[must_use]
    pub fn closed(&self) -> &SlotSet {
        &self.closed
    }

    /// Slots that were found not to be this move's to finish, and why.
    #[must_use]
    pub fn troubled(&self) -> &BTreeMap<Slot, Trouble> {
        &self.troubled
    }

    /// Counts so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the cluster's one finalise is held for this move.
    #[must_use]
    pub fn holds_finalise(&self) -> bool {
        self.holds_finalise
    }

    /// Whether a call without an answer may have left copies at both ends: they are to go over before a client deletes one.
    #[must_use]
    pub fn has_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// Ends the move at the next step that leaves every slot whole: open, with both marks, or finished.
    pub fn interrupt(&mut self, why: Trouble) {
        self.interrupted.get_or_insert(why);
    }

    /// Ends the move where it stands, because a failover has replaced an end: another machine goes on between the new
    /// ends. Between steps only, like everything else.
    ///
    /// A finalise under which somebody was told of a new owner is not given back by this: whoever goes on inherits it.
    pub fn supersede(&mut self) {
        if !self.slots.is_empty() {
            let ended = State::Ended(self.ending(Trouble::FailedOver));
            self.state = if self.is_bound() { ended } else { self.yielding(ended) };
        }
    }

    /// What to do next; `limit` says how much one call may carry. Asking twice gives the same step.
    pub fn next_step(&mut self, limit: CallLimit) -> Step {
        self.heed_interruption();
        match &self.state {
            // Asked is as good as done until the servers say otherwise.
            State::MarkingTarget { target: slots, .. } | State::MarkingSource { source: slots } => {
                self.opened = self.opened.union(slots);
            }
            State::Assigning(slots) | State::Telling(slots) => self.told = self.told.union(slots),
            State::Looking
            | State::Recounting
            | State::Redirecting(_)
            | State::Open(_)
            | State::Clearing(_)
            | State::Moving(..)
            | State::Comparing(..)
            | State::Drained
            | State::Yielding(_)
            | State::Unmarking { .. }
            | State::Pausing(_)
            | State::Listening
            | State::Ended(_) => {}
        }
        if let State::Open(transfer) = &mut self.state {
            if let Some(batch) = transfer.next_batch(limit) {
                self.state = State::Moving(std::mem::take(transfer), batch);
            } else if transfer.next_list().is_none() {
                self.state = State::Drained;
            }
        }
        match &self.state {
            State::Looking | State::Recounting => Step::ReadEnds {
                slots: self.slots.clone(),
                count_source: self.state == State::Recounting || self.counts_source(),
                count_target: !self.holds_finalise,
                ask_for_writes: self.state == State::Recounting,
            },
            State::Redirecting(slots) => {
                Step::SetSlots { at: End::Target, mark: Mark::Redirected, slots: slots.clone() }
            }
            State::MarkingTarget { target, .. } => {
                Step::SetSlots { at: End::Target, mark: Mark::Importing, slots: target.clone() }
            }
            State::MarkingSource { source } => {
                Step::SetSlots { at: End::Source, mark: Mark::Migrating, slots: source.clone() }
            }
            State::Open(transfer) => match transfer.next_list() {
                Some((db, slots, count)) => Step::ListKeys { db, slots: slots.to_vec(), count },
                None => unreachable!("an open move with nothing to list or move is drained"),
            },
            State::Clearing(slots) => Step::DropCopies(slots.clone()),
            State::Moving(_, batch) => Step::MoveKeys(batch.clone()),
            State::Comparing(_, batch) => Step::CompareKeys(batch.clone()),
            State::Drained => Step::TakeFinalise,
            State::Assigning(slots) => Step::SetSlots { at: End::Target, mark: Mark::Assigned, slots: slots.clone() },
            State::Telling(slots) => Step::SetSlots { at: End::Source, mark: Mark::Assigned, slots: slots.clone() },
            State::Yielding(_) => Step::YieldFinalise,
            State::Unmarking { at, slots } => Step::SetSlots { at: *at, mark: Mark::Stable, slots: slots.clone() },
            State::Pausing(trouble) => Step::Pause(trouble.clone()),
            State::Listening => Step::Listen,
            State::Ended(ending) => Step::End(ending.clone()),
        }
    }

    /// Records the answer to the step last asked.
    pub fn on_reply(&mut self, reply: Reply) -> Result<(), UnexpectedReply> {
        let state = std::mem::replace(&mut self.state, State::Looking);
        self.state = match (state, reply) {
            (State::Looking, Reply::Ends(ends)) => self.after_look(&ends, self.counts_source(), false),
            (State::Recounting, Reply::Ends(ends)) => self.after_look(&ends, true, true),
            (State::Redirecting(_), Reply::Marked(replies)) => self.after_redirected(&replies),
            (State::MarkingTarget { source, .. }, Reply::Marked(replies)) => {
                let next = if source.is_empty() { State::Looking } else { State::MarkingSource { source } };
                self.after_marks(End::Target, &replies, next)
            }
            (State::MarkingSource { .. }, Reply::Marked(replies)) => {
                self.after_marks(End::Source, &replies, State::Looking)
            }
            (State::Open(mut transfer), Reply::Listed(listed)) => {
                transfer.on_listed(listed);
                State::Open(transfer)
            }
            (State::Moving(transfer, batch), Reply::Moved(reply)) => self.after_call(transfer, batch, reply),
            (State::Comparing(transfer, batch), Reply::Compared(comparison)) => {
                self.after_comparison(transfer, batch, comparison)
            }
            (State::Clearing(_), Reply::Dropped(kept)) => self.after_dropped(&kept),
            (State::Drained, Reply::Go) => {
                self.holds_finalise = true;
                // Slots that were found half assigned may have waited long for this.
                State::Recounting
            }
            (State::Assigning(slots), Reply::Marked(replies)) => self.after_assigned(slots, &replies),
            (State::Telling(slots), Reply::Marked(replies)) => self.after_told(&slots, &replies),
            (State::Yielding(then), Reply::Go) => {
                self.holds_finalise = false;
                self.told = SlotSet::new();
                *then
            }
            // A refused STABLE leaves the mark; the next look shows it.
            (State::Unmarking { .. }, Reply::Marked(_)) | (State::Pausing(_) | State::Listening, Reply::Go) => {
                State::Looking
            }
            (State::Moving(_, batch), Reply::NoAnswer { at, why }) => {
                self.suspect = Some(batch);
                self.pause(Trouble::NoAnswer { node: self.pair.node(at), why })
            }
            (State::Ended(ending), Reply::NoAnswer { .. } | Reply::ProcessChanged { .. }) => State::Ended(ending),
            (_, Reply::NoAnswer { at, why }) => self.pause(Trouble::NoAnswer { node: self.pair.node(at), why }),
            (state, Reply::ProcessChanged { at }) => self.after_process_changed(state, at),
            (_, Reply::EveryoneNamesTarget) if self.holds_finalise => {
                self.finish(&self.slots.clone());
                State::Yielding(Box::new(State::Ended(self.finished())))
            }
            (state, reply) => {
                let error = UnexpectedReply { state: format!("{state:?}"), reply: format!("{reply:?}") };
                self.state = state;
                return Err(error);
            }
        };
        Ok(())
    }

    /// Between calls, and never under the finalise.
    fn heed_interruption(&mut self) {
        if self.holds_finalise || self.interrupted.is_none() {
            return;
        }
        let whole = match &self.state {
            State::Drained | State::Pausing(_) | State::Comparing(..) => true,
            // Copies that a call of ours may have left on both ends are not left behind, nor a slot half closed.
            State::Looking => {
                let has_copies = self.copies.as_ref().is_some_and(|copies| copies.intersects(&self.opened));
                self.suspect.is_none() && self.withdrawing.is_none() && !has_copies && !self.revealed.is_due
            }
            State::Open(transfer) => !transfer.next_replaces(),
            // Once the target has marks the source gets its own: a slot is left with both or with none.
            State::MarkingTarget { .. } => self.opened.is_empty(),
            State::Moving(..)
            | State::Clearing(_)
            | State::Recounting
            | State::Redirecting(_)
            | State::MarkingSource { .. }
            | State::Assigning(_)
            | State::Telling(_)
            | State::Listening
            | State::Yielding(_)
            | State::Unmarking { .. }
            | State::Ended(_) => false,
        };
        if let (true, Some(why)) = (whole, self.interrupted.clone()) {
            self.state = State::Ended(self.ending(why));
        }
    }

    fn ending(&self, why: Trouble) -> Ending {
        let untouched = self.purpose == Purpose::Move && self.opened.is_empty();
        if untouched { Ending::NotStarted(why) } else { Ending::Left(why) }
    }

    /// What was counted empty under this finalise, and assigned without any doubt, is not counted again: it can gain no key
    /// while its mark is there, and the target's claim is what drops them.
    fn counts_source(&self) -> bool {
        let is_assigned = self.is_bound() && self.changed.is_none();
        !is_assigned || (self.pauses, self.doubts) != (0, 0)
    }

    /// What to do about what both ends said. The one place that decides where a move stands.
    fn after_look(&mut self, ends: &Ends, counted: bool, asked: bool) -> State {
        self.looks += 1;
        if self.pauses >= PAUSES_WITHOUT_PROGRESS && !ends.target.owned.intersects(&self.told) {
            // The target was asked without a clear answer, and after all these pauses its own line still shows no
            // claim: it was never heard, and will not be. The connection that asked was reset, so nothing of it is
            // still on its way.
            self.told = SlotSet::new();
        }
        let sorted = match self.sort(ends) {
            Ok(sorted) => sorted,
            Err(trouble) => return self.leave(trouble),
        };
        let untold = if ends.source.primary { sorted.moved.intersection(&self.untold) } else { SlotSet::new() };
        self.finish(&sorted.moved.difference(&untold));
        let half = sorted.half.union(&untold);
        if self.looks > LOOKS_WITHOUT_PROGRESS {
            return self.leave(self.withdrawing.clone().unwrap_or(Trouble::Stuck));
        }
        if !half.is_empty() {
            // The target owns these already. Until the source has been told nobody else may finalise.
            self.told = self.told.union(&half);
            if self.holds_finalise {
                return self.tell(ends, half);
            }
            // Of others: as long as it names a dead node for their owner, the picture is unclear, and nobody gets the finalise.
            let misled = ends.misled_target(&self.before, &self.slots);
            let both_lead = ends.source.primary && ends.target.primary;
            return if both_lead && !misled.is_empty() { State::Redirecting(misled) } else { State::Drained };
        }
        if self.slots.is_empty() {
            return self.yielding(State::Ended(self.finished()));
        }
        if let Some(node) = self.not_primary(ends) {
            return self.leave(Trouble::NotPrimary { node });
        }
        if self.holds_finalise {
            return if counted { self.under_finalise(ends, &sorted, asked) } else { State::Recounting };
        }
        if let Some(closing) = self.reveal(ends, &sorted) {
            return closing;
        }
        if let Some(why) = self.withdrawing.clone() {
            return self.withdraw(ends, &sorted, why);
        }
        self.go_forward(ends, sorted)
    }

    /// Tells the source of these, once it has heard of them from the target itself.
    ///
    /// A source that is told first may then receive what the target had sent before its last claims. It takes the target
    /// for an owner that does not claim, for good, and gives the slot to whoever claims it next, with however old an
    /// epoch: to a former primary that comes back, and so, by a failover within the shard, to itself. The target then
    /// drops the keys (`owner_not_claiming_slot`; seen on Redis 8.2, two of 42 restarts of a source on a busy machine).
    fn tell(&mut self, ends: &Ends, half: SlotSet) -> State {
        if !half.intersects(&ends.source.owned) || self.unheard >= LOOKS_UNTIL_HEARD {
            return State::Telling(half);
        }
        self.listen()
    }

    /// Looks again for what one node is to hear of another: at once, later every few milliseconds.
    fn listen(&mut self) -> State {
        self.unheard += 1;
        self.looks = 0;
        if self.unheard <= LOOKS_AT_ONCE { State::Looking } else { State::Listening }
    }

    /// Under the finalise, with nothing half assigned: assign what is proven empty, or give the finalise back.
    ///
    /// `asked` says that the source has just shown that it carries out writes. A look that finds slots half assigned does not
    /// wait for that: their source is told whatever it is at.
    fn under_finalise(&mut self, ends: &Ends, sorted: &Sorted, asked: bool) -> State {
        // Never finalise a slot whose source still counts a key, in any database: the target's claim deletes them.
        let drained = self.slots.iter().all(|slot| ends.source.keys_of(slot) == 0);
        let marked = sorted.without_target_mark.is_empty() && sorted.without_source_mark.is_empty();
        // What the target was asked already is brought to its end in spite of an interruption.
        let wanted = self.changed.is_none() && (self.interrupted.is_none() || self.is_bound());
        let patient = self.pauses <= PAUSES_WITHOUT_PROGRESS;
        let alone = ends.foreign.is_none();
        let would_win = ends.epochs_are_settled(self.pair);
        if drained && marked && wanted && patient && alone && would_win {
            return if asked { State::Assigning(self.slots.clone()) } else { State::Recounting };
        }
        if let (Some(mark), false) = (ends.foreign, self.is_bound()) {
            // Somebody else's finalise at one of these nodes would race with ours.
            let ForeignMark { slot, at, other } = mark;
            return self.pause(Trouble::ForeignMark { slot, at, other });
        }
        let unsettled = Trouble::EpochUnsettled { node: self.pair.source };
        if self.is_bound() {
            return self.leave(self.changed.clone().unwrap_or(if would_win { Trouble::Stuck } else { unsettled }));
        }
        if !would_win && self.changed.is_none() {
            return self.pause(unsettled);
        }
        match self.changed.take().or((!patient).then_some(Trouble::Stuck)) {
            Some(why) => self.yielding(State::Ended(self.ending(why))),
            None => self.yielding(State::Looking),
        }
    }

    /// The finalise is held and cannot be given back yet.
    fn is_bound(&self) -> bool {
        self.holds_finalise && !self.told.is_empty()
    }

    /// Gives the finalise back first, if it is held.
    fn yielding(&self, then: State) -> State {
        if self.holds_finalise { State::Yielding(Box::new(then)) } else { then }
    }

    fn finished(&self) -> Ending {
        self.troubled.values().next().map_or(Ending::Done, |why| self.ending(why.clone()))
    }

    fn go_forward(&mut self, ends: &Ends, sorted: Sorted) -> State {
        if self.purpose == Purpose::Resume {
            // Marked at the target alone, and empty there: nothing has begun, and the plan decides anew.
            let only_target = sorted.without_source_mark.difference(&sorted.without_target_mark);
            let idle: SlotSet = only_target.iter().filter(|&slot| ends.target.keys_of(slot) == 0).collect();
            if !idle.is_empty() {
                return State::Unmarking { at: End::Target, slots: idle };
            }
            // Found without any mark: somebody closed them meanwhile. Unless keys of ours are at the target still: then
            // the marks were lost in a failover, and the slots go forward.
            let unmarked = sorted.without_source_mark.intersection(&sorted.without_target_mark);
            // One that may hide them is marked first.
            let unseen = self.unseen_at_target(ends, &unmarked);
            let stranded = |slot: &Slot| self.on_record && (ends.target.keys_of(*slot) > 0 || unseen.contains(*slot));
            let stranded: SlotSet = unmarked.iter().filter(stranded).collect();
            let closed = unmarked.difference(&sorted.stale).difference(&stranded);
            self.slots = self.slots.difference(&closed);
            self.closed.insert_all(&closed);
            if self.slots.is_empty() {
                return State::Ended(self.finished());
            }
        }
        let misled = ends.misled_target(&self.before, &self.slots);
        if !misled.is_empty() {
            return State::Redirecting(misled);
        }
        let has_keys = |slot: &Slot| ends.target.keys_of(*slot) > 0;
        let copied: SlotSet = self.copies.iter().flat_map(SlotSet::iter).filter(has_keys).collect();
        self.copies = self.copies.is_some().then(|| copied.clone());
        let copied = copied.intersection(&self.slots);
        let target = sorted.without_target_mark.intersection(&self.slots);
        let source = sorted.without_source_mark.intersection(&self.slots).difference(&copied);
        if source.intersects(&self.seen_open) {
            // Clients could write at the source what had been moved: it is not surely newer any more.
            self.unbroken = false;
        }
        if !target.is_empty() {
            self.revealed.is_due = !self.unseen_at_target(ends, &target).is_empty();
            // The target first: a source that migrates to a node that does not import sends clients in circles.
            let source = if self.revealed.is_due { SlotSet::new() } else { source };
            return State::MarkingTarget { target, source };
        }
        if !copied.is_empty() {
            // Before the source has its mark: it would send clients there for what it does not hold any more.
            return State::Clearing(copied);
        }
        if !source.is_empty() {
            return State::MarkingSource { source };
        }
        self.seen_open = self.seen_open.union(&self.slots);
        let counts: BTreeMap<Slot, u64> = self.slots.iter().map(|slot| (slot, ends.source.keys_of(slot))).collect();
        let listed = std::mem::take(&mut self.listed);
        let mut transfer =
            Transfer::new(&counts, &ends.source.databases, self.list_at_once, listed).with_heavy(&self.heavy);
        if let Some(batch) = self.suspect.take().filter(|batch| self.slots.contains(batch.slot)) {
            // At once, before any client can delete one of these at the source and read the copy at the target. Only
            // a source that was the same and marked throughout is surely newer than the copy that this very call left.
            transfer.first(Batch { replace: self.unbroken, ..batch });
        }
        State::Open(transfer)
    }

    /// Closes again what was opened: the source first, and the target only when it has been counted empty since.
    fn withdraw(&mut self, ends: &Ends, sorted: &Sorted, why: Trouble) -> State {
        let is_copied = |slot| self.copies.as_ref().is_some_and(|copies| copies.contains(slot));
        let has_own = |slot: &Slot| ends.target.keys_of(*slot) > 0 && !is_copied(*slot);
        let at_target: SlotSet = self.slots.iter().filter(has_own).collect();
        let stranded = at_target.intersection(&sorted.without_source_mark).difference(&sorted.without_target_mark);
        if !stranded.is_empty() {
            // A client wrote there between the count and the source's `STABLE`, and reads nothing until the source
            // sends it there again.
            return State::MarkingSource { source: stranded };
        }
        // What it has no mark of it may hold and not show; whatever was open before us may have been half moved.
        let was_open = if self.purpose == Purpose::Resume { &self.slots } else { &self.seen_open };
        let may_hold = was_open.intersection(&sorted.without_target_mark).intersection(&self.slots);
        if !at_target.is_empty() || (ends.target.hides_keys && !may_hold.is_empty()) {
            return State::Ended(Ending::Left(why));
        }
        let at_source = self.slots.difference(&sorted.without_source_mark);
        if !at_source.is_empty() {
            return State::Unmarking { at: End::Source, slots: at_source };
        }
        let at_target = self.slots.difference(&sorted.without_target_mark);
        if !at_target.is_empty() {
            return State::Unmarking { at: End::Target, slots: at_target };
        }
        State::Ended(Ending::NotStarted(why))
    }

    /// Waits before the next look; without progress for too long, leaves the slots as they are.
    ///
    /// A finalise under which nobody was told anything is given back first: others need not wait for this pair.
    fn pause(&mut self, why: Trouble) -> State {
        self.pauses += 1;
        if self.is_bound() {
            return State::Pausing(why);
        }
        let then =
            if self.pauses <= PAUSES_WITHOUT_PROGRESS { State::Pausing(why) } else { State::Ended(self.ending(why)) };
        self.yielding(then)
    }

    /// Ends here; where somebody was told of a new owner, only after that has been brought to its end.
    fn leave(&mut self, why: Trouble) -> State {
        if self.is_bound() {
            self.looks = 0;
            self.pauses += 1;
            return State::Pausing(why);
        }
        self.yielding(State::Ended(self.ending(why)))
    }

    fn finish(&mut self, moved: &SlotSet) {
        let moved = moved.intersection(&self.slots);
        if !moved.is_empty() {
            self.progress.slots += moved.len();
            self.slots = self.slots.difference(&moved);
            self.told = self.told.difference(&moved);
            (self.looks, self.pauses) = (0, 0);
        }
    }

    fn not_primary(&self, ends: &Ends) -> Option<NodeId> {
        let nodes = [(ends.source.primary, self.pair.source), (ends.target.primary, self.pair.target)];
        nodes.into_iter().find(|&(primary, _)| !primary).map(|(_, node)| node)
    }

    /// Sorts the unfinished slots; those that are not this pair's to finish are put apart, so that one of them does not
    /// hold up the others. Where an owner was told already there is no such way out, unless neither end claims the slot:
    /// what the source does not claim it does not take back, and a target that fails over in the middle of a group leaves
    /// to its replica what that one had heard of the group.
    fn sort(&mut self, ends: &Ends) -> Result<Sorted, Trouble> {
        let mut sorted = Sorted::default();
        for slot in self.slots.clone().iter() {
            let standing = ends.standing(self.pair, &self.before, slot);
            match standing.and_then(|standing| self.not_stray(ends, slot, standing)) {
                Ok(standing) => sorted.put(slot, standing),
                Err(trouble @ Trouble::OwnerChanged { .. }) => self.set_apart(slot, trouble),
                Err(trouble) if self.holds_finalise && self.told.contains(slot) => return Err(trouble),
                Err(trouble) => self.set_apart(slot, trouble),
            }
        }
        Ok(sorted)
    }

    fn set_apart(&mut self, slot: Slot, why: Trouble) {
        self.slots.remove(slot);
        self.told.remove(slot);
        self.troubled.insert(slot, why);
        self.looks = 0;
    }

    /// Keys at the target of a slot that nobody has opened would collide with the slot's own.
    fn not_stray(&mut self, ends: &Ends, slot: Slot, standing: Standing) -> Result<Standing, Trouble> {
        let keys = ends.target.keys_of(slot).max(self.revealed.keys_of(slot));
        let was_closed = !self.opened.contains(slot) || self.is_stray(slot);
        if standing == Standing::Untouched && keys > 0 && was_closed && !self.on_record {
            match &mut self.copies {
                Some(copies) if self.purpose == Purpose::Move => copies.insert(slot),
                Some(_) | None => return Err(Trouble::StrayKeys { slot, keys }),
            };
        }
        Ok(standing)
    }
}
