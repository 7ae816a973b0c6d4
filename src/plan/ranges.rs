//! Which slots leave a source, and which target they go to, so that ranges stay whole.
//!
//! How many slots each shard gives or takes is settled; what is open is which. A range here is a run of slots with one
//! owner; every border between two of them costs clients and operators a line in their slot map. Finding the fewest is
//! a packing problem, so this is a greedy choice: again and again it makes the one transfer that leaves the fewest
//! ranges, until every target has what it wants. A transfer is a whole run of a source, or as much of one end of it as
//! the source may give and the target still wants.
//!
//! The bound: a transfer of a whole run never adds a range, and one of a part adds at most one and uses up what its source
//! gives or what its target wants. So a plan without pinned slots ends with at most `sources + targets - 1` ranges more
//! than there were. (A pinned slot of the source's own beside the run can add one more for each transfer.) That is a
//! bound on the worst case, not a claim to be the fewest; fragmented clusters usually end with far fewer ranges.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::board::Board;
use crate::cluster::{Slot, SlotSet};

/// Moves slots on the board until no shard has a surplus. `pinned` slots stay where they are.
///
/// `surplus` and `deficit` are what each shard gives and takes; their sums are equal, no shard has both, and each source
/// has that many slots that are not pinned.
pub(super) fn level(board: &mut Board<'_>, pinned: &SlotSet, surplus: Vec<u32>, deficit: Vec<u32>) {
    debug_assert_eq!(surplus.iter().sum::<u32>(), deficit.iter().sum::<u32>(), "what is given is taken");
    Leveller::new(board, pinned, surplus, deficit).run();
}

struct Leveller<'b, 'a> {
    board: &'b mut Board<'a>,
    surplus: Vec<u32>,
    deficit: Vec<u32>,
    /// The targets that still want slots, by how many.
    wanting: BTreeSet<(u32, Reverse<usize>)>,
    /// The last target of each source, and all pairs so far: few pairs mean few connections.
    partner: Vec<Option<usize>>,
    pairs: BTreeSet<(usize, usize)>,
    /// The runs of unpinned slots of the shards that may still give, by first slot.
    runs: BTreeMap<u16, Run>,
    /// The best transfer of each run, least first; one that is not its run's `queued` is out of date.
    queue: BinaryHeap<Reverse<Transfer>>,
}

#[derive(Clone, Copy)]
struct Run {
    last: u16,
    source: usize,
    queued: Option<Transfer>,
}

/// One possible transfer. The least is made first, so the order of the fields is the policy: most important first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Transfer {
    /// How many borders between owners it adds, from -2 to 2.
    borders: i8,
    /// It cuts a run and leaves both a surplus and a deficit unsettled, so that another cut must follow.
    remnant: bool,
    /// Ends of the piece beyond which nothing more can be taken for the same target without a border.
    dead_ends: u8,
    /// The two shards have exchanged nothing so far.
    new_pair: bool,
    /// More slots at once are better.
    slots: Reverse<u32>,
    first: u16,
    last: u16,
    target: usize,
    /// First slot of the run that it is taken from.
    run: u16,
}

#[derive(Clone, Copy)]
enum End {
    Low,
    High,
}

impl<'b, 'a> Leveller<'b, 'a> {
    fn new(board: &'b mut Board<'a>, pinned: &SlotSet, surplus: Vec<u32>, deficit: Vec<u32>) -> Self {
        let mut runs: BTreeMap<u16, Run> = BTreeMap::new();
        let mut open: Option<u16> = None;
        for slot in Slot::all() {
            let source = board.owner(slot).filter(|&owner| surplus[owner] > 0 && !pinned.contains(slot));
            let Some(source) = source else {
                open = None;
                continue;
            };
            if let Some(run) = open.and_then(|first| runs.get_mut(&first)).filter(|run| run.source == source) {
                run.last = slot.number();
            } else {
                runs.insert(slot.number(), Run { last: slot.number(), source, queued: None });
                open = Some(slot.number());
            }
        }
        let wanting = (0..).zip(&deficit).filter(|(_, want)| **want > 0).map(|(at, want)| (*want, Reverse(at)));
        Self {
            wanting: wanting.collect(),
            partner: vec![None; surplus.len()],
            pairs: BTreeSet::new(),
            queue: BinaryHeap::new(),
            board,
            surplus,
            deficit,
            runs,
        }
    }

    fn run(mut self) {
        let firsts: Vec<u16> = self.runs.keys().copied().collect();
        for first in firsts {
            self.enqueue(first);
        }
        while let Some(Reverse(transfer)) = self.queue.pop() {
            let current = self.runs.get(&transfer.run).and_then(|run| run.queued);
            if current != Some(transfer) {
                continue;
            }
            // Other transfers may have made this one worse or better since it was queued.
            if self.best(transfer.run) == Some(transfer) {
                self.perform(transfer);
            } else {
                self.enqueue(transfer.run);
            }
        }
        assert!(self.surplus.iter().all(|&left| left == 0), "every source has given what it had to give");
    }

    /// Queues the best transfer of the run, in place of the one that was queued before; forgets a run without any.
    fn enqueue(&mut self, first: u16) {
        let best = self.best(first);
        let Some(run) = self.runs.get_mut(&first) else { return };
        if best.is_some() && run.queued == best {
            return; // What a run has queued is in the queue: one that is popped is performed, or replaced here.
        }
        run.queued = best;
        match best {
            Some(transfer) => self.queue.push(Reverse(transfer)),
            None => {
                self.runs.remove(&first);
            }
        }
    }

    /// The best transfer out of this run as things stand, or none if its source has nothing more to give.
    fn best(&self, first: u16) -> Option<Transfer> {
        let run = self.runs.get(&first)?;
        let give = self.surplus[run.source];
        if give == 0 {
            return None;
        }
        let wants = |target: &usize| self.deficit[*target] > 0;
        let low = self.owner_below(first).filter(wants).map(|target| (target, End::Low));
        let high = self.owner_above(run.last).filter(wants).map(|target| (target, End::High));
        // Of the shards that are no neighbours: the one it gave to before, one that wants exactly this, the neediest.
        let exact = self.wanting.range((give, Reverse(usize::MAX))..).next().filter(|(want, _)| *want == give);
        let distant = [
            self.partner[run.source].filter(wants),
            exact.map(|(_, Reverse(target))| *target),
            self.wanting.last().map(|(_, Reverse(target))| *target),
        ];
        let distant = distant.into_iter().flatten().flat_map(|target| [(target, End::Low), (target, End::High)]);
        let options = low.into_iter().chain(high).chain(distant);
        options.map(|(target, end)| self.transfer(first, run, target, end)).min()
    }

    fn transfer(&self, run_first: u16, run: &Run, target: usize, end: End) -> Transfer {
        let (give, want) = (self.surplus[run.source], self.deficit[target]);
        let length = u32::from(run.last - run_first) + 1;
        let slots = give.min(want).min(length);
        let beyond = u16::try_from(slots - 1).expect("a run has at most 16,384 slots");
        let (first, last) = match end {
            End::Low => (run_first, run_first + beyond),
            End::High => (run.last - beyond, run.last),
        };
        let (below, above) = (self.owner_below(first), self.owner_above(last));
        let border = |neighbour: Option<usize>, owner: usize| i8::from(neighbour.is_some_and(|other| other != owner));
        let added = |neighbour| border(neighbour, target) - border(neighbour, run.source);
        let goes_on = |neighbour: Option<usize>| {
            want > slots && neighbour.is_some_and(|other| other != run.source && self.surplus[other] > 0)
        };
        Transfer {
            borders: added(below) + added(above),
            remnant: slots < length && give != want,
            dead_ends: u8::from(!goes_on(below)) + u8::from(!goes_on(above)),
            new_pair: !self.pairs.contains(&(run.source, target)),
            slots: Reverse(slots),
            first,
            last,
            target,
            run: run_first,
        }
    }

    fn perform(&mut self, transfer: Transfer) {
        let Transfer { slots: Reverse(slots), first, last, target, .. } = transfer;
        let Some(run) = self.runs.remove(&transfer.run) else { return };
        for slot in (first..=last).filter_map(Slot::new) {
            self.board.give(slot, target);
        }
        self.surplus[run.source] -= slots;
        self.wanting.remove(&(self.deficit[target], Reverse(target)));
        self.deficit[target] -= slots;
        if self.deficit[target] > 0 {
            self.wanting.insert((self.deficit[target], Reverse(target)));
        }
        self.partner[run.source] = Some(target);
        self.pairs.insert((run.source, target));
        if transfer.run < first {
            self.runs.insert(transfer.run, Run { last: first - 1, queued: None, ..run });
            self.enqueue(transfer.run);
        }
        if last < run.last {
            self.runs.insert(last + 1, Run { queued: None, ..run });
            self.enqueue(last + 1);
        }
        // The neighbours may now join what the target just got.
        if let Some((&below, _)) = self.runs.range(..first).next_back().filter(|(_, run)| run.last + 1 == first) {
            self.enqueue(below);
        }
        if self.runs.contains_key(&(last + 1)) {
            self.enqueue(last + 1);
        }
    }

    fn owner_below(&self, first: u16) -> Option<usize> {
        first.checked_sub(1).and_then(Slot::new).and_then(|slot| self.board.owner(slot))
    }

    fn owner_above(&self, last: u16) -> Option<usize> {
        Slot::new(last + 1).and_then(|slot| self.board.owner(slot))
    }
}
