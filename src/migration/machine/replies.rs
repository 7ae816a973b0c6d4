//! What the servers' replies mean for the move: where it stands after each.

use super::{LOOKS_UNTIL_HEARD, Migration, State};
use crate::cluster::{Slot, SlotSet};
use crate::migration::transfer::Transfer;
use crate::migration::{Batch, Blocked, Comparison, End, MigrateReply, SetSlotReply, Trouble};

/// How often a `NODE` that a replica has and the primary has not is sent again before the reason is shown: ten seconds,
/// at half a second for each wait of the primary.
const ASSIGNMENTS_AT_ONCE: u32 = 20;

impl Migration {
    pub(super) fn after_marks(&mut self, at: End, replies: &[(Slot, SetSlotReply)], next: State) -> State {
        for (slot, reply) in replies {
            match reply {
                SetSlotReply::Ok => {}
                SetSlotReply::Late => return State::Looking,
                SetSlotReply::NoReplicas => return self.pause(Trouble::NoReplicas { node: self.pair.node(at) }),
                SetSlotReply::NotPrimary => return self.withdrawn(Trouble::NotPrimary { node: self.pair.node(at) }),
                SetSlotReply::Refused(text) => {
                    let (node, slot, text) = (self.pair.node(at), *slot, text.clone());
                    return self.withdrawn(Trouble::Refused { node, slot, text });
                }
            }
        }
        next
    }

    /// What is no copy of anything is not ours to drop: those slots are closed again as they were.
    pub(super) fn after_dropped(&mut self, kept: &[(Slot, u64)]) -> State {
        let kept: Vec<(Slot, u64)> = kept.iter().copied().filter(|&(_, keys)| keys > 0).collect();
        for &(slot, keys) in &kept {
            self.set_apart(slot, Trouble::StrayKeys { slot, keys });
        }
        let slots: SlotSet = kept.iter().map(|(slot, _)| *slot).collect();
        if slots.is_empty() { State::Looking } else { State::Unmarking { at: End::Target, slots } }
    }

    pub(super) fn after_redirected(&mut self, replies: &[(Slot, SetSlotReply)]) -> State {
        match refused(replies) {
            None => {
                self.unheard = 0;
                State::Looking
            }
            // It has not heard of the new source's role yet. Until that one has its marks, clients find nothing there of what
            // had been moved, and may write it anew.
            Some(_) if self.unheard < LOOKS_UNTIL_HEARD => self.listen(),
            Some((slot, text)) => self.pause(Trouble::Refused { node: self.pair.target, slot, text }),
        }
    }

    fn withdrawn(&mut self, why: Trouble) -> State {
        self.withdrawing.get_or_insert(why);
        State::Looking
    }

    pub(super) fn after_call(&mut self, transfer: Transfer, batch: Batch, reply: MigrateReply) -> State {
        match reply {
            MigrateReply::Moved => {
                self.count_keys(&batch);
                State::Open(transfer)
            }
            MigrateReply::MovedUnmarked => {
                self.count_keys(&batch);
                // Until the mark is back, clients find nothing at the source, and may write there what was moved.
                State::Looking
            }
            MigrateReply::Ambiguous(why) => {
                self.suspect = Some(batch);
                self.look_again(Trouble::NoAnswer { node: self.pair.target, why })
            }
            MigrateReply::KeyExists => State::Comparing(transfer, batch),
            MigrateReply::NotImporting(text) | MigrateReply::NotServed(text) => {
                self.keep_suspect(batch);
                self.look_again(Trouble::Blocked(Blocked::Unknown(text)))
            }
            MigrateReply::Blocked(blocked) => {
                self.keep_suspect(batch);
                self.pause(Trouble::Blocked(blocked))
            }
        }
    }

    fn count_keys(&mut self, batch: &Batch) {
        self.progress.keys += batch.keys.len() as u64;
        (self.looks, self.pauses, self.doubts) = (0, 0, 0);
    }

    /// Nothing moved with this call; copies that an earlier one left at the target are there still.
    fn keep_suspect(&mut self, batch: Batch) {
        if batch.replace {
            self.suspect = Some(batch);
        }
    }

    /// Looks at both ends: the first time at once (see [`Self::go_forward`]), from then on the servers are given time.
    fn look_again(&mut self, why: Trouble) -> State {
        self.doubts += 1;
        if self.doubts > 1 { self.pause(why) } else { State::Looking }
    }

    pub(super) fn after_comparison(&mut self, mut transfer: Transfer, batch: Batch, comparison: Comparison) -> State {
        if !comparison.different.is_empty() {
            self.set_apart(batch.slot, Trouble::Conflict { slot: batch.slot, keys: comparison.different.len() });
            return if self.slots.is_empty() { State::Ended(self.finished()) } else { State::Looking };
        }
        transfer.first(Batch { keys: comparison.only_source, replace: false, ..batch });
        transfer.first(Batch { keys: comparison.same, replace: true, ..batch });
        State::Open(transfer)
    }

    pub(super) fn after_assigned(&mut self, slots: SlotSet, replies: &[(Slot, SetSlotReply)]) -> State {
        if replies.iter().all(|(_, reply)| *reply == SetSlotReply::Ok) {
            (self.doubts, self.unheard) = (0, 0);
            self.untold = self.untold.union(&slots);
            return State::Looking;
        }
        if replies.iter().any(|(_, reply)| *reply == SetSlotReply::NoReplicas) {
            // Valkey: some replica has it, the primary does not: the same command again, and nothing else before.
            self.doubts += 1;
            if self.doubts.is_multiple_of(ASSIGNMENTS_AT_ONCE) {
                return State::Pausing(Trouble::NoReplicas { node: self.pair.target });
            }
            return State::Assigning(slots);
        }
        // What came too late the second time, its replicas may have from the first.
        let is_first = self.doubts == 0;
        let unchanged = |reply: &SetSlotReply| match reply {
            SetSlotReply::Refused(_) => true,
            SetSlotReply::Late => is_first,
            SetSlotReply::Ok | SetSlotReply::NoReplicas | SetSlotReply::NotPrimary => false,
        };
        for (slot, _) in replies.iter().filter(|(_, reply)| unchanged(reply)) {
            self.told.remove(*slot);
        }
        let node = self.pair.target;
        match refused(replies) {
            // The next look, still under the finalise, shows which slots the target claims.
            _ if !self.told.is_empty() => State::Looking,
            Some((slot, text)) => self.pause(Trouble::Refused { node, slot, text }),
            None => self.look_again(Trouble::NoAnswer { node, why: "it was late to be told of its slots".to_owned() }),
        }
    }

    pub(super) fn after_told(&mut self, slots: &SlotSet, replies: &[(Slot, SetSlotReply)]) -> State {
        self.untold = self.untold.difference(slots);
        match refused(replies) {
            // A source that gave its last slot away is a replica now and says so: that is success, and the next look,
            // still under the finalise, confirms it like any other.
            None => State::Looking,
            Some((slot, text)) => self.pause(Trouble::Refused { node: self.pair.source, slot, text }),
        }
    }

    pub(super) fn after_process_changed(&mut self, state: State, at: End) -> State {
        self.unbroken = false;
        if let State::Moving(_, batch) = state {
            self.suspect = Some(batch);
        }
        let why = Trouble::ProcessChanged { node: self.pair.node(at) };
        if self.is_bound() {
            // What was told must be brought to its end whoever answers now; nothing more is told.
            self.changed = Some(why);
            return State::Looking;
        }
        self.yielding(State::Ended(self.ending(why)))
    }
}

/// The first slot that was refused, and the words.
fn refused(replies: &[(Slot, SetSlotReply)]) -> Option<(Slot, String)> {
    replies.iter().find_map(|(slot, reply)| match reply {
        SetSlotReply::Refused(text) => Some((*slot, text.clone())),
        SetSlotReply::Ok | SetSlotReply::NoReplicas | SetSlotReply::NotPrimary | SetSlotReply::Late => None,
    })
}
